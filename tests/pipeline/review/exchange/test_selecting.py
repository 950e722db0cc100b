"""Which fields are proposed: the unsure ones, each unlike the others."""

import math

import numpy as np
import pytest

from pipeline.geometry import Detections
from pipeline.review.exchange.selecting import (
    COUNTED,
    Squares,
    choose,
    how_unsure,
    share_of_slide,
    square_up,
)

THRESHOLDS = np.array([0.3, 0.5, 0.4])


def cells_at(middles, class_scores):
    middles = np.array(middles, float)
    scores = np.array(class_scores, np.float32)
    labels = scores.argmax(axis=1)
    boxes = np.concatenate([middles - 5, middles + 5], axis=1)
    named = scores[np.arange(len(labels)), labels]
    return Detections(boxes, named, labels, scores)


def slow_unsure(scores, label, score):
    share = [s / sum(scores) for s in scores]
    entropy = -sum(p * math.log(p) for p in share if p) / math.log(len(scores))
    return (entropy + math.exp(-abs(score - THRESHOLDS[label]) / 0.1)) / 2


def test_how_unsure_is_as_the_formula_says():
    scores = [[0.9, 0.02, 0.01], [0.3, 0.35, 0.35], [0.05, 0.5, 0.3]]
    cells = cells_at([[10, 10]] * 3, scores)
    found = how_unsure(cells, THRESHOLDS)
    slow = [
        slow_unsure(row, int(label), float(score))
        for row, label, score in zip(scores, cells.labels, cells.scores, strict=True)
    ]
    np.testing.assert_allclose(found, slow, rtol=1e-5)
    assert found[1] > found[0]


def test_a_cell_that_was_graded_goes_by_its_grades():
    cells = cells_at([[10, 10]] * 2, [[0.4, 0.4, 0.4]] * 2)
    grades = np.array([[0.97, 0.01, 0.01, 0.01], [np.nan] * 4], np.float32)
    graded = Detections(cells.boxes, cells.scores, cells.labels, cells.class_scores, grades)
    first, second = how_unsure(graded, THRESHOLDS)
    assert first < second == pytest.approx(how_unsure(cells, THRESHOLDS)[1])


def test_squares_sum_their_least_sure_cells_and_no_more():
    rng = np.random.default_rng(0)
    middles = rng.uniform(0, 1000, (300, 2))
    cells = cells_at(middles, rng.uniform(0.01, 1, (300, 3)))
    found = square_up(0, cells, THRESHOLDS, (1000, 1000), 250, np.zeros((0, 4)))
    unsure = how_unsure(cells, THRESHOLDS)
    assert len(found.boxes) == 16
    for box, worth, about, count in zip(
        found.boxes, found.worth, found.about, found.cells, strict=True
    ):
        inside = ((middles >= box[:2]) & (middles < box[2:])).all(axis=1)
        assert count == inside.sum()
        assert worth == pytest.approx(np.sort(unsure[inside])[::-1][:COUNTED].sum())
        mean = np.average(cells.class_scores[inside], axis=0, weights=unsure[inside])
        np.testing.assert_allclose(about, mean, rtol=1e-4)


def test_what_was_read_or_proposed_is_left_out_and_edges_are_cut():
    cells = cells_at([[10, 10], [260, 10], [610, 590]], [[0.3, 0.3, 0.3]] * 3)
    found = square_up(0, cells, THRESHOLDS, (620, 600), 250, np.array([[0, 0, 250, 250.0]]))
    np.testing.assert_array_equal(found.boxes, [[250, 0, 500, 250], [500, 500, 620, 600]])


def test_a_slide_without_cells_has_no_squares_and_leaves_others_theirs():
    none = Detections(np.zeros((0, 4)), np.zeros(0, np.float32), np.zeros(0, np.int64))
    some = cells_at([[10, 10]], [[0.3, 0.3, 0.3]])
    known = np.zeros((0, 4))
    for empty in (none, some[np.zeros(0, np.intp)]):
        found = [square_up(i, cells, THRESHOLDS, (600, 600), 250, known)
                 for i, cells in enumerate((empty, some))]  # fmt: skip
        assert found[0].about.shape == (0, 3)
        assert [one.slide for one in choose(found, 5, 5)] == [1]
        assert choose(found[:1], 5, 5) == []


def test_a_square_like_one_that_was_taken_gives_way_to_another_kind():
    about = np.array([[1, 0.0], [1, 0], [0, 1]])
    boxes = np.array([[0, 0, 1, 1.0], [1, 0, 2, 1], [2, 0, 3, 1]])
    worth, cells = np.array([3.0, 2.9, 1.0]), np.array([9, 9, 9])
    chosen = choose([Squares(0, boxes, worth, about, cells)], 2, 9)
    assert [one.box[0] for one in chosen] == [0, 2]
    # Worth decides where both are of one kind.
    same = choose([Squares(0, boxes, worth, np.ones((3, 2)), cells)], 2, 9)
    assert [one.box[0] for one in same] == [0, 1]


def test_no_slide_gives_more_than_its_share():
    boxes = np.array([[i, 0, i + 1, 1.0] for i in range(5)])
    about, cells = np.random.default_rng(0).uniform(size=(5, 2)), np.arange(5)
    rich = Squares(0, boxes, np.full(5, 9.0), about, cells)
    poor = Squares(1, boxes, np.full(5, 1.0), about, cells)
    chosen = choose([rich, poor], 5, share_of_slide(4, 2) // 2)
    assert sorted(one.slide for one in chosen) == [0, 0, 1, 1]
    assert (share_of_slide(50, 5), share_of_slide(1, 9)) == (20, 1)
    assert choose([], 5, 1) == []
