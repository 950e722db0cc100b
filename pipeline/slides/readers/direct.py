"""Vendors' tiled TIFF whose tiles are decoded here, each once, with OpenSlide as the judge.

OpenSlide decodes and paints a tile anew for nearly every region that touches it. Here a region is
pasted together from whole decoded tiles, which neighbouring regions share. No pixel differs: what
OpenSlide would draw otherwise than by copying tiles, it draws itself. Only colours that the file
misstates come otherwise than by OpenSlide: as the JPEGs say.

OpenSlide blanks the place of a tile that the finest level doesn't store, on every level. Of a
vendor that leaves none out it was lost, and the place is unread.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tifffile import PLANARCONFIG, TiffFile, TiffPage

from configs import Doubt
from data.pixels.jpeg import Space
from pipeline.errors import ReadError, SlideError
from pipeline.geometry import Rect, Size
from pipeline.slides.readers import tiff_tags
from pipeline.slides.readers.base import Reader, reason, show
from pipeline.slides.readers.colors import believe_markers, misread, misstated, told
from pipeline.slides.readers.grids import Grid, fact_of_gaps
from pipeline.slides.readers.segments import (
    SHARED,
    Samples,
    Segments,
    crop,
    segment_size,
    shrink_by_means,
    shrunk_jpegs,
)
from pipeline.slides.readers.tiff_file import pages_of
from pipeline.slides.readers.vendor import VendorReader

VENDORS = frozenset({"aperio", "philips"})
"""Vendors each of whose levels is one page, its tiles side by side."""

LEAVE_OUT = frozenset({"philips"})
"""Those among them that don't store tiles of what wasn't scanned."""

SMOOTHED = 8.0
"""Levels of 255 by which a tile may differ, in the mean, from what OpenSlide makes of it where it
interpolates. Colours that are misread differ by tens."""

BY_MARKERS = frozenset({"hamamatsu"})
"""Vendors whose JPEGs OpenSlide reads as they say themselves, whatever the tags say."""


class DirectReader(Reader):
    """A file that OpenSlide opens, and some of whose levels need not be read by it.

    Args:
        vendor: the same file, open.
        file: likewise, as TIFF.
        levels: what to decode here; None for a level that stays with OpenSlide.
        gaps: where the finest level has tiles; None where all are stored.
    """

    def __init__(
        self,
        vendor: VendorReader,
        file: TiffFile,
        levels: list[DirectLevel | None],
        gaps: Grid | None,
    ) -> None:
        self.library = "imagecodecs" if any(levels) else vendor.library
        told_once = dict.fromkeys(told for tiles in levels if tiles for told in tiles.doubts())
        doubts, facts = (*vendor.header.doubts, *told_once), vendor.header.facts
        self._lost = None
        if gaps is not None:
            left_out = vendor.header.format in LEAVE_OUT
            self._lost = None if left_out else gaps
            facts = (*facts, fact_of_gaps(gaps, "shown as glass" if left_out else "unread"))
        self.header = replace(vendor.header, doubts=doubts, facts=facts)
        self._vendor = vendor
        self._file = file
        self._levels = levels

    def shrinks(self, level: int) -> tuple[int, ...]:
        """See `Reader.shrinks`."""
        tiles = self._levels[level]
        return tiles.shrinks if tiles else ()

    def profile(self) -> bytes | None:
        """See `Reader.profile`."""
        return self._vendor.profile()

    def read(self, level: int, region: Rect, shrink: int = 1) -> NDArray[np.uint8]:
        """See `Reader.read`."""
        if self._lost is not None:
            self._check_lost(self._lost, level, region, shrink)
        tiles = self._levels[level]
        return tiles.read(region, shrink) if tiles else self._vendor.read(level, region)

    def close(self) -> None:
        """See `Reader.close`."""
        self._levels = [None for _ in self._levels]
        self._vendor.close()
        self._file.close()

    def _check_lost(self, finest: Grid, level: int, region: Rect, shrink: int) -> None:
        """Refuses a region that shows something of a tile that was lost.

        Raises:
            ReadError: it does.
        """
        scale = self._vendor.downsamples[level] * shrink
        margin = 0 if scale.is_integer() else math.ceil(scale)  # OpenSlide interpolates
        left, top = (max(0, math.floor(side * scale) - margin) for side in (region.x, region.y))
        right, bottom = (math.ceil(side * scale) + margin for side in (region.right, region.bottom))
        lost = next(finest.gaps_in(Rect(left, top, right - left, bottom - top)), None)
        if lost is not None:
            place = finest.place(*lost)
            raise ReadError(
                f"{show(self._file.filehandle.path)}: level {level}: the tile at {place.x}, "
                f"{place.y} of the finest level is not stored; copy or scan the slide again"
            )


class DirectLevel:
    """One level, read as OpenSlide reads it, but for colours that the file misstates.

    OpenSlide believes the tag; here the JPEGs' own markers are believed (`colors.py`).
    """

    def __init__(self, vendor: VendorReader, number: int, segments: Segments) -> None:
        self.misstated = believe_markers(segments)
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

    def agrees(self, tolerance: float) -> bool:
        """Whether OpenSlide shows the same, by the tile that says most and by the last one.

        Args:
            tolerance: levels of 255 by which they may differ in the mean.
        """
        counts = np.asarray(self._segments.page.databytecounts)
        tiles = {int(counts.argmax()), int(np.flatnonzero(counts)[-1])} if counts.any() else set()
        return all(self._agrees_on(index, tolerance) for index in tiles)

    def doubts(self) -> Iterator[Doubt]:
        """What a person should know of its colours."""
        if self.misstated:
            yield told(self.misstated, "the TIFF")

    def _agrees_on(self, index: int, tolerance: float) -> bool:
        try:
            decoded = self._segments.decode(index)
            if self.misstated:  # what OpenSlide takes them for
                decoded = misread(self._segments, index, self.misstated)
            shown = self._ask(index)
        except Exception:  # whatever is wrong with it, OpenSlide says it best
            return False
        if decoded is None:
            return False
        difference = decoded[: len(shown), : shown.shape[1]].astype(np.int16) - shown
        return bool(np.abs(difference).mean() <= tolerance)

    def _decode(self, shrink: int, index: int) -> Samples | None:
        """A tile's pixels, by OpenSlide where there is any doubt."""
        segments = self._by_shrink[shrink]
        try:
            pixels, doubtful = segments.decode_warily(index)
        except Exception as error:  # each codec has errors of its own
            if self.misstated:
                name = self._segments.page.parent.filehandle.name
                raise ReadError(f"{name}: level {self._number}: {reason(error)}") from error
            return self._ask_for(index, shrink)
        if pixels is None:
            return None
        doubtful = doubtful or pixels.shape[:2] != segments.shape
        if not doubtful:
            return pixels
        judged = self._ask_for(index, shrink)
        return pixels if self.misstated and pixels.shape == judged.shape else judged

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
    if vendor.header.format in BY_MARKERS:
        return vendor
    try:
        file = TiffFile(path)
    except Exception:  # tifffile promises no type for what a file may cause
        return vendor
    levels: list[DirectLevel | None] = []
    gaps = None
    try:
        denied = _denied(file)
        if vendor.header.format in VENDORS:
            gaps = _gaps(vendor, file)
            levels = _levels(vendor, file)
    except Exception:  # likewise
        denied = []
    corrected = [tiles for tiles in levels if tiles and tiles.misstated]
    if len(denied) > len(corrected):
        file.close()
        vendor.close()
        text = f"{told(denied[0], 'the TIFF').text}, which can't be done on all levels"
        todo = "export the slide anew, or as TIFF of no vendor"
        raise SlideError(f"{show(path)}: {text}; {todo}", "colour-contradiction")
    if any(levels) or gaps is not None:
        return DirectReader(vendor, file, levels or [None] * len(vendor.header.levels), gaps)
    file.close()
    return vendor


def _tiled(file: TiffFile) -> list[TiffPage]:
    return [page for page in pages_of(file) if isinstance(page, TiffPage) and page.is_tiled]


def _denied(file: TiffFile) -> list[Space]:
    """What tags say of colours, of the pages whose JPEGs deny it."""
    lock = threading.Lock()
    found = (misstated(Segments(page, page, SHARED, lock)) for page in _tiled(file))
    return [stated for stated in found if stated]


def _gaps(vendor: VendorReader, file: TiffFile) -> Grid | None:
    """Where the finest level has tiles; None where all are stored."""
    page = next(iter(_tiled(file)), None)
    if page is None or all(page.databytecounts):
        return None
    size, side = Size(page.imagewidth, page.imagelength), Size(*segment_size(page))
    rows, columns = -(-size.height // side.height), -(-size.width // side.width)
    stored = np.asarray(page.databytecounts) > 0
    if size != vendor.header.levels[0].size or len(stored) % (rows * columns):
        return None
    return Grid(np.asarray(stored.reshape(-1, rows, columns).all(axis=0)), side, size)


def _levels(vendor: VendorReader, file: TiffFile) -> list[DirectLevel | None]:
    """What is to be decoded here; None for the levels that stay with OpenSlide."""
    pages = _tiled(file)
    levels: list[DirectLevel | None] = [None] * len(vendor.header.levels)
    lock = threading.Lock()
    for number, page in enumerate(pages[: len(levels)]):
        if not _is_plain(page) or not _is_whole(vendor, number, pages):
            continue
        level = DirectLevel(vendor, number, Segments(page, page, SHARED, lock))
        copied = vendor.downsamples[number].is_integer()
        if (copied or level.misstated) and level.agrees(0.0 if copied else SMOOTHED):
            levels[number] = level
    return levels


def _is_plain(page: TiffPage) -> bool:
    """Whether a page holds RGB of 8 bits in one plane."""
    return (
        page.dtype == np.uint8
        and page.samplesperpixel == 3
        and page.planarconfig == PLANARCONFIG.CONTIG
        and tiff_tags.color_problem(page) is None
    )


def _is_whole(vendor: VendorReader, number: int, pages: list[TiffPage]) -> bool:
    """Whether OpenSlide makes a level of its own tiles alone.

    It fills in from the finer level what is missing on a coarser one or above it. Where the
    downsample is a whole number too, it copies the tiles; else it interpolates.
    """
    page, size = pages[number], vendor.header.levels[number].size
    return Size(page.imagewidth, page.imagelength) == size and (
        number == 0 or all(all(above.databytecounts) for above in pages[: number + 1])
    )
