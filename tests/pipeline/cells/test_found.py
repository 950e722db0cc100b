"""What was found, before any threshold, gives what screening with any threshold would give."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.card import CombinationRule
from pipeline.cells.found import Found, Limits, name_found
from pipeline.cells.naming import detection_floors, name_cells
from pipeline.cells.second_look import LookThresholds
from pipeline.cells.stitcher import StitcherSettings
from pipeline.geometry import Detections

OWN = np.array([0.6, 0.3, 0.2], np.float32)
ABNORMAL = np.array([False, True, True])
STITCHER = StitcherSettings()


def findings(seed, count=120, apart=False):
    """Findings on a small slide, so that many overlap; or places that don't."""
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 400, (count, 2))
    if apart:
        corner = np.column_stack([np.arange(count) * 100.0, np.zeros(count)])
    known = rng.uniform(0.05, 1, (count, 3)).astype(np.float32) ** 2
    labels = known.argmax(axis=1)
    scores = known[np.arange(count), labels]
    boxes = np.hstack([corner, corner + rng.uniform(30, 60, (count, 2))])
    return Detections(boxes, scores, labels, known)


def at(threshold, look=None):
    thresholds = OWN if threshold is None else np.full(3, threshold, np.float32)
    return Limits(thresholds, OWN, ABNORMAL, look, CombinationRule() if look else None)


def look_at(threshold):
    thresholds = at(threshold).thresholds
    return LookThresholds(thresholds, OWN, thresholds, OWN, ABNORMAL, 0.05)


def as_bytes(detections):
    return [x.tobytes() for x in vars(detections).values() if x is not None]


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1), st.sampled_from([None, 0.1, 0.2, 0.35, 0.7]))
def test_findings_kept_down_to_a_floor_name_as_those_down_to_the_threshold_do(seed, threshold):
    kept = findings(seed)
    kept = kept[kept.scores >= 0.05]
    limits = at(threshold)
    floors = detection_floors(limits.thresholds, OWN, ABNORMAL)
    screened = kept[kept.scores >= floors[kept.labels]]  # all that a detector would have looked for
    expected = name_cells(screened, limits.thresholds, ABNORMAL, 0.5, OWN)
    named, left = name_found(Found(kept, np.full(3, 0.05, np.float32)), limits, STITCHER)
    assert as_bytes(named) == as_bytes(expected)
    assert left == 0


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(0, 119), st.sampled_from([None, 0.2, 0.35, 0.7]))
def test_what_is_bounded_names_the_same_wherever_it_is_complete(seed, most, threshold):
    whole = Found(findings(seed), np.full(3, 0.01, np.float32))
    bounded = whole.bounded(OWN, most)
    limits = at(threshold)
    assert len(bounded.cells) == most
    assert bounded.dropped == 120 - most
    if (limits.floors(looked=False) >= bounded.complete).all():
        expected, named = (name_found(one, limits, STITCHER)[0] for one in (whole, bounded))
        assert as_bytes(named) == as_bytes(expected)


def graded(seed, count=120, looked_at=30):
    places = findings(seed, count, apart=True)
    rng = np.random.default_rng(seed)
    grades = np.full((count, 4), np.nan, np.float32)
    rows = rng.choice(count, looked_at, replace=False)
    chance = rng.uniform(0.01, 1, (looked_at, 4))
    grades[rows] = chance / chance.sum(axis=1, keepdims=True)
    return replace(places, grades=grades)


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(0, 89), st.sampled_from([0.1, 0.2, 0.35, 0.7]))
def test_places_of_a_second_look_are_never_dropped_and_the_others_name_the_same(
    seed, most, threshold
):
    whole = Found(graded(seed), np.full(3, 0.01, np.float32), looked=True, candidates=120)
    bounded = whole.bounded(OWN, most)
    assert bounded.looked_at == whole.looked_at == 30
    assert len(bounded.cells) == 30 + most
    limits = at(threshold, look_at(threshold))
    if (limits.floors(looked=True) >= bounded.complete).all():
        (expected, left), (named, still) = (
            name_found(one, limits, STITCHER) for one in (whole, bounded)
        )
        assert as_bytes(named) == as_bytes(expected)
        assert left == still


def test_the_least_sure_by_the_model_s_own_thresholds_are_dropped_and_it_is_told_from_where():
    boxes = np.array([[x, 0.0, x + 10, 10] for x in (0, 100, 200, 300)])
    scores = np.array([0.5, 0.4, 0.15, 0.19], np.float32)  # of 0.6, 0.3, 0.3, 0.2
    found = Found(Detections(boxes, scores, np.array([0, 1, 1, 2])), np.full(3, 0.1, np.float32))
    bounded = found.bounded(OWN, 2)
    assert bounded.cells.scores.tolist() == scores[[1, 3]].tolist()
    assert bounded.dropped == 2
    assert bounded.complete.tolist() == pytest.approx([0.5, 0.15, 0.1])
    assert bounded.complete[0] > scores[0]
    assert bounded.complete[1] > scores[2]
    assert bounded.bounded(OWN, 2) is bounded  # again nothing is lost
    assert found.bounded(OWN, 4) is found
