"""One set of options for annotations, on every command that reads them."""

import inspect
import json
import re

import pytest
from typer.testing import CliRunner

from configs import ConfigError
from data.annotations import FORMATS, AnnotationSettings
from scripts.annotation_options import OPTIONS, read_table
from scripts.cli import build_app
from scripts.convert import convert
from scripts.data import split, stats
from scripts.evaluate import evaluate
from scripts.training.sources import FieldSource


def call(command, *arguments):
    return CliRunner().invoke(build_app(command), [command, *map(str, arguments)])


def test_options_are_the_settings_with_their_defaults():
    fields = AnnotationSettings.model_fields
    assert set(OPTIONS) == set(fields) <= set(FieldSource.model_fields)
    for name, (_, default) in OPTIONS.items():
        if name != "classes":  # none is an empty table
            assert default == fields[name].default


def test_the_help_names_all_formats():
    (option,) = OPTIONS["format"][0].__metadata__
    named = re.findall(r"\w+", option.help.partition(":")[2])
    assert {"auto", *FORMATS} <= set(named)


@pytest.mark.parametrize("command", [convert, evaluate, stats, split])
def test_every_command_has_all_of_them(command):
    parameters = inspect.signature(command).parameters
    assert set(OPTIONS) <= set(parameters)
    assert "reading" not in parameters


def test_a_table_is_read_in_order(tmp_path):
    table = tmp_path / "t.yaml"
    table.write_text("a: x\nb: y\n1: z\n")
    found = read_table([str(table), "b = w", "c=d=e"])
    assert found == {"a": "x", "b": "w", "1": "z", "c=d": "e"}


def test_a_class_that_yaml_takes_for_a_truth_value_is_told(tmp_path):
    table = tmp_path / "classes.yaml"
    table.write_text("NO: NILM")
    with pytest.raises(ConfigError, match=r"classes.yaml: yes, no, .* in quotes"):
        read_table([str(table)])
    table.write_text("'NO': NILM")
    assert read_table([str(table)]) == {"NO": "NILM"}


def test_data_takes_classes_in_order_and_renamed(coco, tmp_path):
    options = ["--classes", "HSIL,normal", "--classes", "NILM=normal", "--out", tmp_path / "out"]
    result = call("data", "stats", coco[0], "--images", coco[1], *options)
    assert result.exit_code == 0, result.output
    facts = json.loads((tmp_path / "out" / "stats.json").read_text())
    assert {name: one["cells"] for name, one in facts["classes"].items()} == {
        "HSIL": 2,
        "normal": 1,
    }
    assert list(facts["classes"]) == ["HSIL", "normal"]


@pytest.mark.usefixtures("undrawn")
def test_evaluate_maps_names_and_warns_of_few_cells(coco, tmp_path):
    content = json.loads(coco[0].read_text())
    content["categories"][1]["name"] = "CIN2"
    coco[0].write_text(json.dumps(content))
    there = ["--model", "cric-fcos-light", "--data", coco[0], "--images", coco[1]]
    refused = call("evaluate", *there, "--out", tmp_path / "out")
    assert refused.exit_code == 2
    assert 'such as "CIN2": HSIL, or to' in refused.stderr
    result = call("evaluate", *there, "--classes", "CIN2=HSIL", "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert "HSIL (2)" in result.stderr
    assert "[class-unjudged]" in result.stderr
    codes = [
        one["code"] for one in json.loads((tmp_path / "out/metrics.json").read_text())["warnings"]
    ]
    assert "class-unjudged" in codes


def test_options_of_annotations_mean_nothing_to_screened_slides(tmp_path):
    result = call("evaluate", "--screened", tmp_path, "--labels", tmp_path, "--mpp", "0.5")
    assert result.exit_code == 2
    assert result.stderr == "error: --mpp: of --data, not of --screened\n"
