"""Tiles over a slide: pure geometry, no pixels.

Tiles of one size lie on the model plane at a uniform stride of ``size - overlap``. Half-way
through each overlap runs a seam; what lies between its seams is a tile's *core*. Cores divide the
plane without gap or overlap, so that every cell has one owner, and the owner sees at least
``overlap / 2`` model pixels of surroundings on every side that is not the border of the plane.
An overlap as wide as the widest cell lets each cell be seen whole by its owner.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field, ValidationInfo, field_validator

from configs import ConfigError, Doubt, StrictModel
from pipeline.errors import SlideError
from pipeline.geometry import Boxes, Rect
from pipeline.tiles.foreground import Foreground

NETWORK_STRIDE = 32
"""Of the coarsest features that detectors look at, in model pixels."""

LEAST_OVERLAP = 128
"""What the networks look at around a cell, in model pixels: with it 99.5% of the cells above
threshold have a partner at IoU 0.5 when the grid moves by whole strides, with 256 99.7%."""

SCALE_TOLERANCE = 0.005
"""Relative difference up to which a slide's scale is taken for a whole multiple of the model's."""


COARSE_TOLD, COARSE_REFUSED = 1.3, 2.0
"""How many times coarser than the model, or than its tiles are to be, a slide may be before that is
told, and refused."""


class TilerSettings(StrictModel):
    """How the model plane is cut into tiles.

    Attributes:
        size: side of a tile in model pixels; of 16,384, the most, one takes 800 MB.
        overlap: what neighbouring tiles share, in model pixels; smaller than ``size``. Half of it
            is what a cell's owner sees around it at least. None: from the model's widest cell,
            see `for_cells`.
        offset: moves the grid right and down by so many model pixels; for tests of seams. By
            other than whole strides of the network (32) scores change a little everywhere.
        allow_coarse: whether a slide is screened that is more than twice as coarse as the model.
    """

    size: int = Field(1536, ge=1, le=16_384)
    overlap: int | None = Field(None, ge=0)
    offset: tuple[int, int] = (0, 0)
    allow_coarse: bool = False

    @field_validator("overlap")
    @classmethod
    def _leave_a_stride(cls, overlap: int | None, info: ValidationInfo) -> int | None:
        size = info.data.get("size")
        if size is not None and overlap is not None and overlap >= size:
            raise ValueError(f"must be smaller than the tile's size of {size}")
        return overlap

    def for_cells(self, widest: float, slack: float) -> TilerSettings:
        """These settings with an overlap in which the widest cell is seen whole by its owner.

        Args:
            widest: longest side of a cell in model pixels.
            slack: what tiles look at beyond their seams, in model pixels.

        Raises:
            ConfigError: the tiles are too small for it.
        """
        if self.overlap is not None:
            return self
        needed = math.ceil((widest + 2 * slack) / NETWORK_STRIDE) * NETWORK_STRIDE
        overlap = max(needed, LEAST_OVERLAP)
        if overlap >= self.size:
            raise ConfigError(
                f"tiler.size = {self.size}: the model's cells need an overlap of {overlap} px; "
                "take larger tiles, or set tiler.overlap"
            )
        return self.model_copy(update={"overlap": overlap})

    @property
    def shared(self) -> int:
        """The overlap, once it is settled."""
        if self.overlap is None:
            raise ValueError("the overlap is not settled: call for_cells")
        return self.overlap

    @property
    def stride(self) -> int:
        """Model pixels from one tile to the next."""
        return self.size - self.shared


@dataclass(frozen=True)
class TileGrid:
    """All tiles over an area, numbered row by row; coordinates are level-0 pixels.

    Attributes:
        bounds: the area that the tiles cover; tiles at its far borders may reach beyond it.
        downsample: level-0 pixels per model pixel; below 1 where the slide is coarser.
        settings: the tiles' size, overlap and offset.
    """

    bounds: Rect
    downsample: float
    settings: TilerSettings

    @property
    def columns(self) -> int:
        """Number of tiles in a row."""
        return len(self._lefts)

    @property
    def rows(self) -> int:
        """Number of tiles in a column."""
        return len(self._tops)

    def __len__(self) -> int:
        return self.rows * self.columns

    def origin(self, index: int) -> tuple[float, float]:
        """Level-0 x, y of a tile's top left corner; may be fractional or outside the slide."""
        row, column = divmod(index, self.columns)
        return float(self._lefts[column]), float(self._tops[row])

    def regions(self, indices: ArrayLike) -> Boxes:
        """The areas that tiles see: (N, 4) level-0 boxes of equal size, overlapping."""
        rows, columns = np.divmod(np.asarray(indices), self.columns)
        corners = np.stack([self._lefts[columns], self._tops[rows]], axis=-1)
        return np.concatenate([corners, corners + self.settings.size * self.downsample], axis=-1)

    def cores(self, indices: ArrayLike) -> Boxes:
        """The areas that tiles own: (N, 4) level-0 boxes that divide the bounds exactly."""
        rows, columns = np.divmod(np.asarray(indices), self.columns)
        xs = np.concatenate([[self.bounds.x], self._seams_x, [self.bounds.right]])
        ys = np.concatenate([[self.bounds.y], self._seams_y, [self.bounds.bottom]])
        return np.stack([xs[columns], ys[rows], xs[columns + 1], ys[rows + 1]], axis=-1)

    def owner(self, points: NDArray[np.float64]) -> NDArray[np.int64]:
        """Indices (N,) of the tiles that own level-0 points (N, 2).

        A point outside the bounds belongs to the tile whose core is nearest.
        """
        return self._row(points[:, 1]) * self.columns + self._column(points[:, 0])

    def near_core(self, index: int, points: NDArray[np.float64], slack: float) -> NDArray[np.bool_]:
        """Says (N,) which points lie in a tile's core or less than ``slack`` beyond its seams.

        Args:
            index: the tile.
            points: (N, 2) level-0 x, y.
            slack: level-0 pixels; with 0 this is ``owner(points) == index``.
        """
        row, column = divmod(index, self.columns)
        x, y = points.T
        return (
            (self._column(x - slack) <= column)
            & (column <= self._column(x + slack))
            & (self._row(y - slack) <= row)
            & (row <= self._row(y + slack))
        )

    def _column(self, x: NDArray[np.float64]) -> NDArray[np.int64]:
        return np.searchsorted(self._seams_x, x, side="right").astype(np.int64)

    def _row(self, y: NDArray[np.float64]) -> NDArray[np.int64]:
        return np.searchsorted(self._seams_y, y, side="right").astype(np.int64)

    @cached_property
    def _lefts(self) -> NDArray[np.float64]:
        starts = _tile_starts(self.bounds.width / self.downsample, self.settings, axis=0)
        return self.bounds.x + starts * self.downsample

    @cached_property
    def _tops(self) -> NDArray[np.float64]:
        starts = _tile_starts(self.bounds.height / self.downsample, self.settings, axis=1)
        return self.bounds.y + starts * self.downsample

    @cached_property
    def _seams_x(self) -> NDArray[np.float64]:
        return self._lefts[1:] + self.settings.shared / 2 * self.downsample

    @cached_property
    def _seams_y(self) -> NDArray[np.float64]:
        return self._tops[1:] + self.settings.shared / 2 * self.downsample


@dataclass(frozen=True)
class TilePlan:
    """The tiles of a grid that are worth screening.

    Attributes:
        grid: all tiles.
        indices: (N,) int64 indices into the grid, ascending, that is row by row.
    """

    grid: TileGrid
    indices: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.indices)


def plan_tiles(
    bounds: Rect,
    slide_mpp: float,
    model_mpp: float,
    settings: TilerSettings,
    foreground: Foreground | None = None,
) -> TilePlan:
    """Lays tiles over an area and keeps those that own some foreground.

    Args:
        bounds: the area in level-0 pixels.
        slide_mpp: micrometres per level-0 pixel.
        model_mpp: micrometres per pixel that the detector was trained at.
        settings: the tiles' size, overlap and offset.
        foreground: where cells are; every tile is kept without one.
    """
    grid = TileGrid(bounds, settle_downsample(model_mpp / slide_mpp), settings)
    indices = np.arange(len(grid), dtype=np.int64)
    if foreground is not None:
        indices = indices[foreground.any_in(grid.cores(indices))]
    return TilePlan(grid, indices)


def check_coarseness(
    slide_mpp: float,
    wanted_mpp: float,
    allowed: bool,
    *,
    wanted: str = "the model looks at",
    remedy: str = "take a model for this scale, or --set tiler.allow_coarse=true",
) -> Doubt | None:
    """What is to be told where a slide must be enlarged, for the model or as tiles for people.

    Args:
        slide_mpp: µm per level-0 pixel.
        wanted_mpp: µm per pixel that it is to be shown at: those of the detector's training.
        allowed: whether much too coarse ones are taken all the same.
        wanted: who wants that scale, behind "coarser than".
        remedy: what to do about one that is refused.

    Raises:
        SlideError: it is much too coarse; names no file.
    """
    times = slide_mpp / wanted_mpp
    if times <= COARSE_TOLD * (1 + SCALE_TOLERANCE):
        return None
    text = (
        f"at {slide_mpp:g} µm per pixel it is {times:.1f} times coarser than {wanted} "
        f"({wanted_mpp:g} µm)"
    )
    if times > COARSE_REFUSED * (1 + SCALE_TOLERANCE) and not allowed:
        raise SlideError(f"{text}: cells can't be judged; {remedy}", "too-coarse")
    return Doubt(code="mpp-coarse", text=f"{text}: it is enlarged, and details are missing")


def settle_downsample(downsample: float) -> float:
    """A whole number, where one is as near as files are exact about their scale.

    Scanners give the same slide 0.2498 or 0.2503 µm per pixel, and detectors are trained on scales
    that differ by a fifth; whole factors are read much faster, and a factor of 1 as it is.
    """
    whole = max(1, round(downsample))
    return float(whole) if abs(downsample / whole - 1) <= SCALE_TOLERANCE else downsample


def _tile_starts(length: float, settings: TilerSettings, axis: int) -> NDArray[np.float64]:
    """Where tiles start along an axis of ``length``, in model pixels from the bounds' border.

    An offset leaves a gap before the first tile, which one more tile in front covers.
    """
    first = settings.offset[axis] % settings.stride
    if first:
        first -= settings.stride
    beyond_first = max(0, int(np.ceil((length - first - settings.size) / settings.stride)))
    return first + settings.stride * np.arange(beyond_first + 1, dtype=np.float64)
