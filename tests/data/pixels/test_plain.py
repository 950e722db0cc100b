"""Plain images of every kind: what is written is what is read, and what is odd is told."""

import struct
import zlib

import imagecodecs
import numpy as np
import pytest
from PIL import Image
from slidefiles import picture, truncate

from data.pixels.plain import PictureError, is_picture, picture_head, read_picture

IMAGE = picture(60, 40)
GREY = IMAGE[..., 1]
ALPHA = np.full(GREY.shape, 255, np.uint8)
ALPHA[:, :20], ALPHA[:, 20:30] = 0, 90


def on_white(image, alpha=ALPHA):
    """The slow, obvious way."""
    share = alpha[..., None] / 255
    return np.rint(image * share + 255 * (1 - share))


def rgb(grey):
    return np.repeat(grey[..., None], 3, axis=2)


def with_chunk(png, kind, content):
    """A PNG with one more chunk, before its pixels."""
    at = png.index(b"IDAT") - 4
    body = kind + content
    return png[:at] + struct.pack(">I", len(content)) + body + _crc(body) + png[at:]


def _crc(body):
    return struct.pack(">I", zlib.crc32(body))


def deep(image):
    return image.astype(np.uint16) * 257


def write_png_16(path, samples, *chunks):
    png = imagecodecs.png_encode(np.ascontiguousarray(samples))
    for kind, content in chunks:
        png = with_chunk(png, kind, content)
    path.write_bytes(png)


def save(path, array, mode=None, **options):
    image = Image.fromarray(array)
    (image.convert(mode) if mode else image).save(path, **options)


def codes(picture):
    return [doubt.code for doubt in picture.doubts]


KINDS = {
    "rgb.png": (lambda p: save(p, IMAGE), IMAGE),
    "rgb.bmp": (lambda p: save(p, IMAGE), IMAGE),
    "rgb.webp": (lambda p: save(p, IMAGE, lossless=True), IMAGE),
    "grey.png": (lambda p: save(p, GREY), rgb(GREY)),
    "1bit.png": (lambda p: Image.fromarray(GREY > 120).save(p), rgb(np.uint8(GREY > 120) * 255)),
    "rgba.png": (lambda p: save(p, np.dstack([IMAGE, ALPHA])), on_white(IMAGE)),
    "rgba.webp": (
        lambda p: save(p, np.dstack([IMAGE, ALPHA]), lossless=True, exact=True),
        on_white(IMAGE),
    ),
    "rgba.bmp": (lambda p: write_bmp_32(p, np.dstack([IMAGE, ALPHA])), on_white(IMAGE)),
    "la.png": (
        lambda p: Image.fromarray(np.dstack([GREY, ALPHA]), "LA").save(p),
        on_white(rgb(GREY)),
    ),
    "16 grey.png": (lambda p: write_png_16(p, deep(GREY)), rgb(GREY)),
    "16 rgb.png": (lambda p: write_png_16(p, deep(IMAGE)), IMAGE),
    "16 la.png": (lambda p: write_png_16(p, deep(np.dstack([GREY, ALPHA]))), on_white(rgb(GREY))),
    "16 rgba.png": (lambda p: write_png_16(p, deep(np.dstack([IMAGE, ALPHA]))), on_white(IMAGE)),
}


def write_bmp_32(path, rgba):
    """A BMP of 32 bits whose header says which of them are opacity."""
    height, width = rgba.shape[:2]
    pixels = rgba[::-1, :, [2, 1, 0, 3]].tobytes()
    masks = struct.pack("<4I", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    head = struct.pack("<IiiHHIIiiII", 108, width, height, 1, 32, 3, len(pixels), 0, 0, 0, 0)
    head += masks + bytes(108 - len(head) - len(masks))
    path.write_bytes(b"BM" + struct.pack("<IHHI", 122 + len(pixels), 0, 0, 122) + head + pixels)


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_is_read_to_the_level(tmp_path, name):
    write, expected = KINDS[name]
    write(tmp_path / name)
    assert is_picture(tmp_path / name)
    found = read_picture(tmp_path / name)
    np.testing.assert_array_equal(found.pixels, expected)
    assert found.pixels.dtype == np.uint8
    assert found.head.size == (60, 40)
    assert found.head.doubts == picture_head(tmp_path / name).doubts
    expects_grey = any(word in name for word in ("grey", "la", "1bit"))
    assert codes(found) == (["grey"] if expects_grey else [])


def test_transparent_colours_of_palettes_are_white(tmp_path):
    indexed = Image.fromarray(IMAGE).quantize(60)
    indexed.save(tmp_path / "a.png", transparency=7)
    expected = np.asarray(indexed.convert("RGB")).copy()
    hidden = np.asarray(indexed) == 7
    assert hidden.any()
    expected[hidden] = 255
    np.testing.assert_array_equal(read_picture(tmp_path / "a.png").pixels, expected)


@pytest.mark.parametrize("samples", [IMAGE, deep(IMAGE), GREY, deep(GREY)])
def test_a_colour_that_stands_for_nothing_is_white(tmp_path, samples):
    key = samples[3, 4].reshape(-1).astype(">u2")
    write_png_16(tmp_path / "a.png", samples, (b"tRNS", key.tobytes()))
    flat = samples.reshape(*GREY.shape, -1)
    hidden = (flat == flat[3, 4]).all(axis=2)
    expected = (IMAGE if samples.ndim == 3 else rgb(GREY)).copy()
    expected[hidden] = 255
    np.testing.assert_array_equal(read_picture(tmp_path / "a.png").pixels, expected)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_few_bits_of_grey_with_a_value_that_stands_for_nothing(tmp_path, bits):
    top = (1 << bits) - 1
    values = (np.arange(40 * 64).reshape(40, 64) % (top + 1)).astype(np.uint8)
    shifts = np.arange(8 // bits)[::-1] * bits
    packed = (values.reshape(40, -1, 8 // bits) << shifts).sum(axis=2).astype(np.uint8)
    rows = b"".join(b"\0" + row.tobytes() for row in packed)
    png = b"\x89PNG\r\n\x1a\n"
    header = struct.pack(">IIBBBBB", 64, 40, bits, 0, 0, 0, 0)
    for kind, content in (
        (b"IHDR", header),
        (b"tRNS", struct.pack(">H", top // 2)),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    ):
        png += struct.pack(">I", len(content)) + kind + content + _crc(kind + content)
    (tmp_path / "a.png").write_bytes(png)
    expected = rgb(np.where(values == top // 2, 255, values * (255 // top)))
    np.testing.assert_array_equal(read_picture(tmp_path / "a.png").pixels, expected)


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}])
def test_jpeg_is_near_to_what_was_written(tmp_path, options):
    save(tmp_path / "a.jpg", IMAGE, quality=95, **options)
    assert np.abs(read_picture(tmp_path / "a.jpg").pixels - IMAGE.astype(int)).mean() < 2


@pytest.mark.parametrize("space", ["cmyk", "ycck"])
def test_printing_inks_are_turned_and_told(tmp_path, space):
    inks = np.asarray(Image.fromarray(IMAGE).convert("CMYK"))
    inks = inks.copy()
    inks[..., 3] = 30
    inverted = np.ascontiguousarray(255 - inks)  # as Adobe writes it
    data = imagecodecs.jpeg8_encode(inverted, level=98, colorspace="cmyk", outcolorspace=space)
    (tmp_path / "a.jpg").write_bytes(data)
    found = read_picture(tmp_path / "a.jpg")
    expected = (255.0 - inks[..., :3]) * (255 - 30) / 255
    assert np.abs(found.pixels - expected).mean() < 2
    assert codes(found) == ["printing-inks"]


@pytest.mark.parametrize("name", ["a.png", "a.webp"])
def test_the_first_of_several_pictures_is_read_and_told(tmp_path, name):
    first, second = Image.fromarray(IMAGE), Image.fromarray(255 - IMAGE)
    first.save(tmp_path / name, save_all=True, append_images=[second], lossless=True)
    found = read_picture(tmp_path / name)
    np.testing.assert_array_equal(found.pixels, IMAGE)
    assert codes(found) == ["first-picture"]
    assert "2 pictures" in found.doubts[0].text


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_a_picture_that_is_all_transparent_is_white_and_told(tmp_path, kind):
    samples = np.dstack([IMAGE, np.zeros_like(GREY)]).astype(kind)
    write_png_16(tmp_path / "a.png", samples)
    found = read_picture(tmp_path / "a.png")
    assert (found.pixels == 255).all()
    assert codes(found) == ["all-transparent"]


@pytest.mark.parametrize("chunks", [(), ((b"sBIT", b"\x0c\x0c\x0c"),)])
def test_12_bits_of_a_camera(tmp_path, chunks):
    bright = np.maximum(IMAGE, 1).copy()
    bright[:, :30] = 240
    samples = np.rint(bright / 255 * 4095).astype(np.uint16)
    write_png_16(tmp_path / "a.png", samples, *chunks)
    found = read_picture(tmp_path / "a.png")
    np.testing.assert_array_equal(found.pixels, bright)
    assert (found.depth.bits, found.depth.source) == (12, "file" if chunks else "data")
    assert codes(found) == ([] if chunks else ["bit-depth"])


def test_12_bits_that_are_scaled_as_png_wants_it(tmp_path):
    write_png_16(tmp_path / "a.png", deep(IMAGE), (b"sBIT", b"\x0c\x0c\x0c"))
    found = read_picture(tmp_path / "a.png")
    np.testing.assert_array_equal(found.pixels, IMAGE)
    assert found.doubts == ()


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
@pytest.mark.parametrize("orientation", range(2, 9))
def test_pictures_are_turned_as_exif_says(tmp_path, suffix, orientation):
    shown = np.full((40, 60, 3), 230, np.uint8)
    shown[8:24, 32:48] = 40
    back = {2: 2, 3: 3, 4: 4, 5: 5, 6: 8, 7: 7, 8: 6}[orientation]
    tags = Image.Exif()
    tags[0x0112] = orientation
    flips = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }
    stored = Image.fromarray(shown).transpose(flips[back])
    stored.save(tmp_path / f"a.{suffix}", exif=tags, quality=95)
    found = read_picture(tmp_path / f"a.{suffix}")
    assert found.head.size == (60, 40)
    assert found.head.stored == stored.size
    assert np.abs(found.pixels - shown.astype(int)).mean() < 2
    assert codes(found) == ["exif-turned"]
    assert picture_head(tmp_path / f"a.{suffix}") == found.head


def test_exif_behind_the_pixels_of_a_png_counts_from_the_start(tmp_path):
    tags = Image.Exif()
    tags[0x0112] = 6
    content = b"eXIf" + tags.tobytes().removeprefix(b"Exif\0\0")
    png = imagecodecs.png_encode(IMAGE)
    at = png.index(b"IEND") - 4
    chunk = struct.pack(">I", len(content) - 4) + content + _crc(content)
    (tmp_path / "a.png").write_bytes(png[:at] + chunk + png[at:])
    assert picture_head(tmp_path / "a.png").size == (40, 60)
    np.testing.assert_array_equal(read_picture(tmp_path / "a.png").pixels, np.rot90(IMAGE, -1))


def test_a_jpeg_of_12_bits_is_refused_with_a_way_out(tmp_path):
    data = imagecodecs.jpeg8_encode(IMAGE.astype(np.uint16) * 16, bitspersample=12)
    (tmp_path / "a.jpg").write_bytes(data)
    with pytest.raises(PictureError, match="JPEG of 12 bits a sample; save it as PNG or TIFF"):
        read_picture(tmp_path / "a.jpg")


@pytest.mark.parametrize("share", [0.05, 0.5, 0.95])
@pytest.mark.parametrize("samples", [IMAGE, deep(IMAGE)])
def test_a_cut_picture_is_damaged(tmp_path, samples, share):
    write_png_16(tmp_path / "a.png", samples)
    with pytest.raises(PictureError, match="damaged or truncated"):
        read_picture(truncate(tmp_path / "a.png", share))


@pytest.mark.parametrize("content", [b"", b"BM", b"BMW is no picture at all", b"RIFF1234WAVE"])
def test_other_files_are_no_pictures(tmp_path, content):
    (tmp_path / "a.png").write_bytes(content)
    assert not is_picture(tmp_path / "a.png")
    with pytest.raises(PictureError, match="cannot be read as an image: it is no PNG"):
        read_picture(tmp_path / "a.png")


def test_a_missing_file_says_so(tmp_path):
    with pytest.raises(PictureError, match="can't be read: No such file"):
        read_picture(tmp_path / "a.png")
