"""KFB, the format of KFBIO's scanners: JPEG tiles behind an index, by size and place.

What is known of the format is what the package kfbslide (MIT) reads of it; no description of the
maker's is public. Sections are ``f? NN ee ee ... ff NN ee ee``: 1 has sizes, scale and where the
index lies, 2 and 3 the pictures of the glass and its label, which end where the tiles begin. The
index has 64 bytes a tile, and no offset: tiles follow each other in its order. All numbers are
little-endian.

A count is believed only as far as the file reaches. What kfbslide mends (an index that is off, a
tile of another size) is not mended here: the tile is unread, or the file refused.
"""

from __future__ import annotations

import math
import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import SlideError
from pipeline.geometry import Size
from pipeline.slides.readers.base import WHITE, Fact, Header, levels_of
from pipeline.slides.readers.placed import (
    LONGEST_TILE,
    JpegFiles,
    JpegLevel,
    PlacedReader,
    Tiles,
    gaps_of,
    grid_problem,
    is_whole,
    opened,
)

HEAD = 2**20
"""Bytes in which the sections have to begin, and within which behind the pictures the tiles."""

PICTURES = 2**26
"""Most bytes before the tiles: the pictures of the glass and its label have some MB."""

_RECORD = np.dtype(
    {
        "names": ["x", "y", "width", "height", "scale", "count"],
        "formats": ["<u4", "<u4", "<u4", "<u4", "<f4", "<u4"],
        "offsets": [4, 8, 12, 16, 20, 32],
        "itemsize": 64,
    }
)
_SHORTEST, _LONGEST = 88, 100_000
_SEARCHED = 10_000
_COPY = "; copy the slide again"


def open_kfb(path: Path) -> PlacedReader:
    """Opens a KFB slide.

    Raises:
        SlideError: it is none, is damaged, or holds what contradicts itself.
    """
    with opened([path]) as files:
        levels, header = _Parser(files).parse()
        levels[0].check_end()
        return PlacedReader(files, levels, header)


def says_kfb(start: bytes) -> bool:
    """Whether the first bytes of a file say that it is KFB."""
    return len(start) >= 7 and start[1:4] == b"\x01\xee\xee" and start[4:7] == b"KFB"


class _Parser:
    """Reads the sections and the index of an open file."""

    def __init__(self, files: JpegFiles) -> None:
        self._files = files
        self._size = files.sizes[0]
        self._head = files.read(0, 0, min(HEAD, self._size))

    def parse(self) -> tuple[list[JpegLevel], Header]:
        """Levels, finest first, and what the file says of itself."""
        first = self._section(0, 1)
        if not says_kfb(self._head[:8]) or first is None:
            raise SlideError(f"is no KFB slide, or its head is damaged{_COPY}")
        if len(first) < _SHORTEST:
            raise SlideError(f"its head has {len(first)} bytes, {_SHORTEST} at least belong{_COPY}")
        tiles, height, width, power = struct.unpack_from("<4I", first, 12)
        _, start = struct.unpack_from("<2Q", first, 56)
        (mpp,) = struct.unpack_from("<f", first, 72)
        (side,) = struct.unpack_from("<I", first, 84)
        if not 0 < side <= LONGEST_TILE:
            raise SlideError(f"its head says that tiles have {side} px a side{_COPY}")
        most = 2 * math.ceil(width / side) * math.ceil(height / side) + 1000
        if tiles > most:
            raise SlideError(
                f"its head says that {width} x {height} px have {tiles} tiles of {side} px, where "
                f"{most} at most could be{_COPY}"
            )
        if not power:
            raise SlideError("its head states no magnification, which tells its levels apart")
        records = self._records(start, tiles)
        offsets = self._offsets(records, len(first) + 8, start)
        levels, left_out = self._levels_of(records, offsets, Size(width, height), power, side)
        mpp = float(f"{mpp:.7g}")
        facts, doubts = gaps_of(levels)
        header = Header(
            format="kfbio",
            levels=levels_of(tuple(level.size for level in levels)),
            mpp=(mpp, mpp),
            objective=float(power),
            facts=(*left_out, *facts),
            doubts=doubts,
        )
        return levels, header

    def _section(self, at: int, kind: int) -> bytes | None:
        """The content of a section that begins there; None where none does."""
        data = self._head
        if data[at + 1 : at + 4] != bytes([kind, 0xEE, 0xEE]):
            return None
        end = data.find(bytes([0xFF, kind, 0xEE, 0xEE]), at + 4, at + 4 + _LONGEST)
        return data[at + 4 : end] if end >= 0 else None

    def _records(self, start: int, count: int) -> NDArray[np.void]:
        length = count * _RECORD.itemsize
        if not count:
            raise SlideError("its head says that it has no tiles")
        if start + length > self._size:
            raise SlideError(
                f"its index of {count} tiles at byte {start} lies beyond its end, at "
                f"{self._size}{_COPY}"
            )
        return np.frombuffer(self._files.read(0, start, length), _RECORD)

    def _offsets(self, records: NDArray[np.void], behind: int, index: int) -> NDArray[np.int64]:
        """Where each tile begins: they follow each other, behind the pictures."""
        first = self._first_tile(behind)
        counts = records["count"].astype(np.int64)
        ends = first + np.cumsum(counts)
        limit = index if index > first else self._size
        if int(ends[-1]) > limit:
            what = "its end" if limit == self._size else "its index"
            raise SlideError(
                f"its tiles reach to byte {ends[-1]}, beyond {what}, at {limit}{_COPY}"
            )
        if (counts == 0).any():
            raise SlideError(f"its index has tiles of no bytes{_COPY}")
        return np.asarray(ends - counts)

    def _first_tile(self, behind: int) -> int:
        pictures = self._pictures(behind)
        if not behind < pictures <= min(PICTURES, self._size):
            raise SlideError(f"its pictures of glass and label end at byte {pictures}{_COPY}")
        found = self._files.read(0, pictures, HEAD).find(b"\xff\xd8\xff")
        if found < 0:
            raise SlideError(f"there is no tile behind its pictures, at byte {pictures}{_COPY}")
        return pictures + found

    def _pictures(self, behind: int) -> int:
        """Where the pictures of the glass and its label end."""
        at = behind
        while 0 <= (at := self._head.find(b"\x02\xee\xee", at)) < behind + _SEARCHED:
            if self._section(at - 1, 2) is not None:
                break
            at += 1
        else:
            raise SlideError(f"its section of pictures is missing{_COPY}")
        (label,) = struct.unpack_from("<I", self._head, 4 + 52)
        if label:
            if label + 28 > min(PICTURES, self._size):
                raise SlideError(f"its label lies at byte {label}{_COPY}")
            section = self._files.read(0, label, 28)
            if section[:2] == b"\xf1\x03":
                return _end_of_picture(label, section)
        return _end_of_picture(at - 1, self._head[at - 1 : at + 27])

    def _levels_of(
        self,
        records: NDArray[np.void],
        offsets: NDArray[np.int64],
        finest: Size,
        power: int,
        side: int,
    ) -> tuple[list[JpegLevel], tuple[Fact, ...]]:
        scales = np.unique(records["scale"])[::-1]
        if not _are_halves(scales, power):
            told = ", ".join(f"{scale:g}" for scale in scales[:8])
            raise SlideError(
                f"its head says {power}x, of which its tiles' {told}x are not halves{_COPY}"
            )
        levels: list[JpegLevel] = []
        left_out = []
        for scale in scales:
            downsample = power / float(scale)
            size = Size(
                math.floor(finest.width / downsample), math.floor(finest.height / downsample)
            )
            if scale < 1 or min(size.width, size.height) < 1:
                continue  # smaller than any overview
            chosen = records["scale"] == scale
            if levels:  # what a size that was rounded up has more than one that is rounded down
                chosen &= (records["x"] != size.width) & (records["y"] != size.height)
            tiles = _tiles(records[chosen], offsets[chosen])
            problem = grid_problem(tiles, size, (side, side))
            if problem:
                raise SlideError(f"its index of {scale:g}x is no index: {problem}{_COPY}")
            level = JpegLevel(self._files, size, tiles, WHITE)
            if levels and not is_whole(level, levels[0]):
                left_out.append(f"{scale:g}x, which lacks tiles that {scales[0]:g}x has")
                continue
            levels.append(level)
        if not levels:
            raise SlideError(f"its head says {finest.width} x {finest.height} px{_COPY}")
        return levels, tuple(
            Fact(name="level left out", value=what, source="file") for what in left_out
        )


def _are_halves(scales: NDArray[np.float32], power: int) -> bool:
    """Whether levels, finest first, have the slide's magnification and halves of halves of it."""
    if not np.isfinite(scales).all() or scales[-1] <= 0 or scales[0] != power:
        return False
    halvings = np.log2(power / scales.astype(np.float64))
    return bool((np.abs(halvings - np.rint(halvings)) < 0.01).all() and halvings[-1] < 20)


def _end_of_picture(section: int, data: bytes) -> int:
    """Where the picture of a section ends that begins there."""
    length, distance = struct.unpack_from("<2I", data, 4 + 16)
    return int(section + distance + length)


def _tiles(records: NDArray[np.void], offsets: NDArray[np.int64]) -> Tiles:
    x, y, width, height, count = (
        records[name].astype(np.int64) for name in ("x", "y", "width", "height", "count")
    )
    return Tiles(x, y, width, height, offsets, count, np.zeros(len(x), np.int64))
