"""TIFF files open whatever their ending says of their offsets, and what was cut off is missed."""

import struct

import numpy as np
import pytest
import tifffile
from hostilefiles import directories, with_tag
from slidefiles import picture, write_flat, write_pyramid

from pipeline.errors import SlideError
from pipeline.slides.readers.tiff_file import find_truncation, open_file, pages_of

IMAGE = picture(333, 217)
PIXELS = np.arange(12, dtype=np.uint8).reshape(3, 4)
SHORT, LONG = 3, 4


def write_long_offsets(path, format_tag=65420):
    """A TIFF of 3 x 4 grey pixels as Hamamatsu lays it out: offsets of 64 bits, high words last."""
    tags = [
        *((256, SHORT, 4), (257, SHORT, 3), (258, SHORT, 8), (259, SHORT, 1), (262, SHORT, 1)),
        *((273, LONG, 12), (277, SHORT, 1), (278, SHORT, 3), (279, LONG, 12)),
        (format_tag, LONG, 1),
    ]
    entries = b"".join(struct.pack("<HHII", code, kind, 1, value) for code, kind, value in tags)
    directory = struct.pack("<H", len(tags)) + entries + struct.pack("<Q", 0)
    high = struct.pack("<I", 0) * len(tags)
    path.write_bytes(b"II*\0" + struct.pack("<Q", 24) + PIXELS.tobytes() + directory + high)
    return path


@pytest.mark.parametrize("name", ["a.ndpi", "a.tif", "a"])
def test_offsets_of_64_bits_are_known_by_the_content(tmp_path, name):
    with open_file(write_long_offsets(tmp_path / name)) as file:
        assert file.tiff.is_ndpi
        np.testing.assert_array_equal(file.asarray(), PIXELS)
    assert find_truncation(tmp_path / name) is None


def test_without_the_vendors_tag_they_are_of_32(tmp_path):
    with open_file(write_long_offsets(tmp_path / "a.ndpi", format_tag=65000)) as file:
        assert not file.tiff.is_ndpi


@pytest.mark.parametrize("options", [{}, {"bigtiff": True}, {"byteorder": ">"}])
def test_any_tiff_may_end_in_ndpi(tmp_path, options):
    with open_file(write_flat(tmp_path / "a.ndpi", IMAGE, **options)) as file:
        np.testing.assert_array_equal(file.asarray(), IMAGE)


@pytest.mark.parametrize("content", [b"", b"II", b"no TIFF at all"])
def test_what_is_none_is_a_slide_error(tmp_path, content):
    (tmp_path / "a.tif").write_bytes(content)
    with pytest.raises(SlideError, match=r"a\.tif: truncated or damaged"):
        open_file(tmp_path / "a.tif")


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.95, 0.999])
def test_truncated_file_is_found_out(tmp_path, share):
    path = write_pyramid(tmp_path / "a.tif", IMAGE)
    assert find_truncation(path) is None
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    assert f"ends at byte {int(share * len(data)):,}" in find_truncation(path)


def test_lost_directory_is_found_out(tmp_path):
    path = write_pyramid(tmp_path / "a.tif", IMAGE)
    with tifffile.TiffFile(path) as file:
        last = file.pages[2].offset
    path.write_bytes(path.read_bytes()[:last])
    assert f"names byte {last + 2:,}" in find_truncation(path)


@pytest.mark.parametrize("pages", [1, 3, 130])
def test_directories_that_go_round_in_a_circle_come_to_an_end(tmp_path, pages):
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as writer:
        for _ in range(pages):
            writer.write(np.zeros((16, 16), np.uint8), metadata=None)
    places = directories(path.read_bytes())
    path.write_bytes(with_tag(path.read_bytes(), 0, page=pages - 1, value=places[0][0]))
    if pages == 130:  # tifffile alone would follow them for hours
        with pytest.raises(SlideError, match="lead back to an earlier one"):
            open_file(path)
        return
    with open_file(path) as file:
        found = [page.offset for page in pages_of(file)]
    assert found == [place for place, _ in places][: len(found)] != []
    assert find_truncation(path) is None
