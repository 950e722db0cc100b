"""Pictures of one place: whether two show it, and which of several is sharpest.

Both are judged by a few regions in which the first picture has something to show, so that a slide
of any size costs some dozens of decoded tiles. Slides of one focal plane never come here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ReadError
from pipeline.geometry import Rect, Size
from pipeline.slides.readers.base import Reader

SIDE = 512
"""Side, in level-0 pixels, of the regions that are compared: several cells, 0.1 mm at 40x."""

PLACES = 6
"""Regions that are compared."""

GRID = 12
"""Regions a side among which those are chosen."""

COARSE = 32
"""Coarsest downsample at which it is told where there is something."""

SAME = 0.5
"""Correlation of two pictures above which they show one place. Fields of real cells have 0.88 and
more with themselves, blurred by up to 16 px (standard deviation), and 0.2 and less with others."""

MERGED = 16
"""Side, in level-0 pixels, of what is merged before two pictures are correlated: blur of that width
doesn't matter then."""

FEWEST = 16
"""Merged pixels a side at least, of small pictures: of few values chance would decide."""

FLAT = 1.0
"""Standard deviation, in levels of 255, below which a region shows nothing."""

SHARPER = 1.05
"""By how much the sharpness of a plane must exceed that of the one which comes first."""


@dataclass(frozen=True, slots=True)
class Sharpest:
    """Which of several planes is in focus.

    Attributes:
        index: of the plane.
        measured: whether the pixels said so; otherwise it is the one that comes first.
    """

    index: int
    measured: bool


def sharpest(planes: Sequence[Reader], level: int = 0, first: int = 0) -> Sharpest:
    """The best-focused of several pictures of one place.

    Sharpness is Tenengrad's: the mean squared gradient by Sobel's operator, here of grey at half
    the size, where a camera's noise weighs less. Each region weighs the same: planes are compared
    by the mean logarithm of their sharpness. One that can't be read at any of them is left out.

    Args:
        planes: of equal levels.
        level: the level whose pixels are compared.
        first: index of the plane that is taken where none is sharper by `SHARPER`.
    """
    order = [first, *(index for index in range(len(planes)) if index != first)]
    found = (telling_places(planes[index]) for index in order)  # the first may be damaged
    places = next((each for each in found if each), [])
    values = np.array([_sharpness(planes, level, place) for place in places])
    rows = values.reshape(-1, len(planes))
    readable = ~np.isnan(rows).all(axis=0) if len(rows) else np.zeros(len(planes), bool)
    # What one plane can't show says nothing about any.
    rows = rows[~np.isnan(rows[:, readable]).any(axis=1)]
    if not len(rows) or not readable.any():
        return Sharpest(first, measured=False)
    scores = np.where(readable, np.log(rows).mean(axis=0), -np.inf)
    best = int(scores.argmax())
    if readable[first] and scores[best] - scores[first] < np.log(SHARPER):
        best = first
    return Sharpest(best, measured=True)


def same_place(one: Reader, other: Reader, places: Sequence[Rect] | None = None) -> bool:
    """Whether two pictures show the same, up to focus and scale; False where they show nothing.

    Each region is compared around its own mean: two round preparations look alike from afar, but
    not their cells.

    Args:
        one: a picture.
        other: another one, as large or smaller.
        places: the `telling_places` of the first, if known.
    """
    places = telling_places(one) if places is None else places
    pairs = [pair for place in places if (pair := _pair(one, other, place)) is not None]
    if not pairs:
        return False
    first, second = (np.concatenate(parts) for parts in zip(*pairs, strict=True))
    strength = float(np.sqrt((first**2).sum() * (second**2).sum()))
    return strength > 0 and float((first * second).sum()) / strength > SAME


def telling_places(reader: Reader) -> list[Rect]:
    """Regions in level-0 pixels where a picture shows most, most first; none for a blank one."""
    levels = reader.header.levels
    size = levels[0].size
    number = max(n for n, level in enumerate(levels) if n == 0 or level.downsample <= COARSE)
    found: list[tuple[float, Rect]] = []
    for place in _grid(size):
        region = _within(_scaled(place, 1 / levels[number].downsample), levels[number].size)
        try:
            spread = float(_grey(reader.read(number, region)).std())
        except ReadError:
            continue
        if spread > FLAT:
            found.append((spread, place))
    found.sort(key=lambda item: -item[0])
    return [place for _, place in found[:PLACES]]


def _grid(size: Size) -> list[Rect]:
    """Regions spread evenly over a picture; all of it where it is small."""
    width, height = min(SIDE, size.width), min(SIDE, size.height)
    columns = min(GRID, -(-size.width // width))
    rows = min(GRID, -(-size.height // height))
    xs = np.linspace(0, size.width - width, columns).astype(int)
    ys = np.linspace(0, size.height - height, rows).astype(int)
    return [Rect(int(x), int(y), width, height) for y in ys for x in xs]


def _sharpness(planes: Sequence[Reader], level: int, place: Rect) -> NDArray[np.float64]:
    """(planes,) of each plane at one place; NaN where it can't be read."""
    values = []
    for plane in planes:
        facts = plane.header.levels[level]
        region = _within(_scaled(place, 1 / facts.downsample), facts.size)
        try:
            grey = _grey(plane.read(level, region))
        except ReadError:
            values.append(math.nan)
            continue
        half = cv2.resize(grey, _halved(grey), interpolation=cv2.INTER_AREA)
        across, down = (cv2.Sobel(half, cv2.CV_32F, *axes) for axes in ((1, 0), (0, 1)))
        values.append(float((across**2 + down**2).mean()) + 1e-3)
    return np.array(values)


def _pair(
    one: Reader, other: Reader, place: Rect
) -> tuple[NDArray[np.float32], NDArray[np.float32]] | None:
    """Merged pixels of two pictures, around their means; None where one can't be read."""
    sizes = [reader.header.levels[0].size for reader in (one, other)]
    merged = tuple(max(side // MERGED, min(side, FEWEST)) for side in (place.width, place.height))
    parts = []
    for reader, size in zip((one, other), sizes, strict=True):
        region = _within(_scaled(place, size.width / sizes[0].width), size)
        try:
            grey = _grey(reader.read(0, region))
        except ReadError:
            return None
        part = cv2.resize(grey, merged, interpolation=cv2.INTER_AREA)
        parts.append((part - part.mean()).ravel())
    return parts[0], parts[1]


def _grey(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    grey = cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_RGB2GRAY)
    return grey.astype(np.float32)


def _halved(grey: NDArray[np.float32]) -> tuple[int, int]:
    return max(1, grey.shape[1] // 2), max(1, grey.shape[0] // 2)


def _scaled(place: Rect, scale: float) -> Rect:
    sides = (place.x, place.y, place.width, place.height)
    return Rect(*(round(side * scale) for side in sides))


def _within(region: Rect, size: Size) -> Rect:
    """The region, at least a pixel of it, moved into a picture."""
    width, height = (
        max(1, min(region.width, size.width)),
        max(1, min(region.height, size.height)),
    )
    return Rect(
        max(0, min(region.x, size.width - width)),
        max(0, min(region.y, size.height - height)),
        width,
        height,
    )
