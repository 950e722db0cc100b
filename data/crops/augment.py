"""Augmentation of crops: what may differ between two slides of the same cells."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Iterator, Mapping
from typing import Any

import albumentations as A
import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from configs import ConfigError, StrictModel
from configs.plugins import installed, is_path, load_part
from data.crops.fourier import Amplitudes, FourierSettings, FourierSwap, read_amplitudes
from data.crops.stains import StainJitter, StainStep
from data.crops.templates import StainTemplate, TemplateSettings

MIN_VISIBILITY = 0.4
"""A cell of which a crop shows less is no longer called a cell."""


ROUNDING = 1e-4
"""Of that share, which albumentations computes in single precision."""


class AugmentSettings(StrictModel):
    """How far crops are changed.

    Attributes:
        flips: flips and right-angle rotations.
        stain: spread of the random 3 x 3 matrix that mixes optical densities; each slide's stain
            has its own strength and hue.
        brightness, contrast: largest relative change of either.
        blur: probability of a slight defocus.
        jpeg: probability of a second JPEG compression.
        noise: probability of sensor noise.
        steps: transforms of albumentations by name, with their arguments, in the place of all of
            the above: ``{name: GaussianBlur, blur_limit: [3, 5], p: 0.2}``. Ours: `StainJitter`;
            of other packages by import path or entry point (`configs.plugins`). A cell of whose box
            they leave less than 40% is no longer called a cell.
        templates: random templates of colour; None for none. Before all else, as fourier is.
        fourier: lowest frequencies of unlabelled images; None for none.
    """

    flips: bool = True
    stain: float = Field(0.15, ge=0, le=1)
    brightness: float = Field(0.15, ge=0, le=1)
    contrast: float = Field(0.15, ge=0, le=1)
    blur: float = Field(0.2, ge=0, le=1)
    jpeg: float = Field(0.2, ge=0, le=1)
    noise: float = Field(0.1, ge=0, le=1)
    steps: tuple[dict[str, Any], ...] | None = None
    templates: TemplateSettings | None = None
    fourier: FourierSettings | None = None

    @property
    def changes_stain(self) -> bool:
        """Whether a second view of a crop may differ; see `data.crops.stains.StainStep`."""
        if self.templates is not None:
            return True
        if self.steps is None:
            return self.stain > 0
        return any(isinstance(build_step(step), StainStep) for step in self.steps)

    @field_validator("steps")
    @classmethod
    def _can_be_built(cls, steps: tuple[dict[str, Any], ...] | None) -> Any:
        for step in steps or ():
            build_step(step)
        return steps


class CellAugmentation(A.Compose):
    """A pipeline that calls nothing a cell of which it leaves less than `MIN_VISIBILITY`.

    Albumentations clips a box after every step that moved it, and keeps what is left, however
    narrow; its own ``min_visibility`` asks of each step alone, and knows nothing of what the crop
    had cut off before. Here the shares multiply, so that it is the cell's whole box that counts.
    """

    def __call__(
        self, *, image: NDArray[np.uint8], bboxes: NDArray[np.floating], **data: Any
    ) -> dict[str, Any]:
        """Changes a crop.

        Args:
            image: (H, W, 3) RGB.
            bboxes: (N, 4) xyxy in its pixels, with what lies beyond its border.
            **data: ``labels`` (N,).

        Returns:
            ``image``, ``bboxes`` and ``labels`` of what still shows.
        """
        shown = share_within(bboxes, image.shape[:2])
        changed: dict[str, Any] = super().__call__(image=image, bboxes=bboxes, shown=shown, **data)
        del changed["shown"]
        return changed

    def check_data_post_transform(self, data: dict[str, Any]) -> dict[str, Any]:
        """Drops, after a step, the boxes that show too little; called by `A.Compose`."""
        boxes = data["bboxes"]  # (N, 6): corners from 0 to 1, label, share that still shows
        if len(boxes):
            boxes[:, 5] *= share_within(boxes[:, :4], (1, 1))
            data["bboxes"] = boxes[boxes[:, 5] >= MIN_VISIBILITY - ROUNDING]
        return super().check_data_post_transform(data)


def share_within(boxes: NDArray[np.floating], shape: tuple[int, ...]) -> NDArray[np.floating]:
    """(N,) how much of each of (N, 4) boxes, by area, lies in an image of (height, width)."""
    inside = boxes.clip(0, np.array([shape[1], shape[0]] * 2))
    areas, left = (np.prod(some[:, 2:] - some[:, :2], axis=1) for some in (boxes, inside))
    return left / np.maximum(areas, np.finfo(areas.dtype).tiny)


OURS: Mapping[str, type[A.BasicTransform]] = {"StainJitter": StainJitter}
"""Transforms of this project, by the names that ``steps`` knows them by."""


def build_augmentation(
    settings: AugmentSettings, seed: int | None = None, side: int | None = None
) -> CellAugmentation:
    """An albumentations pipeline over ``image``, ``bboxes`` (xyxy pixels) and ``labels``.

    Args:
        settings: what it does.
        seed: of all that is random; None: `A.Compose.set_random_seed` gives it.
        side: of the crops in px, where all have the same.

    Raises:
        ConfigError: statistics of templates or images of ``fourier`` are missing.
    """
    steps = _default_steps(settings) if settings.steps is None else map(build_step, settings.steps)
    boxes = A.BboxParams("pascal_voc", label_fields=["labels", "shown"], clip=True)
    return CellAugmentation([*_adapting(settings, side), *steps], bbox_params=boxes, seed=seed)


def amplitudes_of(settings: AugmentSettings, side: int) -> Amplitudes | None:
    """What crops of this side take of ``fourier``'s images; None without it.

    Raises:
        ConfigError: see `read_amplitudes`.
    """
    if (fourier := settings.fourier) is None:
        return None
    return read_amplitudes(fourier.images, fourier.beta[1], side)


def notes_of(settings: AugmentSettings, side: int) -> tuple[str, ...]:
    """What is to be told of these images; raises as `amplitudes_of`."""
    amplitudes = amplitudes_of(settings, side)
    return () if amplitudes is None else amplitudes.notes


def _adapting(settings: AugmentSettings, side: int | None) -> Iterator[A.BasicTransform]:
    """What makes crops look as if they were of elsewhere."""
    if (fourier := settings.fourier) is not None:
        if side is None:
            raise ConfigError("data.augment.fourier is for crops of one size; leave it out here")
        amplitudes = read_amplitudes(fourier.images, fourier.beta[1], side)
        yield FourierSwap(amplitudes, fourier.beta, fourier.probability)
    if (templates := settings.templates) is not None:
        known = templates.statistics or {}
        if missing := [space for space in templates.spaces if space not in known]:
            raise ConfigError(
                f"data.augment.templates: there are no statistics of {', '.join(missing)}; only "
                "the training of a detector learns them, so name them in "
                "data.augment.templates.statistics"
            )
        of_spaces = {space: known[space] for space in templates.spaces}
        yield StainTemplate(of_spaces, templates.strength, templates.probability)


def build_step(step: Mapping[str, Any]) -> A.BasicTransform:
    """A transform from its name and arguments.

    Raises:
        ValueError: the name or an argument is not known, a value is not allowed, or the transform
            would not move boxes with the image.
    """
    arguments = dict(step)
    name = str(arguments.pop("name", ""))
    transform = OURS.get(name) or getattr(A, name, None) or _of_others(name)
    if not (inspect.isclass(transform) and issubclass(transform, A.BasicTransform)):
        near = difflib.get_close_matches(name, _names(), n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ValueError(
            f"{name or 'a step without a name'} is no transform of albumentations{hint}"
        )
    known = list(inspect.signature(transform).parameters)
    unknown = [argument for argument in arguments if argument not in known]
    if unknown:  # albumentations would only warn
        raise ValueError(f"{name} has no argument {unknown[0]}; it has {', '.join(known)}")
    try:
        built = transform(**arguments)
    except (ValueError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{name}: {reason}") from error
    if isinstance(built, A.DualTransform) and "bboxes" not in built.targets:
        raise ValueError(f"{name} does not move boxes with the image")
    return built


def _of_others(name: str) -> Any:
    """A transform by import path or entry point; None for other names."""
    if not is_path(name) and name not in installed("augmentation"):
        return None
    try:
        return load_part("augmentation", name, "data.augment.steps")
    except ConfigError as error:
        raise ValueError(str(error)) from error


def _names() -> list[str]:
    return [*OURS, *(name for name in dir(A) if inspect.isclass(getattr(A, name)))]


def _default_steps(settings: AugmentSettings) -> list[A.BasicTransform]:
    return [
        A.D4(p=1.0 if settings.flips else 0.0),
        StainJitter(settings.stain, p=0.9 if settings.stain else 0.0),
        A.RandomBrightnessContrast(settings.brightness, settings.contrast, p=0.5),
        A.GaussianBlur(blur_limit=(3, 5), p=settings.blur),
        A.ImageCompression(quality_range=(50, 90), p=settings.jpeg),
        A.GaussNoise(std_range=(0.01, 0.04), p=settings.noise),
    ]
