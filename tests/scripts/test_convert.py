"""``cytolibra convert``: what it writes, what it says, and how it refuses."""

import json

import numpy as np
import pytest
from annotationfiles import (
    CELLS,
    HEIGHT,
    WIDTH,
    WRITERS,
    closed,
    corners,
    feature,
    write_asap,
    write_coco,
    write_json,
    write_labelme,
    write_ndpa,
    write_text,
)
from PIL import Image
from slidefiles import write_pyramid
from typer.testing import CliRunner

from data.annotations import read_coco, read_fields
from scripts.cli import build_app

NAME = "Präparat 7 (α).png"


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "die Bilder"
    folder.mkdir()
    Image.effect_noise((WIDTH, HEIGHT), 90).convert("RGB").save(folder / NAME)  # no glass
    return folder


def call(*arguments):
    return CliRunner().invoke(build_app("convert"), ["convert", *map(str, arguments)])


@pytest.mark.parametrize("format", [name for name in WRITERS if name != "ndpa"])
def test_writes_coco_that_training_reads(format, images, tmp_path):
    labels = tmp_path / "labels ü"
    labels.mkdir()
    path = WRITERS[format](labels, NAME)
    out = tmp_path / "neu" / "cells ü.json"
    result = call(path.parent, "--images", images, "--out", out, "--mpp", 0.25)
    assert result.exit_code == 0, result.output
    found = read_coco(out, images)
    assert found.fields[0].image == images / NAME
    assert found.fields[0].mpp == 0.25
    assert sorted(found.fields[0].boxes.round(2).tolist()) == sorted(
        [float(value) for value in box] for _, *box in CELLS
    )
    assert "HSIL               2" in result.output
    assert f"{out}: {len(CELLS)} cells on 1 images" in result.output
    assert [path.name for path in out.parent.iterdir()] == [out.name]


def test_a_slide_gives_its_size_and_scale(tmp_path):
    pixels = np.full((700, 900, 3), 230, np.uint8)
    write_pyramid(tmp_path / "a b.tif", pixels, mpp=0.5)
    point = feature("HSIL", [200, 300], "Point")
    path = write_json(tmp_path / "labels" / "a b.geojson", [point])
    out = tmp_path / "out.json"
    slide = tmp_path / "a b.tif"
    result = call(path, "--images", slide, "--out", out, "--point-size", 20)
    assert result.exit_code == 0, result.output
    content = json.loads(out.read_text())
    expected = {"id": 1, "file_name": "a b.tif", "width": 900, "height": 700, "mpp": 0.5}
    assert content["images"] == [expected]
    assert content["annotations"][0]["bbox"] == [180, 280, 40, 40]


@pytest.mark.parametrize(("name", "areas"), [("Region*", 4), ("Ignore*", 1)])
def test_areas_without_a_class_beside_them_are_written(name, areas, images, tmp_path):
    path = tmp_path / f"{NAME}.geojson"
    write_json(path, [feature(name, [closed(corners((name, 20, 20, 60, 50)))])])
    out = tmp_path / "out.json"
    result = call(path, "--images", images, "--out", out)
    assert result.exit_code == 0, result.output
    assert f"0 cells on 1 images, {areas} ignored areas" in result.stdout
    first = read_fields(path, [images])
    for classes in (None, ["HSIL"]):
        found = read_coco(out, images, classes)
        assert found.classes == tuple(classes or ())
        assert found.fields[0].crowd.all()
        assert found.fields[0].boxes.tolist() == first.fields[0].boxes.tolist()
    (images / "b.png").write_bytes((images / NAME).read_bytes())
    beside = write_coco(tmp_path / "labels", "b.png")
    both = read_fields([out, beside], [images])
    assert set(both.classes) == {cell[0] for cell in CELLS}
    assert [int(one.crowd.sum()) for one in both.fields] == [areas, 0]


def test_a_slide_without_scale_is_taken_all_the_same(tmp_path):
    pixels = np.full((700, 900, 3), 230, np.uint8)
    write_pyramid(tmp_path / "a.tif", pixels, mpp=None)
    path = write_json(tmp_path / "a.geojson", [feature("HSIL", [closed(corners(CELLS[0]))])])
    result = call(path, "--images", tmp_path / "a.tif", "--out", tmp_path / "out.json")
    assert result.exit_code == 0, result.output
    assert "some images have no µm per pixel" in result.output
    assert "mpp" not in json.loads((tmp_path / "out.json").read_text())["images"][0]


def test_classes_are_renamed_one_by_one_or_by_a_table(images, tmp_path):
    path = write_labelme(tmp_path, NAME)
    table = write_text(tmp_path / "t.yaml", "ASC-US – fraglich: ASC-US\nHSIL: high\nNILM: drop\n")
    out = tmp_path / "out.json"
    for options in (
        ["--classes", table],
        [
            "--classes",
            "ASC-US – fraglich=ASC-US",
            "--classes",
            "HSIL=high",
            "--classes",
            "NILM=drop",
        ],
    ):
        result = call(path, "--images", images, "--out", out, *options)
        assert result.exit_code == 0, result.output
        names = [category["name"] for category in json.loads(out.read_text())["categories"]]
        assert names == ["ASC-US", "high"]
        assert "left out 1 shapes whose class is mapped to drop" in result.output


def test_a_table_may_rename_some_names_and_leave_the_rest(images, tmp_path):
    path, out = write_labelme(tmp_path, NAME), tmp_path / "out.json"
    result = call(path, "--images", images, "--out", out, "--classes", "HSIL=high")
    assert result.exit_code == 0, result.output
    names = [category["name"] for category in json.loads(out.read_text())["categories"]]
    assert names == ["ASC-US – fraglich", "high", "NILM"]
    told = "classes that the table doesn't name stay as they are: ASC-US – fraglich, NILM"
    assert told in result.stdout
    assert "classes-unused" not in result.stderr


def test_a_slip_in_the_table_is_told(images, tmp_path):
    path, out = write_labelme(tmp_path, NAME), tmp_path / "out.json"
    there = [path, "--images", images, "--out", out, "--classes", "HSLI=high"]
    result = call(*there)
    assert result.stderr.splitlines()[-1] == (
        "warning: nothing is called HSLI, which the table of classes renames [classes-unused]"
    )
    assert "[classes-unused]" in fails(*there, "--strict")


def fails(*arguments):
    """Calls the command as a user would, and returns the one line that it says."""
    result = call(*arguments)
    assert result.exit_code in (1, 2), result.stderr
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert len(result.stderr.splitlines()) == 1
    return result.stderr


def test_wrong_calls_are_told_in_one_line(images, tmp_path):
    path, out = write_labelme(tmp_path, NAME), tmp_path / "out.json"
    there = ["--images", images, "--out", out]
    for arguments, message in [
        ([tmp_path / "none", *there], "none: no such file or folder"),
        ([images, *there], "there are no annotation files in this folder"),
        ([path, "--images", tmp_path / "none", "--out", out], "--images"),
        ([path, *there, "--format", "qupath"], "formats are auto, coco"),
        ([path, *there, "--format", "voc"], "no annotations of the format voc"),
        ([path, *there, "--classes", "HSIL"], "expected OLD=NEW"),
        ([path, *there, "--classes", tmp_path / "no.yaml"], "no.yaml"),
        ([path, *there, "--mpp", "90"], "mpp = 90"),
        ([path, "--images", images, "--out", path], "is what is to be converted"),
        ([path, "--images", images, "--out", path / "a"], "can't be written"),
        ([images / NAME, *there], "not text in UTF-8"),
    ]:
        assert message in fails(*arguments)
    assert not out.exists()


def test_boxes_that_hold_nothing_are_told_and_the_frame_can_be_chosen(tmp_path):
    Image.new("RGB", (WIDTH, HEIGHT), "white").save(tmp_path / "a.png")
    path = WRITERS["geojson"](tmp_path / "labels", "a.png")
    for frame in ("auto", "slide", "bounds"):
        result = call(path, "--images", tmp_path, "--out", tmp_path / "o.json", "--frame", frame)
        assert result.exit_code == 0, result.output
        assert "4 of 4 boxes that were looked at hold nothing but even background" in result.stderr
        assert "[boxes-on-glass]" in result.stderr
    result = call(path, "--images", tmp_path, "--out", tmp_path / "o.json", "--frame", "level-0")
    assert result.exit_code == 2
    assert "frame" in str(result.exception or "") + result.output


def test_an_ndpa_needs_its_ndpi(images, tmp_path):
    path = write_ndpa(tmp_path, NAME)
    said = fails(path, "--images", images, "--out", tmp_path / "out.json")
    assert "has no hamamatsu.XOffsetFromSlideCentre; give the NDPI itself" in said


def test_a_broken_slide_is_told(tmp_path):
    write_text(tmp_path / "a.svs", "no slide")
    path = write_asap(tmp_path, "a.svs")
    assert "a.svs: not a slide" in fails(path, "--images", tmp_path, "--out", tmp_path / "o.json")


class TestDoubts:
    """Of COCO with a crowd beside its cells."""

    @pytest.fixture
    def path(self, tmp_path):
        path = write_coco(tmp_path, NAME)
        content = json.loads(path.read_text("utf-8"))
        content["annotations"][0]["iscrowd"] = 1
        return write_json(path, content)

    def test_are_told_on_stderr_with_their_code(self, path, images, tmp_path):
        out = tmp_path / "out.json"
        result = call(path, "--images", images, "--out", out)
        assert result.exit_code == 0, result.output
        assert result.stderr == (
            "warning: crowds are ignored: neither cells nor background (crowds: cells takes them "
            "as cells) (instances.json) [crowds-ignored]\n"
        )
        assert f"{out}: 3 cells on 1 images, 1 ignored areas" in result.stdout

    def test_strict_writes_nothing(self, path, images, tmp_path):
        out = tmp_path / "out.json"
        result = call(path, "--images", images, "--out", out, "--strict")
        assert result.exit_code == 2
        assert result.stderr.startswith("error: --strict: nothing was written, as there are warn")
        assert result.stderr.endswith("[crowds-ignored]\n")
        assert not out.exists()
        plain = write_coco(tmp_path, NAME)
        assert call(plain, "--images", images, "--out", out, "--strict").exit_code == 0

    def test_crowds_may_be_cells(self, path, images, tmp_path):
        out = tmp_path / "out.json"
        result = call(path, "--images", images, "--out", out, "--crowds", "cells", "--strict")
        assert result.exit_code == 0, result.output
        assert [one["iscrowd"] for one in json.loads(out.read_text())["annotations"]] == [0] * 4
        result = call(path, "--images", images, "--out", out, "--crowds", "people")
        assert result.exit_code == 2
        assert "crowds = 'people'" in result.stderr

    def test_yolos_settings_are_options(self, tmp_path):
        for name in "ab":
            Image.new("RGB", (400, 300)).save(tmp_path / f"{name}.png")
        write_text(tmp_path / "labels" / "classes.txt", "HSIL\n")
        write_text(tmp_path / "labels" / "a.txt", "0 0.5 0.5 0.1 0.1 0.48 0.49\n")
        out = tmp_path / "out.json"
        there = [tmp_path / "labels", "--images", tmp_path, "--out", out]
        assert "[yolo-ambiguous]" in call(*there).stderr
        result = call(*there, "--yolo", "pose", "--unlabelled", "left-out")
        assert result.exit_code == 0, result.output
        content = json.loads(out.read_text())
        assert [one["bbox"] for one in content["annotations"]] == [[180, 135, 40, 30]]
        assert len(content["images"]) == 1
        assert call(*there, "--yolo", "pose").exit_code == 0
        assert len(json.loads(out.read_text())["images"]) == 2
