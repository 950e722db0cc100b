"""Where on a level tiles are stored, and whether a coarser level shows what the finest one does."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.geometry import Size


@dataclass(frozen=True)
class Grid:
    """The tiles of a level, of equal sides.

    Attributes:
        stored: (rows, columns) whether there is one.
        side: of a tile, in px.
        size: of the level, in px.
    """

    stored: NDArray[np.bool_]
    side: Size
    size: Size

    def under(self, other: Grid, places: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Whether a tile of this level lies under the middle of each of some places of another."""
        rows, columns = np.nonzero(places)
        down = _middles(rows, other.side.height, other.size.height, self.size.height)
        across = _middles(columns, other.side.width, other.size.width, self.size.width)
        most = self.stored.shape
        down = (down // self.side.height).clip(0, most[0] - 1)
        across = (across // self.side.width).clip(0, most[1] - 1)
        return np.asarray(self.stored[down, across])


def shows_all(coarse: Grid, fine: Grid) -> bool:
    """Whether a level has a tile wherever a finer one has: else tissue might look blank.

    Tiles of either level may be the larger ones, so that both are looked at by their middles.
    """
    if coarse.stored.all():
        return True
    there = coarse.under(fine, fine.stored)
    lost = fine.under(coarse, ~coarse.stored)
    return bool(there.all() and not lost.any())


def _middles(numbers: NDArray[np.intp], side: int, whole: int, other: int) -> NDArray[np.int64]:
    """Where the middles of tiles lie along an axis of another level."""
    middles = (numbers * side + np.minimum((numbers + 1) * side, whole)) / 2
    return (middles * (other / whole)).astype(np.int64)
