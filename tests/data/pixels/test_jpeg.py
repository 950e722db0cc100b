"""What JPEGs say of themselves is what libjpeg makes of it."""

import imagecodecs
import numpy as np
import pytest
from dicomfiles import without_markers
from slidefiles import picture

from data.pixels.jpeg import jpeg_head

IMAGE = picture(64, 48)


def encode(space, **options):
    return imagecodecs.jpeg8_encode(
        IMAGE, level=95, colorspace="rgb", outcolorspace=space, **options
    )


@pytest.mark.parametrize("subsampling", ["444", "422", "420"])
def test_markers_of_jfif_say_ycbcr(subsampling):
    head = jpeg_head(encode("ycbcr", subsampling=subsampling))
    assert (head.jfif, head.transform, head.space) == (True, None, "ycbcr")
    assert (head.precision, head.size, head.components) == (8, (64, 48), (1, 2, 3))


def test_markers_of_adobe_say_rgb_by_transform_0():
    head = jpeg_head(encode("rgb"))
    assert (head.jfif, head.transform, head.space) == (False, 0, "rgb")


@pytest.mark.parametrize(("transform", "space"), [(0, "rgb"), (1, "ycbcr")])
def test_adobes_transform_is_what_libjpeg_follows(transform, space):
    bare = without_markers(encode("ycbcr", subsampling="444"))
    marked = bare[:2] + b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00" + bytes([transform])
    marked += bare[2:]
    assert jpeg_head(marked).space == space
    as_libjpeg = imagecodecs.jpeg8_decode(marked, outcolorspace="rgb")
    told = imagecodecs.jpeg8_decode(marked, colorspace=space, outcolorspace="rgb")
    np.testing.assert_array_equal(as_libjpeg, told)


def test_components_called_rgb_are_rgb():
    assert jpeg_head(without_markers(encode("rgb"))).space == "rgb"


def test_coarser_components_are_chroma():
    assert jpeg_head(without_markers(encode("ycbcr", subsampling="420"))).space == "ycbcr"


def test_a_silent_jpeg_leaves_it_to_who_holds_it():
    assert jpeg_head(without_markers(encode("ycbcr", subsampling="444"))).space is None


def test_grey_has_no_space():
    head = jpeg_head(imagecodecs.jpeg8_encode(np.ascontiguousarray(IMAGE[..., 0])))
    assert (len(head.components), head.space) == (1, None)


def test_more_bits_are_told():
    deep = imagecodecs.jpeg8_encode(IMAGE.astype(np.uint16) * 16, bitspersample=12)
    assert jpeg_head(deep).precision == 12


@pytest.mark.parametrize("junk", [b"", b"\xff\xd8", b"\xff\xd8\xff\xc0", b"no JPEG", b"\xff" * 99])
def test_junk_has_no_head(junk):
    assert jpeg_head(junk) is None


def test_every_beginning_of_a_jpeg_is_looked_at_without_an_error():
    whole = encode("ycbcr")
    expected = jpeg_head(whole)
    assert {jpeg_head(whole[:size]) for size in range(len(whole))} == {None, expected}
