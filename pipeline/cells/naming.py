"""One name a cell: which of several classes that were seen in one place is reported.

Three questions, three rules; none lets a lower threshold hide an abnormal cell. *Is it abnormal?*
Scores of a frequent and of a rare class don't compare, so it is the margin that settles it, score /
balance. The balance is the model's own threshold of the class, whatever thresholds are asked for:
lowering those adds findings and takes none away. An abnormal finding gives way to a normal one that
overlaps it and has the greater margin, reported or not; of abnormal findings that overlap the one
with the greatest margin stays; normal ones stay where no abnormal one did. *Which abnormal class?*
There the margin would always give the class with the lowest balance, the score itself the frequent
one. What is compared is score / balance**`NAMING`. *What did the other classes score?* Each finding
counts for the cell that it overlaps most; of each class the best score is kept.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.cells.nms import Rows, greedy_nms, overlapping_pairs, pair_iou
from pipeline.geometry import Boxes, Detections

NAMING = 0.25
"""How much the balance counts among abnormal names: with the shipped model on its validation fields
0, 1/4 and 1 name 19, 32 and 44 of 61 ASC-US right, 38, 21 and 0 of 66 LSIL, 12, 20 and 22 of 38
HSIL; which cells are abnormal does not depend on it."""

LEAST_BALANCE = 1e-6
"""A model's threshold may be 0; a margin has to be a number."""


def detection_floors(
    thresholds: NDArray[np.floating],
    balance: NDArray[np.floating],
    abnormal: NDArray[np.bool_],
) -> NDArray[np.float32]:
    """(C,) scores down to which a detector has to look, so that `name_cells` sees all that counts.

    A normal finding that is not reported still takes an abnormal one's place where its margin is
    greater; at the model's own thresholds, and at one for all where the normal classes' own are
    the highest, there are none, and these are the thresholds.
    """
    floors = np.array(thresholds, np.float32)
    if abnormal.any():
        balance = np.maximum(balance, LEAST_BALANCE)
        least = (thresholds / balance)[abnormal].min()
        floors = np.where(abnormal, floors, np.minimum(floors, least * balance))
    return floors.astype(np.float32)


def name_cells(
    cells: Detections,
    thresholds: NDArray[np.floating],
    abnormal: NDArray[np.bool_],
    iou: float,
    balance: NDArray[np.floating] | None = None,
) -> Detections:
    """Leaves one name for each cell.

    Args:
        cells: without doubles within a class, from `detection_floors` on.
        thresholds: (C,) score from which on a class is reported.
        abnormal: (C,) which classes are abnormal.
        iou: boxes of two classes that overlap by more are one cell; 1 keeps all names.
        balance: (C,) scores that weigh alike, the model's own thresholds; None for ``thresholds``.

    Returns:
        What is reported, with the scores of all classes at each cell's place: of those that were
        found there, else of the place that gave the box; 0 where a detector tells neither.
    """
    balance = np.maximum(thresholds if balance is None else balance, LEAST_BALANCE)
    balance = balance.astype(np.float64)
    margins = cells.scores / balance[cells.labels]
    reported = cells.scores.astype(np.float64) >= thresholds[cells.labels]
    of_abnormal = abnormal[cells.labels]
    normal, suspect = np.flatnonzero(~of_abnormal), np.flatnonzero(of_abnormal & reported)
    standing = suspect[~_outweighed(cells.boxes, suspect, normal, margins, iou)]
    standing = standing[_best(cells, standing, margins, iou)]
    normal = normal[reported[normal]]
    _, covered = overlapping_pairs(cells.boxes[standing], cells.boxes[normal], iou)
    normal = np.delete(normal, covered)
    normal = normal[_best(cells, normal, margins, iou)]
    kept = np.concatenate([normal, standing])
    owners = _owners(cells.boxes, kept, iou)
    named = kept.copy()
    rivals = suspect[owners[suspect] >= len(normal)]
    weights = cells.scores[rivals] / balance[cells.labels[rivals]] ** NAMING
    order = np.lexsort((weights, owners[rivals]))
    named[owners[rivals][order]] = rivals[order]  # the last of an owner is the best
    return Detections(
        cells.boxes[kept],  # where the margin saw it: what is abnormal, and where, stays
        cells.scores[named],
        cells.labels[named],
        _class_scores(cells, owners, named, len(thresholds)),
        planes=None if cells.planes is None else cells.planes[kept],
    )


def name_places(
    class_scores: NDArray[np.floating],
    thresholds: NDArray[np.floating],
    abnormal: NDArray[np.bool_],
    balance: NDArray[np.floating] | None = None,
) -> NDArray[np.int64]:
    """What each place is called whose classes' scores are all known, by the rules of `name_cells`.

    Args:
        class_scores: (N, C) of places that don't overlap.
        thresholds: (C,) as of `name_cells`.
        abnormal: likewise.
        balance: likewise.

    Returns:
        (N,) labels; -1 where nothing is reported.
    """
    balance = np.maximum(thresholds if balance is None else balance, LEAST_BALANCE)
    balance = balance.astype(np.float64)
    scores = class_scores.astype(np.float64)
    reported, margins = scores >= thresholds, scores / balance
    suspect, normal = reported & abnormal, reported & ~abnormal
    outweighed = np.where(abnormal, 0, margins).max(axis=1, initial=0)
    stands = np.where(suspect, margins, -np.inf).max(axis=1, initial=-np.inf) >= outweighed
    which = np.where(suspect, scores / balance**NAMING, -np.inf).argmax(axis=1)
    as_normal = np.where(normal, margins, -np.inf).argmax(axis=1)
    labels = np.where(stands, which, np.where(normal.any(axis=1), as_normal, -1))
    return labels.astype(np.int64)


def _outweighed(
    boxes: Boxes, suspect: Rows, normal: Rows, margins: NDArray[np.float64], iou: float
) -> NDArray[np.bool_]:
    """Of each abnormal finding whether a normal one in its place has the greater margin.

    Any normal one counts, whatever became of it: so no other finding, which a threshold may add,
    has a say.
    """
    outweighed = np.zeros(len(suspect), bool)
    ones, others = overlapping_pairs(boxes[normal], boxes[suspect], iou)
    outweighed[others[margins[normal[ones]] > margins[suspect[others]]]] = True
    return outweighed


def _best(
    cells: Detections, rows: Rows, margins: NDArray[np.float64], iou: float
) -> NDArray[np.bool_]:
    """Which of these rows no other with a greater margin overlaps, whatever their classes."""
    weighed = Detections(cells.boxes[rows], margins[rows].astype(np.float32), cells.labels[rows])
    return greedy_nms(weighed, iou, per_class=False)


def _owners(boxes: Boxes, kept: Rows, iou: float) -> Rows:
    """(N,) index into ``kept`` of the cell that each finding overlaps most; -1 for none."""
    ones, others = overlapping_pairs(boxes[kept], boxes, iou)
    closeness = pair_iou(boxes[kept[ones]], boxes[others])
    order = np.lexsort((-ones, closeness))
    owners = np.full(len(boxes), -1, np.intp)
    owners[others[order]] = ones[order]  # the last of a finding is the closest
    owners[kept] = np.arange(len(kept))
    return owners


def _class_scores(
    cells: Detections, owners: Rows, named: Rows, classes: int
) -> NDArray[np.float32]:
    """(K, C) best score of each class among the findings of each cell; of its name its own."""
    known = cells.class_scores
    if known is None:
        known = np.zeros((len(cells), classes), np.float32)
        known[np.arange(len(cells)), cells.labels] = cells.scores
    rows = np.flatnonzero(owners >= 0)
    rows = rows[np.argsort(owners[rows], kind="stable")]
    firsts = np.searchsorted(owners[rows], np.arange(len(named)))
    best = np.maximum.reduceat(known[rows], firsts) if len(named) else known[:0].copy()
    best[np.arange(len(named)), cells.labels[named]] = cells.scores[named]
    return best
