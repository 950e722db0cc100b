"""Where abnormal cells lie densely: a grid of cells per mm2."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.reports.report import SlideFacts
from pipeline.review.celltable import CellTable

SIDE_UM = 500.0
"""Side of a bin, where that gives no more than `MOST_BINS` a side."""

MOST_BINS = 256


@dataclass(frozen=True)
class Heat:
    """Abnormal cells per mm2 of slide, by square bins; bins at the ends reach beyond the slide.

    Attributes:
        um: side of a bin.
        step: the same in level-0 px.
        x, y: top left of the first bin, level-0 px.
        per_mm2: (rows, columns) float32.
    """

    um: float
    step: float
    x: float
    y: float
    per_mm2: NDArray[np.float32]


def heat_map(table: CellTable, slide: SlideFacts) -> Heat:
    """The grid of a slide, over the part of it that was scanned."""
    x, y, width, height = slide.bounds or (0, 0, slide.width, slide.height)
    step = max(SIDE_UM / slide.mpp, max(width, height) / MOST_BINS)
    columns, rows = max(1, int(np.ceil(width / step))), max(1, int(np.ceil(height / step)))
    places = (table.cells.centers[table.abnormal] - (x, y)) / step
    at = np.clip(np.floor(places).astype(np.int64), 0, (columns - 1, rows - 1))
    counts = np.bincount(at[:, 1] * columns + at[:, 0], minlength=rows * columns)
    um = step * slide.mpp
    per_mm2 = counts.reshape(rows, columns) / (um / 1000) ** 2
    return Heat(um, step, x, y, per_mm2.astype(np.float32))
