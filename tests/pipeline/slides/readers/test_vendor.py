"""OpenSlide's files: what they say of themselves, and how they survive a broken tile."""

import concurrent.futures

import numpy as np
import openslide
import pytest
from slidefiles import MPP, break_tiles, picture, write_pyramid

from pipeline.errors import ReadError
from pipeline.geometry import Rect, Size
from pipeline.slides.readers import vendor
from pipeline.slides.readers.base import UnsupportedError
from pipeline.slides.readers.vendor import VendorReader, detect_vendor

IMAGE = picture(333, 217)


@pytest.fixture
def properties(monkeypatch):
    """Properties to add to those of the next slides that are opened."""
    added = {}
    real = openslide.OpenSlide.properties.fget
    monkeypatch.setattr(
        openslide.OpenSlide, "properties", property(lambda self: {**real(self), **added})
    )
    return added


def test_levels_and_pixels(tmp_path):
    reader = VendorReader(write_pyramid(tmp_path / "a.tif", IMAGE, compression="deflate"))
    assert reader.header.format == "generic-tiff"
    assert reader.header.mpp == pytest.approx((MPP, MPP))
    assert [level.size for level in reader.header.levels] == [
        Size(333, 217),
        Size(166, 108),
        Size(83, 54),
    ]
    assert [level.downsample for level in reader.header.levels] == [1, 2, 4]
    np.testing.assert_array_equal(reader.read(0, Rect(7, 90, 100, 80)), IMAGE[90:170, 7:107])


def test_header_of_a_scanner(tmp_path, properties):
    properties |= {
        "openslide.vendor": "mirax",
        "openslide.mpp-x": "0.24",
        "openslide.mpp-y": "0.25",
        "openslide.objective-power": "40",
        "openslide.background-color": "F0E1D2",
        "openslide.bounds-x": "10",
        "openslide.bounds-y": "20",
        "openslide.bounds-width": "200",
        "openslide.bounds-height": "100",
    }
    header = VendorReader(write_pyramid(tmp_path / "a.tif", IMAGE)).header
    assert header.format == "mirax"
    assert header.mpp == (0.24, 0.25)
    assert header.objective == 40
    assert header.background == (0xF0, 0xE1, 0xD2)
    assert header.bounds == Rect(10, 20, 200, 100)
    assert header.doubts == ()


def test_bounds_end_with_the_slide(tmp_path, properties):
    names = ("x", "y", "width", "height")
    properties |= {
        f"openslide.bounds-{name}": value
        for name, value in zip(names, ("300", "-5", "99", "99"), strict=True)
    }
    header = VendorReader(write_pyramid(tmp_path / "a.tif", IMAGE)).header
    assert header.bounds == Rect(300, 0, 33, 94)
    assert [doubt.code for doubt in header.doubts] == ["bounds-beyond"]


def test_magnification_never_becomes_mpp(tmp_path, properties):
    properties["openslide.objective-power"] = "20"
    assert VendorReader(write_pyramid(tmp_path / "a.tif", IMAGE, mpp=None)).header.mpp is None


@pytest.mark.parametrize("nonsense", ["", "unknown", "0,25"])
def test_nonsense_states_nothing(tmp_path, properties, nonsense):
    properties |= {
        "openslide.mpp-x": nonsense,
        "openslide.objective-power": nonsense,
        "openslide.background-color": nonsense,
        "openslide.bounds-x": nonsense,
    }
    header = VendorReader(write_pyramid(tmp_path / "a.tif", IMAGE)).header
    assert header.mpp is None
    assert header.objective is None
    assert header.bounds is None
    assert header.background == (255, 255, 255)


def test_transparent_areas_show_the_background(tmp_path, properties):
    properties["openslide.background-color"] = "010203"
    reader = VendorReader(write_pyramid(tmp_path / "a.tif", IMAGE, compression="deflate"))
    beyond = reader.read(0, Rect(330, 0, 10, 10))  # OpenSlide gives transparent pixels there
    np.testing.assert_array_equal(beyond[:, :3], IMAGE[:10, 330:])
    assert (beyond[:, 3:] == (1, 2, 3)).all()


def test_broken_tile_spoils_its_own_region_only(tmp_path):
    path = break_tiles(write_pyramid(tmp_path / "a.tif", IMAGE, compression="deflate"), [0])
    reader = VendorReader(path)
    for _ in range(2):
        with pytest.raises(ReadError, match=r"a\.tif: level 0: "):
            reader.read(0, Rect(0, 0, 10, 10))
        np.testing.assert_array_equal(reader.read(0, Rect(64, 0, 200, 200)), IMAGE[:200, 64:264])


def test_threads_do_not_spoil_each_others_reads(tmp_path):
    path = break_tiles(write_pyramid(tmp_path / "a.tif", IMAGE, compression="deflate"), [0])
    reader = VendorReader(path)

    def reads_well(x):
        with pytest.raises(ReadError):
            reader.read(0, Rect(0, 0, 5, 5))
        return np.array_equal(reader.read(0, Rect(x, 9, 50, 60)), IMAGE[9:69, x : x + 50])

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        assert all(pool.map(reads_well, range(64, 264)))


def test_closing_gives_back_every_handle(tmp_path, monkeypatch):
    handles = []
    real = openslide.OpenSlide

    class Counted(real):
        def __init__(self, path):
            super().__init__(path)
            handles.append(self)

        def close(self):
            handles.remove(self)
            super().close()

    monkeypatch.setattr(vendor.openslide, "OpenSlide", Counted)
    path = break_tiles(write_pyramid(tmp_path / "a.tif", IMAGE, compression="deflate"), [0])
    reader = VendorReader(path)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda x: reader.read(0, Rect(64 + x, 0, 50, 50)), range(100)))
    with pytest.raises(ReadError):
        reader.read(0, Rect(0, 0, 5, 5))
    assert len(handles) < 5
    reader.close()
    assert not handles
    with pytest.raises(ValueError, match="closed"):
        reader.read(0, Rect(64, 0, 5, 5))


def test_what_openslide_refuses_may_be_for_another_reader(tmp_path):
    path = write_pyramid(tmp_path / "a.tif", IMAGE, compression="jpeg2000")
    assert detect_vendor(path) == "generic-tiff"
    with pytest.raises(UnsupportedError, match=r"a\.tif: can't be opened: .*compression"):
        VendorReader(path)


def test_unknown_file_has_no_vendor(tmp_path):
    (tmp_path / "a.svs").write_text("no slide")
    assert detect_vendor(tmp_path / "a.svs") is None
