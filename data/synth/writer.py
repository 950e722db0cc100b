"""Writes a pyramidal TIFF of any size with flat memory.

The pyramid is walked depth first: a block of a level is put together from the sixteen blocks of
the level below, which are drawn, encoded, shrunk and forgotten on the way. No more than one block
a level is in memory. Tiles go to the file as they come, the directories at the end.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO, NamedTuple
from xml.etree import ElementTree

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


def write_stack(
    path: Path,
    size: tuple[int, int],
    mpp: float,
    renders: Sequence[Render],
    places: Sequence[float],
    quality: int = 90,
) -> None:
    """Writes focal planes as OME-TIFF: a page a plane, each with its pyramid in SubIFDs.

    Args:
        path: as of `write_pyramid`; ends in ``.ome.tif``.
        size: of level 0 of each plane, (width, height) in pixels.
        mpp: µm per level-0 pixel.
        renders: draws level 0 of each plane.
        places: where each lies, in µm, at equal distances.
        quality: of the JPEG tiles.

    Raises:
        OSError: the file can't be written; nothing is left of it.
    """
    unfinished = path.with_name(path.name + ".part")
    xml = _ome_xml(path.name.removesuffix(".ome.tif"), size, mpp, places)
    try:
        with unfinished.open("wb") as file:
            _Pyramid(file, size, mpp, quality, len(renders), xml).write(*renders)
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def blocks_of(size: tuple[int, int]) -> list[Region]:
    """Blocks of level 0 in the order in which they are asked for."""
    levels = _level_sizes(size)
    return list(_walk(len(levels) - 1, _whole(levels[-1]), levels))


def needs_bigtiff(size: tuple[int, int], planes: int = 1) -> bool:
    """Whether the file may pass 4 GiB: no JPEG of ours takes two bytes a pixel."""
    return size[0] * size[1] * planes * 2 > 2**32


def _ome_xml(name: str, size: tuple[int, int], mpp: float, places: Sequence[float]) -> bytes:
    """What OME-TIFF says of a stack of planes in colour, in ASCII: pages are planes, in order."""
    root = ElementTree.Element("OME", xmlns=_OME, Creator="CytoLibra synth")
    image = ElementTree.SubElement(root, "Image", ID="Image:0", Name=name)
    pixels = ElementTree.SubElement(
        image,
        "Pixels",
        ID="Pixels:0",
        DimensionOrder="XYCZT",
        Type="uint8",
        SizeX=str(size[0]),
        SizeY=str(size[1]),
        SizeC="3",
        SizeZ=str(len(places)),
        SizeT="1",
        PhysicalSizeX=f"{mpp:g}",
        PhysicalSizeY=f"{mpp:g}",
        PhysicalSizeZ=f"{places[1] - places[0]:g}",
        BigEndian="false",
        Interleaved="true",
    )
    ElementTree.SubElement(pixels, "Channel", ID="Channel:0:0", SamplesPerPixel="3")
    each = [str(number) for number in range(len(places))]
    for z in each:
        ElementTree.SubElement(pixels, "TiffData", FirstZ=z, IFD=z, PlaneCount="1")
    for z, place in zip(each, places, strict=True):
        where = {"PositionZ": f"{place:g}", "PositionZUnit": "µm"}
        ElementTree.SubElement(pixels, "Plane", where, TheC="0", TheT="0", TheZ=z)
    return b'<?xml version="1.0"?>' + ElementTree.tostring(root, "us-ascii", xml_declaration=False)


_OME = "http://www.openmicroscopy.org/Schemas/OME/2016-06"


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


class _Tiles(NamedTuple):
    """Where the tiles of a level are, (rows, columns) each, and their bytes."""

    offsets: NDArray[np.uint64]
    counts: NDArray[np.uint64]

    @staticmethod
    def of(shape: tuple[int, int]) -> _Tiles:
        return _Tiles(np.zeros(shape, np.uint64), np.zeros(shape, np.uint64))


class _Pyramid:
    """One file being written: its tiles so far, plane by plane and level by level.

    Args:
        file: to be written.
        size: of level 0.
        mpp: µm per level-0 pixel.
        quality: of the tiles.
        planes: how many focal planes it has.
        xml: OME-XML of a stack of planes; nothing for one plane.
    """

    def __init__(
        self,
        file: BinaryIO,
        size: tuple[int, int],
        mpp: float,
        quality: int,
        planes: int = 1,
        xml: bytes = b"",
    ) -> None:
        self._file = file
        self._mpp = mpp
        self._quality = quality
        self._sizes = _level_sizes(size)
        self._big = needs_bigtiff(size, planes)
        self._xml = xml
        counts = [(-(-height // TILE), -(-width // TILE)) for width, height in self._sizes]
        self._places = [[_Tiles.of(count) for count in counts] for _ in range(planes)]

    def write(self, *renders: Render) -> None:
        self._file.write(bytes(16 if self._big else 8))
        top = len(self._sizes) - 1
        for plane, render in enumerate(renders):
            self._tiles = self._places[plane]
            drawn = render(_walk(top, _whole(self._sizes[top]), self._sizes))
            self._block(top, _whole(self._sizes[top]), drawn)
        first = self._write_stack() if self._xml else self._write_directories()
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
                self._tiles[level].offsets[row, column] = self._file.tell()
                self._tiles[level].counts[row, column] = len(code)
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

    def _write_stack(self) -> int:
        """Writes one directory a plane, each pointing to the next and to those of its levels."""
        places: list[int] = []
        link: int | None = None
        for tiles in self._places:
            self._tiles = tiles
            levels = [self._write_directory(level)[0] for level in range(1, len(self._sizes))]
            more: list[tuple[int, str, list[int]]] = []
            if levels:
                more.append((330, "Q" if self._big else "I", levels))  # SubIFDs
            if not places:
                more.append((270, "S", list(self._xml + b"\0")))  # ImageDescription
            place, link_place = self._write_directory(0, more)
            if link is not None:
                self._patch(link, place)
            places.append(place)
            link = link_place
        return places[0]

    def _write_directory(
        self, level: int, more: Sequence[tuple[int, str, list[int]]] = ()
    ) -> tuple[int, int]:
        """Returns the directory's offset and the offset of its link to the next."""
        entries = [self._entry(*tag) for tag in sorted([*self._tags(level), *more])]
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
            (324, word, self._tiles[level].offsets.ravel().tolist()),
            (325, word, self._tiles[level].counts.ravel().tolist()),
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
