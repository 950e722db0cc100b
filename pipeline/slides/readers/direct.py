"""Vendors' tiled TIFF whose tiles are decoded here, each once, with OpenSlide as the judge.

OpenSlide decodes and paints a tile anew for nearly every region that touches it. Here a region is
pasted together from whole decoded tiles, which neighbouring regions share. No pixel differs: what
OpenSlide would draw otherwise than by copying tiles, it draws itself.
"""

from __future__ import annotations

import threading
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tifffile import PLANARCONFIG, TiffFile, TiffPage

from pipeline.geometry import Rect, Size
from pipeline.slides.readers import tiff_tags
from pipeline.slides.readers.base import Reader
from pipeline.slides.readers.segments import (
    SHARED,
    Samples,
    Segments,
    crop,
    shrink_by_means,
    shrunk_jpegs,
)
from pipeline.slides.readers.vendor import VendorReader

VENDORS = frozenset({"aperio", "philips"})
"""Vendors each of whose levels is one page, its tiles side by side."""


class DirectReader(Reader):
    """A file that OpenSlide opens, and some of whose levels need not be read by it.

    Args:
        vendor: the same file, open.
        file: likewise, as TIFF.
        levels: what to decode here; None for a level that stays with OpenSlide.
    """

    library = "imagecodecs"

    def __init__(
        self, vendor: VendorReader, file: TiffFile, levels: list[DirectLevel | None]
    ) -> None:
        self.header = vendor.header
        self._vendor = vendor
        self._file = file
        self._levels = levels

    def shrinks(self, level: int) -> tuple[int, ...]:
        """See `Reader.shrinks`."""
        tiles = self._levels[level]
        return tiles.shrinks if tiles else ()

    def read(self, level: int, region: Rect, shrink: int = 1) -> NDArray[np.uint8]:
        """See `Reader.read`."""
        tiles = self._levels[level]
        return tiles.read(region, shrink) if tiles else self._vendor.read(level, region)

    def close(self) -> None:
        """See `Reader.close`."""
        self._levels = [None for _ in self._levels]
        self._vendor.close()
        self._file.close()


class DirectLevel:
    """One level, read as OpenSlide reads it."""

    def __init__(self, vendor: VendorReader, number: int, segments: Segments) -> None:
        self._vendor = vendor
        self._number = number
        self._segments = segments
        self._by_shrink: dict[int, Segments] = {1: segments, **shrunk_jpegs(segments)}

    @property
    def shrinks(self) -> tuple[int, ...]:
        """See `Reader.shrinks`."""
        return tuple(shrink for shrink in self._by_shrink if shrink > 1)

    def read(self, region: Rect, shrink: int = 1) -> NDArray[np.uint8]:
        """Reads (height, width, 3) RGB; what was never scanned has the background's colour.

        Raises:
            ReadError: OpenSlide can't read one of the tiles either.
        """
        segments = self._by_shrink[shrink]
        canvas = np.empty((region.height, region.width, 3), np.uint8)
        for index in segments.touching(region):
            _, here = segments.place(index)
            common = here.intersection(region)
            if common:
                pixels = segments.get(index, partial(self._decode, shrink))
                background = self._vendor.header.background
                part = background if pixels is None else crop(pixels, common, here)
                crop(canvas, common, region)[:] = part
        return canvas

    def agrees(self) -> bool:
        """Whether OpenSlide shows the same, by the tile that says most and by the last one."""
        counts = np.asarray(self._segments.page.databytecounts)
        tiles = {int(counts.argmax()), int(np.flatnonzero(counts)[-1])} if counts.any() else set()
        return all(self._agrees_on(index) for index in tiles)

    def _agrees_on(self, index: int) -> bool:
        try:
            decoded = self._segments.decode(index)
            shown = self._ask(index)
        except Exception:  # whatever is wrong with it, OpenSlide says it best
            return False
        return decoded is not None and np.array_equal(
            decoded[: len(shown), : shown.shape[1]], shown
        )

    def _decode(self, shrink: int, index: int) -> Samples | None:
        """A tile's pixels, by OpenSlide where there is any doubt."""
        segments = self._by_shrink[shrink]
        try:
            pixels, doubtful = segments.decode_warily(index)
        except Exception:  # each codec has errors of its own
            return self._ask_for(index, shrink)
        if pixels is None:
            return None
        doubtful = doubtful or pixels.shape[:2] != segments.shape
        return self._ask_for(index, shrink) if doubtful else pixels

    def _ask_for(self, index: int, shrink: int) -> Samples:
        shown = self._ask(index)
        return shown if shrink == 1 else shrink_by_means(shown, shrink)

    def _ask(self, index: int) -> NDArray[np.uint8]:
        return self._vendor.read(self._number, self._segments.place(index)[1])


def open_vendor(path: Path) -> Reader:
    """Opens a TIFF of a vendor, to be decoded here as far as that shows what OpenSlide shows.

    Raises:
        UnsupportedError: OpenSlide does not open it.
    """
    vendor = VendorReader(path)
    if vendor.header.format not in VENDORS:
        return vendor
    try:
        file = TiffFile(path)
    except Exception:  # tifffile promises no type for what a file may cause
        return vendor
    try:
        levels = _levels(vendor, file)
    except Exception:  # likewise
        levels = []
    if any(levels):
        return DirectReader(vendor, file, levels)
    file.close()
    return vendor


def _levels(vendor: VendorReader, file: TiffFile) -> list[DirectLevel | None]:
    """What is to be decoded here; None for the levels that stay with OpenSlide."""
    pages = [page for page in file.pages if isinstance(page, TiffPage) and page.is_tiled]
    levels: list[DirectLevel | None] = [None] * len(vendor.header.levels)
    lock = threading.Lock()
    for number, page in enumerate(pages[: len(levels)]):
        if _is_plain(page) and _is_copied(vendor, number, pages):
            level = DirectLevel(vendor, number, Segments(page, page, SHARED, lock))
            levels[number] = level if level.agrees() else None
    return levels


def _is_plain(page: TiffPage) -> bool:
    """Whether a page holds RGB of 8 bits in one plane."""
    return (
        page.dtype == np.uint8
        and page.samplesperpixel == 3
        and page.planarconfig == PLANARCONFIG.CONTIG
        and tiff_tags.color_problem(page) is None
    )


def _is_copied(vendor: VendorReader, number: int, pages: list[TiffPage]) -> bool:
    """Whether OpenSlide copies the tiles of a level as they are.

    It interpolates where the downsample is no whole number, and fills in from the finer level
    what is missing on a coarser one or above it.
    """
    page, size = pages[number], vendor.header.levels[number].size
    return (
        Size(page.imagewidth, page.imagelength) == size
        and vendor.downsamples[number].is_integer()
        and (number == 0 or all(all(above.databytecounts) for above in pages[: number + 1]))
    )
