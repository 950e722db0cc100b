"""Tiles to calibrate on: real, of the model's scale, evenly over slides."""

import numpy as np
import pytest
from PIL import Image

from configs import ConfigError
from pipeline.tiles.calibration import SIDE, sample_tiles

CELLS = {(300, 200): 40, (1300, 1100): 80, (640, 600): 120}
"""Size of each slide, and how dark its cells are."""


@pytest.fixture
def slides(tmp_path):
    """Images full of cells on bright glass."""
    paths = []
    for size, grey in CELLS.items():
        pixels = np.full((size[1], size[0], 3), 235, np.uint8)
        for y in range(20, size[1] - 20, 50):
            for x in range(20, size[0] - 20, 50):
                pixels[y : y + 20, x : x + 20] = grey
        paths.append(tmp_path / f"{grey}.png")
        Image.fromarray(pixels).save(paths[-1])
    return paths


def test_each_slide_has_its_share_and_no_tile_reaches_beyond_a_slide(slides):
    tiles = sample_tiles(slides, 0.5, 6, 0.5)
    of_slide = [int(tile.min()) for tile in tiles]
    shares = sorted(of_slide.count(grey) for grey in CELLS.values())
    assert shares[0] == 1  # the small ones have one tile each that lies inside
    assert sum(shares) == len(tiles)
    assert {tile.shape[0] for tile in tiles} == {200, SIDE}
    assert all(tile.shape[0] == tile.shape[1] for tile in tiles)


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
