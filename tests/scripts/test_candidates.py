"""Where a grader looks again on annotated fields, and what becomes of the detector's scores."""

import numpy as np
import pytest

from models import DetectorConfig, ModelCard
from models.card import CombinationRule
from pipeline.cells.second_look import combine
from pipeline.geometry import Detections
from scripts.candidates import LOWEST_SCORE, find_candidates, strongest

CLASSES = ("NILM", "LSIL", "HSIL")
ABNORMAL = np.array([False, True, True])
CARD = ModelCard(
    name="made up",
    detector=DetectorConfig(name="fcos", classes=CLASSES),
    mpp=0.5,
    thresholds=dict.fromkeys(CLASSES, 0.3),
)


def detections(*rows):
    """Of (x, label, scores of all classes): boxes of 20 px."""
    boxes = np.array([[x, 0, x + 20, 20] for x, _, _ in rows], float).reshape(-1, 4)
    known = np.array([scores for _, _, scores in rows], np.float32).reshape(-1, 3)
    labels = np.array([label for _, label, _ in rows], np.int64)
    return Detections(boxes, known[np.arange(len(rows)), labels], labels, known)


FOUND = detections(
    (0, 1, (0.1, 0.6, 0.2)),  # one cell, under two names, a pixel apart
    (1, 2, (0.1, 0.3, 0.4)),
    (100, 0, (0.5, 0.1, 0.05)),
    (200, 1, (0.01, 0.06, 0.02)),  # below the floor in every class
)


def test_findings_that_overlap_are_one_place_with_the_best_score_of_each_class():
    found = find_candidates(FOUND, CARD, 0.1)
    assert len(found.places) == 2
    order = np.argsort(found.places.boxes[:, 0])
    np.testing.assert_allclose(found.class_scores[order], [(0.1, 0.6, 0.4), (0.5, 0.1, 0.05)])
    np.testing.assert_allclose(found.scores[order], [0.6, 0.5])
    np.testing.assert_allclose(found.rest.scores, [0.06])


def test_after_the_look_each_place_has_every_name_and_the_rest_stays():
    found = find_candidates(FOUND, CARD, 0.1)
    said = np.full((2, 4), 0.25)
    rule = CombinationRule()
    expected = combine(found.class_scores, said, ABNORMAL, rule)
    after = found.rescored(said, ABNORMAL, rule)
    assert len(after) == (expected >= LOWEST_SCORE).sum() + 1
    for place, scores in zip(found.places.boxes, expected, strict=True):
        rows = np.flatnonzero((after.boxes == place).all(axis=1))
        assert sorted(after.labels[rows]) == [0, 1, 2]
        for row in rows:
            assert after.scores[row] == pytest.approx(scores[after.labels[row]])
    assert after.scores[-1] == pytest.approx(0.06)


def test_what_is_surely_background_is_left_with_next_to_nothing():
    found = find_candidates(FOUND, CARD, 0.1)
    said = np.array([[0, 0, 0, 1.0]] * 2)
    after = found.rescored(said, ABNORMAL, CombinationRule())
    assert after.scores.tolist() == pytest.approx([0.06])  # what was not looked at


def test_where_nothing_is_found_there_is_nothing_to_look_at():
    found = find_candidates(detections(), CARD, 0.1)
    assert len(found.places) == len(found.rest) == 0
    assert len(found.rescored(np.zeros((0, 4)), ABNORMAL, CombinationRule())) == 0


def test_the_strongest_thousand_count_or_ten_a_cell():
    rows = [(x, 0, (score, 0, 0)) for x, score in enumerate(np.linspace(0.1, 0.9, 1500))]
    found = detections(*rows)
    assert len(strongest(found, 99)) == 1000
    assert strongest(found).scores[0] == pytest.approx(0.9)
    assert len(strongest(found, 120)) == 1200
