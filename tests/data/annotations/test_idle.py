"""Settings of one kind of annotations, given with others, are told: they change nothing there."""

import pytest
from annotationfiles import HEIGHT, MPP, WIDTH, feature, write_blank, write_json

from data.annotations import AnnotationSettings, ImageInfo, read_fields

IDLE = "annotation-setting-idle"
RING = [[100, 120], [180, 120], [180, 190], [100, 190], [100, 120]]


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    write_blank(folder / "a.png")
    return folder


def told(path, images, code=IDLE, bounds=None, **settings):
    def info(_):
        return ImageInfo(WIDTH, HEIGHT, MPP, bounds=bounds)

    found = read_fields(path, [images], None, AnnotationSettings(**settings), info)
    return [doubt.text for doubt in found.doubts if doubt.code == code]


def write(folder, coordinates=(RING,), kind="Polygon"):
    return write_json(folder / "a.geojson", [feature("HSIL", coordinates, kind)])


def test_default_settings_are_not_told(images, tmp_path):
    assert told(write(tmp_path), images) == []


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("yolo", "pose", "yolo: pose: nothing was read as YOLO"),
        ("yolo", "polygons", "yolo: polygons: nothing was read as YOLO"),
        ("unlabelled", "left-out", "unlabelled: left-out: nothing was read as YOLO"),
        ("unlabelled", "negative", "unlabelled: negative: nothing was read as YOLO"),
        ("crowds", "cells", "crowds: cells: nothing is a crowd"),
        ("point_size", 20.5, "point_size: 20.5: no cell is a point"),
    ],
)
def test_what_nothing_is_of_is_told(name, value, why, images, tmp_path):
    assert told(write(tmp_path), images, **{name: value}) == [why]


def test_what_something_is_of_is_not(images, tmp_path):
    assert told(write(tmp_path, [140, 155], "Point"), images, point_size=20) == []
    labels = tmp_path / "labels"
    labels.mkdir()
    (labels / "a.txt").write_text("0 0.5 0.5 0.1 0.1\n", encoding="utf-8")
    assert told(labels, images, yolo="polygons", unlabelled="negative") == []
    crowd = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [10, 10, 50, 50], "iscrowd": 1}
    content = {
        "images": [{"id": 1, "file_name": "a.png", "width": WIDTH, "height": HEIGHT}],
        "categories": [{"id": 1, "name": "HSIL"}],
        "annotations": [crowd, crowd | {"id": 2, "bbox": [90, 10, 50, 50], "iscrowd": 0}],
    }
    assert told(write_json(tmp_path / "a.json", content), images, crowds="cells") == []


def test_a_frame_without_bounds_is_told(images, tmp_path):
    path, code = write(tmp_path), "frame-without-bounds"
    (text,) = told(path, images, code, frame="bounds")
    assert text == (
        "frame: bounds: the image does not say what was scanned; (0, 0) is its own corner "
        "(a.geojson)"
    )
    assert told(path, images, code, (0, 0, WIDTH, HEIGHT), frame="bounds") == []
    assert told(path, images, code, frame="slide") == []
    assert told(path, images, code) == []


def test_a_frame_for_places_that_are_no_pixels_is_told(images, tmp_path):
    (tmp_path / "a.txt").write_text("0 0.5 0.5 0.1 0.1\n", encoding="utf-8")
    (text,) = told(tmp_path / "a.txt", images, frame="slide", format="yolo")
    assert text == "frame: slide: these places aren't pixels of the image (a.txt)"
    assert told(tmp_path / "a.txt", images, format="yolo") == []
