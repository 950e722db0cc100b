"""Crops of single cells, and of what a detector takes for cells, for a grader to learn from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field as Option
from torch import Tensor
from torch.utils.data import Dataset

from configs import ConfigError, StrictModel
from data.boxes import box_iou
from data.crops.augment import AugmentSettings
from data.crops.drawing import DrawnDataset, Sample, unreadable_fields
from data.fields.fieldset import Field, FieldSet, weights_of_fields
from data.fields.images import FieldImages, ImageError, Pixels
from data.fields.rarity import class_weights
from data.fields.regions import downsample_of

BACKGROUND, UNKNOWN = -1, -2
"""Of a place, beside the labels of the classes: no cell; nobody knows."""

SAME_CELL = 0.5
"""IoU from which on a detector's box is of an annotated cell, as everywhere in evaluation."""


class GradeSettings(StrictModel):
    """Which crops a grader learns from, and how far they are moved and turned.

    Attributes:
        class_power: 0 draws a crop's class by its frequency, 1 evenly over classes.
        background: share of crops that show no annotated cell, but what the detector takes for one.
        background_from: least score of the detector, of any class, of such a place.
        background_iou: overlap with an annotated cell below which it is none.
        background_a_field: the most such places of a field, or part of a slide: the surest ones.
        shift: spread in µm, along x and y, of where a cell lies in its crop.
        background_shift: the same of background.
        rotation: spread in radians of a turn beside flips and right angles.
        scale: spread of the logarithm of a change of scale.
    """

    class_power: float = Option(0.5, ge=0, le=1)
    background: float = Option(0.25, ge=0, lt=1)
    background_from: float = Option(0.08, gt=0, lt=1)
    background_iou: float = Option(0.3, gt=0, le=1)
    background_a_field: int = Option(60, ge=0)
    shift: float = Option(1.2, ge=0)
    background_shift: float = Option(0.6, ge=0)
    rotation: float = Option(0.3, ge=0)
    scale: float = Option(0.08, ge=0, le=0.5)


@dataclass(frozen=True)
class Places:
    """What a detector takes for cells on a field, one row a place.

    Attributes:
        boxes: (N, 4) xyxy in pixels of the field.
        scores: (N,) best score of any class.
    """

    boxes: NDArray[np.float64]
    scores: NDArray[np.floating]


@dataclass(frozen=True)
class GradeSamples:
    """Places to cut crops at.

    Attributes:
        fields: (N,) index of each place's field.
        centers: (N, 2) x and y in pixels of the field.
        labels: (N,) indices into the classes; as many as there are classes for background.
        classes: how many classes there are.
        weights: (N,) as how many places each counts when one is drawn, by the weight of its source;
            None: all alike.
    """

    fields: NDArray[np.int64]
    centers: NDArray[np.float64]
    labels: NDArray[np.int64]
    classes: int
    weights: NDArray[np.float64] | None = None

    def counts(self) -> list[int]:
        """Places of each class, background last."""
        return np.bincount(self.labels, minlength=self.classes + 1).tolist()

    def weighed_counts(self) -> NDArray[np.float64]:
        """(C + 1,) the same, each place as often as its weight says."""
        counted = np.bincount(self.labels, self.weights, self.classes + 1)
        return counted.astype(np.float64)


def gather_samples(
    fields: FieldSet, places: Sequence[Places], settings: GradeSettings
) -> GradeSamples:
    """Annotated cells, by their nuclei, and of each field what looks like a cell and is none.

    What lies in an ignored area is neither: nobody said what it is.

    Args:
        fields: annotated fields.
        places: what a detector found on each.
        settings: which places are background.

    Raises:
        ConfigError: there is no annotated cell.
    """
    own = [field.nuclei[~field.crowd] for field in fields.fields]
    if not any(map(len, own)):
        raise ConfigError("there is no annotated cell to learn from")
    labels = [field.labels[~field.crowd] for field in fields.fields]
    other = [
        background_of(field, found, settings)
        for field, found in zip(fields.fields, places, strict=True)
    ]
    classes = len(fields.classes)
    centers: list[NDArray[np.floating]] = [*own, *other]
    indices = [*range(len(own)), *range(len(own))]
    of_field = np.repeat(np.array(indices), [len(one) for one in centers])
    weights = weights_of_fields(fields)
    return GradeSamples(
        of_field,
        np.concatenate(centers).astype(np.float64),
        np.concatenate([*labels, np.full(sum(map(len, other)), classes)]).astype(np.int64),
        classes,
        None if weights is None else weights[of_field],
    )


def background_of(field: Field, found: Places, settings: GradeSettings) -> NDArray[np.float64]:
    """(N, 2) middles of the places on a field that look like a cell and are none."""
    sure = np.flatnonzero(found.scores >= settings.background_from)
    sure = sure[np.argsort(-found.scores[sure], kind="stable")]
    none = label_places(field, found.boxes[sure], settings.background_iou) == BACKGROUND
    return _middles(found.boxes[sure][none])[: settings.background_a_field]


def label_places(
    field: Field, boxes: NDArray[np.floating], background_iou: float
) -> NDArray[np.int64]:
    """What lies at places of a field: (N,) labels, or `BACKGROUND`, or `UNKNOWN`.

    A place is of the cell that it overlaps most, from IoU `SAME_CELL` on; background where it
    overlaps all by less than ``background_iou``. Between them nobody knows, nor in ignored areas.

    Args:
        field: with its cells.
        boxes: (N, 4) xyxy in its pixels.
        background_iou: see `GradeSettings`.
    """
    cells, crowd = field.boxes[~field.crowd], field.boxes[field.crowd]
    overlaps = box_iou(boxes, cells)
    best = overlaps.max(axis=1, initial=0.0)
    labels = np.full(len(boxes), UNKNOWN, np.int64)
    labels[best < background_iou] = BACKGROUND
    centers = _middles(boxes)[:, None]
    ignored = np.all((centers >= crowd[None, :, :2]) & (centers <= crowd[None, :, 2:]), axis=2)
    labels[np.any(ignored, axis=1)] = UNKNOWN
    on_cell = best >= SAME_CELL
    if len(cells):
        labels[on_cell] = field.labels[~field.crowd][overlaps.argmax(axis=1)[on_cell]]
    return labels


def _middles(boxes: NDArray[np.floating]) -> NDArray[np.float64]:
    return ((boxes[:, :2] + boxes[:, 2:]) / 2).astype(np.float64)


class GradeDataset(DrawnDataset):
    """Random augmented crops of cells and background, for one epoch; see `DrawnDataset`.

    A target has the "label", and the "field" that the crop is of.

    Args:
        fields: the annotated fields.
        images: their pixels, shared by all epochs.
        samples: places on them.
        crop: side of a crop in px, and its µm per px.
        settings: how places are drawn, moved and turned.
        augment: how pixels are changed.
        length: crops an epoch.
        seed: of everything random.
        epoch: which one.
    """

    def __init__(
        self,
        fields: FieldSet,
        images: FieldImages,
        samples: GradeSamples,
        crop: tuple[int, float],
        settings: GradeSettings,
        augment: AugmentSettings,
        length: int,
        seed: int,
        epoch: int = 0,
    ) -> None:
        self.size, mpp = crop
        super().__init__(fields, images, mpp, augment, self.size, length, seed, epoch)
        self.samples = samples
        self.settings = settings
        labels = range(samples.classes + 1)
        self._rows = [np.flatnonzero(samples.labels == label) for label in labels]
        self._shares = draw_shares(samples, settings)
        self._row_shares = [_shares_within(samples, rows) for rows in self._rows]

    def _sample(self, rng: np.random.Generator) -> Sample:
        label = int(rng.choice(len(self._shares), p=self._shares))
        row = self._draw_row(label, rng)
        pixels = self._cut(row, label == self.samples.classes, rng)
        self._augment.set_random_seed(int(rng.integers(2**31)))
        nothing = np.zeros((0, 4)), np.zeros(0)
        changed = self._augment(image=pixels, bboxes=nothing[0], labels=nothing[1])["image"]
        field = int(self.samples.fields[row])
        target = {"label": torch.tensor(label), "field": torch.tensor(field)}
        return to_tensor(changed), target

    def _draw_row(self, label: int, rng: np.random.Generator) -> int:
        rows, shares = self._rows[label], self._row_shares[label]
        # Without weights as ever, so that a recipe goes on drawing what it drew.
        return int(rows[rng.integers(len(rows))] if shares is None else rng.choice(rows, p=shares))

    def _cut(self, row: int, is_background: bool, rng: np.random.Generator) -> Pixels:
        """A place's crop, moved, turned and scaled by chance."""
        settings, field = self.settings, int(self.samples.fields[row])
        shift = settings.background_shift if is_background else settings.shift
        moved = rng.normal(0, shift, 2) / self.mpp * self._downsample[field]
        angle = rng.normal(0, settings.rotation)
        scale = float(np.exp(rng.normal(0, settings.scale)))
        center = self.samples.centers[row] + moved
        # A turned square needs the square around it.
        around = int(np.ceil(self.size * (abs(np.cos(angle)) + abs(np.sin(angle)))))
        side = around * self._downsample[field] / scale
        wide = self._images.square(field, around, (float(center[0]), float(center[1])), side)
        return turn(wide, angle, self.size) if around > self.size else wide


def turn(image: Pixels, angle: float, size: int) -> Pixels:
    """The middle (size, size, 3) of a square image that is turned by an angle in radians."""
    middle = (image.shape[0] - 1) / 2
    matrix = cv2.getRotationMatrix2D((middle, middle), np.degrees(angle), 1.0)
    matrix[:, 2] += (size - 1) / 2 - middle
    white = (255, 255, 255)
    turned = cv2.warpAffine(image, matrix, (size, size), flags=cv2.INTER_LINEAR, borderValue=white)
    return np.asarray(turned, np.uint8)


def draw_shares(samples: GradeSamples, settings: GradeSettings) -> NDArray[np.float64]:
    """(C + 1,) probability of drawing each class: its count to the power of 1 - ``class_power``.

    A place of a source of weight 2 counts as two. Background has its own share, or none where there
    is no such place.
    """
    counts = samples.weighed_counts()
    cells = class_weights(counts[:-1], settings.class_power)
    background = settings.background if counts[-1] else 0.0
    return np.append(cells * (1 - background), background)


def _shares_within(samples: GradeSamples, rows: NDArray[np.integer]) -> NDArray[np.float64] | None:
    """Probability of drawing each of (N,) places of one class; None: all alike."""
    if samples.weights is None:
        return None
    weights = samples.weights[rows]
    return weights / weights.sum() if len(rows) else weights


class PlacesDataset(Dataset[Sample]):
    """All given places of a field at a time, as screening shows them to a grader.

    An item is (N, 3, S, S) uint8 and a target with the "index" of the field; of one that can't be
    read there are no crops, and "unreadable" says so.

    Args:
        fields: whose places they are.
        images: their pixels.
        centers: for each field (N, 2) x and y in its pixels.
        crop: side of a crop in px, and its µm per px.
    """

    def __init__(
        self,
        fields: FieldSet,
        images: FieldImages,
        centers: Sequence[NDArray[np.floating]],
        crop: tuple[int, float],
    ) -> None:
        self.size, mpp = crop
        self._images = images
        self._centers = centers
        self._downsample = [downsample_of(field, mpp) for field in fields.fields]

    def __len__(self) -> int:
        return len(self._centers)

    def __getitem__(self, index: int) -> Sample:
        target = {"index": torch.tensor(index)}
        try:
            crops = self.read(index)
        except ImageError:
            target |= unreadable_fields({index})
            crops = np.zeros((0, self.size, self.size, 3), np.uint8)
        return torch.from_numpy(crops).permute(0, 3, 1, 2), target

    def read(self, index: int) -> Pixels:
        """The (N, S, S, 3) RGB crops of a field.

        Raises:
            ImageError: it can't be read.
        """
        side = self.size * self._downsample[index]
        crops = np.empty((len(self._centers[index]), self.size, self.size, 3), np.uint8)
        for row, (x, y) in enumerate(self._centers[index].tolist()):
            crops[row] = self._images.square(index, self.size, (x, y), side)
        return crops


def to_tensor(pixels: Pixels) -> Tensor:
    """A (3, S, S) uint8 tensor of (S, S, 3) RGB."""
    return torch.from_numpy(np.array(pixels)).permute(2, 0, 1).contiguous()


def collate_grades(samples: Sequence[Sample]) -> tuple[Tensor, list[dict[str, Tensor]]]:
    """One (B, 3, S, S) tensor, and a list of targets."""
    return torch.stack([pixels for pixels, _ in samples]), [target for _, target in samples]
