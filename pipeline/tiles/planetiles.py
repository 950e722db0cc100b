"""Tiles of a slide with focal planes: which plane of each is read, and what can't be read of it."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.errors import ReadError
from pipeline.geometry import Boxes, Size
from pipeline.slides.readers.focus import SHARPER
from pipeline.slides.slide import Slide
from pipeline.tiles.focal import PlanePlan
from pipeline.tiles.focus import FocusSquares
from pipeline.tiles.foreground import Foreground
from pipeline.tiles.tiler import TileGrid
from pipeline.tiles.tilereader import ReadTile, read_tile

COARSER = 2
"""By how much coarser than the model's scale planes are compared."""

BLOCK = 32
"""Side, in pixels of that scale, of the squares of a tile that weigh alike: some 30 µm, a cell or
two, so that one speck in focus decides nothing."""

LEAST_ENERGY = 1e-3
"""Mean squared gradient that is added everywhere: what is flat has no logarithm."""

Planes = tuple[int | None, ...]


@dataclass(frozen=True)
class Job:
    """One reading of a tile.

    Attributes:
        index: in the grid.
        planes: of which one is read: the only one there, or the sharpest of several.
    """

    index: int
    planes: Planes


class PlaneTiles:
    """Reads the tiles of a slide in the focal planes that are wanted.

    Args:
        slide: an open one.
        plan: which planes.
        grid: where the tiles lie.
        foreground: where cells may be, by which the parts of a tile weigh.
        squares: whose sharpness is measured in the plane that is read; None for none.
    """

    def __init__(
        self,
        slide: Slide,
        plan: PlanePlan,
        grid: TileGrid,
        foreground: Foreground,
        squares: FocusSquares | None = None,
    ) -> None:
        self._slide = slide
        self._plan = plan
        self._grid = grid
        self._foreground = foreground
        self._squares = squares

    def jobs(self, indices: ArrayLike) -> list[Job]:
        """Readings of the tiles of some indices, plane by plane, so that neighbours share tiles."""
        tiles = np.asarray(indices).tolist()
        if self._plan.how == "best":
            return [Job(index, self._plan.planes) for index in tiles]
        return [Job(index, (plane,)) for plane in self._plan.planes for index in tiles]

    def read(self, job: Job) -> ReadTile:
        """The tile in its plane; where it can't be read in the sharpest, in the next that can.

        Where each plane has something that can't be read, it is the one with the least of that,
        with what is missing taken of others.
        """
        if len(job.planes) == 1:
            plane = job.planes[0]
            return replace(self._read(job.index, plane), plane=plane)
        start = time.perf_counter()
        order = self._sharpest_first(job)
        spent = time.perf_counter() - start
        best: ReadTile | None = None
        missed: list[tuple[int, Boxes]] = []
        for plane in order:
            tile = replace(self._read(job.index, plane), plane=plane)
            if len(tile.unread):
                missed.append((plane, tile.unread))
            if best is None or _area(tile.unread) < _area(best.unread):
                best = tile
            if not len(tile.unread):
                break
        assert best is not None
        if len(best.unread):
            others = [plane for plane in order if plane != best.plane]
            best = replace(self._read(job.index, best.plane, others), plane=best.plane)
        return replace(best, missed=tuple(missed), focusing=spent)

    def _read(self, index: int, plane: int | None, spare: Sequence[int] = ()) -> ReadTile:
        slide, others = self._slide.on_plane(plane), {n: self._slide.on_plane(n) for n in spare}
        return read_tile(slide, self._grid, index, self._squares, others)

    def _sharpest_first(self, job: Job) -> list[int]:
        """The planes of a tile by their sharpness; those that can't be looked at are the last.

        Compared is the mean logarithm of the squared gradient over squares of the tile's core,
        weighted by how much of each is foreground. The plan's first plane comes first where none
        is sharper by `SHARPER`.
        """
        planes = [plane for plane in job.planes if plane is not None]
        weights = self._weights(job.index)
        scores = np.array([self._sharpness(job.index, plane, weights) for plane in planes])
        if self._plan.first in planes:
            scores[planes.index(self._plan.first)] += math.log(SHARPER)
        order = np.argsort(-np.where(np.isnan(scores), -np.inf, scores), kind="stable")
        return [planes[n] for n in order]

    def _sharpness(self, index: int, plane: int, weights: NDArray[np.float64]) -> float:
        """NaN where the plane can't be read there."""
        grid = self._grid
        side = grid.settings.size // COARSER
        try:
            pixels = self._slide.on_plane(plane).read_region(
                *grid.origin(index), Size(side, side), grid.downsample * COARSER
            )
        except ReadError:
            return math.nan
        energy = squared_gradient(pixels, weights.shape[0])
        return float((weights * np.log(energy + LEAST_ENERGY)).sum())

    def _weights(self, index: int) -> NDArray[np.float64]:
        """(rows, columns) of a tile's squares, which sum to one."""
        grid = self._grid
        size = grid.settings.size
        count = max(1, size // (COARSER * BLOCK))
        edges = np.linspace(0, size * grid.downsample, count + 1)
        left, top = np.meshgrid(edges[:-1], edges[:-1])
        right, bottom = np.meshgrid(edges[1:], edges[1:])
        squares = np.stack([left, top, right, bottom], axis=-1).reshape(-1, 4)
        squares += np.tile(grid.origin(index), 2)
        core = grid.cores([index])[0]
        inside = np.maximum(squares[:, :2], core[:2]), np.minimum(squares[:, 2:], core[2:])
        owned = np.prod(np.maximum(inside[1] - inside[0], 0), axis=1)
        weights = owned * self._foreground.share_of(squares)
        if not weights.sum():
            weights = np.ones(len(squares))
        return np.asarray((weights / weights.sum()).reshape(count, count))


def squared_gradient(pixels: NDArray[np.uint8], squares: int) -> NDArray[np.float64]:
    """Sharpness by Tenengrad: (squares, squares) mean squared gradient, by Sobel's operator.

    Args:
        pixels: (side, side, 3) RGB.
        squares: a side, into which the picture is cut.
    """
    grey = cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_RGB2GRAY).astype(np.float32)
    across, down = cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1)
    energy = cv2.resize(across**2 + down**2, (squares, squares), interpolation=cv2.INTER_AREA)
    return np.asarray(energy, np.float64)


@dataclass
class UnreadAreas:
    """What could not be read of a slide's tiles, plane by plane.

    Args:
        plan: which planes are read.
    """

    plan: PlanePlan
    _nowhere: list[Boxes] = field(default_factory=list)
    _by_plane: dict[int, list[Boxes]] = field(default_factory=lambda: defaultdict(list))
    _by_tile: dict[int, dict[int | None, Boxes]] = field(default_factory=lambda: defaultdict(dict))

    def add(self, tile: ReadTile) -> None:
        """Takes what is unread of a tile."""
        for plane, boxes in tile.missed:
            self._by_plane[plane].append(boxes)
        if self.plan.how != "all":
            self._nowhere.append(tile.unread)
        elif len(tile.unread):
            self._by_tile[tile.index][tile.plane] = tile.unread
            if tile.plane is not None:
                self._by_plane[tile.plane].append(tile.unread)

    def nowhere(self) -> Boxes:
        """(N, 4) level-0 boxes that could be read in no plane."""
        everywhere = [
            common_parts(found.values())
            for _, found in sorted(self._by_tile.items())
            if len(found) == len(self.plan.planes)
        ]
        return np.concatenate([np.zeros((0, 4)), *self._nowhere, *everywhere])

    def by_plane(self) -> dict[int, Boxes]:
        """(N, 4) level-0 boxes that could not be read, of each plane that has some."""
        return {plane: np.concatenate(boxes) for plane, boxes in sorted(self._by_plane.items())}


def common_parts(several: Iterable[Boxes]) -> Boxes:
    """(N, 4) boxes that cover what boxes of all of several (M, 4) arrays cover."""
    first, *others = several
    for other in others:
        low = np.maximum(first[:, None, :2], other[None, :, :2])
        high = np.minimum(first[:, None, 2:], other[None, :, 2:])
        parts = np.concatenate([low, high], axis=2).reshape(-1, 4)
        first = parts[(parts[:, :2] < parts[:, 2:]).all(axis=1)]
    return first


def _area(boxes: Boxes) -> float:
    return float(np.prod(boxes[:, 2:] - boxes[:, :2], axis=1).sum())
