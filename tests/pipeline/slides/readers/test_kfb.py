"""KFB slides: read to the pixel, and what is damaged or contradicts itself is refused or unread."""

import struct
import tracemalloc
from functools import partial

import numpy as np
import pytest
import scannerfiles
from scannerfiles import damaged, write_kfb
from slidefiles import picture

from pipeline.errors import ReadError
from pipeline.geometry import Rect
from pipeline.slides.contract import ReaderContract
from pipeline.slides.readers.kfb import open_kfb

IMAGE = picture(530, 390)

told_or_read = partial(scannerfiles.told_or_read, open_kfb)
refusal = partial(scannerfiles.refusal, open_kfb)


class TestKfb(ReaderContract):
    mpp = (0.25, 0.25)
    tolerance = 2.5

    def open(self, folder):
        return open_kfb(write_kfb(folder / "a.kfb", IMAGE))

    def oracle(self):
        return IMAGE

    def open_damaged(self, folder):
        return open_kfb(damaged(write_kfb(folder / "b.kfb", IMAGE)))


def changed(**change):
    """Changes the first tile in the index."""
    return lambda records: [records[0] | change, *records[1:]]


def test_levels_and_what_the_head_says(tmp_path):
    reader = open_kfb(write_kfb(tmp_path / "a.kfb", IMAGE, mpp=0.2427, power=20))
    header = reader.header
    assert (header.format, header.objective, header.background) == ("kfbio", 20.0, (255, 255, 255))
    assert header.mpp == (0.2427, 0.2427)
    sizes = [(one.size.width, one.size.height, one.downsample) for one in header.levels]
    assert sizes == [(530, 390, 1), (265, 195, 2), (132, 97, 4)]
    assert reader.shrinks(0) == (2, 4)
    reader.close()


def test_what_was_never_scanned_is_white_and_a_level_that_lacks_a_tile_is_left_out(tmp_path):
    def holes(records):  # of the finest level one tile, and of the next one another
        at = [(one["scale"], one["x"], one["y"]) for one in records]
        records[at.index((40.0, 64, 64))]["scale"] = 0.625
        records[at.index((20.0, 192, 128))]["scale"] = 0.625
        return records

    image = IMAGE.copy()
    image[64:128, 64:128] = 255
    reader = open_kfb(write_kfb(tmp_path / "a.kfb", image, records=holes))
    assert (reader.read(0, Rect(64, 64, 64, 64)) == 255).all()
    assert np.abs(reader.read(0, Rect(0, 64, 64, 64)).astype(int) - IMAGE[64:128, :64]).mean() < 2.5
    assert [level.downsample for level in reader.header.levels] == [1, 4]
    assert [fact.value for fact in reader.header.facts] == [
        "20x, which lacks tiles that 40x has",
        "1 of 63 of the finest level; shown as glass where no coarser level shows something",
    ]
    reader.close()


def test_a_lost_tile_is_unread(tmp_path):
    def hole(records):
        at = [(one["scale"], one["x"], one["y"]) for one in records]
        records[at.index((40.0, 64, 64))]["scale"] = 0.625
        return records

    reader = open_kfb(write_kfb(tmp_path / "a.kfb", IMAGE, records=hole))
    with pytest.raises(ReadError, match=r"a\.kfb: the tile at 64, 64 .* 265 x 195 px shows"):
        reader.read(0, Rect(60, 60, 9, 9))
    shown = reader.read(0, Rect(128, 64, 64, 64)).astype(int)
    assert np.abs(shown - IMAGE[64:128, 128:192]).mean() < 2.5
    reader.close()


def test_lost_tiles_that_no_level_can_tell_are_told(tmp_path):
    path = write_kfb(tmp_path / "a.kfb", IMAGE, levels=1, records=lambda records: records[:-2])
    reader = open_kfb(path)
    (doubt,) = reader.header.doubts
    assert doubt.code == "tiles-missing"
    assert doubt.text.startswith("2 of 63 of the finest level are not stored")
    reader.close()


def test_a_row_of_tiles_that_rounding_leaves_out_is_no_fault(tmp_path):
    """An image of 513 px halved is 257 px to who rounds up: a column of tiles more."""

    def rounded_up(records):  # by the tile of a coarser level, for the bytes
        (coarsest,) = (one for one in records if one["scale"] == 10 and one["x"] == 64)
        coarsest.update(scale=20, x=256, y=0, width=1)
        return records

    path = write_kfb(tmp_path / "a.kfb", picture(513, 256), records=rounded_up)
    reader = open_kfb(path)
    assert [level.size.width for level in reader.header.levels] == [513, 256]
    reader.close()


@pytest.mark.parametrize("mpp", [0.0, 1e6, -1.0])
def test_an_absurd_scale_is_the_files_own(tmp_path, mpp):
    reader = open_kfb(write_kfb(tmp_path / "a.kfb", IMAGE, mpp=mpp))
    assert reader.header.mpp == (mpp, mpp)
    reader.close()


def test_a_scale_that_is_no_number_is_none(tmp_path):
    reader = open_kfb(write_kfb(tmp_path / "a.kfb", IMAGE, mpp=float("nan")))
    assert np.isnan(reader.header.mpp).all()
    reader.close()


def u32(value):
    return struct.pack("<I", value)


HEADS = {
    "no tiles": ({12: u32(0)}, "says that it has no tiles"),
    "tiles without end": ({12: u32(2**32 - 1)}, "have 4294967295 tiles of 64 px, where 1126 at"),
    "more tiles than the file": ({12: u32(1000)}, "its index of 1000 tiles at byte"),
    "an index beyond the end": ({64: struct.pack("<Q", 2**63)}, "lies beyond its end"),
    "tiles without a side": ({84: u32(0)}, "tiles have 0 px a side"),
    "tiles of any side": ({84: u32(2**31)}, "tiles have 2147483648 px a side"),
    "tiles of another side": ({84: u32(96)}, "a tile lies beside the grid of tiles"),
    "no magnification": ({24: u32(0)}, "states no magnification"),
    "another magnification": ({24: u32(20)},  "says 20x, of which its tiles' 40, 20, 10x are"),
    "a smaller slide": ({16: u32(300), 20: u32(300)}, "a tile lies outside of the level"),
    "no pixels": ({16: u32(0)}, "its head says 530 x 0 px"),
    "a label beyond the end": ({52: u32(2**32 - 1)}, "its label lies at byte 4294967295"),
    "another format": ({0: b"SVS\0"}, "is no KFB slide"),
}  # fmt: skip


@pytest.mark.parametrize("name", HEADS)
def test_a_head_that_can_not_be_true_is_refused(tmp_path, name):
    head, message = HEADS[name]
    tracemalloc.start()
    text = refusal(write_kfb(tmp_path / "a.kfb", IMAGE, head=head))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert message in text
    assert most < 20 * 2**20


INDICES = {
    "two tiles at one place": (changed(x=64), "two tiles lie at one place"),
    "a small tile in the middle": (changed(width=20), "a tile is none of 64 x 64 px"),
    "a large tile": (changed(height=65), "a tile is none of 64 x 64 px"),
    "a tile far away": (changed(x=2**31 - 2**31 % 64), "a tile lies outside of the level"),
    "a scale of no number": (changed(scale=float("nan")), "10x are not halves"),
    "a scale below nothing": (changed(scale=-40.0), "its tiles' 40, 20, 10, -40x are not halves"),
    "a scale between": (changed(scale=30.0), "its tiles' 40, 30, 20, 10x are not halves"),
    "a scale of next to nothing": (changed(scale=1e-30), "are not halves"),
    "a tile of no bytes": (changed(size=0), "tiles of no bytes"),
    "a tile of all bytes": (changed(size=2**32 - 1), "beyond its index"),
}


@pytest.mark.parametrize("name", INDICES)
def test_an_index_that_can_not_be_true_is_refused(tmp_path, name):
    records, message = INDICES[name]
    assert message in refusal(write_kfb(tmp_path / "a.kfb", IMAGE, records=records))


def test_sizes_that_are_off_are_seen_at_the_last_tile(tmp_path):
    def shorter(records):
        return [one | {"size": one["size"] - 1} for one in records]

    path = write_kfb(tmp_path / "a.kfb", IMAGE, records=shorter)
    assert "says that a JPEG of" in refusal(path)


def test_a_tile_whose_size_is_off_is_unread_and_not_mended(tmp_path):
    """Two sizes of one sum, as kfbslide finds them in real files: it shifts the border."""

    def moved(records):
        first, second, *rest = records
        return [first | {"size": first["size"] - 9}, second | {"size": second["size"] + 9}, *rest]

    reader = open_kfb(write_kfb(tmp_path / "a.kfb", IMAGE, records=moved))
    for x in (0, 64):
        with pytest.raises(ReadError, match=r"the tile at byte \d+ of a\.kfb is"):
            reader.read(0, Rect(x, 0, 64, 64))
    reader.read(0, Rect(128, 0, 64, 64))
    reader.close()


@pytest.mark.parametrize("share", [0.001, 0.02, 0.3, 0.6, 0.95, 0.999])
def test_a_truncated_slide_is_refused(tmp_path, share):
    path = write_kfb(tmp_path / "a.kfb", IMAGE)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    refusal(path)


def test_any_changed_byte_of_the_head_and_index_gives_a_slide_or_a_line(tmp_path):
    whole = write_kfb(tmp_path / "a.kfb", IMAGE, levels=1).read_bytes()
    rng = np.random.default_rng(0)
    places = [*range(0, 200, 3), *rng.integers(len(whole) - 3000, len(whole), 60)]
    path = tmp_path / "b.kfb"
    for place in places:
        data = bytearray(whole)
        data[place] ^= int(rng.integers(1, 256))
        path.write_bytes(data)
        assert told_or_read(path)
