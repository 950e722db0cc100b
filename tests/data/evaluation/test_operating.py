"""Thresholds for a wanted sensitivity or precision, counted by hand."""

import numpy as np
import pytest

from configs import ConfigError
from data.evaluation import Matches, threshold_for_precision, threshold_for_sensitivity

# By falling score: hit, miss, hit, miss, miss, hit; of five cells.
SCORES = np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4])
HITS = np.array([True, False, True, False, False, True])
MATCHED = Matches(SCORES, HITS, 5)


@pytest.mark.parametrize(("wanted", "threshold"), [(0.2, 0.9), (0.3, 0.7), (0.4, 0.7), (0.6, 0.4)])
def test_the_highest_threshold_that_finds_enough(wanted, threshold):
    assert threshold_for_sensitivity(MATCHED, wanted) == threshold


@pytest.mark.parametrize(
    # Precision from each score on: 1, 1/2, 2/3, 2/4, 2/5, 3/6.
    ("wanted", "threshold"),
    [(1.0, 0.9), (0.66, 0.7), (0.5, 0.4), (0.1, 0.4)],
)
def test_the_lowest_threshold_that_is_right_often_enough(wanted, threshold):
    assert threshold_for_precision(MATCHED, wanted) == threshold


def test_what_is_out_of_reach_is_told_with_the_best():
    with pytest.raises(ConfigError, match=r"sensitivity of 0.8 is out of reach; the best is 0.6"):
        threshold_for_sensitivity(MATCHED, 0.8)
    late = Matches(SCORES, np.array([False, True, True, False, False, False]), 5)
    with pytest.raises(ConfigError, match=r"precision of 0.9 .* the best is 0.6667, at 0.7"):
        threshold_for_precision(late, 0.9)
    nothing = Matches(np.zeros(0), np.zeros(0, bool), 5)
    with pytest.raises(ConfigError, match="the best is 0"):
        threshold_for_sensitivity(nothing, 0.8)
    with pytest.raises(ConfigError, match="the best is 0"):
        threshold_for_precision(nothing, 0.8)
    with pytest.raises(ConfigError, match="no such cell is annotated"):
        threshold_for_sensitivity(Matches(SCORES, ~HITS & False, 0), 0.5)


def test_thresholds_are_rounded_down_so_that_the_cell_is_kept():
    matched = Matches(np.array([0.33129, 0.33127]), np.array([True, False]), 1)
    assert threshold_for_sensitivity(matched, 1) == 0.3312
    assert matched.scores[0] >= 0.3312
    # The other lies above the rounded threshold too, and is counted with it.
    with pytest.raises(ConfigError, match=r"the best is 0\.5000"):
        threshold_for_precision(matched, 1)
