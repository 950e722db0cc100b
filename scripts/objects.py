"""``cytolibra objects``: DICOM and FHIR objects of results that are there."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from configs import ConfigError, CytoLibraError, Doubt
from configs.doubts import listed
from scripts.screening.options import Dicom, DicomDerived, Fhir, dicom_kind
from scripts.telling import warn

if TYPE_CHECKING:
    from pipeline.batch.last_run import Verdict
    from pipeline.batch.rescore import Result
    from pipeline.objects.source import Header
    from pipeline.objects.writing import Dicom as Kind
    from pipeline.reports.report import SlideReport


def objects(
    reports: Annotated[
        Path,
        typer.Argument(metavar="REPORTS", help="Folder that screen wrote.", show_default=False),
    ],
    dicom: Dicom = False,
    dicom_derived: DicomDerived = False,
    fhir: Fhir = False,
) -> None:
    """Writes DICOM and FHIR objects of results that are there, for archives and labs.

    They lie beside the reports. Nothing is screened and no report changes. Slides whose result is
    damaged, which failed when last screened or have changed since, or whose DICOM header is needed
    and can't be had, are told, and the others are done.

    Exit codes: 0 all are written, 1 some could not be, 2 the call is wrong, 130 interrupted.

    Research use only. Not a medical device; not for diagnosis. Findings require review by a
    qualified cytologist.
    """
    from pipeline.batch.last_run import LastRun, verdict_of
    from pipeline.batch.places import find_places
    from pipeline.batch.rescore import find_results
    from pipeline.objects.writing import check_installed
    from pipeline.reports.report import encodable

    kind = dicom_kind(dicom, dicom_derived)
    if not kind and not fhir:
        raise ConfigError("name what to write: --dicom, --dicom-derived or --fhir")
    if kind:
        check_installed()
    places = find_places(reports)
    warn(places.doubts)
    runs = [LastRun.of(run) for run in places.runs]
    results = find_results(places)
    written, failed, without, old = 0, 0, list[str](), list[str]()
    for result in results:
        folder = reports / result.job.name
        try:
            verdict = verdict_of(folder, runs)
            _check_slide(folder, result, verdict)
            names = write_of(folder, result, kind, fhir)
        except CytoLibraError as error:
            failed += 1
            typer.echo(f"error: {error}", err=True)
            continue
        written += len(names)
        if verdict == "outdated":
            old.append(encodable(result.job.name))
        if kind and not any(name.endswith(".dcm") for name in names):
            without.append(encodable(result.job.name))
    if without:
        typer.echo(
            f"warning: {len(without)} slides are no DICOM, {without[0]} first: no DICOM objects of "
            "theirs; --dicom-derived gives them UIDs of their own [no-dicom-identity]",
            err=True,
        )
    if old:
        text = f"{len(old)} slides have reports of other settings than the last run: {listed(old)}"
        warn([Doubt(code="mixed-settings", text=text)])
    typer.echo(f"{reports}: {written} objects of {len(results) - failed} slides")
    raise typer.Exit(1 if failed else 0)


def _check_slide(folder: Path, result: Result, verdict: Verdict) -> None:
    """Refuses a report that is no longer one of the slide in its place.

    Args:
        folder: of the result.
        result: that lies there.
        verdict: of the records of the last run.

    Raises:
        ConfigError: it is.
    """
    from pipeline.batch.fingerprint import has_same_files
    from pipeline.slides.readers.base import show

    job, known = result.job, result.fingerprint
    if verdict == "failed":
        raise ConfigError(
            f"{show(folder)}: has a report of before, and its slide failed when it was last "
            "screened; screen it again"
        )
    same = known is None or job.gone or has_same_files(job, folder, known)
    if verdict == "changed" or not same:
        raise ConfigError(
            f"{show(job.where)}: is another file than when it was screened; screen it again"
        )


def write_of(folder: Path, result: Result, kind: Kind | None, fhir: bool) -> list[str]:
    """Writes a result's objects, all or none; returns their names.

    Args:
        folder: of the result.
        result: that lies there.
        kind: of which slides DICOM objects are wanted; None for none.
        fhir: whether a FHIR report is.

    Raises:
        CytoLibraError: the result, or the slide's header, is not as it must be.
    """
    from pipeline.objects.fhir import FILE, write_fhir
    from pipeline.objects.writing import DICOM_FILES, write_dicom
    from pipeline.reports.writers import partial_name
    from pipeline.slides.readers.base import show

    if result.report is None:
        raise ConfigError(result.job.problem or f"{show(folder)}: can't be read")
    partial, names = folder / partial_name(), list[str]()
    try:
        partial.mkdir()
        if fhir:
            write_fhir(result.report, partial)
            names.append(FILE)
        if kind:
            sha256 = result.fingerprint.sha256 if result.fingerprint else ""
            names += write_dicom(_whole(folder, result, kind), partial, sha256, kind)
            for name in set(DICOM_FILES) - set(names):  # of cells that are no longer there
                (folder / name).unlink(missing_ok=True)
        for name in names:
            os.replace(partial / name, folder / name)
    except OSError as error:
        raise ConfigError(f"{show(folder)}: can't be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return names


def _whole(folder: Path, result: Result, kind: Kind) -> SlideReport:
    """The report with its cells, and what its slide's header says.

    Raises:
        ConfigError: they can't be had, or are of another slide or result.
    """
    from pipeline.reports.cells_table import read_cells
    from pipeline.slides.readers.base import show

    report = result.report
    assert report
    if kind == "derived" and result.fingerprint is None:
        raise ConfigError(
            f"{show(folder)}: has no fingerprint.json, which says what its slide holds; screen it "
            "again"
        )
    path = folder / "cells.csv"
    cells = read_cells(path, report.model.classes)
    if len(cells) != sum(report.counts.values()):
        raise ConfigError(
            f"{show(path)}: is damaged: it has {len(cells)} cells, and report.json beside it "
            f"counts {sum(report.counts.values())}; screen its slide again"
        )
    return report.with_cells(cells, _header(result))


def _header(result: Result) -> Header | None:
    """What a DICOM slide's header says; None of another slide.

    Raises:
        CytoLibraError: the slide is not there, or its header is not as it must be.
    """
    from pipeline.geometry import Size
    from pipeline.objects.source import is_dicom, read_source
    from pipeline.slides.readers.base import show

    report, job = result.report, result.job
    assert report
    if job.gone:
        if report.slide.format == "dicom":
            raise ConfigError(
                f"{show(job.where)}: is not there, and DICOM objects need its header: bring it back"
            )
        return None
    if not is_dicom(job.path):
        return None
    return read_source(job.path, Size(report.slide.width, report.slide.height))
