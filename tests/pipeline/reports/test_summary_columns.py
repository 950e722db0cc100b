import re
from pathlib import Path

import numpy as np
import pytest
from fakes import CLASSES, make_report

from pipeline.cells.domain import DomainFinding
from pipeline.geometry import Detections
from pipeline.reports.quality import Fault, Quality
from pipeline.reports.report import SlideReport
from pipeline.reports.slide_summary import SlideSummary
from pipeline.reports.summary import SummaryRow
from pipeline.reports.summary_columns import COLUMNS, summary_table
from pipeline.reports.workbook import CELL_COLUMNS
from pipeline.reports.worklist import order_slides

REPO = Path(__file__).parents[3]

FIRST = (
    *("slide", "path", "status", "suggestion", "cells", "abnormal_cells"),
    *(c.name for c in CLASSES),
    *("cells_per_mm2", "slide_mm2", "screened_mm2", "unread_mm2", "mpp", "mpp_source"),
    *("slide_score", "suspicious", "warnings", "error", "set_aside"),
)
"""What the first versions had; programs may count columns."""


def values_of(report: SlideReport | None, **row: object) -> dict[str, object]:
    """The row of one slide by its columns."""
    told = SlideSummary.of(report) if report else None
    of = SummaryRow("b.svs", "in/b.svs", "complete" if report else "failed", told, **row)
    header, values = summary_table(order_slides([of]).places)
    assert len(header) == len(values)
    return dict(zip(header, values, strict=True))


def cells_of(*labels: int) -> Detections:
    return Detections(
        np.zeros((len(labels), 4)), np.full(len(labels), 0.9, np.float32), np.array(labels, int)
    )


def test_a_column_for_each_class_and_a_row_for_each_slide() -> None:
    values = values_of(make_report(warnings=("one", "two")))
    assert values["slide"] == "b.svs"
    assert values["cells"] == 50
    assert values["NILM"] + values["abnormal_cells"] == 50
    assert values["warnings"] == "one [uncoded] | two [uncoded]"
    failed = values_of(None, error="b.svs: truncated")
    assert failed["error"] == "b.svs: truncated"
    assert {name for name, value in failed.items() if value is not None} == {
        *("slide", "path", "status", "error")
    }


def test_columns_are_added_behind_the_others() -> None:
    assert tuple(values_of(make_report()))[: len(FIRST)] == FIRST


def test_what_a_lab_filters_by_has_its_column() -> None:
    domain = DomainFinding(within=True, reason="no farther than others", cells=100)
    report = make_report(cells=cells_of(4, 4, 4, 2, 0), domain=domain)
    values = values_of(report)
    assert (values["suggestion"], values["level"], values["grade"]) == (
        *("HSIL", "class"),
        "high grade",
    )
    assert (values["low_grade_cells"], values["high_grade_cells"]) == (1, 3)
    assert (values["rank"], values["unranked_reason"]) == (1, None)
    expected = report.expectation.groups["abnormal"].expected
    assert values["excess_per_mm2"] == pytest.approx((4 - expected) / 0.375, abs=1e-3)
    assert (values["domain"], values["domain_reason"]) == ("within", "no farther than others")
    assert values["adequacy"] == "satisfactory"
    assert values["adequacy_reason"] == report.adequacy.reason


def test_the_share_out_of_focus_is_empty_where_nobody_measured_it() -> None:
    report = make_report()
    assert values_of(report)["out_of_focus_share"] is None
    blurred = Fault(share=0.375, limit=0.1, cells=4, abnormal_cells=2)
    quality = Quality(measured_mm2=0.75, least_sharp=0.3, out_of_focus=blurred)
    told = report.model_copy(update={"quality": quality})
    assert values_of(told)["out_of_focus_share"] == 0.375


def test_of_no_suggestion_and_no_domain_nothing_is_said() -> None:
    values = values_of(make_report(cells=cells_of(0, 0)))
    assert [values[name] for name in ("level", "grade", "domain", "domain_reason")] == [None] * 4
    assert values["adequacy"] == "no verdict"
    few = DomainFinding(within=None, reason="too few", cells=2)
    assert values_of(make_report(domain=few))["domain"] == "unknown"


def test_a_slide_out_of_domain_has_no_rank_and_says_why() -> None:
    outside = DomainFinding(within=False, reason="their stain lies 9 off", cells=100)
    values = values_of(make_report(domain=outside))
    assert values["domain"] == "outside"
    assert (values["rank"], values["excess_per_mm2"]) == (None, None)
    assert "their stain lies 9 off" in values["unranked_reason"]


def test_every_column_is_documented_with_its_meaning() -> None:
    page = (REPO / "docs" / "reference" / "files.md").read_text(encoding="utf-8")
    for name, meaning in (
        *((c.name, c.meaning) for c in COLUMNS),
        *((name, meaning) for name, _, meaning in CELL_COLUMNS),
    ):
        assert re.search(rf"\| `{name}` \| [^|]* \| {re.escape(meaning)} \|", page), name
