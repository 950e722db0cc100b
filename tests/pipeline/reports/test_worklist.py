"""The order of the work list, and what slides have in common."""

import numpy as np
import pytest
from fakes import make_alarms, make_report

from configs import Doubt
from pipeline.cells.domain import DomainFinding
from pipeline.geometry import Detections
from pipeline.reports.report import SlideReport
from pipeline.reports.slide_summary import SlideSummary
from pipeline.reports.summary import SummaryRow
from pipeline.reports.worklist import Worklist, order_slides

SCREENED_MM2 = 0.375  # of every made-up report
OUTSIDE = DomainFinding(within=False, reason="their stain lies 9 off", cells=100)


def report_of(*labels: int, **more: object) -> SlideReport:
    """A report of cells of these classes: 0 is NILM, 2 LSIL, 5 SCC."""
    cells = Detections(
        np.zeros((len(labels), 4)), np.full(len(labels), 0.9, np.float32), np.array(labels, int)
    )
    return make_report(cells=cells, **more)


def complete(name: str, report: SlideReport) -> SummaryRow:
    return SummaryRow(name, f"in/{name}", "complete", SlideSummary.of(report))


def order(*rows: SummaryRow) -> list[tuple[str, int | None]]:
    return [(place.row.slide, place.rank) for place in order_slides(rows).places]


def changed(report: SlideReport, part: str, **values: object) -> SlideReport:
    return report.model_copy(update={part: getattr(report, part).model_copy(update=values)})


def test_most_abnormal_cells_beyond_chance_come_first() -> None:
    """8 a mm2 are expected, 3 on each slide: 1 + 2, 40 and 11 cells were found."""
    alarms = make_alarms(per_mm2=8.0)
    rows = [
        complete("few.svs", report_of(2, 2, 2, 0, 0, alarms=alarms)),
        complete("many.svs", report_of(*[2] * 40, alarms=alarms)),
        complete("more.svs", report_of(*[2] * 11, alarms=alarms)),
    ]
    worklist = order_slides(rows)
    assert [(p.row.slide, p.rank) for p in worklist.places] == [
        ("many.svs", 1),
        ("more.svs", 2),
        ("few.svs", 3),
    ]
    expected = rows[0].report.expected
    assert expected == pytest.approx(3, abs=0.01)
    assert [p.excess for p in worklist.places] == pytest.approx(
        [(found - expected) / SCREENED_MM2 for found in (40, 11, 3)], abs=1e-3
    )
    assert worklist.basis == "excess"
    assert not worklist.some_unexpected
    assert "beyond those that the model reports by chance" in worklist.order


def test_a_suggested_category_comes_before_more_cells_that_chance_explains() -> None:
    """One SCC where chance has none; 20 LSIL on a slide where it may have as many."""
    alarms = make_alarms(per_mm2=30.0, SCC=0.001, high_grade=30.0)
    scc = report_of(5, alarms=alarms)
    assert (scc.suggestion.level, scc.suggestion.category) == ("class", "SCC")
    lsil = report_of(*[2] * 15, alarms=alarms)
    assert lsil.suggestion.level is None
    assert order(complete("a.svs", lsil), complete("b.svs", scc)) == [("b.svs", 1), ("a.svs", 2)]


def test_below_chance_the_plain_density_decides_and_then_the_name() -> None:
    alarms = make_alarms(per_mm2=500.0)
    rows = [complete(f"{n}.svs", report_of(*[2] * n, alarms=alarms)) for n in (1, 3, 2)]
    rows.append(complete("0 same as 2.svs", report_of(2, 2, alarms=alarms)))
    names = ["3.svs", "0 same as 2.svs", "2.svs", "1.svs"]
    assert order(*rows) == [(name, rank) for rank, name in enumerate(names, 1)]


def test_a_calibrated_score_decides_where_all_slides_have_one() -> None:
    many = changed(report_of(*[2] * 40), "suggestion", score=0.2, suspicious=False, level=None)
    one = changed(report_of(*[2] * 4), "suggestion", score=0.7, suspicious=True)
    rows = [complete("a.svs", many), complete("b.svs", one)]
    worklist = order_slides(rows)
    assert [p.row.slide for p in worklist.places] == ["b.svs", "a.svs"]
    assert worklist.basis == "score"
    assert "slide rule's calibrated score" in worklist.order
    assert "suspicious" in worklist.places[0].flags
    # Of a mixed list the scores say nothing: they have no place beside the others.
    mixed = order_slides([*rows, complete("c.svs", report_of(*[2] * 8))])
    assert mixed.basis == "excess"
    assert [p.row.slide for p in mixed.places] == ["c.svs", "b.svs", "a.svs"]


def test_where_chance_is_not_known_nothing_is_expected_and_that_is_told() -> None:
    unknown = report_of(2, 2).model_copy(update={"expectation": None})
    worklist = order_slides([complete("a.svs", unknown)])
    assert worklist.places[0].excess == pytest.approx(2 / SCREENED_MM2, abs=1e-3)
    assert worklist.some_unexpected
    assert "none is taken as expected where that is not known" in worklist.order


def test_slides_that_the_figures_say_nothing_of_have_no_rank_but_a_reason() -> None:
    outside = report_of(*[5] * 50, domain=OUTSIDE)
    empty = changed(report_of(), "area", screened_mm2=0.0)
    dark = report_of(5).model_copy(update={"warnings": (Doubt(code="too-dark", text="dark"),)})
    rows = [
        complete("outside.svs", outside),
        complete("empty.svs", empty),
        complete("dark.svs", dark),
        complete("few.svs", report_of(2, 2, 2)),
    ]
    worklist = order_slides(rows)
    assert [(p.row.slide, p.rank, p.section) for p in worklist.places] == [
        ("few.svs", 1, "ranked"),
        ("outside.svs", None, "unranked"),
        ("empty.svs", None, "unranked"),
        ("dark.svs", None, "unranked"),
    ]
    _, one, two, three = worklist.places
    assert OUTSIDE.reason in one.unranked
    assert (two.unranked, three.unranked) == ("nothing of it was screened", "dark")
    assert {p.excess for p in worklist.places[1:]} == {None}
    assert worklist.flags == {
        "suggested": 1,
        "outside": 1,
        "strange": 1,
        "unscreened": 1,
        "warned": 2,
    }


def failed(name: str, error: str) -> SummaryRow:
    return SummaryRow(name, f"in/{name}", "failed", error=f"in/{name}: {error}")


def summed(worklist: Worklist) -> list[tuple[str, str, str, int]]:
    return [(r.kind, r.code, r.text, r.slides) for r in worklist.reasons]


def test_warnings_and_failures_are_grouped_by_what_they_have_in_common() -> None:
    rows = [
        failed("a.svs", "90% of it can't be read; copy it again"),
        failed("b.svs", "81.5% of it can't be read; copy it again"),
        failed("c.svs", "no scale; give --mpp [mpp-missing]"),
        SummaryRow("d.kfb", "in/d.kfb", "not read", error="KFBIO; export it [files-not-read]"),
        complete("e.svs", report_of(2, warnings=("x is so", "y is so"))),
        complete("f.svs", report_of(2, warnings=("x is so",))),
        SummaryRow("g.svs", "in/g.svs", "pending"),
    ]
    worklist = order_slides(rows)
    assert summed(worklist) == [
        ("warning", "uncoded", "x is so", 2),
        ("failed", "", "90% of it can't be read; copy it again", 2),
        ("failed", "mpp-missing", "no scale; give --mpp", 1),
        ("not read", "files-not-read", "KFBIO; export it", 1),
    ]
    by_name = {place.row.slide: place for place in worklist.places}
    assert by_name["a.svs"].reasons == by_name["b.svs"].reasons
    assert by_name["a.svs"].reasons != by_name["c.svs"].reasons
    assert len(by_name["e.svs"].reasons) == 1  # one code, one reason
    sections = [place.section for place in worklist.places]
    assert sections == ["ranked", "ranked", "failed", "failed", "failed", "not read", "pending"]
    assert worklist.flags["failed"] == 3
    assert worklist.flags["pending"] == 1


def test_what_a_lab_looks_for_has_a_flag() -> None:
    inadequate = changed(report_of(2, 2, 2), "adequacy", satisfactory=False)
    aside = changed(report_of(2), "suggestion", set_aside=True, level=None)
    unread = report_of(2, 2, 2, unread=((0, 0, 400, 300),))
    rows = [complete("a", inadequate), complete("b", aside), complete("c", unread)]
    flags = {place.row.slide: place.flags for place in order_slides(rows).places}
    assert flags == {
        "a": ("suggested", "inadequate"),
        "b": ("set-aside",),
        "c": ("suggested", "unread"),
    }


def test_the_order_never_depends_on_the_order_of_the_slides() -> None:
    rows = [complete(f"{n}.svs", report_of(*[2] * (n % 3))) for n in range(9)]
    assert order(*rows) == order(*reversed(rows))
    assert order() == []
