"""What a review makes known of a slide."""

from pathlib import Path

import numpy as np
from readingsmade import decision, frame_of, reading

from pipeline.review.exchange import truth as rules
from pipeline.review.exchange.truth import gather

FRAME = frame_of(Path("slides/a.tif"))
CELL, OTHER, THIRD = (10, 10, 30, 30), (100, 100, 120, 120), (25, 25, 45, 45)


def of(cells, regions=(), findings=()):
    boxes = np.array(findings, float).reshape(-1, 4)
    return gather(FRAME, reading(cells, regions), boxes)


def test_cells_are_as_the_reader_called_and_moved_them():
    moved = (12, 11, 34, 33)
    added = decision((200, 200, 230, 230), "added", "LSIL")
    called = decision(OTHER, "class", "HSIL", said="LSIL")
    cells = [decision(CELL, "agree", said="LSIL"), called, added]
    cells[0] = cells[0].__class__(**{**cells[0].__dict__, "box": moved})
    found = of(cells, findings=[CELL, OTHER])
    assert found.labels == ("LSIL", "HSIL", "LSIL")
    np.testing.assert_array_equal(found.boxes, [moved, OTHER, added.box])
    # Each is known by itself: a small region of its own, and nothing is ignored.
    np.testing.assert_array_equal(found.regions, found.boxes)
    assert (found.read_in_full, len(found.ignored), found.rejected, found.told) == (0, 0, 0, {})


def test_what_was_rejected_is_background_where_nothing_else_is_known():
    found = of([decision(CELL, "reject", said="HSIL")], findings=[CELL])
    assert found.labels == ()
    np.testing.assert_array_equal(found.regions, [CELL])
    assert found.rejected == 1


def test_in_a_region_that_was_read_in_full_nothing_needs_one_of_its_own():
    region = (0, 0, 60, 60)
    cells = [decision(CELL, "agree", said="LSIL"), decision(OTHER, "reject", said="HSIL")]
    found = of(cells, [region], [CELL, OTHER])
    np.testing.assert_array_equal(found.regions, [region, OTHER])
    assert (found.read_in_full, found.rejected) == (1, 1)


def test_unsure_is_neither_cell_nor_background():
    found = of([decision(CELL, "unsure", said="LSIL")], findings=[CELL])
    np.testing.assert_array_equal(found.ignored, [CELL])
    assert (found.labels, len(found.regions)) == ((), 0)
    assert found.told == {rules.UNSURE: 1}


def test_a_finding_that_nobody_decided_is_ignored_beside_one_that_somebody_did():
    far = (500, 500, 520, 520)
    found = of([decision(CELL, "reject", said="LSIL")], findings=[CELL, THIRD, far])
    np.testing.assert_array_equal(found.ignored, [THIRD])
    assert found.told == {rules.UNDECIDED_BESIDE: 1}
    found = of([], [(0, 0, 60, 60)], [CELL, far])
    np.testing.assert_array_equal(found.ignored, [CELL])
    assert found.told == {rules.UNDECIDED_IN_REGION: 1}


def test_what_was_taken_back_is_undecided_and_a_strange_class_is_told():
    removed = decision(OTHER, "removed", key="a" + "1" * 32)
    cells = [decision(CELL, "none", said="LSIL"), removed]
    assert of(cells, findings=[CELL]).labels == ()
    found = of([decision(CELL, "class", "AGC", said="LSIL")], findings=[CELL])
    assert found.labels == ("AGC",)
    assert found.told == {rules.STRANGE_CLASS: 1}
