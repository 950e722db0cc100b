"""In which order slides are to be looked at, what sets some apart, and what went wrong with which.

The rule, told wherever the order is seen:

1. Complete slides are ranked, most suspicious first: by the slide rule's score where all of them
   have one. Else those of which a category is suggested come first, since it stands for more than
   chance explains, though it may be few cells of one class; and of either kind those with the most
   abnormal cells beyond what the model reports by chance, (found - expected) / screened mm2. Where
   nobody knows what is to be expected, nothing is taken to be, so that such a slide stands rather
   too high than too low. What lies below chance says nothing more: these go by the density of
   abnormal cells as it is, and equal ones by name.
2. Slides of which the model's figures say nothing have no rank: those that are none of its domain,
   or no picture that it knows, and those of which nothing was screened. A person has to look.
3. Failed slides, files that are not read, and slides that were not reached follow.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from configs.doubts import split_code
from pipeline.reports.report import why_no_smear
from pipeline.reports.slide_summary import SlideSummary
from pipeline.reports.summary import Status, SummaryRow
from pipeline.slides.readers.base import show

Section = Literal["ranked", "unranked", "failed", "not read", "pending"]

Basis = Literal["score", "excess"]
"""What the order goes by."""

FLAGS: Mapping[str, str] = {
    "suggested": "A category is suggested",
    "suspicious": "Suspicious by the slide rule",
    "set-aside": "May be set aside by the slide rule",
    "outside": "Out of the model's domain",
    "strange": "Too dark, tinted or grey",
    "inadequate": "Suggested as unsatisfactory",
    "unread": "Partly unread",
    "unscreened": "Nothing screened",
    "warned": "With warnings",
    "failed": "Failed",
    "not-read": "Not read",
    "pending": "Not reached",
}
"""What slides are filtered by, and how that is called."""

_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")


@dataclass(frozen=True, slots=True)
class Place:
    """A slide's place in the work list.

    Attributes:
        row: the slide.
        section: the part of the list that it stands in.
        rank: from 1; None for slides that have none.
        excess: abnormal cells per mm2 beyond those expected by chance; may be below 0. None where
            nothing was screened, or the figures say nothing.
        unranked: why a complete slide has no rank; empty for the others.
        flags: keys of `FLAGS`.
        reasons: keys of the `Reason`s of the list that hold for it.
    """

    row: SummaryRow
    section: Section
    rank: int | None
    excess: float | None
    unranked: str
    flags: tuple[str, ...]
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Reason:
    """Something that several slides have in common: a warning, or why they failed.

    Attributes:
        key: of the list, for links and filters.
        kind: "warning", or the status of the slides.
        code: the stable one; empty for damage of no known kind.
        text: of the first such slide.
        slides: how many.
    """

    key: str
    kind: Literal["warning", "failed", "not read"]
    code: str
    text: str
    slides: int


@dataclass(frozen=True)
class Worklist:
    """All slides in their order, most suspicious first, and what went wrong.

    Attributes:
        basis: what the ranked ones are ordered by.
        some_unexpected: whether for some of these nobody knows what chance would report.
        places: in order.
        reasons: warnings, then failures; the most common first.
    """

    basis: Basis
    some_unexpected: bool
    places: tuple[Place, ...]
    reasons: tuple[Reason, ...]

    @property
    def order(self) -> str:
        """The order in words."""
        if self.basis == "score":
            return "most suspicious first: by the slide rule's calibrated score"
        text = (
            "most suspicious first: those with a suggested category, then the others; either by "
            "abnormal cells per mm² beyond those that the model reports by chance"
        )
        if self.some_unexpected:
            text += " (none is taken as expected where that is not known)"
        return text

    def of(self, section: Section) -> list[Place]:
        """The places of one section."""
        return [place for place in self.places if place.section == section]

    @property
    def flags(self) -> dict[str, int]:
        """How many slides have each flag, in the order of `FLAGS`; without those of none."""
        counts = Counter(flag for place in self.places for flag in place.flags)
        return {flag: counts[flag] for flag in FLAGS if counts[flag]}


def order_slides(rows: Sequence[SummaryRow]) -> Worklist:
    """Puts the slides of a batch into the order in which they are to be looked at."""
    ranked = [row for row in rows if row.report and not why_unranked(row.report)]
    reports = [row.report for row in ranked if row.report]
    by_score = bool(reports) and all(r.score is not None for r in reports)
    basis: Basis = "score" if by_score else "excess"
    ranked.sort(key=lambda row: _suspicion(row, basis))
    ranks = {id(row): rank for rank, row in enumerate(ranked, 1)}
    rest = [row for row in rows if id(row) not in ranks]
    rest.sort(key=lambda row: list(_SECTIONS).index(_section(row)))  # stable: else as they came
    reasons = _Reasons()
    places = [_place(row, ranks.get(id(row)), reasons) for row in (*ranked, *rest)]
    unexpected = basis == "excess" and any(report.expected is None for report in reports)
    return Worklist(basis, unexpected, tuple(places), tuple(reasons.sorted()))


_SECTIONS: tuple[Section, ...] = ("ranked", "unranked", "failed", "not read", "pending")


def why_unranked(report: SlideSummary) -> str:
    """Why a slide has no rank; empty where it has one."""
    if strange := why_no_smear(report.warnings):
        return strange
    return "" if report.screened_mm2 else "nothing of it was screened"


def excess_density(report: SlideSummary) -> float | None:
    """Abnormal cells per mm2 beyond those expected by chance; see `Place.excess`."""
    if why_unranked(report):
        return None
    beyond = report.abnormal_cells - (report.expected or 0.0)
    return round(beyond / report.screened_mm2, 3)


def _suspicion(row: SummaryRow, basis: Basis) -> tuple[bool, float, float, str]:
    """Sorts the most suspicious first."""
    report = row.report
    assert report is not None
    density = report.abnormal_cells / report.screened_mm2
    if basis == "score":
        return False, -(report.score or 0.0), -density, row.slide
    beyond = max(0.0, excess_density(report) or 0.0)
    return report.level is None, -beyond, -density, row.slide


def _section(row: SummaryRow) -> Section:
    if row.report is None:
        return "pending" if row.status == "complete" else row.status
    return "unranked" if why_unranked(row.report) else "ranked"


def _place(row: SummaryRow, rank: int | None, reasons: _Reasons) -> Place:
    report = row.report
    return Place(
        row=row,
        section=_section(row),
        rank=rank,
        excess=excess_density(report) if report else None,
        unranked=why_unranked(report) if report else "",
        flags=tuple(_flags(row)),
        reasons=tuple(dict.fromkeys(reasons.of(row))),
    )


def _flags(row: SummaryRow) -> Iterator[str]:
    report = row.report
    if report is None:
        yield row.status.replace(" ", "-")
        return
    codes = {doubt.code for doubt in report.warnings}
    holds = {
        "suggested": report.level is not None,
        "suspicious": report.suspicious is True,
        "set-aside": report.set_aside is True,
        "outside": "out-of-domain" in codes,
        "strange": why_no_smear(report.warnings) is not None and "out-of-domain" not in codes,
        "inadequate": report.satisfactory is False,
        "unread": report.unread_mm2 > 0,
        "unscreened": not report.screened_mm2,
        "warned": bool(report.warnings),
    }
    yield from (flag for flag, is_so in holds.items() if is_so)


class _Reasons:
    """Collects what slides have in common."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str], Reason] = {}
        self._slides: Counter[str] = Counter()

    def of(self, row: SummaryRow) -> Iterator[str]:
        """Keys of what holds for a slide, each once."""
        if row.report is not None:
            told = {doubt.code: doubt.text for doubt in reversed(row.report.warnings)}
            yield from (self._key("warning", code, text, code) for code, text in told.items())
        elif row.status == "failed" or row.status == "not read":
            text, code = _split(row)
            # Of damage the numbers differ from slide to slide, not the reason.
            yield self._key(row.status, code, text, code or _NUMBER.sub("0", text))

    def _key(
        self, kind: Literal["warning", "failed", "not read"], code: str, text: str, alike: str
    ) -> str:
        known = self._found.get((kind, alike))
        key = known.key if known else f"r{len(self._found)}"
        if known is None:
            self._found[kind, alike] = Reason(key, kind, code, text, 0)
        self._slides[key] += 1
        return key

    def sorted(self) -> list[Reason]:
        """Warnings, failures, what is not read; of each the most common first."""
        kinds = ("warning", "failed", "not read")
        told = [replace(r, slides=self._slides[r.key]) for r in self._found.values()]
        return sorted(told, key=lambda r: (kinds.index(r.kind), -r.slides, r.code, r.text))


def _split(row: SummaryRow) -> tuple[str, str]:
    """An error without the slide's name before it, and its code."""
    return split_code(row.error.removeprefix(f"{show(row.path)}: "))


def statuses(rows: Sequence[SummaryRow]) -> dict[Status, int]:
    """How many slides there are of each status; without those of none."""
    counts = Counter(row.status for row in rows)
    known: tuple[Status, ...] = ("complete", "failed", "pending", "not read")
    return {status: counts[status] for status in known if counts[status]}
