"""The second look: which candidates, and what becomes of their scores."""

import numpy as np
import pytest
from graders import grader_facts

from models.card import CombinationRule, ModelCard, SecondLookFacts
from models.config import DetectorConfig
from pipeline.cells.naming import name_cells, name_places
from pipeline.cells.second_look import (
    CROP_COST,
    LookThresholds,
    SecondLookSettings,
    choose,
    combine,
    count_affordable,
    count_in_tiles,
    find_candidates,
    keep_of_tile,
    name_by,
    thin_out,
)
from pipeline.geometry import Detections

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


def test_weights_even_out_what_a_grader_was_calibrated_for():
    detector = np.array([[0.8, 0.4, 0.2]])
    as_drawn = np.array([[0.2, 0.2, 0.4, 0.2]])
    prior = np.array([4.0, 1.0, 0.5, 8.0])
    as_they_come = as_drawn * prior / (as_drawn * prior).sum()
    evened = RULE.model_copy(update={"weights": tuple(1 / prior)})

    found = combine(detector, as_they_come, ABNORMAL, evened)

    np.testing.assert_allclose(found, combine(detector, as_drawn, ABNORMAL, RULE), rtol=1e-6)


def test_weights_are_one_a_class_and_one_of_background():
    facts = grader_facts(("NILM", "HSIL"), rule=RULE).model_dump()
    facts["rule"]["weights"] = (1.0, 2.0)
    with pytest.raises(ValueError, match="one a class, and one of background"):
        SecondLookFacts.model_validate(facts)


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


def test_as_many_are_looked_at_as_cost_a_share_of_the_tiles_and_the_clock_has_no_say():
    pixels = 1000 * 1536**2
    assert count_affordable(SecondLookSettings(), 1000, 1536, 128) == int(
        0.1 * pixels / (CROP_COST * 128**2)
    )
    assert count_affordable(SecondLookSettings(), 3, 1536, 128) == 200
    assert count_affordable(SecondLookSettings(share=0.2), 1000, 1536, 128) == int(
        0.2 * pixels / (CROP_COST * 128**2)
    )
    assert count_affordable(SecondLookSettings(cells=7), 1000, 1536, 128) == 7
    assert count_in_tiles(4800, 1536, 128) == np.ceil(4800 * CROP_COST / 144)


def places(class_scores, at=None):
    """A box of 10 px for each row of scores, far apart, named by its best score."""
    scores = np.array(class_scores, np.float32)
    left = 100.0 * np.arange(len(scores)) if at is None else np.array(at, float)
    boxes = np.column_stack([left, 0 * left, left + 10, 0 * left + 10])
    return Detections(boxes, scores.max(axis=1), scores.argmax(axis=1), scores)


def test_the_most_suspicious_are_chosen_and_of_equals_the_surer_then_by_place():
    cells = places([[0.9, 0.1, 0.2], [0.1, 0.3, 0.1], [0.5, 0.2, 0.2], [0.0, 0.2, 0.1]])
    assert choose(cells, ABNORMAL, 1).tolist() == [1]
    assert choose(cells, ABNORMAL, 2).tolist() == [0, 1]
    assert choose(cells, ABNORMAL, 3).tolist() == [0, 1, 2]
    assert choose(cells, ABNORMAL, 9).tolist() == [0, 1, 2, 3]
    same = places([[0.1, 0.4, 0.0]] * 3, at=[500, 100, 300])
    assert choose(same, ABNORMAL, 2).tolist() == [1, 2]


def test_of_a_tile_the_certain_stay_and_of_the_others_the_most_suspicious():
    cells = places([[0.1, 0.2, 0.1], [0.1, 0.1, 0.3], [0.6, 0.1, 0.0], [0.0, 0.5, 0.1]])
    certain = np.array([0.9, 0.4, 0.4])
    kept = thin_out(cells, certain, ABNORMAL, 1)
    assert kept.boxes[:, 0].tolist() == [100, 300]  # 0.3 HSIL, and the certain one
    assert len(thin_out(cells, certain, ABNORMAL, 3)) == 4
    assert keep_of_tile(200, 1) == 1600
    assert keep_of_tile(12_000, 2400) == 200


def test_candidates_are_places_with_the_best_of_each_class_from_top_to_bottom():
    here, there = [0, 50, 10, 60], [100, 0, 110, 10]
    found = Detections(
        np.array([here, here, there], float),
        np.array([0.2, 0.12, 0.3], np.float32),
        np.array([0, 2, 1]),
        np.array([[0.2, 0.0, 0.1], [0.15, 0.0, 0.12], [0.0, 0.3, 0.0]], np.float32),
    )
    candidates = find_candidates(found, 0.1, ABNORMAL, 0.5, np.full(3, 0.4))
    np.testing.assert_allclose(candidates.boxes, [there, here])
    np.testing.assert_allclose(candidates.class_scores, [[0, 0.3, 0], [0.2, 0, 0.12]])


@pytest.mark.parametrize("seed", range(20))
def test_places_are_named_as_their_findings_would_be(seed):
    """A finding a class in each place, by `name_cells`, against the scores at once."""
    rng = np.random.default_rng(seed)
    scores = rng.uniform(0.01, 1, (30, 3)).astype(np.float32)
    balance = rng.uniform(0.1, 0.7, 3)
    thresholds = balance if seed % 2 else np.full(3, rng.uniform(0.05, 0.6))
    labels = np.tile(np.arange(3), 30)
    boxes = np.repeat(places(scores).boxes, 3, axis=0)
    findings = Detections(boxes, scores.ravel(), labels, np.repeat(scores, 3, axis=0))
    expected = name_cells(findings, thresholds, ABNORMAL, 0.5, balance)

    named = name_by(places(scores), thresholds, ABNORMAL, balance)

    order = np.argsort(expected.boxes[:, 0])
    np.testing.assert_array_equal(named.boxes, expected.boxes[order])
    np.testing.assert_array_equal(named.labels, expected.labels[order])
    np.testing.assert_array_equal(named.scores, expected.scores[order])
    assert len(named) or seed % 2 == 0


def test_places_of_a_model_without_abnormal_or_without_normal_classes():
    scores = np.array([[0.5, 0.6], [0.1, 0.1]])
    thresholds = np.full(2, 0.3)
    assert name_places(scores, thresholds, np.array([False, False])).tolist() == [1, -1]
    assert name_places(scores, thresholds, np.array([True, True])).tolist() == [1, -1]
    assert name_places(np.zeros((0, 2)), thresholds, np.array([True, False])).tolist() == []


def limits(threshold=None, **changes):
    classes = ("NILM", "LSIL", "HSIL")
    facts = SecondLookFacts(
        name="g",
        backbone="mobilenet_v2",
        classes=classes,
        mean=(0.5,) * 3,
        std=(0.2,) * 3,
        sha256="0",
        thresholds=dict(zip(classes, (0.6, 0.2, 0.25), strict=True)),
        **changes,
    )
    card = ModelCard(
        name="m",
        detector=DetectorConfig(name="fcos", classes=classes),
        mpp=0.5,
        thresholds=dict(zip(classes, (0.64, 0.28, 0.44), strict=True)),
    )
    return LookThresholds.of(card, facts, threshold)


def test_the_detector_looks_down_to_the_floor_or_to_what_is_reported_at_all():
    assert limits().floor == 0.05
    np.testing.assert_allclose(limits().floors, [0.05, 0.05, 0.05])
    np.testing.assert_allclose(limits().certain, [0.64, 0.28, 0.44])
    assert limits(floor=0.3).floor == pytest.approx(0.2)  # a cell counts from there after the look
    asked = limits(threshold=0.02)
    assert asked.floor == pytest.approx(0.02)
    np.testing.assert_allclose(asked.after, 0.02)
    np.testing.assert_allclose(asked.balance, [0.6, 0.2, 0.25])
