"""Whether a score of 0.7 means that seven of ten such detections are right."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data.evaluation.matching import Matches

CALIBRATED_FROM = 0.05
"""Least score that counts, torchvision's own limit: below it lie countless boxes that nobody sees,
whose scores near 0 would hide every other error."""


@dataclass(frozen=True)
class Reliability:
    """Detections in bins of about equal number, by rising score.

    Attributes:
        scores: (B,) mean score.
        hits: (B,) share that found a cell.
        counts: (B,) detections.
    """

    scores: NDArray[np.float64]
    hits: NDArray[np.float64]
    counts: NDArray[np.int64]

    @property
    def error(self) -> float:
        """Expected calibration error (Guo et al., ICML 2017, eq. 3); NaN without detections."""
        return self._mean(np.abs(self.scores - self.hits))

    @property
    def excess(self) -> float:
        """By how much scores are too high on the whole; negative where they are too low."""
        return self._mean(self.scores - self.hits)

    def _mean(self, gaps: NDArray[np.float64]) -> float:
        return float(np.average(gaps, weights=self.counts)) if len(gaps) else float("nan")


def reliability(matched: Matches, bins: int = 15, lowest: float = CALIBRATED_FROM) -> Reliability:
    """Scores against the share of detections that are right.

    A detection's score is taken as the probability that it is a hit: that it finds, at IoU 0.5, a
    cell that no better one has found (COCO's rule; those in a crowd don't count). Bins hold equal
    numbers (Nguyen and O'Connor, EMNLP 2015): with bins of equal width most would be nearly empty.

    Args:
        matched: detections of one class or group.
        bins: how many; fewer where there are fewer detections.
        lowest: detections with a lower score don't count.
    """
    counted = matched.scores >= lowest
    order = np.argsort(matched.scores[counted], kind="stable")
    parts = np.array_split(order, min(bins, len(order))) if len(order) else []
    scores, hits = matched.scores[counted], matched.hits[counted]
    return Reliability(
        np.array([scores[part].mean() for part in parts]),
        np.array([hits[part].mean() for part in parts]),
        np.array([len(part) for part in parts], np.int64),
    )
