"""DeepZoom tiles of a slide: JPEG squares of any level, unread parts hatched.

Level `max_level` is the slide's finest; each one below it is half as large, down to one pixel.
Levels between the file's are read from the next finer one. Those far below its coarsest are made
of one overview, which is kept while the slide is open: see `ground.Ground`.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.errors import ReadError
from pipeline.geometry import Rect, Size

TILE = 256
"""Side of a tile, in pixels of its level; those at the right and lower ends are smaller."""

QUALITY = 85

FINEST_PART = 32
"""Side, in pixels of a tile, below which an unreadable part is not searched for good ones."""

_STRIPE = 12
_HATCH = np.array([(96, 96, 96), (232, 232, 232)], np.uint8)
"""Colours of the stripes of what can't be read: none that stained cells have."""


class Pixels(Protocol):
    """What gives the pixels of a region at any scale; `Slide.read_region` does."""

    def read_region(self, x: float, y: float, size: Size, downsample: float) -> NDArray[np.uint8]:
        """(height, width, 3) RGB; ReadError where it can't be read."""


@dataclass(frozen=True)
class Pyramid:
    """The levels of a slide of some size, as DeepZoom counts them.

    Attributes:
        size: of the finest level.
    """

    size: Size

    @property
    def max_level(self) -> int:
        """Number of the finest level."""
        return math.ceil(math.log2(max(self.size.width, self.size.height)))

    def downsample(self, level: int) -> int:
        """Level-0 px per pixel of a level."""
        return 1 << (self.max_level - level)

    def level_size(self, level: int) -> Size:
        """Of a level, in its pixels."""
        step = self.downsample(level)
        return Size(-(-self.size.width // step), -(-self.size.height // step))

    def tile(self, level: int, column: int, row: int) -> Rect | None:
        """A tile in pixels of its level; None where there is none."""
        if not 0 <= level <= self.max_level or column < 0 or row < 0:
            return None
        size = self.level_size(level)
        whole = Rect(0, 0, size.width, size.height)
        return Rect(column * TILE, row * TILE, TILE, TILE).intersection(whole)


def read_marked(
    pixels: Pixels, x: float, y: float, size: Size, downsample: float
) -> tuple[NDArray[np.uint8], bool]:
    """A region with what can't be read hatched.

    Args:
        pixels: of the slide.
        x: left edge in level-0 px.
        y: top edge in level-0 px.
        size: of the result.
        downsample: level-0 px per output px.

    Returns:
        (height, width, 3) RGB, and whether all of it could be read.
    """
    try:
        return pixels.read_region(x, y, size, downsample), True
    except ReadError:
        pass
    canvas = hatching(x / downsample, y / downsample, size)
    if max(size.width, size.height) > FINEST_PART:
        half_w, half_h = max(1, size.width // 2), max(1, size.height // 2)
        for top in range(0, size.height, half_h):
            for left in range(0, size.width, half_w):
                part = Size(min(half_w, size.width - left), min(half_h, size.height - top))
                inner, _ = read_marked(
                    pixels, x + left * downsample, y + top * downsample, part, downsample
                )
                canvas[top : top + part.height, left : left + part.width] = inner
    return canvas, False


def hatching(x: float, y: float, size: Size) -> NDArray[np.uint8]:
    """Diagonal stripes that go on from tile to tile; (height, width, 3)."""
    rows, columns = np.arange(size.height) + round(y), np.arange(size.width) + round(x)
    stripe = (rows[:, None] + columns[None, :]) // _STRIPE % 2
    return _HATCH[stripe]


def encode(pixels: NDArray[np.uint8], quality: int = QUALITY) -> bytes:
    """JPEG of (height, width, 3) RGB."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=quality)
    return stream.getvalue()
