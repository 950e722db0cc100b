"""Distances of groups of cells: what is estimated, and how many of its own kind lie beyond."""

import numpy as np
import pytest

from data.evaluation.domain import Spread, fit_spread, left_out_distances, limit_for

BETWEEN = np.array([[1.0, 0.6], [0.6, 1.0]])
WITHIN = np.diag([4.0, 1.0])


def groups(count, seed=0, cells=16):
    rng = np.random.default_rng(seed)
    means = rng.multivariate_normal([5, -3], BETWEEN, count)
    return [rng.multivariate_normal(mean, WITHIN, cells) for mean in means]


def test_both_covariances_are_found_again():
    spread = fit_spread(groups(2000))
    assert spread.mean == pytest.approx([5, -3], abs=0.1)
    assert spread.within == pytest.approx(WITHIN, abs=0.1)
    assert spread.between == pytest.approx(BETWEEN, abs=0.1)


def test_a_distance_by_hand():
    """Four cells a mean of 2 off: 2² / (1 + 4/4) = 2, and 2 / sqrt(2) standard deviations."""
    spread = Spread(np.zeros(1), np.ones((1, 1)), np.full((1, 1), 4.0))
    cells = np.array([[1.0], [2.0], [2.0], [3.0]])
    assert spread.distance(cells) == pytest.approx(2**0.5)
    assert spread.deviations(cells) == pytest.approx([2**0.5])


def test_few_cells_are_no_farther_than_many():
    spread = fit_spread(groups(300))
    few = [spread.distance(cells) for cells in groups(300, seed=1, cells=5)]
    many = [spread.distance(cells) for cells in groups(300, seed=2, cells=50)]
    assert np.quantile(few, 0.9) == pytest.approx(np.quantile(many, 0.9), rel=0.15)


def test_of_new_groups_no_more_lie_beyond_the_limit_than_was_wanted():
    known = groups(200)
    distances = left_out_distances(known, [str(index) for index in range(200)])
    limit, share = limit_for(distances, 0.05)
    assert share <= 0.05
    spread = fit_spread(known)
    new = [spread.distance(cells) for cells in groups(2000, seed=3)]
    assert np.mean(np.array(new) > limit) == pytest.approx(0.05, abs=0.03)


def test_the_limit_is_an_order_statistic_by_hand():
    distances = np.arange(1.0, 100.0)[::-1]
    assert limit_for(distances, 0.05) == (95.0, pytest.approx(0.05))
    assert limit_for(distances[:9], 0.01) == (99.0, pytest.approx(0.1))


def test_what_belongs_together_is_never_torn_apart():
    """Twins of one slide would stand for each other; left out together they are far."""
    known = groups(100)
    odd = [np.full((16, 2), 100.0) + cells for cells in groups(2, seed=5)]
    torn = left_out_distances([*known, *odd], [str(index) for index in range(102)])
    whole = left_out_distances([*known, *odd], [*map(str, range(100)), "twins", "twins"])
    assert whole[-2:].min() > 3 * torn[-2:].max()


def test_too_few_groups_say_nothing():
    with pytest.raises(ValueError, match="19 groups with cells say nothing"):
        fit_spread([*groups(19), np.zeros((0, 2))])


def test_figures_that_never_vary_divide_by_nothing():
    spread = fit_spread([np.column_stack([cells, np.ones(16)]) for cells in groups(30)])
    assert np.isfinite(spread.distance(np.ones((16, 3))))
