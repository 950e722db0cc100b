"""Where on a level tiles are stored, and whether a coarser level shows what the finest one does.

A tile that isn't stored was never scanned, or was lost. Where the next coarser level shows
something at its place it was lost, and the place is unread. Whether it shows something is told by
how its pixels differ, not by their colour: writers fill with white, black or grey.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from configs import Doubt
from pipeline.geometry import Rect, Size
from pipeline.slides.readers.base import Fact, levels_of

FAR = 8
"""Levels of 255 by which pixels of a coarser level differ where it shows something."""

_BORDER = 2
"""Pixels of a coarser level around a tile's place that may show what lies beside it."""

_BLOCK = 16
"""Sides of the blocks of a lossy tile, in each of which all pixels say a little of all others."""


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

    @property
    def gaps(self) -> int:
        """How many places have no tile."""
        return int(np.count_nonzero(~self.stored))

    def place(self, row: int, column: int) -> Rect:
        """What of the level a tile shows."""
        x, y = column * self.side.width, row * self.side.height
        width = min(self.side.width, self.size.width - x)
        return Rect(x, y, width, min(self.side.height, self.size.height - y))

    def gaps_in(self, region: Rect) -> Iterator[tuple[int, int]]:
        """Rows and columns of the places without a tile that a region touches."""
        top, left = region.y // self.side.height, region.x // self.side.width
        down, across = -(-region.bottom // self.side.height), -(-region.right // self.side.width)
        for row, column in np.argwhere(~self.stored[top:down, left:across]).tolist():
            yield top + row, left + column

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


def on_coarser(place: Rect, size: Size, coarser: Size, lossy: Size | None = None) -> Rect | None:
    """Where a coarser level shows a place, and nothing of what lies beside it; None for nowhere.

    Args:
        place: on the finer level.
        size: of that level.
        coarser: size of the coarser one.
        lossy: sides of its tiles, where these lose something; None where they don't.
    """
    down = across = levels_of((size, coarser))[1].downsample
    if not float(across).is_integer():
        across, down = size.width / coarser.width, size.height / coarser.height
    wide, high = (lossy.width, lossy.height) if lossy else (None, None)
    left, right = _inside(place.x, place.right, size.width, across, wide)
    top, bottom = _inside(place.y, place.bottom, size.height, down, high)
    right, bottom = min(right, coarser.width), min(bottom, coarser.height)
    if right <= left or bottom <= top:
        return None
    return Rect(left, top, right - left, bottom - top)


class Coarser(Protocol):
    """The level behind another one, which tells whether a tile that isn't stored there was lost."""

    @property
    def size(self) -> Size:
        """Of the level in px."""
        ...

    @property
    def lossy(self) -> Size | None:
        """Sides of its tiles where these may lose something; None where they don't."""
        ...

    def read(self, region: Rect, shrink: int = 1) -> NDArray[np.uint8]:
        """(height, width, 3) RGB of a region of it."""
        ...


def shows_something(pixels: NDArray[np.uint8]) -> bool:
    """Whether pixels (height, width, 3) are more than one colour that fills what wasn't scanned."""
    return bool(np.ptp(pixels, axis=(0, 1)).max() > FAR)


def shown_by(coarser: Coarser | None, place: Rect, size: Size) -> str:
    """The coarser level, by its size, where it shows something at a place; else empty.

    Args:
        coarser: the next level; None for none.
        place: of a tile on the finer level.
        size: of that level.
    """
    inner = on_coarser(place, size, coarser.size, coarser.lossy) if coarser else None
    if coarser is None or inner is None or not shows_something(coarser.read(inner)):
        return ""
    return f"{coarser.size.width} x {coarser.size.height} px"


def fact_of_gaps(finest: Grid, how: str) -> Fact:
    """How many tiles of the finest level aren't stored, and how these places are shown."""
    value = f"{finest.gaps} of {finest.stored.size} of the finest level; {how}"
    return Fact(name="tiles not stored", value=value, source="file")


def told_of_gaps(
    finest: Grid, coarser: Coarser | None
) -> tuple[tuple[Fact, ...], tuple[Doubt, ...]]:
    """What is told of tiles of the finest level that aren't stored; nothing where all are.

    Args:
        finest: where it has tiles.
        coarser: the next level; None for none.
    """
    if not finest.gaps:
        return (), ()
    inner = Rect(finest.side.width, finest.side.height, finest.side.width, finest.side.height)
    if coarser and on_coarser(inner, finest.size, coarser.size, coarser.lossy):
        how = "shown as glass where no coarser level shows something"
        return (fact_of_gaps(finest, how),), ()
    text = (
        f"{finest.gaps} of {finest.stored.size} of the finest level are not stored, and no coarser "
        "level tells whether they were never scanned or lost; shown as glass"
    )
    return (fact_of_gaps(finest, "shown as glass"),), (Doubt(code="tiles-missing", text=text),)


def _inside(
    first: int, last: int, whole: int, downsample: float, tile: int | None
) -> tuple[int, int]:
    """Pixels of a coarser level between two edges, less what may show something beside them."""
    start, end = first / downsample, last / downsample
    if first > 0:
        start = (math.ceil(start) if tile is None else _block(start, tile, up=True)) + _BORDER
    if last < whole:
        end = (math.floor(end) if tile is None else _block(end, tile, up=False)) - _BORDER
    return math.floor(start), math.ceil(end)


def _block(edge: float, tile: int, *, up: bool) -> int:
    """The next edge of a block of a tile, up or down."""
    before = int(edge // tile) * tile
    blocks = (edge - before) / _BLOCK
    return before + min(tile, (math.ceil(blocks) if up else math.floor(blocks)) * _BLOCK)


def _middles(numbers: NDArray[np.intp], side: int, whole: int, other: int) -> NDArray[np.int64]:
    """Where the middles of tiles lie along an axis of another level."""
    middles = (numbers * side + np.minimum((numbers + 1) * side, whole)) / 2
    return (middles * (other / whole)).astype(np.int64)
