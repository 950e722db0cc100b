"""Extras that read scanners' own formats: chosen by ending, named where missing, and judged."""

import sys
import types

import numpy as np
import pytest
from scannerfiles import write_kfb, write_tmap06, write_tmap07
from slidefiles import picture

from pipeline.errors import SlideError
from pipeline.geometry import Rect
from pipeline.slides import containers, offers, scanners
from pipeline.slides.mpp import GivenMpp
from pipeline.slides.offers import installed_offers, open_offered
from pipeline.slides.slide import open_slide
from pipeline.slides.unread import unread_ending

IMAGE = picture(530, 390)

kfbslide = pytest.importorskip("kfbslide", reason="needs cytolibra[kfb]")
tmapslide = pytest.importorskip("tmapslide", reason="needs cytolibra[tmap]")


def refusal(path):
    with pytest.raises(SlideError) as told:
        open_slide(path).close()
    text = str(told.value)
    assert text.startswith(f"{path}: ")
    assert "\n" not in text
    return told.value


@pytest.mark.parametrize(
    ("write", "name", "package"),
    [
        (write_kfb, "a.KFB", "kfbslide"),
        (write_tmap06, "a.TMAP", "tmapslide"),
        (write_tmap07, "a.tmap", "tmapslide"),
    ],
)
def test_a_slide_is_read_as_its_package_reads_it(tmp_path, write, name, package):
    path = write(tmp_path / name, IMAGE)
    module = sys.modules[package]
    with open_slide(path) as slide, module.OpenSlide(str(path)) as theirs:
        assert slide.reader.split()[1] == f"({package}"
        assert (slide.mpp, slide.mpp_source) == (0.25, "file")
        for number, level in enumerate(slide.levels):
            size = (level.size.width, level.size.height)
            assert size == tuple(theirs.level_dimensions[number])
            shown = np.asarray(theirs.read_region((0, 0), number, size).convert("RGB"))
            ours = slide.read_level(number, Rect(0, 0, *size))
            np.testing.assert_array_equal(ours, shown)


def test_a_result_names_the_package_and_its_version(tmp_path):
    version = scanners.version_of("kfbslide")
    assert containers.name_packages(tmp_path / "a.kfb") == f"kfbslide {version}"
    assert f".tmap by tmapslide {scanners.version_of('tmapslide')}" in containers.tell_plugins()


@pytest.mark.parametrize(
    ("write", "name"), [(write_kfb, "a.kfb"), (write_tmap06, "a.tmap"), (write_tmap07, "b.tmap")]
)
@pytest.mark.parametrize("mpp", [0.0, 1e6, float("nan")])
def test_an_absurd_scale_needs_the_users(tmp_path, write, name, mpp):
    path = write(tmp_path / name, IMAGE, mpp=mpp)
    told = refusal(path)
    assert told.code == "mpp-missing"
    assert "give it with --mpp" in told.text
    with open_slide(path, 0.5) as slide:
        assert (slide.mpp, slide.mpp_source) == (0.5, "argument")


@pytest.mark.parametrize("write", [write_tmap06, write_tmap07])
@pytest.mark.parametrize("mpp", [0.0688, 0.101, 0.5])
def test_a_scale_that_can_not_be_of_the_objective_is_never_replaced_by_a_guess(
    tmp_path, write, mpp
):
    """As tmapslide would: it says 0.25 of each of these."""
    path = write(tmp_path / "a.tmap", IMAGE, mpp=mpp, power=40)
    with tmapslide.OpenSlide(str(path)) as theirs:
        assert theirs.properties["openslide.mpp-x"] == "0.25"
    told = refusal(path)
    assert told.code == "mpp-missing"
    assert f"states {mpp} µm per pixel, which can't be of an objective 40x; give it" in told.text
    with open_slide(path, 0.3) as slide:
        assert (slide.mpp, [doubt.code for doubt in slide.doubts]) == (0.3, ["mpp-absurd"])
    with open_slide(path, GivenMpp(override=mpp)) as slide:
        assert slide.mpp == mpp


@pytest.fixture
def without(monkeypatch):
    """As if none of the packages were installed."""
    monkeypatch.setattr(scanners, "version_of", lambda package: None)
    monkeypatch.setattr(offers, "version_of", lambda package: None)
    installed_offers.cache_clear()
    monkeypatch.setattr(containers, "_OTHERS", frozenset())
    yield
    installed_offers.cache_clear()


@pytest.mark.usefixtures("without")
@pytest.mark.parametrize(
    ("name", "extra"),
    [
        ("a.kfb", "kfb"),
        ("a.tmap", "tmap"),
        ("a.isyntax", "fastslide"),
        ("a.vsi", "fastslide"),
    ],
)
def test_a_missing_package_is_named_with_its_extra(tmp_path, name, extra):
    path = tmp_path / name
    path.write_bytes(b"of some scanner" * 99)
    assert offers.endings_offered() == frozenset()
    assert f"pip install 'cytolibra[{extra}]'" in refusal(path).text
    assert f"pip install 'cytolibra[{extra}]', or " in unread_ending(path).remedy


class Other:
    """A package that reads a file otherwise."""

    def __init__(self, path):
        self.theirs = kfbslide.OpenSlide(path)
        self.level_dimensions = self.theirs.level_dimensions
        self.level_downsamples = self.theirs.level_downsamples

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.theirs.close()

    def read_region(self, at, level, size):
        return self.theirs.read_region(at, level, size)


def shifted(self, at, level, size):
    return self.theirs.read_region((at[0] + 64, at[1]), level, size)


def failing(self, *_):
    raise ZeroDivisionError("two\nlines")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("read_region", shifted, "of level 0 looks otherwise"),
        ("level_dimensions", property(lambda self: [(9, 9)], lambda self, value: None),
         "it knows no level of 530 x 390 px"),
        ("read_region", failing, "kfbslide can't read it: ZeroDivisionError: two lines"),
        ("__init__", failing, "kfbslide can't read it: ZeroDivisionError: two lines"),
    ],
)  # fmt: skip
def test_what_the_package_reads_otherwise_is_read_by_neither(
    tmp_path, monkeypatch, name, value, message
):
    path = write_kfb(tmp_path / "a.kfb", IMAGE)
    other = type("Odd", (Other,), {name: value})
    monkeypatch.setitem(sys.modules, "kfbslide", types.SimpleNamespace(OpenSlide=other))
    told = refusal(path)
    assert told.code == "reader-failed"
    assert message in told.text


def test_a_damaged_tile_among_those_compared_is_unread_and_no_more(tmp_path):
    path = write_kfb(tmp_path / "a.kfb", IMAGE)
    reader = open_offered(path)
    tiles = reader._reader._levels[0].tiles
    fullest, _ = tiles.telling()
    place, offset = tiles.place(fullest), int(tiles.offset[fullest])
    reader.close()
    data = bytearray(path.read_bytes())
    data[offset : offset + 300] = bytes(300)
    path.write_bytes(data)
    with open_slide(path) as slide:
        with pytest.raises(SlideError, match="is no JPEG"):
            slide.read_level(0, place)
        slide.read_level(0, Rect(place.x ^ 64, place.y, 64, 64))
