"""``report.sr.dcm``: a Measurement Report (PS3.16, TID 1500) of what was found on a slide.

Its observer is a device, it is preliminary and not verified: that is for a person to do. It is
complete only where everything that was to be screened could be read.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.objects.codes import (
    ABNORMAL_COUNT,
    ABNORMAL_STRUCTURE,
    ADEQUACY,
    ANATOMICAL,
    ARTIFICIAL_INTELLIGENCE,
    CELL,
    CELL_COUNT,
    COMMENT,
    COUNTS,
    CYTOLOGY_TEST,
    DEVICE,
    MM2,
    NO_UNITS,
    NO_VERDICT,
    NONE_SUGGESTED,
    OWN,
    SATISFACTORY,
    SCREENED_AREA,
    SLIDE_SCORE,
    SUGGESTION,
    UNREAD_AREA,
    UNSATISFACTORY,
    Code,
    code_of_category,
)
from pipeline.objects.dicom import (
    MANUFACTURER,
    Maker,
    coded,
    image_of,
    parameters_of,
    save,
    shared_of,
)
from pipeline.objects.source import Header
from pipeline.objects.text import free_text, long_string
from pipeline.reports.report import SlideReport

FILE = "report.sr.dcm"

DERIVED = "The slide is no DICOM: the UIDs of its study and its image are derived from its content."

_CATEGORY = "category"
"""Of our own scheme: a suggested category that has no published code, named by its meaning."""


def write_structured_report(report: SlideReport, source: Header, folder: Path) -> None:
    """Writes the report.

    Args:
        report: of the slide; its cells are not needed.
        source: the image that was screened.
        folder: for the file.

    Raises:
        OSError: it can't be written.
    """
    from highdicom.sr import ComprehensiveSR

    maker, image = Maker.of(report), image_of(source)
    whole = report.area.screened_mm2 > 0 and report.area.unread_mm2 == 0
    instance = ComprehensiveSR(
        evidence=[image],
        content=_content(report, image, maker)[0],
        series_number=2,
        series_description=long_string(f"Report of {maker.name}"),
        is_complete=whole,
        is_verified=False,
        is_final=False,
        **shared_of(maker),
    )
    save(instance, folder / FILE)


def _content(report: SlideReport, image: Any, maker: Maker) -> Any:
    from highdicom import sr

    device = sr.ObserverContext(
        observer_type=sr.CodedConcept.from_code(coded(DEVICE)),
        observer_identifying_attributes=sr.DeviceObserverIdentifyingAttributes(
            uid=maker.uid,
            name=maker.name,
            manufacturer_name=MANUFACTURER,
            model_name=maker.name,
            serial_number=maker.serial,
        ),
    )
    algorithm = sr.AlgorithmIdentification(
        name=maker.name,
        version=maker.version,
        family=coded(ARTIFICIAL_INTELLIGENCE),
        parameters=[free_text(f"{k} = {v}") for k, v in parameters_of(report).items()],
    )
    shared = {
        "algorithm_id": algorithm,
        "source_images": [
            sr.SourceImageForMeasurementGroup(image.SOPClassUID, image.SOPInstanceUID)
        ],
    }
    return sr.MeasurementReport(
        observation_context=sr.ObservationContext(observer_device_context=device),
        procedure_reported=coded(CYTOLOGY_TEST),
        imaging_measurements=[_of_slide(report, shared), *_of_classes(report, shared)],
    )


def _of_slide(report: SlideReport, shared: dict[str, Any]) -> Any:
    """What is said of the slide as a whole, with what a person should know as comments."""
    from highdicom import sr

    area = report.area
    numbers: list[tuple[Code, float, Code]] = [
        (CELL_COUNT, sum(report.counts.values()), COUNTS),
        (ABNORMAL_COUNT, report.abnormal_cells, COUNTS),
        (SCREENED_AREA, area.screened_mm2, MM2),
        (UNREAD_AREA, area.unread_mm2, MM2),
    ]
    if report.suggestion.score is not None:
        numbers.append((SLIDE_SCORE, report.suggestion.score, NO_UNITS))
    group = sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(identifier="slide"),
        measurements=[sr.Measurement(coded(n), value, coded(unit)) for n, value, unit in numbers],
        qualitative_evaluations=[
            sr.QualitativeEvaluation(coded(SUGGESTION), _category(report)),
            sr.QualitativeEvaluation(coded(ADEQUACY), _adequacy(report)),
        ],
        **shared,
    )
    derived = [] if report.source else [DERIVED]
    for text in [*comments(report), *derived]:
        comment = sr.TextContentItem(coded(COMMENT), free_text(text), "CONTAINS")
        group[0].ContentSequence.append(comment)
    return group


def _of_classes(report: SlideReport, shared: dict[str, Any]) -> Iterator[Any]:
    """How many cells there are of each class, zeros too."""
    from highdicom import sr

    for one in report.model.classes:
        count = report.counts.get(one.name, 0)
        yield sr.MeasurementsAndQualitativeEvaluations(
            tracking_identifier=sr.TrackingIdentifier(identifier=free_text(one.name)),
            finding_type=coded(CELL),
            finding_category=coded(ABNORMAL_STRUCTURE if one.abnormal else ANATOMICAL),
            measurements=[sr.Measurement(coded(CELL_COUNT), count, coded(COUNTS))],
            **shared,
        )


def comments(report: SlideReport) -> Iterator[str]:
    """In sentences, what no number says; the first that it is not verified."""
    suggestion, adequacy = report.suggestion, report.adequacy
    yield f"Found by a program and not verified: a person must review it. {report.notice}"
    why = f" {suggestion.why}" if suggestion.why else ""
    yield f"Suggestion: {suggestion.category}. Rule {suggestion.version}: {suggestion.rule}{why}"
    yield f"Adequacy: {adequacy.reason}"
    if suggestion.suspicious is not None:
        yield f"By the slide rule {'' if suggestion.suspicious else 'not '}suspicious"
    for doubt in report.warnings:
        yield f"Warning: {doubt}"


def _category(report: SlideReport) -> Any:
    """The suggested category: a published code, else one of our own that is named as it is."""
    known = code_of_category(report.suggestion, report.model.classes)
    if known:
        return coded(known)
    if report.suggestion.level is None:
        return coded(NONE_SUGGESTED, f"none: {report.suggestion.category}")
    return coded(Code(OWN, _CATEGORY, report.suggestion.category))


def _adequacy(report: SlideReport) -> Any:
    if report.adequacy.satisfactory is None:
        return coded(NO_VERDICT)
    return coded(SATISFACTORY if report.adequacy.satisfactory else UNSATISFACTORY)
