"""Where a slide is out of focus: the sharpness of squares, measured in the tiles that are read.

A square of `SIDE` of the deposit's squares, 128 µm, holds a few cells. It is measured in the tile
that owns its middle, where the overview shows anything in it; see `pipeline.tiles.sharpness`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.geometry import Boxes
from pipeline.tiles.foreground import Foreground
from pipeline.tiles.sharpness import SAMPLE_MPP, sharpness
from pipeline.tiles.tiler import TileGrid

SIDE = 2
"""Squares of the deposit a side."""

ENLARGED = 1.25
"""How much coarser than `SAMPLE_MPP` a picture is at most; details of coarser ones say nothing."""

_AS_IT_IS = 0.05
"""By which a scale may differ from `SAMPLE_MPP` without being changed."""


@dataclass(frozen=True)
class Sharpness:
    """How sharp the squares of one tile are.

    Attributes:
        places: (N, 2) row and column of each.
        values: (N,) NaN of those that have too little stain.
        seconds: how long it took.
    """

    places: NDArray[np.intp] = field(default_factory=lambda: np.zeros((0, 2), np.intp))
    values: NDArray[np.float16] = field(default_factory=lambda: np.zeros(0, np.float16))
    seconds: float = 0.0

    def put_into(self, squares: NDArray[np.float16]) -> None:
        """Writes the values to their places, over what is less sharp, as of another focal plane."""
        where = tuple(self.places.T)
        squares[where] = np.fmax(squares[where], self.values)


@dataclass(frozen=True)
class FocusSquares:
    """The squares of a slide, and which tile measures which.

    Attributes:
        tiles: of the slide.
        foreground: where there is anything.
        side: of a square in level-0 pixels; the first one starts at (0, 0).
        mpp: µm per level-0 pixel.
    """

    tiles: TileGrid
    foreground: Foreground
    side: float
    mpp: float

    @property
    def tells(self) -> bool:
        """Whether slide and tiles are fine enough."""
        coarsest = max(self.mpp, self.tiles.downsample * self.mpp)
        return coarsest <= ENLARGED * SAMPLE_MPP

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        bounds = self.tiles.bounds
        return math.ceil(bounds.bottom / self.side), math.ceil(bounds.right / self.side)

    def of_tile(self, index: int) -> NDArray[np.intp]:
        """(N, 2) row and column of the squares that a tile measures."""
        left, top, right, bottom = self.tiles.cores([index])[0] / self.side
        rows, columns = _middles(top, bottom), _middles(left, right)
        places = np.stack(np.meshgrid(rows, columns, indexing="ij"), axis=-1).reshape(-1, 2)
        return places[self.foreground.any_in(self._boxes(places))]

    def measure(self, index: int, pixels: NDArray[np.uint8], unread: Boxes) -> Sharpness:
        """Measures the squares of a tile; those that could not be read are none.

        Args:
            index: of the tile.
            pixels: (size, size, 3) RGB.
            unread: (N, 4) level-0 boxes.
        """
        places = self.of_tile(index)
        boxes = self._boxes(places)
        whole = ~_meet(boxes, unread)
        places, boxes = places[whole], boxes[whole]
        origin = np.tile(self.tiles.origin(index), 2)
        corners = np.rint((boxes - origin) / self.tiles.downsample).astype(np.intp)
        corners = corners.clip(0, self.tiles.settings.size)
        found = [self._sharpness(pixels[y0:y1, x0:x1]) for x0, y0, x1, y1 in corners]
        return Sharpness(places, np.array(found, np.float16))

    def _boxes(self, places: NDArray[np.intp]) -> Boxes:
        """(N, 4) in level-0 pixels, as far as the slide was scanned."""
        bounds = self.tiles.bounds
        corners = places[:, ::-1] * self.side
        low, high = (bounds.x, bounds.y), (bounds.right, bounds.bottom)
        parts = (corners.clip(low, high), (corners + self.side).clip(low, high))
        return np.concatenate(parts, axis=1)

    def _sharpness(self, pixels: NDArray[np.uint8]) -> float:
        scale = self.tiles.downsample * self.mpp / SAMPLE_MPP
        if abs(scale - 1) > _AS_IT_IS:
            size = [max(1, round(scale * side)) for side in pixels.shape[1::-1]]
            way = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
            pixels = np.asarray(cv2.resize(pixels, size, interpolation=way), np.uint8)
        value = sharpness(pixels)
        return math.nan if value is None else value


def _middles(start: float, end: float) -> NDArray[np.intp]:
    """Numbers of the squares whose middle lies in an interval, in sides of a square."""
    return np.arange(max(0, math.ceil(start - 0.5)), math.ceil(end - 0.5))


def _meet(boxes: Boxes, others: Boxes) -> NDArray[np.bool_]:
    """Says (N,) which boxes any of the others overlaps."""
    one, other = boxes[:, None], others[None]
    apart = (one[..., :2] >= other[..., 2:]) | (one[..., 2:] <= other[..., :2])
    return np.asarray(np.any(~np.any(apart, axis=-1), axis=1))
