"""Curves over the threshold, counted by hand."""

import numpy as np
import pytest
from cellcases import random_fields

from data.evaluation import (
    Matches,
    ap_of_matches,
    average_precision,
    best_threshold,
    froc,
    matches,
    trace,
)


def test_the_threshold_with_the_best_f():
    matched = Matches(np.array([0.9, 0.2, 0.6, 0.4]), np.array([True, False, True, False]), 2)
    assert best_threshold(matched) == 0.6
    late = Matches(np.array([0.9, 0.5, 0.4, 0.3]), np.array([True, False, False, True]), 2)
    assert best_threshold(late, beta=1) == 0.9  # F1 2/3 at 0.9 and at 0.3: the first stays
    assert best_threshold(late, beta=2) == 0.3  # F2 0.83 against 0.56
    assert best_threshold(Matches(np.array([0.9]), np.array([False]), 3)) == 0.5
    assert best_threshold(Matches(np.zeros(0), np.zeros(0, bool), 0)) == 0.5


def test_froc_counted_by_hand():
    """Falling score: hit, miss, hit over two fields with four cells."""
    matched = Matches(np.array([0.9, 0.8, 0.7]), np.array([True, False, True]), 4)
    assert froc(matched, 2, (0.25, 0.5, 1)) == {0.25: 0.25, 0.5: 0.5, 1: 0.5}
    nothing = Matches(np.zeros(0), np.zeros(0, bool), 4)
    assert froc(nothing, 2, (1,)) == {1: 0}


@pytest.mark.parametrize("seed", range(5))
def test_ap_of_matches_is_pycocotools(seed):
    truth, found = random_fields(seed)
    expected = average_precision(truth, found, 1)["ap50"][0]
    assert ap_of_matches(matches(truth, found, 1, 0)) == pytest.approx(expected, abs=1e-9)


def test_equal_scores_come_together():
    """Three at 0.5 are one threshold: no score gives the hit without the two false alarms."""
    matched = Matches(np.array([0.5, 0.9, 0.5, 0.5]), np.array([True, True, False, False]), 4)
    curve = trace(matched)
    assert curve.thresholds.tolist() == [0.9, 0.5]
    assert curve.hits.tolist() == [1, 2]
    assert curve.false_alarms.tolist() == [0, 2]
    assert curve.sensitivity.tolist() == [0.25, 0.5]
    assert curve.precision.tolist() == [1, 0.5]
    assert froc(matched, 1, (1, 2)) == {1: 0.25, 2: 0.5}


def test_froc_by_area_counts_false_alarms_a_square_millimetre():
    """Half a mm²: one false alarm is two a mm²."""
    matched = Matches(np.array([0.9, 0.8, 0.7]), np.array([True, False, True]), 2)
    assert froc(matched, 0.5, (1, 2)) == {1: 0.5, 2: 1.0}


def test_a_curve_of_nothing_is_empty():
    curve = trace(Matches(np.zeros(0), np.zeros(0, bool), 0))
    assert len(curve.thresholds) == len(curve.sensitivity) == len(curve.precision) == 0
