"""The pages that people read: ``report.html`` of one slide, and what all pages have in common.

Each is one file that opens offline: pictures are embedded, and a content security policy lets
nothing else load or run than the page's own script. All text is escaped by the templates. Without
scripts the pages still show everything; scripts add selection, arrow keys and sorting.
"""

from __future__ import annotations

import base64
import hashlib
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from numpy.typing import NDArray
from pydantic import JsonValue

from models.card import LevelFigures
from pipeline.cells.classes import Color, class_colors, find_category, order_by_severity
from pipeline.reports.expectation import Finding
from pipeline.reports.fault_views import view_faults
from pipeline.reports.pictures import Crop, Overview
from pipeline.reports.report import NOTICE, SlideReport
from pipeline.reports.triage import carriers

RING_SHARE = 0.011
"""Least radius of a mark on the overview, as a share of the overview's longest side."""

DOT_GRID = 2
"""Overview pixels: cells that fall on the same square of this grid are one dot."""


@dataclass(frozen=True)
class ClassView:
    """A class in the page's table; ``shown`` counts its close-ups."""

    index: int
    name: str
    meaning: str
    abnormal: bool
    color: str
    count: int
    threshold: float | None
    shown: int


@dataclass(frozen=True)
class LevelRow:
    """A line of the table of counts: a level or a class, what was found, and what that is worth.

    Attributes:
        name: of the level or class, as in `SlideReport`.
        of: the class; None for a level.
        finding: against what chance would have; None where that is not known.
        figures: of the model; None where they are not known.
    """

    name: str
    count: int
    of: ClassView | None
    finding: Finding | None
    figures: LevelFigures | None


@dataclass(frozen=True)
class Group:
    """A part of the gallery.

    Attributes:
        title: of its cells.
        why: they carry the suggestion; empty for the others.
        of: the class that all of them have; None for several.
        total: how many such cells there are.
        cells: those that are shown.
    """

    title: str
    why: str
    of: ClassView | None
    total: int
    cells: Sequence[CellView]


@dataclass(frozen=True)
class CellView:
    """A cell in the gallery, with its place in level-0 pixels and on the overview.

    Attributes:
        number: its id in ``cells.csv``.
        of: its class.
        frame: the cell's box inside the close-up: left, top, width, height in percent.
        bar: width of 10 µm in the close-up, in percent.
        mark: x, y, radius on the overview, in its pixels.
        plane: name of its focal plane; empty of a slide with one.
    """

    number: int
    of: ClassView
    score: float
    x: float
    y: float
    picture: str
    frame: tuple[float, float, float, float]
    bar: float
    mark: tuple[float, float, float]
    plane: str = ""


@dataclass(frozen=True)
class OverviewView:
    """The whole slide with what lies on it, in pixels of the overview.

    Attributes:
        dots: an SVG path of dots by class index, every abnormal cell.
        unread: x, y, width, height of the areas that could not be read.
        bar: width and label of the scale bar.
    """

    picture: str
    width: int
    height: int
    dots: Mapping[int, str]
    unread: Sequence[tuple[float, float, float, float]]
    bar: tuple[float, str]


def render_report(report: SlideReport) -> str:
    """The page of one slide."""
    overview = report.pictures.overview
    shown = np.bincount(_shown_labels(report), minlength=len(report.model.classes))
    ordered = order_by_severity(report.model.classes)
    classes = [_class_view(report, i, int(shown[i])) for i in ordered]
    groups = list(_gallery(report, classes))
    return render_page(
        "report.html",
        title=Path(report.slide.path).name,
        report=report,
        classes=classes,
        rows=list(_rows(report, classes)),
        groups=groups,
        marks=sorted(
            (cell for group in groups for cell in group.cells),
            key=lambda cell: (-ordered.index(cell.of.index), -cell.number),
        ),
        shown=int(shown.sum()),
        overview=_overview_view(report, overview) if overview else None,
        faults=view_faults(report),
        suggested=next((c for c in classes if c.name == report.suggestion.category), None),
        settings=_flatten(report.settings),
    )


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("pipeline.reports", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["sentence"] = _sentence
    return environment


def render_page(template: str, images: str = "data:", **values: Any) -> str:
    """A page from a template, with the script beside it where there is one; all text is escaped.

    Args:
        template: its name.
        images: where pictures may come from, as a content security policy says it.
        values: what the template takes.
    """
    environment = _environment()
    beside = template.replace(".html", ".js")
    known = beside in environment.list_templates()
    script = environment.get_template(beside).render() if known else ""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    page = environment.get_template(template)
    return page.render(
        script=script, script_hash=f"sha256-{digest}", images=images, notice=NOTICE, **values
    )


def load_macros(template: str) -> Any:
    """The macros of a template, as functions that give HTML; all text is escaped."""
    return _environment().get_template(template).module


def relative_url(slide: str, name: str) -> str:
    """URL of a file of a slide's folder; quoted, as names may hold spaces, #, % and newlines."""
    return "./" + quote(os.fsencode(f"{slide}/{name}"), safe="/")


def hex_color(color: Color) -> str:
    """A colour as style sheets have it."""
    return "#{:02x}{:02x}{:02x}".format(*color)


def _sentence(text: str) -> str:
    """A text that stands in a sentence as one of its own."""
    return f"{text[:1].upper()}{text[1:].rstrip('.')}." if text else ""


def _shown_labels(report: SlideReport) -> NDArray[np.int64]:
    """Labels of the cells of which there are close-ups."""
    rows = np.array([crop.cell for crop in report.pictures.crops], np.intp)
    return report.cells.labels[rows]


def _class_view(report: SlideReport, index: int, shown: int) -> ClassView:
    cell_class = report.model.classes[index]
    category = find_category(cell_class.name)
    return ClassView(
        index=index,
        name=cell_class.name,
        meaning=category.meaning if category else "",
        abnormal=cell_class.abnormal,
        color=hex_color(class_colors(report.model.classes)[index]),
        count=report.counts[cell_class.name],
        threshold=report.model.threshold.get(cell_class.name),
        shown=shown,
    )


def _rows(report: SlideReport, classes: Sequence[ClassView]) -> Iterator[LevelRow]:
    """Levels first, the coarsest of them first of all, then classes."""
    findings = report.expectation.groups if report.expectation else {}
    figures = report.accuracy.groups if report.accuracy else {}
    for name, count in report.levels.items():
        yield LevelRow(name, count, None, findings.get(name), figures.get(name))
    for view in classes:
        name = view.name
        yield LevelRow(name, view.count, view, findings.get(name), figures.get(name))


def _gallery(report: SlideReport, classes: Sequence[ClassView]) -> Iterator[Group]:
    """Close-ups: those that carry the suggestion, then by class, most severe first; best first."""
    by_index = {view.index: view for view in classes}
    carry = carriers(report.suggestion, report.cells, report.model.classes)
    crops = sorted(report.pictures.crops, key=lambda crop: crop.cell)
    views = {c.cell: _cell_view(report, c, by_index) for c in crops}
    first = [view for cell, view in views.items() if cell in set(carry.tolist())]
    if first:
        of = first[0].of if report.suggestion.level == "class" else None
        yield Group("Cells that carry the suggestion", report.suggestion.why, of, len(carry), first)
    for view in classes:
        rest = [one for one in views.values() if one.of is view and one not in first]
        if rest:
            carrying = int((report.cells.labels[carry] == view.index).sum())
            yield Group(view.name, "", view, view.count - carrying, rest)


def _cell_view(report: SlideReport, crop: Crop, classes: Mapping[int, ClassView]) -> CellView:
    x_min, y_min, x_max, y_max = report.cells.boxes[crop.cell].tolist()
    x, y = (x_min + x_max) / 2, (y_min + y_max) / 2
    percent = 100 / crop.side
    frame = (x_min - crop.x, y_min - crop.y, x_max - x_min, y_max - y_min)
    return CellView(
        number=crop.cell + 1,
        of=classes[int(report.cells.labels[crop.cell])],
        score=float(report.cells.scores[crop.cell]),
        x=x,
        y=y,
        picture=_data_url(crop.jpeg),
        frame=tuple(round(value * percent, 2) for value in frame),
        bar=round(10 / report.slide.mpp * percent, 2),
        mark=_mark(report.pictures.overview, x, y, max(x_max - x_min, y_max - y_min)),
        plane=_plane_name(report, crop.cell),
    )


def _plane_name(report: SlideReport, cell: int) -> str:
    """The focal plane of a cell; empty of a slide with one."""
    plane = report.cells.plane_of(cell)
    return report.planes[plane].name if report.planes and plane is not None else ""


def _mark(overview: Overview | None, x: float, y: float, size: float) -> tuple[float, float, float]:
    """A ring around a cell: larger than it, and never too small to be seen."""
    if overview is None:
        return 0, 0, 0
    least = RING_SHARE * max(overview.size.width, overview.size.height)
    radius = max(least, 0.6 * size / overview.downsample)
    return (
        round(x / overview.downsample, 1),
        round(y / overview.downsample, 1),
        round(radius, 1),
    )


def _overview_view(report: SlideReport, overview: Overview) -> OverviewView:
    boxes = np.array(report.area.unread).reshape(-1, 4) / overview.downsample
    unread = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1).round(1)
    return OverviewView(
        picture=_data_url(overview.jpeg),
        width=overview.size.width,
        height=overview.size.height,
        dots=dict(_dots(report, overview)),
        unread=[tuple(box) for box in unread.tolist()],
        bar=_scale_bar(overview.size.width, overview.downsample * report.slide.mpp),
    )


def _dots(report: SlideReport, overview: Overview) -> Iterator[tuple[int, str]]:
    """SVG paths, mildest class first, so that the most severe is drawn on top."""
    places = report.cells.centers / overview.downsample
    squares = np.floor(places / DOT_GRID).astype(np.int64)
    for index in reversed(order_by_severity(report.model.classes)):
        mine = report.cells.labels == index
        if report.model.classes[index].abnormal and mine.any():
            unique = np.unique(squares[mine], axis=0) * DOT_GRID + DOT_GRID // 2
            yield index, "".join(f"M{x} {y}h0" for x, y in unique.tolist())


def _scale_bar(width: int, mpp: float) -> tuple[float, str]:
    """Width in overview pixels, and label, of a round length near a fifth of the slide."""
    target = width * mpp / 5
    magnitude = 10 ** math.floor(math.log10(target))
    length = next(step * magnitude for step in (5, 2, 1) if step * magnitude <= target)
    label = f"{length / 1000:g} mm" if length >= 1000 else f"{length:g} µm"
    return round(length / mpp, 1), label


def _flatten(settings: Mapping[str, JsonValue], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in settings.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", "default" if value is None else str(value)


def _data_url(jpeg: bytes) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode("ascii")
