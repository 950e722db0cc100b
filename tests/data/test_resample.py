"""Two ways of resampling that give the same pixels."""

import numpy as np
import pytest
from PIL import Image

from data import resample as module
from data.resample import LARGE, ROOM, resample

SIDE = 520
"""Of results that are large enough for torch."""


@pytest.fixture(scope="module")
def image():
    """Noise, the hardest case, a little smoothed as optics do."""
    noise = np.random.default_rng(0).integers(0, 256, (1400, 1500, 3), np.uint8)
    small = Image.fromarray(noise).resize((1300, 1200), Image.Resampling.BICUBIC)
    return np.asarray(small)


def by_pillow(image, size, box):
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR, box=box))


@pytest.mark.parametrize("scale", [1.0284, 1.3, 1.98, 2.0, 2.0284])
@pytest.mark.parametrize("phase", [0.0, 0.25, 0.5, 0.9])
def test_torch_gives_what_pillow_gives(image, scale, phase):
    start = np.floor(ROOM * scale) + scale + phase
    size = min(SIDE, int((1200 - start) / scale))
    box = (start, start, start + size * scale, start + size * scale)
    expected = by_pillow(image, (size, size), box)
    found = resample(image, (size, size), box)
    difference = np.abs(found.astype(int) - expected)
    assert difference.max() <= 4
    assert difference.mean() < 0.8


def test_whole_images_and_whole_factors_are_exact(image):
    for box in [(0, 0, 1040, 1040), (100, 100, 1140, 1140)]:
        found = module._by_torch(image, (SIDE, SIDE), box)
        np.testing.assert_array_equal(found, by_pillow(image, (SIDE, SIDE), box))


def test_torch_is_taken_for_tiles_of_every_usual_scale(image):
    """0.23 to 0.27 µm per pixel at 0.5, wherever the tile lies, once whole factors are settled."""
    taken = 0
    for scale in np.arange(1.85, 2.18, 0.015):
        for phase in (0.0, 0.31, 0.5, 0.77):
            start = np.floor((ROOM + 1) * scale) + phase
            taken += module._whole_start(start, float(scale)) is not None
    assert taken >= 0.9 * 22 * 4


def test_small_boxes_enlargements_and_odd_places_go_to_pillow(image):
    assert module._by_torch(image, (100, 100), (0, 0, 200, 200)) is None
    assert module._by_torch(image, (SIDE, SIDE), (0, 0, 300, 300)) is None
    assert module._by_torch(image, (SIDE, SIDE), (0.5, 0.5, 1040.5, 1040.5)) is None
    assert SIDE * SIDE >= LARGE


def test_what_cannot_be_written_to_can_be_resampled(image):
    image = image.copy()
    image.flags.writeable = False
    assert resample(image, (SIDE, SIDE), (0, 0, 1040, 1040)).shape == (SIDE, SIDE, 3)
