"""``cytolibra config``: resolved settings, and schemas that are published as they are."""

import json
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator
from typer.testing import CliRunner

import configs
from configs import load_config, load_yaml
from configs.describing import json_schema, to_json
from scripts.cli import build_app
from scripts.config import SCHEMAS, Kind, model_of, title_of
from scripts.training.settings import TrainSettings

PRESETS = sorted(Path(configs.__file__).parent.rglob("*.yaml"))


def call(*arguments):
    return CliRunner().invoke(build_app("config"), ["config", *map(str, arguments)])


def published(kind):
    return json.loads((SCHEMAS / f"{kind}.schema.json").read_text(encoding="utf-8"))


def test_what_is_printed_is_the_same_settings(tmp_path):
    mine = tmp_path / "mine.yaml"
    mine.write_text("extends: train/cric\nloop: {steps: 7}\nmodel: {loss: {name: focal}}")
    result = call("train", "--config", mine, "--set", "loop.seed=3")
    assert result.exit_code == 0
    printed = tmp_path / "printed.yaml"
    printed.write_text(result.stdout)
    expected = load_config(mine, TrainSettings, ["loop.seed=3"])
    assert load_config(printed, TrainSettings) == expected
    assert (expected.loop.steps, expected.loop.seed, expected.loop.batch_size) == (7, 3, 8)
    lines = [line.strip() for line in result.stdout.splitlines()]
    assert f"steps: 7  # {mine}" in lines
    assert "batch_size: 8  # train/cric" in lines
    assert "seed: 3  # --set" in lines
    assert "workers: 1  # default" in lines


@pytest.mark.parametrize("kind", Kind)
def test_schemas_are_published_as_the_settings_are(kind):
    text = (SCHEMAS / f"{kind}.schema.json").read_text(encoding="utf-8")
    assert text == to_json(json_schema(model_of(kind), title_of(kind))), "run make docs"
    assert call(kind, "--schema").stdout == text
    Draft202012Validator.check_schema(json.loads(text))


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_presets_name_their_schema_and_fit_it(path):
    first = path.read_text(encoding="utf-8").splitlines()[0]
    schema = path.parent / first.removeprefix("# yaml-language-server: $schema=")
    validator = Draft202012Validator(json.loads(schema.read_text(encoding="utf-8")))
    assert list(validator.iter_errors(load_yaml(path))) == []


@pytest.mark.parametrize(
    ("kind", "text", "right"),
    [
        ("train", "loop: {steps: 3}", True),
        ("train", "loop: {step: 3}", False),
        ("train", "loop: {steps: -3}", False),
        ("train", "extends: [train/cric, mine.yaml]", True),
        ("train", "model: {loss: {name: focal, gamma: 1}}", True),
        ("train", "model: {loss: {name: focal, mu: 1}}", False),
        ("screen", "tiler: {size: many}", False),
        ("compare", "base: {model: {name: fcos}}", True),
    ],
)
def test_an_editor_sees_what_is_wrong(kind, text, right):
    assert Draft202012Validator(published(kind)).is_valid(yaml.safe_load(text)) is right


def test_what_is_missing_is_told_in_one_line():
    result = call("train")
    assert result.exit_code == 2
    assert result.stderr == "error: settings, without --config: model is missing; data is missing\n"
