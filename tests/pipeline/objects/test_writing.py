"""Which objects a slide gets: those that the settings want, and that can be made."""

import pickle
import sys

import numpy as np
import pydicom
import pytest
from blobs import BlobDetector, blob_slide
from dicomseries import write_image
from objectcases import SHA256, a_report, an_image
from slidefiles import write_pyramid

from configs import ConfigError
from pipeline.errors import SlideError
from pipeline.objects import dicom_cells
from pipeline.objects.writing import wanted_dicom, wants_fhir, write_objects
from pipeline.reports.tables import ReportSettings
from pipeline.screen import screen_slide
from pipeline.settings import ScreenSettings

SERIES = "1.2.3.4"


def wanting(report, **reports):
    return report.model_copy(update={"settings": {**report.settings, "reports": reports}})


def of_dicom():
    report = a_report()
    return report.with_cells(report.cells, an_image("Doe^Jane"))


@pytest.mark.parametrize(
    ("reports", "is_dicom", "files"),
    [
        ({}, True, []),
        ({"fhir": True}, False, ["report.fhir.json"]),
        ({"dicom": "source"}, True, ["cells.ann.dcm", "report.sr.dcm"]),
        ({"dicom": "source"}, False, []),
        ({"dicom": "derived"}, False, ["cells.ann.dcm", "report.sr.dcm"]),
        (
            {"dicom": "derived", "fhir": True},
            True,
            ["cells.ann.dcm", "report.fhir.json", "report.sr.dcm"],
        ),
    ],
)
def test_files_are_those_that_are_wanted(tmp_path, reports, is_dicom, files):
    if "dicom" in reports:
        pytest.importorskip("highdicom", reason="DICOM objects need cytolibra[dicom]")
    report = wanting(of_dicom() if is_dicom else a_report(), **reports)
    assert sorted(write_objects(report, tmp_path, SHA256)) == files
    assert sorted(path.name for path in tmp_path.iterdir()) == files
    for path in tmp_path.glob("*.dcm"):
        dataset = pydicom.dcmread(path)
        assert dataset.PatientName == ("Doe^Jane" if is_dicom else "")


def test_what_is_in_force_is_read_of_any_settings():
    assert wanted_dicom({}) is None
    assert wanted_dicom({"reports": {"dicom": "all"}}) is None
    assert wanted_dicom({"reports": {"dicom": "derived"}}) == "derived"
    assert not wants_fhir({"reports": None})


def test_results_without_objects_keep_their_recipe():
    assert ReportSettings().of_slides() == {"csv": "plain"}
    wanted = ReportSettings(dicom="source", fhir=True).of_slides()
    assert wanted == {"csv": "plain", "dicom": "source", "fhir": True}


def test_an_extra_that_is_missing_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "highdicom", None)
    with pytest.raises(ConfigError, match=r"highdicom is not installed: .*cytolibra\[dicom\]"):
        write_objects(wanting(of_dicom(), dicom="source"), tmp_path, SHA256)


def test_what_was_not_foreseen_fails_the_slide_in_one_line(tmp_path, monkeypatch):
    pytest.importorskip("highdicom", reason="DICOM objects need cytolibra[dicom]")

    def fail(*_):
        raise TypeError("no\nsuch thing")

    monkeypatch.setattr(dicom_cells, "_groups", fail)
    with pytest.raises(SlideError, match="can't be written as DICOM") as failure:
        write_objects(wanting(of_dicom(), dicom="source"), tmp_path, SHA256)
    assert "\n" not in str(failure.value)


@pytest.fixture
def series(tmp_path):
    """A DICOM slide with dark squares."""
    pixels = blob_slide((600, 400), [(100, 100), (300, 200)], [1, 0])
    write_image(tmp_path / "a.dcm", pixels, 0.25, SERIES)
    return tmp_path / "a.dcm"


def screened(path, **reports):
    values = {"tiler": {"size": 256, "overlap": 64}, "foreground": {"enabled": False}}
    settings = ScreenSettings.model_validate({**values, "reports": reports})
    return screen_slide(path, BlobDetector(), settings)


def test_a_screened_slides_header_rides_along(series):
    report = pickle.loads(pickle.dumps(screened(series, dicom="source")))
    image = pydicom.Dataset.from_json(report.source)
    assert (image.SeriesInstanceUID, image.PatientName) == (SERIES, "Doe^Jane")
    assert (image.TotalPixelMatrixColumns, image.TotalPixelMatrixRows) == (600, 400)
    assert "Doe" not in report.model_dump_json()
    assert screened(series).source is None


def test_a_slide_of_another_kind_has_no_header(tmp_path):
    image = np.full((300, 300, 3), 240, np.uint8)
    path = write_pyramid(tmp_path / "a.tif", image, levels=1, mpp=0.25, compression="deflate")
    assert screened(path, dicom="derived").source is None


def test_what_a_header_lacks_is_told_before_the_work(series, monkeypatch):
    dataset = pydicom.dcmread(series)
    del dataset.FrameOfReferenceUID
    dataset.save_as(series)
    monkeypatch.setattr("pipeline.planning.find_foreground", None)
    with pytest.raises(SlideError, match="FrameOfReferenceUID in its header: is missing"):
        screened(series, dicom="source")
