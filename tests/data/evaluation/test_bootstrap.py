"""Intervals by drawing fields anew, against a slow computation that really draws them."""

import numpy as np
import pytest

from data.evaluation import Matches, ap_of_matches, bootstrap, froc, join
from data.evaluation.bootstrap import (
    bootstrap_ap,
    draw_fields,
    draw_groups,
    interval,
    mean_of_classes,
    resampled_ap,
    resampled_froc,
    resampled_rates,
)


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


def test_groups_are_drawn_whole():
    """Slides a and b with two fields each, and c with one: fields of a slide come together."""
    times = draw_groups(["a", "b", "a", "c", "b"], rounds=50)
    assert (times[:, 0] == times[:, 2]).all()
    assert (times[:, 1] == times[:, 4]).all()
    assert (times[:, [0, 1, 3]].sum(axis=1) == 3).all()
    names = [f"field {i}" for i in range(7)]
    assert (draw_groups(names, rounds=50) == draw_fields(7, rounds=50)).all()


def drawn(parts, row):
    return join([part for part, n in zip(parts, row, strict=True) for _ in range(n)])


@pytest.mark.parametrize("seed", range(10))
def test_froc_of_a_round_is_the_one_of_the_fields_it_drew(seed):
    """Ties and all: both read it at thresholds only."""
    parts = random_matches(seed)
    times = draw_fields(len(parts), rounds=15, seed=seed)
    sizes = np.random.default_rng(seed).uniform(0.05, 0.2, len(parts))
    rates = (0.5, 2, 8)
    slow = [list(froc(drawn(parts, row), row @ sizes, rates).values()) for row in times]
    np.testing.assert_allclose(resampled_froc(parts, times, sizes, rates), slow, atol=1e-12)


def test_sensitivity_and_precision_in_each_round_counted_by_hand():
    """From 0.5 on: a field with one hit of two detections and two cells, one with none of three."""
    parts = [
        Matches(np.array([0.9, 0.6, 0.4]), np.array([True, False, True]), 2),
        Matches(np.array([0.3]), np.array([True]), 3),
        Matches(np.zeros(0), np.zeros(0, bool), 0),
    ]
    times = np.array([[1, 1, 1], [2, 0, 1], [0, 3, 0], [0, 0, 3]])
    sensitivity, precision = resampled_rates(parts, times, 0.5)
    np.testing.assert_allclose(sensitivity, [1 / 5, 2 / 4, 0, np.nan])
    np.testing.assert_allclose(precision, [1 / 2, 2 / 4, np.nan, np.nan])


def test_rounds_are_computed_in_parts_with_the_same_result(monkeypatch):
    parts = random_matches(4)
    times = draw_fields(len(parts), rounds=40)
    whole = resampled_ap(parts, times), resampled_froc(parts, times, np.ones(12), (1, 2))
    monkeypatch.setattr(bootstrap, "CHUNK", 100)
    again = resampled_ap(parts, times), resampled_froc(parts, times, np.ones(12), (1, 2))
    for one, other in zip(whole, again, strict=True):
        np.testing.assert_array_equal(one, other)


def test_without_any_value_there_is_no_interval():
    assert np.isnan(interval(np.full(5, np.nan))).all()
    assert interval(np.arange(101) / 100, 0.9) == pytest.approx((0.05, 0.95))


def test_the_mean_of_classes_is_of_all_that_are_judged_or_none():
    first, second = np.array([0.9, 0.7, 0.8]), np.array([0.1, np.nan, 0.2])
    never = np.full(3, np.nan)
    found = mean_of_classes([first, second, never], [True, True, False], 3)
    np.testing.assert_allclose(found, [0.5, np.nan, 0.5])
    assert np.isnan(mean_of_classes([never], [False], 3)).tolist() == [True] * 3
