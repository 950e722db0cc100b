"""How many cells there are, from how many are reported.

Of every cell that is there a detector reports the share that is its recall, and of what it reports
the share that is its precision is one: for each reported cell there are precision / recall. That
ratio varies between slides more than chance would have it, since stain, crowding and debris do. How
much shows in how far annotated fields lie from their mean ratio (a ratio estimator; Cochran,
Sampling Techniques, 1977, chapter 6). Which part of it whole slides share shows in how fields of
one slide deviate together; where nobody knows which fields are of one slide, all of it is taken to
be between slides, the cautious view: then nothing evens out over a slide.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data.evaluation.false_alarms import FEW_PAIRS, FEW_UNITS


@dataclass(frozen=True)
class Counting:
    """Cells there are for each that is reported.

    Attributes:
        ratio: precision by recall.
        spread: variance of the ratio between slides, over its square.
        error: variance of its mean over so many fields, over its square.
        noise: variance that each reported cell adds of its own, over the ratio's square.
        units: number of fields.
        cells, reported: their cells, and what was reported of them.
    """

    ratio: float
    spread: float
    error: float
    noise: float
    units: int
    cells: int
    reported: int


@dataclass(frozen=True)
class Estimate:
    """How many cells there are, and between what that lies at the level asked for."""

    cells: int
    low: int
    high: int


def fit_counting(
    cells: NDArray[np.int64],
    reported: NDArray[np.int64],
    hits: NDArray[np.int64],
    slides: Sequence[str] = (),
) -> Counting:
    """The ratio, and how it varies.

    Args:
        cells: (N,) marked on each field.
        reported: (N,) what was reported of it.
        hits: (N,) those of the reported that are marked cells.
        slides: (N,) which slide each field is of; empty where nobody knows.

    Raises:
        ValueError: there are fewer than `FEW_UNITS` fields, or no cells.
    """
    if len(cells) < FEW_UNITS:
        raise ValueError(f"{len(cells)} fields say nothing about how counts vary")
    total, found = int(cells.sum()), int(reported.sum())
    if not total or not found:
        raise ValueError("no cell is marked, or none is reported")
    ratio = total / found
    deviations = cells - ratio * reported
    # What misses and false alarms make of each field by chance alone, one by one.
    chance = float(((cells - hits) + ratio**2 * (reported - hits)).sum())
    squares = float(np.square(reported).sum())
    excess = max(float(np.square(deviations).sum()) - chance, 0.0)
    variance = excess / squares / ratio**2
    between = variance * _shared(deviations, reported, slides, variance * ratio**2)
    within = (variance - between) * squares / found
    return Counting(
        ratio=ratio,
        spread=between,
        error=_error(deviations, slides) / total**2,
        noise=chance / found / ratio**2 + within,
        units=len(cells),
        cells=total,
        reported=found,
    )


def count_cells(counting: Counting, reported: int, level: float) -> Estimate:
    """How many cells there are on a slide that was not among the fields.

    Its ratio lies about the mean one as a log-normal number, which can't be negative.

    Args:
        counting: see `fit_counting`.
        reported: on the slide.
        level: of the interval.
    """
    from scipy.special import ndtri

    counted = max(reported, 1)  # of none reported there may still be as many as of one
    variance = counting.spread + counting.error + counting.noise / counted
    reach = math.exp(float(ndtri((1 + level) / 2)) * math.sqrt(math.log1p(variance)))
    return Estimate(
        cells=round(counting.ratio * reported),
        low=math.floor(counting.ratio * reported / reach),
        high=math.ceil(counting.ratio * counted * reach),
    )


def _shared(
    deviations: NDArray[np.float64],
    reported: NDArray[np.int64],
    slides: Sequence[str],
    variance: float,
) -> float:
    """Part of the variance between fields that those of one slide share, 0..1."""
    names = np.asarray(slides)
    common = weight = 0.0
    pairs = 0
    for name in dict.fromkeys(slides):
        members = np.flatnonzero(names == name)
        of, counts = deviations[members], reported[members].astype(np.float64)
        pairs += len(members) * (len(members) - 1) // 2
        common += (of.sum() ** 2 - np.square(of).sum()) / 2
        weight += (counts.sum() ** 2 - np.square(counts).sum()) / 2
    if pairs < FEW_PAIRS or variance <= 0 or weight <= 0:
        return 1.0
    return float(np.clip(common / weight / variance, 0, 1))


def _error(deviations: NDArray[np.float64], slides: Sequence[str]) -> float:
    """Variance of the sum of deviations, whose mean is 0, over slides, else fields, drawn anew."""
    _, of = np.unique(np.asarray(slides), return_inverse=True) if slides else (None, None)
    sums = deviations if of is None else np.bincount(of, weights=deviations)
    count = len(sums)
    return float(np.square(sums).sum()) * count / max(count - 1, 1)
