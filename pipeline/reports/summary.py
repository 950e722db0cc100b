"""One row a slide: what ``summary.csv`` and ``summary.html`` say of a whole batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pipeline.reports.report import SlideReport

Value = str | float | bool | None

_HEAD = ("slide", "path", "status", "suggestion", "cells", "abnormal_cells")
_AREAS = ("cells_per_mm2", "slide_mm2", "screened_mm2", "unread_mm2", "mpp", "mpp_source")
_TAIL = (*_AREAS, "slide_score", "suspicious", "warnings", "error", "set_aside")
Status = Literal["complete", "failed", "pending", "not read"]


@dataclass(frozen=True)
class SummaryRow:
    """The outcome of one slide.

    Attributes:
        slide: the name of its folder below the output folder, with forward slashes.
        path: where the slide lies.
        status: "pending" is a slide that an interrupted run, or another shard, has not reached;
            "not read" a file that looks like a slide and is of a kind that isn't read.
        report: the report, for complete slides only.
        error: why it failed or isn't read; empty for the others.
    """

    slide: str
    path: str
    status: Status
    report: SlideReport | None = None
    error: str = ""


def summary_table(rows: Sequence[SummaryRow]) -> list[list[Value]]:
    """The rows of ``summary.csv``, its header first; a column for each class of any report."""
    names = list(dict.fromkeys(name for row in rows if row.report for name in row.report.counts))
    header: list[Value] = [*_HEAD, *names, *_TAIL]
    return [header, *([*_head(row), *_counts(row, names), *_tail(row)] for row in rows)]


def _head(row: SummaryRow) -> list[Value]:
    report = row.report
    if report is None:
        return [row.slide, row.path, row.status, None, None, None]
    cells = sum(report.counts.values())
    suggestion = report.suggestion.category
    return [row.slide, row.path, row.status, suggestion, cells, report.abnormal_cells]


def _counts(row: SummaryRow, names: Sequence[str]) -> list[Value]:
    return [row.report.counts.get(name) if row.report else None for name in names]


def _tail(row: SummaryRow) -> list[Value]:
    report = row.report
    if report is None:
        return [row.error if name == "error" else None for name in _TAIL]
    area = report.area
    return [
        report.cells_per_mm2,
        area.slide_mm2,
        area.screened_mm2,
        area.unread_mm2,
        report.slide.mpp,
        report.slide.mpp_source,
        report.suggestion.score,
        report.suggestion.suspicious,
        " | ".join(map(str, report.warnings)),
        row.error,
        report.suggestion.set_aside,
    ]
