"""Tiles to calibrate on: real, of the model's scale, evenly over slides."""

import numpy as np
import pytest
from PIL import Image

from configs import ConfigError
from pipeline.calibration import SIDE, sample_tiles


@pytest.fixture
def slides(tmp_path):
    """Three images of one grey each, with dark cells; sizes differ."""
    paths = []
    for grey, size in ((150, (300, 200)), (170, (1300, 1100)), (190, (640, 600))):
        pixels = np.full((size[1], size[0], 3), grey, np.uint8)
        pixels[::40, ::40] = grey - 90
        pixels += np.random.default_rng(0).integers(0, 20, pixels.shape, np.uint8)
        paths.append(tmp_path / f"{grey}.png")
        Image.fromarray(pixels).save(paths[-1])
    return paths


def test_each_slide_has_its_share_and_no_tile_reaches_beyond_a_slide(slides):
    tiles = sample_tiles(slides, 0.5, 6, 0.5)
    greys = sorted(round(float(tile.mean()) / 20) * 20 for tile in tiles)
    assert len(tiles) == 6 - 1  # the first slide has one tile only
    assert len(set(greys)) == 3
    for tile in tiles:
        assert max(tile.shape[:2]) <= SIDE
        assert tile.max() <= 190 + 20


def test_the_draw_is_repeatable(slides):
    first, again = (sample_tiles(slides, 0.5, 3, 0.5) for _ in range(2))
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)


def test_tiles_have_the_model_s_scale(slides):
    (tile,) = sample_tiles(slides[:1], 0.5, 1, 0.25)
    assert tile.shape == (100, 100, 3)


def test_empty_glass_is_no_tile(tmp_path):
    Image.fromarray(np.full((300, 300, 3), 240, np.uint8)).save(tmp_path / "blank.png")
    with pytest.raises(ConfigError, match="no tile with cells"):
        sample_tiles([tmp_path / "blank.png"], 0.5, 4, 0.5)
