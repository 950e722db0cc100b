"""Matches of boxes that stay while their scores change: many rules tried on the same places."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from data.evaluation.cells import FieldCells
from data.evaluation.matching import Matches

IOU = 0.5


class FixedBoxes:
    """Boxes on a field, matched once with its cells, so that scores can be tried quickly.

    The rule is COCO's at IoU 0.5, as `data.evaluation.matching` has it: by falling score each box
    takes of the cells that are left the one that it overlaps most; what takes none and lies in a
    crowd does not count.

    Args:
        truth: the cells of the field.
        boxes: (N, 4) xyxy.
    """

    def __init__(self, truth: FieldCells, boxes: NDArray[np.floating]) -> None:
        self._labels = truth.labels[~truth.crowd]
        common, areas = _common(boxes, truth.boxes), _areas(boxes)[:, None]
        union = areas + _areas(truth.boxes)[None] - common
        overlap = np.divide(common, union, out=np.zeros_like(common), where=union > 0)
        self._overlaps = overlap[:, ~truth.crowd]
        within = np.divide(common, areas, out=np.zeros_like(common), where=areas > 0)
        self._ignored = (within[:, truth.crowd] >= IOU).any(axis=1)
        self._near = np.flatnonzero((self._overlaps >= IOU).any(axis=1))

    def matches(self, scores: NDArray[np.floating], members: NDArray[np.integer]) -> Matches:
        """Matches of the boxes as detections of some classes, taken as one.

        Args:
            scores: (N,) of the boxes.
            members: labels of the classes.
        """
        wanted = np.isin(self._labels, members)
        overlaps = np.where(wanted, self._overlaps, 0.0)
        hits = np.zeros(len(scores), bool)
        for row in self._near[np.argsort(-scores[self._near], kind="stable")].tolist():
            best = int(overlaps[row].argmax())
            if overlaps[row, best] >= IOU:
                hits[row] = True
                overlaps[:, best] = 0.0
        counted = hits | ~self._ignored
        return Matches(scores[counted].astype(np.float64), hits[counted], int(wanted.sum()))


def _common(ones: NDArray[np.floating], others: NDArray[np.floating]) -> NDArray[np.float64]:
    low = np.maximum(ones[:, None, :2], others[None, :, :2])
    high = np.minimum(ones[:, None, 2:], others[None, :, 2:])
    common: NDArray[np.float64] = (high - low).clip(0).astype(np.float64).prod(axis=2)
    return common


def _areas(boxes: NDArray[np.floating]) -> NDArray[np.float64]:
    areas: NDArray[np.float64] = (boxes[:, 2:] - boxes[:, :2]).astype(np.float64).prod(axis=1)
    return areas
