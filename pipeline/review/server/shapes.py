"""What the pages are told, as JSON: plain dicts, one function a thing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pipeline.cells.classes import class_colors, find_category, grade_of, order_by_severity
from pipeline.reports.previews import THUMBNAIL
from pipeline.reports.report import SlideReport, encodable
from pipeline.reports.slide_summary import SlideSummary
from pipeline.reports.worklist import Place
from pipeline.review.catalogue import Catalogue, FoundSlide, ReportFolder, square
from pipeline.review.gallery import GalleryCell, Page, tell_finding
from pipeline.review.results import id_of
from pipeline.review.store import CellDecision, Reader, Reading, RegionMark, SlideState
from pipeline.review.tiles import TILE

Json = dict[str, Any]

_KEYS = "123456789"


def slide_row(place: Place, state: SlideState, reader: Reader | None) -> Json:
    """A slide of the work list."""
    row, report = place.row, place.row.report
    slide = id_of(row.slide if row.status != "not read" else f"not read:{row.path}")
    told: Json = {
        "id": slide,
        "name": encodable(row.slide),
        "path": encodable(row.path),
        "status": row.status,
        "section": place.section,
        "rank": place.rank,
        "unranked": place.unranked,
        "flags": place.flags,
        "reasons": place.reasons,
        "error": encodable(row.error),
        "review": review_json(state, reader),
    }
    return told | (_reported(slide, place.excess, report) if report else _UNREPORTED)


_UNREPORTED: Json = {
    **dict.fromkeys(("category", "level", "cells", "abnormal", "per_mm2", "excess", "score")),
    **dict.fromkeys(("suspicious", "set_aside", "adequacy", "thumbnail")),
    "warnings": [],
    "best": [],
}


def _reported(slide: str, excess: float | None, report: SlideSummary) -> Json:
    screened = report.screened_mm2
    return {
        "category": report.category,
        "level": report.level,
        "cells": report.cells,
        "abnormal": report.abnormal_cells,
        "per_mm2": round(report.abnormal_cells / screened, 3) if screened else None,
        "excess": excess,
        "score": report.score,
        "suspicious": report.suspicious,
        "set_aside": report.set_aside,
        "adequacy": report.adequacy,
        "warnings": [{"code": note.code, "text": note.text} for note in report.warnings],
        "thumbnail": f"/api/slides/{slide}/{THUMBNAIL}" if report.thumbnail else None,
        "best": [
            {
                "url": f"/api/slides/{slide}/best/{place}.jpg",
                "label": cell.name,
                "score": cell.score,
                "id": cell.id,
            }
            for place, cell in enumerate(report.best, 1)
        ],
    }


def review_json(state: SlideState, reader: Reader | None) -> Json:
    """How far a slide is, for one reader: of others who read it only that they did.

    Whether they differ is told only to who has signed: he reads blind till then.
    """
    head = state.head(reader) if reader else None
    signed = bool(head and head.signed)
    begun = bool(head and head.begun)
    word = state.state
    if word == "differs" and not signed:
        word = "signed"
    return {
        "state": word,
        "mine": "signed" if signed else "begun" if begun else "unread",
        "decided": head.decided if head else 0,
        "readers": len(state.readings),
        "category": head.category if head else None,
    }


def slide_json(
    catalogue: Catalogue, result: ReportFolder, found: FoundSlide, has_overview: bool
) -> Json:
    """All of one slide but its cells."""
    report, facts = result.report, result.report.slide
    base = f"/api/slides/{result.id}"
    look, domain = report.second_look, report.domain
    return {
        "id": result.id,
        "name": encodable(result.name),
        "path": facts.path,
        "key": result.key.sha256,
        "stamp": tag_of(result),
        "size": {"width": facts.width, "height": facts.height},
        "mpp": facts.mpp,
        "mpp_source": facts.mpp_source,
        "objective": facts.objective,
        "format": facts.format,
        "bounds": facts.bounds,
        "classes": list(class_json(report)),
        "suggestion": report.suggestion.model_dump(mode="json"),
        "adequacy": report.adequacy.model_dump(mode="json"),
        "expectation": list(_expectation(report)),
        "accuracy": report.accuracy.model_dump(mode="json") if report.accuracy else None,
        "second_look": look is not None,
        "look": look.model_dump(mode="json") if look else None,
        "domain": domain.model_dump(mode="json") if domain else None,
        "area": report.area.model_dump(mode="json", exclude={"unread"}),
        "model": {"name": report.model.name, "threshold": report.model.threshold},
        "warnings": [{"code": doubt.code, "text": doubt.text} for doubt in report.warnings],
        "unread": report.area.unread,
        "notice": report.notice,
        "counts": report.counts,
        "levels": report.levels,
        "abnormal": report.abnormal_cells,
        "slide": {
            "available": found.path is not None,
            "reason": encodable(found.reason),
            "code": found.code,
        },
        "image": _image(catalogue, result, base) if found.path is not None else None,
        "overview": f"{base}/overview.jpg" if has_overview else None,
        "report": f"{base}/report.html",
    }


def tag_of(result: ReportFolder) -> str:
    """Changes with the slide and its result."""
    numbers = "-".join(f"{number:x}" for number in result.stamp)
    return f"{result.key.sha256[:16] or result.id}-{numbers}"


def class_json(report: SlideReport) -> Iterator[Json]:
    """Classes, most severe first, each with the key that decides for it."""
    classes, colors = report.model.classes, class_colors(report.model.classes)
    # Keys go from the least severe on, as the Bethesda System counts.
    keys = dict(zip(reversed(order_by_severity(classes)), _KEYS, strict=False))
    for rank, index in enumerate(order_by_severity(classes)):
        one = classes[index]
        category = find_category(one.name)
        yield {
            "index": index,
            "name": one.name,
            "meaning": category.meaning if category else "",
            "color": "#{:02x}{:02x}{:02x}".format(*colors[index]),
            "abnormal": one.abnormal,
            "severity": len(classes) - rank,
            "grade": grade_of(one) or None,
            "key": keys.get(index),
        }


def _expectation(report: SlideReport) -> Iterator[Json]:
    groups = report.expectation.groups if report.expectation else {}
    for name, finding in groups.items():
        yield {
            "group": name,
            **finding.model_dump(mode="json"),
            "more": finding.is_more,
            "text": tell_finding(finding),
        }


def _image(catalogue: Catalogue, result: ReportFolder, base: str) -> Json:
    facts = result.report.slide
    return {
        "width": facts.width,
        "height": facts.height,
        "tile_size": TILE,
        "overlap": 0,
        "min_level": 0,
        "max_level": catalogue.pyramid(result).max_level,
        "url": f"{base}/tiles/{{z}}/{{x}}_{{y}}.jpg?v={tag_of(result)}",
    }


def gallery_json(result: ReportFolder, page: Page, um: float) -> Json:
    """A page of the gallery."""
    return {
        "groups": [{"key": g.key, "name": g.name, "count": g.count} for g in page.groups],
        "total": page.total,
        "page": page.page,
        "pages": page.pages,
        "size": page.size,
        "um": um,
        "cells": [cell_json(result, cell, um) for cell in page.cells],
    }


def cell_json(result: ReportFolder, cell: GalleryCell, um: float) -> Json:
    """A cell of the gallery."""
    base = f"/api/slides/{result.id}"
    picture = f"{base}/cells/{cell.key}/picture.jpg?um={um:g}"
    if cell.number is None:
        x, y, side = square(cell.box, um / result.report.slide.mpp)
        picture = f"{base}/crop.jpg?x0={x:.1f}&y0={y:.1f}&x1={x + side:.1f}&y1={y + side:.1f}"
    return {
        "key": cell.key,
        "number": cell.number,
        "box": cell.box,
        "label": cell.label,
        "score": cell.score,
        "abnormal_score": cell.abnormal_score,
        "scores": cell.scores,
        "grades": cell.grades,
        "carrier": cell.carrier,
        "why": cell.why,
        "picture": picture,
    }


def decision_json(cell: CellDecision) -> Json:
    """What was decided about a cell."""
    said = cell.said
    return {
        "verdict": cell.verdict,
        "label": cell.label,
        "note": cell.note,
        "box": cell.box,
        "said": {"label": said.label, "score": said.score, "box": said.box} if said else None,
        "at": cell.at,
        "seconds": cell.seconds,
    }


def region_json(region: RegionMark) -> Json:
    """A region that was read exhaustively."""
    return {"key": region.key, "box": region.box, "note": region.note}


def reading_json(reading: Reading) -> Json:
    """All that a reader has said of a slide."""
    return {
        **_frame(reading),
        "cells": {key: decision_json(cell) for key, cell in reading.cells.items()},
        "regions": {key: region_json(one) for key, one in reading.regions.items()},
    }


def delta_json(before: Reading, now: Reading) -> Json:
    """What one change has changed; null for what is gone."""
    cells = {
        key: decision_json(now.cells[key]) if key in now.cells else None
        for key in before.cells.keys() | now.cells.keys()
        if before.cells.get(key) != now.cells.get(key)
    }
    regions = {
        key: region_json(now.regions[key]) if key in now.regions else None
        for key in before.regions.keys() | now.regions.keys()
        if before.regions.get(key) != now.regions.get(key)
    }
    return {**_frame(now), "delta": True, "cells": cells, "regions": regions}


def _frame(reading: Reading) -> Json:
    decision = reading.decision
    return {
        "version": reading.version,
        "round": reading.round,
        "slide": {
            "adequacy": decision.adequacy,
            "category": decision.category,
            "comment": decision.comment,
            "signed": decision.signed,
        },
        "can_undo": reading.can_undo,
        "can_redo": reading.can_redo,
        "decided": reading.decided,
        "seconds": reading.seconds,
    }
