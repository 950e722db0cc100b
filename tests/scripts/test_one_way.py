"""Screening, training and figures read the same pixels of every kind of file: the right ones."""

import json
import re
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image
from slidefiles import picture, resolution_tags

from configs import CytoLibraError
from data.fields.statistics import describe_classes
from pipeline.geometry import Rect
from pipeline.slides.slide import open_slide
from scripts.slides import images_of, read_annotated

IMAGE = picture(80, 60, seed=5)
GREY = IMAGE[..., 1]
RGB_OF_GREY = np.repeat(GREY[..., None], 3, axis=2)
ALPHA = np.full(GREY.shape, 255, np.uint8)
ALPHA[:, :40] = 0
CLEARED = np.where(ALPHA[..., None] > 0, IMAGE, 255)
GLASS = np.maximum(IMAGE, 1).copy()
GLASS[:, :20] = 245
TWELVE = np.rint(GLASS / 255 * 4095).astype(np.uint16)
BOX = (44, 12, 20, 16)


def deep(image):
    return image.astype(np.uint16) * 257


def png(samples):
    return imagecodecs.png_encode(np.ascontiguousarray(samples))


def pillow(path, array, **options):
    Image.fromarray(array).save(path, **options)


def tiff(path, array, photometric="rgb", **options):
    tifffile.imwrite(path, array, photometric=photometric, **resolution_tags(0.25), **options)


def turned(path):
    tags = Image.Exif()
    tags[0x0112] = 6
    Image.fromarray(np.rot90(IMAGE).copy()).save(path, exif=tags)


PALETTE = np.asarray(Image.fromarray(IMAGE).quantize(64))
COLORS = np.asarray(Image.fromarray(IMAGE).quantize(64).getpalette("RGB"), np.uint8).reshape(-1, 3)


def indexed_tiff(path):
    colors = np.zeros((3, 256), np.uint16)
    colors[:, : len(COLORS)] = COLORS.T.astype(np.uint16) * 257
    tiff(path, PALETTE, "palette", colormap=colors, tile=(16, 16))


KINDS = {
    "rgb.png": (lambda p: pillow(p, IMAGE), IMAGE, 0),
    "rgb.jpg": (lambda p: pillow(p, IMAGE, quality=95), IMAGE, 3),
    "progressive.jpg": (lambda p: pillow(p, IMAGE, quality=95, progressive=True), IMAGE, 3),
    "lossy.webp": (lambda p: pillow(p, IMAGE, quality=95), IMAGE, 6),
    "clear.webp": (
        lambda p: pillow(p, np.dstack([IMAGE, ALPHA]), lossless=True, exact=True),
        CLEARED,
        0,
    ),
    "rgb.bmp": (lambda p: pillow(p, IMAGE), IMAGE, 0),
    "grey.png": (lambda p: pillow(p, GREY), RGB_OF_GREY, 0),
    "clear.png": (lambda p: pillow(p, np.dstack([IMAGE, ALPHA])), CLEARED, 0),
    "palette.png": (
        lambda p: Image.fromarray(IMAGE).quantize(64).save(p),
        COLORS[PALETTE],
        0,
    ),
    "16 grey.png": (lambda p: p.write_bytes(png(deep(GREY))), RGB_OF_GREY, 0),
    "16 rgb.png": (lambda p: p.write_bytes(png(deep(IMAGE))), IMAGE, 0),
    "12 of 16.png": (lambda p: p.write_bytes(png(TWELVE)), GLASS, 0),
    "turned.png": (turned, IMAGE, 0),
    "inks.jpg": (lambda p: Image.fromarray(IMAGE).convert("CMYK").save(p, quality=98), IMAGE, 3),
    "rgb.tif": (lambda p: tiff(p, IMAGE, tile=(16, 16)), IMAGE, 0),
    "16 rgb.tif": (lambda p: tiff(p, deep(IMAGE), compression="lzw"), IMAGE, 0),
    "12 of 16.tif": (lambda p: tiff(p, TWELVE, tile=(16, 16)), GLASS, 0),
    "planes.tif": (
        lambda p: tiff(p, np.moveaxis(IMAGE, 2, 0).copy(), planarconfig="separate"),
        IMAGE,
        0,
    ),
    "white is 0.tif": (lambda p: tiff(p, 255 - GREY, "miniswhite"), RGB_OF_GREY, 0),
    "clear.tif": (
        lambda p: tiff(p, np.dstack([IMAGE, ALPHA]), extrasamples=["unassalpha"]),
        CLEARED,
        0,
    ),
    "palette.tif": (indexed_tiff, COLORS[PALETTE], 0),
}


def annotate(folder: Path, name: str) -> Path:
    content = {
        "images": [{"id": 1, "file_name": name, "width": 80, "height": 60, "mpp": 0.25}],
        "categories": [{"id": 1, "name": "HSIL"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": BOX}],
    }
    (folder / "fields.json").write_text(json.dumps(content))
    return folder / "fields.json"


@pytest.mark.parametrize("name", KINDS)
def test_screening_training_and_figures_read_the_same_pixels(tmp_path, name):
    write, expected, tolerance = KINDS[name]
    write(tmp_path / name)
    with open_slide(tmp_path / name, 0.25) as slide:
        screened = slide.read_level(0, Rect(0, 0, 80, 60))
    assert np.abs(screened.astype(int) - expected).mean() <= tolerance

    fields = read_annotated(annotate(tmp_path, name), tmp_path, None)
    images = images_of(fields)
    np.testing.assert_array_equal(images.whole(0, (80, 60)), screened)
    x, y, width, height = BOX
    crop = images.crop(0, (width, height), (x, y, x + width, y + height))
    np.testing.assert_array_equal(crop, screened[y : y + height, x : x + width])
    assert describe_classes(fields)[0].sides.tolist() == [5.0]


@pytest.mark.parametrize(
    ("name", "codes"),
    [
        ("turned.png", ["exif-turned"]),
        ("12 of 16.tif", ["bit-depth"]),
        ("12 of 16.png", ["bit-depth"]),
        ("grey.png", ["grey"]),
        ("rgb.png", []),
    ],
)
def test_training_tells_what_screening_tells(tmp_path, name, codes):
    KINDS[name][0](tmp_path / name)
    with open_slide(tmp_path / name, 0.25) as slide:
        assert [d.code for d in slide.doubts if not d.code.startswith("mpp-")] == codes
    fields = read_annotated(annotate(tmp_path, name), tmp_path, None)
    assert [doubt.code for doubt in fields.doubts] == codes
    assert all(name in doubt.text for doubt in fields.doubts)


@pytest.mark.parametrize("name", ["a tiff called.png", "a picture called.tif"])
def test_a_file_of_a_wrong_name_is_read_by_both_or_refused_by_both(tmp_path, name):
    if name.endswith("png"):
        tiff(tmp_path / name, IMAGE)
    else:
        Image.fromarray(IMAGE).save(tmp_path / name, format="PNG")
    try:
        with open_slide(tmp_path / name, 0.25) as slide:
            screened = slide.read_level(0, Rect(0, 0, 80, 60))
    except CytoLibraError as error:
        refusal = str(error).split(": ", 1)[1]
        with pytest.raises(CytoLibraError, match=re.escape(refusal)):
            images_of(read_annotated(annotate(tmp_path, name), tmp_path, None)).whole(0, (80, 60))
    else:
        fields = read_annotated(annotate(tmp_path, name), tmp_path, None)
        np.testing.assert_array_equal(images_of(fields).whole(0, (80, 60)), screened)
