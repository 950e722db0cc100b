"""What doesn't look like a stained smear is told; what does isn't."""

import cv2
import numpy as np
import pytest
from slidefiles import array_slide

from data.synth import draw_field
from pipeline.tiles.foreground import Foreground, ForegroundSettings, find_foreground
from pipeline.tiles.light import Light, measure_light
from pipeline.tiles.plausible import find_implausible, measure, sharpness


@pytest.fixture(scope="module")
def drawn():
    """A drawn field, (1500, 2000, 3) at 0.25 µm/px."""
    return draw_field(7, (2000, 1500), 0.25)[0]


def codes(image, mpp=0.25, **settings):
    slide = array_slide(np.ascontiguousarray(image), mpp=mpp)
    foreground = find_foreground(slide, ForegroundSettings(**settings))
    return [doubt.code for doubt in find_implausible(slide, foreground)]


def blurred(image, um, mpp=0.25):
    return cv2.GaussianBlur(image, (0, 0), um / mpp)


def test_a_smear_in_focus_is_no_doubt(drawn):
    assert codes(drawn) == []


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (np.zeros_like, "too-dark"),
        (lambda image: 255 - image, "too-dark"),
        (lambda image: (image * 0.4).astype(np.uint8), "too-dark"),
        (lambda image: (image * [1.0, 0.9, 0.6]).astype(np.uint8), "tinted-glass"),
        (lambda image: np.repeat(image[..., 1:2], 3, axis=2), "grey"),
        (lambda image: blurred(image, 1.5), "out-of-focus"),
        (lambda image: blurred(image, 3), "out-of-focus"),
    ],
)
def test_what_is_wrong_is_told(drawn, change, code):
    assert code in codes(change(drawn))


def test_red_and_blue_swapped_is_told_of_several_places():
    fields = [draw_field(seed, (1000, 750), 0.5)[0] for seed in range(4)]
    slide = np.concatenate([np.concatenate(fields[:2], axis=1), np.concatenate(fields[2:], axis=1)])
    assert codes(slide, mpp=0.5) == []
    assert codes(slide[..., ::-1], mpp=0.5) == ["colours-swapped"]


@pytest.mark.parametrize(
    "change",
    [
        lambda image: blurred(image, 0.3),
        lambda image: (image * 0.85).astype(np.uint8),
        lambda image: (image * [1.0, 0.98, 0.9]).astype(np.uint8),
    ],
)
def test_what_scanners_do_is_no_doubt(drawn, change):
    assert codes(change(drawn)) == []


def test_the_darkest_of_all_is_told_once_and_alone(drawn):
    assert codes(blurred(255 - drawn, 3)) == ["too-dark"]


def test_sharpness_is_of_the_scale_and_not_of_contrast_or_number_of_cells(drawn):
    half = cv2.resize(drawn, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    pale = (255 - (255 - half) * 0.6).astype(np.uint8)
    sharp, paler = sharpness(half), sharpness(pale)
    assert paler == pytest.approx(sharp, rel=0.15)
    values = [sharpness(blurred(half, um, 0.5)) for um in (0.25, 0.5, 1, 2)]
    assert [sharp, *values] == sorted([sharp, *values], reverse=True)


def test_a_place_without_stain_says_nothing():
    assert measure(np.full((512, 512, 3), 240, np.uint8)) is None


def test_without_an_overview_focus_is_looked_at_all_the_same(drawn):
    assert codes(blurred(drawn, 3), enabled=False) == ["out-of-focus"]
    assert codes(255 - drawn, enabled=False) != ["too-dark"]


def test_a_slide_coarser_than_the_limits_hold_for_is_not_judged_by_its_details(drawn):
    quarter = cv2.resize(drawn, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
    assert codes(blurred(quarter, 3, 1.0), mpp=1.0) == []


def large(share):
    """A slide of 16 mm² at 4 µm/px, and a mask of which ``share`` is foreground."""
    slide = array_slide(np.full((1000, 1000, 3), 240, np.uint8), mpp=4.0)
    mask = np.zeros((1000, 1000), bool)
    mask.reshape(-1)[: round(share * mask.size)] = True
    return find_implausible(slide, Foreground(mask, 1.0, Light(240, 240, 0, 90)))


@pytest.mark.parametrize(
    ("share", "expected"),
    [(0.0, []), (0.0005, ["hardly-any-cells"]), (0.01, []), (0.99, []), (1.0, ["no-glass"])],
)
def test_a_large_slide_has_glass_and_cells(share, expected):
    assert [doubt.code for doubt in large(share)] == expected


def test_light_is_measured_as_it_falls():
    pixels = np.full((1000, 3), 100, np.uint8)
    pixels[:100] = (250, 240, 230)
    light = measure_light(pixels)
    assert light is not None
    assert light.middle == pytest.approx(100)
    assert light.bright == pytest.approx(0.299 * 250 + 0.587 * 240 + 0.114 * 230)
    assert light.tint == pytest.approx(20)
    assert light.colour == pytest.approx(20)
    assert measure_light(pixels[:0]) is None
