"""What is written is read back as what it is, by the readers that training uses."""

import csv
import json
import sys
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from readingsmade import CLASSES, decision, frame_of, reading

from configs import ConfigError
from data.annotations import AnnotationSettings, read_fields
from pipeline.review.exchange.truth import gather
from pipeline.review.exchange.writing import (
    common_folder,
    to_coco,
    write_coco,
    write_labels,
    write_qupath,
)
from pipeline.review.store import SlideDecision

CELL, REJECTED, UNSURE, OPEN = (
    (10.25, 10, 30, 30),
    (100, 100, 120, 120),
    (300, 300, 320, 320),
    (410, 410, 430, 430),
)
REGION = (400, 400, 500, 500)


@pytest.fixture
def truth(tmp_path):
    path = tmp_path / "my slides" / "a é.png"
    path.parent.mkdir()
    Image.new("RGB", (1000, 800), "white").save(path)
    cells = [
        decision(CELL, "agree", said="LSIL"),
        decision(REJECTED, "reject", said="HSIL"),
        decision(UNSURE, "unsure", said="HSIL"),
    ]
    findings = np.array([CELL, REJECTED, UNSURE, OPEN], float)
    return gather(frame_of(path), reading(cells, [REGION]), findings)


def is_ignored(field, box):
    """Whether one of a field's ignored areas holds the middle of a box."""
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    areas = field.boxes[field.crowd]
    inside = (areas[:, :2] <= (x, y)).all(1) & (areas[:, 2:] > (x, y)).all(1)
    return bool(inside.any())


def check(fields, truth):
    (field,) = fields.fields
    assert (field.width, field.height, field.mpp) == (1000, 800, 0.25)
    own = ~field.crowd
    np.testing.assert_allclose(field.boxes[own], [CELL], atol=0.01)
    assert [fields.classes[label] for label in field.labels[own]] == ["LSIL"]
    # Background for sure: what was rejected, and the region where nothing was found.
    assert not is_ignored(field, REJECTED)
    assert not is_ignored(field, (450, 450, 470, 470))
    assert not is_ignored(field, CELL)
    # Neither: what is unsure, an undecided finding in the region, and all that nobody looked at.
    assert is_ignored(field, UNSURE)
    assert is_ignored(field, OPEN)
    assert is_ignored(field, (700, 700, 720, 720))


def test_coco_is_read_as_it_was_meant(truth, tmp_path):
    path = tmp_path / "out" / "reviewed.json"
    path.parent.mkdir()
    images = write_coco([truth], path)
    assert images == truth.frame.path.parent
    names = [c.name for c in CLASSES]
    check(read_fields(path, [images], names, AnnotationSettings(format="coco")), truth)


def test_images_are_named_from_the_folder_that_holds_all(truth, tmp_path):
    other = gather(frame_of(tmp_path / "more" / "b.tif"), reading([]), np.zeros((0, 4)))
    path = tmp_path / "reviewed.json"
    assert write_coco([truth, other], path) == tmp_path
    stated = json.loads(path.read_text(encoding="utf-8"))["images"]
    assert [one["file_name"] for one in stated] == ["my slides/a é.png", "more/b.tif"]


def test_qupath_is_read_as_it_was_meant(truth, tmp_path):
    (path,) = write_qupath([truth], tmp_path / "out")
    assert path.name == "a é.png.geojson"
    names = [c.name for c in CLASSES]
    settings = AnnotationSettings(format="geojson", mpp=0.25)
    check(read_fields(path, [truth.frame.path.parent], names, settings), truth)
    shown = json.loads(path.read_text(encoding="utf-8"))["features"]
    assert {f["properties"]["classification"]["name"] for f in shown} == {
        "LSIL",
        "Region*",
        "Ignore*",
    }
    assert all(len(f["properties"]["classification"]["color"]) == 3 for f in shown)


def test_qupath_counts_from_the_corner_of_what_was_scanned(tmp_path):
    cells = [decision(CELL, "agree", said="LSIL")]
    frame = frame_of(tmp_path / "a.tif", origin=(5, 7))
    (path,) = write_qupath([gather(frame, reading(cells), np.array([CELL]))], tmp_path)
    ring = json.loads(path.read_text())["features"][0]["geometry"]["coordinates"][0]
    assert ring[0] == [5.25, 3]
    assert ring[2] == [25, 23]


def test_slides_of_one_name_have_a_file_each_and_are_told_apart(tmp_path):
    truths = []
    for place, label in (("day 1", "LSIL"), ("day 2", "HSIL")):
        (tmp_path / "slides" / place).mkdir(parents=True)
        picture = tmp_path / "slides" / place / "x.png"
        Image.new("RGB", (1000, 800), "white").save(picture)
        frame = replace(frame_of(picture), name=f"{place}/x.png")
        cells = [decision(CELL, "agree", said=label)]
        truths.append(gather(frame, reading(cells), np.array([CELL])))
    paths = write_qupath(truths, tmp_path / "out")
    assert [path.relative_to(tmp_path / "out").as_posix() for path in paths] == [
        "day 1/x.png.geojson",
        "day 2/x.png.geojson",
    ]
    names = [c.name for c in CLASSES]
    settings = AnnotationSettings(format="geojson", mpp=0.25)
    fields = read_fields(tmp_path / "out", [common_folder(truths)], names, settings)
    found = {
        field.image.parent.name: [names[i] for i in field.labels[~field.crowd]]
        for field in fields.fields
    }
    assert found == {"day 1": ["LSIL"], "day 2": ["HSIL"]}


def test_a_folder_with_files_of_an_earlier_export_is_refused(truth, tmp_path):
    out, frame = tmp_path / "out", truth.frame
    first, second = (replace(truth, frame=replace(frame, name=f"day {n}/x.tif")) for n in "12")
    write_qupath([first, replace(truth, frame=replace(frame, name="y.tif"))], out)
    (out / "mine.geojson").write_text('{"type": "FeatureCollection", "features": []}')
    (out / "folder.geojson").mkdir()
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    # One slide was withdrawn, and as another has its name, that of the rest is no longer the same.
    told = "holds 2 GeoJSON files of an earlier export that this one would not write, x.tif.geojson"
    with pytest.raises(ConfigError, match=told):
        write_qupath([first, second], out)
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    for name in ("x.tif.geojson", "y.tif.geojson"):
        (out / name).unlink()
    for _ in range(2):  # its own files are written anew
        assert all(path.is_file() for path in write_qupath([first, second], out))


@pytest.mark.skipif(sys.platform != "linux", reason="names are text here")
def test_a_slide_whose_name_is_no_text_is_written_all_the_same(truth, tmp_path):
    name = "\udcb2\udce2.tif"
    write_qupath([replace(truth, frame=replace(truth.frame, name=name))], tmp_path / "out")
    (written,) = (tmp_path / "out").iterdir()
    assert json.loads(written.read_text(encoding="utf-8"))["features"]
    assert write_labels([(name, SlideDecision(None, "HSIL"))], tmp_path / "labels.csv") == 1
    assert "\\udcb2\\udce2.tif,HSIL" in (tmp_path / "labels.csv").read_text(encoding="utf-8")


def test_a_box_keeps_to_the_slide(tmp_path):
    cells = [decision((-5, 790, 20, 900), "agree", said="LSIL")]
    found = gather(frame_of(tmp_path / "a.tif"), reading(cells), np.zeros((0, 4)))
    boxes = [one["bbox"] for one in to_coco([found], tmp_path)["annotations"]]
    assert boxes == [[0, 790, 20, 10]] * 2


def test_labels_are_those_that_calibrate_reads(tmp_path):
    from scripts.evaluation.labels import read_labels

    path = tmp_path / "labels.csv"
    decided = [
        ("a.tif", SlideDecision(None, "HSIL", "", "2026")),
        ("b.tif", SlideDecision(None, "NILM", "", "2026")),
        ("c.tif", SlideDecision(None, None, "", "2026")),
    ]
    assert write_labels(decided, path) == 2
    with path.open(newline="") as stream:
        assert list(csv.reader(stream)) == [
            ["slide", "label"],
            ["a.tif", "HSIL"],
            ["b.tif", "NILM"],
        ]
    outcomes = read_labels(["a.tif", "b.tif"], path, None).outcomes
    assert {name: one.is_positive for name, one in outcomes.items()} == {
        "a.tif": True,
        "b.tif": False,
    }
