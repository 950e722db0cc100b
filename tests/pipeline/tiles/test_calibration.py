"""Tiles to calibrate on: real, of the model's scale, evenly over slides."""

import numpy as np
import pytest
from PIL import Image

from configs import ConfigError
from pipeline.errors import SlideError
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
    sampled = sample_tiles(slides, 0.5, 6, 0.5)
    tiles = sampled.tiles
    of_slide = [int(tile.min()) for tile in tiles]
    shares = sorted(of_slide.count(grey) for grey in CELLS.values())
    assert shares[0] == 1  # the small ones have one tile each that lies inside
    assert sum(shares) == len(tiles)
    assert {tile.shape[0] for tile in tiles} == {200, SIDE}
    assert all(tile.shape[0] == tile.shape[1] for tile in tiles)
    assert (sampled.slides, sampled.doubts) == (3, ())


def test_the_draw_is_repeatable(slides):
    first, again = (sample_tiles(slides, 0.5, 3, 0.5).tiles for _ in range(2))
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)


def test_tiles_have_the_model_s_scale(slides):
    (tile,) = sample_tiles(slides[:1], 0.5, 1, 0.25).tiles
    assert tile.shape == (100, 100, 3)


def test_empty_glass_is_no_tile(tmp_path):
    Image.fromarray(np.full((300, 300, 3), 240, np.uint8)).save(tmp_path / "blank.png")
    with pytest.raises(ConfigError, match="no tile with cells"):
        sample_tiles([tmp_path / "blank.png"], 0.5, 4, 0.5)


def test_slides_that_give_nothing_are_told_and_not_counted(slides, tmp_path):
    Image.fromarray(np.full((300, 300, 3), 240, np.uint8)).save(tmp_path / "blank.png")
    sampled = sample_tiles([*slides, tmp_path / "blank.png"], 0.5, 40, 0.5)
    assert sampled.slides == 3
    (doubt,) = sampled.doubts
    assert doubt.code == "nothing-screened"
    assert "blank.png: no tile with cells" in doubt.text


def test_slides_beyond_the_wanted_tiles_are_neither_counted_nor_told(slides):
    sampled = sample_tiles(slides, 0.5, 2, 0.5)
    assert (len(sampled.tiles), sampled.slides, sampled.doubts) == (2, 2, ())


def test_nothing_is_learned_from_blur(slides):
    """Of slides that a screen would refuse; of coarse ones that it takes it tells."""
    sampled = sample_tiles(slides[1:2], 0.5, 1, 0.8)
    assert [one.code for one in sampled.doubts] == ["mpp-coarse"]
    assert "80.png: at 0.8 µm per pixel" in sampled.doubts[0].text
    with pytest.raises(SlideError, match=r"80\.png: at 1\.1 .*leave it out of --calibration"):
        sample_tiles(slides[1:2], 0.5, 1, 1.1)
