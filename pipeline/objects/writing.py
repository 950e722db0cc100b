"""Which objects a slide's results get, and how they are written beside its report."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import JsonValue

from configs import CytoLibraError
from pipeline.errors import SlideError
from pipeline.geometry import Size
from pipeline.objects import dicom_cells, dicom_report, fhir
from pipeline.objects.dicom import be_quiet
from pipeline.objects.source import Header, derive_source, is_dicom, read_source
from pipeline.reports.arrow_cells import import_extra
from pipeline.reports.report import SlideReport
from pipeline.slides.readers.base import reason, show

DICOM_FILES = (dicom_report.FILE, dicom_cells.FILE)

Dicom = Literal["source", "derived"]


def wanted_dicom(settings: Mapping[str, JsonValue]) -> Dicom | None:
    """Of which slides all settings in force want DICOM objects (``reports.dicom``)."""
    found = _reports(settings).get("dicom")
    return found if found in ("source", "derived") else None  # type: ignore[return-value]


def wants_fhir(settings: Mapping[str, JsonValue]) -> bool:
    """Whether all settings in force want a FHIR report (``reports.fhir``)."""
    return _reports(settings).get("fhir") is True


def check_installed() -> None:
    """Makes sure that DICOM objects can be written.

    Raises:
        ConfigError: the extra is not installed.
    """
    import_extra("highdicom", "dicom", "reports.dicom")


def find_source(path: Path, size: Size) -> Header | None:
    """The identity that a slide has as DICOM; None where it is none.

    Raises:
        SlideError: it is, but its header lacks what objects need.
    """
    return read_source(path, size) if is_dicom(path) else None


def write_objects(report: SlideReport, folder: Path, sha256: str) -> list[str]:
    """Writes what the report's settings want; the report has its cells.

    A slide that is no DICOM has no DICOM objects, unless the settings want a derived identity.

    Args:
        report: of the slide.
        folder: that holds its report.
        sha256: of the slide's content.

    Returns:
        Names of the files.

    Raises:
        OSError: one of them can't be written.
        SlideError: what the slide's header says can't be put into DICOM.
        ConfigError: the extra is not installed.
    """
    written: list[str] = []
    if wants_fhir(report.settings):
        fhir.write_fhir(report, folder)
        written.append(fhir.FILE)
    kind = wanted_dicom(report.settings)
    if kind:
        written += write_dicom(report, folder, sha256, kind)
    return written


def write_dicom(report: SlideReport, folder: Path, sha256: str, kind: Dicom) -> list[str]:
    """Writes the DICOM objects of a slide that has an identity, or is to get one.

    Args, Raises: as `write_objects`.

    Returns:
        Names of the files; none where the slide has no identity.
    """
    check_installed()
    source = report.source
    if source is None:
        if kind == "source":
            return []
        source = derive_source(sha256, Size(report.slide.width, report.slide.height))
    be_quiet()
    try:
        written = [dicom_report.FILE]
        dicom_report.write_structured_report(report, source, folder)
        if dicom_cells.write_annotations(report, source, folder):
            written.append(dicom_cells.FILE)
    except (OSError, CytoLibraError):
        raise
    except Exception as error:  # highdicom and pydicom promise no type
        raise SlideError(
            f"{show(report.slide.path)}: can't be written as DICOM: {reason(error)}; leave --dicom"
        ) from error
    return written


def _reports(settings: Mapping[str, JsonValue]) -> Mapping[str, JsonValue]:
    found = settings.get("reports")
    return found if isinstance(found, dict) else {}
