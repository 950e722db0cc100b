"""Figures of slides: how well a score tells suspicious slides from others."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv, expit, logit
from scipy.stats import norm, rankdata
from scipy.stats import t as student

Scores = NDArray[np.float64]
Flags = NDArray[np.bool_]
Groups = NDArray[np.intp]


@dataclass(frozen=True)
class Estimate:
    """A figure and its interval."""

    value: float
    low: float
    high: float


def has_several(groups: Groups) -> bool:
    """Whether some group, such as a patient, has several slides."""
    return len(np.unique(groups)) < len(groups)


def auc_with_covariance(
    scores: Scores, positive: Flags, groups: Groups | None = None
) -> tuple[Scores, Scores]:
    """Areas under the ROC curve of several scores of the same slides, and their covariance.

    DeLong, DeLong and Clarke-Pearson, Biometrics 1988; computed from ranks as by Sun and Xu, IEEE
    Signal Processing Letters 2014. Where groups have several slides, Obuchowski's, Biometrics 1997,
    which takes slides of one group for alike; of one slide each it is DeLong's.

    Args:
        scores: (K, N), higher for more suspicious.
        positive: (N,).
        groups: (N,) whose slide each is; None: each of its own.

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
    areas = above_controls.mean(axis=1)
    if groups is not None and has_several(groups):
        return areas, _clustered(above_controls, below_cases, positive, groups)
    return areas, _covariance(above_controls) / m + _covariance(below_cases) / n


def auc(scores: Scores, positive: Flags, level: float = 0.95) -> Estimate:
    """Area under the ROC curve with DeLong's interval on the logit scale, which stays in 0..1.

    Where all pairs are in order, or none is, it is `_without_width`'s.
    """
    areas, covariance = auc_with_covariance(scores[None], positive)
    area, error = float(areas[0]), math.sqrt(max(float(covariance[0, 0]), 0.0))
    if area in (0.0, 1.0):
        return _without_width(area, positive, np.arange(len(positive)), level)
    if not error:  # all scores are one
        return Estimate(area, area, area)
    reach = norm.ppf((1 + level) / 2) * error / (area * (1 - area))
    return Estimate(area, float(expit(logit(area) - reach)), float(expit(logit(area) + reach)))


def auc_difference(
    ours: Scores,
    theirs: Scores,
    positive: Flags,
    groups: Groups | None = None,
    level: float = 0.95,
) -> tuple[Estimate, float]:
    """How much larger our area is than theirs, on the same slides, and the p-value.

    DeLong's, or with several slides of a group Obuchowski's; see `auc_with_covariance`. Where an
    area is 0 or 1, or the variance is 0 however the scores differ, `_difference_without_width`'s.
    """
    areas, covariance = auc_with_covariance(np.stack([ours, theirs]), positive, groups)
    difference = float(areas[0] - areas[1])
    variance = float(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    if set(areas.tolist()) & {0.0, 1.0} or (difference and variance <= 1e-15):
        of = np.arange(len(positive)) if groups is None else groups
        return _difference_without_width(areas, (ours, theirs), positive, of, level)
    if variance <= 1e-15:  # the same order
        return Estimate(0.0, 0.0, 0.0), 1.0
    error = math.sqrt(variance)
    reach = float(norm.ppf((1 + level) / 2)) * error
    p_value = 2 * float(norm.sf(abs(difference) / error))
    return Estimate(difference, difference - reach, difference + reach), p_value


def auc_by_groups(scores: Scores, positive: Flags, groups: Groups, level: float = 0.95) -> Estimate:
    """Area under the ROC curve, its interval by drawing groups, such as patients, anew.

    Where all pairs are in order, or none is, it is `_without_width`'s.
    """
    value = float(auc_with_covariance(scores[None], positive)[0][0])
    if value in (0.0, 1.0):
        return _without_width(value, positive, groups, level)
    rng = np.random.default_rng(0)
    # A draw is how often each group was drawn: with the numbers of cases and of controls at each
    # score, the area is a sum over scores.
    _, of = np.unique(groups, return_inverse=True)
    steps, step = np.unique(scores, return_inverse=True)
    count, areas = int(of.max()) + 1, []
    for _ in range(1000):
        times = np.bincount(rng.integers(count, size=count), minlength=count)[of]
        cases = np.bincount(step[positive], times[positive], len(steps))
        controls = np.bincount(step[~positive], times[~positive], len(steps))
        if pairs := cases.sum() * controls.sum():
            areas.append(cases @ (controls.cumsum() - controls / 2) / pairs)
    low, high = np.quantile(areas, [(1 - level) / 2, (1 + level) / 2])
    return Estimate(value, float(low), float(high))


def _without_width(area: float, positive: Flags, groups: Groups, level: float) -> Estimate:
    """The interval of an area of 0 or 1, whose variance is 0 however few slides there are.

    The area is the chance that a case is ranked above a control. Cases and controls that are paired
    off, each group in one pair, are as many independent trials of it, which all came out alike: the
    interval is the exact one of these, which says too little rather than too much.
    """
    pairs = _pairs(positive, groups)
    return exact_proportion(area * pairs, pairs, level)


def _difference_without_width(
    areas: Scores, scores: tuple[Scores, Scores], positive: Flags, groups: Groups, level: float
) -> tuple[Estimate, float]:
    """How much larger the first of two (2,) areas is where one has no variance, and the p-value.

    The interval is from the one's low to the other's high end and back, each that of
    `_without_width`; a score that is always the same has its area for certain. The p-value is that
    of the sign test by its pairs: of as many as the areas say that the scores order otherwise, or
    of all where one of the scores orders none, all had it the same way.
    """
    ours, theirs = (
        Estimate(area, area, area)
        if (own == own[0]).all()
        else _without_width(area, positive, groups, level)
        for area, own in zip(areas.tolist(), scores, strict=True)
    )
    difference = float(areas[0] - areas[1])
    told = Estimate(difference, max(-1.0, ours.low - theirs.high), min(1.0, ours.high - theirs.low))
    orders_none = any((own == own[0]).all() for own in scores)
    pairs = _pairs(positive, groups) * (1.0 if orders_none else abs(difference))
    return told, min(1.0, 2 * 0.5**pairs) if difference else 1.0


def _pairs(positive: Flags, groups: Groups) -> int:
    """How many pairs of a case and a control there are, each group in one pair; at least 1."""
    cases, controls = set(groups[positive].tolist()), set(groups[~positive].tolist())
    return max(1, min(len(cases), len(controls), len(cases | controls) // 2))


def proportion(hits: float, total: float, level: float = 0.95) -> Estimate:
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


def exact_proportion(hits: float, total: float, level: float = 0.95) -> Estimate:
    """A share with the exact interval (Clopper & Pearson, Biometrika 1934); NaN of nothing.

    Wider than Wilson's, and never too narrow: for shares near 0 of which a promise is made.
    """
    if not total:
        return Estimate(math.nan, math.nan, math.nan)
    tail = (1 - level) / 2
    low = float(betaincinv(hits, total - hits + 1, tail)) if hits else 0.0
    high = float(betaincinv(hits + 1, total - hits, 1 - tail)) if hits < total else 1.0
    return Estimate(hits / total, low, high)


def proportion_by_groups(
    hits: Flags,
    groups: Groups,
    level: float = 0.95,
    interval: Callable[[float, float, float], Estimate] = proportion,
) -> Estimate:
    """A share of slides, with an interval that takes slides of one group for alike.

    The interval is that of `effective_number` slides (as Korn and Graubard, Survey Methodology
    1998, have it for the exact one); of one slide a group the plain one, to the last digit.
    Drawing groups anew fails near 0 and 1: where those at hand have no miss, nor has any draw.

    Args:
        hits: (N,) whether each slide is one.
        groups: (N,) whose slide each is.
        level: of the interval.
        interval: `proportion` or `exact_proportion`.
    """
    if not has_several(groups):
        return interval(int(hits.sum()), len(hits), level)
    share = float(hits.mean())
    if not (size := effective_number(hits, groups, level)):
        return Estimate(share, 0.0, 1.0)
    return replace(interval(share * size, size, level), value=share)


def effective_number(hits: Flags, groups: Groups, level: float = 0.95) -> float:
    """So many independent slides would tell a share as well as these slides of fewer groups do.

    Their number by the design effect, the variance of the share between groups over that of
    independent slides (Rao and Scott, Biometrics 1992), which is taken for at least 1. A share of
    0 or 1 has no variance: then slides of one group are taken for the same slide (Kish, Survey
    Sampling 1965). And as few groups leave the variance itself unsure, their number is reduced by
    the quantiles of Student's t.

    Returns:
        At most the number of slides; 0 of one group, which tells nothing of others.
    """
    _, of = np.unique(groups, return_inverse=True)
    slides, found = np.bincount(of), np.bincount(of, weights=hits)
    count, total = len(slides), int(slides.sum())
    if count < 2:
        return 0.0
    share = float(hits.mean())
    if share in (0.0, 1.0):
        size = total**2 / float((slides**2).sum())
    else:
        between = float(((found - share * slides) ** 2).sum()) * count / (count - 1)
        size = total / max(1.0, between / (total * share * (1 - share)))
    tail = (1 + level) / 2
    return size * float(norm.ppf(tail) / student.ppf(tail, count - 1)) ** 2


def threshold_for(scores: Scores, positive: Flags, sensitivity: float) -> float:
    """The highest score at or above which at least this share of the positive slides lies."""
    cases = np.sort(scores[positive])
    needed = math.ceil(sensitivity * len(cases) - 1e-9)
    return float(cases[len(cases) - needed]) if needed else math.inf


def _clustered(
    above_controls: Scores, below_cases: Scores, positive: Flags, groups: Groups
) -> Scores:
    """(K, K) covariance of areas whose slides come in groups; see `auc_with_covariance`.

    Args:
        above_controls: (K, M) of each positive slide the share of the negative ones below it.
        below_cases: (K, N) of each negative slide the share of the positive ones above it.
        positive: (M + N,).
        groups: (M + N,).
    """
    names, of = np.unique(groups, return_inverse=True)
    cases = _by_group(above_controls, of[positive], len(names))
    controls = _by_group(below_cases, of[~positive], len(names))
    both = cases @ controls.T * _unbiased(of)
    own = cases @ cases.T * _unbiased(of[positive]) + controls @ controls.T * _unbiased(
        of[~positive]
    )
    return own + both + both.T


def _by_group(values: Scores, of: Groups, count: int) -> Scores:
    """(K, count) by how much each group's (K, N) values move their mean."""
    apart = (values - values.mean(axis=1, keepdims=True)) / values.shape[1]
    return np.stack([np.bincount(of, row, count).astype(np.float64) for row in apart])


def _unbiased(of: Groups) -> float:
    """What a variance of the groups that (N,) slides are of is multiplied by."""
    count = len(np.unique(of))
    return count / max(count - 1, 1)


def _covariance(values: Scores) -> Scores:
    if values.shape[1] < 2:
        return np.zeros((len(values), len(values)))
    return np.atleast_2d(np.cov(values))
