"""``cytolibra objects``: DICOM and FHIR of results that are there, or a line that says why not."""

import json
import sys

import numpy as np
import pydicom
import pytest
from dicomseries import write_image
from fakes import CLASSES, MODEL, make_cells, make_older_report, make_report, scored
from slidefiles import write_pyramid
from typer.testing import CliRunner

from pipeline.batch.discovery import SlideJob
from pipeline.batch.fingerprint import Fingerprint, hash_content, save_fingerprint, stamp_files
from pipeline.batch.run_record import RunRecord, SlideRecord, save_record
from pipeline.reports.tables import ReportSettings
from pipeline.reports.writers import write_reports
from pipeline.settings import ScreenSettings
from scripts.cli import build_app
from scripts.screening.doubts import doubts_of_dicom

pytest.importorskip("highdicom", reason="DICOM objects need cytolibra[dicom]")

import highdicom

SERIES = "1.2.3.4"
OBJECTS = ["cells.ann.dcm", "report.fhir.json", "report.sr.dcm"]


def call(*words, command="objects"):
    result = CliRunner().invoke(build_app(command), [command, *map(str, words)])
    assert "Traceback" not in result.output
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result


def write(out, path, count=20):
    """A result of a slide that lies at a path."""
    rng = np.random.default_rng(count)
    cells = scored(make_cells(count), rng.random((count, len(CLASSES))).astype(np.float32))
    folder = out / path.name
    folder.mkdir(parents=True)
    write_reports(make_report(path, cells), folder)
    job = SlideJob(path, path.name)
    print_of = Fingerprint(recipe="a", files=stamp_files(job), sha256=hash_content(job))
    save_fingerprint(print_of, folder)
    return folder


@pytest.fixture
def reports(tmp_path):
    """Results of a DICOM slide, of another one, and of one that is not there any more."""
    slides, out = tmp_path / "slides", tmp_path / "reports"
    write_image(slides / "d.dcm", np.zeros((30, 40, 3), np.uint8), 0.25, SERIES)
    large = pydicom.dcmread(slides / "d.dcm")  # as the reports say; nobody reads its pixels
    large.TotalPixelMatrixColumns, large.TotalPixelMatrixRows = 4000, 3000
    large.save_as(slides / "d.dcm")
    for name in ("s.svs", "gone.svs"):
        (slides / name).write_bytes(name.encode())
    for name in ("d.dcm", "s.svs", "gone.svs"):
        write(out, slides / name, 0 if name == "gone.svs" else 20)
    (slides / "gone.svs").unlink()
    return out


def objects_of(folder):
    return sorted({path.name for path in folder.iterdir()} & set(OBJECTS))


def test_all_slides_get_what_is_asked_for(reports):
    result = call(reports, "--dicom-derived", "--fhir")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == f"{reports}: 8 objects of 3 slides\n"
    assert objects_of(reports / "d.dcm") == objects_of(reports / "s.svs") == OBJECTS
    assert objects_of(reports / "gone.svs") == OBJECTS[1:]  # there is no cell
    own = highdicom.ann.annread(reports / "d.dcm" / "cells.ann.dcm")
    assert own.ReferencedSeriesSequence[0].SeriesInstanceUID == SERIES
    assert own.PatientName == "Doe^Jane"
    assert sum(g.number_of_annotations for g in own.get_annotation_groups()) == 20
    other = pydicom.dcmread(reports / "s.svs" / "report.sr.dcm")
    assert str(other.StudyInstanceUID).startswith("2.25.")
    assert json.loads((reports / "s.svs" / "report.fhir.json").read_text())["status"]
    assert not list(reports.rglob(".partial-*"))


def test_those_that_are_no_dicom_are_told(reports):
    result = call(reports, "--dicom")
    assert result.exit_code == 0
    assert result.stdout == f"{reports}: 2 objects of 3 slides\n"
    assert result.stderr.startswith("warning: 2 slides are no DICOM, gone.svs first")
    assert objects_of(reports / "s.svs") == []


def test_objects_of_cells_that_went_go(reports):
    call(reports, "--dicom-derived")
    folder = reports / "s.svs"
    empty = make_report(reports.parent / "slides" / "s.svs", make_cells(0))
    write_reports(empty, folder)
    call(reports, "--dicom-derived")
    assert objects_of(folder) == ["report.sr.dcm"]


def test_a_slide_that_changed_or_is_gone_is_told_and_the_others_are_done(reports):
    slide = reports.parent / "slides" / "d.dcm"
    slide.write_bytes(slide.read_bytes()[:-1] + b"\x01")
    result = call(reports, "--dicom-derived")
    assert result.exit_code == 1
    assert result.stderr == (
        f"error: {slide}: is another file than when it was screened; screen it again\n"
    )
    assert objects_of(reports / "s.svs") == ["cells.ann.dcm", "report.sr.dcm"]
    path = reports / "d.dcm" / "report.json"
    values = json.loads(path.read_text())
    values["slide"]["format"] = "dicom"
    path.write_text(json.dumps(values))
    slide.unlink()
    result = call(reports, "--dicom-derived")
    assert f"error: {slide}: is not there, and DICOM objects need its header" in result.stderr


@pytest.mark.parametrize("kind", ["--fhir", "--dicom-derived"])
def test_a_slide_in_whose_place_is_another_has_no_objects_of_any_kind(reports, kind):
    slide = reports.parent / "slides" / "s.svs"
    slide.write_bytes(b"another")
    result = call(reports, kind)
    assert result.exit_code == 1
    assert result.stderr == (
        f"error: {slide}: is another file than when it was screened; screen it again\n"
    )
    assert objects_of(reports / "s.svs") == []
    assert objects_of(reports / "d.dcm")


def test_the_records_say_which_reports_have_objects(reports):
    slides = reports.parent / "slides"
    states = {"d.dcm": "failed", "s.svs": "pending", "gone.svs": "complete"}
    record = RunRecord(
        command=("cytolibra", "screen", "slides"),
        shard=None,
        started="",
        software={},
        model=MODEL,
        settings={},
        recipe="b",
        slides={name: SlideRecord(str(slides / name), state) for name, state in states.items()},
    )
    save_record(record, reports)
    result = call(reports, "--fhir")
    assert result.exit_code == 1
    error, warning = result.stderr.splitlines()
    assert error == (
        f"error: {reports / 'd.dcm'}: has a report of before, and its slide failed when it was "
        "last screened; screen it again"
    )
    assert warning == (
        "warning: 1 slides have reports of other settings than the last run: s.svs [mixed-settings]"
    )
    assert result.stdout == f"{reports}: 2 objects of 2 slides\n"


@pytest.mark.parametrize(
    ("file", "content", "told"),
    [
        ("report.json", "{}", "can't be read; screen its slide again"),
        ("cells.csv", "id,class\n", "is no cells.csv of this model"),
        ("fingerprint.json", "?", "has no fingerprint.json"),
    ],
)
def test_a_damaged_result_is_told(reports, file, content, told):
    (reports / "s.svs" / file).write_text(content)
    result = call(reports, "--dicom-derived")
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1
    assert told in result.stderr
    assert objects_of(reports / "s.svs") == []


def test_other_cells_than_the_report_counts_are_told(reports):
    path = reports / "s.svs" / "cells.csv"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-3]))
    assert (
        "it has 17 cells, and report.json beside it counts 20"
        in call(reports, "--dicom-derived").stderr
    )


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_reports_of_earlier_schemas_are_taken(reports, version):
    path = reports / "gone.svs" / "report.json"
    values = make_older_report(version)
    values["slide"]["path"] = str(reports.parent / "slides" / "gone.svs")
    values["counts"] = dict.fromkeys(values["counts"], 0)
    path.write_text(json.dumps(values))
    assert call(reports, "--fhir", "--dicom-derived").exit_code == 0
    assert objects_of(reports / "gone.svs") == OBJECTS[1:]


def test_a_wrong_call_is_told(reports, tmp_path, monkeypatch):
    result = call(reports)
    assert result.exit_code == 2
    assert result.stderr == "error: name what to write: --dicom, --dicom-derived or --fhir\n"
    assert call(tmp_path / "none", "--fhir").exit_code == 2
    monkeypatch.setitem(sys.modules, "highdicom", None)
    words = (reports, "--out", tmp_path / "x", "--dicom")
    for result in (call(reports, "--dicom"), call(*words, command="screen")):
        assert result.exit_code == 2
        assert result.stderr == (
            "error: reports.dicom: highdicom is not installed: pip install 'cytolibra[dicom]'\n"
        )
    assert call(reports, "--fhir").exit_code == 0


def test_screening_tells_which_slides_have_no_study(tmp_path):
    write_image(tmp_path / "a", np.zeros((30, 40, 3), np.uint8), 0.25, SERIES)
    (tmp_path / "b.svs").touch()
    jobs = [SlideJob(tmp_path / name, name) for name in ("a", "b.svs", "far.dcm", "far.SVS")]
    jobs.append(SlideJob(tmp_path / "gone.svs", "gone.svs", gone=True))

    def told(kind):
        reports = ReportSettings(dicom=kind)
        return doubts_of_dicom(jobs, ScreenSettings(reports=reports))

    (doubt,) = told("source")
    assert doubt.code == "no-dicom-identity"
    assert doubt.text.startswith(f"2 of 5 slides are no DICOM, {tmp_path / 'b.svs'} first")
    assert told("derived") == told(None) == []


def test_looking_ahead_tells_them_too(tmp_path):
    write_pyramid(tmp_path / "b.tif", np.full((300, 300, 3), 240, np.uint8), levels=1, mpp=0.25)
    words = (tmp_path / "b.tif", "--out", tmp_path / "x", "--dicom", "--dry-run")
    told = call(*words, command="screen").stderr
    assert "1 of 1 slides are no DICOM" in told
