"""What a review makes known of a slide."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from readingsmade import decision, frame_of, reading

from pipeline.review.exchange import truth as rules
from pipeline.review.exchange.truth import gather

FRAME = frame_of(Path("slides/a.tif"))
ANEW = (11, 10, 31, 30)  # `CELL` as another model has it
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


def later(cell):
    return replace(cell, entry=2)


def test_a_later_decision_replaces_that_about_the_same_cell_of_an_earlier_report():
    before = [decision(CELL, "agree", said="LSIL"), decision(OTHER, "reject", said="HSIL")]
    moved = replace(before[0], box=(60, 60, 80, 80))
    for old in (before[0], moved):
        now = later(decision(ANEW, "reject", said="HSIL"))
        found = of([now, old, before[1]], findings=[ANEW])
        assert (found.labels, found.rejected) == ((), 2)
        np.testing.assert_array_equal(found.regions, [ANEW, OTHER])
        assert found.told == {rules.REPLACED: 1, rules.EARLIER: 1}
    # Of two earlier reports, where this one has none or an undecided one there.
    for findings in ([], [(12, 10, 32, 30)]):
        found = of([later(decision(ANEW, "class", "HSIL", said="LSIL")), before[0]], (), findings)
        assert (found.labels, len(found.ignored)) == (("HSIL",), 0)
        assert found.told == {rules.REPLACED: 1, rules.EARLIER: 1}


def test_findings_of_one_report_replace_each_other_never():
    cells = [decision(CELL, "agree", said="LSIL"), later(decision(ANEW, "reject", said="HSIL"))]
    assert of(cells, findings=[CELL, ANEW]).told == {}
    cells[1] = later(decision(ANEW, "reject", said="LSIL"))
    found = of(cells, findings=[CELL, ANEW])
    assert (found.labels, found.rejected, found.told) == (("LSIL",), 1, {})


def test_a_drawn_cell_gives_way_to_a_finding_that_was_later_called_a_cell():
    drawn = decision(CELL, "added", "LSIL")
    found = of([drawn, later(decision(ANEW, "agree", said="HSIL"))], findings=[ANEW])
    assert (found.labels, found.told) == (("HSIL",), {rules.REPLACED: 1})
    # Who rejects a finding over which he drew a better box means that.
    found = of([drawn, later(decision(ANEW, "reject", said="HSIL"))], findings=[ANEW])
    assert (found.labels, found.rejected, found.told) == (("LSIL",), 1, {})
    # Drawn later, it replaces what was said of an earlier report; beside this one's it was meant.
    before = decision(ANEW, "agree", said="HSIL")
    assert of([before, later(drawn)]).labels == ("LSIL",)
    assert of([before, later(drawn)], findings=[ANEW]).labels == ("HSIL", "LSIL")


def test_a_finding_over_an_earlier_reports_decision_is_not_undecided():
    found = of([decision(CELL, "agree", said="LSIL")], findings=[ANEW, THIRD])
    np.testing.assert_array_equal(found.ignored, [THIRD])
    assert found.told == {rules.EARLIER: 1, rules.UNDECIDED_BESIDE: 1}
