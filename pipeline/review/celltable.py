"""The cells of one report as arrays, and their keys."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from configs import ConfigError
from pipeline.cells.classes import CellClass, abnormal_scores, is_abnormal
from pipeline.geometry import Detections
from pipeline.reports.cells_table import read_cells
from pipeline.review.guard import inside
from pipeline.review.results import ReportFolder
from pipeline.review.store import cell_key
from pipeline.slides.readers.base import show

CELLS = "cells.csv"

_NEAR = 0.06
"""Level-0 px: a side lies so near to what its key says, rounded to one decimal."""


@dataclass(frozen=True)
class CellTable:
    """Cells in the order of cells.csv: row i is the cell of number i + 1.

    Attributes:
        cells: boxes in level-0 px.
        classes: what their labels mean.
    """

    cells: Detections
    classes: tuple[CellClass, ...]

    def __len__(self) -> int:
        return len(self.cells)

    @property
    def nbytes(self) -> int:
        """Memory of its arrays, with what is computed of them."""
        cells = self.cells
        arrays = [cells.boxes, cells.scores, cells.labels, cells.class_scores, cells.grades]
        return sum(a.nbytes for a in arrays if a is not None) + 64 * len(cells) + 1000

    @cached_property
    def abnormal(self) -> NDArray[np.bool_]:
        """(N,) whether a cell is of an abnormal class."""
        return is_abnormal(self.cells, self.classes)

    @cached_property
    def suspicion(self) -> NDArray[np.float32]:
        """(N,) that a cell is abnormal.

        Where nobody knows that it is the score of its class, if that is an abnormal one, else 0.
        """
        if self.cells.class_scores is not None:
            return abnormal_scores(self.cells, self.classes)
        return np.where(self.abnormal, self.cells.scores, 0).astype(np.float32)

    @cached_property
    def tenths(self) -> NDArray[np.int32]:
        """(N, 4) boxes in tenths of a level-0 pixel, rounded as `cell_key` does."""
        boxes = self.cells.boxes
        times = boxes * 10
        tenths = np.rint(times)
        # Where it is near a tie the binary value decides, as it does for Python's round.
        near = np.flatnonzero(np.abs(np.abs(times - np.trunc(times)) - 0.5).ravel() < 1e-3)
        flat = tenths.ravel()
        flat[near] = [round(round(side, 1) * 10) for side in boxes.ravel()[near].tolist()]
        return flat.reshape(boxes.shape).astype(np.int32)

    @cached_property
    def _order(self) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
        left = self.cells.boxes[:, 0]
        order = np.argsort(left, kind="stable")
        return order, left[order]

    def key(self, row: int) -> str:
        """The key of a cell."""
        return cell_key(tuple(self.cells.boxes[row].tolist()))

    def row(self, key: str) -> int | None:
        """The row of a key; of cells with one box the first. None for none."""
        try:
            sides = [float(part) for part in key.split("_")]
        except ValueError:
            return None
        if len(sides) != 4 or not np.isfinite(sides).all():
            return None
        order, left = self._order
        first, last = np.searchsorted(left, [sides[0] - _NEAR, sides[0] + _NEAR])
        rows = order[first:last]
        boxes = self.cells.boxes[rows]
        near = rows[(np.abs(boxes - sides) <= _NEAR).all(axis=1)]
        return next((row for row in sorted(near.tolist()) if self.key(row) == key), None)


def load_cells(root: Path, result: ReportFolder) -> CellTable:
    """The cells of a result.

    Args:
        root: the folder of reports, out of which nothing is read.
        result: whose cells.

    Raises:
        ConfigError: cells.csv is not there, is damaged, or holds other cells than report.json
            counts.
    """
    path, report = result.folder / CELLS, result.report
    real = inside(root, path)
    if real is None:
        raise ConfigError(f"{show(path)}: is not there; screen the slide again")
    cells = read_cells(real, report.model.classes)
    wanted = sum(report.counts.values())
    if len(cells) != wanted:
        raise ConfigError(
            f"{show(path)}: has {len(cells)} cells, and report.json counts {wanted}; screen the "
            "slide again"
        )
    return CellTable(cells, report.model.classes)
