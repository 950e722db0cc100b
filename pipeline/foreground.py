"""Where cells are on a slide, so that empty glass is not screened."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from pipeline.geometry import Boxes


@dataclass(frozen=True)
class Foreground:
    """A low-resolution mask of a slide.

    Attributes:
        mask: (H, W) bool, True where cells may be. Pixel (row, column) stands for the level-0
            area that starts at (column, row) * ``downsample``.
        downsample: level-0 pixels per mask pixel, the same in x and y.
    """

    mask: NDArray[np.bool_]
    downsample: float

    def fraction(self) -> float:
        """Share of the mask that is foreground, 0..1."""
        return float(self.mask.mean()) if self.mask.size else 0.0

    def area_px0(self) -> float:
        """Area of the foreground in level-0 pixels."""
        return float(self.mask.sum()) * self.downsample**2

    def any_in(self, boxes: Boxes) -> NDArray[np.bool_]:
        """Says (N,) which level-0 boxes (N, 4) meet the foreground.

        A mask pixel that a box covers in part counts; an empty box meets nothing.
        """
        height, width = self.mask.shape
        last = np.array([width, height])
        left, top = _pixel_corners(np.floor(boxes[:, :2] / self.downsample), last)
        right, bottom = _pixel_corners(np.ceil(boxes[:, 2:] / self.downsample), last)
        total = self._integral
        count = total[bottom, right] - total[top, right] - total[bottom, left] + total[top, left]
        empty = np.any(boxes[:, :2] >= boxes[:, 2:], axis=1)
        return np.asarray((count > 0) & ~empty)

    @cached_property
    def _integral(self) -> NDArray[np.int64]:
        """(H + 1, W + 1) number of foreground pixels above and left of each pixel's corner."""
        counts = self.mask.cumsum(axis=0, dtype=np.int64).cumsum(axis=1)
        return np.pad(counts, ((1, 0), (1, 0)))


def _pixel_corners(corners: NDArray[np.float64], last: NDArray[np.intp]) -> NDArray[np.intp]:
    return np.clip(corners, 0, last).astype(np.intp).T
