"""The same cell drawn twice: on several focal planes, or as two objects at one place."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

Boxes = NDArray[np.float64]


def overlapping(boxes: Boxes, least: float) -> NDArray[np.int64]:
    """Pairs (K, 2) of boxes whose intersection over union is above ``least``; lower index first.

    Args:
        boxes: (N, 4) xyxy.
        least: above 0.
    """
    order = np.argsort(boxes[:, 0], kind="stable")
    ordered = boxes[order]
    areas = (ordered[:, 2:] - ordered[:, :2]).prod(1)
    ends = np.searchsorted(ordered[:, 0], ordered[:, 2])
    found = [np.zeros((0, 2), np.int64)]
    for index in np.flatnonzero(ends > np.arange(1, len(boxes) + 1)).tolist():
        others = slice(index + 1, int(ends[index]))
        low = np.maximum(ordered[index, :2], ordered[others, :2])
        high = np.minimum(ordered[index, 2:], ordered[others, 2:])
        shared = (high - low).clip(0).prod(1)
        close = np.flatnonzero(shared > least * (areas[index] + areas[others] - shared))
        if len(close):
            pairs = np.column_stack([np.full(len(close), index), close + index + 1])
            found.append(np.sort(order[pairs], axis=1))
    return np.concatenate(found)


def repeated(count: int, pairs: NDArray[np.int64]) -> NDArray[np.bool_]:
    """(N,) which of ``count`` things repeat an earlier one, where ``pairs`` (K, 2) are the same."""
    if not len(pairs):
        return np.zeros(count, bool)
    links = coo_array((np.ones(len(pairs), bool), (pairs[:, 0], pairs[:, 1])), (count, count))
    _, groups = connected_components(links, directed=False)
    _, first = np.unique(groups, return_index=True)
    again = np.ones(count, bool)
    again[first] = False
    return again
