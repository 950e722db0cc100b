"""Writes slides of scanners' own formats, as far as the packages that read them say what they are.

No file of these scanners was at hand: what is written here is what kfbslide and tmapslide read, by
their source, and nothing that a scanner may write besides.
"""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from slidefiles import halved, resolution_tags

from pipeline.errors import ReadError, SlideError
from pipeline.geometry import Rect
from pipeline.slides.readers.base import Reader

Pixels = NDArray[np.uint8]


def jpeg(pixels: Pixels) -> bytes:
    """A tile's bytes."""
    return bytes(
        imagecodecs.jpeg8_encode(np.ascontiguousarray(pixels), level=95, subsampling="444")
    )


def cut(image: Pixels, side: tuple[int, int], *, padded: bool) -> list[tuple[int, int, Pixels]]:
    """Tiles with their places, row by row; at the ends smaller, or filled up."""
    tiles = []
    for y in range(0, image.shape[0], side[1]):
        for x in range(0, image.shape[1], side[0]):
            tile = image[y : y + side[1], x : x + side[0]]
            if padded:
                missing = (side[1] - tile.shape[0], side[0] - tile.shape[1])
                tile = np.pad(tile, ((0, missing[0]), (0, missing[1]), (0, 0)), mode="edge")
            tiles.append((x, y, tile))
    return tiles


def write_kfb(
    path: Path,
    image: Pixels,
    *,
    mpp: float = 0.25,
    power: int = 40,
    levels: int = 3,
    tile: int = 64,
    head: Mapping[int, bytes] = {},
    records: Callable[[list[dict[str, Any]]], list[dict[str, Any]]] = lambda records: records,
) -> Path:
    """Writes a KFB slide.

    Args:
        path: of the file.
        image: (H, W, 3) of level 0.
        mpp: µm per pixel in its head.
        power: magnification of level 0; each level has half of the last one's.
        levels: how many.
        tile: side of a tile.
        head: bytes of the head's content that are others, by where they begin.
        records: changes the index: dicts of x, y, width, height, scale, size.
    """
    index, data = [], b""
    for level in range(levels):
        for x, y, pixels in cut(halved(image, level), (tile, tile), padded=False):
            coded = jpeg(pixels)
            data += coded
            index.append(
                {
                    "x": x,
                    "y": y,
                    "width": pixels.shape[1],
                    "height": pixels.shape[0],
                    "scale": power / 2**level,
                    "size": len(coded),
                }
            )
    index = records(index)
    pictures = [jpeg(halved(image, 2)), jpeg(halved(image, 3))]
    second = 4 + 88 + 4
    third = second + 4 + 44 + 4 + len(pictures[0])
    tiles_at = third + 4 + 44 + 4 + len(pictures[1])
    start = tiles_at + len(data)
    content = bytearray(88)
    content[0:4] = b"KFB\0"
    struct.pack_into("<f4I", content, 8, 1.6, len(index), *image.shape[:2], power)
    content[28:32] = b"JPEG"
    struct.pack_into("<2I", content, 48, second, third)
    struct.pack_into("<2Q", content, 56, start + 64 * len(index), start)
    struct.pack_into("<f", content, 72, mpp)
    struct.pack_into("<I", content, 84, tile)
    for at, other in head.items():
        content[at : at + len(other)] = other
    with path.open("wb") as file:
        file.write(_section(1, bytes(content)))
        for kind, picture in zip((2, 3), pictures, strict=True):
            file.write(_section(kind, struct.pack("<6I20x", 0, 9, 9, 0, len(picture), 52)))
            file.write(picture)
        file.write(data)
        for one in index:
            values = (one["x"], one["y"], one["width"], one["height"], one["scale"], one["size"])
            file.write(struct.pack("<4x4If8xI28x", *values))
    return path


def _section(kind: int, content: bytes) -> bytes:
    return bytes([0xF1, kind, 0xEE, 0xEE]) + content + bytes([0xFF, kind, 0xEE, 0xEE])


def write_tmap07(
    path: Path,
    image: Pixels,
    *,
    mpp: float = 0.25,
    power: int = 40,
    levels: int = 3,
    tile: tuple[int, int] = (64, 64),
    grey: int = 244,
    blank: Callable[[int, int, int], bool] = lambda level, x, y: False,
    planes: int = 1,
    focus: Callable[[int], int] = lambda index: 0,
    entry: Mapping[tuple[int, int], int] = {},
) -> Path:
    """Writes a TMAP 07 slide.

    Args:
        path: of the file.
        image: (H, W, 3) of level 0.
        mpp: µm per pixel in its head, which has mm.
        power: magnification of level 0.
        levels: how many, each half of the last one.
        tile: width and height of one.
        grey: what was never scanned is.
        blank: whether the tile of a level at a place was never scanned.
        planes: focal planes, as the head says.
        focus: number of the plane of a level's tile.
        entry: words of the table of levels that are others, by level and number of the word.
    """
    table_at, index_at = 560, 560 + 16 * 32
    cuts = [cut(halved(image, level), tile, padded=True) for level in range(levels)]
    at = index_at + 40 * sum(map(len, cuts))
    table, index, data = bytearray(16 * 32), b"", b""
    for level, tiles in enumerate(cuts):
        height, width = halved(image, level).shape[:2]
        rows, columns = -(-height // tile[1]), -(-width // tile[0])
        values = (level, power / 2**level, width, height, rows, columns, index_at + len(index), 0)
        struct.pack_into("<If6I", table, 32 * level, *values)
        for number, (x, y, pixels) in enumerate(tiles):
            if blank(level, x, y):
                index += bytes(40)
                continue
            coded = jpeg(pixels)
            index += struct.pack(
                "<6IQI4x", level, focus(number), x, y, *tile, at + len(data), len(coded)
            )
            data += coded
    for (level, word), value in entry.items():
        struct.pack_into("<I", table, 32 * level + 4 * word, value)
    head = bytearray(table_at)
    head[0:8] = b"TMAP07\0\0"
    head[8:13] = bytes([1, 90, planes, power, grey])
    struct.pack_into("<f3I", head, 16, mpp / 1000, 1, levels, sum(map(len, cuts)))
    path.write_bytes(bytes(head) + bytes(table) + index + data)
    return path


def write_tmap06(
    path: Path,
    image: Pixels,
    *,
    mpp: float = 0.25,
    power: int = 40,
    tile: tuple[int, int] = (60, 50),
    grid: tuple[int, int] = (4, 4),
    beside: bool = False,
    planes: int = 1,
    shift: tuple[int, int] = (0, 0),
) -> Path:
    """Writes a TMAP 06 slide, of blocks of ``grid`` tiles each, tiles as they are padded.

    Args:
        path: of the file.
        image: (H, W, 3) of level 0.
        mpp: µm per pixel in its head, which has mm.
        power: magnification.
        tile: width and height of one.
        grid: columns and rows of tiles in a block.
        beside: whether the tiles of every second block lie in a file beside.
        planes: focal planes, as the head says.
        shift: of all blocks but the first, to lie over the ones before, in px.
    """
    height, width = image.shape[:2]
    block = (tile[0] * grid[0], tile[1] * grid[1])
    corners = [(x, y) for y in range(0, height, block[1]) for x in range(0, width, block[0])]
    at, files = 192 + 308 * (len(corners) + 1), [b"", b"\0"]
    table = b""
    for number, (left, top) in enumerate(corners):
        file = number % 2 if beside else 0
        x, y = (left, top) if not number else (left - shift[0], top - shift[1])
        x, y = max(x, 0), max(y, 0)
        tiles = b""
        for row in range(grid[1]):
            for column in range(grid[0]):
                begin = (x + column * tile[0], y + row * tile[1])
                if begin[0] >= width or begin[1] >= height:
                    continue
                part = image[begin[1] : begin[1] + tile[1], begin[0] : begin[0] + tile[0]]
                coded = jpeg(cut(part, tile, padded=True)[0][2])
                offset = len(files[file]) + (0 if file else at)
                tiles += struct.pack("<4B2I", 0, column, row, 0, offset, len(coded))
                files[file] += coded
        place = (left // block[0], top // block[1])
        table += struct.pack("<8B2H2i", file, 0, 0, 0, 0, 0, 0, 0, *place, x, y)
        table += tiles.ljust(24 * 12, b"\0")
    table += (bytes(8) + b"\xff\xff\xff\xff").ljust(308, b"\0")  # a block that isn't used
    head = bytearray(192)
    head[0:6] = b"TMAP06"
    head[6:16] = bytes([planes, 1, 2 if beside else 1, 3, 24, 0, 4, 3, 0, 244])
    struct.pack_into("<fI", head, 16, mpp / 1000, len(corners) + 1)
    blocks = (-(-width // block[0]), -(-height // block[1]))
    struct.pack_into("<7H", head, 24, power, *blocks, *block, *tile)
    struct.pack_into("<2I", head, 0x30, width, height)
    path.write_bytes(bytes(head) + table + files[0])
    if beside:
        path.with_suffix(".DT1").write_bytes(files[1])
    return path


def write_qptiff(
    path: Path, image: Pixels, *, mpp: float | tuple[float, float] = 0.5, levels: int = 3
) -> Path:
    """Writes a QPTIFF as fastslide reads one: RGB, compressed without loss."""
    kinds = ["FullResolution", "Thumbnail", *["ReducedResolution"] * (levels - 1), "Label"]
    coarser = iter(range(1, levels))
    with tifffile.TiffWriter(path) as writer:
        for kind in kinds:
            whole, reduced = kind == "FullResolution", kind == "ReducedResolution"
            writer.write(
                image if whole else halved(image, next(coarser) if reduced else 3),
                tile=(128, 128) if whole or reduced else None,
                photometric="rgb",
                compression="zlib",
                metadata=None,
                description=f"<PerkinElmer-QPI-ImageDescription><ImageType>{kind}</ImageType>"
                "</PerkinElmer-QPI-ImageDescription>",
                software="PerkinElmer-QPI",
                **(resolution_tags(mpp) if whole else {}),
            )
    return path


def write_vsi(
    path: Path, image: Pixels, *, levels: int = 3, tile: int = 64, planes: int = 1
) -> Path:
    """Writes a VSI slide: a TIFF, and beside it an .ets file of JPEG tiles; it states no scale."""
    tifffile.imwrite(path, halved(image, 3), photometric="rgb", metadata=None)
    at, data, records = 64 + 4 + 228, b"", b""
    for level in range(levels):
        for x, y, pixels in cut(halved(image, level), (tile, tile), padded=True):
            coded = jpeg(pixels)
            for plane in range(planes):
                place = (4, x // tile, y // tile, plane, level)
                records += struct.pack("<5IQI4x", *place, at + len(data), len(coded))
            data += coded
    tiles_at = at + len(data)
    count = len(records) // 36
    head = struct.pack("<4s3IQI4xQI4x", b"SIS\0", 64, 2, 4, 64, 228, tiles_at, count)
    ets = struct.pack("<4s9I", b"ETS\0", 0x30003, 2, 3, 4, 2, 90, tile, tile, 1)
    stack = path.with_name(f"_{path.stem}_") / "stack10001"
    stack.mkdir(parents=True)
    content = head.ljust(64, b"\0") + (ets + bytes(68) + b"\xff" * 3).ljust(232, b"\0")
    (stack / "frame_t.ets").write_bytes(content + data + records)
    return path


def damaged(path: Path) -> Path:
    """The slide with zeros in a tile in its middle."""
    data = bytearray(path.read_bytes())
    middle = data.index(b"\xff\xda", len(data) // 2)
    data[middle + 40 : middle + 400] = bytes(360)
    path.write_bytes(data)
    return path


def told_or_read(open_slide: Callable[[Path], Reader], path: Path) -> bool:
    """Whether a file is a slide that can be asked for its pixels, or is refused by a line on it."""
    try:
        reader = open_slide(path)
    except SlideError as error:
        return str(error).startswith(f"{path}: ") and "\n" not in str(error)
    size = reader.header.levels[0].size
    with contextlib.suppress(ReadError):
        reader.read(0, Rect(0, 0, min(size.width, 600), min(size.height, 600)))
    reader.close()
    return True


def refusal(open_slide: Callable[[Path], Reader], path: Path, code: str | None = None) -> str:
    """The line by which a file is refused."""
    with pytest.raises(SlideError) as told:
        open_slide(path).close()
    text = str(told.value)
    assert text.startswith(f"{path}: ")
    assert "\n" not in text
    assert code is None or told.value.code == code
    return text
