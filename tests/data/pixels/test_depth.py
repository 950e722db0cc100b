"""The depth of samples: by the file, by glass, or in doubt; never in silence."""

import numpy as np
import pytest
from slidefiles import picture

from data.pixels.depth import settle_depth
from data.pixels.samples import to_8_bit

SLIDE = np.where(picture(200, 150) > 120, 235, picture(200, 150)).reshape(-1, 3)
"""Glass with some cells on it."""


def stored(bits, share=1.0):
    return np.rint(SLIDE / 255 * share * ((1 << bits) - 1)).astype(np.uint16)


@pytest.mark.parametrize("bits", [8, 10, 12, 14])
@pytest.mark.parametrize("share", [0.75, 1.0])
def test_glass_near_the_white_of_a_camera_shows_its_depth_and_is_told(bits, share):
    depth = settle_depth(stored(bits, share), 16)
    assert (depth.bits, depth.source, str(depth)) == (bits, "data", f"{bits} of 16")
    (doubt,) = depth.doubts
    assert doubt.code == "bit-depth"
    assert f"read as {bits} bits" in doubt.text


@pytest.mark.parametrize("share", [0.6, 1.0])
def test_bright_16_bits_are_16_bits(share):
    depth = settle_depth(stored(16, share), 16)
    assert (depth.bits, depth.source, depth.doubts) == (16, "file", ())


@pytest.mark.parametrize("share", [0.30, 0.45])
def test_darkish_16_bits_are_not_stretched_but_told(share):
    depth = settle_depth(stored(16, share), 16)
    assert depth.bits == 16
    assert [doubt.code for doubt in depth.doubts] == ["depth-unclear"]


@pytest.mark.parametrize("bits", [10, 12, 14])
def test_a_dark_picture_of_a_camera_stays_what_is_stored_and_is_told(bits):
    depth = settle_depth(stored(bits, 0.4), 16)
    assert depth.bits == 16
    assert [doubt.code for doubt in depth.doubts] == ["depth-unclear"]


def test_what_the_file_says_needs_no_doubt():
    depth = settle_depth(stored(12), 16, 12)
    assert (depth.bits, depth.source, depth.doubts) == (12, "file", ())


def test_what_the_file_says_holds_where_the_picture_is_dark_and_that_is_told():
    depth = settle_depth(stored(12, 0.2), 16, 12)
    assert (depth.bits, depth.source) == (12, "file")
    assert [doubt.code for doubt in depth.doubts] == ["depth-unclear"]


def test_a_statement_of_all_bits_says_nothing():
    assert settle_depth(stored(12), 16, 16).bits == 12


@pytest.mark.parametrize(("real", "stated"), [(16, 12), (14, 12), (12, 8)])
def test_values_above_what_the_file_says_contradict_it(real, stated):
    depth = settle_depth(stored(real), 16, stated)
    assert (depth.bits, depth.source) == (real, "data")
    (doubt,) = depth.doubts
    assert doubt.code == "bit-depth"
    assert f"the file says {stated} bits" in doubt.text


def test_scaled_values_do_not_contradict_a_format_that_scales():
    depth = settle_depth(stored(16), 16, 12, may_be_scaled=True)
    assert (depth.bits, depth.source, depth.doubts) == (16, "file", ())


def test_a_few_values_that_overshoot_do_not_matter():
    sample = stored(12)
    sample[:3] = 4300
    assert settle_depth(sample, 16).bits == 12


@pytest.mark.parametrize("bits", [8, 12, 14])
def test_where_0_is_white_cells_show_the_depth(bits):
    sample = (1 << bits) - 1 - stored(bits)
    depth = settle_depth(sample, 16, inverted=True)
    assert (depth.bits, depth.source) == (bits, "data")


@pytest.mark.parametrize("value", [0, 60])
def test_blackness_is_no_depth(value):
    depth = settle_depth(np.full((100, 3), value, np.uint16), 16)
    assert depth.bits == 16
    assert [doubt.code for doubt in depth.doubts] == ["depth-unclear"]


@pytest.mark.parametrize("bits", [1, 4, 8])
def test_8_bits_and_fewer_are_what_they_are(bits):
    depth = settle_depth(np.zeros((10, 1), np.uint8), bits)
    assert (depth.white, depth.source, depth.doubts) == ((1 << bits) - 1, "file", ())


def test_nothing_to_look_at_leaves_it_to_the_file():
    assert settle_depth(np.zeros((0, 3), np.uint16), 16, 12).bits == 12


@pytest.mark.parametrize("white", [15, 255, 1023, 4095, 16383, 65535])
def test_scaling_rounds_to_the_nearest_level(white):
    kind = np.uint8 if white < 256 else np.uint16
    samples = np.arange(min(white * 2, np.iinfo(kind).max) + 1).astype(kind)
    expected = np.floor(np.minimum(samples, white).astype(float) * 255 / white + 0.5)
    np.testing.assert_array_equal(to_8_bit(samples, white), expected)
