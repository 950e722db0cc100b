"""The fast suppression against the textbook's, to the last box."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from slow_nms import greedy_nms_slowly

from pipeline.cells import nms
from pipeline.cells.nms import greedy_nms
from pipeline.geometry import Detections


def cells(rng, count, extent=500.0, sides=(10, 60), classes=3, scores=None):
    """Boxes scattered over an extent; equal scores where a few score levels are asked for."""
    corners = rng.uniform(0, extent, (count, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(*sides, (count, 2))], axis=1)
    score = rng.random(count) if scores is None else rng.integers(0, scores, count) / scores
    return Detections(boxes, score.astype(np.float32), rng.integers(0, classes, count))


def scattered(rng):
    return cells(rng, 300)


def equal_scores(rng):
    return cells(rng, 300, scores=3)


def all_sizes(rng):
    found = cells(rng, 300)
    corners = found.boxes[:, :2]
    sides = 2.0 ** rng.uniform(-10, 10, (300, 2))
    return Detections(np.hstack([corners, corners + sides]), found.scores, found.labels)


def about_half_a_pixel(rng):
    return cells(rng, 300, extent=4, sides=(0.35, 0.7))


def whole_numbers(rng):
    """Overlaps of exactly the limit, shared borders, identical boxes, boxes without area."""
    corners = rng.integers(0, 8, (300, 2))
    boxes = np.hstack([corners, corners + rng.integers(0, 5, (300, 2))]).astype(np.float64)
    return Detections(boxes, rng.random(300).astype(np.float32), rng.integers(0, 2, 300))


def identical(rng):
    boxes = np.tile([3.0, 4.0, 50.0, 40.0], (300, 1))
    return Detections(boxes, rng.random(300).astype(np.float32), rng.integers(0, 2, 300))


def nested(rng):
    reach = np.sort(rng.uniform(1, 300, (300, 1)), axis=0)
    boxes = np.hstack([500 - reach, 500 - reach, 500 + reach, 500 + reach])
    return Detections(boxes, rng.random(300).astype(np.float32), np.zeros(300, np.int64))


def chain(rng):
    """Each box overlaps the next and falls or stands by all that went before."""
    left = np.arange(300.0)[:, None] * 3
    boxes = np.hstack([left, 0 * left, left + 10, 0 * left + 10])
    return Detections(boxes, np.linspace(1, 0, 300, dtype=np.float32), np.zeros(300, np.int64))


def crowd_and_giant(rng):
    """A few spots with hundreds of boxes each, under one box as large as the slide."""
    crowd = cells(rng, 600, extent=30, sides=(20, 40))
    away = cells(rng, 200, extent=5000)
    giant = Detections(np.array([[0, 0, 5000.0, 5000]]), np.ones(1, np.float32), np.zeros(1, int))
    return Detections.concatenate([giant, crowd, away])


def far_from_the_origin(rng):
    found = cells(rng, 300, extent=100)
    return Detections(found.boxes - 3e6, found.scores, found.labels)


CASES = [
    scattered,
    equal_scores,
    all_sizes,
    about_half_a_pixel,
    whole_numbers,
    identical,
    nested,
    chain,
    crowd_and_giant,
    far_from_the_origin,
]


@pytest.mark.parametrize("per_class", [True, False])
@pytest.mark.parametrize("iou", [0.01, 0.3, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("case", CASES)
def test_keeps_what_the_textbook_keeps(case, iou, per_class):
    found = case(np.random.default_rng(7))
    expected = greedy_nms_slowly(found, iou, per_class)
    assert (greedy_nms(found, iou, per_class) == expected).all()


@pytest.mark.parametrize("case", CASES)
def test_keeps_what_the_textbook_keeps_by_halves_and_in_chunks(case, monkeypatch):
    monkeypatch.setattr(nms, "CROWD", 0)
    monkeypatch.setattr(nms, "SMALL", 3)
    monkeypatch.setattr(nms, "CHUNK", 10)
    found = case(np.random.default_rng(8))
    assert (greedy_nms(found, 0.4) == greedy_nms_slowly(found, 0.4)).all()


@given(
    rows=st.lists(
        st.tuples(
            *[st.integers(0, 12)] * 2,  # left, top
            *[st.sampled_from([0, 1, 2, 3, 4, 8])] * 2,  # width, height
            st.sampled_from([0.2, 0.5, 0.9]),
            st.integers(0, 1),
        ),
        max_size=14,
    ),
    iou=st.sampled_from([0.1, 1 / 3, 0.5, 0.75]),
    per_class=st.booleans(),
    unit=st.sampled_from([1.0, 0.1, 1e-3, 12345.678]),
)
def test_keeps_what_the_textbook_keeps_of_any_few_boxes(rows, iou, per_class, unit):
    table = np.array(rows, np.float64).reshape(-1, 6)
    boxes = np.hstack([table[:, :2], table[:, :2] + table[:, 2:4]]) * unit
    found = Detections(boxes, table[:, 4].astype(np.float32), table[:, 5].astype(np.int64))
    assert (greedy_nms(found, iou, per_class) == greedy_nms_slowly(found, iou, per_class)).all()


def test_no_boxes_are_no_trouble():
    assert greedy_nms(Detections.empty(), 0.5).shape == (0,)


def test_a_crowd_on_one_spot_stays_linear():
    """A hundred thousand boxes on one spot are five billion pairs: memory would tell."""
    rng = np.random.default_rng(0)
    crowd = cells(rng, 100_000, extent=3, sides=(42, 45), classes=1)
    kept = greedy_nms(crowd, 0.5)
    best = crowd.scores.argmax()
    assert kept[best]
    assert kept.sum() == 1
