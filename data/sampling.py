"""Where training crops lie: around cells, in what looks like cells, or anywhere.

Few tiles of a slide hold an abnormal cell, so crops are laid where there is something to learn. All
of it is drawn from the generator that comes with each call, and nothing else.
"""

from __future__ import annotations

from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field as Option

from configs import StrictModel
from data.fieldset import Field, FieldSet
from data.images import FieldImages

Window = tuple[float, float, float, float]
"""xyxy in pixels of its field."""

OVERVIEW_MPP = 8.0
"""µm per pixel of the overview on which cells are told from glass."""

FAINTEST = 0.05
"""Optical density above the glass's own from which on there may be a cell."""

TRIES = 20
"""Places that are drawn before one is taken that is not worth much."""


class CropSettings(StrictModel):
    """How crops are drawn.

    Attributes:
        size: side of a crop in pixels of the model's mpp.
        scale: largest relative change of scale, as 1.2 for 1 / 1.2 to 1.2.
        around_cells: share of crops that are laid around a cell, of a class drawn first.
        class_power: 0 draws the cell's class by its frequency, 1 evenly over classes.
        hard_background: share of crops that show cells, or what looks like some, but none that is
            annotated; of crops laid around cells there are ``around_cells``, of those laid anywhere
            the rest.
        repeat_threshold: share of fields below which a class is rare; crops laid anywhere then
            come more often from fields with rare classes, see `repeat_factors`. None: evenly.
        drawn: share of crops that are drawn by `data.synth`, not cut from a field.
        paste: how many cells of other fields are laid on a crop, on average.
    """

    size: int = Option(384, ge=32)
    scale: float = Option(1.2, ge=1, le=2)
    around_cells: float = Option(0.5, ge=0, le=1)
    class_power: float = Option(0.5, ge=0, le=1)
    hard_background: float = Option(0.0, ge=0, le=1)
    repeat_threshold: float | None = Option(None, gt=0, le=1)
    drawn: float = Option(0.0, ge=0, le=1)
    paste: float = Option(0.0, ge=0, le=20)


class WindowSampler:
    """Draws square windows of fields.

    Args:
        fields: the annotated fields.
        images: their pixels, for overviews.
        downsample: pixels of each field per pixel of a crop.
        settings: how windows are drawn.
    """

    def __init__(
        self,
        fields: FieldSet,
        images: FieldImages,
        downsample: list[float],
        settings: CropSettings,
    ) -> None:
        self._fields = fields.fields
        self._images = images
        self._downsample = downsample
        self._settings = settings
        self._cells = cells_by_class(fields)
        self._class_weights = class_weights(self._cells, settings.class_power)
        self._backgrounds: dict[int, Background] = {}
        threshold = settings.repeat_threshold
        self._repeats = None if threshold is None else repeat_factors(fields, threshold)

    def draw(self, rng: np.random.Generator) -> tuple[int, Window]:
        """A field's index, and a window of the crop's size times a random scale."""
        place = rng.random()
        around = self._settings.around_cells if self._class_weights.any() else 0.0
        if place < around:
            label = rng.choice(len(self._cells), p=self._class_weights)
            index, x, y = self._cells[label][rng.integers(len(self._cells[label]))]
            return self._lay(int(index), (x, y), rng)
        if place < around + self._settings.hard_background:
            return self._draw_background(rng)
        return self._lay(self._draw_field(rng), None, rng)

    def _draw_field(self, rng: np.random.Generator) -> int:
        if self._repeats is None:
            return int(rng.integers(len(self._fields)))
        return int(rng.choice(len(self._fields), p=self._repeats / self._repeats.sum()))

    def _draw_background(self, rng: np.random.Generator) -> tuple[int, Window]:
        """A window whose middle is dark, while no annotated cell is near."""
        for _ in range(TRIES):
            index = self._draw_field(rng)
            center = self._background(index).draw(rng)
            if center is not None:
                return self._lay(index, center, rng, middle=True)
        return self._lay(self._draw_field(rng), None, rng)

    def _lay(
        self,
        index: int,
        center: tuple[float, float] | None,
        rng: np.random.Generator,
        middle: bool = False,
    ) -> tuple[int, Window]:
        """A window of a field: anywhere, or one that shows ``center``, in its middle or not."""
        field = self._fields[index]
        scale = np.exp(rng.uniform(-1, 1) * np.log(self._settings.scale))
        side = self._settings.size * self._downsample[index] / scale
        side = float(min(side, field.width, field.height))
        x, y = center or (None, None)
        for _ in range(TRIES):
            left = _draw_start(rng, x, side, field.width, middle)
            top = _draw_start(rng, y, side, field.height, middle)
            window = (left, top, left + side, top + side)
            if center or self._is_worth(index, window):
                break
        return index, window

    def _is_worth(self, index: int, window: Window) -> bool:
        """Whether a window shows what was annotated and, on a slide, more than glass."""
        field = self._fields[index]
        if is_covered(window, field.boxes[field.crowd]):
            return False
        return not self._images.is_slide(index) or self._background(index).shows_something(window)

    def _background(self, index: int) -> Background:
        if index not in self._backgrounds:
            side = self._settings.size * self._downsample[index]
            overview = self._images.overview(index, OVERVIEW_MPP)
            self._backgrounds[index] = Background(self._fields[index], overview, side)
        return self._backgrounds[index]


class Background:
    """Where a field shows something, and where that is nothing annotated.

    Args:
        field: the field.
        overview: (H, W, 3) RGB, all of the field at a low resolution.
        side: of a window in pixels of the field.
    """

    def __init__(self, field: Field, overview: NDArray[np.uint8], side: float) -> None:
        self._field = field
        self._side = side
        self._shape = overview.shape[:2]
        self._scale = np.array([overview.shape[1] / field.width, overview.shape[0] / field.height])
        density = -np.log((overview.astype(np.float32).mean(axis=2) + 1) / 256)
        glass = np.percentile(density, 10)
        self._density = np.maximum(density - glass - FAINTEST, 0)

    def shows_something(self, window: Window) -> bool:
        """Whether a window holds more than glass."""
        x0, y0 = np.floor(np.array(window[:2]) * self._scale).astype(int)
        x1, y1 = np.ceil(np.array(window[2:]) * self._scale).astype(int)
        return bool((self._density[y0:y1, x0:x1] > 0).any())

    def draw(self, rng: np.random.Generator) -> tuple[float, float] | None:
        """The middle of a window, the likelier the darker it is; None where there is none."""
        if not self._sums[-1]:
            return None
        pixel = np.searchsorted(self._sums, rng.random() * self._sums[-1], side="right")
        y, x = np.divmod(pixel, self._shape[1])
        return float((x + 0.5) / self._scale[0]), float((y + 0.5) / self._scale[1])

    @cached_property
    def _sums(self) -> NDArray[np.float64]:
        """Running sum over pixels of how dark the window around each is; 0 where cells are near."""
        window = np.maximum(1, np.round(self._side * self._scale)).astype(int)
        weight = cv2.blur(self._density, tuple(window.tolist()), borderType=cv2.BORDER_REPLICATE)
        # Middles of windows that show a cell, in a crowd, and those that the border would move.
        scale, reach = np.tile(self._scale, 2), np.tile(window / 2, 2) * [-1, -1, 1, 1]
        boxes, crowd = self._field.boxes * scale, self._field.crowd
        known = np.concatenate([boxes[~crowd] + reach, boxes[crowd]])
        for left, top, right, bottom in _outwards(known).tolist():
            weight[top:bottom, left:right] = 0
        for axis, half in ((1, window[0] // 2), (0, window[1] // 2)):
            inner = np.zeros(weight.shape[axis], bool)
            inner[half : max(half + 1, len(inner) - half)] = True
            weight *= inner if axis == 1 else inner[:, None]
        return np.cumsum(weight.ravel(), dtype=np.float64)


def repeat_factors(fields: FieldSet, threshold: float) -> NDArray[np.float64]:
    """How many times as often each field is drawn (Gupta et al., LVIS, CVPR 2019, section 4.2).

    Args:
        fields: the annotated fields.
        threshold: t, the share of fields below which a class is drawn more often.

    Returns:
        (fields,), at least 1.
    """
    present = np.array(
        [np.bincount(f.labels[~f.crowd], minlength=len(fields.classes)) > 0 for f in fields.fields]
    )
    frequency = present.mean(axis=0)  # f_c
    of_class = np.maximum(1, np.sqrt(threshold / np.maximum(frequency, 1e-12)))  # r_c
    return np.where(present, of_class, 1.0).max(axis=1)  # r_i = max over its classes of r_c


def cells_by_class(fields: FieldSet) -> list[NDArray[np.float64]]:
    """For each class an (N, 3) array of field index, x, y of its cells' centres."""
    rows = [
        np.column_stack([np.full(len(f.boxes), i), _centers(f.boxes)])
        for i, f in enumerate(fields.fields)
    ]
    cells = np.concatenate(rows).astype(np.float64)
    labels = np.concatenate([np.where(f.crowd, -1, f.labels) for f in fields.fields])
    return [cells[labels == label] for label in range(len(fields.classes))]


def class_weights(cells: list[NDArray[np.float64]], power: float) -> NDArray[np.float64]:
    """Probability of drawing each class: its count to the power of 1 - ``power``."""
    counts = np.array([len(of_class) for of_class in cells], np.float64)
    weights = np.where(counts > 0, np.maximum(counts, 1) ** (1 - power), 0)
    return weights / max(weights.sum(), 1e-12)


def touching(boxes: NDArray[np.floating], window: Window) -> NDArray[np.bool_]:
    """Which of (N, 4) boxes have area in common with a window."""
    before = (boxes[:, :2] < window[2:]).all(axis=1)
    behind = (boxes[:, 2:] > window[:2]).all(axis=1)
    return np.logical_and(before, behind)


def is_covered(window: Window, areas: NDArray[np.floating]) -> bool:
    """Whether one of (N, 4) areas holds a window as a whole."""
    low = (areas[:, :2] <= window[:2]).all(axis=1)
    high = (areas[:, 2:] >= window[2:]).all(axis=1)
    return bool((low & high).any())


def _outwards(boxes: NDArray[np.floating]) -> NDArray[np.int64]:
    """(N, 4) boxes in whole pixels that hold all of them, from 0 on."""
    corners = np.concatenate([np.floor(boxes[:, :2]), np.ceil(boxes[:, 2:])], axis=1)
    return corners.clip(0).astype(np.int64)


def _centers(boxes: NDArray[np.floating]) -> NDArray[np.floating]:
    return (boxes[:, :2] + boxes[:, 2:]) / 2


def _draw_start(
    rng: np.random.Generator, center: float | None, side: float, length: int, middle: bool
) -> float:
    """Start of a window of ``side`` in 0..length, anywhere, or so that it shows ``center``."""
    if center is None:
        return float(rng.uniform(0, length - side))
    offset = 0.5 * side if middle else rng.uniform(0.1, 0.9) * side
    return float(np.clip(center - offset, 0, length - side))
