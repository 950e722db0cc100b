"""TMAP slides, 06 and 07: read to the pixel; what is damaged is refused, or unread and told."""

from functools import partial

import numpy as np
import pytest
import scannerfiles
from scannerfiles import damaged, write_tmap06, write_tmap07
from slidefiles import picture

from pipeline.errors import ReadError
from pipeline.geometry import Rect
from pipeline.slides.contract import ReaderContract
from pipeline.slides.readers.tmap import open_tmap

IMAGE = picture(530, 390)

told_or_read = partial(scannerfiles.told_or_read, open_tmap)
refusal = partial(scannerfiles.refusal, open_tmap)


class TestTmap07(ReaderContract):
    mpp = (0.25, 0.25)
    tolerance = 2.5

    def open(self, folder):
        return open_tmap(write_tmap07(folder / "a.tmap", IMAGE))

    def oracle(self):
        return IMAGE

    def open_damaged(self, folder):
        return open_tmap(damaged(write_tmap07(folder / "b.tmap", IMAGE)))


class TestTmap06(TestTmap07):
    def open(self, folder):
        return open_tmap(write_tmap06(folder / "a.tmap", IMAGE, beside=True))

    def open_damaged(self, folder):
        return open_tmap(damaged(write_tmap06(folder / "b.tmap", IMAGE)))


def off(reader, region, level=0):
    part = IMAGE[region.y : region.bottom, region.x : region.right]
    return np.abs(reader.read(level, region).astype(int) - part).mean()


def test_what_the_head_says(tmp_path):
    reader = open_tmap(write_tmap07(tmp_path / "a.tmap", IMAGE, mpp=0.101, grey=250))
    header = reader.header
    assert (header.format, header.objective) == ("unic", 40.0)
    assert header.background == (250, 250, 250)
    assert header.mpp == (0.101, 0.101)
    sizes = [(one.size.width, one.size.height, one.downsample) for one in header.levels]
    assert sizes == [(530, 390, 1), (265, 195, 2), (132, 97, 4)]
    reader.close()


@pytest.mark.parametrize("write", [write_tmap06, write_tmap07])
@pytest.mark.parametrize("mpp", [0.0, 1e6, 6.88e-2])
def test_the_scale_is_the_files_own_however_absurd(tmp_path, write, mpp):
    reader = open_tmap(write(tmp_path / "a.tmap", IMAGE, mpp=mpp))
    assert reader.header.mpp == (mpp, mpp)
    reader.close()


def test_what_was_never_scanned_is_the_heads_grey(tmp_path):
    image = IMAGE.copy()
    image[64:128, 128:192] = 240
    path = write_tmap07(
        tmp_path / "a.tmap",
        image,
        grey=240,
        blank=lambda level, x, y: (level, x, y) in {(0, 128, 64), (1, 192, 128)},
    )
    reader = open_tmap(path)
    assert (reader.read(0, Rect(128, 64, 64, 64)) == 240).all()
    assert off(reader, Rect(192, 64, 64, 64)) < 2.5
    assert [level.downsample for level in reader.header.levels] == [1, 4]
    assert [fact.value for fact in reader.header.facts] == [
        "1, which lacks tiles that level 0 has",
        "1 of 63 of the finest level; shown as glass where no coarser level shows something",
    ]
    assert not reader.header.doubts
    reader.close()


def test_a_lost_tile_is_unread_at_every_scale(tmp_path):
    path = write_tmap07(tmp_path / "a.tmap", IMAGE, blank=lambda level, x, y: level == 0 and y > 63)
    reader = open_tmap(path)
    assert reader.shrinks(0) == (2, 4)
    for shrink in (1, 2, 4):
        with pytest.raises(ReadError, match=r"a\.tmap: the tile at 128, 64 of its level of 530 x"):
            reader.read(0, Rect(160 // shrink, 70 // shrink, 9, 9), shrink)
        reader.read(0, Rect(0, 0, 100, 64 // shrink), shrink)
    (fact,) = reader.header.facts
    assert fact.value.startswith("54 of 63 of the finest level")
    reader.close()


def test_lost_tiles_that_no_level_can_tell_are_told(tmp_path):
    path = write_tmap07(tmp_path / "a.tmap", IMAGE, levels=1, blank=lambda _, x, y: y > 63)
    reader = open_tmap(path)
    assert (reader.read(0, Rect(160, 70, 9, 9)) == 244).all()
    assert [doubt.code for doubt in reader.header.doubts] == ["tiles-missing"]
    reader.close()


def test_blocks_may_lie_over_each_other_and_anywhere(tmp_path):
    reader = open_tmap(write_tmap06(tmp_path / "a.tmap", IMAGE, shift=(7, 5)))
    assert off(reader, Rect(0, 0, 470, 380)) < 2.5
    assert reader.shrinks(0) == ()  # no square of pixels begins where tiles do
    reader.close()


@pytest.mark.parametrize(
    ("at", "value", "message"),
    [
        (20 + 12 + 1, 0, "two tiles of one place"),
        (20 + 12 + 1, 9, "outside of their block of 240 x 200 px"),
        (20 + 24 + 2, 4, "outside of their block of 240 x 200 px"),
        (308 + 8, 0, "two blocks of one place"),
        (308 + 14, 1, "tiles lie outside of its 530 x 390 px"),
        (15, 128, "tiles lie outside of its 530 x 390 px"),
        (20 + 5, 0, "its index says that tiles lie within it"),
        (0, 7, "has tiles in a file 7, of which it says nothing"),
    ],
)
def test_blocks_that_can_not_be_true_are_refused(tmp_path, at, value, message):
    path = write_tmap06(tmp_path / "a.tmap", IMAGE)
    data = bytearray(path.read_bytes())
    data[192 + at] = value
    path.write_bytes(data)
    assert message in refusal(path)


def test_a_file_beside_it_that_is_missing_is_named(tmp_path):
    path = write_tmap06(tmp_path / "a.TMAP", IMAGE, beside=True)
    path.with_suffix(".DT1").unlink()
    assert "there is no 'a.DT1' beside it" in refusal(path, "data-missing")


def test_focal_planes_are_told_or_refused(tmp_path):
    told = open_tmap(write_tmap07(tmp_path / "a.tmap", IMAGE, planes=3))
    (doubt,) = told.header.doubts
    assert doubt.code == "focal-planes"
    assert "holds 3 focal planes; plane 1 is read" in doubt.text
    told.close()
    mixed = write_tmap07(tmp_path / "b.tmap", IMAGE, planes=2, focus=lambda index: index % 2)
    assert "mixes focal planes" in refusal(mixed, "planes-unreadable")
    sixth = write_tmap06(tmp_path / "c.tmap", IMAGE, planes=2)
    assert "holds 2 focal planes" in refusal(sixth, "planes-unreadable")


def test_another_version_is_named(tmp_path):
    path = tmp_path / "a.tmap"
    path.write_bytes(b"TMAP08".ljust(5000, b"\0"))
    assert "is TMAP 08; 06 and 07 are read" in refusal(path, "kind-not-read")


ENTRIES = {
    "columns without end": ({(0, 5): 2**32 - 1}, "lies beyond its end"),
    "no columns": ({(0, 5): 0}, "its level 0 has no tiles"),
    "too few columns": ({(0, 5): 5}, "530 x 390 px has 5 x 7 tiles of 64 x 64"),
    "an index beyond the end": ({(0, 6): 2**32 - 1}, "lies beyond its end"),
    "a large level": ({(0, 2): 2**31}, "2147483648 x 390 px has 9 x 7 tiles"),
    "no levels": ({(0, 2): 0, (1, 2): 0, (2, 2): 0}, "its head has no level 0"),
    "the first level missing": ({(0, 2): 0}, "its head has no level 0"),
}


@pytest.mark.parametrize("name", ENTRIES)
def test_a_table_of_levels_that_can_not_be_true_is_refused(tmp_path, name):
    entry, message = ENTRIES[name]
    assert message in refusal(write_tmap07(tmp_path / "a.tmap", IMAGE, entry=entry))


def test_a_level_of_another_size_is_left_out(tmp_path):
    reader = open_tmap(write_tmap07(tmp_path / "a.tmap", IMAGE, entry={(1, 2): 270}))
    assert [level.downsample for level in reader.header.levels] == [1, 4]
    (fact,) = reader.header.facts
    assert fact.value == "1 of 270 x 195 px, which is not level 0 2 times smaller"
    reader.close()


@pytest.mark.parametrize("write", [write_tmap06, write_tmap07])
@pytest.mark.parametrize("share", [0.0, 0.001, 0.01, 0.3, 0.6, 0.95, 0.9999])
def test_a_truncated_slide_is_refused(tmp_path, write, share):
    """Where tmapslide would show background for the rest."""
    path = write(tmp_path / "a.tmap", IMAGE)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    refusal(path)


@pytest.mark.parametrize("write", [write_tmap06, write_tmap07])
def test_any_changed_byte_of_head_and_index_gives_a_slide_or_a_line(tmp_path, write):
    whole = write(tmp_path / "a.tmap", IMAGE).read_bytes()
    rng = np.random.default_rng(0)
    path = tmp_path / "b.tmap"
    for place in [*range(60), *rng.integers(60, 2500, 90)]:
        data = bytearray(whole)
        data[place] ^= int(rng.integers(1, 256))
        path.write_bytes(data)
        assert told_or_read(path)
