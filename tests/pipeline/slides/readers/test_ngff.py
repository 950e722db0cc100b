"""OME-Zarr as a slide: against what the zarr package wrote, and all that a folder may lack."""

import json
import shutil

import numpy as np
import pytest
from slidefiles import halved, picture
from zarrfiles import MPP, edited, packed, write_ngff

from pipeline.errors import ReadError, SlideError
from pipeline.geometry import Rect
from pipeline.slides.containers import open_container
from pipeline.slides.contract import ReaderContract
from pipeline.slides.readers import ngff_metadata
from pipeline.slides.slide import open_slide

zarr = pytest.importorskip("zarr", reason="the tests write OME-Zarr by the zarr package")

IMAGE = picture(530, 390)
ALL = Rect(0, 0, 530, 390)


class TestFolder(ReaderContract):
    mpp = (0.2, 0.3)

    def open(self, folder):
        return open_container(write_ngff(folder / "a.ome.zarr", IMAGE, mpp=self.mpp, levels=3))

    def oracle(self):
        return IMAGE

    def open_without_mpp(self, folder):
        return open_container(write_ngff(folder / "a.zarr", IMAGE, unit=None))

    def open_damaged(self, folder):
        path = write_ngff(folder / "a.zarr", IMAGE)
        (path / "0/0.1.0.1.1").write_bytes(b"\1" * 40)
        return open_container(path)


class TestZip(ReaderContract):
    mpp = (MPP, MPP)

    def open(self, folder):
        path = write_ngff(
            folder / "a.zarr", IMAGE, version="0.5", more={"shards": (1, 3, 1, 256, 256)}
        )
        return open_container(packed(path))

    def oracle(self):
        return IMAGE

    def open_damaged(self, folder):
        path = packed(write_ngff(folder / "a.zarr", IMAGE))
        data = path.read_bytes()
        path.write_bytes(data[:-40])
        return open_container(path)


def refusal(path, code=None):
    with pytest.raises(SlideError) as told:
        open_slide(path).close()
    text = told.value.text
    assert text.startswith(f"{path}: ")
    assert "\n" not in text
    if code is not None:
        assert told.value.code == code
    return text


def codec(name, **settings):
    import numcodecs

    return getattr(numcodecs, name)(**settings)


WRITTEN = {
    "tczyx": {},
    "czyx": {"axes": "czyx"},
    "cyx": {"axes": "cyx", "channels": 3},
    "yxc": {"axes": "yxc", "channels": 2},
    "order F": {"more": {"order": "F"}},
    "raw": {"more": {"compressors": None}},
    "slashes": {"more": {"chunk_key_encoding": {"name": "v2", "separator": "/"}}},
    "blosc 2": {"more": {"compressors": codec("Blosc", cname="lz4", shuffle=1)}},
    "zlib": {"more": {"compressors": codec("Zlib")}},
    "gzip": {"more": {"compressors": codec("GZip")}},
    "bz2": {"more": {"compressors": codec("BZ2")}},
    "lz4": {"more": {"compressors": codec("LZ4")}},
    "0.5": {"version": "0.5"},
    "0.5 dots": {
        "version": "0.5",
        "more": {"chunk_key_encoding": {"name": "v2", "separator": "."}},
    },
    "0.5 blosc": {"version": "0.5", "more": {"compressors": zarr.codecs.BloscCodec()}},
    "0.5 sum": {
        "version": "0.5",
        "more": {"compressors": [zarr.codecs.GzipCodec(), zarr.codecs.Crc32cCodec()]},
    },
    "0.5 turned": {
        "version": "0.5",
        "more": {"filters": [zarr.codecs.TransposeCodec(order=(4, 2, 3, 0, 1))]},
    },
    "0.5 shards": {
        "version": "0.5",
        "axes": "cyx",
        "channels": 3,
        "more": {"shards": (3, 384, 192)},
    },
}


@pytest.mark.parametrize("how", WRITTEN)
def test_pixels_are_those_that_zarr_wrote(tmp_path, how):
    path = write_ngff(tmp_path / "a.zarr", IMAGE, chunk=192, **WRITTEN[how])
    version = WRITTEN[how].get("version", "0.4")
    with open_slide(path) as slide:
        assert (slide.mpp, slide.mpp_source) == (MPP, "file")
        assert (slide.format, slide.reader) == (f"ome-zarr {version}", "imagecodecs")
        assert [level.downsample for level in slide.levels] == [1, 2]
        np.testing.assert_array_equal(slide.read_level(0, ALL), IMAGE)
        np.testing.assert_array_equal(slide.read_level(1, Rect(0, 0, 265, 195)), halved(IMAGE))
        assert not slide.doubts


def blank_corner():
    image = picture(530, 390).copy()
    image[:256, :256] = 255
    return image


def written_blank(path, **options):
    more = {"fill_value": 255, "config": {"write_empty_chunks": False}}
    return write_ngff(path, blank_corner(), more=more, **options)


def test_what_was_never_written_is_the_fill_value(tmp_path):
    path = written_blank(tmp_path / "a.zarr")
    assert not (path / "0/0.0.0.0.0").exists()
    with open_slide(path) as slide:
        np.testing.assert_array_equal(slide.read_level(0, ALL), blank_corner())
        (fact,) = [fact for fact in slide.facts if fact.name == "chunks not stored"]
        assert fact.value == "4 of 20 of the finest level; shown as 255"
        assert not slide.doubts
        assert slide.background == (255, 255, 255)


def test_a_dark_fill_value_is_shown_as_glass_on_every_level(tmp_path):
    """Where nothing was written, and only there: black that was written stays."""
    image = picture(512, 384).copy()
    image[128:384, 128:256] = 0
    image[:128, 128:160] = 0
    more = {"config": {"write_empty_chunks": False}}
    path = write_ngff(tmp_path / "a.zarr", image, levels=3, more=more)
    expected = image.copy()
    expected[128:384, 128:256] = 255
    with open_slide(path) as slide:
        (fact,) = [fact for fact in slide.facts if fact.name == "chunks not stored"]
        assert fact.value == "2 of 12 of the finest level; shown as glass"
        np.testing.assert_array_equal(slide.read_level(0, Rect(0, 0, 512, 384)), expected)
        for level in (1, 2):
            size = slide.levels[level].size
            shown = slide.read_level(level, Rect(0, 0, size.width, size.height))
            np.testing.assert_array_equal(shown, halved(expected, level))
            part = Rect(40 // level, 50 // level, 60 // level, 90 // level)
            np.testing.assert_array_equal(
                slide.read_level(level, part),
                shown[part.y : part.bottom, part.x : part.right],
            )
        assert slide.background == (255, 255, 255)


@pytest.mark.parametrize("shards", [None, (1, 3, 1, 256, 256)])
def test_a_chunk_that_a_coarser_level_shows_was_lost(tmp_path, shards):
    """Of one channel or of all of them, also within a shard."""
    more = {"shards": shards} if shards else None
    path = write_ngff(tmp_path / "a.zarr", IMAGE, version="0.5", more=more)
    if shards is None:
        (path / "0/c/0/1/0/1/2").unlink()
        lost = Rect(256, 128, 128, 128)
    else:
        (path / "0/c/0/0/0/0/1").unlink()
        lost = Rect(256, 0, 256, 256)
    with open_slide(path) as slide:
        for y in range(0, 390, 64):
            for x in range(0, 530, 64):
                region = Rect(x, y, min(64, 530 - x), min(64, 390 - y))
                if region.intersection(lost):
                    with pytest.raises(ReadError, match=r"is not there, while its array 1 shows"):
                        slide.read_level(0, region)
                else:
                    shown = slide.read_level(0, region)
                    part = IMAGE[region.y : region.bottom, region.x : region.right]
                    np.testing.assert_array_equal(shown, part)


def test_without_a_coarser_level_missing_chunks_are_told(tmp_path):
    path = write_ngff(tmp_path / "a.zarr", IMAGE, levels=1)
    for channel in range(3):
        (path / f"0/0.{channel}.0.0.0").unlink()
    (path / "0/0.1.0.1.1").unlink()
    with open_slide(path) as slide:
        assert [doubt.code for doubt in slide.doubts] == ["chunks-missing"]
        assert "1 of 20 of the finest level" in slide.doubts[0].text
        assert "shown as glass" in slide.doubts[0].text
        assert (slide.read_level(0, Rect(0, 0, 128, 128)) == 255).all()
        with pytest.raises(ReadError, match="while those of other channels are"):
            slide.read_level(0, Rect(128, 128, 10, 10))


def test_a_slide_without_any_chunk_is_refused(tmp_path):
    path = write_ngff(tmp_path / "a.zarr", IMAGE)
    for chunk in (path / "0").glob("0.*"):
        chunk.unlink()
    assert "no chunk of its array 0 is there" in refusal(path, "data-missing")


def test_a_level_that_lacks_chunks_is_left_out(tmp_path):
    path = write_ngff(tmp_path / "a.zarr", IMAGE, levels=3)
    for channel in range(3):
        (path / f"1/0.{channel}.0.0.0").unlink()
    with open_slide(path) as slide:
        assert [level.size.width for level in slide.levels] == [530, 132]
        (fact,) = [fact for fact in slide.facts if fact.name == "level left out"]
        assert fact.value == "1: lacks chunks that the finest level has"


def test_a_level_that_lacks_a_chunk_within_one_of_the_finest_is_left_out(tmp_path):
    """Its own are smaller: none of the finest need have its middle there."""
    path = write_ngff(tmp_path / "a.zarr", picture(1024, 1024), levels=2, chunk=512)
    write_ngff(tmp_path / "b.zarr", picture(1024, 1024), levels=2, chunk=64)
    shutil.rmtree(path / "1")
    shutil.copytree(tmp_path / "b.zarr/1", path / "1")
    with open_slide(path) as slide:
        assert [level.size.width for level in slide.levels] == [1024, 512]
    for channel in range(3):
        (path / f"1/0.{channel}.0.0.0").unlink()
    with open_slide(path) as slide:
        assert [level.size.width for level in slide.levels] == [1024]
        (fact,) = [fact for fact in slide.facts if fact.name == "level left out"]
        assert fact.value == "1: lacks chunks that the finest level has"


def test_a_level_that_is_no_copy_is_left_out(tmp_path):
    """By its scale, its place, its shape, its depth, or because it can't be read."""
    path = write_ngff(tmp_path / "a.zarr", IMAGE, levels=3)
    stated = json.loads((path / ".zattrs").read_text())["multiscales"][0]
    half, quarter = (stated["datasets"][n]["coordinateTransformations"] for n in (1, 2))
    half[0]["scale"][-1] = 0.7
    quarter.append({"type": "translation", "translation": [0, 0, 0, 0, 40.0]})
    stated["datasets"].append({"path": "gone"})
    write_ngff(tmp_path / "other.zarr", picture(300, 100), levels=1)
    shutil.copytree(tmp_path / "other.zarr/0", path / "other")
    stated["datasets"].append({"path": "other"})
    edited(path, ".zattrs", multiscales=[stated])
    with open_slide(path) as slide:
        assert [level.size.width for level in slide.levels] == [530]
        told = {fact.value for fact in slide.facts if fact.name == "level left out"}
    assert told == {
        "1: states 0.7 a pixel, which its size of 265 x 195 px denies",
        "2: lies 40 beside the finest",
        "gone: its array gone: is not there: neither zarr.json nor .zarray",
        "other: of 300 x 100 px, is of another shape than the finest",
    }


def test_levels_count_by_size_not_by_order(tmp_path):
    path = write_ngff(tmp_path / "a.zarr", IMAGE)
    stated = json.loads((path / ".zattrs").read_text())["multiscales"][0]
    edited(path, ".zattrs", multiscales=[{**stated, "datasets": stated["datasets"][::-1]}])
    with open_slide(path) as slide:
        assert (slide.size.width, slide.mpp) == (530, MPP)


def test_a_scale_without_a_unit_needs_the_users(tmp_path):
    path = write_ngff(tmp_path / "a.zarr", IMAGE, unit=None)
    assert "give it with --mpp" in refusal(path, "mpp-missing")
    with open_slide(path, 0.5) as slide:
        assert (slide.mpp, slide.mpp_source) == (0.5, "argument")
        assert "0.25 by 0.25 of no unit of length" in str(slide.facts)


@pytest.mark.parametrize(("unit", "factor"), [("nanometer", 1000), ("millimeter", 1e-3)])
def test_units_become_micrometres(tmp_path, unit, factor):
    mpp = (MPP * factor, MPP * factor)
    with open_slide(write_ngff(tmp_path / "a.zarr", IMAGE, mpp=mpp, unit=unit)) as slide:
        assert slide.mpp == pytest.approx(MPP)


@pytest.mark.parametrize("mpp", [0.0, 1e6, -0.25])
def test_an_absurd_scale_needs_the_users(tmp_path, mpp):
    path = write_ngff(tmp_path / "a.zarr", IMAGE, mpp=(mpp, mpp), levels=1)
    assert "absurd" in refusal(path, "mpp-missing")


def test_the_scale_of_all_levels_counts_too(tmp_path):
    more = [{"type": "scale", "scale": [1, 1, 1, 2.0, 2.0]}]
    path = write_ngff(tmp_path / "a.zarr", IMAGE, edit={"coordinateTransformations": more})
    with open_slide(path) as slide:
        assert slide.mpp == 2 * MPP


def test_focal_planes_are_found_and_named(tmp_path):
    blurred = np.asarray([np.full_like(IMAGE, 200), IMAGE, np.full_like(IMAGE, 210)], np.uint8)
    path = write_ngff(tmp_path / "a.zarr", list(blurred))
    with open_slide(path) as slide:
        assert [plane.name for plane in slide.planes] == ["z = 0 µm", "z = 1.5 µm", "z = 3 µm"]
        assert [plane.z_um for plane in slide.planes] == [0, 1.5, 3]
        assert slide.plane == 1
        np.testing.assert_array_equal(slide.read_level(0, ALL), IMAGE)
        np.testing.assert_array_equal(slide.on_plane(2).read_level(0, ALL), blurred[2])


def several(folder, *sizes, names=None):
    """What bioformats2raw writes: pictures 0, 1 and so on."""
    zarr.open_group(folder, mode="w", zarr_format=2).attrs["bioformats2raw.layout"] = 3
    for number, (width, height) in enumerate(sizes):
        name = names[number] if names else "picture"
        image = picture(width, height)
        write_ngff(folder / str(number), image, levels=1, edit={"name": name})
    return folder


def test_label_and_overview_are_left_out_and_told(tmp_path):
    path = several(tmp_path / "a.zarr", (400, 300), (530, 390), (60, 50),
                   names=["macro image", "slide", "x"])  # fmt: skip
    with open_slide(path) as slide:
        assert slide.size.width == 530
        told = [fact.value for fact in slide.facts if fact.name == "picture left out"]
        assert told == ["0 macro image: 400 x 300 px, called so", "2 x: 60 x 50 px, far smaller"]
        (doubt,) = slide.doubts
        assert doubt.code == "picture-left-out"
        assert "(0 macro image, 400 x 300 px), which was left out: called so" in doubt.text


def test_a_small_one_that_is_left_out_leaves_no_doubt(tmp_path):
    path = several(tmp_path / "a.zarr", (530, 390), (200, 150), names=["slide", "macro"])
    with open_slide(path) as slide:
        assert [fact.name for fact in slide.facts].count("picture left out") == 1
        assert slide.doubts == ()


def with_series(path, *names):
    zarr.open_group(path, mode="a", zarr_format=2).create_group("OME").attrs["series"] = names
    return path


@pytest.mark.parametrize("listed", [False, True])
def test_more_pictures_than_can_be_looked_at_are_refused(tmp_path, monkeypatch, listed):
    monkeypatch.setattr(ngff_metadata, "MOST_PICTURES", 3)
    path = several(tmp_path / "a.zarr", (60, 50), *[(12, 10)] * 2)
    open_slide(path).close()
    path = several(tmp_path / "b.zarr", (60, 50), *[(12, 10)] * 2, (600, 500))
    if listed:
        with_series(path, *"0123")
    assert "holds more than 3 pictures; name the one" in refusal(path, "several-areas")


@pytest.mark.parametrize("name", ["../b", "/etc", 1, None])
def test_a_picture_that_lies_elsewhere_is_refused(tmp_path, name):
    path = with_series(several(tmp_path / "a.zarr", (60, 50), (600, 500)), "0", name)
    assert f"names {name!r} as a picture" in refusal(path)


def test_two_areas_are_refused_and_each_can_be_named(tmp_path):
    path = several(tmp_path / "a.zarr", (530, 390), (500, 380))
    assert "name the one that is meant" in refusal(path, "several-areas")
    with open_slide(path / "1") as slide:
        assert slide.size.width == 500


def small(folder, **options):
    return write_ngff(folder / "a.zarr", picture(60, 40), levels=1, **options)


def changed(folder, **entries):
    return edited(small(folder), "0/.zarray", **entries)


def with_multiscale(folder, **entries):
    return small(folder, edit=entries)


def in_three(folder, **entries):
    return edited(small(folder, version="0.5"), "0/zarr.json", **entries)


REFUSED = {
    "16 bits": (lambda f: changed(f, dtype="<u2"), "its samples are '<u2', not of 8 bits"),
    "huge": (lambda f: changed(f, shape=[1, 3, 1, 2**40, 2**40]), "which can't be"),
    "many chunks": (lambda f: changed(f, chunks=[1, 1, 1, 1, 1], shape=[1, 3, 1, 2**20, 2**20]),
                    "chunks; it is damaged"),
    "large chunk": (lambda f: changed(f, chunks=[1, 3, 1, 2**16, 2**16]), "too large to hold"),
    "no axes": (lambda f: changed(f, chunks=[128, 128]), "has 5 axes, and chunks of 2"),
    "filters": (lambda f: changed(f, filters=[{"id": "delta"}]), "its chunks pass filters"),
    "codec": (lambda f: changed(f, compressor={"id": "jpegxl"}), "its codec 'jpegxl' is not known"),
    "fill": (lambda f: changed(f, fill_value=300), "its fill value is 300"),
    "time": (lambda f: changed(f, shape=[2, 3, 1, 40, 60]), "2 points in time"),
    "channels": (lambda f: changed(f, shape=[1, 4, 1, 40, 60]), "has 4 channels"),
    "planes": (lambda f: changed(f, shape=[1, 3, 5000, 40, 60]), "claims 5000 focal planes"),
    "format": (lambda f: changed(f, zarr_format=7), "is of format 7"),
    "codec 3": (
        lambda f: in_three(f, codecs=[{"name": "bytes"}, {"name": "sperr"}]),
        "its codec 'sperr' is not known",
    ),
    "grid": (lambda f: in_three(f, chunk_grid={"name": "rectangular"}), "its chunk_grid is"),
    "extension": (lambda f: in_three(f, spooky={"name": "x"}), "has spooky, which is not known"),
    "names": (
        lambda f: in_three(f, dimension_names=["t", "z", "c", "y", "x"]),
        "calls its axes",
    ),
    "climbing": (lambda f: with_multiscale(f, datasets=[{"path": "../b/0"}]), "no place below"),
    "absolute": (lambda f: with_multiscale(f, datasets=[{"path": "/etc"}]), "no place below"),
    "no path": (lambda f: with_multiscale(f, datasets=[{}]), "names None as a level"),
    "no levels": (lambda f: with_multiscale(f, datasets=[]), "name no datasets"),
    "version": (lambda f: with_multiscale(f, version="0.3"), "is of NGFF 0.3"),
    "axes": (lambda f: with_multiscale(f, axes=["t", "c", "z", "y", "x"]), "no axes by name"),
    "axis": (
        lambda f: with_multiscale(f, axes=[{"name": n} for n in "qczyx"]),
        "a picture has x and y",
    ),
    "axis of a list": (
        lambda f: with_multiscale(f, axes=[{"name": [n]} for n in "tczyx"]),
        "a picture has x and y",
    ),
    "number": (
        lambda f: with_multiscale(
            f, coordinateTransformations=[{"type": "scale", "scale": [1, 1, 1, 1, 10**400]}]
        ),
        "is none of 5 numbers",
    ),
    "transform": (
        lambda f: with_multiscale(f, coordinateTransformations=[{"type": "rotation"}]),
        "its coordinate transformations are ['rotation']",
    ),
    "NaN": (
        lambda f: with_multiscale(
            f, coordinateTransformations=[{"type": "scale", "scale": [1, 1, 1, 1, float("nan")]}]
        ),
        "its scale [1, 1, 1, 1, nan] is none of 5 numbers",
    ),
}  # fmt: skip


@pytest.mark.parametrize("how", REFUSED)
def test_what_is_not_read_is_refused_in_one_line(tmp_path, how):
    make, told = REFUSED[how]
    assert told in refusal(make(tmp_path))


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize(
    ("colors", "codes"),
    [
        (("FF0000", "00FF00", "0000FF"), []),
        (("ff0000", "00ff00", "0000ff"), []),
        (None, ["channels-as-rgb"]),
        ((None, None, None), ["channels-as-rgb"]),
        (("FFFFFF", "FFFFFF", "FFFFFF"), ["channels-as-rgb"]),
        (("FFFFFF",), ["channels-as-rgb"]),
        (("FF0000", None, "0000FF"), ["channels-as-rgb"]),
        (("FF0000", "00FF00"), ["channels-as-rgb"]),
    ],
)
def test_channels_of_which_nothing_is_said_are_told(tmp_path, version, colors, codes):
    with open_slide(small(tmp_path, version=version, colors=colors)) as slide:
        assert [doubt.code for doubt in slide.doubts] == codes


@pytest.mark.parametrize(
    "colors",
    [
        ("0000FF", "00FF00", "FF0000"),
        ("00FF00", None, "FF0000"),
        (None, None, "FF0000"),
        ("FF0000", "00FF00", "0000FF", "FFFFFF"),
    ],
)
def test_channels_of_other_colours_are_refused(tmp_path, colors):
    assert "not red, green and blue" in refusal(small(tmp_path, colors=colors), "channels")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "is no JSON"),
        ("[]", "is no object"),
        ("[" * 100_000, "is no JSON"),
        ("", "is no JSON"),
    ],
)
def test_broken_metadata_is_told(tmp_path, text, told):
    path = small(tmp_path)
    (path / ".zattrs").write_text(text)
    assert told in refusal(path)


def test_a_plate_and_other_zarrs_are_no_slides(tmp_path):
    group = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=2)
    assert "is a Zarr without a picture" in refusal(tmp_path / "a.zarr", "kind-not-read")
    group.attrs["plate"] = {}
    assert "is a plate of wells" in refusal(tmp_path / "a.zarr")


def test_a_zip_is_what_its_ending_says(tmp_path):
    path = tmp_path / "a.ozx"
    path.write_bytes(b"PK\3\4" + bytes(100))
    assert "is no whole ZIP archive" in refusal(path)
    path.write_bytes(b"%PDF-1.7" + bytes(100))
    assert "promises an OME-Zarr in a ZIP, but its content is a PDF" in refusal(path)
