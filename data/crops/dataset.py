"""Datasets over annotated fields: random crops to train on, whole fields to judge by."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from configs import ConfigError
from data.crops.augment import MIN_VISIBILITY, AugmentSettings
from data.crops.copypaste import CellPaster
from data.crops.drawing import (
    DrawnDataset,
    Sample,
    Steered,
    draw_readable,
    unreadable_fields,
)
from data.crops.sampling import CropSettings, build_sampler
from data.crops.stains import another_stain
from data.crops.templates import LEARNED_FROM, learn_statistics
from data.fields.fieldset import FieldSet
from data.fields.images import FieldImages, ImageError
from data.fields.regions import Window, downsample_of, touching
from data.synth import CLASSES, draw_field

Crop = tuple[NDArray[np.uint8], NDArray[np.floating], NDArray[np.int64]]
"""Pixels, boxes in them, labels."""


class CropDataset(DrawnDataset):
    """Random augmented crops at the model's mpp, for one epoch; see `DrawnDataset`.

    The target's "field" is the index of the field that it was cut from. With ``views`` its "view"
    is the crop once more, (3, H, W), in another stain and else with the same changes.

    Args:
        fields: the annotated fields; crowd regions are painted over, so that nothing in them is
            learned as background.
        images: their pixels, shared by all epochs.
        mpp: of the crops.
        crops: how they are drawn.
        augment: how they are changed.
        length: crops an epoch.
        seed: of everything random.
        epoch: which one.
        views: whether there are two views of every crop; see `data.crops.stains.StainStep`.
    """

    def __init__(
        self,
        fields: FieldSet,
        images: FieldImages,
        mpp: float,
        crops: CropSettings,
        augment: AugmentSettings,
        length: int,
        seed: int,
        epoch: int = 0,
        views: bool = False,
    ) -> None:
        super().__init__(fields, images, mpp, augment, crops.size, length, seed, epoch)
        self.crops = crops
        self.views = views
        self._windows = build_sampler(fields, images, self._downsample, crops)
        self._paster = CellPaster(fields, images, self._downsample)
        self._drawn_labels = _drawn_labels(fields.classes) if crops.drawn else None

    def __getitem__(self, index: int | Steered) -> Sample:
        """A crop; of a steered one, as its factors say as well."""
        steered = index if isinstance(index, Steered) else Steered(index, None)
        if not 0 <= steered.index < self.length:
            raise IndexError(steered.index)  # without it, iterating would never end
        draw = partial(self._sample, factors=steered.factors, turn=steered.index)
        return draw_readable(draw, self.fields, (self.seed, self.epoch, steered.index))

    def _sample(
        self,
        rng: np.random.Generator,
        factors: NDArray[np.float64] | None = None,
        turn: int = 0,
    ) -> Sample:
        draws = self._drawn_labels is not None and rng.random() < self.crops.drawn
        place = None if draws else self._windows.draw(rng, factors, turn)
        image, boxes, labels = self._draw(rng) if place is None else self._cut(*place, rng)
        shown = visible(boxes, self.crops.size)
        pixels, target = self._change(image, boxes[shown], labels[shown], rng)
        return pixels, target if place is None else target | {"field": torch.tensor(place[0])}

    def _change(
        self,
        image: NDArray[np.uint8],
        boxes: NDArray[np.floating],
        labels: NDArray[np.int64],
        rng: np.random.Generator,
    ) -> Sample:
        """A crop as a sample, augmented, with its second view where there is to be one."""
        seed = int(rng.integers(2**31))

        def augmented() -> Sample:
            self._augment.set_random_seed(seed)
            result = self._augment(image=image, bboxes=boxes, labels=labels)
            return to_sample(result["image"], result["bboxes"], result["labels"])

        pixels, target = augmented()
        if not self.views:
            return pixels, target
        with another_stain(self._augment, int(rng.integers(2**31))):
            return pixels, target | {"view": augmented()[0]}

    def _draw(self, rng: np.random.Generator) -> Crop:
        seed, side = int(rng.integers(2**31)), self.crops.size
        image, boxes, labels = draw_field(seed, (side, side), self.mpp)
        assert self._drawn_labels is not None
        return image, boxes, self._drawn_labels[labels]

    def _cut(self, index: int, window: Window, rng: np.random.Generator) -> Crop:
        field, side = self.fields[index], self.crops.size
        left, top, right, _ = window
        most = self.crops.planes
        away = int(rng.integers(-most, most + 1)) if most else 0
        image = self._images.crop(index, (side, side), window, away)
        near = touching(field.boxes, window)
        boxes = (field.boxes[near] - (left, top, left, top)) * side / (right - left)
        crowd, labels = field.crowd[near], field.labels[near]
        image = hide(image, boxes[crowd], boxes[~crowd])
        count = int(rng.poisson(self.crops.paste))
        return self._paster.paste(image, boxes[~crowd], labels[~crowd], count, rng)


def with_templates(
    augment: AugmentSettings,
    fields: FieldSet,
    images: FieldImages,
    mpp: float,
    crops: CropSettings,
    seed: int,
) -> AugmentSettings:
    """Augmentation whose templates know how the run's first crops differ.

    Args:
        augment: without templates, or where these have statistics, it stays.
        fields: the annotated fields.
        images: their pixels.
        mpp: of the crops.
        crops: how they are drawn.
        seed: of the run.
    """
    templates = augment.templates
    if templates is None or templates.statistics is not None:
        return augment
    unchanged = AugmentSettings(steps=({"name": "NoOp"},))
    drawn = CropDataset(fields, images, mpp, crops, unchanged, LEARNED_FROM, seed)
    samples = (drawn[index][0].permute(1, 2, 0) for index in range(len(drawn)))
    pixels = (np.asarray(one * 255).round().astype(np.uint8) for one in samples)
    learned = {"statistics": learn_statistics(pixels, templates.spaces)}
    return augment.model_copy(update={"templates": templates.model_copy(update=learned)})


class WholeFieldDataset(Dataset[Sample]):
    """Every field, whole, at the model's mpp; boxes in its pixels.

    The target's "field" is its index. One that can't be read is empty; its target's "unreadable"
    says so.

    Args:
        fields: the annotated fields; slides are cut by `data.fields.regions.cut_fields` before.
        images: their pixels.
        mpp: of the result.
    """

    def __init__(self, fields: FieldSet, images: FieldImages, mpp: float) -> None:
        self.fields = fields.fields
        self._images = images
        self._downsample = [downsample_of(field, mpp) for field in self.fields]

    def __len__(self) -> int:
        return len(self.fields)

    def __getitem__(self, index: int) -> Sample:
        field, downsample = self.fields[index], self._downsample[index]
        size = (round(field.width / downsample), round(field.height / downsample))
        try:
            image = self._images.whole(index, size)
        except ImageError:
            pixels, target = to_sample(np.zeros((1, 1, 3), np.uint8), np.zeros((0, 4)), _NOTHING)
            return pixels, target | unreadable_fields({index})
        scale = np.array(size * 2) / np.array([field.width, field.height] * 2)
        pixels, target = to_sample(image, field.boxes * scale, field.labels)
        crowd = torch.from_numpy(field.crowd)
        return pixels, target | {"crowd": crowd, "field": torch.tensor(index)}


_NOTHING = np.zeros(0, np.int64)


def hide(
    image: NDArray[np.uint8], ignored: NDArray[np.floating], cells: NDArray[np.floating]
) -> NDArray[np.uint8]:
    """Paints areas in the image's median colour, but for the cells that reach into them.

    Where nobody annotated, cells may lie; a detector that sees them would learn that they are none.
    A plain colour is background whatever was there, for every detector and loss.

    Args:
        image: (H, W, 3) RGB; left as it is.
        ignored: (K, 4) xyxy in its pixels.
        cells: (N, 4) likewise.
    """
    if not len(ignored):
        return image
    painted = image.copy()
    color = np.median(image, axis=(0, 1)).astype(np.uint8)
    for area in _slices(ignored, image.shape):
        painted[area] = color
    for cell in _slices(cells, image.shape):
        painted[cell] = image[cell]
    return painted


def _slices(boxes: NDArray[np.floating], shape: tuple[int, ...]) -> list[tuple[slice, slice]]:
    """Rows and columns of each box, with the pixels that it only touches."""
    limits = np.array([shape[1], shape[0]] * 2)
    outwards = np.concatenate([np.floor(boxes[:, :2]), np.ceil(boxes[:, 2:])], axis=1)
    corners = outwards.clip(0, limits).astype(int).tolist()
    return [(slice(top, bottom), slice(left, right)) for left, top, right, bottom in corners]


def visible(boxes: NDArray[np.floating], size: int) -> NDArray[np.bool_]:
    """Which of (N, 4) boxes show enough of themselves in a square crop of ``size`` px."""
    inside = boxes.clip(0, size)
    area = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    return np.prod(inside[:, 2:] - inside[:, :2], axis=1) >= MIN_VISIBILITY * area


def to_sample(
    image: NDArray[np.uint8], boxes: NDArray[np.floating], labels: NDArray[np.integer]
) -> Sample:
    """A (3, H, W) float tensor in 0..1 and torchvision's target."""
    pixels = torch.from_numpy(image.astype(np.float32) / 255).permute(2, 0, 1).contiguous()
    target = {
        "boxes": torch.as_tensor(np.asarray(boxes), dtype=torch.float32).reshape(-1, 4),
        "labels": torch.as_tensor(np.asarray(labels), dtype=torch.int64),
    }
    return pixels, target


def collate(samples: list[Sample]) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    """Lists, as detectors take them: images may differ in size."""
    images, targets = zip(*samples, strict=True)
    return list(images), list(targets)


def _drawn_labels(classes: Sequence[str]) -> NDArray[np.int64]:
    missing = [name for name in CLASSES if name not in classes]
    if missing:
        raise ConfigError(
            f"crops.drawn: drawn cells are named {', '.join(CLASSES)}, but {', '.join(missing)} "
            "are not among the model's classes; set it to 0"
        )
    return np.array([list(classes).index(name) for name in CLASSES], np.int64)
