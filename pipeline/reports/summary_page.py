"""``summary.html``: the work list of a batch, most suspicious slide first.

One page without data of its own but text: thumbnails and close-ups are files in the slides' folders
(`previews.py`), loaded when they come into sight, so that thousands of slides stay a few megabytes.
It works from a disk, without network or server; without scripts everything is shown, unfiltered.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from configs import Doubt
from configs.codes import REFUSALS, WARNINGS
from pipeline.cells.classes import class_colors, order_by_severity
from pipeline.reports.pages import hex_color, relative_url, render_page
from pipeline.reports.previews import THUMBNAIL, best_name
from pipeline.reports.report import SlideReport
from pipeline.reports.summary import SummaryRow
from pipeline.reports.worklist import FLAGS, Place, Reason, Section, Worklist, statuses

IMAGES = "'self' file:"
"""Where the page's pictures lie: beside it, on a disk as well as behind a server."""

MOST_REASONS = 20
"""Kinds of warnings, and of failures, that have a filter each."""

_TITLES: Mapping[Section, tuple[str, str]] = {
    "ranked": ("Work list", ""),
    "unranked": (
        "Without a rank: look at these yourself",
        "The model's figures say nothing of these slides, neither that they are suspicious nor "
        "that they are not.",
    ),
    "failed": ("Failed", "Nothing is known of these slides. They are tried again at the next run."),
    "not read": ("Not read", "Files that look like slides, of kinds that are not read."),
    "pending": ("Not reached", "Slides of an interrupted run, or of another shard."),
}
"""Heading of each section, and a word on it."""


@dataclass(frozen=True)
class BestCell:
    """A close-up: where it is, where it leads, and what is under it."""

    picture: str
    link: str
    label: str


@dataclass(frozen=True)
class Entry:
    """A slide of the list.

    Attributes:
        place: where it stands, and its row.
        link: URL of its page; empty where it has none.
        thumbnail: URL of its picture; likewise.
        best: its best cells.
        color: of the class that is suggested; empty for none.
        counts: its abnormal cells by class, most severe first, as text.
        filters: what it is found by, for the page's script.
    """

    place: Place
    link: str
    thumbnail: str
    best: tuple[BestCell, ...]
    color: str
    counts: str
    filters: str

    @property
    def row(self) -> SummaryRow:
        """The slide."""
        return self.place.row

    @property
    def report(self) -> SlideReport | None:
        """Its report, if it is complete."""
        return self.place.row.report


@dataclass(frozen=True)
class Part:
    """A section of the page: its heading, a word on it, and its slides."""

    section: Section
    title: str
    note: str
    entries: Sequence[Entry]


@dataclass(frozen=True)
class ReasonView:
    """A reason with what it means and what to do, where it has a code that tells."""

    reason: Reason
    means: str
    todo: str


def render_summary(worklist: Worklist, doubts: Sequence[Doubt] = ()) -> str:
    """The page of a batch.

    Args:
        worklist: all slides, in their order.
        doubts: what is to be told of the batch as a whole.
    """
    rows = [place.row for place in worklist.places]
    parts = [
        Part(section, title, note, [_entry(place) for place in worklist.of(section)])
        for section, (title, note) in _TITLES.items()
    ]
    return render_page(
        "summary.html",
        images=IMAGES,
        title="Screened slides",
        total=len(rows),
        totals=statuses(rows),
        doubts=doubts,
        order=worklist.order,
        parts=[part for part in parts if part.entries],
        flags={flag: (FLAGS[flag], count) for flag, count in worklist.flags.items()},
        reasons={
            kind: _most_common([one for one in worklist.reasons if one.kind == kind])
            for kind in ("warning", "failed", "not read")
        },
    )


def _entry(place: Place) -> Entry:
    row, report = place.row, place.row.report
    preview = report.preview if report else None
    return Entry(
        place=place,
        link=relative_url(row.slide, "report.html") if report else "",
        thumbnail=relative_url(row.slide, THUMBNAIL) if preview and preview.thumbnail else "",
        best=tuple(_best(row)),
        color=_color(report) if report else "",
        counts=_counts(report) if report else "",
        filters=" ".join((*place.flags, *place.reasons)),
    )


def _best(row: SummaryRow) -> Iterator[BestCell]:
    preview = row.report.preview if row.report else None
    for place, cell in enumerate(preview.cells if preview else ()):
        yield BestCell(
            picture=relative_url(row.slide, best_name(place)),
            link=f"{relative_url(row.slide, 'report.html')}#cell-{cell.id}",
            label=f"{cell.name} {cell.score:.2f}",
        )


def _color(report: SlideReport) -> str:
    """Of the suggested class; none for a grade."""
    classes = report.model.classes
    colors = zip(classes, class_colors(classes), strict=True)
    named = {c.name: hex_color(color) for c, color in colors}
    return named.get(report.suggestion.category, "") if report.suggestion.level == "class" else ""


def _counts(report: SlideReport) -> str:
    classes = [report.model.classes[i] for i in order_by_severity(report.model.classes)]
    found = [(c.name, report.counts.get(c.name, 0)) for c in classes if c.abnormal]
    return " · ".join(f"{name} {count:,}" for name, count in found if count)


def _most_common(reasons: Sequence[Reason]) -> tuple[list[ReasonView], int]:
    """Those that have a filter of their own, and how many others there are."""
    shown = [_explain(reason) for reason in reasons[:MOST_REASONS]]
    return shown, len(reasons) - len(shown)


def _explain(reason: Reason) -> ReasonView:
    entry = WARNINGS.get(reason.code) or REFUSALS.get(reason.code)
    if entry is None:
        return ReasonView(reason, reason.text, "")
    return ReasonView(reason, entry.means, entry.todo)
