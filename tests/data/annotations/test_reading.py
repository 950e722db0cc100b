"""What becomes of drawings: boxes that are clipped or dropped, names, images, ignored areas."""

import json

import numpy as np
import pytest
from annotationfiles import (
    HEIGHT,
    WIDTH,
    closed,
    corners,
    cric_image,
    feature,
    write_blank,
    write_coco,
    write_csv,
    write_json,
    write_labelme,
    write_text,
    write_voc,
)

from configs import ConfigError, validate
from data.annotations import AnnotationSettings, read_coco, read_fields
from data.annotations.classes import ClassTable
from data.annotations.images import ImageFolder

NAME = "a.png"


@pytest.fixture
def folder(tmp_path):
    write_blank(tmp_path / NAME)
    return tmp_path


def test_boxes_are_clipped_and_what_is_left_of_them_must_be_a_cell(folder):
    cells = [
        ("HSIL", -30, -20, 50, 60),
        ("HSIL", 1190, 890, 1250, 950),
        ("HSIL", 10, 10, 11, 80),  # one wide
        ("HSIL", 10, 10, 80, 10),  # no height
        ("HSIL", 1199, 10, 1300, 80),  # of which one column is left
        ("HSIL", -90, 10, 0, 80),  # beside the image
        ("HSIL", 10, 900, 80, 990),
        ("HSIL", 5000, 5000, 5080, 5080),
    ]
    found = read_fields(write_coco(folder, NAME, cells), [folder])
    assert found.fields[0].boxes.tolist() == [[0, 0, 50, 60], [1190, 890, 1200, 900]]
    assert found.notes[1:] == (
        "left out 3 boxes outside of the image",
        "left out 3 boxes at most 1 px wide or high",
    )


def test_sizes_come_from_the_file_where_there_are_no_images(folder):
    found = read_fields(write_coco(folder, "slides/b 1.svs"), [])
    (field,) = found.fields
    assert (field.width, field.height, field.image.as_posix()) == (WIDTH, HEIGHT, "slides/b 1.svs")
    content = {"type": "FeatureCollection", "features": [feature("HSIL", [[[1, 2], [30, 40]]])]}
    path = write_json(folder / "b.geojson", content)
    with pytest.raises(ConfigError, match=r"b.geojson: b: the size of the image isn't known"):
        read_fields(path, [])


def test_an_image_annotated_twice_is_told(folder):
    write_voc(folder / "labels", NAME)
    write_labelme(folder / "labels", NAME)
    with pytest.raises(ConfigError, match=r"annotated in .*a.json and again in .*a.xml"):
        read_fields(folder / "labels", [folder])


def test_one_file_may_serve_several_folders(folder):
    records = [cric_image(name, [("HSIL", 90, 80)]) for name in (NAME, "b.png", "c.png")]
    path = write_json(folder / "classifications.json", records)
    settings = AnnotationSettings(skip_missing=True)
    found = read_fields(path, [folder], None, settings)
    assert [field.image.name for field in found.fields] == [NAME]
    assert "left out 2 images that are not there" in found.notes
    with pytest.raises(ConfigError, match=r"b\.png: no such file"):
        read_fields(path, [folder])
    (folder / NAME).unlink()
    with pytest.raises(ConfigError, match="none of the images"):
        read_fields(path, [folder], None, settings)


def test_files_of_several_formats_are_one_set(folder):
    write_blank(folder / "b.png")
    write_voc(folder / "labels", NAME)
    write_labelme(folder / "labels" / "more", "b.png")
    found = read_fields([folder / "labels"], [folder])
    assert [field.image.name for field in found.fields] == ["a.png", "b.png"]
    assert found.notes == ("read 1 file as voc, 1 file as labelme",)


def test_mpp_of_the_file_goes_before_that_of_the_settings(folder):
    settings = AnnotationSettings(mpp=0.5)
    assert read_fields(write_csv(folder, NAME), [folder], None, settings).fields[0].mpp == 0.5
    assert read_fields(write_coco(folder, NAME), [folder], None, settings).fields[0].mpp == 0.25


@pytest.mark.parametrize("mpp", [0, -1, "0.25", float("nan")])
def test_a_senseless_mpp_is_told(folder, mpp):
    path = write_coco(folder, NAME)
    content = json.loads(path.read_text())
    content["images"][0]["mpp"] = mpp
    with pytest.raises(ConfigError, match=r"instances\.json"):
        read_fields(write_json(path, content), [folder])


def test_areas_to_be_ignored_keep_to_the_image_and_come_once(folder):
    cells = [("Ignore*", -50, 10, 40, 60), ("ignore", -50, 10, 40, 60), ("HSIL", 1, 1, 90, 90)]
    (field,) = read_fields(write_coco(folder, NAME, cells), [folder]).fields
    assert field.boxes.tolist() == [[1, 1, 90, 90], [0, 10, 40, 60]]
    assert field.crowd.tolist() == [False, True]


def test_what_is_ignored_but_for_a_hole_leaves_the_hole(folder):
    rings = [closed(corners(("", 0, 0, 1200, 900))), closed(corners(("", 400, 300, 800, 600)))]
    path = write_json(folder / "a.geojson", [feature("Ignore*", rings)])
    (field,) = read_fields(path, [folder]).fields
    assert sorted(field.boxes.tolist()) == [
        [0, 0, 400, 900],
        [0, 0, 1200, 300],
        [0, 600, 1200, 900],
        [800, 0, 1200, 900],
    ]


def test_crowds_are_written_for_every_class_and_read_once(folder):
    from data.annotations.coco import to_coco

    cells = [("ignore", 5, 10, 40, 60), ("HSIL", 1, 1, 90, 90), ("NILM", 200, 1, 290, 90)]
    first = read_fields(write_coco(folder, NAME, cells), [folder])
    content = to_coco(first, lambda image: image.name)
    crowds = [a["category_id"] for a in content["annotations"] if a["iscrowd"]]
    assert crowds == [1, 2]
    again = read_coco(write_json(folder / "out.json", content), folder)
    assert again.fields[0].boxes.tolist() == first.fields[0].boxes.tolist()


@pytest.mark.parametrize(
    ("renamed", "classes", "targets"),
    [
        ({}, None, {"HSIL": "HSIL", "Ignore*": "ignore", "ROI": "region", "unclassified": None}),
        ({}, ("HSIL", "ROI"), {"HSIL": "HSIL", "hsil": None, "ROI": "ROI", "region": "region"}),
        ({"HSIL (CIN2)": "HSIL"}, None, {"HSIL (CIN2)": "HSIL", "HSIL": "HSIL", "CIN2": "CIN2"}),
        ({"HSIL (CIN2)": "HSIL"}, ("NILM",), {"HSIL (CIN2)": None, "NILM": "NILM"}),
        ({"a": "drop", "b": "region", "c": "ignore"}, ("N",), {"a": "drop", "b": "region"}),
        ({"unclassified": "HSIL"}, None, {"unclassified": "HSIL", "ignore": "ignore"}),
    ],
)
def test_names_stand_for_classes(renamed, classes, targets):
    table = ClassTable(renamed, classes)
    assert {name: table.target(name) for name in targets} == targets


def test_settings_name_what_is_allowed():
    with pytest.raises(ConfigError, match="formats are auto, coco, geojson"):
        validate({"format": "qupath"}, AnnotationSettings, "options")
    with pytest.raises(ConfigError, match="point_size = 0"):
        validate({"point_size": 0}, AnnotationSettings, "options")


class TestImages:
    @pytest.fixture
    def places(self, tmp_path):
        for name in ("x/a.png", "y/b 1.svs", "y/b.ndpi", "x/c.png", "y/c.png", "y/b.json"):
            write_text(tmp_path / name, "")
        return tmp_path

    @pytest.mark.parametrize(
        ("name", "found"),
        [
            ("x/a.png", "x/a.png"),
            ("a.png", "x/a.png"),
            ("a", "x/a.png"),
            ("elsewhere/a.png", None),
            ("..\\pictures\\a.png", "x/a.png"),
            ("b 1", "y/b 1.svs"),
            ("b", "y/b.ndpi"),
            ("b.ndpi", "y/b.ndpi"),
            ("x/c.png", "x/c.png"),
            ("b.svs", None),
            ("", None),
        ],
    )
    def test_are_found_by_path_name_or_stem(self, places, name, found):
        image = ImageFolder([places]).find(name)
        assert image == (places / found if found else None)

    def test_are_told_if_several_could_be_meant(self, places):
        with pytest.raises(ConfigError, match=r"c.png: several images .*x/c.png, .*y/c.png"):
            ImageFolder([places]).find("c.png")

    def test_may_be_files_themselves(self, places):
        slide = places / "y" / "b 1.svs"
        images = ImageFolder([slide])
        assert images.find("b 1") == slide
        assert images.name_of(slide) == "b 1.svs"
        assert ImageFolder([places]).name_of(slide) == "y/b 1.svs"

    def test_an_annotation_file_is_no_image(self, folder):
        write_text(folder / "a.json", "[]")
        assert ImageFolder([folder]).find("a") == folder / NAME


def test_nuclei_are_kept(folder):
    path = write_coco(folder, NAME)
    content = json.loads(path.read_text())
    content["annotations"][0]["nucleus"] = [110.5, 150]
    (field,) = read_fields(write_json(path, content), [folder]).fields
    assert field.nuclei[0].tolist() == [110.5, 150]
    np.testing.assert_allclose(field.nuclei[1], (field.boxes[1, :2] + field.boxes[1, 2:]) / 2)
