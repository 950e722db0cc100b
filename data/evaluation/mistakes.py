"""What is reported as abnormal and isn't, or isn't of that class, on annotated fields."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data.evaluation.cells import FieldCells
from data.evaluation.matching import IGNORED, partners


@dataclass(frozen=True)
class Mistakes:
    """What is reported as abnormal and isn't, or isn't of that class.

    Attributes:
        false_alarms: (N, C) detections of each class on each field that found no abnormal cell.
        confused: (N, C, C) detections on each field that found an abnormal cell: its class, and the
            one reported.
    """

    false_alarms: NDArray[np.int64]
    confused: NDArray[np.int64]


def count_mistakes(
    truth: Sequence[FieldCells], reported: Sequence[FieldCells], abnormal: Sequence[bool]
) -> Mistakes:
    """Counts false alarms and confusions field by field.

    A detection of an abnormal class is a false alarm where it found a normal cell or none at IoU
    0.5; on what is ignored it is neither.

    Args:
        truth: the annotated cells of each field.
        reported: what a screening would report of it.
        abnormal: (C,) which classes are.
    """
    classes, flags = len(abnormal), np.asarray(abnormal)
    alarms = np.zeros((len(truth), classes), np.int64)
    confused = np.zeros((len(truth), classes, classes), np.int64)
    rows = partners(truth, reported) if any(map(len, reported)) else [np.zeros(0, int)] * len(truth)
    for field, (cells, found, row) in enumerate(zip(truth, reported, rows, strict=True)):
        counted = flags[found.labels] & (row != IGNORED)
        labels, row = found.labels[counted], row[counted]
        true = np.where(row >= 0, cells.labels[row], -1) if len(cells) else np.full(len(row), -1)
        hit = (true >= 0) & flags[true]
        alarms[field] = np.bincount(labels[~hit], minlength=classes)
        np.add.at(confused[field], (true[hit], labels[hit]), 1)
    return Mistakes(alarms, confused)
