"""Temperatures: what is too sure by a factor is cooled by it."""

import numpy as np
import pytest
from scipy.special import softmax

from data.evaluation import confidence, fit_temperature, negative_log_likelihood


def drawn(factor, count=20_000, seed=0):
    """Logits that are too large by a factor, and labels drawn by what they should say."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 1.5, (count, 3))
    chances = softmax(logits, axis=1)
    labels = (chances.cumsum(axis=1) < rng.random((count, 1))).sum(axis=1)
    return factor * logits, labels


@pytest.mark.parametrize("factor", [0.5, 1.0, 3.0])
def test_the_factor_is_found(factor):
    assert fit_temperature(*drawn(factor)) == pytest.approx(factor, rel=0.05)


def test_after_it_eight_in_ten_means_eight_in_ten():
    logits, labels = drawn(3.0)
    temperature = fit_temperature(logits, labels)
    before, after = (confidence(logits, labels, value) for value in (1.0, temperature))
    assert before.error > 0.1
    assert before.excess > 0.1
    assert after.error < 0.02


def test_likelihood_by_hand():
    logits = np.log([[0.5, 0.25, 0.25]])
    assert negative_log_likelihood(logits, np.array([0]), 1.0) == pytest.approx(np.log(2))
    assert negative_log_likelihood(2 * logits, np.array([1]), 2.0) == pytest.approx(np.log(4))


def test_nothing_tells_nothing():
    nothing = np.zeros((0, 3)), np.zeros(0, int)
    assert fit_temperature(*nothing) == 1.0
    assert np.isnan(negative_log_likelihood(*nothing, 1.0))
