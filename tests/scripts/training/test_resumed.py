"""Whether a run may go on: what differs from the settings that it began with."""

import pytest
import torch
import yaml

from configs import ConfigError, validate
from losses import ClassificationLoss
from scripts.training.resumed import changed_settings, check_content
from scripts.training.settings import TrainSettings

TEACHING = {"mean_teacher": {"images": "a"}}


class AnyLoss(ClassificationLoss):
    """With settings that only its own package knows."""

    def __init__(self, power=1.0, focus=None):
        super().__init__()


@pytest.fixture
def began(tmp_path):
    def write(values, *gone):
        """What a run of these settings writes; without groups that its version did not have."""
        written = settings_of(values).model_dump(mode="json")
        path = tmp_path / "config.yaml"
        path.write_text(yaml.safe_dump({k: v for k, v in written.items() if k not in gone}))
        return path

    return write


def settings_of(values):
    return validate(values, TrainSettings, "test")


def with_classes(values, part, **classes):
    source = values["data"][part] | {"classes": classes}
    return values | {"data": values["data"] | {part: source}}


def with_loss(values, **loss):
    return values | {"model": values["model"] | {"loss": {"name": f"{__name__}:AnyLoss"} | loss}}


def test_a_group_that_is_turned_on_or_off_is_another_setting(began, values):
    off, on = values, values | TEACHING
    with pytest.raises(ConfigError, match=r"other settings: mean_teacher is set \(was null\);"):
        changed_settings(began(off), settings_of(on))
    with pytest.raises(ConfigError, match=r"other settings: mean_teacher = null \(was set\);"):
        changed_settings(began(on), settings_of(off))
    for same in (off, on):
        assert changed_settings(began(same), settings_of(same)) == ""


def test_options_of_a_later_version_count_with_their_defaults(began, values):
    older = began(values, "mean_teacher", "views", "optimiser")
    values["optimiser"] = {}
    assert changed_settings(older, settings_of(values)) == ""
    with pytest.raises(ConfigError, match=r"other settings: views is set \(was null\);"):
        changed_settings(older, settings_of(values | {"views": {}}))


@pytest.mark.parametrize("part", ["train", "val"])
def test_another_table_of_classes_is_another_setting(began, values, part):
    none, one = with_classes(values, part), with_classes(values, part, LSIL="HSIL")
    other = with_classes(values, part, LSIL="NILM")
    key = rf"other settings: data\.{part}\.classes\.LSIL"
    with pytest.raises(ConfigError, match=key + r" = HSIL \(was not set\);"):
        changed_settings(began(none), settings_of(one))
    with pytest.raises(ConfigError, match=key + r" is not set \(was HSIL\);"):
        changed_settings(began(one), settings_of(none))
    with pytest.raises(ConfigError, match=key + r" = NILM \(was HSIL\);"):
        changed_settings(began(one), settings_of(other))
    assert changed_settings(began(one), settings_of(one)) == ""


def test_settings_of_a_loss_of_another_package_count_too(began, values):
    plain, focused = with_loss(values, power=2), with_loss(values, focus=[1, 2])
    both = with_loss(values, power=2, focus=[1, 2])
    with pytest.raises(ConfigError, match=r"model\.loss\.focus = \[1, 2\] \(was not set\);"):
        changed_settings(began(plain), settings_of(both))
    with pytest.raises(ConfigError, match=r"model\.loss\.power is not set \(was 2\);"):
        changed_settings(began(both), settings_of(focused))
    assert changed_settings(began(both), settings_of(both)) == ""


def test_other_sources_are_told_by_their_number(began, values):
    source = values["data"]["train"]
    two = values | {"data": values["data"] | {"train": [source, source | {"name": "b"}]}}
    with pytest.raises(
        ConfigError, match=r"other settings: data\.train = 2 sources \(was 1 source\); set"
    ):
        changed_settings(began(values), settings_of(two))


def test_unlabelled_images_may_lie_elsewhere(began, values):
    moved = settings_of(values | {"mean_teacher": {"images": "b"}})
    told = changed_settings(began(values | TEACHING), moved)
    assert told == "mean_teacher.images = ['b'] (was ['a'])"


def test_a_run_goes_on_where_another_precision_is_computed(began, values):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    path = began(values)
    stored = yaml.safe_load(path.read_text())
    stored["loop"] |= {"device": "gpu", "precision": "16-mixed"}  # refused on this machine
    path.write_text(yaml.safe_dump(stored))
    told = changed_settings(path, settings_of(values))
    assert told == "loop.device = auto (was gpu), loop.precision = 32-true (was 16-mixed)"


def test_what_no_version_of_now_has_written_is_one_line(began, values):
    path = began(values)
    for text, message in (
        (path.read_text() + "\ngone: {since: 2}\n", "unknown key gone; "),
        ("loop: 3\n", "model is missing; "),
        ("[", "not valid YAML"),
    ):
        path.write_text(text)
        with pytest.raises(ConfigError, match=r"config\.yaml: .*" + message) as told:
            changed_settings(path, settings_of(values))
        if "YAML" not in message:
            assert "\n" not in str(told.value)
            assert "on with that version, or start another run" in str(told.value)


def test_a_run_whose_settings_are_gone_is_compared_with_none(tmp_path, values):
    assert changed_settings(tmp_path / "config.yaml", settings_of(values)) == ""


def test_other_weights_are_told_by_their_settings_and_what_was_not_kept_is_not_compared():
    before = {"detector": "a", "teachers": "b c", "grader.backbone_weights": ""}
    check_content(before, before | {"kept.by.later.versions": "d"})
    check_content({}, before)
    with pytest.raises(ConfigError, match="of detector, grader\\.backbone_weights: "):
        check_content(before, before | {"detector": "e", "grader.backbone_weights": "f"})
    with pytest.raises(ConfigError, match="other content of teachers: "):
        check_content(before, {"detector": "a"})
