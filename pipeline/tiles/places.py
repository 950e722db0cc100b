"""Places of a slide that are worth a look: squares that are fuller than most."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from pipeline.geometry import Rect
from pipeline.tiles.foreground import Foreground

Corners = NDArray[np.float64]
"""(N, 2) level-0 x and y of the top left of squares."""


def covering(bounds: Rect, side: float) -> Corners:
    """Squares that cover an area, from border to border; they overlap where they have to.

    Args:
        bounds: the area in level-0 pixels.
        side: of a square, likewise; squares of a narrower area reach beyond it.
    """
    starts = [
        start + np.linspace(0, max(0.0, extent - side), max(1, math.ceil(extent / side - 1e-9)))
        for start, extent in ((bounds.x, bounds.width), (bounds.y, bounds.height))
    ]
    return np.stack(np.meshgrid(*starts), axis=-1).reshape(-1, 2)


def fullest(
    corners: Corners, side: float, foreground: Foreground, count: int, least: float = 0.0
) -> Corners:
    """The squares that hold as much as the middle one or more, evenly thinned out.

    Args:
        corners: of squares.
        side: of each in level-0 pixels.
        foreground: where something is.
        count: how many are taken at most.
        least: share of a square that is foreground at least; one without any is never taken.
    """
    filled = foreground.share_of(np.concatenate([corners, corners + side], axis=1))
    worth = (filled > 0) & (filled >= least)
    if not worth.any():
        return corners[:0]
    full = corners[worth & (filled >= np.median(filled[worth]))]
    chosen = np.linspace(0, len(full) - 1, min(count, len(full))).round().astype(int)
    return np.asarray(full[chosen])
