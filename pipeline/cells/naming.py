"""One name a cell: which of several classes that were seen in one place is reported.

Two questions, two rules. *Normal or abnormal?* Scores of a frequent and of a rare class don't
compare, so the name that is furthest above its own threshold settles it, score / threshold.
*Which abnormal class?* There that rule would always give the class with the lowest threshold; the
score itself would give the frequent one. What is compared is score / threshold**`NAMING`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from pipeline.cells.nms import greedy_nms
from pipeline.geometry import Boxes, Detections

NAMING = 0.25
"""How much thresholds count among abnormal names: with the shipped model on its validation fields
0, 1/4 and 1 name 19, 32 and 44 of 61 ASC-US right, 38, 21 and 0 of 66 LSIL, 12, 20 and 22 of 38
HSIL; which cells are abnormal does not depend on it."""


def name_cells(
    cells: Detections,
    thresholds: NDArray[np.floating],
    abnormal: NDArray[np.bool_],
    iou: float,
) -> Detections:
    """Leaves one name for each cell.

    Args:
        cells: at or above their thresholds, without doubles within a class.
        thresholds: (C,) score from which on a class is reported.
        abnormal: (C,) which classes are abnormal.
        iou: boxes of two classes that overlap by more are one cell; 1 keeps all names.
    """
    own = np.asarray(thresholds, np.float64)[cells.labels]
    kept = cells[greedy_nms(_scored(cells, cells.scores / own), iou, per_class=False)]
    of_cell, of_kept = abnormal[cells.labels], abnormal[kept.labels]
    rivals, weights = cells[of_cell], (cells.scores / own**NAMING)[of_cell]
    best = rivals[greedy_nms(_scored(rivals, weights), iou, per_class=False)]
    if not of_kept.any() or len(best) == 0:
        return kept
    suspects = kept[of_kept]
    _, nearest = cKDTree(best.centers).query(suspects.centers)
    named = best[nearest]
    same = _iou(suspects.boxes, named.boxes) > iou
    renamed = Detections(
        suspects.boxes,  # where the margin saw it: what is abnormal, and where, stays
        np.where(same, named.scores, suspects.scores),
        np.where(same, named.labels, suspects.labels),
    )
    return Detections.concatenate([kept[~of_kept], renamed])


def _scored(cells: Detections, scores: NDArray[np.floating]) -> Detections:
    return Detections(cells.boxes, scores.astype(np.float32), cells.labels)


def _iou(ones: Boxes, others: Boxes) -> NDArray[np.float64]:
    """Of each box with the other in its row."""
    low, high = np.maximum(ones[:, :2], others[:, :2]), np.minimum(ones[:, 2:], others[:, 2:])
    common = np.prod((high - low).clip(0), axis=1)
    areas = [np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) for boxes in (ones, others)]
    return np.asarray(common / np.maximum(areas[0] + areas[1] - common, 1e-12))
