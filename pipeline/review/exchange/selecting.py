"""Which fields to annotate next: where the model is unsure, each unlike the others.

A slide is divided into squares. How much a square is worth is the sum of how unsure the model is of
its `COUNTED` least sure cells, so that a crowd is not worth more for being one. Of a cell with
scores of all classes, how unsure is

    u = (H(p) / log(C) + exp(-|s - t| / 0.1)) / 2,

H(p) the entropy of its C scores (of the second look's grades where it has them) made to sum to 1,
s the score that names it and t the threshold of that class: what could as well be another class,
or no finding. Squares are then taken greedily, each time the one with the greatest

    worth * (0.2 + 0.8 * min(1, d / D)),

d the distance of its description (the mean scores of its cells, weighted by u) to the nearest
square that was taken, D the median distance between descriptions: uncertainty times diversity, as
in farthest-first traversal (Gonzalez 1985; for active learning Sener & Savarese 2018). No slide
gives more than its share.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.geometry import Boxes, Detections
from pipeline.review.exchange.truth import touches_any

COUNTED = 8
"""Cells of a square that count."""

MARGIN = 0.1
"""Of a score, within which a threshold makes unsure."""

LEAST_DIVERSE = 0.2
"""Share of its worth that a square keeps which is like one that was taken."""

_MEASURED = 512
"""Squares whose distances give the median."""


@dataclass(frozen=True)
class Squares:
    """The squares of one slide.

    Attributes:
        slide: index of the slide.
        boxes: (N, 4) level-0 pixels.
        worth: (N,).
        about: (N, C) descriptions.
        cells: (N,) cells in each.
    """

    slide: int
    boxes: Boxes
    worth: NDArray[np.float64]
    about: NDArray[np.float64]
    cells: NDArray[np.int64]


@dataclass(frozen=True)
class Chosen:
    """A square that was taken: its slide, box, worth, cells, and what it was taken at."""

    slide: int
    box: tuple[float, float, float, float]
    worth: float
    cells: int
    score: float


def how_unsure(cells: Detections, thresholds: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N,) how unsure the model is of each cell, from 0 to 1; see above.

    Args:
        cells: with scores of all classes, or grades, where these are known.
        thresholds: (C,) of each class.
    """
    near = np.exp(-np.abs(cells.scores - thresholds[cells.labels]) / MARGIN)
    scores = cells.class_scores
    if scores is None:
        return np.asarray(near)
    entropy = _entropy(scores.astype(np.float64))
    if cells.grades is not None:
        graded = cells.graded
        entropy[graded] = _entropy(cells.grades[graded].astype(np.float64))
    return np.asarray((entropy + near) / 2)


def square_up(
    slide: int,
    cells: Detections,
    thresholds: NDArray[np.float64],
    size: tuple[int, int],
    side: float,
    known: Boxes,
) -> Squares:
    """The squares of a slide that hold cells, but for those that touch what is known.

    Args:
        slide: index of the slide.
        cells: its cells, level-0 pixels.
        thresholds: (C,) of each class.
        size: width and height of the slide, level-0 pixels.
        side: of a square, level-0 pixels.
        known: (R, 4) regions that were read in full, and squares that are proposed already.
    """
    middles = (cells.boxes[:, :2] + cells.boxes[:, 2:]) / 2
    count = np.maximum(1, np.ceil(np.array(size) / side)).astype(int)
    at = np.minimum((middles // side).astype(int), count - 1)
    places, member = np.unique(at[:, 1] * count[0] + at[:, 0], return_inverse=True)
    corners = np.column_stack([places % count[0], places // count[0]]) * side
    boxes = np.concatenate([corners, np.minimum(corners + side, size)], axis=1)
    unsure = how_unsure(cells, thresholds)
    about = cells.class_scores
    features = np.eye(len(thresholds))[cells.labels] if about is None else about.astype(np.float64)
    worth, described, cells_in = _sums(member, len(places), unsure, features)
    free = ~touches_any(boxes, known)
    return Squares(slide, boxes[free], worth[free], described[free], cells_in[free])


def choose(found: Sequence[Squares], fields: int, most_of_slide: int) -> list[Chosen]:
    """The squares to annotate, the most useful first; ties go to the first slide, then square.

    Args:
        found: of all slides.
        fields: how many.
        most_of_slide: how many of one slide at most.
    """
    if not found:
        return []
    boxes = np.concatenate([one.boxes for one in found])
    worth = np.concatenate([one.worth for one in found])
    about = np.concatenate([one.about for one in found])
    cells = np.concatenate([one.cells for one in found])
    slides = np.concatenate([np.full(len(one.boxes), one.slide) for one in found])
    scale = _median_distance(about)
    nearest = np.full(len(worth), np.inf)
    left = np.ones(len(worth), bool)
    taken: list[Chosen] = []
    while len(taken) < fields and left.any():
        diverse = LEAST_DIVERSE + (1 - LEAST_DIVERSE) * np.minimum(1, nearest / scale)
        score = np.where(left, worth * diverse, -np.inf)
        best = int(np.argmax(score))
        box = tuple(boxes[best].tolist())
        taken.append(
            Chosen(int(slides[best]), box, float(worth[best]), int(cells[best]), float(score[best]))
        )
        left[best] = False
        nearest = np.minimum(nearest, np.linalg.norm(about - about[best], axis=1))
        if sum(one.slide == slides[best] for one in taken) >= most_of_slide:
            left &= slides != slides[best]
    return taken


def share_of_slide(fields: int, slides: int) -> int:
    """How many fields one of so many slides may give: twice its even share."""
    return max(1, math.ceil(2 * fields / max(1, slides)))


def _sums(
    member: NDArray[np.intp],
    squares: int,
    unsure: NDArray[np.float64],
    features: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Worth, description and number of cells of each square."""
    order = np.lexsort((-unsure, member))
    counts = np.bincount(member, minlength=squares)
    place = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
    counted = order[place < COUNTED]
    worth = np.bincount(member[counted], unsure[counted], squares).astype(np.float64)
    weight = unsure + 1e-9
    total = np.bincount(member, weight, squares)
    columns: Iterable[NDArray[np.float64]] = (
        np.bincount(member, weight * features[:, k], squares) / total
        for k in range(features.shape[1])
    )
    return worth, np.column_stack(list(columns)).reshape(squares, features.shape[1]), counts


def _entropy(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N,) entropy of (N, C) scores that are made to sum to 1, over that of no knowledge."""
    share = np.clip(scores, 1e-12, None)
    share /= share.sum(axis=1, keepdims=True)
    return np.asarray(-(share * np.log(share)).sum(axis=1) / math.log(max(2, scores.shape[1])))


def _median_distance(about: NDArray[np.float64]) -> float:
    """Between descriptions; of many, between some that lie evenly among them."""
    some = about[np.linspace(0, len(about) - 1, min(len(about), _MEASURED)).astype(int)]
    apart = np.linalg.norm(some[:, None] - some[None], axis=2)[np.triu_indices(len(some), 1)]
    middle = float(np.median(apart)) if len(apart) else 0.0
    return middle or 1.0
