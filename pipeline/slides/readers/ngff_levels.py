"""One level of an OME-Zarr: pixels of regions, and of what isn't stored whether it was lost.

* A chunk that isn't stored stands for the fill value, as Zarr says, where the next coarser level
  shows nothing but that there, too. Where it shows something, the chunk was lost: unread.
* Without a coarser level nobody can tell the one from the other: the fill value is shown, and it is
  told. Where only some of the channels are stored, the place is unread.
* A fill value that no glass has, mostly 0, says that nobody looked there: on every level white
  stands for it, as for what other formats' slides leave out.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ReadError
from pipeline.geometry import Rect, Size
from pipeline.slides.readers.base import WHITE, show
from pipeline.slides.readers.grids import FAR, on_coarser
from pipeline.slides.readers.segments import SHARED, crop
from pipeline.slides.readers.zarr_array import ZarrArray

LIGHT = 200
"""The least fill value that glass may have."""


class NgffLevel:
    """One level of one focal plane.

    Args:
        array: its samples.
        axes: their names.
        z: the plane.
        size: width and height.
    """

    def __init__(self, array: ZarrArray, axes: Sequence[str], z: int, size: Size) -> None:
        self.size = size
        self._array = array
        self._axes = tuple(axes)
        self._z = z
        chunk = dict(zip(axes, array.chunk, strict=True))
        self.side = Size(chunk["x"], chunk["y"])
        self._deep = chunk["c"]
        self.coarser: NgffLevel | None = None
        self._finest: NgffLevel | None = None

    def as_glass(self, finest: NgffLevel) -> None:
        """Has white stand for the fill value where the finest level has no chunk."""
        self._finest = finest

    @functools.cached_property
    def blank(self) -> NDArray[np.bool_]:
        """(rows, columns) places where nothing is stored."""
        return np.logical_not(self.stored.any(axis=2))

    @property
    def stored(self) -> NDArray[np.bool_]:
        """(rows, columns, parts) which chunks are there; parts hold some of the channels each."""
        where = {"t": 0, "z": self._plane[0]}
        picked = self._array.present[tuple(where.get(axis, slice(None)) for axis in self._axes)]
        left = [axis for axis in self._axes if axis not in where]
        return picked.transpose([left.index(axis) for axis in ("y", "x", "c")])

    @property
    def fill(self) -> int:
        """What is shown where nothing is stored."""
        return self._array.fill

    @property
    def key(self) -> str:
        """Of its array."""
        return self._array.key

    @property
    def _plane(self) -> tuple[int, int]:
        """The chunk that holds the plane, and which of the chunk's it is."""
        deep = dict(zip(self._axes, self._array.chunk, strict=True)).get("z", 1)
        return divmod(self._z, deep)

    def read(self, region: Rect) -> NDArray[np.uint8]:
        """Pixels (height, width, 3) of a region.

        Raises:
            ReadError: a chunk is damaged, or was lost.
        """
        canvas = self._shown(region)
        if self._finest is not None:
            never = np.ix_(
                self._finest.rows_of(region.y, region.bottom, self.size.height),
                self._finest.columns_of(region.x, region.right, self.size.width),
            )
            unseen = self._finest.blank[never]
            if unseen.any():
                filled = (np.abs(canvas.astype(np.int16) - self.fill) <= FAR).all(axis=2)
                canvas[unseen & filled] = WHITE
        return canvas

    def rows_of(self, first: int, last: int, whole: int) -> NDArray[np.int64]:
        """The rows of chunks that rows of pixels lie in, of a level so many pixels high."""
        return _chunks(first, last, self.size.height / whole, self.side.height, len(self.blank))

    def columns_of(self, first: int, last: int, whole: int) -> NDArray[np.int64]:
        """Likewise, columns."""
        most = self.blank.shape[1]
        return _chunks(first, last, self.size.width / whole, self.side.width, most)

    def _shown(self, region: Rect) -> NDArray[np.uint8]:
        """What Zarr says that a region shows."""
        canvas = np.empty((region.height, region.width, 3), np.uint8)
        rows = range(region.y // self.side.height, -(-region.bottom // self.side.height))
        columns = range(region.x // self.side.width, -(-region.right // self.side.width))
        for row, column in itertools.product(rows, columns):
            place = self._place(row, column)
            common = place.intersection(region)
            assert common is not None
            tile = SHARED.get((self, row, column), functools.partial(self._tile, row, column))
            assert tile is not None
            crop(canvas, common, region)[:] = crop(tile, common, place)
        return canvas

    def _place(self, row: int, column: int) -> Rect:
        """What of the level a chunk shows."""
        x, y = column * self.side.width, row * self.side.height
        width = min(self.side.width, self.size.width - x)
        return Rect(x, y, width, min(self.side.height, self.size.height - y))

    def _tile(self, row: int, column: int) -> NDArray[np.uint8]:
        """The pixels of a place in the grid of chunks."""
        place = self._place(row, column)
        tile = np.empty((place.height, place.width, 3), np.uint8)
        parts = range(-(-3 // self._deep))
        stored = self.stored[row, column]
        for part in parts:
            channels = slice(part * self._deep, min(3, (part + 1) * self._deep))
            chunk = self._array.read(self._at(row, column, part))
            if chunk is None:
                self._check_blank(place, channels, bool(stored.any()))
                tile[:, :, channels] = self.fill
                continue
            pixels = self._turned(chunk)[: place.height, : place.width]
            tile[:, :, channels] = pixels[:, :, : channels.stop - channels.start]
        return tile

    def _at(self, row: int, column: int, part: int) -> tuple[int, ...]:
        numbers = {"t": 0, "z": self._plane[0], "y": row, "x": column, "c": part}
        return tuple(numbers[axis] for axis in self._axes)

    def _turned(self, chunk: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """(H, W, channels) of a chunk."""
        where = {"t": 0, "z": self._plane[1]}
        plane = chunk[tuple(where.get(axis, slice(None)) for axis in self._axes)]
        left = [axis for axis in self._axes if axis not in where]
        return plane.transpose([left.index(axis) for axis in ("y", "x", "c")])

    def _check_blank(self, place: Rect, channels: slice, others: bool) -> None:
        """Looks whether a chunk that isn't stored was never written, or was lost.

        Args:
            place: that it would show.
            channels: likewise.
            others: whether other channels are stored there.

        Raises:
            ReadError: it was lost, or nobody can tell.
        """
        where = f"the chunk at {place.x}, {place.y} of its array {show(self.key)} is not there"
        level = self.coarser
        inner = on_coarser(place, self.size, level.size) if level else None
        if level is None or inner is None:
            if others:
                raise ReadError(f"{where}, while those of other channels are")
            return
        shown = level._shown(inner)[:, :, channels].astype(np.int16)
        if (np.abs(shown - self.fill) > FAR).any():
            raise ReadError(f"{where}, while its array {show(level.key)} shows something there")


def _chunks(first: int, last: int, factor: float, side: int, count: int) -> NDArray[np.int64]:
    """The chunks that pixels of a coarser level lie in, by their middles."""
    middles = (np.arange(first, last) + 0.5) * factor
    return (middles // side).astype(np.int64).clip(0, count - 1)
