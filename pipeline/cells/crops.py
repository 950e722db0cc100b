"""The pixels of single cells, at a grader's scale."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.cells.nms import Rows
from pipeline.errors import ReadError
from pipeline.geometry import Size
from pipeline.slides.slide import Slide

STRIP = 2.0
"""Height, in crops, of the strips in which crops are read from left to right: what a slide stores
in tiles is then decoded once for all crops that share it."""


def reading_order(
    centers: NDArray[np.float64], side: float, planes: NDArray[np.int16] | None = None
) -> Rows:
    """(N,) order in which neighbours are read together.

    Args:
        centers: (N, 2) x and y in level-0 pixels.
        side: of a crop in level-0 pixels.
        planes: (N,) focal planes, one after the other; None where there is one.
    """
    x, y = centers.T
    of_plane = np.zeros(len(x)) if planes is None else planes
    return np.lexsort((y, x, np.floor(y / (STRIP * side)), of_plane))


def read_crop(
    slide: Slide,
    center: NDArray[np.float64],
    size: int,
    downsample: float,
    plane: int | None = None,
) -> NDArray[np.uint8] | None:
    """The square around a cell; None where it can't be read.

    Args:
        slide: the slide.
        center: x and y of its middle in level-0 pixels.
        size: of the crop in pixels.
        downsample: level-0 pixels per pixel of it; below 1 where the slide is coarser.
        plane: the focal plane; None for the slide's own.

    Returns:
        (size, size, 3) RGB, background where the slide ends; not always writable.
    """
    left, top = (center - size * downsample / 2).tolist()
    try:
        return slide.on_plane(plane).read_region(left, top, Size(size, size), downsample)
    except ReadError:
        return None
