"""TIFF whose tag misstates the colours of its JPEGs is shown in true ones."""

import imagecodecs
import numpy as np
import pytest
import tifffile
from slidefiles import MPP, halved, picture, resolution_tags, write_aperio

from pipeline.errors import ReadError, SlideError
from pipeline.geometry import Rect, Size
from pipeline.slides.readers import direct
from pipeline.slides.readers.vendor import VendorReader
from pipeline.slides.slide import open_slide

IMAGE = picture(256, 192)
SPACES = ("rgb", "ycbcr")


def write_plain(path, photometric, space):
    """A tiled TIFF of no vendor."""
    tiles = [
        imagecodecs.jpeg8_encode(
            np.ascontiguousarray(IMAGE[y : y + 64, x : x + 64]),
            level=95,
            colorspace="rgb",
            outcolorspace=space,
            subsampling="444",
        )
        for y in range(0, 192, 64)
        for x in range(0, 256, 64)
    ]
    tifffile.imwrite(
        path,
        iter(tiles),
        shape=IMAGE.shape,
        dtype=np.uint8,
        tile=(64, 64),
        photometric=photometric,
        compression="jpeg",
        subsampling=(1, 1),
        compressionargs={"outcolorspace": photometric},
        **resolution_tags(MPP),
    )
    return path


def write_vendor(path, photometric, space):
    return write_aperio(
        path, IMAGE, photometric=photometric, outcolorspace=space, level=95, subsampling=(1, 1)
    )


@pytest.mark.parametrize("photometric", SPACES)
@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("write", [write_plain, write_vendor])
def test_true_colours_whatever_the_tag_says(tmp_path, write, photometric, space):
    path = write(tmp_path / ("a.svs" if write is write_vendor else "a.tif"), photometric, space)
    with open_slide(path) as slide:
        for level, facts in enumerate(slide.levels):
            shown = slide.read_level(level, Rect(0, 0, facts.size.width, facts.size.height))
            assert np.abs(shown - halved(IMAGE, level).astype(int)).mean() < 3
        smaller = slide.read_region(0, 0, Size(64, 48), 4)
        assert np.abs(smaller - halved(IMAGE, 2).astype(int)).mean() < 5
        expected = ["colour-misstated"] if photometric != space else []
        assert [doubt.code for doubt in slide.doubts] == expected


@pytest.mark.parametrize("photometric", SPACES)
def test_openslide_would_show_false_ones(tmp_path, photometric):
    """Or there would be nothing to mend."""
    space = SPACES[photometric == "rgb"]
    path = write_vendor(tmp_path / "a.svs", photometric, space)
    wrong = VendorReader(path).read(0, Rect(0, 0, 256, 192))
    assert np.abs(wrong - IMAGE.astype(int)).mean() > 20


def test_levels_that_openslide_interpolates_too(tmp_path):
    image = picture(333, 217)
    path = write_aperio(
        tmp_path / "a.svs", image, photometric="rgb", outcolorspace="ycbcr", subsampling=(1, 1)
    )
    with open_slide(path) as slide:
        shown = slide.read_level(1, Rect(0, 0, 166, 108))
        assert np.abs(shown - halved(image).astype(int)).mean() < 4


def test_what_can_not_be_decoded_here_is_refused(tmp_path, monkeypatch):
    path = write_vendor(tmp_path / "a.svs", "rgb", "ycbcr")
    monkeypatch.setattr(direct, "VENDORS", frozenset())
    with pytest.raises(SlideError, match=r"a\.svs: the TIFF says .*export") as refusal:
        open_slide(path)
    assert refusal.value.code == "colour-contradiction"


@pytest.mark.parametrize(
    "damage",
    [
        lambda jpeg: bytes(len(jpeg)),
        lambda jpeg: jpeg[: len(jpeg) // 2] + b"\xff\xd9" + bytes(len(jpeg) - len(jpeg) // 2 - 2),
    ],
    ids=["wiped", "cut off"],
)
def test_damage_in_misstated_tiles_is_an_error_still(tmp_path, damage):
    path = write_vendor(tmp_path / "a.svs", "rgb", "ycbcr")
    with tifffile.TiffFile(path) as file:
        offset, count = file.pages[0].dataoffsets[1], file.pages[0].databytecounts[1]
    jpeg = path.read_bytes()[offset : offset + count]
    with path.open("r+b") as stream:
        stream.seek(offset)
        stream.write(damage(jpeg))
    with open_slide(path) as slide:
        sound = slide.read_level(0, Rect(0, 0, 64, 64))
        assert np.abs(sound - IMAGE[:64, :64].astype(int)).mean() < 3
        with pytest.raises(ReadError, match=r"a\.svs"):
            slide.read_level(0, Rect(64, 0, 64, 64))
