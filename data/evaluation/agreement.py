"""How far readers agree beyond chance: Cohen's and Fleiss' kappa, with intervals.

Cohen's kappa (Educ. Psychol. Meas. 20, 1960) is 1 - D_o / D_e: the disagreement that is observed by
that which two readers with these shares of categories come to by chance. Unweighted, each
disagreement counts 1; linearly weighted (Cohen, Psychol. Bull. 70, 1968; Cicchetti and Allison,
1971) as many steps as lie between the categories. Fleiss' kappa (Psychol. Bull. 76, 1971) is the
same idea for several readers, who are not told apart. Where not all of them have judged each
subject, the pairs of those who have count, and the shares are those of all judgements.

Intervals are percentiles of a bootstrap (Efron and Tibshirani, 1993) of whole clusters: cells of
one slide are alike. Where all come from one cluster subjects are drawn, and `drawn` says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from data.evaluation.bootstrap import interval

Counts = NDArray[np.integer]
Floats = NDArray[np.float64]

ROUNDS = 2000


@dataclass(frozen=True)
class Kappa:
    """Agreement beyond chance.

    Attributes:
        value: 1 is full agreement, 0 that of chance; NaN where it is undefined.
        low: of the interval; NaN where there is none.
        high: of the interval.
        observed: share of pairs of judgements that are equal; weighted, 1 minus the mean
            disagreement by the widest there is.
        expected: the same by chance.
        subjects: that count: judged by two readers or more.
        clusters: that they come from.
        drawn: what the bootstrap draws.
        lost: rounds of the bootstrap in which kappa is undefined; they are left out.
        undefined: why there is no value; empty where there is.
    """

    value: float
    low: float
    high: float
    observed: float
    expected: float
    subjects: int
    clusters: int
    drawn: Literal["clusters", "subjects"]
    lost: int = 0
    undefined: str = ""


def cohen_kappa(
    first: Sequence[int] | Counts,
    second: Sequence[int] | Counts,
    clusters: Sequence[str],
    positions: Sequence[float],
    *,
    weighted: bool = False,
    level: float = 0.95,
    rounds: int = ROUNDS,
    seed: int = 0,
) -> Kappa:
    """Agreement of two readers.

    Args:
        first: (N,) the category of each subject by one reader, from 0.
        second: (N,) by the other.
        clusters: (N,) what each subject belongs to, such as its slide.
        positions: of each category on a scale; NaN for one that has none: weighted, subjects with
            it are left out.
        weighted: count a disagreement by the distance of positions.
        level: of the interval.
        rounds: of the bootstrap.
        seed: of its draws.
    """
    one, two = np.asarray(first, np.int64), np.asarray(second, np.int64)
    scale = np.asarray(positions, np.float64)
    size = len(scale)
    names = np.asarray(clusters, dtype=object)
    if weighted:
        placed = ~np.isnan(scale[one] + scale[two])
        one, two, names = one[placed], two[placed], names[placed]
        scale = np.nan_to_num(scale)
        weights = np.abs(scale[:, None] - scale[None])
    else:
        weights = 1.0 - np.eye(size)
    where, count = _numbered(names)
    tables = np.zeros((count, size, size))
    np.add.at(tables, (where, one, two), 1)
    whole = tables.sum(axis=0)
    observed, expected = _disagreements(whole, weights)
    drawn, parts = _parts(tables.reshape(count, size * size), one * size + two)
    times = _draw(parts, drawn, rounds, seed)
    values = _kappa(*_disagreements(times.reshape(rounds, size, size), weights))
    widest = weights.max(initial=0.0) or 1.0
    return _told(
        _kappa(observed, expected),
        values,
        1 - observed / widest,
        1 - expected / widest,
        len(one),
        count,
        drawn,
        level,
        "both readers put all into one category",
    )


def fleiss_kappa(
    counts: Sequence[Sequence[int]] | Counts,
    clusters: Sequence[str],
    *,
    level: float = 0.95,
    rounds: int = ROUNDS,
    seed: int = 0,
) -> Kappa:
    """Agreement of several readers.

    Args:
        counts: (N, K) how many readers put each subject into each category; subjects that fewer
            than two have judged are left out.
        clusters: (N,) what each subject belongs to.
        level: of the interval.
        rounds: of the bootstrap.
        seed: of its draws.
    """
    table = np.asarray(counts, np.int64)
    table = table if table.ndim == 2 else table.reshape(len(table), 0)
    judged = table.sum(axis=1) > 1
    table, names = table[judged], np.asarray(clusters, dtype=object)[judged]
    raters = table.sum(axis=1)
    agreeing = (table * (table - 1)).sum(axis=1) / (raters * (raters - 1))
    # Of each subject: its share of agreeing pairs, itself, and its judgements by category.
    sums = np.column_stack([agreeing, np.ones(len(table)), table])
    where, count = _numbered(names)
    by_cluster = np.zeros((count, sums.shape[1]))
    np.add.at(by_cluster, where, sums)
    observed, expected = _fleiss_shares(by_cluster.sum(axis=0))
    drawn: Literal["clusters", "subjects"] = "clusters" if count > 1 else "subjects"
    if drawn == "clusters":
        redrawn = _times(np.ones(count), count, rounds, seed) @ by_cluster
    else:
        kinds, often = np.unique(sums, axis=0, return_counts=True)
        redrawn = _times(often, len(table), rounds, seed) @ kinds
    values = _kappa(*(1 - share for share in _fleiss_shares(redrawn)))
    return _told(
        _kappa(1 - observed, 1 - expected),
        values,
        observed,
        expected,
        len(table),
        count,
        drawn,
        level,
        "all readers put all into one category",
    )


def _disagreements(tables: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """Mean disagreement, observed and by chance, of (..., K, K) tables; NaN of empty ones."""
    total = tables.sum(axis=(-2, -1))
    rows, columns = tables.sum(axis=-1), tables.sum(axis=-2)
    observed = _by((tables * weights).sum(axis=(-2, -1)), total)
    expected = _by(np.einsum("...i,ij,...j->...", rows, weights, columns), total * total)
    return observed, expected


def _fleiss_shares(sums: Floats) -> tuple[Floats, Floats]:
    """Shares of agreeing pairs, observed and by chance, of (..., 2 + K) sums over subjects."""
    judgements = sums[..., 2:]
    shares = _by(judgements, judgements.sum(axis=-1, keepdims=True))
    return _by(sums[..., 0], sums[..., 1]), (shares**2).sum(axis=-1)


def _kappa(observed: Floats, expected: Floats) -> Floats:
    """1 - observed by expected disagreement; NaN where chance alone can't disagree."""
    # Shares are sums of fractions: what is 0 by the formula may be 1e-17.
    return 1 - _by(observed, np.where(expected < 1e-12, 0.0, expected))


def _by(part: Floats, whole: Floats) -> Floats:
    part, whole = np.broadcast_arrays(np.asarray(part, np.float64), np.asarray(whole, np.float64))
    return np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)


def _numbered(names: NDArray[np.object_]) -> tuple[NDArray[np.int64], int]:
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    return np.array([numbers[name] for name in names], np.int64), len(numbers)


def _parts(by_cluster: Floats, cells: Counts) -> tuple[Literal["clusters", "subjects"], Floats]:
    """What is drawn: tables of clusters; of one cluster how often each entry of the table comes."""
    if len(by_cluster) > 1:
        return "clusters", by_cluster
    return "subjects", np.bincount(cells, minlength=by_cluster.shape[1]).astype(np.float64)


def _draw(parts: Floats, drawn: Literal["clusters", "subjects"], rounds: int, seed: int) -> Floats:
    if drawn == "clusters":
        return _times(np.ones(len(parts)), len(parts), rounds, seed) @ parts
    return _times(parts, int(parts.sum()), rounds, seed)


def _times(often: Floats | Counts, number: int, rounds: int, seed: int) -> Floats:
    """(rounds, K) how often each of K kinds is drawn when all are drawn anew."""
    if not number:
        return np.zeros((rounds, len(often)))
    rng = np.random.default_rng(seed)
    shares = np.asarray(often, np.float64)
    return rng.multinomial(number, shares / shares.sum(), size=rounds).astype(np.float64)


def _told(
    value: Floats,
    values: Floats,
    observed: Floats,
    expected: Floats,
    subjects: int,
    clusters: int,
    drawn: Literal["clusters", "subjects"],
    level: float,
    one_category: str,
) -> Kappa:
    """The figure with its interval: none where the figure is undefined or nothing can vary."""
    undefined = ""
    if not subjects:
        undefined = "nothing was judged by two readers"
    elif np.isnan(value):
        undefined = one_category
    low = high = float("nan")
    if not undefined and subjects > 1:
        low, high = interval(values, level)
    return Kappa(
        float(value),
        low,
        high,
        float(observed),
        float(expected),
        subjects,
        clusters,
        drawn,
        0 if undefined else int(np.isnan(values).sum()),
        undefined,
    )
