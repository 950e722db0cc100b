"""JPEG tiles that lie somewhere in a file and belong somewhere on a level: read by their index.

What scanners' own formats are, once their index is read. Each tile is decoded once, whole or at a
fraction of its size, and kept with those of all other slides.
"""

from __future__ import annotations

import functools
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from configs import Doubt
from data.pixels.jpeg import jpeg_head
from pipeline.errors import ReadError, SlideError
from pipeline.geometry import Rect, Size
from pipeline.slides.readers.base import Color, Fact, Header, Reader, plain, reason, show
from pipeline.slides.readers.grids import (
    Grid,
    shown_by,
    shows_all,
    told_of_gaps,
)
from pipeline.slides.readers.segments import (
    SHARED,
    SHRINKS,
    SHRUNK_LEVELS,
    Samples,
    crop,
    mean_over_squares,
)
from pipeline.slides.readers.tile_jpegs import EOI, SOI, decode_jpeg, is_broken

LONGEST_TILE = 8192
"""Sides of a tile above which an index is taken for damaged, in px."""


MOST_PLACES = 2**26
"""Of tiles on a level: a hundred times those of the largest glass."""


@dataclass(frozen=True)
class Tiles:
    """Where tiles lie; later ones lie on top of earlier ones.

    Attributes:
        x: (N,) left edges on the level, in its pixels.
        y: (N,) upper edges, likewise.
        width: (N,) in pixels.
        height: (N,) likewise.
        offset: (N,) of the first byte.
        count: (N,) of bytes.
        file: (N,) index of the file.
    """

    x: NDArray[np.int64]
    y: NDArray[np.int64]
    width: NDArray[np.int64]
    height: NDArray[np.int64]
    offset: NDArray[np.int64]
    count: NDArray[np.int64]
    file: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.x)

    def place(self, index: int) -> Rect:
        """The part of the level that a tile shows."""
        return Rect(
            int(self.x[index]), int(self.y[index]), int(self.width[index]), int(self.height[index])
        )

    def touching(self, region: Rect) -> NDArray[np.int64]:
        """Indices of the tiles that a region touches, in their order."""
        across = (self.x < region.right) & (self.x + self.width > region.x)
        return np.flatnonzero(across & (self.y < region.bottom) & (self.y + self.height > region.y))

    def telling(self) -> tuple[int, int]:
        """The tile of most bytes, which shows most, and the last one in its file."""
        return int(self.count.argmax()), int(np.lexsort((self.offset, self.file))[-1])


class JpegFiles:
    """The files of a slide, for several threads; a second close does nothing."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = tuple(paths)
        self._lock = threading.Lock()
        self._files: list[BinaryIO] = []
        try:
            self._files = [path.open("rb") for path in paths]
        except OSError:
            self.close()
            raise
        self.sizes = tuple(path.stat().st_size for path in paths)

    @property
    def closed(self) -> bool:
        """Whether they were given back."""
        return not self._files

    def read(self, file: int, offset: int, count: int) -> bytes:
        """Bytes of a file; fewer where it ends.

        Args:
            file: its index.
            offset: of the first one.
            count: how many; the caller sees to it that the file has as many.
        """
        with self._lock:
            if not self._files:
                raise ValueError(f"{show(self.paths[0])} is closed")
            self._files[file].seek(offset)
            return self._files[file].read(count)

    def close(self) -> None:
        """Gives the files back."""
        with self._lock:
            files, self._files = self._files, []
        for file in files:
            file.close()


@contextmanager
def opened(paths: Sequence[Path]) -> Iterator[JpegFiles]:
    """The files of a slide, closed where it can't be opened; what is raised begins with the first.

    Raises:
        SlideError: one can't be read, or what was raised within.
    """
    try:
        files = JpegFiles(paths)
    except OSError as error:
        raise SlideError(f"{show(paths[0])}: can't be read: {error.strerror}") from error
    try:
        yield files
    except SlideError as error:
        files.close()
        raise SlideError(f"{show(paths[0])}: {error.text}", error.code) from error
    except BaseException:
        files.close()
        raise


class PlacedLevel(ABC):
    """One level of a slide, of tiles that lie anywhere on it.

    Attributes:
        size: of the level, in px.
        tiles: of it.
        coarser: the next level, whose tiles and this one's lie in grids; it tells whether tiles
            that aren't there were lost.

    Args:
        files: hold the tiles.
        size: of the level, in px.
        tiles: of it; what none of them covers was never scanned.
        background: colour of that.
    """

    def __init__(self, files: JpegFiles, size: Size, tiles: Tiles, background: Color) -> None:
        self.size = size
        self.tiles = tiles
        self._files = files
        self._background = background
        self.coarser: PlacedLevel | None = None
        self.shrinks = tuple(shrink for shrink in SHRINKS if self._shrinks(shrink))

    @abstractmethod
    def _decode(self, index: int, shrink: int) -> Samples:
        """A tile's pixels, at least as many as it shows of the level.

        Raises:
            ReadError: it is damaged, or not what the index says.
        """

    def read(self, region: Rect, shrink: int = 1) -> NDArray[np.uint8]:
        """Pixels (height, width, 3) RGB of a region in px of the level, shrunk.

        Raises:
            ReadError: a tile can't be read, is damaged, or was lost.
        """
        canvas = plain(Size(region.width, region.height), self._background)
        large = Rect(*(side * shrink for side in (region.x, region.y, region.width, region.height)))
        if self.coarser and self.gaps:
            for row, column in self.gaps.gaps_in(large):
                check = functools.partial(self._check_blank, self.gaps.place(row, column))
                SHARED.get((self, "gap", row, column), check)
        for index in self.tiles.touching(large):
            here = self._place(int(index), shrink)
            common = here.intersection(region)
            if common:
                crop(canvas, common, region)[:] = crop(self._get(int(index), shrink), common, here)
        return canvas

    @property
    def side(self) -> Size:
        """Of a whole tile."""
        return Size(int(self.tiles.width.max()), int(self.tiles.height.max()))

    @property
    def lossy(self) -> Size | None:
        """See `pipeline.slides.readers.grids.Coarser`; JPEG's are, and others may be."""
        return self.side

    @functools.cached_property
    def grid(self) -> Grid | None:
        """Where it has tiles, which lie in a grid; None where they are too small to be counted."""
        side = self.side
        rows, columns = -(-self.size.height // side.height), -(-self.size.width // side.width)
        if rows * columns > MOST_PLACES:
            return None
        stored = np.zeros((rows, columns), bool)
        stored[self.tiles.y // side.height, self.tiles.x // side.width] = True
        return Grid(stored, side, self.size)

    @functools.cached_property
    def gaps(self) -> Grid | None:
        """The grid of its tiles; None where they fill it, or are too small to be counted."""
        return self.grid if self.grid and self.grid.gaps else None

    def _check_blank(self, place: Rect) -> None:
        """Looks whether a tile that isn't there was never scanned, or was lost.

        Raises:
            ReadError: it was lost.
        """
        if shown := shown_by(self.coarser, place, self.size):
            raise ReadError(
                f"{show(self._files.paths[0])}: the tile at {place.x}, {place.y} of its level of "
                f"{self.size.width} x {self.size.height} px is not there, while that of {shown} "
                "shows something there; copy the slide again"
            )

    def _place(self, index: int, shrink: int) -> Rect:
        """What of the level, shrunk, a tile shows: whole squares of it, within the level."""
        whole = Rect(0, 0, self.size.width // shrink, self.size.height // shrink)
        place = self.tiles.place(index)
        sides = (place.x, place.y, place.width, place.height)
        part = Rect(*(side // shrink for side in sides)).intersection(whole)
        return part or Rect(0, 0, 0, 0)

    def _get(self, index: int, shrink: int) -> Samples:
        pixels = SHARED.get((self, index, shrink), lambda: self._decode(index, shrink))
        assert pixels is not None
        return pixels

    def _stored(self, index: int) -> bytes:
        tiles = self.tiles
        try:
            return self._files.read(
                int(tiles.file[index]), int(tiles.offset[index]), int(tiles.count[index])
            )
        except OSError as error:
            raise ReadError(f"{show(self._files.paths[0])}: {error.strerror}") from error

    def _where(self, index: int) -> str:
        file = self._files.paths[int(self.tiles.file[index])]
        return f"byte {self.tiles.offset[index]} of {show(file.name)}"

    def _shrinks(self, shrink: int) -> bool:
        """Whether tiles begin where squares do, and look decoded smaller as their means do."""
        tiles = self.tiles
        if min(self.size.width, self.size.height) < shrink or any(
            (side % shrink).any() for side in (tiles.x, tiles.y)
        ):
            return False
        inner = (tiles.x + tiles.width < self.size.width) & (tiles.width % shrink != 0)
        lower = (tiles.y + tiles.height < self.size.height) & (tiles.height % shrink != 0)
        if inner.any() or lower.any():
            return False
        fullest, _ = tiles.telling()
        try:
            whole, shrunk = self._decode(fullest, 1), self._decode(fullest, shrink)
        except ReadError:
            return False
        means = mean_over_squares(whole, shrink)
        shrunk = shrunk[: means.shape[0], : means.shape[1]]
        return bool(np.abs(means - shrunk.astype(np.float32)).mean() < SHRUNK_LEVELS)


class JpegLevel(PlacedLevel):
    """A level whose tiles are JPEG; see `PlacedLevel`."""

    def check_end(self) -> None:
        """Looks whether the index means tiles, at the last one.

        Raises:
            SlideError: it doesn't.
        """
        _, last = self.tiles.telling()
        data = self._stored(last)
        if not data.startswith(SOI) or not data.rstrip(b"\0").endswith(EOI):
            raise SlideError(
                f"its index says that a JPEG of {len(data)} bytes lies at {self._where(last)}, "
                "which is none; copy the slide again"
            )

    def _decode(self, index: int, shrink: int) -> Samples:
        """See `PlacedLevel`."""
        data = self._stored(index)
        problem = self._problem(data, index)
        if problem:
            raise ReadError(f"the tile at {self._where(index)} {problem}")
        try:
            pixels = decode_jpeg(data, shrink)
        except Exception as error:  # each codec has errors of its own
            raise ReadError(f"the tile at {self._where(index)}: {reason(error)}") from error
        corner = pixels[-8 // shrink :, -8 // shrink :]
        if (corner == 128).all() and pixels.size > corner.size:
            raise ReadError(f"the tile at {self._where(index)} is damaged: it ends in grey")
        return pixels

    def _problem(self, data: bytes, index: int) -> str | None:
        """What is wrong with the bytes of a tile, before it is decoded; None for nothing."""
        if len(data) < self.tiles.count[index]:
            return "is cut off: the file ends within it"
        head = jpeg_head(data)
        if not data.startswith(SOI) or head is None:
            return "is no JPEG"
        if head.precision != 8 or len(head.components) not in (1, 3):
            return f"is a JPEG of {len(head.components)} x {head.precision} bits, not of RGB"
        width, height = head.size
        place = self.tiles.place(index)
        shown = place.intersection(Rect(0, 0, self.size.width, self.size.height)) or place
        if width < shown.width or height < shown.height or max(width, height) > LONGEST_TILE:
            return f"has {width} x {height} px, where {shown.width} x {shown.height} belong"
        return "is damaged" if is_broken(data) else None


class PlacedReader(Reader):
    """A slide of such levels.

    Args:
        files: open; closed with this.
        levels: finest first.
        header: of the slide.
    """

    library = "imagecodecs"

    def __init__(self, files: JpegFiles, levels: Sequence[PlacedLevel], header: Header) -> None:
        self.header = header
        self.files = files.paths
        self._files = files
        self._levels = tuple(levels)
        for fine, coarse in pairwise(self._levels):
            fine.coarser = coarse

    def shrinks(self, level: int) -> tuple[int, ...]:
        """See `Reader.shrinks`."""
        return self._levels[level].shrinks

    def read(self, level: int, region: Rect, shrink: int = 1) -> NDArray[np.uint8]:
        """See `Reader.read`."""
        return self._levels[level].read(region, shrink)

    def telling(self) -> Iterator[tuple[int, Rect]]:
        """A level and a tile's place on it: those that say whether somebody else reads the same."""
        for number, level in enumerate(self._levels):
            whole = Rect(0, 0, level.size.width, level.size.height)
            for index in level.tiles.telling():
                place = level.tiles.place(index).intersection(whole)
                if place:
                    yield number, place

    def close(self) -> None:
        """See `Reader.close`."""
        self._files.close()


def is_whole(coarse: PlacedLevel, fine: PlacedLevel) -> bool:
    """Whether a level shows something wherever a finer one does: else tissue might look blank.

    Tiles of both have to lie in grids; see `grid_problem`.
    """
    if not len(coarse.tiles) or not len(fine.tiles):
        return not len(fine.tiles)
    own, finer = coarse.grid, fine.grid
    return own is not None and finer is not None and shows_all(own, finer)


def gaps_of(levels: Sequence[PlacedLevel]) -> tuple[tuple[Fact, ...], tuple[Doubt, ...]]:
    """What is told of tiles that the finest level lacks.

    Tiles have to lie in grids; see `grid_problem`.

    Args:
        levels: finest first.
    """
    finest, *coarser = levels
    if finest.gaps is None:
        return (), ()
    return told_of_gaps(finest.gaps, coarser[0] if coarser else None)


def grid_problem(tiles: Tiles, size: Size, side: tuple[int, int]) -> str | None:
    """Why tiles are no grid of equal ones, but for smaller ones at the ends; None where they are.

    Args:
        tiles: of a level.
        size: of that level, in px.
        side: width and height of a tile.
    """
    if ((tiles.x % side[0]) | (tiles.y % side[1])).any():
        return "a tile lies beside the grid of tiles"
    if ((tiles.x >= size.width) | (tiles.y >= size.height)).any():
        return "a tile lies outside of the level"
    places = tiles.y // side[1] * (size.width // side[0] + 1) + tiles.x // side[0]
    if len(np.unique(places)) < len(places):
        return "two tiles lie at one place"
    for start, length, tile, whole in (
        (tiles.x, tiles.width, side[0], size.width),
        (tiles.y, tiles.height, side[1], size.height),
    ):
        shown = np.minimum(tile, whole - start)
        if (length > tile).any() or (length < shown).any():
            return f"a tile is none of {side[0]} x {side[1]} px"
    return None
