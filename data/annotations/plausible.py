"""Whether boxes are what they should be: pixels, and not shares; extents, and not corners."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from configs import ConfigError
from configs.doubts import with_code
from data.annotations.formats import ONE_IMAGE
from data.annotations.locating import Located
from data.annotations.placing import Placed

_BY_EXTENT = frozenset({"coco", "via"})
"""Formats whose boxes are a corner, and width and height."""

_FIRST_PIXELS = 2.0
"""Where all boxes end that are shares of the image; corner and extent are up to 1 each."""

_BEYOND = 0.02
"""Share of the image by which a box may reach over its border, as one drawn by hand does."""

_CORNERS = 0.2
"""Share of boxes reaching over the border from which on they are taken for corners."""

Boxes = NDArray[np.float64]


class Plausibility:
    """Gathers the boxes of a set, as they were drawn, and judges them together."""

    def __init__(self) -> None:
        self._groups: dict[tuple[str, Path | None], list[tuple[Path, Boxes, Boxes]]] = defaultdict(
            list
        )

    def add(self, one: Located, placed: Placed) -> None:
        """Takes the boxes of an image; files of one image are judged by all of their set."""
        drawn = ~one.drawing.marks
        drawn[list(one.drawing.outlines)] = False
        key = one.format, None if one.format in ONE_IMAGE else one.path
        boxes = placed.boxes[drawn]
        if len(boxes):
            sizes = np.tile(placed.size.astype(np.float64), (len(boxes), 1))
            self._groups[key].append((one.path, boxes, sizes))

    def check(self) -> None:
        """Judges what was gathered.

        Raises:
            ConfigError: the boxes of a file aren't what its format has.
        """
        for (format, _), group in self._groups.items():
            path = group[0][0]
            boxes = np.concatenate([boxes for _, boxes, _ in group])
            sizes = np.concatenate([sizes for _, _, sizes in group])
            if format != "yolo":
                _check_shares(path, boxes, sizes)
            if format in _BY_EXTENT:
                _check_corners(path, boxes, sizes)


def _check_shares(path: Path, boxes: Boxes, sizes: Boxes) -> None:
    start, end = boxes[:, :2], boxes[:, 2:]
    within = (start >= -1).all() and (end <= _FIRST_PIXELS).all()  # VOC counts from 1
    if within and (end > start).all(1).any() and (sizes > 10 * _FIRST_PIXELS).all():
        raise ConfigError(
            with_code(
                f"{path}: all boxes lie within the first two pixels of their images: they seem to "
                "be shares of the image, not pixels; multiply by its width and height",
                "boxes-are-shares",
            )
        )


def _check_corners(path: Path, boxes: Boxes, sizes: Boxes) -> None:
    """Refuses boxes that reach over the border as extents, and all fit as corners."""
    start, extent = boxes[:, :2], boxes[:, 2:] - boxes[:, :2]
    fits = ((extent > start) & (extent <= sizes * (1 + _BEYOND))).all(1)
    beyond = (boxes[:, 2:] > sizes * (1 + _BEYOND)).any(1)
    if fits.all() and beyond.mean() >= _CORNERS:
        raise ConfigError(
            with_code(
                f"{path}: {beyond.sum()} of {len(boxes)} boxes reach over the border of their "
                "images as x, y, width, height, while all fit as x_min, y_min, x_max, y_max: they "
                "seem to be corners; write widths and heights",
                "boxes-are-corners",
            )
        )


def repeated(boxes: Boxes, names: NDArray[np.object_]) -> tuple[int, int]:
    """How many boxes were there before.

    Args:
        boxes: (N, 4).
        names: (N,) their classes.

    Returns:
        How many boxes of the same class were there before, and how many have several classes.
    """
    if not len(boxes):
        return 0, 0
    _, places = np.unique(boxes, axis=0, return_inverse=True)
    classes = np.unique(names.astype(str), return_inverse=True)[1]
    pairs = np.unique(np.column_stack([places.ravel(), classes]), axis=0)
    return len(boxes) - len(pairs), int((np.bincount(pairs[:, 0]) > 1).sum())
