"""``summary.html``: the work list of a batch, most suspicious slide first.

One page without data of its own but text: thumbnails and close-ups are files in the slides' folders
(`previews.py`), loaded when they come into sight. It works from a disk, without network or server.

The browser lays out some of the slides at a time, whole as they are written here; the page's script
turns over, searches, filters and orders all that it holds. Without scripts the first ones are
shown, which is told. A page holds five thousand slides; of more, it says what it lacks.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from markupsafe import Markup

from configs import Doubt
from configs.codes import REFUSALS, WARNINGS
from pipeline.cells.classes import class_colors, order_by_severity
from pipeline.reports.pages import hex_color, load_macros, relative_url, render_page
from pipeline.reports.previews import THUMBNAIL, best_name
from pipeline.reports.report import encodable
from pipeline.reports.slide_summary import Common, SlideSummary
from pipeline.reports.summary import SummaryRow
from pipeline.reports.worklist import FLAGS, Place, Reason, Section, Worklist, statuses

IMAGES = "'self' file:"
"""Where the page's pictures lie: beside it, on a disk as well as behind a server."""

MOST_REASONS = 20
"""Kinds of warnings, and of failures, that have a filter each."""

MOST_SLIDES = 5_000
"""Slides that a page holds: some 8 MB, which a browser opens in less than a second."""

LENGTHS = (100, 50, 250, 500)
"""Slides that are laid out at a time, the first where nobody chooses."""

_TITLES: Mapping[Section, tuple[str, str]] = {
    "ranked": ("Work list", ""),
    "unranked": (
        "Without a rank: look at these yourself",
        "The model's figures say nothing of these slides, neither that they are suspicious nor "
        "that they are not.",
    ),
    "failed": ("Failed", "Nothing is known of these slides. They are tried again at the next run."),
    "not read": ("Not read", "Files that look like slides, of kinds that are not read."),
    "pending": ("Not reached", "Slides that no run has reached yet, or of another shard."),
}
"""Heading of each section, and a word on it."""

_APART: tuple[Section, ...] = ("unranked", "failed", "not read")
"""What a person has to look at, or to mend: it goes before the least suspicious."""


@dataclass(frozen=True, slots=True)
class BestView:
    """A close-up: where it is, where it leads, and what is under it."""

    picture: str
    link: str
    label: str


@dataclass(frozen=True, slots=True)
class Entry:
    """A slide of the list.

    Attributes:
        place: where it stands, and its row.
        link: URL of its page; empty where it has none.
        thumbnail: URL of its picture; likewise.
        best: its best cells.
        color: of the class that is suggested; empty for none.
        counts: its abnormal cells by class, most severe first, as text.
    """

    place: Place
    link: str
    thumbnail: str
    best: tuple[BestView, ...]
    color: str
    counts: str

    @property
    def row(self) -> SummaryRow:
        """The slide."""
        return self.place.row

    @property
    def report(self) -> SlideSummary | None:
        """What its report says, if it is complete."""
        return self.place.row.report


@dataclass(frozen=True)
class Part:
    """A section of the page: its heading, a word on it, and its slides.

    Attributes:
        section: which.
        title: its heading.
        note: a word on it.
        places: the slides that the page holds, in order.
        total: how many there are.
    """

    section: Section
    title: str
    note: str
    places: Sequence[Place]
    total: int


@dataclass(frozen=True)
class PartView:
    """A section as HTML: its heading, and some of its slides."""

    section: Section
    heading: Markup
    slides: Sequence[Markup]


@dataclass(frozen=True)
class ReasonView:
    """A reason with what it means and what to do, where it has a code that tells.

    Attributes:
        reason: of all slides.
        here: how many of them the page holds.
        means: in words.
        todo: likewise.
    """

    reason: Reason
    here: int
    means: str
    todo: str


def render_summary(
    worklist: Worklist, doubts: Sequence[Doubt] = (), most: int = MOST_SLIDES, as_of: str = ""
) -> str:
    """The page of a batch.

    Args:
        worklist: all slides, in their order.
        doubts: what is to be told of the batch as a whole.
        most: slides that the page holds; see `choose`.
        as_of: how a run that goes on stands, in words; empty where none does.
    """
    parts = choose(worklist, most)
    held = [place for part in parts for place in part.places]
    total = len(worklist.places)
    macros = load_macros("summary_rows.html")
    headings = [Markup(macros.heading(part, _heading_id(part)).strip()) for part in parts]
    slides = [Markup(encodable(_compact(macros.slide(_entry(place))))) for place in held]
    here = Counter(key for place in held for key in (*place.flags, *place.reasons))
    return render_page(
        "summary.html",
        images=IMAGES,
        title="Screened slides",
        total=total,
        here=len(held),
        totals=statuses([place.row for place in worklist.places]),
        doubts=doubts,
        order=worklist.order,
        as_of=as_of,
        left_out=_left_out(parts, total) if len(held) < total else "",
        first=list(_first(parts, headings, slides)),
        shown=f"The first {LENGTHS[0]} of {len(held):,} slides" if len(held) > LENGTHS[0] else "",
        lengths=LENGTHS,
        data=_data(parts, headings, slides),
        flags={flag: (FLAGS[flag], here[flag], count) for flag, count in worklist.flags.items()},
        reasons={
            kind: _most_common([one for one in worklist.reasons if one.kind == kind], here)
            for kind in ("warning", "failed", "not read")
        },
    )


def choose(worklist: Worklist, most: int) -> list[Part]:
    """The sections of the page, each with the slides that it holds.

    Where there are too many slides, it is first those that a person has to look at or to mend that
    are held, up to half of the page or what the work list leaves; then the most suspicious; then,
    if there is room, those that were not reached.
    """
    places = {section: worklist.of(section) for section in _TITLES}
    room = max(most - most // 2, most - len(places["ranked"]))
    held: dict[Section, Sequence[Place]] = {}
    for section in _APART:
        held[section] = places[section][:room]
        room -= len(held[section])
    left = most - sum(map(len, held.values()))
    for section in ("ranked", "pending"):
        held[section] = places[section][:left]
        left -= len(held[section])
    return [
        Part(section, title, note, held[section], len(places[section]))
        for section, (title, note) in _TITLES.items()
        if places[section]
    ]


def _left_out(parts: Sequence[Part], total: int) -> str:
    """What the page lacks, in words."""
    held = sum(len(part.places) for part in parts)
    cut = [
        f"{len(part.places):,} of {part.total:,} under “{part.title.partition(':')[0]}”"
        for part in parts
        if len(part.places) < part.total
    ]
    return (
        f"This page holds {held:,} of {total:,} slides, of each kind the first: "
        f"{', '.join(cut)}. Search, filters and order go by these; summary.csv has all."
    )


def _heading_id(part: Part) -> str:
    return f"part-{part.section.replace(' ', '-')}"


def _first(
    parts: Sequence[Part], headings: Sequence[Markup], slides: Sequence[Markup]
) -> Iterator[PartView]:
    """What is shown before the script runs, or without it."""
    begin, left = 0, LENGTHS[0]
    for part, heading in zip(parts, headings, strict=True):
        shown = slides[begin : begin + min(left, len(part.places))]
        if shown:
            yield PartView(part.section, heading, shown)
        begin, left = begin + len(part.places), left - len(shown)


def _data(parts: Sequence[Part], headings: Sequence[Markup], slides: Sequence[Markup]) -> str:
    """What the script goes by, as JSON that can't end the element that it stands in.

    A slide is its section's place, what it is filtered by, cells and area that it is ordered by,
    its name, and its HTML.
    """
    told = []
    numbered = [(number, place) for number, part in enumerate(parts) for place in part.places]
    for (number, place), html in zip(numbered, slides, strict=True):
        row, report = place.row, place.row.report
        by = (report.abnormal_cells, report.screened_mm2) if report else (-1, -1)
        found_by = " ".join((*place.flags, *place.reasons))
        told.append((number, found_by, *by, encodable(row.slide), html))
    sections = [
        (part.section.replace(" ", "-"), heading)
        for part, heading in zip(parts, headings, strict=True)
    ]
    text = json.dumps({"parts": sections, "slides": told}, separators=(",", ":"))
    return text.replace("</", "<\\/").replace("<!--", "\\u003c!--")


def _compact(html: str) -> str:
    """Without what lies between lines: of a page of thousands of slides it is a tenth."""
    return "\n".join(line for line in map(str.strip, html.splitlines()) if line)


def _entry(place: Place) -> Entry:
    row, report = place.row, place.row.report
    return Entry(
        place=place,
        link=relative_url(row.slide, "report.html") if report else "",
        thumbnail=relative_url(row.slide, THUMBNAIL) if report and report.thumbnail else "",
        best=tuple(_best(row)),
        color=_colors(report.common).get(report.category, "")
        if report and report.level == "class"
        else "",
        counts=_counts(report) if report else "",
    )


def _best(row: SummaryRow) -> Iterator[BestView]:
    for place, cell in enumerate(row.report.best if row.report else ()):
        yield BestView(
            picture=relative_url(row.slide, best_name(place)),
            link=f"{relative_url(row.slide, 'report.html')}#cell-{cell.id}",
            label=f"{cell.name} {cell.score:.2f}",
        )


@cache
def _colors(common: Common) -> Mapping[str, str]:
    """Of each class."""
    colors = zip(common.classes, class_colors(common.classes), strict=True)
    return {c.name: hex_color(color) for c, color in colors}


@cache
def _abnormal(common: Common) -> Sequence[tuple[str, int]]:
    """Names of abnormal classes that are counted, most severe first, and the places of counts."""
    ordered = [common.classes[i] for i in order_by_severity(common.classes)]
    names = [c.name for c in ordered if c.abnormal and c.name in common.names]
    return [(name, common.names.index(name)) for name in names]


def _counts(report: SlideSummary) -> str:
    found = [(name, report.counts[index]) for name, index in _abnormal(report.common)]
    return " · ".join(f"{name} {count:,}" for name, count in found if count)


def _most_common(
    reasons: Sequence[Reason], here: Mapping[str, int]
) -> tuple[list[ReasonView], int]:
    """Those that have a filter of their own, and how many others there are."""
    shown = [_explain(reason, here[reason.key]) for reason in reasons[:MOST_REASONS]]
    return shown, len(reasons) - len(shown)


def _explain(reason: Reason, here: int) -> ReasonView:
    entry = WARNINGS.get(reason.code) or REFUSALS.get(reason.code)
    if entry is None:
        return ReasonView(reason, here, reason.text, "")
    return ReasonView(reason, here, entry.means, entry.todo)
