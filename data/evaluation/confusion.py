"""What cells are called, against what they are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from data.evaluation.cells import FieldCells
from data.evaluation.matching import FALSE_ALARM, partners


def confusion_matrix(
    truth: Sequence[FieldCells], found: Sequence[FieldCells], classes: int
) -> NDArray[np.int64]:
    """Counts what each cell was called; matched at IoU 0.5 whatever the names.

    Args:
        truth: the annotated cells, one entry a field; what lies in a crowd is left out.
        found: what is reported, in the same order; see `data.evaluation.reported`.
        classes: number of classes C.

    Returns:
        (C + 1, C + 1): a row a class of the truth, the last for what is no marked cell (false
        alarms); a column a class that is reported, the last for cells that were missed.
    """
    matrix = np.zeros((classes + 1, classes + 1), np.int64)
    for cells, reported, rows in zip(truth, found, partners(truth, found), strict=True):
        hit = rows >= 0
        np.add.at(matrix, (cells.labels[rows[hit]], reported.labels[hit]), 1)
        np.add.at(matrix[classes], reported.labels[rows == FALSE_ALARM], 1)
        missed = ~cells.crowd
        missed[rows[hit]] = False
        np.add.at(matrix[:, classes], cells.labels[missed], 1)
    return matrix


def shares(matrix: NDArray[np.int64]) -> NDArray[np.float64]:
    """The matrix with each row as shares of its sum; rows without a cell stay 0."""
    return matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)


def merge_matrix(matrix: NDArray[np.int64], groups: Sequence[Sequence[int]]) -> NDArray[np.int64]:
    """A confusion matrix on a coarser level: the same matches, their classes merged.

    Args:
        matrix: (C + 1, C + 1), see `confusion_matrix`.
        groups: the labels of each group, G of them; each label is in one.

    Returns:
        (G + 1, G + 1), with the false alarms and the missed cells last.
    """
    members = [*map(list, groups), [len(matrix) - 1]]
    return np.array([[matrix[np.ix_(a, b)].sum() for b in members] for a in members], np.int64)
