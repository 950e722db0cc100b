"""Masks given by the lengths of runs, of what is without and within in turn: their boxes.

COCO counts pixels column by column, either as numbers or as text, in which each number but the
first three is the difference to the last but one, in groups of five bits (``maskApi.c``,
``rleFrString``). CVAT counts row by row.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_MOST_GROUPS = 11
"""Groups of five bits a number: enough for any picture."""

_MOST_PIXELS = 2**53
"""Up to which sums of runs are exact."""


def box_of_columns(runs: Sequence[float], width: int, height: int) -> NDArray[np.float64] | None:
    """The box (4,) xyxy of a mask that is counted column by column; None where it is empty.

    Raises:
        ValueError: a run is no whole number, or they don't fill the picture.
    """
    counts = np.array(runs, np.float64)
    fills = counts.sum() == width * height <= _MOST_PIXELS
    if min(width, height) < 1 or not fills or (counts < 0).any() or (counts % 1).any():
        raise ValueError(f"the runs of a mask don't fill {width}x{height} px")
    ends = counts.cumsum().astype(np.int64)
    stops = ends[1::2]
    starts = ends[0::2][: len(stops)]
    starts, stops = starts[stops > starts], stops[stops > starts]
    if not len(starts):
        return None
    left, right = starts // height, (stops - 1) // height
    within = left == right  # else the run goes around the border, and has its pixels
    top = np.where(within, starts % height, 0)
    bottom = np.where(within, (stops - 1) % height, height - 1)
    return np.array([left.min(), top.min(), right.max() + 1, bottom.max() + 1], np.float64)


def box_of_rows(runs: Sequence[float], width: int, height: int) -> NDArray[np.float64] | None:
    """The same of a mask that is counted row by row."""
    turned = box_of_columns(runs, height, width)
    return None if turned is None else turned[[1, 0, 3, 2]]


def runs_of_text(text: str) -> list[int]:
    """The runs that COCO's text stands for.

    Raises:
        ValueError: it isn't such text.
    """
    runs: list[int] = []
    value, groups = 0, 0
    for sign in text:
        bits = ord(sign) - 48
        if not 0 <= bits < 64 or groups > _MOST_GROUPS:
            raise ValueError("the text of a mask is no run-length code")
        value |= (bits & 31) << (5 * groups)
        groups += 1
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << (5 * groups)
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value, groups = 0, 0
    if groups:
        raise ValueError("the text of a mask is cut off")
    return runs
