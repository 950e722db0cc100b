"""From tiles back to the slide: each finding once, in level-0 pixels, wherever the seams fell.

Which of several names in one place is a cell's is settled after that; see `cells.found`.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from pydantic import Field

from configs import StrictModel
from pipeline.cells.nms import greedy_nms
from pipeline.geometry import Boxes, Detections, Rect, within_any
from pipeline.tiles.tiler import TileGrid


class StitcherSettings(StrictModel):
    """How doubles are told from neighbours.

    Attributes:
        nms_iou: of two boxes of one class that overlap by more than this, the better stays.
        cross_class_iou: the same for boxes of different classes: two names for one cell.
            1 keeps both names.
        slack: model pixels by which a tile's core grows before detections outside it are dropped.
            Two tiles place a cell on their seam some pixels apart; without slack each could
            leave it to the other. What both keep, the IoU rules find.
    """

    nms_iou: float = Field(0.5, gt=0, le=1)
    cross_class_iou: float = Field(0.5, gt=0, le=1)
    slack: float = Field(8.0, ge=0)


class Stitcher:
    """Collects the detections of a slide's tiles, in any order, and merges them at the end.

    What a tile doesn't own is dropped as it comes, so memory grows with the cells on the slide
    only; the result depends on the tiles' detections, never on the order they came in.

    Args:
        grid: where the tiles lie.
        settings: how doubles are told from neighbours.
    """

    def __init__(self, grid: TileGrid, settings: StitcherSettings) -> None:
        self._grid = grid
        self._settings = settings
        self._owned: dict[tuple[int, int], Detections] = {}

    def add(
        self,
        index: int,
        detections: Detections,
        plane: int | None = None,
        patches: Iterable[tuple[int, Boxes]] = (),
    ) -> None:
        """Takes the detections of one tile; a tile that comes again replaces itself.

        Args:
            index: the tile's index in the grid.
            detections: finite boxes in model pixels from the tile's top left corner.
            plane: the focal plane that they were found in; None for a slide that has one.
            patches: (N, 4) level-0 boxes, in which they were found in which other planes.
        """
        downsample = self._grid.downsample
        boxes = np.tile(self._grid.origin(index), 2) + detections.boxes * downsample
        placed = detections.placed(boxes).on_plane(plane)
        if placed.planes is not None:
            for other, parts in patches:
                placed.planes[within_any(boxes, parts)] = other
        slack = self._settings.slack * downsample
        key = index, -1 if plane is None else plane
        self._owned[key] = placed[self._grid.near_core(index, placed.centers, slack)]

    def merge(self) -> Detections:
        """What was added, without doubles within a class: level-0 boxes, clipped to the bounds.

        A cell that was found in several focal planes is the one with the best score.
        """
        cells = Detections.concatenate([self._owned[key] for key in sorted(self._owned)])
        cells = _within(cells, self._grid.bounds)
        left, top = cells.boxes[:, :2].T
        cells = cells[np.lexsort((left, top))]
        return cells[greedy_nms(cells, self._settings.nms_iou)]


def _within(cells: Detections, bounds: Rect) -> Detections:
    """Clips cells to the bounds and drops those that lie outside."""
    low, high = (bounds.x, bounds.y) * 2, (bounds.right, bounds.bottom) * 2
    boxes = np.clip(cells.boxes, np.array(low, np.float64), np.array(high, np.float64))
    return cells.placed(boxes)[np.flatnonzero((boxes[:, :2] < boxes[:, 2:]).all(axis=1))]
