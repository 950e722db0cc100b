"""How far figures would move with other fields: computed again with whole fields redrawn.

Cells of one field are alike, fields of one slide too, and slides of one patient: drawing cells
alone would make every interval too narrow. Percentile intervals (Efron and Tibshirani, 1993).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from data.evaluation import Matches

RECALLS = np.linspace(0, 1, 101)
"""Where COCO reads the precision."""

CHUNK = 4_000_000
"""Rounds times hits that are held in memory at once."""


def draw_fields(fields: int, rounds: int = 1000, seed: int = 0) -> NDArray[np.int64]:
    """(rounds, fields): how often each field is drawn, with replacement, in each round.

    Two models that are judged by the same draws are compared pairwise: the difference of their
    figures has the interval, not each of them.
    """
    rng = np.random.default_rng(seed)
    return rng.multinomial(fields, np.full(fields, 1 / fields), size=rounds)


def draw_groups(groups: Sequence[str], rounds: int = 1000, seed: int = 0) -> NDArray[np.int64]:
    """`draw_fields` of whole groups: fields of one slide, or of one patient, come together.

    Args:
        groups: for each field the name of what it belongs to.
        rounds: how often all groups are drawn.
        seed: of the draws.
    """
    rank = {name: i for i, name in enumerate(dict.fromkeys(groups))}
    return draw_fields(len(rank), rounds, seed)[:, [rank[name] for name in groups]]


def resampled_ap(by_field: Sequence[Matches], times: NDArray[np.integer]) -> NDArray[np.float64]:
    """AP as COCO computes it (see `data.evaluation.ap_of_matches`) in each round.

    Args:
        by_field: the matches of one class or group, an entry a field.
        times: (rounds, fields), see `draw_fields`.

    Returns:
        (rounds,); NaN for a round that drew no cell.
    """
    rounds = _rounds(by_field, times, lambda _, hits: hits)
    return np.concatenate([_average_precision(part) for part in rounds])


def resampled_froc(
    by_field: Sequence[Matches],
    times: NDArray[np.integer],
    sizes: NDArray[np.floating],
    rates: Sequence[float],
) -> NDArray[np.float64]:
    """Sensitivity at so many false positives a field or mm² (`data.evaluation.froc`) in each round.

    Args:
        by_field: the matches of one class or group, an entry a field.
        times: (rounds, fields), see `draw_fields`.
        sizes: (fields,) ones for rates a field; mm² for rates a mm².
        rates: where it is read.

    Returns:
        (rounds, rates); NaN for a round that drew no cell.
    """
    allowed = (times @ sizes)[:, None] * np.array(rates)
    parts, start = [], 0
    for part in _rounds(by_field, times, _thresholds):
        parts.append(_sensitivity(part, allowed[start : start + len(part.cells)]))
        start += len(part.cells)
    return np.concatenate(parts)


def resampled_rates(
    by_field: Sequence[Matches], times: NDArray[np.integer], threshold: float = 0.0
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sensitivity and precision of detections from a threshold on, in each round.

    Returns:
        Two of (rounds,); NaN for rounds without a cell, or without a detection.
    """
    counts = np.array([_count(part, threshold) for part in by_field], np.int64)
    hits, found, cells = counts.T
    return ratio(times @ hits, times @ cells), ratio(times @ hits, times @ found)


def _count(matched: Matches, threshold: float) -> tuple[int, int, int]:
    """Hits and detections from a threshold on, and cells."""
    counted = matched.scores >= threshold
    return int(matched.hits[counted].sum()), int(counted.sum()), matched.cells


def ratio(part: NDArray[np.integer], whole: NDArray[np.integer]) -> NDArray[np.float64]:
    """Part by whole; NaN where the whole is 0."""
    return np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=whole > 0)


def mean_of_classes(
    values: Sequence[NDArray[np.float64]], judged: Sequence[bool], rounds: int
) -> NDArray[np.float64]:
    """(rounds,) mean of the figures of the classes that are judged; NaN without one.

    A round that drew no cell of one of them has no mean. That of the others would be another
    figure, far higher where what was left out is the rarest class, of the lowest precision: the
    interval would be as wide as these two figures are apart.

    Args:
        values: (rounds,) of each class, NaN where a round drew none of its cells.
        judged: which classes have cells at all.
        rounds: their number.
    """
    counted = [one for one, has_cells in zip(values, judged, strict=True) if has_cells]
    return np.mean(counted, axis=0) if counted else np.full(rounds, np.nan)


def interval(values: NDArray[np.float64], level: float = 0.95) -> tuple[float, float]:
    """The percentile interval of a figure's values over the rounds; NaNs left out.

    NaN where no round has a value.
    """
    present = values[~np.isnan(values)]
    if not len(present):
        return float("nan"), float("nan")
    low, high = np.quantile(present, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def bootstrap_ap(
    by_field: Sequence[Matches], level: float = 0.95, rounds: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """The interval of AP when whole fields are drawn anew."""
    return interval(resampled_ap(by_field, draw_fields(len(by_field), rounds, seed)), level)


class _Rounds(NamedTuple):
    """Some of the rounds, at some of the detections by falling score.

    ``hits`` and ``alarms`` (R, M) were drawn down to each of them, ``cells`` (R,) in all.
    """

    hits: NDArray[np.integer]
    alarms: NDArray[np.integer]
    cells: NDArray[np.integer]


def _rounds(
    by_field: Sequence[Matches],
    times: NDArray[np.integer],
    marks: Callable[[NDArray[np.float64], NDArray[np.bool_]], NDArray[np.bool_]],
) -> Iterator[_Rounds]:
    """All rounds, as many at once as memory is well spent on.

    Most detections are false alarms, and of these each figure asks only how many there were before
    a hit: so they are counted by field between marks, and never laid out round by round.

    Args:
        by_field: the matches of one class or group, an entry a field.
        times: (rounds, fields).
        marks: gives of (D,) falling scores, and which are hits, the (D,) detections that matter.
    """
    scores = np.concatenate([np.zeros(0), *(part.scores for part in by_field)])
    hits = np.concatenate([np.zeros(0, bool), *(part.hits for part in by_field)]).astype(bool)
    field = np.repeat(np.arange(len(by_field)), [len(part.scores) for part in by_field])
    order = np.argsort(-scores, kind="mergesort")
    hits, field = hits[order], field[order]
    marked = np.flatnonzero(marks(scores[order], hits))
    before = np.searchsorted(marked, np.arange(len(hits)))  # the first mark that counts each
    cells = times @ np.array([part.cells for part in by_field])

    def count(which: NDArray[np.bool_]) -> csr_array:
        """(M, F) of these detections, those from the mark before on."""
        rows = before[which], field[which]
        shape = len(marked) + 1, len(by_field)  # one more for what is after the last mark
        return csr_array((np.ones(len(rows[0]), np.int64), rows), shape)[:-1]

    of_hits, of_alarms = count(hits), count(~hits)
    step = max(1, CHUNK // max(len(marked), 1))
    for start in range(0, len(times), step):
        part = slice(start, start + step)
        drawn = times[part].T
        found, false = (np.cumsum((of @ drawn).T, axis=1) for of in (of_hits, of_alarms))
        yield _Rounds(found, false, cells[part])


def _thresholds(scores: NDArray[np.float64], hits: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The last of each run of equal scores that has a hit: at others nothing more is found."""
    last = np.diff(scores, append=-np.inf) != 0
    run = np.cumsum(last) - last
    last[last] = np.bincount(run, weights=hits) > 0
    return last


def _average_precision(rounds: _Rounds) -> NDArray[np.float64]:
    precision = rounds.hits / np.maximum(rounds.hits + rounds.alarms, 1)
    precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    precision = np.pad(precision, ((0, 0), (0, 1)))  # beyond the last hit
    rows = zip(rounds.hits, precision, rounds.cells, strict=True)
    return np.array([_mean_precision(*row) for row in rows])


def _mean_precision(hits: NDArray[np.integer], precision: NDArray[np.float64], cells: int) -> float:
    if not cells:
        return float("nan")
    at = np.searchsorted(hits / cells, RECALLS, side="left")
    return float(precision[at].mean())


def _sensitivity(rounds: _Rounds, allowed: NDArray[np.float64]) -> NDArray[np.float64]:
    """(R, rates) best sensitivity with at most so many (R, rates) false positives."""
    none = np.zeros((len(rounds.hits), 1), np.int64)
    at = np.array(
        [np.searchsorted(*row, side="right") for row in zip(rounds.alarms, allowed, strict=True)]
    )
    hits = np.take_along_axis(np.concatenate([none, rounds.hits], axis=1), at, axis=1)
    return ratio(hits, np.broadcast_to(rounds.cells[:, None], hits.shape))
