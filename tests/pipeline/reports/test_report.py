import csv
import json
import pickle
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from fakes import CLASSES, make_cells, make_older_report, make_report, scored
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pipeline.geometry import Detections, Rect
from pipeline.reports.report import (
    NOTICE,
    SCHEMA,
    SlideReport,
    encodable,
    measure_area,
    most_suspicious_first,
    on_disk,
    report_schema,
    schema_text,
    union_area,
)
from pipeline.reports.writers import write_reports, write_whole

CONTRACT = (
    "schema_version status slide model settings area counts levels abnormal_cells cells_per_mm2 "
    "suggestion expectation second_look accuracy domain planes adequacy quality preview "
    "detections warnings timing software notice"
)


def written(tmp_path: Path, report: SlideReport) -> Path:
    folder = tmp_path / "out"
    folder.mkdir(exist_ok=True)
    write_reports(report, folder)
    return folder


def read_cells(folder: Path) -> list[dict[str, str]]:
    with (folder / "cells.csv").open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_published_schema_is_up_to_date() -> None:
    message = "out of date: write it anew with `python -m pipeline.reports.report`"
    assert SCHEMA.read_text(encoding="utf-8") == schema_text(), message


@pytest.mark.parametrize("count", [0, 1, 50])
def test_written_report_fits_the_schema_and_the_contract(tmp_path: Path, count: int) -> None:
    folder = written(tmp_path, make_report(cells=make_cells(count), unread=((0, 0, 10, 10),)))
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(report_schema())
    jsonschema.validate(report, report_schema())
    assert " ".join(report) == CONTRACT
    assert (
        " ".join(report["slide"])
        == "path format width height mpp mpp_source objective reader facts bounds"
    )
    assert " ".join(report["model"]) == "name sha256 classes mpp threshold second_look"
    assert " ".join(report["area"]) == (
        "slide_mm2 screened_mm2 skipped_share unread_mm2 unread "
        "out_of_focus_mm2 dark_mm2 ink_mm2 bubbles_mm2"
    )
    assert " ".join(report["suggestion"]) == (
        "category rule version level score suspicious set_aside set_aside_reason cells why"
    )
    assert report["status"] == "complete"
    assert report["schema_version"] == "2.0"
    assert report["adequacy"]["satisfactory"] is (True if count == 50 else None)
    assert report["adequacy"]["transformation_zone"] == "not assessable"
    assert report["notice"] == NOTICE
    assert NOTICE == (
        "Research use only. Not a medical device; not for diagnosis. "
        "Findings require review by a qualified cytologist."
    )


def test_counts_hold_every_class_and_densities_the_screened_area() -> None:
    cells = Detections(np.zeros((3, 4)), np.ones(3, np.float32), np.array([4, 0, 4]))
    report = make_report(cells=cells)
    assert report.counts == {
        "NILM": 1,
        "ASC-US": 0,
        "LSIL": 0,
        "ASC-H": 0,
        "HSIL": 2,
        "SCC": 0,
    }
    assert report.levels == {"abnormal": 2, "low grade": 0, "high grade": 2}
    assert report.abnormal_cells == 2
    assert report.area.slide_mm2 == pytest.approx(4000 * 3000 * 0.25**2 / 1e6)
    assert report.area.screened_mm2 == pytest.approx(6e6 * 0.25**2 / 1e6)
    assert report.cells_per_mm2 == pytest.approx(3 / report.area.screened_mm2, abs=1e-3)
    assert report.suggestion.category == "HSIL"


def test_a_slide_where_nothing_was_screened_has_no_density() -> None:
    area = measure_area(Rect(0, 0, 10, 10), 0.5, 0, np.zeros((0, 4)))
    assert area.screened_mm2 == area.unread_mm2 == 0
    report = make_report(cells=Detections.empty())
    assert report.suggestion.category == "no cells above threshold"
    assert report.counts == {c.name: 0 for c in CLASSES}


def test_report_refuses_numbers_that_json_has_not() -> None:
    values = make_report().model_dump()
    values["timing"] = {"tiles": float("nan")}
    with pytest.raises(ValidationError, match="finite"):
        SlideReport.model_validate(values)


def test_cells_and_pictures_survive_a_pickle_and_stay_out_of_the_json() -> None:
    report = pickle.loads(pickle.dumps(make_report()))
    assert len(report.cells) == 50
    assert "cells" not in report.model_dump()
    read_back = SlideReport.model_validate_json(report.model_dump_json())
    assert len(read_back.cells) == 0
    assert read_back.counts == report.counts


@pytest.mark.parametrize(("version", "code"), [("1.0", "uncoded"), ("1.1", "grey")])
def test_reports_of_older_schemas_are_read(version: str, code: str) -> None:
    report = SlideReport.model_validate_json(json.dumps(make_older_report(version)))
    assert report.schema_version == "2.0"
    assert report.levels == make_report().levels
    assert report.levels["abnormal"] == report.abnormal_cells > 0
    assert report.adequacy.satisfactory is None
    assert report.adequacy.reason == "not assessed by the version that screened it"
    assert [(doubt.code, doubt.text) for doubt in report.warnings] == [(code, "one")]
    jsonschema.validate(json.loads(report.model_dump_json()), report_schema())


@pytest.mark.parametrize("broken", [{"model": 3}, {"counts": None}, {"model": {"classes": [1]}}])
def test_a_broken_report_of_an_older_schema_is_refused_not_crashed_on(broken: dict) -> None:
    with pytest.raises(ValidationError):
        SlideReport.model_validate(make_older_report("1.1") | broken)


def test_undecodable_names_can_be_written() -> None:
    assert encodable(Path("a\udcff😀.svs")) == "a\\udcff😀.svs"


def test_a_path_is_found_again_by_its_text(tmp_path: Path) -> None:
    for name in ("a\udcff😀.svs", "\udc80\udcff", "plain", "\\udc7f"):  # the last is no byte
        assert on_disk(encodable(name), tmp_path) == name
    (tmp_path / "\\udcff").touch()
    assert on_disk("\\udcff", tmp_path) == "\\udcff"


@given(st.integers(0, 60), st.integers(0, 2**32 - 1))
def test_order_of_cells_does_not_depend_on_the_order_of_the_input(count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    boxes = rng.integers(0, 3, (count, 4)).astype(float)
    scores = rng.choice(np.array([0.5, 0.9], np.float32), count)
    cells = Detections(boxes, scores, rng.integers(0, len(CLASSES), count))
    expected = most_suspicious_first(cells, CLASSES)
    found = most_suspicious_first(cells[rng.permutation(count)], CLASSES)
    for name in ("boxes", "scores", "labels"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    keys = [(label == 0, -score) for label, score in zip(found.labels, found.scores, strict=True)]
    assert keys == sorted(keys)


@given(
    st.lists(
        st.tuples(*[st.integers(0, 12)] * 2, *[st.integers(0, 8)] * 2).map(
            lambda t: (t[0], t[1], t[0] + t[2], t[1] + t[3])
        ),
        max_size=12,
    )
)
def test_union_area_counts_each_pixel_once(boxes: list[tuple[int, int, int, int]]) -> None:
    pixels = {(x, y) for x0, y0, x1, y1 in boxes for x in range(x0, x1) for y in range(y0, y1)}
    assert union_area(np.array(boxes, dtype=float).reshape(-1, 4)) == len(pixels)


def test_unread_areas_are_clipped_to_the_scanned_part_and_not_counted_twice() -> None:
    unread = np.array([[-50, 0, 60, 100], [10, 0, 60, 100], [200, 200, 300, 300.0]])
    area = measure_area(Rect(10, 0, 100, 100), 1.0, 0, unread)
    assert area.unread == ((10, 0, 60, 100), (10, 0, 60, 100))
    assert area.unread_mm2 == pytest.approx(50 * 100 / 1e6)


@pytest.mark.parametrize("count", [0, 30])
def test_geojson_is_what_qupath_reads(tmp_path: Path, count: int) -> None:
    report = make_report(cells=make_cells(count))
    folder = written(tmp_path, report)
    collection = json.loads((folder / "cells.geojson").read_text(encoding="utf-8"))
    assert collection["type"] == "FeatureCollection"
    assert len(collection["features"]) == count
    rows = read_cells(folder)
    for feature, row in zip(collection["features"], rows, strict=True):
        assert feature["type"] == "Feature"
        assert feature["properties"]["objectType"] == "detection"
        assert feature["properties"]["name"] == row["id"]
        classification = feature["properties"]["classification"]
        assert classification["name"] == row["class"]
        assert len(classification["color"]) == 3
        assert feature["properties"]["measurements"]["score"] == float(row["score"])
        (ring,) = feature["geometry"]["coordinates"]
        assert len(ring) == 5
        assert ring[0] == ring[4]
        xs, ys = zip(*ring, strict=True)
        assert (min(xs), min(ys), max(xs), max(ys)) == tuple(
            float(row[name]) for name in ("x_min", "y_min", "x_max", "y_max")
        )


def test_geojson_tells_that_a_cell_is_abnormal_whatever_it_is_called(tmp_path: Path) -> None:
    cells = Detections(np.array([[10, 20, 30, 50.0]]), np.float32([0.8]), np.array([0]))
    scores = np.float32([[0.8, 0.1, 0.25, 0.2, 0.05, 0]])
    folder = written(tmp_path, make_report(cells=scored(cells, scores)))
    collection = json.loads((folder / "cells.geojson").read_text(encoding="utf-8"))
    (feature,) = collection["features"]
    assert feature["properties"]["measurements"] == {
        "score": 0.8,
        "score_abnormal": 0.25,
        "score_low_grade": 0.25,
        "score_high_grade": 0.2,
    }
    assert "metadata" not in feature["properties"]


def test_geojson_tells_the_grade_where_there_is_one(tmp_path: Path) -> None:
    cells = Detections(
        np.tile([10, 20, 30, 50.0], (2, 1)), np.float32([0.8, 0.7]), np.array([2, 4])
    )
    folder = written(tmp_path, make_report(cells=cells))
    features = json.loads((folder / "cells.geojson").read_text(encoding="utf-8"))["features"]
    grades = [feature["properties"]["metadata"]["grade"] for feature in features]
    assert grades == ["low grade", "high grade"]


BOUNDS = (80_000, 120_000, 30_000, 40_000)
"""As of an MRXS: the scanned part lies far inside of what the stage could reach."""


def test_geojson_is_in_the_frame_that_qupath_shows(tmp_path: Path) -> None:
    """QuPath crops a slide to its bounds; everything else counts from the whole slide's corner."""
    box = np.array([[80_010, 120_020, 80_050, 120_060.5]])
    cells = Detections(box, np.float32([0.5]), np.array([4]))
    whole, cropped = (
        json.loads((written(tmp_path, report) / "cells.geojson").read_text(encoding="utf-8"))
        for report in (make_report(cells=cells), make_report(cells=cells, bounds=BOUNDS))
    )
    (ring,) = cropped["features"][0]["geometry"]["coordinates"]
    assert ring == [[10, 20], [50, 20], [50, 60.5], [10, 60.5], [10, 20]]
    assert cropped["frame"]["origin"] == [80_000, 120_000]
    assert whole["frame"]["origin"] == [0, 0]
    (ring,) = whole["features"][0]["geometry"]["coordinates"]
    assert ring[0] == [80_010, 120_020]
    assert cropped["features"][0]["id"] == whole["features"][0]["id"]
    folder = tmp_path / "out"
    row = read_cells(folder)[0]
    assert (row["x_min"], row["y_max"], row["x_um"]) == ("80010.00", "120060.50", "20007.50")
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    assert report["slide"]["bounds"] == list(BOUNDS)


def test_geojson_ids_are_unique_and_stable_where_the_slide_moves(tmp_path: Path) -> None:
    def ids(path: str) -> list[str]:
        folder = written(tmp_path, make_report(path))
        collection = json.loads((folder / "cells.geojson").read_text(encoding="utf-8"))
        return [feature["id"] for feature in collection["features"]]

    here = ids("here/a.svs")
    assert len(set(here)) == 50
    assert ids("there/a.svs") == here
    assert not set(ids("here/b.svs")) & set(here)


def test_the_same_report_gives_the_same_bytes(tmp_path: Path) -> None:
    def contents() -> dict[str, bytes]:
        folder = written(tmp_path, make_report("näme 😀\n.svs"))
        return {file.name: file.read_bytes() for file in folder.iterdir()}

    first = contents()
    assert sorted(first) == ["cells.csv", "cells.geojson", "report.html", "report.json"]
    assert contents() == first


def test_a_file_is_replaced_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "summary.csv"
    write_whole(path, "old")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="No space"):
        write_whole(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
