"""The report of one slide: ``report.json`` as a pydantic model, and how it is put together.

The published JSON Schema is ``schema/report.schema.json``; after a change here write it anew with
``python -m pipeline.reports.report``.
"""

from __future__ import annotations

import json
import os
import platform
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self, get_args

import numpy as np
from pydantic import (
    ConfigDict,
    Field,
    JsonValue,
    PrivateAttr,
    ValidationError,
    model_validator,
)

from configs import ConfigError, Doubt, StrictModel
from models.card import Accuracy, FalseAlarms
from pipeline.cells.classes import CellClass, by_level, is_abnormal
from pipeline.cells.domain import DomainFinding
from pipeline.geometry import Boxes, Detections, Rect, Size
from pipeline.reports.adequacy import (
    Adequacy,
    AdequacySettings,
    Specimen,
    assess,
    not_assessed,
)
from pipeline.reports.expectation import (
    Expectation,
    expect_cells,
    is_beyond_chance,
    other_thresholds,
    why_not,
)
from pipeline.reports.pictures import Pictures
from pipeline.reports.planes import PlaneFacts, count_planes
from pipeline.reports.previews import Preview, describe_preview
from pipeline.reports.quality import FaultMap, FaultName, Quality
from pipeline.reports.rule_out import why_unsure
from pipeline.reports.slide_rule import SlideRule
from pipeline.reports.triage import (
    Suggestion,
    TriageSettings,
    suggest,
    suggest_by_cells,
    why_beside,
)
from pipeline.slides.readers.base import Fact, show

if TYPE_CHECKING:
    from pipeline.reports.detections import Kept
    from pipeline.slides.slide import Slide

Notice = Literal[
    "Research use only. Not a medical device; not for diagnosis. "
    "Findings require review by a qualified cytologist."
]
NOTICE: Notice = get_args(Notice)[0]

SCHEMA = Path(__file__).parent / "schema" / "report.schema.json"

_NO_SMEAR = frozenset({"out-of-domain", "too-dark", "tinted-glass", "grey"})
"""Warnings of pictures on which the model's own figures say nothing."""

_SOFTWARE = (
    "cytolibra",
    "torch",
    "torchvision",
    "openvino",
    "numpy",
    "openslide-python",
    "openslide-bin",
    "tifffile",
    "imagecodecs",
    "pillow",
)


class _Part(StrictModel):
    """A part of the report: strict JSON, so no NaN and no infinity."""

    model_config = ConfigDict(allow_inf_nan=False)


class SlideFacts(_Part):
    """The slide that was screened."""

    path: str = Field(description="as it was given or found")
    format: str = Field(description="vendor or container, such as aperio")
    width: int = Field(ge=1, description="level-0 pixels")
    height: int = Field(ge=1, description="level-0 pixels")
    mpp: float = Field(gt=0, description="µm per level-0 pixel")
    mpp_source: Literal["file", "argument", "override", "table", "estimate"] = Field(
        description="who says so; estimate: nobody, it was estimated from the cells"
    )
    objective: float | None = Field(description="nominal magnification, where the file tells it")
    reader: str = Field("", description="library that decoded its pixels; empty in older reports")
    facts: tuple[Fact, ...] = Field((), description="what was settled about it, and by whom")
    bounds: tuple[int, int, int, int] | None = Field(
        None,
        description="x, y, width, height of the part that was scanned, in level-0 pixels of the "
        "whole slide; null where that is all of it. Frames: QuPath crops the slide to its bounds, "
        "so cells.geojson has their top left as its origin; report.json and cells.csv have the "
        "whole slide's, x_um and y_um too",
    )


class GraderFacts(_Part):
    """The grader that looks again at what the detector found."""

    name: str
    sha256: str = Field(description="of its weights' file, or of its int8 graph")
    mpp: float = Field(gt=0, description="µm per pixel that it looks at")
    precision: str = Field(description="that it computes in")
    threshold_alone: dict[str, float] = Field(
        description="least score, by class, of cells that it did not look at: the detector's own"
    )


class LookFacts(_Part):
    """How much of what a detector saw on the slide was looked at again."""

    candidates: int = Field(ge=0, description="places where it saw anything from the floor on")
    looked_at: int = Field(
        ge=0, description="the most suspicious of them, with grades in cells.csv"
    )
    unread: int = Field(ge=0, description="chosen, but the file could not be read there")
    abnormal_by_detector: int = Field(
        ge=0,
        description="cells reported as abnormal that were not looked at again: scores and "
        "thresholds of these are the detector's, and don't compare with the others",
    )


class DetectionFacts(_Part):
    """How much ``detections.npz`` holds of what the network found, for other thresholds."""

    kept: int = Field(ge=0, description="findings, or places where a second look could have been")
    dropped: int = Field(ge=0, description="those that were too many, the least sure")
    complete_from: dict[str, float] = Field(
        description="score, by class, from which on nothing is missing: a lower threshold needs "
        "the network"
    )


class ModelFacts(_Part):
    """The detector that found the cells."""

    name: str
    sha256: str | None = Field(description="of the weights' file; null for a model made in memory")
    classes: tuple[CellClass, ...]
    mpp: float = Field(gt=0, description="µm per pixel that the model looks at")
    threshold: dict[str, float] = Field(
        description="least score that is reported, by class; after the second look if there is one"
    )
    second_look: GraderFacts | None = Field(
        None, description="the grader that looks again; null for the detector alone"
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        names = [one.name for one in self.classes]
        if not names or len(set(names)) < len(names):
            raise ValueError("it has no classes, or one of them twice")
        if set(self.threshold) != set(names):
            raise ValueError("its thresholds are not those of its classes")
        return self

    @property
    def identity(self) -> str | None:
        """What tells these weights from others: the detector's and, if any, the grader's."""
        return f"{self.sha256}+{self.second_look.sha256}" if self.second_look else self.sha256


class AreaFacts(_Part):
    """How much of the slide was looked at."""

    slide_mm2: float = Field(ge=0, description="the scanned part of the slide")
    screened_mm2: float = Field(ge=0, description="the part that a detector has seen")
    skipped_share: float = Field(
        ge=0, le=1, description="share of the scanned part that was left out as empty glass"
    )
    unread_mm2: float = Field(ge=0, description="wanted, but the file could not be read there")
    unread: tuple[tuple[float, float, float, float], ...] = Field(
        description="unread boxes: x_min, y_min, x_max, y_max in level-0 pixels"
    )
    out_of_focus_mm2: float | None = Field(
        None, ge=0, description="squares of 128 µm that are out of focus; null where not measured"
    )
    dark_mm2: float | None = Field(
        None, ge=0, description="too thick or overstained; null where nobody looked"
    )
    ink_mm2: float | None = Field(
        None, ge=0, description="covered by a pen; null where no empty glass tells its colour"
    )
    bubbles_mm2: float | None = Field(
        None, ge=0, description="in bubbles and at edges of the coverslip; likewise"
    )


class SlideReport(_Part):
    """Everything that ``report.json`` says of one slide.

    The cells and the pictures ride along for the other files; they are not part of the JSON.
    """

    schema_version: Literal["2.0"] = "2.0"
    status: Literal["complete"] = "complete"
    slide: SlideFacts
    model: ModelFacts
    settings: dict[str, JsonValue] = Field(description="all settings in force")
    area: AreaFacts
    counts: dict[str, int] = Field(description="cells at or above threshold by class, zeros too")
    levels: dict[str, int] = Field(
        description="the same cells on coarser levels: abnormal, low grade, high grade, as far as "
        "the model has such classes"
    )
    abnormal_cells: int = Field(ge=0, description="cells of all abnormal classes")
    cells_per_mm2: float | None = Field(
        ge=0, description="all cells by screened area; null where nothing was screened"
    )
    suggestion: Suggestion
    expectation: Expectation | None = Field(
        None, description="found against expected by chance; null where that is not known"
    )
    second_look: LookFacts | None = Field(
        None, description="what was looked at again; null where nothing was"
    )
    accuracy: Accuracy | None = Field(
        None,
        description="how well the model finds cells of each level and class at these thresholds; "
        "null where that is not known",
    )
    domain: DomainFinding | None = Field(
        None,
        description="whether the cells look like those that the model was trained on; null "
        "where that was not checked",
    )
    planes: tuple[PlaneFacts, ...] | None = Field(
        None,
        description="the focal planes of a slide with several; null for one plane, and in older "
        "reports",
    )
    adequacy: Adequacy = Field(default_factory=not_assessed)
    quality: Quality | None = Field(
        None, description="of the picture; null where nobody looked, and in older reports"
    )
    preview: Preview | None = Field(
        None, description="pictures of it beside this file; null where none were taken"
    )
    detections: DetectionFacts | None = Field(
        None, description="what is kept for cytolibra rescore; null in older reports"
    )
    warnings: tuple[Doubt, ...] = Field(description="what a person should know, by stable codes")
    timing: dict[str, float] = Field(
        description="seconds by stage; where it was rescored, of what was done again the last "
        "time's, all of that as rescore, and total is the screening's"
    )
    software: dict[str, str] = Field(description="versions")
    notice: Notice = NOTICE

    @model_validator(mode="before")
    @classmethod
    def _read_older(cls, values: Any) -> Any:
        """Takes a report of an earlier schema.

        1.0 had warnings as sentences without codes; 1.1 counted by class only, and adequacy was
        the word "not_assessed".
        """
        if not isinstance(values, dict):
            return values
        if values.get("schema_version") == "1.0":
            told = [{"code": "uncoded", "text": text} for text in values.get("warnings", ())]
            values = values | {"schema_version": "1.1", "warnings": told}
        if values.get("schema_version") == "1.1":
            adequacy = not_assessed("not assessed by the version that screened it")
            values = values | {"schema_version": "2.0", "adequacy": adequacy.model_dump()}
            values["levels"] = _levels_of_older(values)
        return values

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if set(self.counts) != {one.name for one in self.model.classes}:
            raise ValueError("its counts are not those of the model's classes")
        return self

    _cells: Detections = PrivateAttr(default_factory=Detections.empty)
    _pictures: Pictures = PrivateAttr(default_factory=Pictures)
    _faults: Mapping[FaultName, FaultMap] = PrivateAttr(default_factory=dict)
    _kept: Kept | None = PrivateAttr(default=None)
    _source: Mapping[str, Any] | None = PrivateAttr(default=None)

    @property
    def cells(self) -> Detections:
        """Level-0 boxes, most suspicious first; empty in a report read back from JSON."""
        return self._cells

    @property
    def pictures(self) -> Pictures:
        """Pictures for the page; none in a report read back from JSON."""
        return self._pictures

    @property
    def faults(self) -> Mapping[FaultName, FaultMap]:
        """Where the picture has faults, for the page; none in a report read back from JSON."""
        return self._faults

    @property
    def kept(self) -> Kept | None:
        """What the network found, before any threshold; None in a report read back from JSON."""
        return self._kept

    @property
    def source(self) -> Mapping[str, Any] | None:
        """The part of the slide's DICOM header that objects need; see `pipeline.objects.source`.

        It names a patient, so it is never written but into DICOM. None where nobody asked for it,
        or the slide is no DICOM.
        """
        return self._source

    def with_cells(self, cells: Detections, source: Mapping[str, Any] | None) -> SlideReport:
        """The same, read back from JSON, with what rides along.

        Args:
            cells: level-0 boxes, in the order of cells.csv.
            source: of a DICOM slide.
        """
        report = self.model_copy()
        report._cells = cells
        report._source = source
        return report


def read_report(path: Path) -> SlideReport:
    """A slide's report, without its cells.

    Raises:
        ConfigError: it can't be read, is damaged, or of another version.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{show(path)}: can't be read: {error.strerror}") from error
    try:
        return SlideReport.model_validate_json(content)
    except ValidationError as error:
        raise ConfigError(f"{show(path)}: {why_unreadable(content)}") from error


_READABLE = ("1.0", "1.1", "2.0")
"""Schema versions that `SlideReport` reads."""


def why_unreadable(content: bytes) -> str:
    """What is wrong with a report.json that `SlideReport` refuses, and what to do."""
    try:
        values = json.loads(content)
    except (ValueError, RecursionError):
        return "is damaged; screen its slide again"
    version = values.get("schema_version") if isinstance(values, dict) else None
    if version is None:
        return "is no report of cytolibra screen"
    if version in _READABLE:
        return "is damaged; screen its slide again"
    return (
        f"is of schema version {str(version)[:20]}, and this version of CytoLibra reads "
        f"{', '.join(_READABLE)}; use the version that wrote it, or screen again"
    )


def count_levels(counts: Mapping[str, int], classes: Sequence[CellClass]) -> dict[str, int]:
    """Cells on each of the coarser levels, from those of each class; absent names count as 0."""
    return {
        level: sum(counts.get(classes[index].name, 0) for index in members)
        for level, members in by_level(classes).items()
    }


def _levels_of_older(values: Mapping[str, Any]) -> dict[str, int]:
    """`count_levels` of a report that is not checked yet; none of what is broken, which is told."""
    try:
        classes = [CellClass.model_validate(c) for c in values["model"]["classes"]]
        return count_levels(values["counts"], classes)
    except (KeyError, TypeError, AttributeError, ValueError):
        return {}


def describe_slide(slide: Slide) -> SlideFacts:
    """What the report says of an open slide."""
    scanned = slide.bounds
    cropped = scanned != Rect(0, 0, slide.size.width, slide.size.height)
    return SlideFacts(
        path=encodable(slide.path),
        format=slide.format,
        width=slide.size.width,
        height=slide.size.height,
        mpp=slide.mpp,
        mpp_source=slide.mpp_source,
        objective=slide.objective,
        reader=slide.reader,
        facts=(*slide.facts, _frame(scanned, slide.size)) if cropped else slide.facts,
        bounds=(scanned.x, scanned.y, scanned.width, scanned.height) if cropped else None,
    )


def _frame(scanned: Rect, size: Size) -> Fact:
    """Which file counts its pixels from where, of a slide that was scanned in part."""
    value = (
        f"scanned are {scanned.width} x {scanned.height} px at ({scanned.x}, {scanned.y}) of "
        f"{size.width} x {size.height}; cells.geojson counts from there, as QuPath does, "
        "everything else from the slide's top left"
    )
    return Fact(name="frame", value=value, source="file")


def encodable(text: str | Path) -> str:
    """Text that UTF-8 can hold, from a path whose name may have undecodable bytes."""
    text = str(text)
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode("utf-8")


def on_disk(text: str, below: Path = Path()) -> str:
    """The path of which `encodable` made a text, where bytes that are no text stand as escapes.

    Args:
        text: the path, or the name.
        below: the folder that it is relative to. A file there that is called so letter by letter is
            the one that is meant.
    """
    if "\\udc" not in text or os.path.lexists(below / text):
        return text
    return re.sub(r"\\udc([89a-f][0-9a-f])", lambda byte: chr(0xDC00 + int(byte[1], 16)), text)


def most_suspicious_first(cells: Detections, classes: Sequence[CellClass]) -> Detections:
    """The cells in the order of every file: abnormal before normal, then by falling score.

    Equal ones are ordered by place and class, so that the order never depends on the input's.
    """
    keys = (*cells.boxes.T[::-1], cells.labels, -cells.scores, ~is_abnormal(cells, classes))
    return cells[np.lexsort(keys)]


def measure_area(scanned: Rect, mpp: float, screened: float, unread: Boxes) -> AreaFacts:
    """Areas in mm2 from level-0 pixels.

    Args:
        scanned: the part of the slide that was scanned (the slide's bounds).
        mpp: µm per level-0 pixel.
        screened: level-0 pixels (an area) that the detector has seen, without the unread ones.
        unread: (N, 4) level-0 boxes; they may overlap and reach beyond the scanned part.
    """
    low, high = (scanned.x, scanned.y) * 2, (scanned.right, scanned.bottom) * 2
    clipped = np.clip(unread, low, high)
    clipped = clipped[(clipped[:, 2:] > clipped[:, :2]).all(axis=1)]
    missed = union_area(clipped)
    mm2 = (mpp / 1000) ** 2
    return AreaFacts(
        slide_mm2=round(scanned.area * mm2, 6),
        screened_mm2=round(float(screened) * mm2, 6),
        skipped_share=round(min(1.0, max(0.0, 1 - (screened + missed) / scanned.area)), 4),
        unread_mm2=round(missed * mm2, 6),
        unread=tuple(tuple(box) for box in clipped.round(2).tolist()),
    )


def union_area(boxes: Boxes) -> float:
    """Area that at least one of the (N, 4) boxes covers, in squares of their unit.

    Exact: the plane is cut along every edge. Boxes of a tile grid share most of their edges, so
    that the cuts are few even where the boxes are many.
    """
    xs, ys = np.unique(boxes[:, [0, 2]]), np.unique(boxes[:, [1, 3]])
    covered = np.zeros((max(len(ys) - 1, 0), max(len(xs) - 1, 0)), dtype=bool)
    columns, rows = np.searchsorted(xs, boxes[:, [0, 2]]), np.searchsorted(ys, boxes[:, [1, 3]])
    for (left, right), (top, bottom) in zip(columns, rows, strict=True):
        covered[top:bottom, left:right] = True
    return float(np.diff(ys) @ covered @ np.diff(xs))


@dataclass(frozen=True)
class Judgement:
    """What a slide's cells say; see `judge_cells`."""

    counts: dict[str, int]
    expectation: Expectation | None
    accuracy: Accuracy | None
    suggestion: Suggestion
    adequacy: Adequacy


def judge_cells(
    cells: Detections,
    model: ModelFacts,
    specimen: Specimen,
    *,
    warnings: Sequence[Doubt] = (),
    triage: TriageSettings | None = None,
    adequacy: AdequacySettings | None = None,
    alarms: FalseAlarms | None = None,
    accuracy: Accuracy | None = None,
    domain: DomainFinding | None = None,
) -> Judgement:
    """Counts the cells, suggests a category, and says whether there is enough to judge.

    Args:
        cells: at or above threshold, level-0 boxes, in `most_suspicious_first` order.
        model: the detector; cells' labels index its classes.
        specimen: how much was looked at, and what was seen of it.
        warnings: what is known to be odd about the slide.
        triage: settings of the suggestion; None for the defaults.
        adequacy: settings of adequacy; None for the defaults.
        alarms: what the model reports by chance, where that is known.
        accuracy: how well it finds cells, where that is known.
        domain: whether the cells look like those that it knows, where that was checked.

    Raises:
        ConfigError: the slide rule can't be read, or a class that is to be counted is unknown.
    """
    numbers = np.bincount(cells.labels, minlength=len(model.classes)).tolist()
    counts = dict(zip((c.name for c in model.classes), numbers, strict=True))
    strange = why_no_smear(warnings)
    unseen = f"it is no picture that the model knows: {strange}" if strange else None
    if not specimen.screened_mm2:
        unseen = "nothing was screened"
    unknown = unseen or why_not(alarms, model.threshold, model.identity)
    expectation = (
        expect_cells(counts, model.classes, alarms, specimen.screened_mm2)
        if alarms and not unknown
        else None
    )
    if accuracy and other_thresholds(accuracy.thresholds, model.threshold):
        accuracy = None  # its figures hold for other thresholds
    assessed = assess(
        cells,
        model.classes,
        specimen,
        is_abnormal=is_beyond_chance(expectation),
        accuracy=accuracy,
        unknown=unseen,
        settings=adequacy,
    )
    unsure = _why_unsure(warnings, specimen.screened_mm2, specimen.unread_mm2, assessed, domain)
    suggestion = suggest_by_cells(
        cells,
        model.classes,
        expectation or unknown or "",
        triage,
        unsure=unsure,
        unknown=unseen is not None,
    )
    return Judgement(counts, expectation, accuracy, suggestion, assessed)


def build_report(
    *,
    slide: SlideFacts,
    model: ModelFacts,
    settings: Mapping[str, JsonValue],
    cells: Detections,
    area: AreaFacts,
    judgement: Judgement,
    warnings: Iterable[Doubt] = (),
    timing: Mapping[str, float],
    pictures: Pictures | None = None,
    second_look: LookFacts | None = None,
    domain: DomainFinding | None = None,
    quality: Quality | None = None,
    faults: Mapping[FaultName, FaultMap] | None = None,
    kept: Kept | None = None,
    source: Mapping[str, Any] | None = None,
) -> SlideReport:
    """Puts the report together.

    Args:
        slide: what was screened.
        model: the detector; cells' labels index its classes.
        settings: all settings in force, as JSON.
        cells: cells at or above threshold, level-0 boxes, in `most_suspicious_first` order.
        area: how much was looked at; see `measure_area`.
        judgement: what these cells say; see `judge_cells`.
        warnings: what the reader should know.
        timing: seconds by stage.
        pictures: for the page; see `pipeline.reports.pictures.take_pictures`.
        second_look: how much was looked at again.
        domain: whether the cells look like those that the model knows, where that was checked.
        quality: of the picture, where it was looked at.
        faults: where it has which, for the page.
        kept: what was found before any threshold.
        source: of a DICOM slide, what objects need of its header.
    """
    taken = pictures or Pictures()
    report = SlideReport(
        slide=slide,
        model=model,
        settings=dict(settings),
        area=area,
        counts=judgement.counts,
        levels=count_levels(judgement.counts, model.classes),
        abnormal_cells=int(is_abnormal(cells, model.classes).sum()),
        cells_per_mm2=round(len(cells) / area.screened_mm2, 3) if area.screened_mm2 else None,
        suggestion=judgement.suggestion,
        expectation=judgement.expectation,
        second_look=second_look,
        accuracy=judgement.accuracy,
        domain=domain,
        planes=count_planes(kept.planes, cells, model.classes) if kept else None,
        adequacy=judgement.adequacy,
        quality=quality,
        preview=describe_preview(taken, cells, model.classes),
        detections=_describe_kept(kept, model) if kept else None,
        warnings=tuple(warnings),
        timing={stage: round(seconds, 3) for stage, seconds in timing.items()},
        software=software_versions(),
    )
    report._cells = cells
    report._pictures = taken
    report._faults = faults or {}
    report._kept = kept
    report._source = source
    return report


def _describe_kept(kept: Kept, model: ModelFacts) -> DetectionFacts:
    names = [one.name for one in model.classes]
    least = [round(float(score), 4) for score in kept.found.complete]
    return DetectionFacts(
        kept=len(kept.found.cells),
        dropped=kept.found.dropped,
        complete_from=dict(zip(names, least, strict=True)),
    )


def why_not_set_aside(report: SlideReport, rule: SlideRule | None = None) -> str | None:
    """Why a slide must not be set aside, whatever its score; None where nothing speaks against it.

    See `pipeline.reports.rule_out.why_unsure` and, with a rule, `pipeline.reports.triage`'s
    `why_beside`.
    """
    area, classes = report.area, report.model.classes
    unsure = _why_unsure(
        report.warnings, area.screened_mm2, area.unread_mm2, report.adequacy, report.domain
    )
    if unsure or rule is None:
        return unsure
    triage = report.settings.get("triage")
    least = triage.get("min_cells") if isinstance(triage, dict) else None
    settings = TriageSettings(min_cells=least) if isinstance(least, int) and least > 0 else None
    plain = suggest(report.counts, classes, report.expectation or "", settings)
    return why_beside(plain, classes, rule)


def _why_unsure(
    warnings: Iterable[Doubt],
    screened_mm2: float,
    unread_mm2: float,
    adequacy: Adequacy,
    domain: DomainFinding | None,
) -> str | None:
    unchecked = domain.reason if domain and domain.within is None else None
    return why_unsure(warnings, screened_mm2 + unread_mm2, unread_mm2, adequacy, unchecked)


class Coded(Protocol):
    """Something that is told: a `Doubt`, or what is kept of one."""

    @property
    def code(self) -> str:
        """See `Doubt`."""

    @property
    def text(self) -> str:
        """Likewise."""


def why_no_smear(warnings: Iterable[Coded]) -> str | None:
    """Why a picture is none of which the model's figures hold; None where it is one."""
    return next((doubt.text for doubt in warnings if doubt.code in _NO_SMEAR), None)


def software_versions() -> dict[str, str]:
    """Versions of Python and of what is installed of the packages that shape a result."""
    return dict(_installed_versions())


@cache
def _installed_versions() -> Mapping[str, str]:
    """The same, looked up once: that takes some ms, and each report has them."""
    versions = {"python": platform.python_version()}
    for name in _SOFTWARE:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def report_schema() -> dict[str, Any]:
    """The JSON Schema of ``report.json``."""
    schema = SlideReport.model_json_schema(mode="serialization")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema"} | schema


def schema_text() -> str:
    """`report_schema` as the text of the published file."""
    return json.dumps(report_schema(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    SCHEMA.write_text(schema_text(), encoding="utf-8", newline="\n")
