"""How many false alarms to expect: their rate a mm², its spread, and what an area holds by chance.

Counts of fields and slides vary more than chance alone would have them: stain, crowding and
preparation differ. They are taken as negative binomial: Poisson about a rate that is itself gamma
distributed (Greenwood & Yule, J. R. Stat. Soc. 83, 1920). Its spread has two parts: between slides,
which a whole slide shares, and between fields of one slide, which even out over it. Which is which
shows in how fields of one slide vary together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FEW_UNITS = 5
"""Fields or slides below which nothing is said about their spread."""

FEW_PAIRS = 10
"""Pairs of fields of one slide below which their spread is taken to be that of slides."""

_PRIOR = 0.5
"""Added to the number of false alarms (Jeffreys' prior for a rate): none seen is not none ever. Of
a share it stands in for none."""

_LEAST_SPREAD = 1e-4
"""Of a rate between slides; no two are quite alike."""

_LEVEL = 0.95


@dataclass(frozen=True)
class Rate:
    """A rate of false alarms.

    Attributes:
        per_mm2: false alarms a mm².
        between: variance of the rate between slides, over its mean's square.
        within: the same between fields of one slide, of ``unit_mm2`` each; 0 where slides were
            counted as a whole, or nobody knows which fields are of one slide.
        units: number of fields or slides that it was seen on.
        slides: of how many slides these are, as far as that is known.
        mm2: their area.
        found: false alarms on them.
        unit_mm2: mean area of a unit, weighted by area.
    """

    per_mm2: float
    between: float
    within: float
    units: int
    slides: int
    mm2: float
    found: int
    unit_mm2: float


@dataclass(frozen=True)
class Expected:
    """What an area holds by chance.

    Attributes:
        mean: false alarms.
        low, high: what a new slide's number lies between, at the level asked for.
    """

    mean: float
    low: int
    high: int


def fit_rate(
    counts: NDArray[np.int64],
    mm2: NDArray[np.float64],
    slides: Sequence[str] = (),
    share: float | None = None,
) -> Rate:
    """The rate that explains the false alarms of some fields or slides.

    By moments: the spread beyond chance is what squares of deviations have in excess of a Poisson
    number's; the part of it between slides is what fields of one slide have in common.

    Args:
        counts: (N,) false alarms of each field or slide.
        mm2: (N,) their areas.
        slides: (N,) which slide each field is of; empty where nobody knows, or for slides.
        share: part of the spread that is between slides, where that is known of a larger group of
            classes; None to estimate it.

    Raises:
        ValueError: there are fewer than `FEW_UNITS`, or an area is not positive.
    """
    if len(counts) < FEW_UNITS:
        raise ValueError(f"{len(counts)} fields or slides say nothing about their spread")
    if not (mm2 > 0).all():
        raise ValueError("each field or slide needs an area")
    found, area = int(counts.sum()), float(mm2.sum())
    per_mm2 = (found + _PRIOR) / area
    spread = _spread(counts, per_mm2 * mm2)
    if share is None:
        share = share_between(counts, mm2, slides)
    return Rate(
        per_mm2=per_mm2,
        between=max(spread * share, _LEAST_SPREAD),
        within=spread * (1 - share),
        units=len(counts),
        slides=len(set(slides)) or len(counts),
        mm2=area,
        found=found,
        unit_mm2=float(np.square(mm2).sum() / area),
    )


def share_between(
    counts: NDArray[np.int64], mm2: NDArray[np.float64], slides: Sequence[str]
) -> float:
    """Part of the spread of fields that is between slides, 0..1; 1 where that can't be told.

    All of it between slides is the cautious view: then nothing evens out over a slide.
    """
    per_mm2 = (counts.sum() + _PRIOR) / mm2.sum()
    spread = _spread(counts, per_mm2 * mm2)
    deviations = counts / (per_mm2 * mm2) - 1
    names = np.asarray(slides)
    members = [np.flatnonzero(names == name) for name in dict.fromkeys(slides)]
    products = [
        deviations[one[i]] * deviations[one[i + 1 :]] for one in members for i in range(len(one))
    ]
    common = np.concatenate([np.zeros(0), *products])
    if len(common) < FEW_PAIRS or spread <= 0:
        return 1.0
    return float(np.clip(common.mean() / spread, 0, 1))


def expect(rate: Rate, mm2: float, level: float = _LEVEL) -> Expected:
    """What an area of a slide that was not among the units holds by chance.

    Its spread: the slide's own rate, which all of it shares; that of its fields, of which a larger
    area has more; and how uncertain so many units leave the mean rate.
    """
    mean = rate.per_mm2 * mm2
    spread = rate.between + rate.within * rate.unit_mm2 / max(mm2, rate.unit_mm2)
    spread += 1 / (rate.per_mm2 * rate.mm2) + rate.between / rate.slides + rate.within / rate.units
    return expect_number(mean, spread, level)


def expect_number(mean: float, spread: float, level: float = _LEVEL) -> Expected:
    """What a negative binomial number lies between.

    Args:
        mean: of it.
        spread: variance of what it is Poisson about, over its mean's square.
        level: of the interval.
    """
    from scipy.special import betainc

    if mean <= 0:
        return Expected(0.0, 0, 0)
    shape = 1 / max(spread, _LEAST_SPREAD)
    share = shape / (shape + mean)

    def at_most(number: int) -> float:
        """The chance of so many or fewer."""
        return float(betainc(shape, number + 1, share))

    low, high = (quantile(at_most, chance) for chance in ((1 - level) / 2, (1 + level) / 2))
    return Expected(mean, low, high)


def fit_share(
    hits: NDArray[np.int64], of: NDArray[np.int64], slides: Sequence[str] = ()
) -> tuple[float, float]:
    """A share, and its spread from slide to slide, as `expect_number` takes it.

    One slide's cells resemble each other: where one is taken for another class, so are its
    neighbours. The spread is variance over the mean's square, by moments as in `fit_rate`, and has
    in it how uncertain so many leave the share. With fewer than `FEW_UNITS` slides it is 1: the
    share of another one may as well be twice as large.

    Args:
        hits: (N,) of each field.
        of: (N,) out of so many.
        slides: (N,) which slide each field is of; empty where nobody knows: then each is one.
    """
    total, found = int(of.sum()), int(hits.sum())
    if not total:
        return 0.0, 0.0
    if not found:
        return _PRIOR / total, 1 / _PRIOR  # none seen is not none ever
    names = np.asarray(slides) if len(slides) else np.arange(len(of)).astype(str)
    _, member = np.unique(names, return_inverse=True)
    own, out_of = np.zeros(member.max() + 1, np.int64), np.zeros(member.max() + 1)
    np.add.at(own, member, hits)
    np.add.at(out_of, member, of)
    seen = out_of > 0
    share, count = found / total, int(seen.sum())
    if count < FEW_UNITS:
        return share, 1.0
    spread = _spread(own[seen], share * out_of[seen])
    return share, spread * (1 + 1 / count) + 1 / found


def quantile(at_most: Callable[[int], float], chance: float) -> int:
    """The least whole number that is not exceeded with at least this chance.

    Args:
        at_most: the distribution function. `scipy.stats` has such quantiles, and takes a second to
            load, which every screening would wait for.
        chance: below 1.
    """
    high = 1
    while at_most(high) < chance:
        high *= 2
    low = -1
    while high - low > 1:
        middle = (low + high) // 2
        if at_most(middle) < chance:
            low = middle
        else:
            high = middle
    return high


def _spread(counts: NDArray[np.int64], means: NDArray[np.float64]) -> float:
    """Variance of the rate over its mean's square, beyond what chance does to counts."""
    excess = float((np.square(counts - means) - counts).sum())
    return max(excess / float(np.square(means).sum()), _LEAST_SPREAD)
