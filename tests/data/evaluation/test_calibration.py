"""Scores against shares of hits, counted by hand."""

import math

import numpy as np
import pytest

from data.evaluation import Matches, reliability


def test_counted_by_hand():
    """Two bins: scores 0.2 and 0.4, none right; 0.6 and 0.8, both right: (0.3 + 0.3) / 2."""
    matched = Matches(np.array([0.8, 0.2, 0.6, 0.4]), np.array([True, False, True, False]), 9)
    result = reliability(matched, bins=2)
    assert result.scores == pytest.approx([0.3, 0.7])
    assert result.hits.tolist() == [0, 1]
    assert result.counts.tolist() == [2, 2]
    assert result.error == pytest.approx(0.3)
    assert result.excess == pytest.approx(0)  # too high by 0.3 in one half, too low in the other


def test_bins_are_weighted_by_what_they_hold():
    """Three detections in two bins: 0.1 and 0.3, one right (gap 0.3); 0.9, right (gap 0.1)."""
    matched = Matches(np.array([0.1, 0.3, 0.9]), np.array([True, False, True]), 2)
    result = reliability(matched, bins=2)
    assert result.counts.tolist() == [2, 1]
    assert result.error == pytest.approx((2 * 0.3 + 1 * 0.1) / 3)
    assert result.excess == pytest.approx((2 * -0.3 + 1 * -0.1) / 3)


def test_low_scores_do_not_count():
    matched = Matches(np.array([0.9, 0.04]), np.array([True, False]), 1)
    assert reliability(matched).counts.tolist() == [1]
    assert reliability(matched, lowest=0.01).counts.tolist() == [1, 1]


def test_nothing_has_no_error():
    assert math.isnan(reliability(Matches(np.zeros(0), np.zeros(0, bool), 3)).error)


def test_scores_that_are_probabilities_have_nearly_no_error():
    rng = np.random.default_rng(0)
    scores = rng.uniform(0.05, 1, 20_000)
    hits = rng.random(20_000) < scores
    assert reliability(Matches(scores, hits, 20_000)).error < 0.02
    assert reliability(Matches(scores**0.5, hits, 20_000)).excess > 0.1
