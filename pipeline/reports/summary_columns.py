"""The columns of ``summary.csv`` and of the slides in ``summary.xlsx``, with what each says.

Columns are only ever added behind the others. ``docs/reference/files.md`` tells of all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from pipeline.reports.slide_summary import SlideSummary
from pipeline.reports.worklist import Place

Value = str | float | bool | None

Kind = Literal["text", "count", "figure", "score", "flag"]
"""How a value is shown: a figure has two decimals, a score has three."""


@dataclass(frozen=True)
class Column:
    """A column of the summary.

    Attributes:
        name: in the header.
        meaning: one line for the tables' documentation.
        of: the value of a slide; None for an empty cell.
        kind: how it is shown where there are formats.
    """

    name: str
    meaning: str
    of: Callable[[Place], Value]
    kind: Kind = "text"


def _reported(of: Callable[[SlideSummary], Value]) -> Callable[[Place], Value]:
    """A value of the report; none where there is no report."""
    return lambda place: of(place.row.report) if place.row.report else None


_HEAD = (
    Column("slide", "name of the slide's folder beside this file", lambda p: p.row.slide),
    Column("path", "where the slide lies", lambda p: p.row.path),
    Column("status", "complete, failed, pending (not reached) or not read", lambda p: p.row.status),
    Column(
        "suggestion",
        "suggested category, or why there is none",
        _reported(lambda r: r.category),
    ),
    Column(
        "cells",
        "cells at or above threshold, of all classes",
        _reported(lambda r: r.cells),
        "count",
    ),
    Column(
        "abnormal_cells",
        "those of them that are of an abnormal class",
        _reported(lambda r: r.abnormal_cells),
        "count",
    ),
)

_AREAS = (
    Column(
        "cells_per_mm2",
        "cells by screened area; empty where nothing was screened",
        _reported(lambda r: r.cells_per_mm2),
        "figure",
    ),
    Column(
        "slide_mm2",
        "the scanned part of the slide",
        _reported(lambda r: r.slide_mm2),
        "figure",
    ),
    Column(
        "screened_mm2",
        "what the detector has seen of it",
        _reported(lambda r: r.screened_mm2),
        "figure",
    ),
    Column(
        "unread_mm2",
        "wanted, but the file could not be read there",
        _reported(lambda r: r.unread_mm2),
        "figure",
    ),
    Column("mpp", "µm per level-0 pixel", _reported(lambda r: r.mpp), "score"),
    Column(
        "mpp_source",
        "who says so: file, argument, override, table, or estimate",
        _reported(lambda r: r.mpp_source),
    ),
)

_JUDGED = (
    Column(
        "slide_score",
        "how suspicious it is by the slide rule; empty without one",
        _reported(lambda r: r.score),
        "score",
    ),
    Column(
        "suspicious",
        "whether the score reaches the rule's threshold; empty where nobody can say",
        _reported(lambda r: r.suspicious),
        "flag",
    ),
    Column(
        "warnings",
        "what is odd about it, each with its code",
        _reported(lambda r: " | ".join(map(str, r.warnings))),
    ),
    Column("error", "why it failed or is not read", lambda p: p.row.error),
    Column(
        "set_aside",
        "whether it may be set aside by the slide rule; empty where that is open",
        _reported(lambda r: r.set_aside),
        "flag",
    ),
)

_WORKLIST = (
    Column(
        "rank",
        "place in the work list, 1 is the most suspicious; empty for slides that have none",
        lambda p: p.rank,
        "count",
    ),
    Column(
        "excess_per_mm2",
        "abnormal cells per screened mm² beyond those expected by chance (taken as 0 where that is "
        "not known); below 0 where there are fewer; empty where the figures say nothing",
        lambda p: p.excess,
        "figure",
    ),
    Column(
        "level",
        "how fine the suggestion is: class, grade or abnormal; empty where there is none",
        _reported(lambda r: r.level),
    ),
    Column(
        "grade",
        "low grade or high grade, of the suggestion; empty for one of neither",
        _reported(lambda r: r.grade or None),
    ),
    Column(
        "low_grade_cells",
        "cells of low grade; empty where the model has no such class",
        _reported(lambda r: r.low_grade),
        "count",
    ),
    Column(
        "high_grade_cells",
        "cells of high grade; likewise",
        _reported(lambda r: r.high_grade),
        "count",
    ),
    Column(
        "domain",
        "whether its cells look like the model's own: within, outside, or unknown (too few); empty "
        "where that was not checked",
        _reported(lambda r: r.domain),
    ),
    Column(
        "domain_reason",
        "what differs, or why nothing can be told",
        _reported(lambda r: r.domain_reason),
    ),
    Column(
        "unranked_reason",
        "why a complete slide has no rank: a person has to look at it",
        lambda p: p.unranked or None,
    ),
    Column(
        "adequacy",
        "suggested as satisfactory or unsatisfactory, or no verdict",
        _reported(lambda r: r.adequacy),
    ),
    Column("adequacy_reason", "why", _reported(lambda r: r.adequacy_reason)),
    Column(
        "set_aside_reason",
        "why it may be set aside, may not, or why that is open; empty without such a rule",
        _reported(lambda r: r.set_aside_reason),
    ),
    Column(
        "out_of_focus_share",
        "share of the squares of 128 µm with stain that is out of focus; empty where none could be "
        "measured",
        _reported(lambda r: r.out_of_focus),
        "figure",
    ),
)

COLUMNS = (*_HEAD, *_AREAS, *_JUDGED, *_WORKLIST)
"""All that every summary has, in order; behind ``abnormal_cells`` comes a column for each class."""


def summary_columns(places: Iterable[Place]) -> list[Column]:
    """The columns of these slides, with one for each class of any report."""
    names = dict.fromkeys(n for p in places if p.row.report for n in p.row.report.common.names)
    return [*_HEAD, *map(_class_column, names), *_AREAS, *_JUDGED, *_WORKLIST]


def summary_table(places: Sequence[Place]) -> Iterator[list[Value]]:
    """The rows of ``summary.csv``, its header first, in the order of the places."""
    columns = summary_columns(places)
    yield [column.name for column in columns]
    for place in places:
        yield [column.of(place) for column in columns]


def _class_column(name: str) -> Column:
    return Column(
        name,
        "cells of this class at or above its threshold",
        _reported(lambda r: r.count_of(name)),
        "count",
    )
