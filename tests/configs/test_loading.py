"""Configurations: every preset loads, and what is wrong is named by key, value and remedy."""

from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Literal

import pytest
from pydantic import Field, JsonValue

import configs
from configs import ConfigError, StrictModel, apply_overrides, load_config, load_yaml
from pipeline.settings import ScreenSettings
from scripts.comparison.comparison import ComparisonSettings, Run, run_settings
from scripts.training.grader_settings import GraderTrainSettings
from scripts.training.settings import TrainSettings

PRESETS = sorted(Path(configs.__file__).parent.rglob("*.yaml"))
KINDS = {
    "compare": ComparisonSettings,
    "release": TrainSettings,
    "train": TrainSettings,
    "screen": ScreenSettings,
}


def kind_of(path):
    """The settings that a preset is of."""
    return GraderTrainSettings if path.stem == "grader" else KINDS[path.parent.name]


class Inner(StrictModel):
    overlap: int = Field(128, ge=0)


class Outer(StrictModel):
    tiler: Inner = Inner()
    name: str = "x"


@pytest.mark.parametrize("path", PRESETS, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_every_preset_loads_by_its_name(path):
    name = f"{path.parent.name}/{path.stem}"
    assert load_config(name, kind_of(path)) == load_config(path, kind_of(path))


@pytest.mark.parametrize("preset", ["compare/cric", "compare/losses"])
def test_every_run_of_a_comparison_of_losses_is_a_valid_configuration(preset):
    settings = load_config(preset, ComparisonSettings)
    for group in settings.runs:
        for detector, loss in product(group.detectors, group.losses):
            assert run_settings(settings, Run(detector, loss, 1.0, 0)).model.name == detector


def test_overrides_reach_nested_keys_and_are_read_as_yaml():
    settings = load_config(None, Outer, ["tiler.overlap=64", "name='7'"])
    assert settings == Outer(tiler=Inner(overlap=64), name="7")


def test_overrides_leave_their_source_alone():
    values = {"tiler": {"overlap": 1}}
    assert apply_overrides(values, ["tiler.overlap=2"]) == {"tiler": {"overlap": 2}}
    assert values == {"tiler": {"overlap": 1}}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("tiler.overlp=3", r"unknown key tiler.overlp; did you mean overlap\? allowed here"),
        ("tiler.overlap=-3", r"tiler.overlap = -3: Input should be greater"),
        ("tiler.overlap=many", r"tiler.overlap = 'many'"),
        ("tiler.overlap.deep=3", "overlap is a single value|tiler.overlap = "),
        ("name.deep.er=3", "name = "),
        ("overlap", "expected key=value"),
        ("name=[", "not valid YAML"),
    ],
)
def test_wrong_overrides_name_the_key_and_what_is_allowed(override, message):
    with pytest.raises(ConfigError, match=message) as caught:
        load_config(None, Outer, [override])
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a\n- b\n", "expected `key: value` lines, found list"),
        ("a: [", "not valid YAML"),
        ("tiler: 3", "tiler = 3"),
    ],
)
def test_wrong_files_are_named(tmp_path, text, message):
    path = tmp_path / "wrong.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        load_config(path, Outer)
    assert "wrong.yaml" in str(caught.value)


def test_a_missing_file_lists_the_presets(tmp_path):
    with pytest.raises(ConfigError, match=r"no such file or preset; presets: .*train/cric"):
        load_config("no/such", Outer)


def test_an_empty_file_gives_the_defaults(tmp_path):
    path = tmp_path / "empty.yaml"
    path.write_text("# nothing\n")
    assert load_config(path, Outer) == Outer()


def test_the_screening_preset_states_all_defaults():
    assert load_config("screen/default", ScreenSettings) == ScreenSettings()
    assert _keys(load_yaml("screen/default")) == _keys(ScreenSettings().model_dump())


def _keys(values, above=""):
    """Dotted keys of all that is no group."""
    inner = ((f"{above}{key}", value) for key, value in values.items())
    return {
        one
        for key, value in inner
        for one in (_keys(value, f"{key}.") if isinstance(value, dict) else (key,))
    }


@dataclass(frozen=True)
class Record:
    reused: bool


class Numbers(StrictModel):
    mpp: float | None = None
    offset: tuple[int, int] = (0, 0)
    thresholds: dict[str, float] = Field(default_factory=dict)
    choice: Literal[False, "some"] = False
    switches: dict[str, bool] = Field(default_factory=dict)
    records: dict[str, Record] = Field(default_factory=dict)
    told: dict[str, JsonValue] = Field(default_factory=dict)


@pytest.mark.parametrize("text", ["mpp: yes", "offset: [on, 0]", "thresholds: {HSIL: no}"])
def test_a_truth_value_is_no_number(tmp_path, text):
    path = tmp_path / "wrong.yaml"
    path.write_text(text)
    with pytest.raises(
        ConfigError, match=rf"wrong.yaml: {text.partition(':')[0]} = .*true or false"
    ):
        load_config(path, Numbers)
    stated = ["choice=no", "switches={a: yes}", "records={a: {reused: on}}", "told={a: [yes]}"]
    found = load_config(None, Numbers, stated)
    assert (found.choice, found.switches, found.told) == (False, {"a": True}, {"a": [True]})
    assert found.records["a"].reused
