"""Transparent samples on white, to the level."""

import numpy as np
import pytest
from PIL import Image

from data.pixels.samples import as_rgb, lay_on_white

EVERY = np.stack(np.meshgrid(np.arange(256), np.arange(256)), axis=2).astype(np.uint8)
"""(256, 256, 2): every value beside every alpha."""


def test_every_value_under_every_alpha_is_rounded_to_the_nearest():
    values, alpha = EVERY[..., :1], EVERY[..., 1:]
    share = alpha / 255
    np.testing.assert_array_equal(
        lay_on_white(values, alpha), np.rint(values * share + 255 * (1 - share))
    )


def test_it_is_what_pillow_pastes():
    canvas = Image.new("L", (256, 256), 255)
    canvas.paste(Image.fromarray(EVERY[..., 0]), mask=Image.fromarray(EVERY[..., 1]))
    laid = lay_on_white(EVERY[..., :1], EVERY[..., 1:])
    np.testing.assert_array_equal(laid[..., 0], np.asarray(canvas))


def test_alpha_that_is_multiplied_in_is_not_multiplied_again():
    alpha = EVERY[..., 1:]
    multiplied = np.minimum(EVERY[..., :1], alpha)
    expected = multiplied + (255.0 - alpha)
    np.testing.assert_array_equal(lay_on_white(multiplied, alpha, multiplied=True), expected)


@pytest.mark.parametrize("count", [1, 3])
def test_grey_and_rgb_are_rgb(count):
    shown = as_rgb(np.zeros((4, 5, count), np.uint8) + 7)
    assert shown.shape == (4, 5, 3)
    assert shown.flags.c_contiguous
    assert (shown == 7).all()
