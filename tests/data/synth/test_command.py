"""`cytolibra synth` as a person calls it."""

import json
from pathlib import Path

import numpy as np
import openslide
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from configs import ConfigError
from data.annotations import read_coco
from scripts.synth import synth

SMALL = ["--size", "700x500", "--mpp", "0.5", "--cells-per-mm2", "300", "--abnormal", "0.3"]


def call(*arguments: object):
    app = typer.Typer()
    app.command()(synth)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_slides_and_truth_appear(tmp_path):
    result = call("--out", tmp_path / "a folder", "--slides", 2, "--broken", *SMALL)
    assert result.exit_code == 0, result.output
    out = tmp_path / "a folder"
    assert {path.name for path in out.iterdir()} == {
        "slide-001.tif", "slide-001.truth.json", "slide-002.tif", "slide-002.truth.json",
        "broken.tif", "truth.json",
    }  # fmt: skip
    for name in ("slide-001.tif", "slide-002.tif"):
        with openslide.OpenSlide(out / name) as opened:
            assert opened.dimensions == (700, 500)
            assert float(opened.properties["openslide.mpp-x"]) == pytest.approx(0.5)
    truth = read_coco(out / "truth.json", out)
    assert truth.classes == ("NILM", "ASC-US", "LSIL", "ASC-H", "HSIL", "SCC")
    assert [field.image.name for field in truth.fields] == ["slide-001.tif", "slide-002.tif"]
    alone = read_coco(out / "slide-002.truth.json", out)
    np.testing.assert_array_equal(alone.fields[0].boxes, truth.fields[1].boxes)
    assert len(alone.fields[0].boxes) > 3


def test_the_broken_slide_does_not_open(tmp_path):
    assert call("--out", tmp_path, "--broken", *SMALL).exit_code == 0
    with pytest.raises(openslide.OpenSlideError):
        openslide.OpenSlide(tmp_path / "broken.tif")


def test_the_seed_decides_the_files(tmp_path):
    for name, seed in (("one", 4), ("again", 4), ("other", 5)):
        assert call("--out", tmp_path / name, "--seed", seed, *SMALL).exit_code == 0
    files = {
        name: [path.read_bytes() for path in sorted((tmp_path / name).iterdir())]
        for name in ("one", "again", "other")
    }
    assert files["one"] == files["again"]
    assert files["one"] != files["other"]


def test_a_count_of_abnormal_cells_is_in_the_truth(tmp_path):
    arguments = ["--size", "1500x1500", "--mpp", "0.5", "--cells-per-mm2", "50"]
    assert call("--out", tmp_path, *arguments, "--abnormal", "7").exit_code == 0
    content = json.loads((tmp_path / "truth.json").read_text())
    assert sum(a["category_id"] > 1 for a in content["annotations"]) == 7


def write_fields(folder: Path) -> Path:
    images, annotations = [], []
    for index in range(4):
        Image.new("RGB", (120, 90), (200, 180 + index, 210)).save(folder / f"{index}.png")
        images.append(
            {"id": index, "file_name": f"{index}.png", "width": 120, "height": 90, "mpp": 0.3}
        )
        annotations.append(
            {"id": index, "image_id": index, "category_id": 1, "bbox": [10, 10, 60, 60]}
        )
    path = folder / "fields.json"
    categories = [{"id": 1, "name": "cell"}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    path.write_text(json.dumps(content))
    return path


def test_fields_are_dealt_out_to_the_slides(tmp_path):
    fields = write_fields(tmp_path)
    out = tmp_path / "out"
    result = call("--out", out, "--fields", fields, "--images", tmp_path, "--slides", 2)
    assert result.exit_code == 0, result.output
    truth = read_coco(out / "truth.json", out)
    assert truth.classes == ("cell",)
    assert [len(field.boxes) for field in truth.fields] == [2, 2]
    with openslide.OpenSlide(out / "mosaic-001.tif") as opened:
        assert float(opened.properties["openslide.mpp-x"]) == pytest.approx(0.3)


def test_what_is_odd_about_the_fields_is_told(tmp_path):
    fields = write_fields(tmp_path)
    content = json.loads(fields.read_text())
    content["annotations"][0]["bbox"] = None
    content["annotations"][0]["segmentation"] = [[20, 20, 60, 20, 60, 60]]
    content["annotations"][1]["iscrowd"] = 1
    fields.write_text(json.dumps(content))
    result = call("--out", tmp_path / "out", "--fields", fields, "--images", tmp_path)
    assert result.exit_code == 0, result.output
    assert "[crowds-ignored]" in result.stderr


def test_so_many_cells_are_drawn(tmp_path):
    """About so many on each slide, whatever its deposit's area; the truth tells how many."""
    arguments = ["--size", "2000x1600", "--mpp", "0.5", "--kind", "liquid", "--abnormal", "0"]
    assert call("--out", tmp_path, *arguments, "--cells", "200", "--slides", "2").exit_code == 0
    for name in ("slide-001", "slide-002"):
        content = json.loads((tmp_path / f"{name}.truth.json").read_text())
        assert len(content["annotations"]) == pytest.approx(200, rel=0.35)


def test_fields_fill_every_slide(tmp_path):
    fields = write_fields(tmp_path)
    arguments = ["--fields", fields, "--images", tmp_path, "--fill", "--size", "1600x1200"]
    assert call("--out", tmp_path / "out", *arguments, "--mpp", "0.6").exit_code == 0
    with openslide.OpenSlide(tmp_path / "out" / "mosaic-001.tif") as opened:
        assert opened.dimensions == (1600, 1200)
    content = json.loads((tmp_path / "out" / "truth.json").read_text())
    assert len(content["annotations"]) > 4


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--size", "big"], "--size big: expected WxH"),
        (["--size", "10x4000"], "width 10 is out of range"),
        (["--size", "4000x9999999"], "height 9999999 is out of range"),
        (["--mpp", "0"], "--mpp 0.0 is out of range"),
        (["--mpp", "nan"], "--mpp nan is out of range"),
        (["--slides", "0"], "--slides 0 is out of range"),
        (["--seed", "-1"], "--seed -1 is out of range"),
        (["--cells-per-mm2", "1e9"], "--cells-per-mm2 1000000000.0 is out of range"),
        (["--cells", "-1"], "--cells -1 is out of range"),
        (["--cells", "9", "--fields", "x.json"], "--cells: of drawn cells"),
        (["--cells", "9999", "--size", "1000x1000"], "has room for [0-9]+; ask for fewer"),
        (["--abnormal", "1.5"], "--abnormal 1.5: expected a share"),
        (["--abnormal", "many"], "--abnormal many: expected a share"),
        (["--abnormal", "1000000000"], "--abnormal 1000000000 is out of range"),
        (["--abnormal", "12", "--size", "1000x200", "--kind", "liquid"], "only [0-9]+ find room"),
        (["--images", "."], "--images: of --fields, not of drawn cells"),
        (["--fill"], "--fill: of --fields, not of drawn cells"),
        (["--columns", "2"], "--columns: of --fields, not of drawn cells"),
    ],
)
def test_a_wrong_call_is_told_and_nothing_is_made(tmp_path, arguments, complaint):
    result = call("--out", tmp_path / "out", *arguments)
    assert isinstance(result.exception, ConfigError)
    assert result.exception.exit_code == 2
    with pytest.raises(ConfigError, match=complaint):
        raise result.exception
    assert not (tmp_path / "out").exists()


def test_wrong_calls_with_fields(tmp_path):
    fields = write_fields(tmp_path)
    given = ["--out", tmp_path / "out", "--fields", fields]
    for arguments, complaint in (
        ([], "--fields needs --images"),
        (["--images", tmp_path, "--fill"], "--fill needs --size"),
        (["--images", tmp_path, "--slides", 5], "only 4 fields"),
        (["--images", tmp_path, "--columns", 0], "--columns 0 is out of range"),
        (["--images", tmp_path / "nowhere"], "no such file"),
        (["--images", tmp_path, "--size", "100x100"], "do not fit"),
    ):
        error = call(*given, *arguments).exception
        assert isinstance(error, ConfigError)
        assert complaint in str(error)
    fields.write_text("{")
    error = call(*given, "--images", tmp_path).exception
    assert isinstance(error, ConfigError)
    assert "not valid JSON" in str(error)


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").write_text("in the way")
    error = call("--out", tmp_path / "file" / "out", *SMALL).exception
    assert isinstance(error, ConfigError)
    assert "cannot be written to" in str(error)


def test_slides_of_an_earlier_call_are_never_left_beside_others(tmp_path):
    assert call("--out", tmp_path, "--slides", 2, *SMALL).exit_code == 0
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    for fewer in (("--slides", 1), ("--slides", 2, "--planes", 2)):
        result = call("--out", tmp_path, *fewer, *SMALL)
        assert isinstance(result.exception, ConfigError)
        assert "slide-002.tif" in str(result.exception)
        assert "of an earlier call" in str(result.exception)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert call("--out", tmp_path, "--slides", 3, *SMALL).exit_code == 0  # replaces both
