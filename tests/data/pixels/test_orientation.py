"""EXIF's eight turns, and what is none."""

import numpy as np
import pytest
from PIL import Image, ImageOps

from data.pixels.orientation import UPRIGHT, orientation_of, turned, turned_size

STORED = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)


def exif(value):
    tags = Image.Exif()
    tags[0x0112] = value
    return tags.tobytes()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_turns_are_pillows(orientation):
    image = Image.fromarray(STORED)
    image.getexif()[0x0112] = orientation
    expected = np.asarray(ImageOps.exif_transpose(image))
    shown = turned(STORED, orientation)
    np.testing.assert_array_equal(shown, expected)
    assert turned_size(7, 5, orientation) == (shown.shape[1], shown.shape[0])


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("head", [b"", b"Exif\0\0"])
def test_tags_with_and_without_their_head(orientation, head):
    assert orientation_of(head + exif(orientation).removeprefix(b"Exif\0\0")) == orientation


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_other_values_turn_nothing(value):
    assert orientation_of(exif(value)) == UPRIGHT


@pytest.mark.parametrize("junk", [None, b"", b"Exif\0\0", b"II*\0\xff\xff\xff\xff", b"junk"])
def test_damaged_exif_turns_nothing_without_a_word(junk, recwarn):
    assert orientation_of(junk) == UPRIGHT
    assert not recwarn
