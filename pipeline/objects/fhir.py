"""``report.fhir.json``: a FHIR R4 DiagnosticReport that holds its observations and their device.

It is preliminary, names no patient and no person: who receives it knows whose slide it is, by the
file's name. Everything that it refers to is contained, so that it stands alone.
"""

from __future__ import annotations

import html
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipeline.objects.codes import (
    CYTOLOGY_REPORT,
    SATISFACTORY,
    SYSTEMS,
    UNSATISFACTORY,
    Code,
    code_of_category,
)
from pipeline.objects.dicom_report import comments
from pipeline.objects.text import free_text
from pipeline.reports.report import SlideReport
from pipeline.reports.writers import to_json

FILE = "report.fhir.json"

_HL7 = "http://terminology.hl7.org/CodeSystem"
SECTION = {"system": f"{_HL7}/v2-0074", "code": "CP", "display": "Cytopathology"}
LABORATORY = {
    "system": f"{_HL7}/observation-category",
    "code": "laboratory",
    "display": "Laboratory",
}
ABSENT = {"system": f"{_HL7}/data-absent-reason", "code": "unknown", "display": "Unknown"}

Resource = dict[str, Any]


def write_fhir(report: SlideReport, folder: Path, issued: datetime | None = None) -> None:
    """Writes the report.

    Args:
        report: of the slide; its cells are not needed.
        folder: for the file.
        issued: when; None for now.

    Raises:
        OSError: it can't be written.
    """
    text = to_json(diagnostic_report(report, issued or datetime.now(UTC)))
    (folder / FILE).write_text(text, encoding="utf-8", newline="")


def diagnostic_report(report: SlideReport, issued: datetime) -> Resource:
    """The resource, as JSON.

    Args:
        report: of the slide.
        issued: when; with its time zone.
    """
    observations = list(_observations(report))
    code = code_of_category(report.suggestion, report.model.classes)
    told = [free_text(text) for text in comments(report)]
    return {
        "resourceType": "DiagnosticReport",
        "text": _narrative(told),
        "contained": [_device(report), _specimen(report), *observations],
        "status": "preliminary",
        "category": [{"coding": [SECTION]}],
        "code": _concept(CYTOLOGY_REPORT.name, CYTOLOGY_REPORT),
        "issued": issued.isoformat(timespec="seconds"),
        "specimen": [{"reference": "#specimen"}],
        "result": [{"reference": f"#{one['id']}"} for one in observations],
        "conclusion": "\n".join(told),
        **({"conclusionCode": [_concept(report.suggestion.category, code)]} if code else {}),
    }


def _device(report: SlideReport) -> Resource:
    """The program and its model; both may be new, so both are told apart."""
    version = report.software.get("cytolibra", "") or "unknown"
    return {
        "resourceType": "Device",
        "id": "device",
        "deviceName": [{"name": "CytoLibra", "type": "manufacturer-name"}],
        "modelNumber": free_text(report.model.name),
        "version": [
            {"type": {"text": "software"}, "value": free_text(version)},
            {"type": {"text": "SHA-256 of the weights"}, "value": report.model.identity or "none"},
        ],
        "note": [{"text": free_text(report.notice)}],
    }


def _specimen(report: SlideReport) -> Resource:
    """The slide, known by its file's name and by nothing else."""
    name = Path(report.slide.path.replace("\\", "/")).name
    return {
        "resourceType": "Specimen",
        "id": "specimen",
        "identifier": [{"type": {"text": "name of the slide's file"}, "value": free_text(name)}],
    }


def _observations(report: SlideReport) -> Iterator[Resource]:
    suggestion, adequacy = report.suggestion, report.adequacy
    category = code_of_category(suggestion, report.model.classes)
    why = " ".join(part for part in (suggestion.rule, suggestion.why) if part)
    yield _observation(
        "category",
        "Category suggested by a rule",
        {"valueCodeableConcept": _concept(suggestion.category, category)},
        f"Rule {suggestion.version}: {why}",
    )
    if adequacy.satisfactory is None:
        value: Resource = {"dataAbsentReason": {"coding": [ABSENT], "text": adequacy.reason}}
    else:
        verdict = SATISFACTORY if adequacy.satisfactory else UNSATISFACTORY
        value = {"valueCodeableConcept": _concept(verdict.name, verdict)}
    yield _observation("adequacy", "Specimen adequacy suggested by a rule", value, adequacy.reason)
    for number, one in enumerate(report.model.classes, start=1):
        kind = "abnormal" if one.abnormal else "normal"
        yield _observation(
            f"count-{number}",
            f"Number of cells called {one.name}",
            _quantity(report.counts.get(one.name, 0), "cells", "{cells}"),
            f"an {kind} class of the model" if one.abnormal else f"a {kind} class of the model",
        )
    yield _observation(
        "abnormal", "Number of abnormal cells", _quantity(report.abnormal_cells, "cells", "{cells}")
    )
    area = report.area
    unread = f"{area.unread_mm2:g} mm2 could not be read" if area.unread_mm2 else ""
    yield _observation("area", "Area screened", _quantity(area.screened_mm2, "mm2", "mm2"), unread)


def _observation(name: str, text: str, value: Resource, note: str = "") -> Resource:
    notes = [note] if note else []
    notes.append("Found by a program and not verified: a person must review it.")
    return {
        "resourceType": "Observation",
        "id": name,
        "status": "preliminary",
        "category": [{"coding": [LABORATORY]}],
        "code": {"text": free_text(text)},
        "specimen": {"reference": "#specimen"},
        "device": {"reference": "#device"},
        **value,
        "note": [{"text": free_text(one)} for one in notes],
    }


def _quantity(value: float, unit: str, code: str) -> Resource:
    return {
        "valueQuantity": {"value": value, "unit": unit, "system": SYSTEMS["UCUM"], "code": code}
    }


def _concept(text: str, code: Code | None) -> Resource:
    coding = (
        [{"system": SYSTEMS[code.scheme], "code": code.value, "display": code.name}] if code else []
    )
    return {**({"coding": coding} if coding else {}), "text": free_text(text)}


def _narrative(told: list[str]) -> Resource:
    """The same for a person whose system knows no more than to show it."""
    lines = "".join(f"<p>{html.escape(text)}</p>" for text in told)
    return {
        "status": "generated",
        "div": f'<div xmlns="http://www.w3.org/1999/xhtml">{lines}</div>',
    }
