"""What can be read off one class's matches: precision, sensitivity and false alarms by score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data.evaluation.matching import Matches

FROC_RATES = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
"""False positives a field, or a mm², at which FROC is read (LUNA16, CAMELYON16)."""


@dataclass(frozen=True)
class Curve:
    """What each threshold gives, by falling threshold; one entry for each score that occurs.

    Attributes:
        thresholds: (T,) the scores; detections from a threshold on count.
        hits: (T,) cells found.
        false_alarms: (T,) detections that found none.
        cells: how many there were to find.
    """

    thresholds: NDArray[np.float64]
    hits: NDArray[np.int64]
    false_alarms: NDArray[np.int64]
    cells: int

    @property
    def sensitivity(self) -> NDArray[np.float64]:
        """(T,) share of the cells that is found; 0 where there are none."""
        return self.hits / max(self.cells, 1)

    @property
    def precision(self) -> NDArray[np.float64]:
        """(T,) share of the detections that found a cell."""
        return self.hits / (self.hits + self.false_alarms)


def trace(matched: Matches) -> Curve:
    """The curve of a class; detections of equal score come together, as no threshold parts them."""
    order = np.argsort(-matched.scores, kind="stable")
    scores, hits = matched.scores[order], matched.hits[order].astype(bool)
    last = np.flatnonzero(np.diff(scores, append=-np.inf))  # of each run of equal scores
    return Curve(scores[last], np.cumsum(hits)[last], np.cumsum(~hits)[last], matched.cells)


def ap_of_matches(matched: Matches) -> float:
    """AP as COCO computes it: precision at 101 recalls, made monotone; NaN without cells."""
    if not matched.cells:
        return float("nan")
    hits = matched.hits[np.argsort(-matched.scores, kind="mergesort")]
    true_positives = np.cumsum(hits)
    precision = true_positives / np.arange(1, len(hits) + 1)
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    at = np.searchsorted(true_positives / matched.cells, np.linspace(0, 1, 101), side="left")
    return float(np.append(precision, np.zeros(1))[np.minimum(at, len(hits))].mean())


def best_threshold(matched: Matches, beta: float = 1.0) -> float:
    """The score from which on detections have the best F-beta; 0.5 where nothing was hit.

    Args:
        matched: detections of one class.
        beta: how many times as much recall counts as precision (van Rijsbergen).
    """
    order = np.argsort(-matched.scores, kind="stable")
    hits = np.cumsum(matched.hits[order])
    if not len(hits) or not hits[-1]:
        return 0.5
    f = (1 + beta**2) * hits / (np.arange(1, len(hits) + 1) + beta**2 * matched.cells)
    return float(matched.scores[order][np.argmax(f)])


def froc(
    matched: Matches, fields: float, rates: Sequence[float] = FROC_RATES
) -> dict[float, float]:
    """Free-response ROC: sensitivity at so many false positives a field.

    Args:
        matched: detections of one class or group.
        fields: how many fields; or mm², for rates a mm².
        rates: where it is read.

    Returns:
        Sensitivity by rate: the best that a threshold with at most that rate gives.
    """
    curve = trace(matched)
    allowed = [curve.false_alarms <= rate * fields for rate in rates]
    return {
        rate: float(curve.sensitivity[below].max(initial=0.0))
        for rate, below in zip(rates, allowed, strict=True)
    }
