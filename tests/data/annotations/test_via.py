"""VGG Image Annotator: its CSV, JSON and projects give the same cells."""

import csv
import io
import json

import pytest
from annotationfiles import write_blank, write_json, write_text

from configs import ConfigError
from data.annotations import AnnotationSettings, read_fields

REGIONS = [
    ({"name": "rect", "x": 10, "y": 20, "width": 40, "height": 40}, {"class": "HSIL"}),
    ({"name": "circle", "cx": 100, "cy": 80, "r": 20}, {"class": "NILM"}),
    (
        {"name": "ellipse", "cx": 200, "cy": 80, "rx": 30, "ry": 10, "theta": 1.5707963},
        {"class": {"HSIL": True, "NILM": False}},
    ),
    (
        {"name": "polygon", "all_points_x": [300, 340, 320], "all_points_y": [20, 30, 60]},
        {"class": "HSIL"},
    ),
    ({"name": "point", "cx": 300, "cy": 200}, {"class": "HSIL"}),
]
BOXES = [
    [10, 20, 50, 60],
    [80, 60, 120, 100],
    [190, 50, 210, 110],
    [300, 20, 340, 60],
    [280, 180, 320, 220],
]


def write_csv(folder, regions, hash_sign=""):
    stream = io.StringIO()
    writer = csv.writer(stream)
    header = "filename,file_size,file_attributes,region_count,region_id,region_shape_attributes,"
    writer.writerow([*(hash_sign + header).split(",")[:-1], "region_attributes"])
    for n, (drawn, attributes) in enumerate(regions):
        row = ["a.png", 12, "{}", len(regions), n, json.dumps(drawn), json.dumps(attributes)]
        writer.writerow(row)
    writer.writerow(["b.png", 12, "{}", 0, 0, "{}", "{}"])
    return write_text(folder / "via_region_data.csv", stream.getvalue())


def images_of(regions, numbered):
    listed = [{"shape_attributes": s, "region_attributes": a} for s, a in regions]
    return {
        "a.png12": {
            "filename": "a.png",
            "size": 12,
            "regions": {str(i): one for i, one in enumerate(listed)} if numbered else listed,
            "file_attributes": {},
        },
        "b.png12": {"filename": "b.png", "size": 12, "regions": [], "file_attributes": {}},
    }


def write_plain(folder, regions, numbered=False):
    return write_json(folder / "via.json", images_of(regions, numbered))


def write_project(folder, regions):
    content = {"_via_settings": {}, "_via_img_metadata": images_of(regions, False)}
    return write_json(folder / "project.json", content | {"_via_attributes": {}})


WRITERS = [
    write_csv,
    lambda folder, regions: write_csv(folder, regions, "#"),
    write_plain,
    lambda folder, regions: write_plain(folder, regions, numbered=True),
    write_project,
]


@pytest.fixture(params=WRITERS)
def writer(request):
    return request.param


@pytest.fixture
def folder(tmp_path):
    for name in "ab":
        write_blank(tmp_path / f"{name}.png", (400, 300))
    return tmp_path


def read(path, folder):
    return read_fields(path, [folder], None, AnnotationSettings(point_size=10, mpp=0.25))


def test_all_shapes_of_all_forms(writer, folder):
    found = read(writer(folder, REGIONS), folder)
    assert found.notes == ("read 1 file as via",)
    assert found.classes == ("HSIL", "NILM")
    assert [field.image.name for field in found.fields] == ["a.png", "b.png"]
    assert found.fields[0].boxes.round(1).tolist() == BOXES
    assert found.fields[0].labels.tolist() == [0, 1, 0, 0, 0]
    assert [doubt.code for doubt in found.doubts] == ["images-without-cells"]


def test_lines_are_left_out_and_told(writer, folder):
    line = ({"name": "polyline", "all_points_x": [1, 2], "all_points_y": [1, 2]}, {"class": "HSIL"})
    found = read(writer(folder, [*REGIONS, line]), folder)
    assert len(found.fields[0].boxes) == len(BOXES)
    assert found.doubts[0].text.startswith("polylines are no cells")


def test_negative_extents_are_told(folder):
    shape = {"name": "rect", "x": 50, "y": 60, "width": -40, "height": -40}
    found = read(write_plain(folder, [(shape, {"class": "HSIL"})]), folder)
    assert found.fields[0].boxes.tolist() == [[10, 20, 50, 60]]
    assert "corners-swapped" in [doubt.code for doubt in found.doubts]


def test_the_only_attribute_is_the_class_whatever_it_is_called(folder):
    found = read(write_plain(folder, [(REGIONS[0][0], {"Zelltyp": "HSIL"})]), folder)
    assert found.classes == ("HSIL",)


def test_of_several_the_one_that_means_a_class_is_taken_and_told(folder):
    regions = [(REGIONS[0][0], {"reader": "A", "Label": "HSIL"})]
    found = read(write_plain(folder, regions), folder)
    assert found.classes == ("HSIL",)
    assert "class-attribute" in [doubt.code for doubt in found.doubts]


@pytest.mark.parametrize(
    ("shape", "attributes", "message"),
    [
        (REGIONS[0][0], {"a": "x", "b": "y"}, "attributes a, b: which one is the class can't be"),
        (REGIONS[0][0], {"class": "x", "type": "y"}, "attributes class, type: which one"),
        (REGIONS[0][0], {"class": {"HSIL": True, "NILM": True}}, "several classes: HSIL, NILM"),
        ({"name": "rect", "x": 1, "y": 2, "width": 3}, {}, "height of region 1 of a.png is null"),
        ({"name": "cube"}, {}, "region 1 of a.png is of the kind 'cube'"),
        ({"name": "polygon", "all_points_x": [1, 2, 3], "all_points_y": [1]}, {}, "3 x and 1 y"),
    ],
)
def test_what_is_unclear_is_refused(writer, folder, shape, attributes, message):
    path = writer(folder, [(shape, attributes)])
    with pytest.raises(ConfigError, match=rf"{path.name}: not as via has it: .*{message}"):
        read(path, folder)


def test_regions_without_a_class_need_one(writer, folder):
    with pytest.raises(ConfigError, match=r"unclassified \(1\) have no class"):
        read(writer(folder, [(REGIONS[0][0], {"class": ""})]), folder)


def test_projects_of_version_3_are_refused_by_name(folder):
    content = {"project": {}, "config": {}, "attribute": {}, "file": {}, "view": {}, "metadata": {}}
    with pytest.raises(ConfigError, match=r"v3\.json: not as via has it: .* a project of VIA 3"):
        read(write_json(folder / "v3.json", content), folder)


def test_a_broken_row_is_named(folder):
    path = write_csv(folder, REGIONS)
    lines = path.read_text().splitlines()
    lines[2] = lines[2].replace("{", "[", 2)
    with pytest.raises(ConfigError, match="region_shape_attributes, row 3: not valid JSON"):
        read(write_text(path, "\n".join(lines)), folder)
    lines[2] = "a.png,12"
    with pytest.raises(ConfigError, match="row 3 has 2 columns, the header 7"):
        read(write_text(path, "\n".join(lines)), folder)
