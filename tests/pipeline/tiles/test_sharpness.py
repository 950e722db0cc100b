"""Blur is told from few cells, faint stain and noise."""

import cv2
import numpy as np
import pytest

from data.synth import draw_field
from pipeline.tiles.sharpness import LEAST_SHARP, sharpness

MPP = 0.5


@pytest.fixture(scope="module")
def drawn():
    """A drawn field, (512, 512, 3) at 0.5 µm/px."""
    return draw_field(7, (512, 512), MPP)[0]


def blurred(image, um):
    return cv2.GaussianBlur(image, (0, 0), um / MPP)


def noisy(image, levels=3):
    noise = np.random.default_rng(0).normal(0, levels, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


def test_it_falls_with_blur_and_contrast_hardly_changes_it(drawn):
    pale = (255 - (255 - drawn) * 0.6).astype(np.uint8)
    assert sharpness(pale) == pytest.approx(sharpness(drawn), rel=0.15)
    values = [sharpness(drawn), *(sharpness(blurred(drawn, um)) for um in (0.25, 0.5, 1, 2))]
    assert values == sorted(values, reverse=True)
    assert values[0] > LEAST_SHARP > values[3]


@pytest.mark.parametrize("um", [2, 4, 8])
def test_noise_upon_a_strong_blur_is_no_sharpness(drawn, um):
    """Noise is added after the blur, as a camera does; the finest scale is nothing else then."""
    noise = noisy(blurred(drawn, um))
    assert sharpness(noise) < LEAST_SHARP
    assert sharpness(noisy(drawn)) > LEAST_SHARP


def test_one_cell_on_much_glass_is_measured_alone(drawn):
    scene = np.full((256, 256, 3), 240, np.uint8)
    scene[90:154, 90:154] = drawn[100:164, 100:164]
    blur = noisy(blurred(scene, 1.5), 1.5)
    assert sharpness(blur) < LEAST_SHARP < sharpness(noisy(scene, 1.5))


@pytest.mark.parametrize(
    "pixels",
    [
        np.full((256, 256, 3), 240, np.uint8),
        noisy(np.full((256, 256, 3), 240, np.uint8)),
        np.zeros((256, 256, 3), np.uint8),
        np.zeros((0, 256, 3), np.uint8),
        np.zeros((63, 256, 3), np.uint8),
    ],
    ids=["glass", "noise", "black", "nothing", "narrow"],
)
def test_without_stain_or_room_nothing_is_said(pixels):
    assert sharpness(pixels) is None


@pytest.mark.parametrize("height", [64, 65, 66, 67, 255, 259])
def test_any_size_is_measured(drawn, height):
    assert sharpness(drawn[:height, :131]) > LEAST_SHARP


def test_of_real_fields_hardly_a_square_is_told_and_blurred_nearly_all(shared):
    """The validation fields, on which no limit was settled; every third of them."""
    told = {0.0: [], 1.0: [], 2.0: []}
    for path in sorted((shared / "cric" / "val").iterdir())[::3]:
        field = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
        half = cv2.resize(field, None, fx=0.493, fy=0.493, interpolation=cv2.INTER_AREA)
        for um, values in told.items():
            image = blurred(half, um) if um else half
            values += [sharpness(image[:256, :256]), sharpness(image[-256:, -256:])]
    share = {
        um: np.mean([value < LEAST_SHARP for value in values if value is not None])
        for um, values in told.items()
    }
    assert share[0.0] <= 0.05
    assert share[1.0] >= 0.85
    assert share[2.0] == 1
