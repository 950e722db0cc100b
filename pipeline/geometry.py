"""Pure geometry, typed by unit: level-0 pixels, model pixels, micrometres.

Three frames meet in this project:

* **level 0**: the slide's finest pixels, origin at its top left. Everything that is reported
  is in this frame; cells.geojson alone has its origin at the slide's bounds.
* **level**: pixels of one pyramid level; a level-0 coordinate divided by the level's downsample.
* **model plane**: the slide resampled to the detector's mpp. The tile grid lives here, so that
  every tile has the same integer size; a level-0 coordinate divided by ``downsample``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Boxes = NDArray[np.float64]
"""(N, 4) array of x_min, y_min, x_max, y_max, half-open; the frame is said where it is used."""


@dataclass(frozen=True, slots=True)
class Size:
    """Width and height in whole pixels of one frame."""

    width: int
    height: int

    @property
    def area(self) -> int:
        """Number of pixels."""
        return self.width * self.height


@dataclass(frozen=True, slots=True)
class Rect:
    """A half-open rectangle of whole pixels: [x, x + width) by [y, y + height)."""

    x: int
    y: int
    width: int
    height: int

    @property
    def right(self) -> int:
        """First column to the right of the rectangle."""
        return self.x + self.width

    @property
    def bottom(self) -> int:
        """First row below the rectangle."""
        return self.y + self.height

    @property
    def area(self) -> int:
        """Number of pixels."""
        return self.width * self.height

    def intersection(self, other: Rect) -> Rect | None:
        """The common part of two rectangles, or None where they do not meet."""
        x, y = max(self.x, other.x), max(self.y, other.y)
        right, bottom = min(self.right, other.right), min(self.bottom, other.bottom)
        if x >= right or y >= bottom:
            return None
        return Rect(x, y, right - x, bottom - y)


@dataclass(frozen=True)
class Detections:
    """Detections as arrays, one row a cell; never one object a box.

    Attributes:
        boxes: (N, 4) float64, xyxy; the frame is said by whoever returns them.
        scores: (N,) float32 in 0..1.
        labels: (N,) int64, 0-based indices into the model's classes.
        class_scores: (N, C) float32 in 0..1, the score of every class at each cell's place,
            whatever it is called; None where nobody knows them.
        grades: (N, C + 1) float32, what a second look says of each: probabilities of all classes
            and of background, last; NaN where it did not look. None where there was none.
        planes: (N,) int16, the focal plane in which each was found, 0-based in the slide's order;
            None where there is one.
    """

    boxes: Boxes
    scores: NDArray[np.float32]
    labels: NDArray[np.int64]
    class_scores: NDArray[np.float32] | None = None
    grades: NDArray[np.float32] | None = None
    planes: NDArray[np.int16] | None = None

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, index: NDArray[np.bool_] | NDArray[np.intp] | slice) -> Detections:
        known = None if self.class_scores is None else self.class_scores[index]
        grades = None if self.grades is None else self.grades[index]
        planes = None if self.planes is None else self.planes[index]
        plain = (self.boxes[index], self.scores[index], self.labels[index])
        return Detections(*plain, known, grades, planes)

    @property
    def centers(self) -> NDArray[np.float64]:
        """(N, 2) array of x, y of the boxes' centres."""
        return (self.boxes[:, :2] + self.boxes[:, 2:]) / 2

    @property
    def graded(self) -> NDArray[np.bool_]:
        """(N,) where a second look was: nowhere without grades."""
        if self.grades is None:
            return np.zeros(len(self), bool)
        return ~np.isnan(self.grades[:, 0])

    def plane_of(self, row: int) -> int | None:
        """The focal plane of one of them; None where there is one."""
        return None if self.planes is None else int(self.planes[row])

    def on_plane(self, plane: int | None) -> Detections:
        """The same cells, all found in one focal plane; None for a slide that has one."""
        planes = None if plane is None else np.full(len(self), plane, np.int16)
        return replace(self, planes=planes)

    def placed(self, boxes: Boxes) -> Detections:
        """The same cells with their (N, 4) boxes in another frame, or clipped."""
        return replace(self, boxes=boxes)

    @staticmethod
    def empty() -> Detections:
        """No detections."""
        return Detections(np.zeros((0, 4)), np.zeros(0, np.float32), np.zeros(0, np.int64))

    @staticmethod
    def concatenate(parts: list[Detections]) -> Detections:
        """All rows of all parts, in order; what is optional where all parts have it."""
        parts = [part for part in parts if len(part)]
        if not parts:
            return Detections.empty()
        known = [p.class_scores for p in parts if p.class_scores is not None]
        grades = [p.grades for p in parts if p.grades is not None]
        planes = [p.planes for p in parts if p.planes is not None]
        return Detections(
            np.concatenate([p.boxes for p in parts]),
            np.concatenate([p.scores for p in parts]),
            np.concatenate([p.labels for p in parts]),
            np.concatenate(known) if len(known) == len(parts) else None,
            np.concatenate(grades) if len(grades) == len(parts) else None,
            np.concatenate(planes) if len(planes) == len(parts) else None,
        )


def within_any(boxes: Boxes, areas: Boxes) -> NDArray[np.bool_]:
    """(N,) whether the middle of a box lies in one of the areas."""
    middles = (boxes[:, None, :2] + boxes[:, None, 2:]) / 2
    inside = (middles >= areas[None, :, :2]) & (middles < areas[None, :, 2:])
    return np.asarray(np.any(np.all(inside, axis=2), axis=1))
