"""Exact greedy non-maximum suppression in near-linear time.

The textbook compares every box with every kept one, which is quadratic over a slide. Here boxes
are compared only where they can reach the wanted IoU, then the greedy rule runs over the pairs
that do; what is kept is the same to the last box. Three facts about two boxes whose IoU exceeds t
bound the search (w is the larger or smaller width; heights alike):

* w_small / w_large > t, so boxes are grouped by size, and far groups never meet;
* |dx| < (w_1 + w_2) (1 - t) / (2 (1 + t)), so a window around each centre holds all partners;
* kept boxes don't overlap by more than t, so only a bounded number lie in such a window. Crowds
  (thousands of boxes on one spot) are therefore resolved by halves: the better half first, whose
  few survivors then thin the other half.

A stitcher's two passes over two million crowded cells take 3 to 4 s on one core and 0.65 GB, over
500,000 some 0.8 s (benchmarks/bench_stitcher.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.geometry import Boxes, Detections

Rows = NDArray[np.intp]
Pairs = tuple[Rows, Rows]

CROWD = 24
"""Candidate partners a box, on average, above which boxes are resolved by halves."""

SMALL = 256
"""So few boxes are never halved: comparing them all is cheaper."""

CHUNK = 1 << 16
"""Candidate pairs that are compared at a time: few enough for the processor's cache."""

ROUNDING = 1e-6
"""Share by which the search looks further than the bounds say, so that rounding loses no pair."""


def greedy_nms(detections: Detections, iou: float, per_class: bool = True) -> NDArray[np.bool_]:
    """Keeps the best box of each cell: a box falls to a better one that was itself kept.

    Args:
        detections: finite boxes in any one frame. Of equal scores the earlier row is better.
        iou: boxes fall if their IoU with a better one is greater than this; 1 keeps all.
        per_class: only boxes of one class compete.

    Returns:
        (N,) bool, True for the rows that stay. Boxes without area always do.
    """
    rank = np.empty(len(detections), np.intp)
    rank[np.argsort(-detections.scores, kind="stable")] = np.arange(len(detections))
    labels = detections.labels if per_class else np.zeros_like(detections.labels)
    return _survivors(_Candidates(detections.boxes, labels, rank), iou)


def overlapping_pairs(ones: Boxes, others: Boxes, iou: float) -> Pairs:
    """Rows of ``ones`` and of ``others`` that overlap by more than ``iou``, each pair once.

    As many as there are: of boxes without doubles each has few partners. Boxes without area have
    none.
    """
    sides = (_unranked(ones), _unranked(others))
    first, second = map(_group_by_size, sides)
    windows = [w for one in first for other in second for w in _windows(one, other, iou)]
    return _overlapping_pairs(*sides, windows, iou)


def pair_iou(ones: Boxes, others: Boxes) -> NDArray[np.float64]:
    """(N,) IoU of each box with the other in its row; 0 where neither has an area."""
    low, high = np.maximum(ones[:, :2], others[:, :2]), np.minimum(ones[:, 2:], others[:, 2:])
    common = np.prod((high - low).clip(0), axis=1)
    areas = [np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) for boxes in (ones, others)]
    return np.asarray(common / np.maximum(areas[0] + areas[1] - common, 1e-12))


@dataclass(frozen=True)
class _Candidates:
    """Boxes with their class and their place in the greedy order (0 is best)."""

    boxes: Boxes
    labels: NDArray[np.int64]
    rank: Rows

    def __len__(self) -> int:
        return len(self.rank)

    def __getitem__(self, rows: Rows) -> _Candidates:
        return _Candidates(self.boxes[rows], self.labels[rows], self.rank[rows])


def _unranked(boxes: Boxes) -> _Candidates:
    """Boxes as if of one class and all alike."""
    return _Candidates(boxes, np.zeros(len(boxes), np.int64), np.zeros(len(boxes), np.intp))


class _Group(NamedTuple):
    """Boxes of one class whose longest sides are within a factor of two."""

    label: int
    shortest: float
    longest: float
    rows: Rows
    x: NDArray[np.float64]
    y: NDArray[np.float64]


class _Window(NamedTuple):
    """For each row of ``ones``: its candidate partners ``others[start:stop]``."""

    ones: Rows
    others: Rows
    starts: Rows
    stops: Rows


def _survivors(candidates: _Candidates, iou: float) -> NDArray[np.bool_]:
    groups = _group_by_size(candidates)
    windows = [
        window
        for number, one in enumerate(groups)
        for other in groups[: number + 1]
        for window in _windows(one, other, iou)
    ]
    comparisons = sum(int((w.stops - w.starts).sum()) for w in windows)
    if len(candidates) > SMALL and comparisons > CROWD * len(candidates):
        return _survivors_by_halves(candidates, iou)
    ones, others = _overlapping_pairs(candidates, candidates, windows, iou)
    return _resolve(candidates.rank, ones, others)


def _survivors_by_halves(candidates: _Candidates, iou: float) -> NDArray[np.bool_]:
    better = candidates.rank <= np.median(candidates.rank)
    kept = np.zeros(len(candidates), bool)
    first, second = np.flatnonzero(better), np.flatnonzero(~better)
    first = first[_survivors(candidates[first], iou)]
    second = second[~_beaten(candidates[second], candidates[first], iou)]
    second = second[_survivors(candidates[second], iou)]
    kept[first] = kept[second] = True
    return kept


def _beaten(worse: _Candidates, kept: _Candidates, iou: float) -> NDArray[np.bool_]:
    """Says which of ``worse`` overlap any of ``kept``."""
    windows = [
        window
        for one in _group_by_size(kept)
        for other in _group_by_size(worse)
        for window in _windows(one, other, iou)
    ]
    beaten = np.zeros(len(worse), bool)
    beaten[_overlapping_pairs(kept, worse, windows, iou)[1]] = True
    return beaten


def _group_by_size(candidates: _Candidates) -> list[_Group]:
    """Boxes without area are in no group: they overlap nothing. The fullest group comes first."""
    left, top, right, bottom = candidates.boxes.T
    width, height = right - left, bottom - top
    side, x, y = np.maximum(width, height), (left + right) / 2, (top + bottom) / 2
    octave = np.frexp(side)[1].astype(np.int64)
    key = candidates.labels * 4096 + octave + 2048  # a float64's octaves lie within +-2048
    rows = np.flatnonzero((width > 0) & (height > 0))
    rows = rows[np.argsort(key[rows], kind="stable")]
    parts = np.split(rows, np.flatnonzero(np.diff(key[rows])) + 1)
    groups = [
        _Group(int(key[r[0]]) // 4096, float(side[r].min()), float(side[r].max()), r, x[r], y[r])
        for r in parts
        if len(r)
    ]
    return sorted(groups, key=lambda group: len(group.rows), reverse=True)


def _windows(one: _Group, other: _Group, iou: float) -> Iterator[_Window]:
    """Finds where partners of ``one`` can lie in ``other``; in a group itself, each pair once.

    The plane is cut into strips as high as the reach. Sorted by strip and then by x, the partners
    of a box are a run in its own strip and one in each neighbouring strip.
    """
    ratio = min(one.longest, other.longest) / max(one.shortest, other.shortest)
    if one.label != other.label or ratio < iou - ROUNDING:
        return
    reach = (one.longest + other.longest) * ((1 - iou) / (2 * (1 + iou)) + ROUNDING)
    left, top = min(one.x.min(), other.x.min()), min(one.y.min(), other.y.min())
    pitch = max(one.x.max(), other.x.max()) - left + 2 * reach
    ones, keys = _sort_by_strip(one, left, top, reach, pitch)
    others, other_keys = ones, keys
    if one is not other:
        others, other_keys = _sort_by_strip(other, left, top, reach, pitch)
    slack = reach + 4 * np.spacing(keys[-1])
    for strip in (0, 1) if one is other else (-1, 0, 1):
        along = keys + strip * pitch
        stops = np.searchsorted(other_keys, along + slack, side="right")
        if one is other and strip == 0:
            starts = np.arange(1, len(keys) + 1)
        else:
            starts = np.searchsorted(other_keys, along - slack)
        yield _Window(ones, others, starts, stops)


def _sort_by_strip(
    group: _Group, left: float, top: float, reach: float, pitch: float
) -> tuple[Rows, NDArray[np.float64]]:
    """Rows and keys in the order of strips and, in a strip, of x; strips lie ``pitch`` apart."""
    keys = np.floor((group.y - top) / reach) * pitch + (group.x - left)
    order = np.argsort(keys)
    return group.rows[order], keys[order]


def _overlapping_pairs(
    candidates: _Candidates, others: _Candidates, windows: list[_Window], iou: float
) -> Pairs:
    """Rows of ``candidates`` and of ``others`` whose boxes overlap by more than ``iou``."""
    ones_found, others_found = [np.zeros(0, np.intp)], [np.zeros(0, np.intp)]
    for window in windows:
        for one, other in _expand(window):
            match = _overlap(candidates.boxes[one], others.boxes[other], iou)
            ones_found.append(one[match])
            others_found.append(other[match])
    return np.concatenate(ones_found), np.concatenate(others_found)


def _expand(window: _Window) -> Iterator[Pairs]:
    """Turns windows into pairs of rows, some `CHUNK` at a time."""
    counts = window.stops - window.starts
    chunk = np.cumsum(counts) // CHUNK
    for part in np.split(np.arange(len(counts)), np.flatnonzero(np.diff(chunk)) + 1):
        repeats = counts[part]
        ends = np.cumsum(repeats)
        within = np.arange(ends[-1]) - np.repeat(ends - repeats, repeats)
        others = np.repeat(window.starts[part], repeats) + within
        yield np.repeat(window.ones[part], repeats), window.others[others]


def _overlap(one: Boxes, other: Boxes, iou: float) -> NDArray[np.bool_]:
    left, top, right, bottom = one.T
    left_2, top_2, right_2, bottom_2 = other.T
    width = np.minimum(right, right_2) - np.maximum(left, left_2)
    height = np.minimum(bottom, bottom_2) - np.maximum(top, top_2)
    common = np.maximum(width, 0) * np.maximum(height, 0)
    areas = (right - left) * (bottom - top) + (right_2 - left_2) * (bottom_2 - top_2)
    return np.asarray(common > iou * (areas - common))


def _resolve(rank: Rows, ones: Rows, others: Rows) -> NDArray[np.bool_]:
    """Runs the greedy rule over overlapping pairs.

    Pairs come sorted by their better box: when its turn comes, all that could beat it is settled.
    """
    ones_better = rank[ones] < rank[others]
    better, worse = np.where(ones_better, (ones, others), (others, ones))
    order = np.argsort(rank[better])
    kept = np.ones(len(rank), bool)
    alive = kept.data  # a numpy array is slow to index one by one
    for winner, loser in zip(better[order].data, worse[order].data, strict=True):
        if alive[winner]:
            alive[loser] = False
    return kept
