"""Whether a run may go on: what differs from the settings that it began with."""

import pytest
import yaml

from configs import ConfigError
from scripts.training.resumed import changed_settings

OFF = {"mean_teacher": None, "loop": {"steps": 3}}
ON = OFF | {"mean_teacher": {"images": ["a"], "mpp": None, "strong": {"steps": None}}}


@pytest.fixture
def began(tmp_path):
    def write(values):
        path = tmp_path / "config.yaml"
        path.write_text(yaml.safe_dump(values))
        return path

    return write


def test_a_group_that_is_turned_on_or_off_is_another_setting(began):
    with pytest.raises(ConfigError, match=r"began with other settings: mean_teacher is set \(was"):
        changed_settings(began(OFF), ON)
    with pytest.raises(ConfigError, match=r"began with other settings: mean_teacher = null \(was"):
        changed_settings(began(ON), OFF)
    assert changed_settings(began(ON), ON) == changed_settings(began(OFF), OFF) == ""
    # A key that a later version brings is none that the run began with.
    assert changed_settings(began({"loop": {"steps": 3}}), ON) == ""


def test_unlabelled_images_may_lie_elsewhere(began):
    moved = ON | {"mean_teacher": ON["mean_teacher"] | {"images": ["b"]}}
    assert changed_settings(began(ON), moved) == "mean_teacher.images = ['b'] (was ['a'])"
