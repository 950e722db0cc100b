"""``cytolibra data``: looked at and split as a user would."""

import csv
import json

import pytest
import yaml
from typer.testing import CliRunner

from configs import validate
from scripts.cli import build_app
from scripts.training.run import read_fields
from scripts.training.settings import TrainSettings


def call(*arguments):
    return CliRunner().invoke(build_app("data"), ["data", *map(str, arguments)])


def test_draws_what_there_is(coco, tmp_path):
    out = tmp_path / "Bilder ä"
    result = call("stats", coco[0], "--images", coco[1], "--out", out, "--samples", 5)
    assert result.exit_code == 0, result.output
    facts = json.loads((out / "stats.json").read_text())
    assert {name: one["cells"] for name, one in facts["classes"].items()} == {"NILM": 1, "HSIL": 2}
    assert facts["classes"]["HSIL"]["side_um_5_50_95"] == [10, 10, 10]
    page = (out / "stats.html").read_text()
    assert page.count("data:image/jpeg;base64,") == 5
    assert page.count('title="HSIL"') >= 2
    for name in ("classes", "sizes", "density"):
        assert "var(--" not in (out / f"{name}.svg").read_text()


def test_a_split_serves_a_configuration(coco, values, tmp_path):
    out = tmp_path / "split.csv"
    result = call(
        "split", coco[0], "--images", coco[1], "--out", out, "--by", "field", "--folds", 2
    )
    assert result.exit_code == 0, result.output
    with out.open() as file:
        parts = {row["image"]: row["part"] for row in csv.DictReader(file)}
    assert sorted(parts.values()) == ["fold1", "fold2"]
    source = values["data"]["train"] | {"split": str(out)}
    data = values["data"] | {"train": source | {"part": "fold1"}, "val": source | {"part": "fold2"}}
    settings = validate(values | {"data": data}, TrainSettings, "test")
    train, val = read_fields(settings)
    assert [parts[f.image.name] for f in (*train.fields, *val.fields)] == ["fold1", "fold2"]
    assert yaml.safe_dump(settings.model_dump(mode="json"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--by", "patient"], "nobody says whose the images are; give --groups"),
        (["--by", "hospital"], "--by hospital: expected field, slide, patient"),
        (["--parts", "train"], "expected NAME=SHARE"),
        (["--parts", "train=1.5"], "sum to 1"),
        (["--parts", "train=0.5,val=0.25,val=0.5"], "val stands twice"),
        (["--parts", "=0.5,val=0.5"], "a part without a name"),
        (["--groups", "none.csv"], "groups: none.csv: can't be read"),
    ],
)
def test_wrong_calls_get_one_line(coco, tmp_path, options, message):
    result = call("split", coco[0], "--images", coco[1], "--out", tmp_path / "s.csv", *options)
    assert result.exit_code == 2
    assert message in result.output
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("command", "option", "value"),
    [
        ("stats", "--tile", 0),
        ("stats", "--tile", -5),
        ("stats", "--samples", -1),
        ("stats", "--seed", -1),
        ("split", "--seed", -1),
    ],
)
def test_numbers_that_make_no_sense_are_wrong_calls(coco, tmp_path, command, option, value):
    result = call(command, coco[0], "--images", coco[1], "--out", tmp_path / "o", option, value)
    assert result.exit_code == 2
    assert f"Invalid value for '{option}'" in result.output
    assert not (tmp_path / "o").exists()


def test_a_set_without_cells_has_none(coco, tmp_path):
    content = json.loads(coco[0].read_text())
    for one in content["annotations"]:
        one["iscrowd"] = 1
    coco[0].write_text(json.dumps(content))
    result = call("stats", coco[0], "--images", coco[1], "--out", tmp_path / "o", "--samples", 1)
    assert result.exit_code == 0, result.output
    assert "0 cells on 2 images" in result.output
    assert "<h1>0 cells on 2 images" in (tmp_path / "o" / "stats.html").read_text()


def test_a_table_tells_whose_the_images_are(coco, tmp_path):
    groups = tmp_path / "groups.csv"
    groups.write_text("image,patient\n1.png,Müller\n2.png,Meier\n", encoding="utf-8")
    out = tmp_path / "split.csv"
    options = ["--by", "patient", "--groups", groups, "--folds", 2]
    assert call("split", coco[0], "--images", coco[1], "--out", out, *options).exit_code == 0
    with out.open(encoding="utf-8") as file:
        assert {row["patient"] for row in csv.DictReader(file)} == {"Müller", "Meier"}
    groups.write_text("image,patient\n1.png,Müller\n", encoding="utf-8")
    result = call("split", coco[0], "--images", coco[1], "--out", out, *options)
    assert "does not name 2.png" in result.output


def test_what_was_odd_is_told_and_written(crowded, tmp_path):
    out = tmp_path / "stats"
    result = call("stats", crowded[0], "--images", crowded[1], "--out", out, "--samples", 1)
    assert result.exit_code == 0, result.output
    (told,) = json.loads((out / "stats.json").read_text())["warnings"]
    assert told["code"] == "crowds-ignored"
    assert result.stderr == f"warning: {told['text']} [crowds-ignored]\n"
    assert "[crowds-ignored]" in (out / "stats.html").read_text()
    split = call("split", crowded[0], "--images", crowded[1], "--out", tmp_path / "s.csv")
    assert (split.exit_code, split.stderr) == (0, result.stderr)
