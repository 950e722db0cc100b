"""Two ways of resampling that give the same pixels."""

import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from data import resample as module
from data.resample import ROOM, resample

SIDE = 520


@pytest.fixture(autouse=True)
def _results_of_this_size_are_large(monkeypatch):
    monkeypatch.setattr(module, "LARGE", SIDE * SIDE)


@pytest.fixture(scope="module")
def image():
    """Noise, the hardest case, a little smoothed as optics do."""
    noise = np.random.default_rng(0).integers(0, 256, (1400, 1500, 3), np.uint8)
    small = Image.fromarray(noise).resize((1300, 1200), Image.Resampling.BICUBIC)
    return np.asarray(small)


def by_pillow(image, size, box):
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR, box=box))


def test_whole_images_and_whole_factors_are_exact(image):
    for box in [(0, 0, 1040, 1040), (100, 100, 1140, 1140)]:
        found = module._by_torch(image, (SIDE, SIDE), box)
        np.testing.assert_array_equal(found, by_pillow(image, (SIDE, SIDE), box))


def test_torch_is_left_alone_at_scales_where_its_grid_fits_few_tiles(image):
    for scale, fits in (1.25, True), (1.5, True), (2.0, True), (1.4, False), (2.0284, False):
        box = (0, 0, SIDE * scale, SIDE * scale)
        assert (module._by_torch(image, (SIDE, SIDE), box) is not None) == fits


@pytest.mark.parametrize("scale", [1.5, 2.0, 2.0284])
@pytest.mark.parametrize("phase", [0.0, 0.25, 0.5])
def test_boxes_that_overlap_show_the_same_pixels(image, scale, phase):
    """Wherever they begin, by whole output pixels: what tiles of one slide have in common."""
    start = np.floor((ROOM + 1) * scale) + phase
    size = min(SIDE, int((1200 - start - 9 * scale) / scale))
    one, other = (
        resample(image, (size, size), (at, at, at + size * scale, at + size * scale))
        for at in (start, start + 8 * scale)
    )
    difference = np.abs(one[8:, 8:].astype(int) - other[:-8, :-8])
    assert difference.max() <= 1
    assert difference.mean() < 0.01


def test_torch_is_taken_where_grids_meet_whole_pixels():
    for scale, start, taken in [(2.0, 64, True), (2.5, 65, True), (2.0284, 65, False)]:
        assert (module._whole_start(start, scale) is not None) == taken
    assert module._whole_start(64.5, 2.0) is None


def test_small_boxes_enlargements_and_odd_places_go_to_pillow(image):
    assert module._by_torch(image, (100, 100), (0, 0, 200, 200)) is None
    assert module._by_torch(image, (SIDE, SIDE), (0, 0, 300, 300)) is None
    assert module._by_torch(image, (SIDE, SIDE), (0.5, 0.5, 1040.5, 1040.5)) is None


def test_what_cannot_be_written_to_can_be_resampled(image):
    image = image.copy()
    image.flags.writeable = False
    assert resample(image, (SIDE, SIDE), (0, 0, 1040, 1040)).shape == (SIDE, SIDE, 3)


@pytest.mark.slow
def test_a_screen_without_torch_loads_it_for_large_tiles_only_and_gives_it_one_thread():
    script = (
        "import sys\n"
        "import numpy as np\n"
        "from data.resample import resample\n"
        "resample(np.zeros((200, 200, 3), np.uint8), (100, 100))\n"
        "assert 'torch' not in sys.modules\n"
        "resample(np.zeros((2400, 2400, 3), np.uint8), (1200, 1200))\n"
        "print(sys.modules['torch'].get_num_threads())\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
    )
    assert (ended.returncode, ended.stdout) == (0, "1\n"), ended.stderr
