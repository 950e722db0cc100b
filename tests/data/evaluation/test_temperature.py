"""Calibrations: what is too sure by a factor is cooled by it, what comes too often made rarer."""

import numpy as np
import pytest
from scipy.special import softmax

from data.evaluation import Calibration, fit_calibration, no_calibration


def drawn(factor=1.0, bias=(0.0, 0.0, 0.0), count=20_000, seed=0):
    """Logits as a classifier has them, and labels drawn by what it should say of them."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 1.5, (count, 3))
    chances = softmax(logits + np.array(bias), axis=1)
    labels = (chances.cumsum(axis=1) < rng.random((count, 1))).sum(axis=1)
    return factor * logits, labels


@pytest.mark.parametrize("factor", [0.5, 1.0, 3.0])
def test_the_factor_is_found(factor):
    found = fit_calibration(*drawn(factor))
    assert found.temperature == pytest.approx(factor, rel=0.05)
    np.testing.assert_allclose(found.bias, 0, atol=0.08)


def test_so_is_how_much_too_often_a_class_was_seen():
    found = fit_calibration(*drawn(2.0, (-1.5, 1.0, 0.0)))
    assert found.temperature == pytest.approx(2.0, rel=0.05)
    np.testing.assert_allclose(found.bias, [-1.5, 1.0, 0.0], atol=0.1)


def test_after_it_eight_in_ten_means_eight_in_ten():
    logits, labels = drawn(3.0, (-2.0, 0.0, 0.0))
    before, after = (
        one.confidence(logits, labels)
        for one in (no_calibration(3), fit_calibration(logits, labels))
    )
    assert before.error > 0.1
    assert before.excess > 0.1
    assert after.error < 0.02


def test_a_class_that_was_never_seen_is_not_ruled_out():
    logits, labels = drawn()
    found = fit_calibration(logits[labels != 0], labels[labels != 0])
    assert -20 < found.bias[0] < -1


def test_likelihood_and_probabilities_by_hand():
    logits = np.log([[0.5, 0.25, 0.25]])
    assert no_calibration(3).likelihood(logits, np.array([0])) == pytest.approx(np.log(2))
    cooled = Calibration(2.0, np.zeros(3))
    assert cooled.likelihood(2 * logits, np.array([1])) == pytest.approx(np.log(4))
    biased = Calibration(1.0, np.array([-np.log(2), 0, 0]))
    np.testing.assert_allclose(biased.probabilities(logits), [[1 / 3, 1 / 3, 1 / 3]])
    np.testing.assert_allclose(no_calibration(2).probabilities(np.array([[1000.0, 0]])), [[1, 0]])


def test_nothing_tells_nothing():
    nothing = np.zeros((0, 3)), np.zeros(0, int)
    found = fit_calibration(*nothing)
    assert (found.temperature, found.bias.tolist()) == (1.0, [0, 0, 0])
    assert np.isnan(found.likelihood(*nothing))
    assert np.isnan(found.confidence(*nothing).error)
    assert found.probabilities(nothing[0]).shape == (0, 3)
