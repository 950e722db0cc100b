"""Plain images as slides."""

import numpy as np
import pytest
from PIL import Image
from slidefiles import picture, truncate, write_image

from data.pixels.plain import is_picture
from pipeline.errors import SlideError
from pipeline.geometry import Rect, Size
from pipeline.slides.readers.image import ImageReader

IMAGE = picture(100, 70)
WHOLE = Rect(0, 0, 100, 70)


@pytest.mark.parametrize(
    ("suffix", "name"), [("png", "png"), ("bmp", "bmp"), ("jpg", "jpeg"), ("webp", "webp")]
)
def test_formats(tmp_path, suffix, name):
    path = write_image(tmp_path / f"a.{suffix}", IMAGE)
    assert is_picture(path)
    reader = ImageReader(path)
    assert reader.header.format == name
    assert reader.header.levels[0].size == Size(100, 70)
    shown = reader.read(0, WHOLE).astype(int)
    assert np.abs(shown - IMAGE).mean() < (0.01 if suffix in ("png", "bmp") else 5)
    np.testing.assert_array_equal(reader.read(0, Rect(20, 30, 9, 8)), shown[30:38, 20:29])


def test_resolution_for_printing_is_no_mpp(tmp_path):
    Image.fromarray(IMAGE).save(tmp_path / "a.png", dpi=(101600, 101600))
    assert ImageReader(tmp_path / "a.png").header.mpp is None


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "1", "CMYK"])
def test_modes(tmp_path, mode):
    image = Image.fromarray(IMAGE).convert(mode)
    path = tmp_path / ("a.jpg" if mode == "CMYK" else "a.png")
    image.save(path)
    shown = ImageReader(path).read(0, WHOLE).astype(int)
    assert np.abs(shown - np.asarray(image.convert("RGB"))).mean() < 5


def test_16_bits_are_scaled(tmp_path):
    path = write_image(tmp_path / "a.png", IMAGE[..., 0].astype(np.uint16) * 257)
    shown = ImageReader(path).read(0, WHOLE)
    np.testing.assert_array_equal(shown, np.repeat(IMAGE[..., :1], 3, axis=2))


def test_transparent_pixels_are_white(tmp_path):
    alpha = np.full(IMAGE.shape[:2], 255, np.uint8)
    alpha[:10] = 0
    shown = ImageReader(write_image(tmp_path / "a.png", np.dstack([IMAGE, alpha]))).read(0, WHOLE)
    assert (shown[:10] == 255).all()
    np.testing.assert_array_equal(shown[10:], IMAGE[10:])


def test_readers_can_not_change_each_others_pixels(tmp_path):
    shown = ImageReader(write_image(tmp_path / "a.png", IMAGE)).read(0, WHOLE)
    with pytest.raises(ValueError, match="read-only"):
        shown[0] = 0


def test_image_that_pillow_calls_large_is_read_without_a_word(tmp_path, monkeypatch, recwarn):
    path = write_image(tmp_path / "a.png", IMAGE)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 7000 - 1)
    assert is_picture(path)
    np.testing.assert_array_equal(ImageReader(path).read(0, WHOLE), IMAGE)
    assert not recwarn


def test_image_that_pillow_calls_a_bomb_is_refused_with_a_way_out(tmp_path, monkeypatch):
    path = write_image(tmp_path / "a.png", IMAGE)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 7000 // 2 - 1)
    assert is_picture(path)
    with pytest.raises(SlideError, match=r"a\.png: too large.*tiled TIFF"):
        ImageReader(path)


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "bmp"])
@pytest.mark.parametrize("share", [0.1, 0.9])
def test_truncated_image(tmp_path, suffix, share):
    path = truncate(write_image(tmp_path / f"a.{suffix}", IMAGE), share)
    with pytest.raises(SlideError, match=rf"a\.{suffix}: damaged or truncated"):
        ImageReader(path)


def test_other_files_are_no_images(tmp_path):
    (tmp_path / "a.png").write_text("no picture")
    assert not is_picture(tmp_path / "a.png")
