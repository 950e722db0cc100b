"""Figures of slides against slow oracles and cases by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from data.evaluation.slide_metrics import (
    auc,
    auc_by_groups,
    auc_difference,
    auc_with_covariance,
    proportion,
    threshold_for,
)

scores = arrays(float, 14, elements=st.integers(0, 5).map(float))
outcomes = st.permutations([True] * 6 + [False] * 8).map(np.array)


def slow_auc(values, positive):
    pairs = [(a > b) + 0.5 * (a == b) for a in values[positive] for b in values[~positive]]
    return float(np.mean(pairs))


def slow_variance(values, positive):
    """DeLong's structural components, one by one."""
    cases, controls = values[positive], values[~positive]
    v10 = [np.mean((a > controls) + 0.5 * (a == controls)) for a in cases]
    v01 = [np.mean((cases > b) + 0.5 * (cases == b)) for b in controls]
    return np.var(v10, ddof=1) / len(cases) + np.var(v01, ddof=1) / len(controls)


@given(scores, outcomes)
def test_the_area_and_its_variance_are_those_of_all_pairs(values, positive):
    areas, covariance = auc_with_covariance(values[None], positive)
    assert areas[0] == pytest.approx(slow_auc(values, positive))
    assert covariance[0, 0] == pytest.approx(slow_variance(values, positive), abs=1e-12)


def test_an_area_by_hand():
    """Positives 3, 1; negatives 2, 0: of four pairs three are in order."""
    found = auc(np.array([3.0, 1, 2, 0]), np.array([True, True, False, False]))
    assert found.value == 0.75
    assert 0 < found.low < 0.75 < found.high < 1


def test_a_perfect_score_has_no_width():
    found = auc(np.array([2.0, 3, 0, 1]), np.array([True, True, False, False]))
    assert (found.value, found.low, found.high) == (1, 1, 1)


@given(scores, scores, outcomes)
def test_two_scores_are_compared_on_the_same_slides(ours, theirs, positive):
    difference, p_value = auc_difference(ours, theirs, positive)
    expected = slow_auc(ours, positive) - slow_auc(theirs, positive)
    assert difference.value == pytest.approx(expected, abs=1e-12)
    assert difference.low <= difference.value <= difference.high
    assert 0 <= p_value <= 1
    same, one = auc_difference(ours, ours, positive)
    assert (same.value, one) == (0, 1)


def test_patients_with_many_slides_widen_the_interval():
    rng = np.random.default_rng(0)
    patients = np.repeat(np.arange(12), 10)
    positive = patients % 2 == 0
    level = np.repeat(rng.normal(size=12), 10) + positive * 0.8
    values = level + rng.normal(size=120) * 0.1
    by_slide, by_patient = auc(values, positive), auc_by_groups(values, positive, patients)
    assert by_patient.value == pytest.approx(by_slide.value)
    assert by_patient.high - by_patient.low > 1.5 * (by_slide.high - by_slide.low)


@pytest.mark.parametrize(
    ("hits", "total", "low", "high"),
    [(8, 10, 0.4902, 0.9433), (0, 10, 0, 0.2775), (10, 10, 0.7225, 1)],
)
def test_wilsons_interval(hits, total, low, high):
    """Values of Newcombe, Statistics in Medicine 1998, and of his formula by hand."""
    found = proportion(hits, total)
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-4)


@given(scores, outcomes, st.floats(0.05, 1))
def test_the_threshold_is_the_highest_that_finds_enough(values, positive, wanted):
    threshold = threshold_for(values, positive, wanted)
    assert (values[positive] >= threshold).mean() >= wanted - 1e-9
    assert (values[positive] > threshold).mean() < wanted


def test_one_outcome_alone_has_no_area():
    with pytest.raises(ValueError, match="positive and negative"):
        auc(np.array([1.0, 2]), np.array([True, True]))
