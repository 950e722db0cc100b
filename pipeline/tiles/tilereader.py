"""One tile's pixels, and which part of what it owns could not be read."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ReadError
from pipeline.geometry import Boxes, Rect, Size
from pipeline.slides.readers.base import plain
from pipeline.slides.slide import Slide
from pipeline.tiles.focus import FocusSquares, Sharpness
from pipeline.tiles.tiler import TileGrid

SMALLEST_READ = 128
"""Model pixels: what can't be read is narrowed down to squares no smaller than this."""


@dataclass(frozen=True)
class ReadTile:
    """A tile as the detector takes it.

    Attributes:
        index: in the grid.
        pixels: (size, size, 3) RGB; background where nothing could be read.
        unread: (N, 4) level-0 boxes within the tile's core that could not be read.
        seconds: how long it took to read.
        plane: the focal plane; None for a slide that has one.
        missed: what could not be read in which other planes, where the sharpest is looked for.
        patches: (N, 4) level-0 boxes of the tile that are of other planes, for each of these.
        focusing: how long it took to find that, in seconds.
        sharpness: of the squares that it owns; none where that is not wanted.
    """

    index: int
    pixels: NDArray[np.uint8]
    unread: Boxes
    seconds: float
    plane: int | None = None
    missed: tuple[tuple[int, Boxes], ...] = ()
    patches: tuple[tuple[int, Boxes], ...] = ()
    focusing: float = 0.0
    sharpness: Sharpness = field(default_factory=Sharpness)


def read_tile(
    slide: Slide,
    grid: TileGrid,
    index: int,
    squares: FocusSquares | None = None,
    spare: Mapping[int, Slide] | None = None,
) -> ReadTile:
    """Reads a tile at the model's mpp, around whatever in it can't be read.

    Args:
        slide: an open one.
        grid: of its tiles.
        index: of the tile.
        squares: whose sharpness is measured; None for none.
        spare: the slide in other focal planes: what can't be read is taken of the first of these
            in which it can; None for none.
    """
    start = time.perf_counter()
    origin = grid.origin(index)
    size = grid.settings.size
    whole_tile = Rect(0, 0, size, size)
    slides = ((None, slide), *(spare or {}).items())
    parts = list(_read_parts(slides, origin, whole_tile, grid.downsample))
    whole = parts[0][1] if len(parts) == 1 else None
    pixels = plain(Size(size, size), slide.background) if whole is None else whole
    unread, patches = list[Rect](), defaultdict[int, list[Rect]](list)
    for part, content, plane in parts:
        if content is None:
            unread.append(part)
        elif whole is None:
            pixels[part.y : part.bottom, part.x : part.right] = content
        if plane is not None:
            patches[plane].append(part)
    pixels = np.require(pixels, requirements=["C", "W"])  # torch wants its tensors writable
    boxes = _boxes(unread, origin, grid.downsample)
    owned = _clip(boxes, grid.cores([index])[0])
    patched = tuple((n, _boxes(at, origin, grid.downsample)) for n, at in patches.items())
    tile = ReadTile(index, pixels, owned, time.perf_counter() - start, patches=patched)
    if squares is None:
        return tile
    start = time.perf_counter()
    sharp = squares.measure(index, pixels, boxes)
    return replace(tile, sharpness=replace(sharp, seconds=time.perf_counter() - start))


def _read_parts(
    slides: Sequence[tuple[int | None, Slide]],
    origin: tuple[float, float],
    part: Rect,
    downsample: float,
) -> Iterator[tuple[Rect, NDArray[np.uint8] | None, int | None]]:
    """A part of a tile as one piece, or in quarters where that fails; None where all fails.

    The smallest ones are taken of the first slide that has them, all others of the first alone.
    Each comes with the plane that its slide is given with.
    """
    x, y = origin[0] + part.x * downsample, origin[1] + part.y * downsample
    divides = min(part.width, part.height) >= 2 * SMALLEST_READ
    for plane, slide in slides[:1] if divides else slides:
        with suppress(ReadError):
            size = Size(part.width, part.height)
            yield part, slide.read_region(x, y, size, downsample), plane
            return
    if not divides:
        yield part, None, None
        return
    for quarter in _quarters(part):
        yield from _read_parts(slides, origin, quarter, downsample)


def _quarters(rect: Rect) -> Iterator[Rect]:
    half_width, half_height = rect.width // 2, rect.height // 2
    for y, height in ((rect.y, half_height), (rect.y + half_height, rect.height - half_height)):
        for x, width in ((rect.x, half_width), (rect.x + half_width, rect.width - half_width)):
            yield Rect(x, y, width, height)


def _boxes(parts: Sequence[Rect], origin: tuple[float, float], downsample: float) -> Boxes:
    """(N, 4) parts of a tile in level-0 pixels."""
    corners = [[part.x, part.y, part.right, part.bottom] for part in parts]
    boxes = np.array(corners, np.float64).reshape(-1, 4)
    return np.asarray(boxes * downsample + np.tile(origin, 2))


def _clip(boxes: Boxes, core: Boxes) -> Boxes:
    clipped = np.concatenate(
        [np.maximum(boxes[:, :2], core[:2]), np.minimum(boxes[:, 2:], core[2:])], axis=1
    )
    return clipped[(clipped[:, 2:] > clipped[:, :2]).all(axis=1)]
