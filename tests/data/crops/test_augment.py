"""Augmentation by name: built as YAML says, and refused with a reason."""

import numpy as np
import pytest

from configs import ConfigError, validate
from data.crops.augment import AugmentSettings, StainJitter, build_augmentation

IMAGE = np.full((64, 64, 3), 200, np.uint8)
BOXES, LABELS = np.array([[4.0, 6, 20, 30]]), np.array([1])


def run(*steps):
    settings = validate({"steps": list(steps)}, AugmentSettings, "augment")
    pipeline = build_augmentation(settings, seed=0)
    return pipeline(image=IMAGE, bboxes=BOXES, labels=LABELS)


def test_steps_take_the_place_of_the_defaults():
    result = run({"name": "HorizontalFlip", "p": 1.0})
    np.testing.assert_allclose(result["bboxes"], [[44, 6, 60, 30]])
    assert (result["image"] == IMAGE).all()


def test_no_steps_change_nothing():
    result = run()
    np.testing.assert_allclose(result["bboxes"], BOXES)
    assert (result["image"] == IMAGE).all()


def test_what_slides_need_can_be_named():
    run(
        {"name": "D4"},
        {"name": "Affine", "scale": [0.8, 1.2], "p": 1.0},
        {"name": "GaussianBlur", "blur_limit": [3, 5], "p": 1.0},
        {"name": "ImageCompression", "quality_range": [50, 90], "p": 1.0},
        {"name": "StainJitter", "spread": 0.2, "p": 1.0},
        {"name": "HEStain", "p": 1.0},
    )
    steps = build_augmentation(AugmentSettings(steps=({"name": "StainJitter", "spread": 0.2},)))
    assert isinstance(steps.transforms[0], StainJitter)


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ({"name": "GausianBlur"}, "GausianBlur is no transform.*did you mean GaussianBlur"),
        ({"p": 1.0}, "a step without a name"),
        ({"name": "Compose", "transforms": []}, "Compose is no transform"),
        (
            {"name": "GaussianBlur", "blur": 3},
            "GaussianBlur has no argument blur; it has .*blur_limit",
        ),
        ({"name": "GaussianBlur", "p": 7}, "GaussianBlur: "),
        ({"name": "StainJitter"}, "StainJitter: .*spread"),
    ],
)
def test_what_cannot_be_built_is_refused_in_one_line(step, message):
    with pytest.raises(ConfigError, match=message) as refusal:
        run(step)
    assert "\n" not in str(refusal.value)
