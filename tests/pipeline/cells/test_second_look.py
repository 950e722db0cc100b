"""The second look: which candidates, and what becomes of their scores."""

import numpy as np
import pytest

from models.card import CombinationRule
from pipeline.cells.second_look import combine

ABNORMAL = np.array([False, True, True])
RULE = CombinationRule()


def test_the_rule_as_worked_by_hand():
    """any 0.8, shares 1, 0.5, 0.25; p_background 0.2, so q 0.25, 0.25, 0.5."""
    detector = np.array([[0.8, 0.4, 0.2]], np.float32)
    grader = np.array([[0.2, 0.2, 0.4, 0.2]], np.float32)

    found = combine(detector, grader, ABNORMAL, RULE)[0]

    base = 0.8 * 0.8**0.2  # 0.7651
    abnormal = base * 0.5**0.5 * 0.75**0.3
    first, second = 0.5**0.5 * 0.25**0.3, 0.25**0.5 * 0.5**0.3  # 0.4665, 0.4061
    expected = [base * 0.25**0.3, abnormal, abnormal * second / first]
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    np.testing.assert_allclose(found, [0.50477, 0.49626, 0.43202], atol=5e-6)


def test_what_the_grader_calls_background_falls():
    detector = np.array([[0.1, 0.6, 0.2]] * 2)
    sure, doubtful = [0.1, 0.6, 0.3, 0.0], [0.01, 0.06, 0.03, 0.9]

    found = combine(detector, np.array([sure, doubtful]), ABNORMAL, RULE)

    np.testing.assert_allclose(found[1], found[0] * 0.1**0.2, rtol=1e-6)


def test_the_largest_abnormal_score_does_not_depend_on_the_grade():
    detector = np.array([[0.1, 0.6, 0.6]] * 2)
    grader = np.array([[0.1, 0.8, 0.1, 0.0], [0.1, 0.2, 0.7, 0.0]])

    found = combine(detector, grader, ABNORMAL, RULE)

    np.testing.assert_allclose(found[:, 1:].max(axis=1), 0.6 * 0.9**0.3, rtol=1e-6)
    assert found[:, 1:].argmax(axis=1).tolist() == [0, 1]


def test_exponents_of_zero_leave_the_detector_its_word():
    detector = np.array([[0.3, 0.6, 0.15]])
    rule = CombinationRule(background=0, share=1, evidence=0, grade=0)

    found = combine(detector, np.array([[0.9, 0.05, 0.0, 0.05]]), ABNORMAL, rule)

    np.testing.assert_allclose(found, detector, rtol=1e-6)


@pytest.mark.parametrize(
    ("detector", "grader"),
    [
        ([0.0, 0.0, 0.0], [0.2, 0.3, 0.4, 0.1]),
        ([0.5, 0.4, 0.3], [0.0, 0.0, 0.0, 1.0]),
        ([0.0, 0.5, 0.0], [0.0, 0.0, 1.0, 0.0]),
        ([1.0, 1.0, 1.0], [0.0, 0.5, 0.5000001, 0.0]),
    ],
)
def test_scores_stay_between_zero_and_one(detector, grader):
    found = combine(np.array([detector]), np.array([grader]), ABNORMAL, RULE)

    assert np.isfinite(found).all()
    assert found.min() >= 0
    assert found.max() <= 1
    if not sum(detector) or grader[-1] == 1:
        np.testing.assert_allclose(found, 0, atol=1e-6)


def test_classes_without_any_abnormal_one_and_no_cells():
    normal = np.array([False, False])
    grader = np.array([[0.4, 0.4, 0.2]])

    found = combine(np.array([[0.5, 0.25]]), grader, normal, RULE)

    base = 0.5 * 0.8**0.2
    np.testing.assert_allclose(found, [[base * 0.5**0.3, base * 0.5**0.5 * 0.5**0.3]], rtol=1e-6)
    assert combine(np.zeros((0, 2)), np.zeros((0, 3)), normal, RULE).shape == (0, 2)
