"""Whether the JPEG tiles that a region shows are sound, looked at without being decoded.

For libraries that show a damaged JPEG as whatever it decodes to, and say nothing.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tifffile import TiffPage

from pipeline.errors import ReadError
from pipeline.geometry import Rect, Size
from pipeline.slides.readers import tiff_tags
from pipeline.slides.readers.base import show
from pipeline.slides.readers.placed import JpegFiles, Tiles
from pipeline.slides.readers.tiff_file import open_file, pages_of
from pipeline.slides.readers.tile_jpegs import is_broken

_ETS_HEAD = 64
_LEAST_NUMBERS, _MOST_NUMBERS = 4, 16


class TileBytes:
    """Where the tiles of a slide's levels lie, of those that are JPEG.

    Args:
        path: of the file that holds them.
        levels: their tiles by the level's number; others are not looked at.
    """

    def __init__(self, path: Path, levels: Mapping[int, Tiles]) -> None:
        self._files = JpegFiles([path])
        self._levels = dict(levels)
        self._sound: set[tuple[int, int]] = set()

    def check(self, level: int, region: Rect) -> None:
        """Looks at the tiles that a region touches, each once.

        Raises:
            ReadError: one of them is damaged.
        """
        tiles = self._levels.get(level)
        if tiles is None:
            return
        for index in map(int, tiles.touching(region)):
            if (level, index) in self._sound:
                continue
            offset, count = int(tiles.offset[index]), int(tiles.count[index])
            data = self._files.read(0, offset, count)
            if data.startswith(b"\xff\xd8") and is_broken(data):
                name = show(self._files.paths[0].name)
                raise ReadError(f"the tile at byte {offset} of {name} is damaged")
            self._sound.add((level, index))

    def close(self) -> None:
        """Gives the file back; a second time does nothing."""
        self._files.close()


def read_ets(path: Path) -> tuple[int, dict[int, Tiles]] | None:
    """An .ets file's planes or channels, and the tiles of its levels; None where it is damaged.

    As fastslide's documentation of the format says: behind a head of 64 bytes, a record a tile with
    as many numbers as the head says (column, row, others, level), and where its bytes lie.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(_ETS_HEAD + 40)
        if len(head) < _ETS_HEAD + 40 or head[:4] != b"SIS\0":
            return None
        (numbers,) = struct.unpack_from("<I", head, 12)
        (at,) = struct.unpack_from("<Q", head, 32)
        (count,) = struct.unpack_from("<I", head, 40)
        width, height = struct.unpack_from("<2I", head, _ETS_HEAD + 28)
        if not _LEAST_NUMBERS <= numbers <= _MOST_NUMBERS or not count:
            return None
        kind = np.dtype(
            [("mark", "<u4"), ("place", "<u4", (numbers,)), ("offset", "<u8"), ("bytes", "<u4"),
             ("pad", "<u4")]
        )  # fmt: skip
        if at + count * kind.itemsize > size:
            return None
        file.seek(at)
        records = np.frombuffer(file.read(count * kind.itemsize), kind)
    if (records["offset"].astype(np.float64) + records["bytes"] > size).any():
        return None
    place = records["place"].astype(np.int64)
    planes = len(np.unique(place[:, 2:-1], axis=0))
    levels = {
        int(level): _tiles(
            place[chosen, 0] * width,
            place[chosen, 1] * height,
            (width, height),
            records["offset"][chosen],
            records["bytes"][chosen],
        )
        for level in np.unique(place[:, -1])
        if len(chosen := np.flatnonzero(place[:, -1] == level))
    }
    return planes, levels


def read_tiff(path: Path, sizes: tuple[Size, ...]) -> dict[int, Tiles]:
    """The JPEG tiles of a TIFF's pages, by the level whose size is the page's.

    Raises:
        SlideError: the TIFF is damaged.
    """
    with open_file(path) as file:
        pages = [page for page in pages_of(file) if isinstance(page, TiffPage)]
    found = {}
    for number, size in enumerate(sizes):
        for page in pages:
            tiled = page.is_tiled and min(page.tilewidth, page.tilelength) > 0
            suited = tiled and page.compression in tiff_tags.JPEG_CODECS
            if suited and (page.imagewidth, page.imagelength) == (size.width, size.height):
                columns = -(-page.imagewidth // page.tilewidth)
                index = np.arange(len(page.dataoffsets))
                found[number] = _tiles(
                    index % columns * page.tilewidth,
                    index // columns * page.tilelength,
                    (page.tilewidth, page.tilelength),
                    np.asarray(page.dataoffsets),
                    np.asarray(page.databytecounts),
                )
                break
    return found


def _tiles(
    x: NDArray[np.integer],
    y: NDArray[np.integer],
    side: tuple[int, int],
    offset: NDArray[np.integer],
    count: NDArray[np.integer],
) -> Tiles:
    x, y, offset, count = (np.asarray(one).astype(np.int64) for one in (x, y, offset, count))
    width, height = (np.full(len(x), one, np.int64) for one in side)
    return Tiles(x, y, width, height, offset, count, np.zeros(len(x), np.int64))
