"""Focal planes of NDPI and Aperio: the sharpest is read pixel by pixel, and all are named."""

import io

import numpy as np
import openslide
import pytest
import tifffile
from PIL import Image, ImageFilter
from slidefiles import MPP, cut, encode_tile, halved, picture, spoil_tile, write_aperio
from vendorfiles import encode_jpeg, write_ndpi

from pipeline.errors import ReadError, SlideError
from pipeline.geometry import Rect, Size
from pipeline.slides.readers.tiff_file import open_file
from pipeline.slides.readers.vendor import VendorReader
from pipeline.slides.slide import open_slide

SHARP = picture(512, 384, seed=1)
BLURRED = np.asarray(Image.fromarray(SHARP).filter(ImageFilter.GaussianBlur(8)))
WHOLE = Rect(0, 0, 512, 384)


def decode(jpeg):
    return np.asarray(Image.open(io.BytesIO(jpeg)))


def write_aperio_planes(path, planes, order=None, compression="jpeg"):
    """An Aperio slide whose pages follow each other plane by plane, each with two levels."""
    with tifffile.TiffWriter(path) as writer:
        for z, image, level in order or [(z, i, n) for z, i in planes.items() for n in range(2)]:
            shown = halved(image, level)
            writer.write(
                (encode_tile(part, compression, "rgb", {}) for part in cut(shown, 64)),
                shape=shown.shape,
                dtype=np.uint8,
                tile=(64, 64),
                photometric="rgb",
                compression=compression,
                compressionargs={"outcolorspace": "rgb"} if compression == "jpeg" else None,
                description="Aperio Image Library v12.0\r\n512x384 [0,0 512x384] (64x64) JPEG/RGB"
                f"|AppMag = 40|MPP = {MPP}" + (f"|OffsetZ = {z}" if z is not None else ""),
                metadata=None,
            )
    return path


def named(slide):
    return {fact.name: fact.value for fact in slide.facts}.get("focal plane")


def codes(slide):
    return [doubt.code for doubt in slide.doubts]


class TestNdpi:
    @pytest.mark.parametrize(
        "keys",
        [{}, {"make": False}, {"restart": 16}, {"restart": 16, "lists": True}],
        ids=["one piece", "without a make", "restarts", "restarts and their list"],
    )
    @pytest.mark.parametrize("sharp", [-2000, 0, 2000])
    def test_sharpest_is_read(self, tmp_path, keys, sharp):
        planes = {z: SHARP if z == sharp else BLURRED for z in (-2000, 0, 2000)}
        with open_slide(write_ndpi(tmp_path / "a.ndpi", planes, **keys)) as slide:
            assert slide.format == "hamamatsu"
            assert (slide.size, slide.objective) == (Size(512, 384), 40)
            assert slide.mpp == pytest.approx(MPP)
            assert codes(slide) == ["focal-planes"]
            assert named(slide) == f"z = {sharp / 1000:g} µm, one of 3"
            shown = slide.read_level(0, WHOLE)
            wanted = decode(encode_jpeg(SHARP, keys.get("restart", 0)))
            np.testing.assert_array_equal(shown, wanted)
            part = Rect(37, 101, 200, 150)
            np.testing.assert_array_equal(slide.read_level(0, part), wanted[101:251, 37:237])
            coarse = next(n for n, level in enumerate(slide.levels) if level.downsample == 4)
            small = slide.read_level(coarse, Rect(0, 0, 128, 96)).astype(int)
            assert np.abs(small - halved(SHARP, 2)).mean() < 5

    def test_damage_is_found_between_restarts(self, tmp_path):
        planes = {0: SHARP, 1000: BLURRED}
        path = write_ndpi(tmp_path / "a.ndpi", planes, restart=16, lists=True)
        with open_file(path) as file:
            spoil_tile(path, file.pages[1].aspage(), 5)
        with open_slide(path) as slide:
            plane = slide.on_plane(1)
            whole = plane.read_level(0, Rect(0, 16, 512, 368))
            assert np.abs(whole.astype(int) - BLURRED[16:]).mean() < 3
            with pytest.raises(ReadError, match=r"a\.ndpi: level 0: the tile at byte .* damaged"):
                plane.read_level(0, WHOLE)

    def test_names_all_others(self, tmp_path):
        planes = dict.fromkeys(range(-5000, 5000, 1000), BLURRED) | {3000: SHARP}
        with open_slide(write_ndpi(tmp_path / "a.ndpi", planes, levels=1)) as slide:
            text = slide.doubts[0].text
            assert "10 focal planes; z = 3 µm is read" in text
            assert "z = -5 µm, z = -4 µm" in text
            assert text.endswith("and 1 more")

    def test_one_plane_is_left_to_openslide(self, tmp_path):
        path = write_ndpi(tmp_path / "a.ndpi", {0: SHARP})
        with open_slide(path) as slide:
            assert (slide.reader, slide.doubts, named(slide)) == ("openslide", (), None)
            wanted = VendorReader(path).read(0, WHOLE)
            np.testing.assert_array_equal(slide.read_level(0, WHOLE), wanted)

    def test_equally_sharp_ones_are_left_to_openslide(self, tmp_path):
        planes = {-1000: SHARP, 0: SHARP, 1000: SHARP}
        with open_slide(write_ndpi(tmp_path / "a.ndpi", planes)) as slide:
            assert slide.reader == "openslide"
            assert named(slide) == "z = 0 µm, one of 3"

    def test_what_can_not_be_decoded_is_not_compared(self, tmp_path, monkeypatch):
        monkeypatch.setattr("pipeline.slides.readers.vendor_planes.CHEAP_PIECE", 0)
        path = write_ndpi(tmp_path / "a.ndpi", {0: BLURRED, 1000: SHARP})
        with open_slide(path) as slide:
            assert slide.reader == "openslide"
            assert "the one that the file puts first" in slide.doubts[0].text
            assert "not looked at: z = 1 µm" in slide.doubts[0].text

    def test_large_pieces_are_compared_on_a_coarser_level(self, tmp_path, monkeypatch):
        monkeypatch.setattr("pipeline.slides.readers.vendor_planes.CHEAP_PIECE", 128 * 96 * 3)
        with open_slide(write_ndpi(tmp_path / "a.ndpi", {0: BLURRED, 1000: SHARP})) as slide:
            assert named(slide) == "z = 1 µm, one of 2"

    def test_restarts_that_do_not_divide_the_rows(self, tmp_path):
        planes, restart = {0: BLURRED, 1000: SHARP}, {0: 16, 1000: 50}
        path = write_ndpi(tmp_path / "a.ndpi", planes, restart=restart, lists=True)
        with open_slide(path) as slide:
            assert slide.reader == "openslide"
            assert "the one that the file puts first" in slide.doubts[0].text

    def test_lists_of_restarts_makeparts_of(self, tmp_path):
        planes = {0: SHARP, 1000: BLURRED}
        path = write_ndpi(tmp_path / "a.ndpi", planes, restart=16, lists=True)
        with open_file(path) as file:
            assert (file.pages[1].tilewidth, file.pages[1].tilelength) == (128, 8)

    def test_none_is_nominal(self, tmp_path):
        with pytest.raises(SlideError) as caught:
            open_slide(write_ndpi(tmp_path / "a.ndpi", {1000: BLURRED, 2000: SHARP}))
        assert caught.value.code == "vendor-refused"

    def test_under_another_ending(self, tmp_path):
        with open_slide(write_ndpi(tmp_path / "a.tif", {0: BLURRED, 1000: SHARP})) as slide:
            assert named(slide) == "z = 1 µm, one of 2"

    def test_truncated(self, tmp_path):
        path = write_ndpi(tmp_path / "a.ndpi", {0: BLURRED, 1000: SHARP})
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        with pytest.raises(SlideError, match="truncated"):
            open_slide(path)


class TestAperio:
    def test_damage_is_found(self, tmp_path):
        path = write_aperio_planes(tmp_path / "a.svs", {0: SHARP, 1: BLURRED})
        with tifffile.TiffFile(path) as file:
            spoil_tile(path, file.pages[2].aspage(), 9)
        with open_slide(path) as slide:
            plane = slide.on_plane(1)
            assert plane.read_level(0, Rect(0, 0, 512, 64)).std() > 10
            with pytest.raises(ReadError, match=r"a\.svs: level 0: the tile at byte .* damaged"):
                plane.read_level(0, WHOLE)

    @pytest.mark.parametrize("sharp", [0, -2, 2.5])
    def test_sharpest_is_read(self, tmp_path, sharp):
        planes = {z: SHARP if z == sharp else BLURRED for z in (0, -2, 2.5)}
        with open_slide(write_aperio_planes(tmp_path / "a.svs", planes)) as slide:
            assert (slide.format, slide.size, slide.mpp) == ("aperio", Size(512, 384), MPP)
            assert slide.objective == 40
            assert codes(slide) == ["focal-planes"]
            assert named(slide) == f"z = {sharp:g} µm, one of 3"
            assert [level.downsample for level in slide.levels] == [1, 2]
            for level in range(2):
                size = slide.levels[level].size
                shown = slide.read_level(level, Rect(0, 0, size.width, size.height))
                assert np.abs(shown.astype(int) - halved(SHARP, level)).mean() < 2

    def test_levels_of_one_plane_only(self, tmp_path):
        order = [(None, BLURRED, 0), (None, BLURRED, 1), (3, SHARP, 0)]
        with open_slide(write_aperio_planes(tmp_path / "a.svs", {}, order)) as slide:
            assert named(slide) == "z = 3 µm, one of 2"
            assert [level.downsample for level in slide.levels] == [1]  # none of another focus

    def test_a_plane_that_has_coarser_levels_only(self, tmp_path):
        order = [(0, SHARP, 0), (2, BLURRED, 1)]
        with open_slide(write_aperio_planes(tmp_path / "a.svs", {}, order)) as slide:
            assert [level.downsample for level in slide.levels] == [1]
            assert slide.doubts[0].text.endswith("not looked at: z = 2 µm (coarser only)")

    def test_two_full_images_without_a_word(self, tmp_path):
        order = [(None, SHARP, 0), (None, picture(512, 384, seed=2), 0), (None, SHARP, 1)]
        with pytest.raises(SlideError, match=r"a\.svs: holds 2 images of its full size") as caught:
            open_slide(write_aperio_planes(tmp_path / "a.svs", {}, order))
        assert caught.value.code == "several-areas"

    @pytest.mark.parametrize("z", [None, 0, 2])
    def test_one_plane_is_left_alone(self, tmp_path, z):
        with open_slide(write_aperio_planes(tmp_path / "a.svs", {z: SHARP})) as slide:
            assert (slide.reader, codes(slide)) == ("imagecodecs", [])

    def test_nonsense_is_no_plane(self, tmp_path):
        order = [("much", SHARP, 0), ("1e999", SHARP, 1)]
        with open_slide(write_aperio_planes(tmp_path / "a.svs", {}, order)) as slide:
            assert codes(slide) == []

    def test_colours_that_are_not_read_here(self, tmp_path):
        planes, codec = {0: BLURRED, 2: SHARP}, "aperio_jp2000_ycbc"
        with pytest.raises(SlideError, match=r"2 focal planes.*colours.*export") as caught:
            open_slide(write_aperio_planes(tmp_path / "a.svs", planes, compression=codec))
        assert caught.value.code == "planes-unreadable"


@pytest.mark.parametrize(
    ("stated", "count"),
    [
        ({"ventana.Z-layers": "3"}, 3),
        ({"zeiss.Information.Image.SizeZ": "5"}, 5),
        (
            {
                "mirax.HIERARCHICAL.HIER_0_NAME": "Slide zoom level",
                "mirax.HIERARCHICAL.HIER_0_COUNT": "9",
                "mirax.HIERARCHICAL.HIER_1_NAME": "Microscope focus level",
                "mirax.HIERARCHICAL.HIER_1_COUNT": "7",
            },
            7,
        ),
        ({"ventana.Z-layers": "1"}, 1),
        ({"ventana.Z-layers": "inf"}, 1),
        ({"ventana.Z-layers": "many"}, 1),
    ],
)
def test_planes_that_only_properties_name(tmp_path, monkeypatch, stated, count):
    real = openslide.OpenSlide.properties.fget
    added = property(lambda self: {**real(self), **stated})
    monkeypatch.setattr(openslide.OpenSlide, "properties", added)
    header = VendorReader(write_aperio(tmp_path / "a.svs", SHARP)).header
    assert [doubt.code for doubt in header.doubts] == ["focal-planes"] * (count > 1)
    if count > 1:
        assert f"{count} focal planes; plane 1 is read" in header.doubts[0].text


class TestOthers:
    @pytest.mark.parametrize("sharp", [0, 2000])
    def test_ndpi_gives_each_plane(self, tmp_path, sharp):
        planes = {z: SHARP if z == sharp else blurred(abs(z) / 1000 + 2) for z in (-2000, 0, 2000)}
        with open_slide(write_ndpi(tmp_path / "a.ndpi", planes, restart=16)) as slide:
            assert [plane.z_um for plane in slide.planes] == [-2, 0, 2]
            assert slide.plane == (1 if sharp == 0 else 2)
            for index, image in enumerate(planes.values()):
                shown = slide.on_plane(index).read_level(0, WHOLE)
                np.testing.assert_array_equal(shown, decode(encode_jpeg(image, 16)))

    def test_aperio_gives_each_plane(self, tmp_path):
        planes = {-1: BLURRED, 0: blurred(2), 1: SHARP}
        path = write_aperio_planes(tmp_path / "a.svs", planes, compression="deflate")
        with open_slide(path) as slide:
            assert slide.plane == 2
            for index, image in enumerate(planes.values()):
                np.testing.assert_array_equal(slide.on_plane(index).read_level(0, WHOLE), image)

    def test_what_openslide_shows_alone(self, tmp_path, monkeypatch):
        """Where planes can't be decoded here, OpenSlide's is the only one."""
        monkeypatch.setattr("pipeline.slides.readers.vendor_planes.CHEAP_PIECE", 0)
        planes = {0: SHARP, 1000: BLURRED}
        with open_slide(write_ndpi(tmp_path / "a.ndpi", planes)) as slide:
            assert [plane.readable for plane in slide.planes] == [True, False]
            with pytest.raises(SlideError, match="can't be read"):
                slide.on_plane(1)


def blurred(radius):
    return np.asarray(Image.fromarray(SHARP).filter(ImageFilter.GaussianBlur(radius)))
