"""A slide: opened whatever its format, and read at any scale from its best level."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from configs import Doubt
from data.resample import LARGE, ROOM, SUPPORT, resample
from pipeline.errors import ReadError, SlideError
from pipeline.geometry import Rect, Size
from pipeline.slides.containers import (
    FOLDER_SUFFIXES,
    IMAGE_SUFFIXES,
    SLIDE_SUFFIXES,
    open_container,
)
from pipeline.slides.mpp import GivenMpp, Scale, check_mpp_argument, settle_mpp
from pipeline.slides.readers.base import Fact, Level, Reader, plain, show
from pipeline.slides.readers.cached import CachedReader
from pipeline.slides.readers.planes import of_several, retold
from pipeline.slides.readers.profiled import by_profile, with_profile_told

__all__ = ["FOLDER_SUFFIXES", "IMAGE_SUFFIXES", "SLIDE_SUFFIXES", "Level", "Slide", "open_slide"]

LEVEL_TOLERANCE = 1.02
"""A level this much coarser than wanted is read: it loses little and spares many pixels."""

MAX_SIDE_MM, MAX_AREA_MM2 = 250.0, 30_000.0
"""No glass is larger: a slide has 26 × 76 mm, the largest for whole organs some 130 × 200 mm."""

BLOCK = 4096
"""Longest side, in pixels of a level, of what is read at once; memory stays at some 250 MB."""

FINEST_BLOCK = 512
"""Side, in pixels of a level, below which an unreadable block is not searched for good parts."""


@dataclass(frozen=True, slots=True)
class Source:
    """What pixels may be taken from: a level of the file, as it is or decoded smaller.

    Attributes:
        level: index into the slide's levels.
        shrink: 1, or by how much the reader decodes it smaller.
        size: in pixels of the source.
        downsample: level-0 pixels per pixel of it.
    """

    level: int
    shrink: int
    size: Size
    downsample: float


class Slide:
    """An open slide; a context manager.

    Several threads may read at once. A slide does not pickle: open it in each process.

    Attributes:
        path: the file.
        format: vendor or container, such as "aperio" or "png".
        reader: the library that decodes the pixels.
        size: of level 0, in pixels.
        levels: finest first.
        mpp: µm per level-0 pixel.
        mpp_source: "file", "argument", "override", "table" or "estimate".
        objective: magnification as the file states it; None where it does not.
        background: RGB colour of what was never scanned.
        bounds: level-0 area that was scanned; all of the slide where the file says nothing.
        planes: focal planes that the file names, in its order; none where it has one.
        plane: index of the one that is read; None where there is one, or each area has its own.
        facts: what is settled about it, and by whom.
        doubts: what a person should know of how it was settled.
    """

    def __init__(self, path: Path, reader: Reader, scale: Scale) -> None:
        header = reader.header
        self.path = path
        self.format = header.format
        self.reader = reader.library
        self.levels = header.levels
        self.size = header.levels[0].size
        self.objective = header.objective
        self.background = header.background
        self.bounds = header.bounds or Rect(0, 0, self.size.width, self.size.height)
        self.planes = header.planes
        self.plane = header.plane
        self._reader = reader
        self._header = header
        self._others: dict[int, Slide] = {}
        self._lock = threading.Lock()
        self.settle(scale)
        self._sources = _sources(reader)

    def __enter__(self) -> Slide:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def settle(self, scale: Scale) -> None:
        """Takes a scale for the slide's, with what is to be told of it; pixels stay as they are."""
        header = self._header
        self._scale = scale
        for other in self._others.values():
            other.settle(scale)
        self.mpp = scale.mpp
        self.mpp_source = scale.source
        self.facts = (*scale.facts, *header.facts)
        self.doubts = (*scale.doubts, *header.doubts)

    def tell_planes(self, fact: Fact, doubt: Doubt | None, read: Sequence[int] = ()) -> None:
        """Takes other words for which focal planes are read, and which are not looked at.

        Args:
            fact: which are read.
            doubt: which are not looked at; None where all are.
            read: several planes of which all is told, by their index; none for this one alone.

        Raises:
            SlideError: one of these can't be read.
        """
        header = self._reader.header
        if read:
            names = [self.planes[index].name for index in read]
            each = [self.on_plane(index)._reader.header for index in read]
            header = replace(
                header,
                facts=tuple(of_several(names, [one.facts for one in each], "name")),
                doubts=tuple(of_several(names, [one.doubts for one in each], "text")),
            )
        self._header = retold(header, fact, doubt)
        self.settle(self._scale)

    def close(self) -> None:
        """Gives back the file; reading afterwards is an error."""
        self._reader.close()

    def on_plane(self, index: int | None) -> Slide:
        """The same slide in another focal plane: read it as any slide; it is closed with this one.

        Args:
            index: into ``planes``; None for the plane that this one reads.

        Raises:
            SlideError: there is no such plane, or it can't be read.
        """
        if index is None or index == self.plane:
            return self
        with self._lock:
            if index not in self._others:
                try:
                    reader = self._reader.of_plane(index)
                except SlideError as error:
                    raise SlideError(f"{show(self.path)}: {error.text}", error.code) from error
                other = Slide(self.path, reader, self._scale)
                other.background, other.bounds = self.background, self.bounds
                self._others[index] = other
            return self._others[index]

    def read_level(self, level: int, region: Rect) -> NDArray[np.uint8]:
        """Reads pixels of one level as they are.

        Args:
            level: index into ``levels``.
            region: in pixels of that level; what lies beyond it comes as background.

        Returns:
            (height, width, 3) RGB, not always writable.

        Raises:
            ReadError: the region can't be read; others may still be.
        """
        facts = self.levels[level]
        return self._read(Source(level, 1, facts.size, facts.downsample), region)

    def sources_for(self, downsample: float) -> list[Source]:
        """What loses nothing at ``downsample`` level-0 px per output px, coarsest first.

        The finest level is always among them, and the last.
        """
        fine = [
            source
            for source in self._sources[1:]
            if source.downsample <= downsample * LEVEL_TOLERANCE
        ]
        return [*reversed(fine), self._sources[0]]

    def read_region(self, x: float, y: float, size: Size, downsample: float) -> NDArray[np.uint8]:
        """Reads a region at any scale, from the best level that can be read there.

        Overlapping regions whose origins lie whole output pixels apart show the same pixels.

        Args:
            x: left edge in level-0 px; may be fractional, and outside of the slide.
            y: top edge in level-0 px; likewise.
            size: of the result.
            downsample: level-0 px per output px.

        Returns:
            (size.height, size.width, 3) RGB, not always writable.

        Raises:
            ReadError: no level that is fine enough can be read there.
        """
        *coarser, finest = self.sources_for(downsample)
        for source in coarser:
            try:
                return self._assemble(source, x, y, size, downsample)
            except ReadError:
                continue  # a finer level may be whole
        return self._assemble(finest, x, y, size, downsample)

    def overview(self, downsample: float) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """Reads the whole slide at low resolution, block by block, in bounded memory.

        Args:
            downsample: level-0 px per output px.

        Returns:
            (H, W, 3) RGB, and (H, W) bool of which pixels could be read; the others show the
            background.
        """
        source = self.sources_for(downsample)[0]
        width = math.ceil(self.size.width / downsample)
        size = Size(width, math.ceil(self.size.height / downsample))
        canvas, readable = self._canvas(size), np.ones((size.height, size.width), bool)
        scale = downsample / source.downsample
        unread = list(_blocks(Rect(0, 0, size.width, size.height), BLOCK / scale))
        while unread:
            block = unread.pop()
            rows, columns = _slices(block)
            try:
                canvas[rows, columns] = self._read_block(source, 0, 0, block, downsample)
            except ReadError:
                longest = max(block.width, block.height)
                if longest * scale > FINEST_BLOCK and longest > 1:
                    unread.extend(_blocks(block, longest / 2))
                else:
                    readable[rows, columns] = False
        return canvas, readable

    def _assemble(
        self, source: Source, x: float, y: float, size: Size, downsample: float
    ) -> NDArray[np.uint8]:
        """A region from one source, in blocks where it would be large in that one's pixels."""
        side = BLOCK * source.downsample / downsample
        blocks = list(_blocks(Rect(0, 0, size.width, size.height), side))
        if len(blocks) == 1:
            return self._read_block(source, x, y, blocks[0], downsample)
        canvas = self._canvas(size)
        for block in blocks:
            canvas[_slices(block)] = self._read_block(source, x, y, block, downsample)
        return canvas

    def _read_block(
        self, source: Source, x: float, y: float, block: Rect, downsample: float
    ) -> NDArray[np.uint8]:
        """A block, in output px, of the region whose origin is x, y in level-0 px."""
        native = source.downsample
        left, top = (x + block.x * downsample) / native, (y + block.y * downsample) / native
        scale = downsample / native
        right, bottom = left + block.width * scale, top + block.height * scale
        as_it_is = scale == 1 and left.is_integer() and top.is_integer()
        margin = 0 if as_it_is else math.ceil(SUPPORT * max(scale, 1))
        large = scale >= 1 and block.width * block.height >= LARGE
        before = margin + (math.ceil(ROOM * scale) if large and not as_it_is else 0)
        region_x, region_y = math.floor(left) - before, math.floor(top) - before
        width = math.ceil(right) + margin - region_x
        height = math.ceil(bottom) + margin - region_y
        pixels = self._read(source, Rect(region_x, region_y, width, height))
        box = (left - region_x, top - region_y, right - region_x, bottom - region_y)
        return resample(pixels, (block.width, block.height), box)

    def _read(self, source: Source, region: Rect) -> NDArray[np.uint8]:
        """Pixels of a source as they are; what lies beyond it comes as background."""
        inside = region.intersection(Rect(0, 0, source.size.width, source.size.height))
        if inside == region:
            return self._reader.read(source.level, region, source.shrink)
        canvas = self._canvas(Size(region.width, region.height))
        if inside:
            x, y = inside.x - region.x, inside.y - region.y
            pixels = self._reader.read(source.level, inside, source.shrink)
            canvas[y : y + inside.height, x : x + inside.width] = pixels
        return canvas

    def _canvas(self, size: Size) -> NDArray[np.uint8]:
        return plain(size, self.background)


def open_slide(
    path: Path,
    mpp: float | GivenMpp | None = None,
    cache: Path | None = None,
    *,
    icc: bool = False,
) -> Slide:
    """Opens a slide of any format that is known, or a plain image.

    Args:
        path: of the slide's main file.
        mpp: µm per level-0 pixel, for files that carry none or an absurd one; or all that the
            user says of the slide's scale.
        cache: a folder that keeps what was decoded; see `CachedReader`.
        icc: whether its colour profile is applied, where it has one; else pixels are as they are
            stored.

    Raises:
        SlideError: the file is missing, unreadable, no slide, not what its ending promises,
            truncated or damaged, or nobody knows its mpp; one line that begins with the file.
        ConfigError: ``mpp`` is absurd.
    """
    given = mpp if isinstance(mpp, GivenMpp) else GivenMpp(mpp)
    check_mpp_argument(given.gap)
    reader = open_container(path)
    if cache is not None:
        reader = CachedReader(reader, path, cache)
    try:
        reader = by_profile(reader) if icc else with_profile_told(reader)
        slide = Slide(path, reader, settle_mpp(reader.header.mpp, given, reader.header.mpp_denied))
        check_size(slide)
        return slide
    except SlideError as error:
        reader.close()
        raise SlideError(f"{show(path)}: {error.text}", error.code) from error


def check_size(slide: Slide) -> None:
    """Refuses what no glass can be, before memory is taken for an overview of it.

    Raises:
        SlideError: the slide is longer than `MAX_SIDE_MM`, or larger than `MAX_AREA_MM2`.
    """
    width, height = slide.size.width * slide.mpp / 1000, slide.size.height * slide.mpp / 1000
    if max(width, height) > MAX_SIDE_MM or width * height > MAX_AREA_MM2:
        raise SlideError(
            f"claims {width:,.0f} × {height:,.0f} mm, which no glass slide has: it is damaged "
            f"(copy it again), or {slide.mpp:g} µm per pixel is wrong"
        )


def _sources(reader: Reader) -> list[Source]:
    """What a reader gives, finest first: of two that are alike the level as it is."""
    levels = reader.header.levels
    as_they_are = [Source(i, 1, facts.size, facts.downsample) for i, facts in enumerate(levels)]
    shrunk = [
        Source(
            source.level,
            shrink,
            Size(source.size.width // shrink, source.size.height // shrink),
            source.downsample * shrink,
        )
        for source in as_they_are
        for shrink in reader.shrinks(source.level)
    ]
    return sorted(shrunk + as_they_are, key=lambda source: source.downsample)


def _blocks(area: Rect, side: float) -> Iterator[Rect]:
    """Parts an area, row by row, into rectangles of at most ``side`` pixels a side."""
    step = max(1, math.floor(side))
    for y in range(area.y, area.bottom, step):
        for x in range(area.x, area.right, step):
            yield Rect(x, y, min(step, area.right - x), min(step, area.bottom - y))


def _slices(rect: Rect) -> tuple[slice, slice]:
    """Rows and columns of a rectangle in an array."""
    return slice(rect.y, rect.bottom), slice(rect.x, rect.right)
