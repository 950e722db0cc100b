"""Writes a pyramidal TIFF of any size with flat memory.

The pyramid is walked depth first: a block of a level is put together from the sixteen blocks of
the level below, which are drawn, encoded, shrunk and forgotten on the way. No more than one block
a level is in memory. Tiles go to the file as they come, the directories at the end.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from data.synth.region import Region

Pixels = NDArray[np.uint8]
Render = Callable[[Iterable[Region]], Iterator[Pixels]]
"""Draws regions of level 0, (height, width, 3) each, in the order in which they are asked."""

TILE = 512
FACTOR = 4
"""From level to level, as scanners do; a detector's mpp is then resampled from level 0."""

BLOCK = TILE * FACTOR


def write_pyramid(
    path: Path, size: tuple[int, int], mpp: float, render: Render, quality: int = 90
) -> None:
    """Writes a tiled JPEG pyramid that OpenSlide and tifffile read.

    The file appears under its name only when it is whole.

    Args:
        path: the file to write; one of this name is replaced.
        size: (width, height) of level 0 in pixels.
        mpp: µm per level-0 pixel, written as resolution per centimetre.
        render: draws level 0; asked for one block after another.
        quality: of the JPEG tiles.

    Raises:
        OSError: the file can't be written; nothing is left of it.
    """
    unfinished = path.with_name(path.name + ".part")
    try:
        with unfinished.open("wb") as file:
            _Pyramid(file, size, mpp, quality).write(render)
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def blocks_of(size: tuple[int, int]) -> list[Region]:
    """Blocks of level 0 in the order in which they are asked for."""
    levels = _level_sizes(size)
    return list(_walk(len(levels) - 1, _whole(levels[-1]), levels))


def needs_bigtiff(size: tuple[int, int]) -> bool:
    """Whether the file may pass 4 GiB: no JPEG of ours takes two bytes a pixel."""
    return size[0] * size[1] * 2 > 2**32


def _level_sizes(size: tuple[int, int]) -> list[tuple[int, int]]:
    """Sizes of the levels, finest first, until one fits a block."""
    sizes = [size]
    while max(sizes[-1]) > BLOCK:
        width, height = sizes[-1]
        sizes.append((-(-width // FACTOR), -(-height // FACTOR)))
    return sizes


def _whole(size: tuple[int, int]) -> Region:
    return Region(0, 0, *size)


def _children(level: int, region: Region, sizes: list[tuple[int, int]]) -> list[Region]:
    """The blocks of the next finer level under a block, row by row."""
    below = _whole(sizes[level - 1])
    return [
        Region(x, y, BLOCK, BLOCK).meet(below)
        for y in range(region.y * FACTOR, min(region.bottom * FACTOR, below.height), BLOCK)
        for x in range(region.x * FACTOR, min(region.right * FACTOR, below.width), BLOCK)
    ]


def _walk(level: int, region: Region, sizes: list[tuple[int, int]]) -> Iterator[Region]:
    if level == 0:
        yield region
        return
    for child in _children(level, region, sizes):
        yield from _walk(level - 1, child, sizes)


def _shrink(image: Pixels) -> Pixels:
    """Mean over squares of `FACTOR` pixels; the last ones are repeated to fill theirs."""
    height, width = image.shape[:2]
    image = np.pad(image, ((0, -height % FACTOR), (0, -width % FACTOR), (0, 0)), mode="edge")
    rows = image.reshape(image.shape[0] // FACTOR, FACTOR, -1).sum(1, dtype=np.uint16)
    squares = rows.reshape(rows.shape[0], -1, FACTOR, 3).sum(2, dtype=np.uint16)
    return ((squares + FACTOR * FACTOR // 2) // (FACTOR * FACTOR)).astype(np.uint8)


_TYPES = {
    "S": (2, "B", 1),  # text
    "H": (3, "H", 1),
    "I": (4, "I", 1),
    "R": (5, "I", 2),  # rational
    "Q": (16, "Q", 1),  # BigTIFF only
}
"""TIFF type code, struct layout, and how many of the layout make one value."""


class _Pyramid:
    """One file being written: its tiles so far, level by level."""

    def __init__(self, file: BinaryIO, size: tuple[int, int], mpp: float, quality: int) -> None:
        self._file = file
        self._mpp = mpp
        self._quality = quality
        self._sizes = _level_sizes(size)
        self._big = needs_bigtiff(size)
        columns_rows = [(-(-width // TILE), -(-height // TILE)) for width, height in self._sizes]
        self._offsets = [np.zeros((rows, columns), np.uint64) for columns, rows in columns_rows]
        self._counts = [np.zeros((rows, columns), np.uint64) for columns, rows in columns_rows]

    def write(self, render: Render) -> None:
        self._file.write(bytes(16 if self._big else 8))
        top = len(self._sizes) - 1
        drawn = render(_walk(top, _whole(self._sizes[top]), self._sizes))
        self._block(top, _whole(self._sizes[top]), drawn)
        first = self._write_directories()
        self._file.seek(0)
        if self._big:
            self._file.write(struct.pack("<2sHHHQ", b"II", 43, 8, 0, first))
        else:
            self._file.write(struct.pack("<2sHI", b"II", 42, first))

    def _block(self, level: int, region: Region, drawn: Iterator[Pixels]) -> Pixels:
        """Makes a block of a level, writes its tiles, and hands it to the level above."""
        if level == 0:
            pixels = next(drawn)
        else:
            pixels = np.empty((region.height, region.width, 3), np.uint8)
            for child in _children(level, region, self._sizes):
                part = _shrink(self._block(level - 1, child, drawn))
                y, x = child.y // FACTOR - region.y, child.x // FACTOR - region.x
                pixels[y : y + part.shape[0], x : x + part.shape[1]] = part
        self._write_tiles(level, region, pixels)
        return pixels

    def _write_tiles(self, level: int, region: Region, pixels: Pixels) -> None:
        for y in range(0, region.height, TILE):
            for x in range(0, region.width, TILE):
                tile = pixels[y : y + TILE, x : x + TILE]
                missing = (0, TILE - tile.shape[0]), (0, TILE - tile.shape[1]), (0, 0)
                tile = np.ascontiguousarray(np.pad(tile, missing, mode="edge"))
                code = imagecodecs.jpeg8_encode(tile, level=self._quality, subsampling="420")
                row, column = (region.y + y) // TILE, (region.x + x) // TILE
                self._offsets[level][row, column] = self._file.tell()
                self._counts[level][row, column] = len(code)
                self._file.write(code)

    def _write_directories(self) -> int:
        """Writes one directory a level, each pointing to the next; returns the first's offset."""
        places, link = [], None
        for level in range(len(self._sizes)):
            place, link_place = self._write_directory(level)
            if link is not None:
                self._patch(link, place)
            places.append(place)
            link = link_place
        return places[0]

    def _write_directory(self, level: int) -> tuple[int, int]:
        """Returns the directory's offset and the offset of its link to the next."""
        entries = [self._entry(*tag) for tag in self._tags(level)]
        if self._file.tell() % 2:
            self._file.write(b"\0")
        place = self._file.tell()
        self._file.write(struct.pack("<Q" if self._big else "<H", len(entries)))
        self._file.write(b"".join(entries))
        link = self._file.tell()
        self._file.write(self._word(0))
        return place, link

    def _tags(self, level: int) -> list[tuple[int, str, list[int]]]:
        """(tag, type, values) in ascending order of the tag, as TIFF 6.0 wants it."""
        width, height = self._sizes[level]
        scale = self._sizes[0][0] / width, self._sizes[0][1] / height
        resolution = [Fraction(1e4 / self._mpp / s).limit_denominator(10_000) for s in scale]
        word = "Q" if self._big else "I"
        return [
            (254, "I", [int(level > 0)]),  # NewSubfileType: reduced resolution
            (256, "I", [width]),
            (257, "I", [height]),
            (258, "H", [8, 8, 8]),  # BitsPerSample
            (259, "H", [7]),  # Compression: JPEG
            (262, "H", [6]),  # PhotometricInterpretation: YCbCr
            (277, "H", [3]),  # SamplesPerPixel
            (282, "R", list(resolution[0].as_integer_ratio())),
            (283, "R", list(resolution[1].as_integer_ratio())),
            (284, "H", [1]),  # PlanarConfiguration: interleaved
            (296, "H", [3]),  # ResolutionUnit: centimetre
            (305, "S", list(b"CytoLibra synth\0")),
            (322, "I", [TILE]),
            (323, "I", [TILE]),
            (324, word, self._offsets[level].ravel().tolist()),
            (325, word, self._counts[level].ravel().tolist()),
            (530, "H", [2, 2]),  # YCbCrSubSampling
        ]

    def _entry(self, tag: int, kind: str, values: list[int]) -> bytes:
        """One directory entry; values that do not fit into it are written before it."""
        code, layout, per_value = _TYPES[kind]
        data = struct.pack(f"<{len(values)}{layout}", *values)
        room = 8 if self._big else 4
        if len(data) > room:
            if self._file.tell() % 2:
                self._file.write(b"\0")
            place = self._file.tell()
            self._file.write(data)
            data = self._word(place)
        count = self._word(len(values) // per_value)
        return struct.pack("<HH", tag, code) + count + data.ljust(room, b"\0")

    def _patch(self, place: int, value: int) -> None:
        self._file.seek(place)
        self._file.write(self._word(value))
        self._file.seek(0, os.SEEK_END)

    def _word(self, value: int) -> bytes:
        return struct.pack("<Q" if self._big else "<I", value)
