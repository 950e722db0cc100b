"""Augmentation by name: built as YAML says, and refused with a reason."""

import albumentations as A
import numpy as np
import pytest

from configs import ConfigError, validate
from data.crops.augment import (
    MIN_VISIBILITY,
    AugmentSettings,
    StainJitter,
    build_augmentation,
    share_within,
)

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


def moved(x):
    """A step by a share of the image's width, to the right."""
    return {"name": "Affine", "translate_percent": {"x": [x, x], "y": [0, 0]}, "p": 1.0}


def left_of(boxes, *steps):
    pipeline = build_augmentation(AugmentSettings(steps=steps), seed=0)
    result = pipeline(
        image=np.full((100, 100, 3), 200, np.uint8),
        bboxes=np.array(boxes, float),
        labels=np.arange(len(boxes)),
    )
    return dict(
        zip(map(int, result["labels"]), np.round(result["bboxes"], 2).tolist(), strict=True)
    )


@pytest.mark.parametrize("steps", [(moved(0.3),), (moved(0.1),) * 3])
def test_a_cell_that_a_step_leaves_too_little_of_is_called_none(steps):
    """Of 20 px 8.1 show, 7.9, or a tenth of one; in one step or in several."""
    boxes = [[61.9, 10, 81.9, 30], [62.1, 10, 82.1, 30], [69.9, 10, 89.9, 30], [10, 10, 30, 30]]
    found = left_of(boxes, *steps)
    assert found == {0: [91.9, 10, 100, 30], 3: [40, 10, 60, 30]}


def test_what_the_crop_had_cut_off_counts_once():
    """Of 20 px the crop shows 10: 9 of these are enough of the cell, 7 are too little."""
    cut = [[-10, 40, 10, 60]]
    assert left_of(cut, moved(-0.01)) == {0: [0, 40, 9, 60]}
    assert left_of(cut, moved(-0.03)) == {}
    assert left_of(cut, moved(0.3)) == {0: [30, 40, 40, 60]}
    smaller = {"name": "Affine", "scale": [0.5, 0.5], "p": 1.0}
    assert left_of(cut, smaller)[0] == pytest.approx([25, 45, 30, 55], abs=0.5)


def test_the_default_recipe_changes_no_box():
    """Crops, boxes and labels are, byte for byte, those of albumentations' plain pipeline."""
    settings, rng = AugmentSettings(), np.random.default_rng(0)
    ours = build_augmentation(settings)
    boxes = A.BboxParams("pascal_voc", label_fields=["labels"], clip=True)
    plain = A.Compose(build_augmentation(settings).transforms, bbox_params=boxes)
    image = rng.integers(0, 256, (96, 96, 3), np.uint8)
    for seed in range(40):
        middles, sides = rng.uniform(-5, 101, (12, 2)), rng.uniform(4, 40, (12, 2))
        given = np.hstack([middles - sides / 2, middles + sides / 2]).astype(
            [np.float32, float][seed % 2]
        )
        given = given[share_within(given, image.shape) >= MIN_VISIBILITY]
        results = []
        for pipeline in (ours, plain):
            pipeline.set_random_seed(seed)
            results.append(pipeline(image=image, bboxes=given, labels=np.arange(len(given))))
        assert len(results[0]["labels"]) == len(given)
        assert results[0].keys() == results[1].keys()
        for one, other in zip(*(result.values() for result in results), strict=True):
            assert np.asarray(one).dtype == np.asarray(other).dtype
            assert np.asarray(one).tobytes() == np.asarray(other).tobytes()
