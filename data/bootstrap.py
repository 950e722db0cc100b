"""How far figures would move with other fields: average precision with whole fields redrawn.

Cells of one field are alike: drawing cells alone would make every interval too narrow.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from data.evaluation import Matches

RECALLS = np.linspace(0, 1, 101)
"""Where COCO reads the precision."""


def draw_fields(fields: int, rounds: int = 1000, seed: int = 0) -> NDArray[np.int64]:
    """(rounds, fields): how often each field is drawn, with replacement, in each round.

    Two models that are judged by the same draws are compared pairwise: the difference of their
    figures has the interval, not each of them.
    """
    rng = np.random.default_rng(seed)
    return rng.multinomial(fields, np.full(fields, 1 / fields), size=rounds)


def resampled_ap(by_field: Sequence[Matches], times: NDArray[np.integer]) -> NDArray[np.float64]:
    """AP as COCO computes it (see `data.evaluation.ap_of_matches`) in each round.

    Args:
        by_field: the matches of one class or group, an entry a field.
        times: (rounds, fields), see `draw_fields`.

    Returns:
        (rounds,); NaN for a round that drew no cell.
    """
    scores = np.concatenate([np.zeros(0), *(part.scores for part in by_field)])
    hits = np.concatenate([np.zeros(0, bool), *(part.hits for part in by_field)])
    field = np.repeat(np.arange(len(by_field)), [len(part.scores) for part in by_field])
    order = np.argsort(-scores, kind="mergesort")
    hits, weight = hits[order], times[:, field[order]]
    cells = times @ np.array([part.cells for part in by_field])
    true_positives = np.cumsum(weight * hits, axis=1)
    precision = true_positives / np.maximum(np.cumsum(weight, axis=1), 1)
    precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    precision = np.pad(precision, ((0, 0), (0, 1)))  # beyond the last detection
    rows = zip(true_positives, precision, cells, strict=True)
    return np.array([_mean_precision(*row) for row in rows])


def interval(values: NDArray[np.float64], level: float = 0.9) -> tuple[float, float]:
    """The percentile interval of a figure's values over the rounds; NaNs left out."""
    low, high = np.nanquantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def bootstrap_ap(
    by_field: Sequence[Matches], level: float = 0.9, rounds: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """The interval of AP when whole fields are drawn anew."""
    return interval(resampled_ap(by_field, draw_fields(len(by_field), rounds, seed)), level)


def _mean_precision(
    true_positives: NDArray[np.integer], precision: NDArray[np.float64], cells: int
) -> float:
    if not cells:
        return float("nan")
    at = np.searchsorted(true_positives / cells, RECALLS, side="left")
    return float(precision[at].mean())
