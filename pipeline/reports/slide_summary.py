"""What a list of slides needs of a report: flat, small, and quick to keep and to read back.

A report is ten kilobytes of JSON, and several times as much in memory; of a hundred thousand slides
nobody can hold them. Summary, work list and their page go by this instead. What slides of one
recipe have in common is held once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from configs.doubts import with_code
from pipeline.cells.classes import ABNORMAL, HIGH_GRADE, LOW_GRADE, CellClass, grade_of
from pipeline.reports.report import SlideReport
from pipeline.reports.triage import Level, Suggestion

Domain = Literal["within", "outside", "unknown"]


class Common(NamedTuple):
    """What slides of one recipe have in common.

    Attributes:
        classes: of the model.
        names: of the classes that are counted, in the order of the counts.
    """

    classes: tuple[CellClass, ...]
    names: tuple[str, ...]


class Note(NamedTuple):
    """A warning: as `configs.Doubt`, of a report that was checked when it was made."""

    code: str
    text: str

    def __str__(self) -> str:
        return with_code(self.text, self.code)


class BestCell(NamedTuple):
    """A cell of which a close-up lies beside the report; as `PreviewCell`."""

    id: int
    name: str
    score: float


class SlideSummary(NamedTuple):
    """A slide's report, as far as a list of slides needs it.

    Attributes:
        common: what others of its recipe say, too.
        category: suggested, or why there is none.
        level: how fine it is; None where none is suggested.
        grade: "low grade" or "high grade", of the suggestion; empty for one of neither.
        score: how suspicious the slide is by a calibrated rule; None without one.
        suspicious: whether the score reaches the rule's threshold; None where nobody can say.
        set_aside: whether it may be set aside; None where that is open.
        set_aside_reason: why, or why that is open; None without such a rule.
        why: what carries the suggestion, or why there is none, in words.
        counts: cells at or above threshold, by class.
        abnormal_cells: of all abnormal classes.
        low_grade: cells of low grade; None where the model has no such class.
        high_grade: likewise.
        cells_per_mm2: None where nothing was screened.
        slide_mm2: the scanned part.
        screened_mm2: what the detector has seen of it.
        unread_mm2: wanted, but not readable.
        out_of_focus: share of what could be measured; None where nothing could, or nobody looked.
        mpp: µm per level-0 pixel.
        mpp_source: who says so.
        chance_known: whether anybody knows what the model reports by chance.
        expected: abnormal cells that it would report by chance; None where that is not known.
        domain: whether its cells look like the model's own; None where that was not checked.
        domain_reason: what differs, or why nothing can be told.
        satisfactory: whether there is enough to judge; None for no verdict.
        adequacy_reason: why.
        warnings: in the report's order.
        thumbnail: whether there is a picture of the whole slide beside the report.
        best: its best cells, of which there are close-ups.
    """

    common: Common
    category: str
    level: Level | None
    grade: str
    score: float | None
    suspicious: bool | None
    set_aside: bool | None
    set_aside_reason: str | None
    why: str
    counts: tuple[int, ...]
    abnormal_cells: int
    low_grade: int | None
    high_grade: int | None
    cells_per_mm2: float | None
    slide_mm2: float
    screened_mm2: float
    unread_mm2: float
    out_of_focus: float | None
    mpp: float
    mpp_source: str
    chance_known: bool
    expected: float | None
    domain: Domain | None
    domain_reason: str | None
    satisfactory: bool | None
    adequacy_reason: str
    warnings: tuple[Note, ...]
    thumbnail: bool
    best: tuple[BestCell, ...]

    @staticmethod
    def of(report: SlideReport, common: Common | None = None) -> SlideSummary:
        """The same of a report.

        Args:
            report: of the slide; its cells and pictures don't matter.
            common: taken instead of an equal one of its own, so that many slides share it.
        """
        suggestion, area, adequacy = report.suggestion, report.area, report.adequacy
        own = Common(report.model.classes, tuple(report.counts))
        finding = report.expectation.groups.get(ABNORMAL) if report.expectation else None
        domain, preview = report.domain, report.preview
        blurred = report.quality.out_of_focus if report.quality else None
        return SlideSummary(
            common=common if common == own else own,
            category=suggestion.category,
            level=suggestion.level,
            grade=_grade(suggestion, report.model.classes),
            score=suggestion.score,
            suspicious=suggestion.suspicious,
            set_aside=suggestion.set_aside,
            set_aside_reason=suggestion.set_aside_reason,
            why=suggestion.why or suggestion.rule,
            counts=tuple(report.counts.values()),
            abnormal_cells=report.abnormal_cells,
            low_grade=report.levels.get(LOW_GRADE),
            high_grade=report.levels.get(HIGH_GRADE),
            cells_per_mm2=report.cells_per_mm2,
            slide_mm2=area.slide_mm2,
            screened_mm2=area.screened_mm2,
            unread_mm2=area.unread_mm2,
            out_of_focus=blurred.share if blurred else None,
            mpp=report.slide.mpp,
            mpp_source=report.slide.mpp_source,
            chance_known=report.expectation is not None,
            expected=finding.expected if finding else None,
            domain=_DOMAIN[domain.within] if domain else None,
            domain_reason=domain.reason if domain else None,
            satisfactory=adequacy.satisfactory,
            adequacy_reason=adequacy.reason,
            warnings=tuple(Note(doubt.code, doubt.text) for doubt in report.warnings),
            thumbnail=preview is not None and preview.thumbnail,
            best=tuple(BestCell(c.id, c.name, c.score) for c in preview.cells) if preview else (),
        )

    @property
    def cells(self) -> int:
        """Cells of all classes."""
        return sum(self.counts)

    @property
    def codes(self) -> tuple[str, ...]:
        """The codes of its warnings, each once."""
        return tuple(dict.fromkeys(note.code for note in self.warnings))

    @property
    def adequacy(self) -> str:
        """Whether there is enough to judge, in words."""
        return _ADEQUACY[self.satisfactory]

    def count_of(self, name: str) -> int | None:
        """Cells of a class; None where the model has no such class."""
        names = self.common.names
        return self.counts[names.index(name)] if name in names else None


_DOMAIN: Mapping[bool | None, Domain] = {True: "within", False: "outside", None: "unknown"}

_ADEQUACY = {True: "satisfactory", False: "unsatisfactory", None: "no verdict"}


def _grade(suggestion: Suggestion, classes: Sequence[CellClass]) -> str:
    if suggestion.level == "grade":
        return suggestion.category
    if suggestion.level != "class":
        return ""
    named = next((c for c in classes if c.name == suggestion.category), None)
    return grade_of(named) if named else ""
