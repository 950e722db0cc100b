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
    effective_number,
    exact_proportion,
    proportion,
    proportion_by_groups,
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


def test_an_interval_of_a_perfect_score_goes_by_how_many_slides_there_are():
    """Ten pairs in order are what an area of 0.69 shows once in forty times."""
    positive = np.arange(30) < 10
    for scores, area in ((positive.astype(float), 1), (-positive.astype(float), 0)):
        found = auc(scores, positive)
        assert found.value == area
        reach = max(found.value - found.low, found.high - found.value)
        assert (1 - reach) ** 10 == pytest.approx(0.025)


def test_an_interval_of_a_perfect_score_goes_by_patients():
    positive = np.arange(60) < 30
    scores = positive.astype(float)
    few = auc_by_groups(scores, positive, np.arange(60) // 10)
    assert few.low == pytest.approx(0.025 ** (1 / 3))
    both = auc_by_groups(scores, positive, np.arange(60) % 4)  # each has cases and controls
    assert both.low == pytest.approx(0.025 ** (1 / 2))
    assert few.high == both.high == 1


def test_intervals_of_a_perfect_score_hold_what_others_show():
    """Of an area of 0.8 few samples are perfect; those that are don't deny it too often."""
    rng = np.random.default_rng(0)
    positive = np.arange(8) < 4
    found = [auc(rng.normal(size=8) + 1.19 * positive, positive) for _ in range(400)]
    assert np.mean([one.low <= 0.8 <= one.high for one in found]) >= 0.95


@given(scores, scores, outcomes)
def test_two_scores_are_compared_on_the_same_slides(ours, theirs, positive):
    difference, p_value = auc_difference(ours, theirs, positive)
    expected = slow_auc(ours, positive) - slow_auc(theirs, positive)
    assert difference.value == pytest.approx(expected, abs=1e-12)
    assert difference.low <= difference.value <= difference.high
    assert 0 <= p_value <= 1
    same, one = auc_difference(ours, ours, positive)
    assert (same.value, one) == (0, 1)


PERFECT, CONSTANT = np.array([1.0, 1, 1, 0, 0, 0]), np.zeros(6)
LOW_OF_THREE = 0.025 ** (1 / 3)  # three pairs in order


@pytest.mark.parametrize(
    ("ours", "theirs", "value", "low", "high", "p"),
    [
        (PERFECT, CONSTANT, 0.5, LOW_OF_THREE - 0.5, 0.5, 0.25),
        (CONSTANT, PERFECT, -0.5, -0.5, 0.5 - LOW_OF_THREE, 0.25),
        (PERFECT, 1 - PERFECT, 1, 2 * LOW_OF_THREE - 1, 1, 0.25),
        (PERFECT, 2 * PERFECT, 0, LOW_OF_THREE - 1, 1 - LOW_OF_THREE, 1),
        (CONSTANT, CONSTANT, 0, 0, 0, 1),
    ],
)
def test_a_difference_of_perfect_areas_goes_by_how_many_slides_there_are(
    ours, theirs, value, low, high, p
):
    found, p_value = auc_difference(ours, theirs, PERFECT > 0)
    assert (found.value, found.low, found.high) == pytest.approx((value, low, high))
    assert p_value == pytest.approx(p)


def test_a_perfect_score_is_not_surely_better_than_one_that_hardly_errs():
    """Of ten cases and ten controls one pair of a hundred is out of order: chance would do so."""
    positive = np.arange(20) < 10
    hardly = np.where(positive, 2.0, 0.0)
    hardly[0], hardly[10] = 1.0, 1.5
    found, p_value = auc_difference(positive.astype(float), hardly, positive)
    assert found.value == pytest.approx(0.01)
    assert found.low < 0 < found.high
    assert p_value == 1


def test_a_difference_of_perfect_areas_goes_by_patients():
    positive, patients = np.arange(60) < 30, np.arange(60) // 10
    found, p_value = auc_difference(positive.astype(float), np.zeros(60), positive, patients)
    assert found.low == pytest.approx(LOW_OF_THREE - 0.5)
    assert p_value == 0.25


def test_one_case_that_tells_nothing_of_others_gives_no_certainty():
    """Both slides of the other outcome move by as much: a variance of 0, and no proof."""
    positive = np.array([True, False, False])
    found, p_value = auc_difference(np.array([1.0, 0, 1]), np.array([1.0, 1, 2]), positive)
    assert found.value == 0.5
    assert found.low < 0
    assert p_value > 0.5


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


def slow_clustered_variance(values, positive, patients):
    """Obuchowski 1997, section 2, patient by patient."""
    cases, controls = values[positive], values[~positive]
    m, n, area = len(cases), len(controls), slow_auc(values, positive)
    names = sorted(set(patients))
    x, y = np.zeros(len(names)), np.zeros(len(names))
    for row, name in enumerate(names):
        own = patients == name
        x[row] = sum(np.mean((a > controls) + 0.5 * (a == controls)) - area
                     for a in values[own & positive])  # fmt: skip
        y[row] = sum(np.mean((cases > b) + 0.5 * (cases == b)) - area
                     for b in values[own & ~positive])  # fmt: skip
    with_cases, with_controls = len(set(patients[positive])), len(set(patients[~positive]))
    s10 = with_cases / ((with_cases - 1) * m) * (x**2).sum()
    s01 = with_controls / ((with_controls - 1) * n) * (y**2).sum()
    s11 = len(names) / (len(names) - 1) * (x * y).sum()
    return s10 / m + s01 / n + 2 * s11 / (m * n)


PATIENTS = st.permutations([0, 0, 0, 1, 1, 2, 2, 3, 3, 3, 3, 4, 5, 6]).map(np.array)


@given(scores, outcomes, PATIENTS)
def test_the_variance_of_an_area_heeds_patients(values, positive, patients):
    _, covariance = auc_with_covariance(values[None], positive, patients)
    expected = slow_clustered_variance(values, positive, patients)
    assert covariance[0, 0] == pytest.approx(expected, abs=1e-12)


@given(scores, scores, outcomes)
def test_with_one_slide_a_patient_a_difference_is_delongs(ours, theirs, positive):
    of_each = np.arange(len(ours))[::-1]
    assert auc_difference(ours, theirs, positive, of_each) == auc_difference(ours, theirs, positive)


def test_the_same_slide_ten_times_makes_no_difference_of_areas_surer():
    rng = np.random.default_rng(0)
    positive = np.arange(40) < 20
    ours, theirs = rng.normal(positive * 1.5), rng.normal(positive * 0.8)
    once, p_once = auc_difference(ours, theirs, positive)
    many, p_many = auc_difference(
        *(np.repeat(one, 10) for one in (ours, theirs, positive, np.arange(40)))
    )
    assert many.value == pytest.approx(once.value)
    assert many.high - many.low == pytest.approx(once.high - once.low, rel=0.02)
    assert p_many == pytest.approx(p_once, rel=0.1)


@pytest.mark.parametrize("interval", [proportion, exact_proportion])
@given(arrays(bool, st.integers(1, 30)))
def test_with_one_slide_a_patient_a_share_has_the_plain_interval(interval, hits):
    of_each = np.arange(len(hits))[::-1]
    expected = interval(int(hits.sum()), len(hits))
    assert proportion_by_groups(hits, of_each, interval=interval) == expected


@pytest.mark.parametrize("misses", [0, 1, 4, 20])
@pytest.mark.parametrize("interval", [proportion, exact_proportion])
def test_the_same_slide_ten_times_makes_no_share_surer(misses, interval):
    hits, patients = np.arange(20) >= misses, np.arange(20)
    once = interval(20 - misses, 20)
    found = [
        proportion_by_groups(np.repeat(hits, k), np.repeat(patients, k), interval=interval)
        for k in (2, 10)
    ]
    assert found[0].value == found[1].value == once.value
    assert (found[0].low, found[0].high) == pytest.approx((found[1].low, found[1].high))
    width = once.high - once.low
    assert width <= found[1].high - found[1].low < 1.15 * width


def test_an_effective_number_by_hand():
    """Four patients of two slides, all hits but one patient's: a design effect of 4 / 1.5."""
    hits, patients = np.repeat([True, True, True, False], 2), np.repeat(np.arange(4), 2)
    t_of_three = 3.182446
    assert effective_number(hits, patients) == pytest.approx(3 * (1.959964 / t_of_three) ** 2)
    assert effective_number(hits[:6], patients[:6]) == pytest.approx(
        3 * (1.959964 / 4.302653) ** 2, rel=1e-5
    )


def test_one_patient_tells_nothing_of_others():
    found = proportion_by_groups(np.array([True, False, True, True]), np.zeros(4, int))
    assert (found.value, found.low, found.high) == (0.75, 0, 1)
    assert np.isnan(proportion_by_groups(np.zeros(0, bool), np.zeros(0, int)).value)


@pytest.mark.parametrize("share", [0.7, 0.9, 0.97])
@pytest.mark.parametrize("alike", [False, True])
def test_intervals_of_shares_cover_what_they_promise(share, alike):
    """Thirty patients of ten slides, all alike or all independent; Wilson's by slides covers 0.5.

    Of 200 rounds at least nine tenths: the interval of 30 independent slides isn't better.
    """
    rng, patients = np.random.default_rng(0), np.repeat(np.arange(30), 10)
    covered = 0
    for _ in range(200):
        drawn = np.repeat(rng.random(30), 10) if alike else rng.random(300)
        found = proportion_by_groups(drawn < share, patients)
        covered += found.low <= share <= found.high
    assert covered >= 180


@given(scores, outcomes, st.floats(0.05, 1))
def test_the_threshold_is_the_highest_that_finds_enough(values, positive, wanted):
    threshold = threshold_for(values, positive, wanted)
    assert (values[positive] >= threshold).mean() >= wanted - 1e-9
    assert (values[positive] > threshold).mean() < wanted


def test_one_outcome_alone_has_no_area():
    with pytest.raises(ValueError, match="positive and negative"):
        auc(np.array([1.0, 2]), np.array([True, True]))
