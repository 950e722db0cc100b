"""Figures of slides: how well a score tells suspicious slides from others."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv, expit, logit
from scipy.stats import norm, rankdata

Scores = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Estimate:
    """A figure and its interval."""

    value: float
    low: float
    high: float


def auc_with_covariance(scores: Scores, positive: Flags) -> tuple[Scores, Scores]:
    """Areas under the ROC curve of several scores of the same slides, and their covariance.

    DeLong, DeLong and Clarke-Pearson, Biometrics 1988; computed from ranks as by Sun and Xu, IEEE
    Signal Processing Letters 2014.

    Args:
        scores: (K, N), higher for more suspicious.
        positive: (N,).

    Returns:
        (K,) areas and their (K, K) covariance.

    Raises:
        ValueError: there is no positive or no negative slide.
    """
    cases, controls = scores[:, positive], scores[:, ~positive]
    m, n = cases.shape[1], controls.shape[1]
    if not m or not n:
        raise ValueError("an area under the ROC curve needs positive and negative slides")
    together = np.concatenate([cases, controls], axis=1)
    ranks = rankdata(together, axis=1)
    # V10 and V01: the share of the other side that each slide is ranked above.
    above_controls = (ranks[:, :m] - rankdata(cases, axis=1)) / n
    below_cases = 1 - (ranks[:, m:] - rankdata(controls, axis=1)) / m
    return above_controls.mean(axis=1), _covariance(above_controls) / m + _covariance(
        below_cases
    ) / n


def auc(scores: Scores, positive: Flags, level: float = 0.95) -> Estimate:
    """Area under the ROC curve with DeLong's interval on the logit scale, which stays in 0..1."""
    areas, covariance = auc_with_covariance(scores[None], positive)
    area, error = float(areas[0]), math.sqrt(max(float(covariance[0, 0]), 0.0))
    if area in (0.0, 1.0) or not error:
        return Estimate(area, area, area)
    reach = norm.ppf((1 + level) / 2) * error / (area * (1 - area))
    return Estimate(area, float(expit(logit(area) - reach)), float(expit(logit(area) + reach)))


def auc_difference(
    ours: Scores, theirs: Scores, positive: Flags, level: float = 0.95
) -> tuple[Estimate, float]:
    """How much larger our area is than theirs, on the same slides, and DeLong's p-value."""
    areas, covariance = auc_with_covariance(np.stack([ours, theirs]), positive)
    difference = float(areas[0] - areas[1])
    variance = float(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    if variance <= 1e-15:
        return Estimate(difference, difference, difference), 1.0 if not difference else 0.0
    error = math.sqrt(variance)
    reach = float(norm.ppf((1 + level) / 2)) * error
    p_value = 2 * float(norm.sf(abs(difference) / error))
    return Estimate(difference, difference - reach, difference + reach), p_value


def auc_by_groups(
    scores: Scores, positive: Flags, groups: NDArray[np.intp], level: float = 0.95
) -> Estimate:
    """Area under the ROC curve, its interval by drawing groups, such as patients, anew."""
    rng = np.random.default_rng(0)
    members = [np.flatnonzero(groups == group) for group in np.unique(groups)]
    areas = []
    for _ in range(1000):
        rows = np.concatenate([members[i] for i in rng.integers(len(members), size=len(members))])
        if 0 < positive[rows].sum() < len(rows):
            areas.append(auc_with_covariance(scores[None, rows], positive[rows])[0][0])
    low, high = np.quantile(areas, [(1 - level) / 2, (1 + level) / 2])
    value = float(auc_with_covariance(scores[None], positive)[0][0])
    return Estimate(value, float(low), float(high))


def proportion(hits: int, total: int, level: float = 0.95) -> Estimate:
    """A share with Wilson's interval (JASA 1927); NaN of nothing."""
    if not total:
        return Estimate(math.nan, math.nan, math.nan)
    z2 = float(norm.ppf((1 + level) / 2)) ** 2
    share = hits / total
    middle = (share + z2 / (2 * total)) / (1 + z2 / total)
    reach = math.sqrt(z2 * (share * (1 - share) / total + z2 / (4 * total**2))) / (1 + z2 / total)
    # At 0 and 1 the bound is exact, and rounding must not carry it beyond.
    return Estimate(
        share,
        0.0 if not hits else max(0.0, middle - reach),
        1.0 if hits == total else min(1.0, middle + reach),
    )


def exact_proportion(hits: int, total: int, level: float = 0.95) -> Estimate:
    """A share with the exact interval (Clopper & Pearson, Biometrika 1934); NaN of nothing.

    Wider than Wilson's, and never too narrow: for shares near 0 of which a promise is made.
    """
    if not total:
        return Estimate(math.nan, math.nan, math.nan)
    tail = (1 - level) / 2
    low = float(betaincinv(hits, total - hits + 1, tail)) if hits else 0.0
    high = float(betaincinv(hits + 1, total - hits, 1 - tail)) if hits < total else 1.0
    return Estimate(hits / total, low, high)


def threshold_for(scores: Scores, positive: Flags, sensitivity: float) -> float:
    """The highest score at or above which at least this share of the positive slides lies."""
    cases = np.sort(scores[positive])
    needed = math.ceil(sensitivity * len(cases) - 1e-9)
    return float(cases[len(cases) - needed]) if needed else math.inf


def _covariance(values: Scores) -> Scores:
    if values.shape[1] < 2:
        return np.zeros((len(values), len(values)))
    return np.atleast_2d(np.cov(values))
