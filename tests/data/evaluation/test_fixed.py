"""Boxes that stay while their scores change are matched as pycocotools does it."""

import numpy as np
import pytest

from data.evaluation import FieldCells, FixedBoxes, match_fields, pool


def field(rng, cells=12, boxes=25):
    """Cells, some of them crowds, and boxes around some of them."""
    corners = rng.uniform(0, 120, (cells, 2))
    truth = np.hstack([corners, corners + rng.uniform(15, 30, (cells, 2))])
    crowd = rng.random(cells) < 0.2
    labels = rng.integers(0, 3, cells)
    near = truth[rng.integers(0, cells, boxes)] + rng.normal(0, 3, (boxes, 4))
    known = FieldCells(truth, labels, np.ones(cells), crowd)
    return known, np.hstack([near[:, :2], np.maximum(near[:, 2:], near[:, :2] + 5)])


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("members", [[0], [1, 2], [0, 1, 2]])
def test_as_pycocotools_does(seed, members):
    rng = np.random.default_rng(seed)
    truth, boxes = field(rng)
    fixed = FixedBoxes(truth, boxes)
    for _ in range(3):
        scores = rng.permutation(np.linspace(0.1, 0.9, len(boxes)))
        found = FieldCells(
            boxes, np.full(len(boxes), members[0]), scores, np.zeros(len(boxes), bool)
        )
        merged, _ = pool([truth], [found], np.array(members))
        as_one = FieldCells(boxes, np.zeros(len(boxes), int), scores, found.crowd)
        (expected,) = match_fields(merged, [as_one], 1, 0)
        ours = fixed.matches(scores, np.array(members))
        order = np.argsort(-ours.scores)
        np.testing.assert_allclose(ours.scores[order], expected.scores)
        np.testing.assert_array_equal(ours.hits[order], expected.hits)
        assert ours.cells == expected.cells


def test_of_nothing_there_is_nothing():
    nothing = FieldCells(np.zeros((0, 4)), np.zeros(0, int), np.zeros(0), np.zeros(0, bool))
    truth, boxes = field(np.random.default_rng(0))
    assert FixedBoxes(truth, np.zeros((0, 4))).matches(np.zeros(0), np.array([0])).cells > 0
    found = FixedBoxes(nothing, boxes).matches(np.ones(len(boxes)), np.array([0]))
    assert (found.cells, found.hits.any(), len(found.scores)) == (0, False, len(boxes))
