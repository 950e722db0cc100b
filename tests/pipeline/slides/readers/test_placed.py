"""JPEG tiles by an index: which are sound, what lies over what, which levels are whole."""

import io
import struct
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from slidefiles import halved, picture

from pipeline.errors import ReadError, SlideError
from pipeline.geometry import Rect, Size
from pipeline.slides.readers.placed import (
    JpegLevel,
    Tiles,
    grid_problem,
    is_whole,
    opened,
)
from pipeline.slides.readers.tile_jpegs import decode_jpeg, is_broken

TILE = picture(64, 64)
RED = (200, 10, 10)


def coded(pixels, **options):
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "JPEG", **({"quality": 90} | options))
    return data.getvalue()


def tiles(*places, side=64, counts=None, offsets=None):
    x, y = (np.array(one, np.int64) for one in zip(*places, strict=True))
    sides = np.full(len(x), side, np.int64)
    zeros = np.zeros(len(x), np.int64)
    given = [zeros if one is None else np.array(one, np.int64) for one in (offsets, counts)]
    return Tiles(x, y, sides, sides, *given, zeros)


@pytest.fixture
def level(tmp_path):
    """Makes a level of tiles' bytes, side by side unless their places are given."""
    kept = []

    def make(*data, places=None, size=None):
        path = tmp_path / "tiles"
        path.write_bytes(b"".join(data))
        counts = [len(one) for one in data]
        offsets = np.cumsum([0, *counts[:-1]])
        places = places or [(64 * number, 0) for number in range(len(data))]
        with opened([path]) as files:
            kept.append(files)
            size = size or Size(64 * len(data), 64)
            return JpegLevel(files, size, tiles(*places, counts=counts, offsets=offsets), RED)

    yield make
    for files in kept:
        files.close()


SOUND = {
    "a picture": coded(TILE),
    "optimised": coded(TILE, optimize=True),
    "progressive": coded(TILE, progressive=True),
    "with restarts": coded(TILE, restart_marker_blocks=2),
    "with zeros behind": coded(TILE) + bytes(64),
    "plain": coded(np.full((256, 256, 3), 255, np.uint8)),
    "plain, optimised": coded(np.full((256, 256, 3), 255, np.uint8), optimize=True),
    "grey": coded(TILE[..., 0]),
}


@pytest.mark.parametrize("name", SOUND)
def test_a_sound_tile_is_none_that_is_broken(name):
    assert not is_broken(SOUND[name])
    decode_jpeg(SOUND[name])


def test_codes_of_zeros_alone_are_sound_where_the_tables_say_so():
    """A plain picture of which the scan is zeros for a hundred bytes."""
    data = SOUND["plain, optimised"]
    assert bytes(100) in data


@pytest.mark.parametrize("name", ["a picture", "optimised", "with restarts", "plain"])
def test_a_sector_of_zeros_and_a_missing_end_are_seen(name):
    data = bytearray(SOUND[name])
    assert is_broken(bytes(data[:-30]))
    scan = data.index(b"\xff\xda") + 20
    data[scan : scan + 64] = bytes(64)
    assert is_broken(bytes(data))


def test_a_foreign_marker_is_seen():
    data = bytearray(SOUND["a picture"])
    middle = (data.index(b"\xff\xda") + len(data)) // 2
    data[middle : middle + 2] = b"\xff\xe1"
    assert is_broken(bytes(data))


def sized(width, height):
    """A JPEG that claims a size."""
    data = bytearray(coded(TILE))
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = struct.pack(">2H", height, width)
    return bytes(data)


CAN_NOT_READ = {
    "no jpeg": (b"\x89PNG" * 20, "is no JPEG"),
    "nothing": (b"\xff\xd8\xff", "is no JPEG"),
    "small": (coded(TILE[:40]), "has 64 x 40 px, where 64 x 64 belong"),
    "huge": (sized(65500, 65500), "has 65500 x 65500 px, where 64 x 64 belong"),
    "damaged": (coded(TILE)[:-30], "is damaged"),
}


@pytest.mark.parametrize("name", CAN_NOT_READ)
def test_a_tile_that_can_not_be_read_is_unread_and_the_next_one_is_not(level, name):
    data, message = CAN_NOT_READ[name]
    made = level(data, coded(TILE))
    tracemalloc.start()
    with pytest.raises(ReadError) as told:
        made.read(Rect(0, 0, 128, 64))
    assert str(told.value) == f"the tile at byte 0 of tiles {message}"
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 2**20
    np.testing.assert_array_equal(made.read(Rect(64, 0, 64, 64)), decode_jpeg(coded(TILE)))


def test_one_component_is_grey(level):
    grey = np.asarray(Image.fromarray(TILE).convert("L"))
    shown = level(coded(grey)).read(Rect(0, 0, 64, 64)).astype(int)
    assert (np.ptp(shown, axis=2) == 0).all()
    assert np.abs(shown[..., 0] - grey).mean() < 2


def test_four_inks_are_refused(level):
    data = io.BytesIO()
    Image.fromarray(TILE).convert("CMYK").save(data, "JPEG")
    with pytest.raises(ReadError, match="is a JPEG of 4 x 8 bits, not of RGB"):
        level(data.getvalue()).read(Rect(0, 0, 64, 64))


def test_later_tiles_lie_on_top_and_the_rest_is_background(level):
    made = level(coded(TILE), coded(255 - TILE), places=[(0, 0), (32, 0)], size=Size(128, 80))
    shown = made.read(Rect(0, 0, 128, 80))
    np.testing.assert_array_equal(shown[:64, :32], decode_jpeg(coded(TILE))[:, :32])
    np.testing.assert_array_equal(shown[:64, 32:96], decode_jpeg(coded(255 - TILE)))
    assert (shown[64:] == RED).all()
    assert (shown[:, 96:] == RED).all()


def test_a_tile_decoded_smaller_is_as_the_means_of_its_squares(level):
    made = level(coded(TILE), coded(TILE[::-1].copy()))
    assert made.shrinks == (2, 4)
    expected = halved(made.read(Rect(0, 0, 128, 64)))
    off = np.abs(made.read(Rect(0, 0, 64, 32), 2).astype(int) - expected)
    assert off.mean() < 2


@pytest.mark.parametrize(
    ("places", "problem"),
    [
        ([(0, 0), (64, 0), (0, 64)], None),
        ([(0, 0), (60, 0)], "beside the grid"),
        ([(0, 0), (0, 0)], "two tiles lie at one place"),
        ([(128, 0)], "outside of the level"),
    ],
)
def test_a_grid_is_told_from_what_is_none(places, problem):
    found = grid_problem(tiles(*places), Size(128, 128), (64, 64))
    assert found is None if problem is None else problem in found


def test_a_level_is_whole_that_shows_all_that_a_finer_one_does(level, tmp_path):
    data = [coded(TILE)] * 4
    places = [(0, 0), (64, 0), (0, 64), (64, 64)]
    fine = level(*data, places=[(2 * x, 2 * y) for x, y in places], size=Size(256, 256))
    whole = level(*data, places=places, size=Size(128, 128))
    lacking = level(*data[:3], places=places[:3], size=Size(128, 128))
    assert is_whole(whole, fine)
    assert not is_whole(lacking, fine)


def test_a_level_of_smaller_tiles_is_whole_where_none_lies_in_a_tile_of_the_finest(level):
    places = [(x, y) for y in (0, 64, 128, 192) for x in (0, 64, 128, 192)]
    one = level(coded(TILE), places=[(0, 0)], size=Size(256, 256))
    large = tiles((0, 0))
    one.tiles = replace(large, width=large.width * 4, height=large.height * 4)
    data = [coded(TILE)] * len(places)
    assert is_whole(level(*data, places=places, size=Size(256, 256)), one)
    assert not is_whole(level(*data[1:], places=places[1:], size=Size(256, 256)), one)


def test_a_file_that_is_gone_is_told_in_a_line(tmp_path):
    missing = pytest.raises(SlideError, match=r"gone: can't be read: No such file")
    with missing, opened([tmp_path / "gone"]):
        pass
