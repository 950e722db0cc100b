"""Images without annotations from which a run learns: a mean teacher's, and Fourier's amplitudes.

None may be judged by, and the card says what they were.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import BeforeValidator, Field, field_validator

from configs import ConfigError, CytoLibraError
from data.crops.augment import AugmentSettings, amplitudes_of
from data.crops.fourier import KEY as FOURIER_KEY
from data.crops.unlabelled import check_strong
from data.fields.fieldset import Field as AnnotatedField
from data.fields.fieldset import FieldSet
from data.fields.images import FieldImages
from data.fields.splits import check_images
from models.learning.mean_teacher import TeachingSettings
from pipeline.batch.discovery import discover
from scripts.slides import images_of, slide_info
from scripts.training.loop import LoopSettings
from scripts.training.provenance import digest_of_images
from scripts.training.sources import DataSettings, RunFields

KEY = "mean_teacher.images"


LEAST_SIDE = 32
"""Images with a shorter side, in pixels of the model's scale, would be blown up to a crop."""


def _as_list(value: Any) -> Any:
    paths = (value,) if isinstance(value, str | Path) else value
    if isinstance(paths, list | tuple) and "" in paths:
        raise ValueError("a folder's name is empty, which would be the folder that one works in")
    return paths


class StrongSettings(AugmentSettings):
    """How far the student's view is changed: some twice as far as annotated crops, by default."""

    flips: bool = False
    stain: float = Field(0.3, ge=0, le=1)
    brightness: float = Field(0.3, ge=0, le=1)
    contrast: float = Field(0.3, ge=0, le=1)
    blur: float = Field(0.5, ge=0, le=1)
    jpeg: float = Field(0.5, ge=0, le=1)
    noise: float = Field(0.5, ge=0, le=1)


class MeanTeacherSettings(TeachingSettings):
    """What a student learns from its own moving average, on images that nobody annotated.

    Attributes:
        images: a folder of images and slides, or several; searched recursively.
        mpp: µm per pixel of those whose files carry none, as plain images don't.
        crops: unlabelled crops in each batch, beside ``loop.batch_size`` annotated ones.
        strong: how the student's view is changed; nothing in it may move pixels.
    """

    images: Annotated[
        tuple[Path, ...],
        BeforeValidator(_as_list, json_schema_input_type=Path | tuple[Path, ...]),
        Field(min_length=1),
    ]
    mpp: float | None = Field(None, ge=0.05, le=5)
    crops: int = Field(4, ge=1)
    strong: StrongSettings = StrongSettings()

    @field_validator("strong")
    @classmethod
    def _moves_nothing(cls, strong: StrongSettings) -> StrongSettings:
        check_strong(strong)
        return strong


@dataclass(frozen=True)
class Unlabelled:
    """What a run's unlabelled crops are made of.

    Attributes:
        fields: the images, without annotations.
        images: their pixels.
        crops: of them in each batch.
        strong: how the student's view is changed.
    """

    fields: FieldSet
    images: FieldImages
    crops: int
    strong: AugmentSettings


def unlabelled_of(
    teaching: MeanTeacherSettings | None,
    data: DataSettings,
    loop: LoopSettings,
    fields: RunFields,
    out: Path,
) -> Unlabelled | None:
    """The images without annotations of a run; None where nothing is learned from any.

    Args:
        teaching: where they are.
        data: where decoded slides are kept, and what is held out.
        loop: how many may not open.
        fields: of the run.
        out: its folder.

    Raises:
        ConfigError: see `read_unlabelled`; or one of them is judged by.
    """
    if teaching is None:
        return None
    found = read_unlabelled(teaching, fields.train.classes, data.mpp, out, loop.max_unreadable)
    _check_not_judged(KEY, _images_of(found), fields, data.hold_out)
    return Unlabelled(found, images_of(found, data.cache), teaching.crops, teaching.strong)


def fourier_images(
    augment: AugmentSettings, side: int, fields: RunFields, hold_out: str | None = None
) -> tuple[Path, ...]:
    """The images whose amplitudes crops take; none without ``fourier``.

    Args:
        augment: how crops are changed.
        side: of the crops in px.
        fields: of the run.
        hold_out: the source that is held out.

    Raises:
        ConfigError: see `data.crops.fourier.read_amplitudes`; or one of them is judged by.
    """
    amplitudes = amplitudes_of(augment, side)
    if amplitudes is None:
        return ()
    _check_not_judged(FOURIER_KEY, amplitudes.images, fields, hold_out)
    return amplitudes.images


def _check_not_judged(
    key: str, images: Iterable[Path], fields: RunFields, hold_out: str | None
) -> None:
    """Makes sure that a run is not judged by images that it learns from without annotations.

    Raises:
        ConfigError: it is; names both images.
    """
    images = tuple(images)
    check_images(images, fields.val, (key, "data.val"))
    if fields.held_out is not None:
        judged = f"the source {hold_out}, which is held out,"
        check_images(images, fields.held_out, (key, judged))


def read_unlabelled(
    settings: MeanTeacherSettings, classes: tuple[str, ...], mpp: float, out: Path, limit: int
) -> FieldSet:
    """The images and slides of the folders, as fields without annotations.

    What can't be opened, or is smaller than `LEAST_SIDE`, is passed over, and a note says so.

    Args:
        settings: where they are.
        classes: of the detector.
        mpp: µm per pixel of the detector.
        out: the run's folder, in which none is looked for.
        limit: so many may not open.

    Raises:
        ConfigError: a folder is missing or has no image, more can't be opened, or nobody says the
            µm per pixel of one.
    """
    paths = list(dict.fromkeys(path for root in settings.images for path in _found(root, out)))
    fields, broken, small = [], [], []
    for path in paths:
        try:
            info = slide_info(path)
        except CytoLibraError as error:
            broken.append(str(error))
            continue
        if info is None:
            broken.append(f"{path}: too large for a plain image")
            continue
        own = info.mpp or settings.mpp
        if own is None:
            raise ConfigError(
                f"{KEY}: {path}: its file carries no µm per pixel; say it with mean_teacher.mpp"
            )
        side = min(info.width, info.height) * own / mpp
        if side < LEAST_SIDE:
            small.append(f"{path}: its shorter side is {side:.0f} px at data.mpp")
            continue
        fields.append(_field(path, info.width, info.height, own))
    if len(broken) > limit or (broken and not fields):
        raise ConfigError(
            f"{KEY}: {len(broken)} of {len(paths)} images can't be opened, the first one is: "
            f"{broken[0]}; take them out, or raise loop.max_unreadable ({limit})"
        )
    if not fields:
        raise ConfigError(f"{KEY}: none is large enough to learn from; {small[0]}")
    notes = [f"without annotations: {len(fields)} of {len(paths)} images and slides"]
    notes += [f"passed over: {problem}" for problem in (*broken, *small)]
    return FieldSet(classes, tuple(fields), tuple(notes))


def describe_unlabelled(
    augment: AugmentSettings,
    amplitudes: Iterable[Path],
    teaching: MeanTeacherSettings | None = None,
    unlabelled: Unlabelled | None = None,
) -> dict[str, Any]:
    """What a card says of images that a run learned from without annotations, by the setting.

    Args:
        augment: how crops are changed.
        amplitudes: of `fourier_images`.
        teaching: of a mean teacher.
        unlabelled: what it taught on.
    """
    told = {}
    if teaching is not None and unlabelled is not None:
        told[KEY] = _describe(teaching.images, _images_of(unlabelled.fields))
    if augment.fourier is not None:
        told[FOURIER_KEY] = _describe([augment.fourier.images], amplitudes)
    return told


def _describe(folders: Iterable[Path], images: Iterable[Path]) -> dict[str, Any]:
    """The folders' names, how many images of them, and by what to know these again."""
    images = sorted(set(images))
    return {
        "names": [path.resolve().name for path in folders],
        "images": len(images),
        "images_sha256": digest_of_images(images),
    }


def _images_of(fields: FieldSet) -> Iterator[Path]:
    return (field.image for field in fields.fields)


def _found(root: Path, out: Path) -> Iterator[Path]:
    try:
        found = discover([root], out, with_images=True)
    except ConfigError as error:
        raise ConfigError(f"{KEY}: {error}") from error
    yield from (job.path for job in found.jobs)


def _field(path: Path, width: int, height: int, mpp: float) -> AnnotatedField:
    nothing = np.zeros((0, 4), np.float32)
    return AnnotatedField(
        path,
        width,
        height,
        mpp,
        boxes=nothing,
        nuclei=nothing[:, :2],
        labels=np.zeros(0, np.int64),
        crowd=np.zeros(0, np.bool_),
    )
