"""``cells.ann.dcm``, read back by pydicom and highdicom: the cells, where they are in cells.csv."""

import csv
import io

import numpy as np
import pydicom
import pytest
from objectcases import a_report, an_image, no_cells, with_classes

pytest.importorskip("highdicom", reason="DICOM objects need cytolibra[dicom]")
pytest.importorskip("dicom_validator", reason="it checks them")

import highdicom
from dicomstandard import problems, problems_of

from pipeline.objects.dicom_cells import FILE, SINGLE_UP_TO, corners, write_annotations
from pipeline.reports.cells_table import write_cells


@pytest.fixture(autouse=True)
def strict():
    """Values that don't fit their type are an error, written or read."""
    settings = pydicom.config.settings
    before = settings.reading_validation_mode, settings.writing_validation_mode
    settings.reading_validation_mode = settings.writing_validation_mode = pydicom.config.RAISE
    yield
    settings.reading_validation_mode, settings.writing_validation_mode = before


def rows_of(report):
    stream = io.StringIO()
    write_cells(stream, report)
    return list(csv.DictReader(stream.getvalue().splitlines()))


def written(report, folder, **options):
    assert write_annotations(report, an_image(**options), folder)
    return highdicom.ann.annread(folder / FILE)


def scores_of(group):
    names, values, units = group.get_measurements()
    assert {unit.value for unit in units} == {"1"}
    return {name.value: values[:, i] for i, name in enumerate(names)}


def test_groups_have_the_rows_of_the_table(tmp_path):
    report = a_report()
    annotations = written(report, tmp_path)
    assert annotations.annotation_coordinate_type.value == "2D"
    assert annotations.PixelOriginInterpretation == "VOLUME"
    rows, told = rows_of(report), 0
    groups = annotations.get_annotation_groups()
    assert [g.label for g in groups] == [n for n, count in report.counts.items() if count]
    for group in groups:
        own = [row for row in rows if row["class"] == group.label]
        assert group.number_of_annotations == len(own)
        assert group.graphic_type.value == "RECTANGLE"
        boxes = [[float(row[s]) for s in ("x_min", "y_min", "x_max", "y_max")] for row in own]
        points = np.array(group.get_graphic_data("2D"), np.float64)
        found = np.concatenate([points[:, 0], points[:, 2]], axis=1)
        np.testing.assert_allclose(found, boxes, atol=0.005)
        assert (points[:, 1] == points[:, [0, 2]][:, [1, 0], [0, 1]]).all()  # right, top
        assert (points[:, 3] == points[:, [0, 2]][:, [0, 1], [0, 1]]).all()  # left, bottom
        scores = scores_of(group)
        for name, column in (
            ("246262008", "score"),
            ("score-abnormal", "score_abnormal"),
            ("score-low-grade", "score_low_grade"),
            ("score-high-grade", "score_high_grade"),
        ):
            np.testing.assert_allclose(scores[name], [float(r[column]) for r in own], atol=1e-6)
        is_abnormal = own[0]["abnormal"] == "true"
        assert group.annotated_property_category.value == (
            "49755003" if is_abnormal else "91723000"
        )
        assert group.annotated_property_type.value == "4421005"
        told += len(own)
    assert told == len(rows)


def test_it_is_what_the_standard_asks_for(tmp_path):
    report = a_report()
    written(report, tmp_path)
    assert problems(tmp_path / FILE) == []
    dataset = pydicom.dcmread(tmp_path / FILE)
    del dataset.ContentLabel
    dataset.AnnotationGroupSequence[0].AnnotationGroupLabel = ""
    assert len(problems_of(dataset)) == 2  # the check finds what is wrong


def test_it_says_who_made_it_of_what(tmp_path):
    report = a_report()
    dataset = written(report, tmp_path)
    image = pydicom.Dataset.from_json(an_image())
    assert dataset.StudyInstanceUID == image.StudyInstanceUID
    (series,) = dataset.ReferencedSeriesSequence
    assert series.SeriesInstanceUID == image.SeriesInstanceUID
    for (reference,) in (series.ReferencedInstanceSequence, dataset.ReferencedImageSequence):
        assert reference.ReferencedSOPInstanceUID == image.SOPInstanceUID
        assert reference.ReferencedSOPClassUID.name == "VL Whole Slide Microscopy Image Storage"
    for group in dataset.get_annotation_groups():
        assert group.algorithm_type.value == "AUTOMATIC"
        algorithm = group.algorithm_identification
        assert (algorithm.name, algorithm.version) == (
            "CytoLibra fake",
            report.software["cytolibra"],
        )
        assert report.model.sha256 in algorithm.parameters["weights"]
    assert dataset.ContentDescription == "Unverified; found by a program; derived identity"
    assert dataset.DeviceSerialNumber == report.model.sha256
    again = written(report, tmp_path)
    assert again.SOPInstanceUID != dataset.SOPInstanceUID  # another instance, at another time


def test_the_patient_is_the_images(tmp_path):
    dataset = written(a_report(), tmp_path, patient="Мюллер^Zoë")
    assert (dataset.PatientName, dataset.PatientID) == ("Мюллер^Zoë", "4711")
    assert problems(tmp_path / FILE) == []


def test_without_cells_there_is_none(tmp_path):
    report = a_report().with_cells(no_cells(), None)
    assert not write_annotations(report, an_image(), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_cells_without_scores_of_all_classes_have_the_one_they_have(tmp_path):
    report = a_report()
    cells = report.cells
    bare = type(cells)(cells.boxes, cells.scores, cells.labels)
    for group in written(report.with_cells(bare, None), tmp_path).get_annotation_groups():
        assert list(scores_of(group)) == ["246262008"]


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("ДИСПЛАЗИЯ", "ДИСПЛАЗИЯ"),
        ("a\\b", "a/b"),
        ("x" * 70, "x" * 63 + "…"),
        ("\t", "-"),
    ],
)
def test_any_class_name_is_written(tmp_path, name, label):
    report = with_classes(a_report(), name)
    group = written(report, tmp_path).get_annotation_groups()[0]
    assert group.label == label
    assert problems(tmp_path / FILE) == []
    if len(name) > 64:
        assert group.AnnotationGroupDescription == name


def test_large_slides_are_written_in_double_precision(tmp_path):
    report = a_report()
    assert "PointCoordinatesData" in written(report, tmp_path).AnnotationGroupSequence[0]
    slide = report.slide.model_copy(update={"width": SINGLE_UP_TO + 1})
    cells = report.cells.placed(report.cells.boxes + 200_000)
    large = report.model_copy(update={"slide": slide}).with_cells(cells, None)
    group = written(large, tmp_path).AnnotationGroupSequence[0]
    assert "DoublePointCoordinatesData" in group
    first = next(row for row in rows_of(large) if row["class"] == group.label)
    assert np.array(group.get_graphic_data("2D"))[0, 0, 0] == float(first["x_min"])


def test_corners_go_clockwise():
    (points,) = corners(np.array([[1.004, 2, 3, 5.006]]), np.float32)
    expected = np.array([[1, 2], [3, 2], [3, 5.01], [1, 5.01]], np.float32)
    np.testing.assert_array_equal(points, expected)
