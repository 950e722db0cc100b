"""TMAP, the format of UNIC's scanners, in its versions 06 and 07: JPEG tiles behind an index.

What is known of the format is what the package tmapslide (MIT) reads of it; no description of the
maker's is public. All numbers are little-endian.

- 07: a head; at byte 560 a table of levels (32 bytes each), each with a table of its tiles (40
  bytes each), row by row; what was not scanned has zeros for offset and count.
- 06: a head; at byte 192 blocks (308 bytes each) that lie anywhere on level 0, with 24 entries for
  tiles each (12 bytes), some of them of coarser levels; tiles may lie in files beside, ``.DT1`` and
  so on. Level 0 is read; the coarser levels, which tmapslide fits by interpolation, are not.

Counts and places are believed only as far as the files reach: what tmapslide leaves out in silence,
tiles beyond the end and files that are missing, is refused here.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import SlideError
from pipeline.geometry import Size
from pipeline.slides.readers.base import Color, Fact, Header, levels_of, show
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
from pipeline.slides.readers.planes import numbered, with_plane

_LEVELS_AT, _MOST_LEVELS = 560, 16
_LEVEL = np.dtype(
    {
        "names": ["width", "height", "rows", "columns", "index"],
        "formats": ["<u4"] * 5,
        "offsets": [8, 12, 16, 20, 24],
        "itemsize": 32,
    }
)
_TILE_07 = np.dtype(
    {
        "names": ["focus", "width", "height", "offset", "count"],
        "formats": ["<u4", "<u4", "<u4", "<u8", "<u4"],
        "offsets": [4, 16, 20, 24, 32],
        "itemsize": 40,
    }
)
_BLOCKS_AT = 192
_TILE_06 = np.dtype(
    [
        ("layer", "u1"),
        ("column", "u1"),
        ("row", "u1"),
        ("pad", "u1"),
        ("offset", "<u4"),
        ("count", "<u4"),
    ]
)
_BLOCK = np.dtype(
    {
        "names": ["file", "column", "row", "x", "y", "tiles"],
        "formats": ["u1", "<u2", "<u2", "<i4", "<i4", (_TILE_06, 24)],
        "offsets": [0, 8, 10, 12, 16, 20],
        "itemsize": 308,
    }
)
_EMPTY = 0xFFFF

MOST_FILES = 256
"""A byte of the head says how many there are."""

_COPY = "; copy the slide again"


def says_tmap(start: bytes) -> bool:
    """Whether the first bytes of a file say that it is TMAP."""
    return start[:4] == b"TMAP"


def open_tmap(path: Path) -> PlacedReader:
    """Opens a TMAP slide; its µm per pixel are the head's own, whatever they are.

    Raises:
        SlideError: it is none, is damaged, of another version, or holds what contradicts itself.
    """
    with opened([path]) as files:
        head = files.read(0, 0, _BLOCKS_AT)
        version = head[4:6]
        if not says_tmap(head) or len(head) < _BLOCKS_AT:
            raise SlideError(f"is no TMAP slide, or its head is damaged{_COPY}")
        if version == b"07":
            return _open_07(files, head)
        beside = _beside(path, head[8]) if version == b"06" else []
    if version == b"06":
        files.close()
        with opened([path, *beside]) as files:
            return _open_06(files, head)
    files.close()
    raise SlideError(
        f"{show(path)}: is TMAP {show(version.decode('latin-1'))}; 06 and 07 are read; export it "
        "from the scanner's software as SVS, DICOM or pyramidal TIFF",
        "kind-not-read",
    )


def _open_07(files: JpegFiles, head: bytes) -> PlacedReader:
    planes, power, grey = head[10] or 1, head[11], head[12]
    table = np.frombuffer(files.read(0, _LEVELS_AT, _MOST_LEVELS * _LEVEL.itemsize), np.uint8)
    entries = table[: len(table) // _LEVEL.itemsize * _LEVEL.itemsize].view(_LEVEL)
    levels: list[JpegLevel] = []
    left_out = []
    for order, entry in enumerate(entries):
        if not entry["width"] or not entry["height"]:
            if not levels:
                break
            continue
        size = Size(int(entry["width"]), int(entry["height"]))
        tiles, side = _tiles_07(files, entry, order)
        if not tiles:
            if not levels:
                raise SlideError(f"its level {order} has no tiles{_COPY}")
            left_out.append(f"{order}, which has no tiles")
            continue
        if problem := grid_problem(tiles, size, side):
            raise SlideError(f"its index of level {order} is no index: {problem}{_COPY}")
        if levels and not _is_smaller(levels[0].size, size, 2**order):
            what = f"{order} of {size.width} x {size.height} px"
            left_out.append(f"{what}, which is not level 0 {2**order} times smaller")
            continue
        level = JpegLevel(files, size, tiles, _grey(grey))
        if levels and not is_whole(level, levels[0]):
            left_out.append(f"{order}, which lacks tiles that level 0 has")
        else:
            levels.append(level)
    if not levels:
        raise SlideError(f"its head has no level 0{_COPY}")
    levels[0].check_end()
    header = _header(levels, _pixel_size(head), power, grey, left_out)
    facts, doubts = gaps_of(levels)
    header = replace(header, facts=(*header.facts, *facts), doubts=doubts)
    if planes > 1:
        header = with_plane(header, numbered(planes, readable=0), 0, measured=False)
    return PlacedReader(files, levels, header)


def _tiles_07(files: JpegFiles, entry: np.void, order: int) -> tuple[Tiles | None, tuple[int, int]]:
    """A level's tiles, and how large they are; None where it has none."""
    columns, rows, at = (int(entry[name]) for name in ("columns", "rows", "index"))
    length = columns * rows * _TILE_07.itemsize
    if not length:
        return None, (0, 0)
    if at + length > files.sizes[0]:
        raise SlideError(
            f"the index of its level {order}, {columns} x {rows} tiles at byte {at}, lies beyond "
            f"its end, at {files.sizes[0]}{_COPY}"
        )
    records = np.frombuffer(files.read(0, at, length), _TILE_07)
    stored = np.flatnonzero((records["offset"] != 0) | (records["count"] != 0))
    if not len(stored):
        return None, (0, 0)
    records = records[stored]
    if len(np.unique(records["focus"])) > 1:
        raise SlideError(
            f"its level {order} mixes focal planes; export the one that is in focus",
            "planes-unreadable",
        )
    sides = _side(records["width"], order), _side(records["height"], order)
    width, height = int(entry["width"]), int(entry["height"])
    x, y = stored % columns * sides[0], stored // columns * sides[1]
    if columns * sides[0] < width or rows * sides[1] < height:
        raise SlideError(
            f"its level {order} of {width} x {height} px has {columns} x {rows} tiles of "
            f"{sides[0]} x {sides[1]}{_COPY}"
        )
    count = records["count"].astype(np.int64)
    file = np.zeros(len(x), np.int64)
    offset = _checked(files, file, records["offset"], count, f"level {order}")
    if (offset < _LEVELS_AT).any():
        raise SlideError(f"its index says that tiles lie within its head{_COPY}")
    wide, high = (np.full(len(x), side, np.int64) for side in sides)
    return Tiles(x, y, wide, high, offset, count, file), sides


def _side(values: NDArray[np.uint32], order: int) -> int:
    """The largest side of tiles; smaller ones are at the ends of the level."""
    side = int(values.max())
    if not 0 < side <= LONGEST_TILE:
        raise SlideError(f"its level {order} has tiles of {side} px a side{_COPY}")
    return side


def _open_06(files: JpegFiles, head: bytes) -> PlacedReader:
    grey = head[15]
    blocks, power, *_ = struct.unpack_from("<IH", head, 0x14)
    width, height = struct.unpack_from("<2I", head, 0x30)
    block, side = struct.unpack_from("<2H", head, 0x1E), struct.unpack_from("<2H", head, 0x22)
    planes = head[6]
    if planes > 1:
        raise SlideError(
            f"holds {planes} focal planes, and TMAP 06 doesn't say which tile is of which; export "
            "the one that is in focus",
            "planes-unreadable",
        )
    if not width or not height or not all(0 < one <= LONGEST_TILE for one in side):
        raise SlideError(
            f"its head says {width} x {height} px in tiles of {side[0]} x {side[1]}{_COPY}"
        )
    tiles = _tiles_06(files, blocks, (block[0], block[1]), (side[0], side[1]))
    if (
        (tiles.x < 0).any()
        or (tiles.y < 0).any()
        or (tiles.x >= width).any()
        or (tiles.y >= height).any()
    ):
        raise SlideError(f"tiles lie outside of its {width} x {height} px{_COPY}")
    level = JpegLevel(files, Size(width, height), tiles, _grey(grey))
    level.check_end()
    return PlacedReader(files, [level], _header([level], _pixel_size(head), power, grey, []))


def _tiles_06(files: JpegFiles, count: int, size: tuple[int, int], side: tuple[int, int]) -> Tiles:
    """Tiles of level 0, in the order in which they are painted.

    Args:
        files: of the slide.
        count: of blocks.
        size: width and height of a block, in px.
        side: likewise of a tile.
    """
    if not 0 < count * _BLOCK.itemsize <= files.sizes[0] - _BLOCKS_AT:
        raise SlideError(
            f"its index of {count} blocks at byte {_BLOCKS_AT} lies beyond its end, at "
            f"{files.sizes[0]}{_COPY}"
        )
    blocks = np.frombuffer(files.read(0, _BLOCKS_AT, count * _BLOCK.itemsize), _BLOCK)
    used = blocks[(blocks["column"] != _EMPTY) | (blocks["row"] != _EMPTY)]
    places = used["column"].astype(np.int64) << 16 | used["row"]
    if len(np.unique(places)) < len(places):
        raise SlideError(f"its index has two blocks of one place{_COPY}")
    found = used["tiles"]
    block, entry = np.nonzero(
        ((found["offset"] > 0) | (found["count"] > 0)) & (found["layer"] == 0)
    )
    if not len(block):
        raise SlideError(f"its index has no tiles{_COPY}")
    chosen, of = found[block, entry], used[block]
    column, row = chosen["column"].astype(np.int64), chosen["row"].astype(np.int64)
    if (column * side[0] >= size[0]).any() or (row * side[1] >= size[1]).any():
        raise SlideError(f"tiles lie outside of their block of {size[0]} x {size[1]} px{_COPY}")
    if len(np.unique(block << 16 | column << 8 | row)) < len(block):
        raise SlideError(f"its index has two tiles of one place{_COPY}")
    lengths = chosen["count"].astype(np.int64)
    file = of["file"].astype(np.int64)
    offset = _checked(files, file, chosen["offset"], lengths, "level 0")
    if (offset[file == 0] < _BLOCKS_AT + count * _BLOCK.itemsize).any():
        raise SlideError(f"its index says that tiles lie within it{_COPY}")
    x = of["x"].astype(np.int64) + column * side[0]
    y = of["y"].astype(np.int64) + row * side[1]
    wide, high = (np.full(len(x), one, np.int64) for one in side)
    return Tiles(x, y, wide, high, offset, lengths, file)


def _beside(path: Path, count: int) -> list[Path]:
    """The files with more tiles, of ``count`` files in all.

    Raises:
        SlideError: one is missing.
    """
    found = list(itertools.islice(tiles_beside(path, Path.is_file), max(count - 1, 0)))
    if len(found) < count - 1:
        raise SlideError(
            f"the slide's data is missing: there is no '{show(path.stem)}.DT{len(found) + 1}' "
            "beside it; copy the slide again, with all its files",
            "data-missing",
        )
    return found


def tiles_beside(path: Path, exists: Callable[[Path], bool]) -> Iterator[Path]:
    """The files beside a slide that may hold more of its tiles, up to the first that isn't there.

    Args:
        path: of the slide.
        exists: whether a file is there.
    """
    for number in range(1, MOST_FILES):
        names = [path.with_suffix(f".{letters}{number}") for letters in ("DT", "dt")]
        there = next(filter(exists, names), None)
        if there is None:
            return
        yield there


def _checked(
    files: JpegFiles,
    file: NDArray[np.int64],
    offset: NDArray[np.unsignedinteger],
    count: NDArray[np.int64],
    what: str,
) -> NDArray[np.int64]:
    """Offsets, each with its bytes within its file.

    Raises:
        SlideError: a tile lies beyond the end, in no file, or has no bytes.
    """
    if (file >= len(files.sizes)).any():
        raise SlideError(
            f"its {what} has tiles in a file {file.max()}, of which it says nothing{_COPY}"
        )
    if (count == 0).any():
        raise SlideError(f"its {what} has tiles of no bytes{_COPY}")
    sizes = np.array(files.sizes, np.int64)[file]
    beyond = offset > np.uint64(2**62)
    starts = np.where(beyond, 2**62, offset).astype(np.int64)
    if (starts + count > sizes).any():
        worst = int((starts + count - sizes).argmax())
        raise SlideError(
            f"truncated: its {what} has a tile at byte {offset[worst]} of "
            f"{show(files.paths[int(file[worst])].name)}, which ends at {sizes[worst]}{_COPY}"
        )
    return starts


def _header(
    levels: list[JpegLevel], mpp: float, power: int, grey: int, left_out: list[str]
) -> Header:
    return Header(
        format="unic",
        levels=levels_of(tuple(level.size for level in levels)),
        mpp=(mpp, mpp),
        objective=float(power) or None,
        background=_grey(grey),
        facts=tuple(Fact(name="level left out", value=what, source="file") for what in left_out),
    )


def _pixel_size(head: bytes) -> float:
    """µm per pixel as the head has them, in mm."""
    (size,) = struct.unpack_from("<f", head, 0x10)
    return float(f"{size * 1000:.7g}")


def _grey(value: int) -> Color:
    return (value, value, value)


def _is_smaller(finest: Size, size: Size, factor: int) -> bool:
    """Whether a level has a part of the finest one's pixels, however it was rounded."""
    return all(
        abs(whole / factor - part) <= 1
        for whole, part in ((finest.width, size.width), (finest.height, size.height))
    )
