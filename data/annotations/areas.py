"""Areas as rectangles: what lies outside of the regions that were annotated exhaustively.

Detectors and evaluations know ignored areas as crowd boxes only. An area of any form is therefore
given as all of its maximal rectangles, which overlap: any box that lies in the area lies in one
of them as a whole, so that COCO's rule, intersection over the detection's area, is 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from data.annotations.drawing import Outline

MAX_LINES, MIN_LINES = 96, 16
"""Lines of the grid along an axis: shared by all outlines, and for each at least. More corners
than its share make an outline a staircase: inside of a region, where it loses a little."""

Rectangles = NDArray[np.float64]


def outside(regions: Sequence[Outline], width: float, height: float) -> Rectangles:
    """Maximal rectangles (K, 4) xyxy of what lies in no region; of curved ones a little more."""
    xs, ys = _grid(regions, width, height)
    inside = np.zeros((len(ys) - 1, len(xs) - 1), bool)
    for region in regions:
        inside |= _cells(region, xs, ys, whole=True)
    return _on_grid(maximal_rectangles(~inside), xs, ys)


def covering(area: Outline, width: float, height: float) -> Rectangles:
    """Maximal rectangles (K, 4) xyxy of an area; of a curved one a little more."""
    xs, ys = _grid([area], width, height)
    return _on_grid(maximal_rectangles(_cells(area, xs, ys, whole=False)), xs, ys)


def maximal_rectangles(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """All rectangles of True cells that can't grow: (K, 4) x0, y0, x1, y1 in cells.

    Row by row with a stack of open columns, as in the largest-rectangle-in-a-histogram problem.
    """
    rows, columns = mask.shape
    found: list[tuple[int, int, int, int]] = []
    heights = np.zeros(columns + 1, np.int64)
    for row in range(rows):
        heights[:-1] = np.where(mask[row], heights[:-1] + 1, 0)
        below = mask[row + 1] if row + 1 < rows else np.zeros(columns, bool)
        free = np.concatenate([[0], np.cumsum(below)])
        open_: list[tuple[int, int]] = []
        for column, height in enumerate(heights.tolist()):
            start = column
            while open_ and open_[-1][1] >= height:
                start, tall = open_.pop()
                grows_down = free[column] - free[start] == column - start
                if tall > height and not grows_down:
                    found.append((start, row + 1 - tall, column, row + 1))
            if height:
                open_.append((start, height))
    return np.array(found, np.int64).reshape(-1, 4)


def _grid(
    outlines: Sequence[Outline], width: float, height: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Lines in x and in y: the image's edges, and the corners of the outlines or fewer lines."""
    share = max(MIN_LINES, MAX_LINES // max(len(outlines), 1))
    lines = []
    for axis, end in ((0, width), (1, height)):
        of_axis = [np.array([0.0, end])]
        for rings in outlines:
            corners = np.unique(np.concatenate(rings)[:, axis].clip(0, end))
            if len(corners) > share:
                corners = np.linspace(corners[0], corners[-1], share)
            of_axis.append(corners)
        lines.append(np.unique(np.concatenate(of_axis)))
    return lines[0], lines[1]


def _cells(
    rings: Outline, xs: NDArray[np.float64], ys: NDArray[np.float64], whole: bool
) -> NDArray[np.bool_]:
    """Which cells of the grid (rows, columns) lie within an outline, as a whole or in part.

    Between two corners that follow each other in y the outline is a row of trapezia. A cell lies
    within if it does so in each of these strips.
    """
    edges = np.concatenate([np.hstack([ring, np.roll(ring, -1, 0)]) for ring in rings])
    breaks = np.unique(np.concatenate([ys, edges[:, 1].clip(ys[0], ys[-1])]))
    inside = np.full((len(ys) - 1, len(xs) - 1), whole)
    for top, bottom in pairwise(breaks):
        row = np.searchsorted(ys, top, side="right") - 1
        left, right = _spans(edges, top, bottom, whole)
        if whole:
            held = (left <= xs[:-1, None]) & (right >= xs[1:, None])
            inside[row] &= held.any(1)
        else:
            inside[row] |= ((left < xs[1:, None]) & (right > xs[:-1, None])).any(1)
    return inside


def _spans(
    edges: NDArray[np.float64], top: float, bottom: float, inner: bool
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Left and right ends of what is inside between two heights: in all of it, or in any."""
    low, high = np.minimum(edges[:, 1], edges[:, 3]), np.maximum(edges[:, 1], edges[:, 3])
    x0, y0, x1, y1 = edges[(low <= top) & (high >= bottom)].T
    slope = (x1 - x0) / (y1 - y0)
    ends = np.array([x0 + slope * (top - y0), x0 + slope * (bottom - y0)])
    ends = ends[:, np.argsort(ends.sum(0))]
    least, most = ends.min(0), ends.max(0)
    return (most[::2], least[1::2]) if inner else (least[::2], most[1::2])


def _on_grid(
    cells: NDArray[np.int64], xs: NDArray[np.float64], ys: NDArray[np.float64]
) -> Rectangles:
    return np.column_stack([xs[cells[:, 0]], ys[cells[:, 1]], xs[cells[:, 2]], ys[cells[:, 3]]])
