"""Vendors' TIFF decoded here shows, tile by tile and error by error, what OpenSlide shows."""

import concurrent.futures

import imagecodecs
import numpy as np
import openslide
import pytest
import tifffile
from slidefiles import (
    break_tiles,
    encode_tile,
    picture,
    write_aperio,
    write_pyramid,
)
from vendorfiles import write_philips

from pipeline.errors import ReadError
from pipeline.geometry import Rect, Size
from pipeline.slides.readers import direct
from pipeline.slides.readers.direct import DirectReader, open_vendor
from pipeline.slides.readers.segments import (
    Segments,
    ShrunkJpegs,
    may_be_damaged,
    mean_over_squares,
)
from pipeline.slides.readers.tiff import TiffReader
from pipeline.slides.readers.vendor import VendorReader
from pipeline.slides.slide import open_slide


def grainy(width, height):
    """A picture of which JPEG loses something, so that decoders may differ."""
    smooth = picture(width, height).astype(int)
    noise = np.random.default_rng(1).integers(-30, 31, smooth.shape)
    return np.clip(smooth + noise, 0, 255).astype(np.uint8)


IMAGE = grainy(500, 300)  # three levels of whole factors, none of whole tiles


def random_regions(size, count=25, seed=0):
    """Regions within an image of that size, from a pixel to all of it."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        x, y = int(rng.integers(size.width)), int(rng.integers(size.height))
        width, height = rng.integers(1, (size.width - x + 1, size.height - y + 1))
        yield Rect(x, y, int(width), int(height))


def assert_shows_what_openslide_shows(path, reader=None, seed=0):
    reader, oracle = reader or open_vendor(path), VendorReader(path)
    for level, facts in enumerate(oracle.header.levels):
        whole = Rect(0, 0, facts.size.width, facts.size.height)
        for region in [whole, *random_regions(facts.size, seed=seed)]:
            shown = reader.read(level, region)
            assert shown.dtype == np.uint8
            np.testing.assert_array_equal(shown, oracle.read(level, region))
    return reader


def decoded_here(path):
    """Which levels of a slide OpenSlide is spared."""
    return [level is not None for level in open_vendor(path)._levels]


JPEG_KINDS = [
    *({"photometric": "ycbcr", "subsampling": s} for s in ((1, 1), (2, 1), (2, 2), (4, 1))),
    {"photometric": "rgb"},
]


@pytest.mark.parametrize("tables", [False, True], ids=["whole", "tables"])
@pytest.mark.parametrize("kind", JPEG_KINDS, ids=str)
def test_jpeg(tmp_path, kind, tables):
    path = write_aperio(tmp_path / "a.svs", IMAGE, tables=tables, **kind)
    assert decoded_here(path) == [True, True, True]
    assert_shows_what_openslide_shows(path)


@pytest.mark.parametrize("open_reader", [open_vendor, TiffReader])
@pytest.mark.parametrize("tables", [False, True], ids=["whole", "tables"])
@pytest.mark.parametrize(
    ("kind", "tolerance"),
    # libjpeg spares the work of 4:2:2 by colours of half the detail from left to right, which
    # shows on these many-coloured pictures.
    [*zip(JPEG_KINDS[:3], (0.8, 2, 1.5), strict=True), (JPEG_KINDS[4], 0.8)],
    ids=str,
)
def test_jpeg_decoded_smaller(tmp_path, kind, tolerance, tables, open_reader):
    image = picture(1001, 603)
    path = write_aperio(tmp_path / "a.svs", image, tables=tables, levels=1, tile=128, **kind)
    reader = open_reader(path)
    assert reader.shrinks(0)[0] == 2
    whole = reader.read(0, Rect(0, 0, 1001, 603))
    for shrink in reader.shrinks(0):
        size = Size(1001 // shrink, 603 // shrink)
        shrunk = reader.read(0, Rect(0, 0, size.width, size.height), shrink)
        difference = np.abs(shrunk - mean_over_squares(whole, shrink))
        assert difference.mean() < tolerance
        for region in random_regions(size):
            shown = reader.read(0, region, shrink)
            np.testing.assert_array_equal(
                shown, shrunk[region.y : region.bottom, region.x : region.right]
            )


def test_real_slide_decoded_smaller(shared):
    reader = open_vendor(shared / "slides/CMU-1-Small-Region.svs")
    assert reader.shrinks(0) == (2, 4)
    for shrink in (2, 4):
        size = reader.header.levels[0].size
        whole = reader.read(0, Rect(0, 0, size.width, size.height))
        region = Rect(0, 0, size.width // shrink, size.height // shrink)
        difference = np.abs(reader.read(0, region, shrink) - mean_over_squares(whole, shrink))
        assert difference.mean() < 1


@pytest.mark.parametrize("kind", [{"compression": "lzw"}, {"compression": "aperio_jp2000_rgb"}])
def test_other_compressions_are_not_decoded_smaller(tmp_path, kind):
    assert open_vendor(write_aperio(tmp_path / "a.svs", IMAGE, **kind)).shrinks(0) == ()


def test_a_decoder_of_smaller_tiles_that_differs_is_not_used(tmp_path, monkeypatch):
    path = write_aperio(tmp_path / "a.svs", picture(500, 300))
    real = ShrunkJpegs.decode
    monkeypatch.setattr(ShrunkJpegs, "decode", lambda self, index: real(self, index) ^ 8)
    assert open_vendor(path).shrinks(0) == ()


def test_missing_tiles_are_background_in_smaller_ones(tmp_path):
    path = write_aperio(tmp_path / "a.svs", IMAGE, missing={0: [3, 9]}, levels=1)
    philips = write_philips(tmp_path / "a.tiff", picture(500, 300), missing={0: [3, 9]})
    for reader in (open_vendor(philips), TiffReader(path)):
        assert (reader.read(0, Rect(96, 0, 32, 32), 2) == 255).all()
        assert (reader.read(0, Rect(64, 0, 32, 32), 2) != 255).any()


def test_openslide_judges_damage_in_smaller_tiles_too(tmp_path):
    path = break_tiles(write_aperio(tmp_path / "a.svs", IMAGE, levels=1), [10])
    reader = open_vendor(path)
    with pytest.raises(ReadError, match=r"a\.svs: level 0: "):
        reader.read(0, Rect(64, 32, 32, 32), 2)
    doubted = change_tile(path, 3, lambda jpeg: jpeg[:-2] + bytes(20) + jpeg[-2:])
    assert may_be_damaged(doubted, np.zeros((1, 1, 3), np.uint8))
    shown = open_vendor(path).read(0, Rect(96, 0, 32, 32), 2)
    asked = VendorReader(path).read(0, Rect(192, 0, 64, 64))
    np.testing.assert_array_equal(shown, np.rint(mean_over_squares(asked, 2)))


@pytest.mark.parametrize(
    "kind",
    [
        {"compression": "lzw"},
        {"compression": "adobe_deflate"},
        {"compression": "zstd"},
        {"compression": "aperio_jp2000_rgb"},
        {"compression": "aperio_jp2000_rgb", "level": 35},
    ],
    ids=str,
)
def test_other_compressions(tmp_path, kind):
    path = write_aperio(tmp_path / "a.svs", IMAGE, **kind)
    assert decoded_here(path) == [True, True, True]
    assert_shows_what_openslide_shows(path)


@pytest.mark.parametrize("subsampling", [(1, 1), (2, 1), (2, 2)])
def test_tiff_of_no_vendor(tmp_path, subsampling):
    path = tmp_path / "a.tif"
    options = {"photometric": "rgb", "compression": "jpeg", "subsampling": subsampling}
    tifffile.imwrite(path, IMAGE, tile=(64, 64), **options)
    assert_shows_what_openslide_shows(path, TiffReader(path))


def test_real_slide(shared):
    path = shared / "slides/CMU-1-Small-Region.svs"
    assert decoded_here(path) == [True]
    assert_shows_what_openslide_shows(path)


@pytest.mark.parametrize("compression", ["jpeg", "lzw"])
@pytest.mark.parametrize("lost", [[3, 9], range(40)], ids=str)
def test_what_a_lost_tile_would_show_is_unread_on_every_level(tmp_path, lost, compression):
    path = write_aperio(tmp_path / "a.svs", IMAGE, missing={0: lost}, compression=compression)
    reader, oracle = open_vendor(path), VendorReader(path)
    (fact,) = reader.header.facts
    assert (fact.name, fact.source) == ("tiles not stored", "file")
    assert fact.value == f"{len(lost)} of 40 of the finest level; unread"
    unread = np.zeros((300, 500), bool)
    for index in lost:
        row, column = divmod(index, 8)
        unread[64 * row : 64 * row + 64, 64 * column : 64 * column + 64] = True
    for level, facts in enumerate(reader.header.levels):
        scale = 2**level
        for region in random_regions(facts.size, 60):
            x, y = region.x * scale, region.y * scale
            if unread[y : region.bottom * scale, x : region.right * scale].any():
                with pytest.raises(
                    ReadError, match=rf"a\.svs: level {level}: the tile at .* is not"
                ):
                    reader.read(level, region)
            else:
                np.testing.assert_array_equal(
                    reader.read(level, region), oracle.read(level, region)
                )
    for shrink in reader.shrinks(0):
        with pytest.raises(ReadError, match="of the finest level is not stored"):
            reader.read(0, Rect(192 // shrink + 1, 1, 1, 1), shrink)


def test_a_lost_tile_is_unread_where_openslide_reads_all_levels(tmp_path, monkeypatch):
    path = write_aperio(tmp_path / "a.svs", IMAGE, missing={0: [3]})
    monkeypatch.setattr(direct.DirectLevel, "agrees", lambda *_: False)
    reader = open_vendor(path)
    assert reader.library == "openslide"
    with pytest.raises(ReadError, match="the tile at 192, 0 of the finest level is not stored"):
        reader.read(2, Rect(50, 0, 5, 5))
    assert reader.read(2, Rect(0, 0, 47, 5)).shape == (5, 47, 3)


@pytest.mark.parametrize("missing", [{1: [3]}, {2: [1]}], ids=str)
def test_missing_tiles(tmp_path, missing):
    path = write_aperio(tmp_path / "a.svs", IMAGE, missing=missing)
    highest = min(missing)  # OpenSlide fills in coarser levels from finer ones
    assert decoded_here(path) == [level == 0 or level < highest for level in range(3)]
    assert_shows_what_openslide_shows(path)


def test_missing_tiles_have_the_background_of_the_slide(tmp_path, monkeypatch):
    real = openslide.OpenSlide.properties.fget
    color = {"openslide.background-color": "010203"}
    changed = property(lambda handle: {**real(handle), **color})
    monkeypatch.setattr(openslide.OpenSlide, "properties", changed)
    path = write_philips(tmp_path / "a.tiff", IMAGE, missing={0: [3, 9]})
    reader = assert_shows_what_openslide_shows(path)
    assert (reader.read(0, Rect(192, 0, 64, 64)) == (1, 2, 3)).all()


def test_a_level_between_whole_factors_stays_with_openslide(tmp_path):
    for size in ((501, 300), (101, 60)):  # of the smaller one's only tile, the origin is exact
        path = write_aperio(tmp_path / "a.svs", grainy(*size), levels=2)
        assert decoded_here(path) == [True, False]
        assert_shows_what_openslide_shows(path)


def test_philips(tmp_path):
    path = write_philips(tmp_path / "a.tiff", IMAGE, missing={0: [3, 4], 1: [2]})
    assert decoded_here(path) == [True, False, False]
    reader = assert_shows_what_openslide_shows(path)
    (fact,) = reader.header.facts
    assert fact.value == "2 of 40 of the finest level; shown as glass"


def test_a_decoder_that_differs_is_not_used(tmp_path, monkeypatch):
    path = write_aperio(tmp_path / "a.svs", IMAGE)
    real = Segments.decode
    monkeypatch.setattr(Segments, "decode", lambda self, index: real(self, index) ^ 1)
    assert isinstance(open_vendor(path), VendorReader)


def test_other_vendors_stay_with_openslide(tmp_path, monkeypatch):
    path = write_aperio(tmp_path / "a.svs", IMAGE)
    monkeypatch.setattr(direct, "VENDORS", frozenset())
    assert isinstance(open_vendor(path), VendorReader)


def test_a_slide_says_who_reads_it(tmp_path):
    readers = {
        "imagecodecs": write_aperio(tmp_path / "a.svs", IMAGE),
        "tifffile": write_pyramid(tmp_path / "a.tif", IMAGE),
    }
    for library, path in readers.items():
        with open_slide(path) as slide:
            assert slide.reader == library


def cut_off(jpeg):
    return jpeg[: len(jpeg) * 2 // 3]


def scan_cut_off(jpeg):
    return jpeg[: len(jpeg) * 2 // 3] + b"\xff\xd9"


def marker_within(jpeg):
    at = len(jpeg) * 2 // 3
    return jpeg[:at] + b"\xff\xe5" + jpeg[at + 2 :]


@pytest.mark.parametrize("damage", [cut_off, scan_cut_off, marker_within])
def test_damage_that_the_decoder_keeps_to_itself_is_an_error(tmp_path, damage):
    path = write_aperio(tmp_path / "a.svs", IMAGE, levels=1)
    damaged = change_tile(path, 10, damage)
    imagecodecs.jpeg8_decode(damaged)  # it says nothing
    assert_same_errors(path, damaged=Rect(128, 64, 64, 64))


@pytest.mark.parametrize("damage", [cut_off, scan_cut_off, marker_within])
def test_damage_in_a_tiff_of_no_vendor_is_an_error_too(tmp_path, damage):
    path = write_pyramid(tmp_path / "a.tif", IMAGE, levels=1)
    change_tile(path, 10, damage)
    reader, oracle = TiffReader(path), VendorReader(path)
    for shrink in (1, 2):
        touching = Rect(128 // shrink, 64 // shrink, 20, 20)
        with pytest.raises(ReadError, match=r"a\.tif: level 0: "):
            reader.read(0, touching, shrink)
    beside = Rect(192, 64, 100, 100)
    np.testing.assert_array_equal(reader.read(0, beside), oracle.read(0, beside))
    reader.close()


def test_doubt_alone_is_no_error_in_a_tiff_of_no_vendor(tmp_path):
    grey = np.full((300, 500, 3), 128, np.uint8)
    path = write_pyramid(tmp_path / "a.tif", grey)
    assert_shows_what_openslide_shows(path, TiffReader(path))


def test_tile_of_zeros_is_an_error(tmp_path):
    path = break_tiles(write_aperio(tmp_path / "a.svs", IMAGE), [10])
    assert decoded_here(path) == [True, True, True]
    assert_same_errors(path, damaged=Rect(128, 64, 64, 64))


def test_tile_of_another_size_is_an_error(tmp_path):
    path = write_aperio(tmp_path / "a.svs", IMAGE, levels=1)
    cropped = np.ascontiguousarray(IMAGE[:64, 448:])  # all of this tile that lies on the slide
    change_tile(path, 7, lambda _: encode_tile(cropped, "jpeg", "rgb", {"level": 50}))
    assert_same_errors(path, damaged=Rect(448, 0, 52, 64))


def test_doubt_alone_is_no_error(tmp_path):
    grey = np.full((300, 500, 3), 128, np.uint8)
    path = write_aperio(tmp_path / "a.svs", grey)
    assert_shows_what_openslide_shows(path)


def assert_same_errors(path, damaged):
    """Regions that touch the damaged tile fail as with OpenSlide, and no others do."""
    reader, oracle = open_vendor(path), VendorReader(path)
    assert isinstance(reader, DirectReader)
    failed = 0
    for region in random_regions(reader.header.levels[0].size, count=60):
        if region.intersection(damaged):
            failed += 1
            with pytest.raises(ReadError, match=r"a\.svs: level 0: "):
                reader.read(0, region)
        else:
            np.testing.assert_array_equal(reader.read(0, region), oracle.read(0, region))
    assert failed


def test_neighbouring_regions_decode_each_tile_once(tmp_path, monkeypatch):
    path = write_aperio(tmp_path / "a.svs", IMAGE, levels=1)
    decoded = []
    real = Segments.decode_bytes
    with open_slide(path) as slide:
        monkeypatch.setattr(
            Segments,
            "decode_bytes",
            lambda self, index, data: decoded.append(index) or real(self, index, data),
        )
        regions = [Rect(x, y, 150, 150) for y in (0, 100, 150) for x in range(0, 350, 50)]
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            shown = list(pool.map(lambda region: slide.read_level(0, region), regions))
    assert sorted(decoded) == list(range(8 * 5))
    oracle = VendorReader(path)
    for region, pixels in zip(regions, shown, strict=True):
        np.testing.assert_array_equal(pixels, oracle.read(0, region))


def test_closed_reader_does_not_read(tmp_path):
    reader = open_vendor(write_aperio(tmp_path / "a.svs", IMAGE))
    reader.read(0, Rect(0, 0, 50, 50))
    reader.close()
    with pytest.raises(ValueError, match="closed"):
        reader.read(0, Rect(0, 0, 50, 50))


def change_tile(path, index, change):
    """Replaces a tile of level 0 by a changed one, not longer than it was."""
    with tifffile.TiffFile(path) as file:
        page = file.pages[0]
        offset, count = page.dataoffsets[index], page.databytecounts[index]
        place = page.tags["TileByteCounts"].valueoffset + 4 * index
    with path.open("r+b") as stream:
        stream.seek(offset)
        changed = change(stream.read(count))
        stream.seek(offset)
        stream.write(changed)
        stream.seek(place)
        stream.write(len(changed).to_bytes(4, "little"))
    return changed
