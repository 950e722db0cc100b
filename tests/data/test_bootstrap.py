"""Intervals by drawing fields anew, against a slow computation that really draws them."""

import numpy as np
import pytest

from data.bootstrap import bootstrap_ap, draw_fields, interval, resampled_ap
from data.evaluation import Matches, ap_of_matches, join


def random_matches(seed, fields=12):
    rng = np.random.default_rng(seed)
    parts = []
    for _ in range(fields):
        count = rng.integers(0, 8)
        # Scores with ties, as thresholds and half precision make them.
        scores = rng.choice([0.1, 0.3, 0.5, 0.7, 0.9], count)
        hits = rng.random(count) < 0.6
        parts.append(Matches(np.sort(scores)[::-1], hits, int(hits.sum() + rng.integers(0, 3))))
    return parts


@pytest.mark.parametrize("seed", range(20))
def test_a_round_is_the_ap_of_the_fields_it_drew(seed):
    parts = random_matches(seed)
    parts = [Matches(p.scores + 1e-6 * np.arange(len(p.scores)), p.hits, p.cells) for p in parts]
    parts = [Matches(p.scores + 1e-4 * i, p.hits, p.cells) for i, p in enumerate(parts)]
    times = draw_fields(len(parts), rounds=15, seed=seed)
    slow = [
        ap_of_matches(join([part for part, n in zip(parts, row, strict=True) for _ in range(n)]))
        for row in times
    ]
    np.testing.assert_allclose(resampled_ap(parts, times), slow, atol=1e-12)


def test_once_each_is_the_ap_itself():
    parts = random_matches(3)
    once = np.ones((1, len(parts)), int)
    assert resampled_ap(parts, once)[0] == pytest.approx(ap_of_matches(join(parts)))


def test_a_round_without_cells_has_no_value_and_is_left_out():
    parts = [Matches(np.array([0.9]), np.array([True]), 1), Matches(np.zeros(0), np.zeros(0), 0)]
    values = resampled_ap(parts, np.array([[1, 1], [0, 2]]))
    assert values[0] == 1
    assert np.isnan(values[1])
    assert interval(values) == (1, 1)


def test_no_detections_have_ap_zero():
    assert resampled_ap([Matches(np.zeros(0), np.zeros(0, bool), 3)], np.array([[1]])) == [0]


def test_every_round_draws_as_many_fields_as_there_are():
    times = draw_fields(7, rounds=50)
    assert times.shape == (50, 7)
    assert (times.sum(axis=1) == 7).all()
    assert (draw_fields(7, rounds=50) == times).all()


def test_the_interval_holds_the_value_and_closes_where_fields_are_alike():
    parts = random_matches(1, fields=20)
    low, high = bootstrap_ap(parts, rounds=200)
    assert low < ap_of_matches(join(parts)) < high
    one = max(parts, key=lambda part: len(part.scores))
    low, high = bootstrap_ap([one] * 8, rounds=20)
    assert high - low < 0.05
