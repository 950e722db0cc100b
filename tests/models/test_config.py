"""Settings of a detector that can't be are refused, by their key."""

import pytest

from configs import ConfigError, validate
from models.config import DetectorConfig

FCOS = {"name": "fcos", "classes": ["NILM", "HSIL"]}


@pytest.mark.parametrize("wrong", [[], [0], [-1], [1, 0], [float("nan")], [float("inf")]])
@pytest.mark.parametrize("key", ["anchors.aspect_ratios", "yolof.anchor_sides"])
def test_anchors_have_a_size(key, wrong):
    part, name = key.split(".")
    with pytest.raises(ConfigError, match=rf"{part}\.{name}"):
        validate(FCOS | {part: {name: wrong}}, DetectorConfig, "model")


@pytest.mark.parametrize("wrong", [[0, 0, 0], [0.2, 0, 0.2], [0.2, 0.2, -0.2]])
def test_nothing_is_divided_by_a_spread_of_nought(wrong):
    with pytest.raises(ConfigError, match=r"image_std"):
        validate(FCOS | {"image_std": wrong}, DetectorConfig, "model")
