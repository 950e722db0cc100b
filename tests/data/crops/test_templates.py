"""Templates of colour: statistics by hand, and that a crop gets those that were drawn."""

import numpy as np
import pytest
import torch

from configs import ConfigError
from data.annotations import read_coco
from data.crops.augment import AugmentSettings, build_augmentation
from data.crops.dataset import CropDataset, with_templates
from data.crops.sampling import CropSettings
from data.crops.templates import (
    SPACES,
    SpaceStatistics,
    StainTemplate,
    describe,
    learn_statistics,
)
from data.fields.images import FieldImages


def picture(seed=0):
    """Pale colours that differ slowly, so that nothing of them is cut off."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(120, 200, (16, 16, 3), np.uint8)
    return coarse.repeat(4, axis=0).repeat(4, axis=1)


@pytest.mark.parametrize("space", SPACES)
def test_spaces_lead_back_to_the_same_colours(space):
    every = np.stack(np.meshgrid(*[np.arange(0, 256, 15)] * 3), axis=-1).reshape(1, -1, 3)
    into, back = SPACES[space]
    found = back(into(every.astype(np.uint8))).astype(int)
    assert np.abs(found - every).max() <= (1 if space != "hed" else 2)


def test_densities_are_those_of_ruifrok_and_johnston():
    """Light that eosin alone took away, by its published direction."""
    light = 256 * np.exp(-0.8 * np.array([0.07, 0.99, 0.11])) - 1
    found = SPACES["hed"][0](light.round().astype(np.uint8)[None, None])
    np.testing.assert_allclose(found[0, 0], [0, 0.8, 0], atol=0.02)


def test_statistics_are_means_and_spreads_between_crops():
    grey = [np.full((8, 8, 3), level, np.uint8) for level in (50, 100)]
    grey[0][::8] = 250
    [lab] = learn_statistics(grey, ["lab"]).values()
    lightness = [SPACES["lab"][0](np.full((1, 1, 3), v, np.uint8))[0, 0, 0] for v in (50, 250, 100)]
    first = np.array([lightness[1], lightness[0]])  # of rows 0 and 4, which are looked at
    assert lab.mean[0] == pytest.approx((first.mean() + lightness[2]) / 2, abs=0.01)
    assert lab.mean_sd[0] == pytest.approx(abs(first.mean() - lightness[2]) / 2, abs=0.01)
    assert lab.sd[0] == pytest.approx(first.std() / 2, abs=0.01)
    assert lab.sd_sd[0] == pytest.approx(first.std() / 2, abs=0.01)


def test_hue_is_a_direction_of_colours_not_of_greys():
    """Reds to both sides of 0 degrees have their mean there, not at 180."""
    image = np.full((8, 8, 3), 200, np.uint8)
    image[:, :4] = [255, 43, 0]  # 10 degrees
    image[:, 4:] = [255, 0, 43]  # 350 degrees
    mean, _ = describe(SPACES["hsv"][0](image), "hsv")
    assert min(mean[0], 360 - mean[0]) == pytest.approx(0, abs=0.5)
    greyish = np.full((8, 8, 3), [90, 91, 90], np.uint8)  # 120 degrees, of no account
    greyish[4] = [255, 43, 0]
    assert describe(SPACES["hsv"][0](greyish), "hsv")[0][0] == pytest.approx(10, abs=2)
    [hsv] = learn_statistics([image[:, :4], image[:, 4:]], ["hsv"]).values()
    assert hsv.mean_sd[0] == pytest.approx(10, abs=0.5)


@pytest.mark.parametrize("space", ["lab", "hed"])
def test_a_crop_gets_the_template_that_was_drawn(space):
    mean, sd = describe(SPACES[space][0](picture()), space)
    wanted = SpaceStatistics(
        mean=tuple(mean + 0.1 * sd), mean_sd=(0, 0, 0), sd=tuple(1.2 * sd), sd_sd=(0, 0, 0)
    )
    changed = StainTemplate({space: wanted}, strength=1.0, p=1.0)(image=picture())["image"]
    found = describe(SPACES[space][0](changed), space)
    np.testing.assert_allclose(found[0], wanted.mean, atol=0.05 * sd.max())
    np.testing.assert_allclose(found[1], wanted.sd, rtol=0.05)
    half = StainTemplate({space: wanted}, strength=0.5, p=1.0)(image=picture())["image"]
    found = describe(SPACES[space][0](half), space)
    np.testing.assert_allclose(found[0], mean + 0.05 * sd, atol=0.05 * sd.max())
    np.testing.assert_allclose(found[1], 1.2**0.5 * sd, rtol=0.05)


def test_hue_is_turned_the_short_way_and_glass_is_not_stretched_to_noise():
    red = np.full((8, 8, 3), [255, 0, 43], np.uint8)  # 350 degrees
    mean, _ = describe(SPACES["hsv"][0](red), "hsv")
    turned = SpaceStatistics(
        mean=(10.0, *mean[1:]), mean_sd=(0, 0, 0), sd=(90.0, 0, 0), sd_sd=(0, 0, 0)
    )
    half = StainTemplate({"hsv": turned}, strength=0.5, p=1.0)(image=red)["image"]
    assert np.abs(half.astype(int) - [255, 0, 0]).max() <= 1
    glass = np.full((64, 64, 3), 230, np.uint8)
    glass[::8] = 228
    wide = SpaceStatistics(mean=(80, 0, 0), mean_sd=(0, 0, 0), sd=(40, 1, 1), sd_sd=(0, 0, 0))
    changed = StainTemplate({"lab": wide}, strength=1.0, p=1.0)(image=glass)["image"]
    assert np.ptp(changed.astype(int)) <= 5


def test_templates_learn_from_the_runs_own_crops_and_the_same_ones_every_time(coco):
    fields = read_coco(*coco)
    arguments = fields, FieldImages(fields.fields), 0.5, CropSettings(size=32), 3
    asked = AugmentSettings(templates={"spaces": ["lab"], "probability": 1.0})
    learned = with_templates(asked, *arguments)
    assert set(learned.templates.statistics) == {"lab"}
    lab = learned.templates.statistics["lab"]
    assert 30 < lab.mean[0] < 92  # between cells, 80, and glass, 230
    assert lab.mean[1:] == pytest.approx((0, 0), abs=0.1)  # all is grey
    assert with_templates(asked, *arguments) == learned
    assert with_templates(learned, *arguments) is learned
    assert with_templates(AugmentSettings(), *arguments).templates is None
    build_augmentation(learned)


def test_statistics_that_are_missing_are_named():
    asked = AugmentSettings(templates={"spaces": ["hed", "lab"]})
    with pytest.raises(ConfigError, match=r"no statistics of hed, lab; .*templates\.statistics"):
        build_augmentation(asked)


def test_views_differ_by_their_templates(coco):
    fields = read_coco(*coco)
    images, settings = FieldImages(fields.fields), CropSettings(size=32)
    asked = AugmentSettings(stain=0, templates={"probability": 1.0})
    assert asked.changes_stain
    learned = with_templates(asked, fields, images, 0.5, settings, 0)
    drawn = CropDataset(fields, images, 0.5, settings, learned, 8, 0, views=True)
    pairs = [(image, target["view"]) for image, target in drawn]
    assert not any(torch.equal(image, view) for image, view in pairs)
