"""Any slide is opened with its right size and scale, and read alike at any scale."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from slidefiles import (
    MPP,
    array_slide,
    break_tiles,
    halved,
    picture,
    truncate,
    write_aperio,
    write_flat,
    write_image,
    write_pyramid,
    write_sub_ifds,
)

from configs import ConfigError
from pipeline.errors import ReadError, SlideError
from pipeline.geometry import Rect, Size
from pipeline.slides import slide as slide_module
from pipeline.slides.readers import segments
from pipeline.slides.readers.segments import ShrunkJpegs
from pipeline.slides.readers.tiff import TiffReader
from pipeline.slides.readers.vendor import VendorReader
from pipeline.slides.slide import IMAGE_SUFFIXES, SLIDE_SUFFIXES, open_slide

IMAGE = picture(333, 217)
WHOLE = Rect(0, 0, 333, 217)


def read_slowly(image, x, y, size, downsample, background=255):
    """Each output pixel by the definition of the triangle filter, from the image as it is."""

    def weights(origin, count):
        support = max(downsample, 1)
        centers = origin + (np.arange(count) + 0.5) * downsample
        places = np.arange(np.floor(centers[0] - support), centers[-1] + support).astype(int)
        weight = np.maximum(0, 1 - np.abs(places + 0.5 - centers[:, None]) / support)
        return places, weight / weight.sum(axis=1, keepdims=True)

    columns, across = weights(x, size.width)
    rows, down = weights(y, size.height)
    inside = np.isin(rows, range(image.shape[0]))[:, None] & np.isin(columns, range(image.shape[1]))
    padded = image[rows.clip(0, image.shape[0] - 1)][:, columns.clip(0, image.shape[1] - 1)]
    padded = np.where(inside[..., None], padded, background).astype(float)
    return np.einsum("ri,ijc,kj->rkc", down, padded, across, optimize=True)


class TestOpening:
    @pytest.mark.parametrize(
        ("write", "name", "kind", "level_count"),
        [
            (write_pyramid, "a.tif", "tiff", 3),
            (
                lambda path, image: write_pyramid(path, image, compression="jpeg2000"),
                "a",
                "tiff",
                3,
            ),
            (write_flat, "a.tiff", "tiff", 1),
            (write_sub_ifds, "a.btf", "tiff", 3),
            (lambda path, image: write_sub_ifds(path, image, ome=True), "a.tif", "ome-tiff", 3),
        ],
    )
    def test_files_that_know_their_scale(self, tmp_path, write, name, kind, level_count):
        with open_slide(write(tmp_path / name, IMAGE)) as slide:
            assert slide.path == tmp_path / name
            assert slide.format == kind
            assert slide.size == Size(333, 217)
            assert [level.downsample for level in slide.levels] == [1, 2, 4][:level_count]
            assert slide.mpp == pytest.approx(MPP)
            assert slide.mpp_source == "file"
            assert slide.bounds == WHOLE
            assert slide.doubts == ()
            assert np.abs(slide.read_level(0, WHOLE).astype(int) - IMAGE).max() < 4

    @pytest.mark.parametrize("suffix", sorted(IMAGE_SUFFIXES))
    def test_plain_images_need_a_scale(self, tmp_path, suffix):
        path = write_image(tmp_path / f"a{suffix}", IMAGE)
        with pytest.raises(SlideError, match=rf"a{suffix}: .*--mpp"):
            open_slide(path)
        with open_slide(path, 0.3) as slide:
            assert (slide.size, slide.mpp, slide.mpp_source) == (Size(333, 217), 0.3, "argument")

    def test_colours_that_only_openslide_knows(self, tmp_path):
        cmyk = np.dstack([IMAGE, np.zeros_like(IMAGE[..., 0])])
        path = write_flat(tmp_path / "a.tif", cmyk, photometric="separated", tile=(64, 64))
        with open_slide(path) as slide:
            assert slide.format == "generic-tiff"
            np.testing.assert_array_equal(slide.read_level(0, WHOLE), 255 - IMAGE)
            assert [doubt.code for doubt in slide.doubts] == ["printing-inks"]

    @pytest.mark.parametrize("name", ["zellen über.tif", "a b\tc.tif", "new\nline.tif", "🔬.tif"])
    def test_names(self, tmp_path, name):
        path = write_pyramid(tmp_path / name, IMAGE)
        with open_slide(path) as slide:
            assert slide.size == Size(333, 217)
        with pytest.raises(SlideError, match="--mpp") as caught:
            open_slide(write_pyramid(path, IMAGE, mpp=None))
        assert "\n" not in str(caught.value)

    def test_suffixes_are_lower_case_and_kept_apart(self):
        assert not SLIDE_SUFFIXES & IMAGE_SUFFIXES
        assert all(suffix == suffix.lower() for suffix in SLIDE_SUFFIXES | IMAGE_SUFFIXES)
        assert {".svs", ".ndpi", ".mrxs", ".scn", ".bif", ".vms", ".dcm"} < SLIDE_SUFFIXES


class TestScale:
    def test_absurd_scale(self, tmp_path):
        path = write_pyramid(tmp_path / "a.tif", IMAGE, mpp=352.8)
        with pytest.raises(SlideError, match=r"a\.tif: .*absurd 352\.8.*--mpp"):
            open_slide(path)
        with open_slide(path, 0.25) as slide:
            assert (slide.mpp, slide.mpp_source) == (0.25, "argument")
            assert len(slide.doubts) == 1

    def test_pixels_that_are_not_square(self, tmp_path):
        with pytest.raises(SlideError, match="not square"):
            open_slide(write_pyramid(tmp_path / "a.tif", IMAGE, mpp=(0.25, 0.5)))

    def test_wrong_argument_comes_before_the_file(self):
        with pytest.raises(ConfigError, match="--mpp 0"):
            open_slide(Path("nowhere.svs"), 0)

    def test_refused_slide_is_closed(self, tmp_path, monkeypatch):
        closed = []
        monkeypatch.setattr(TiffReader, "close", lambda self: closed.append(self))
        with pytest.raises(SlideError):
            open_slide(write_pyramid(tmp_path / "a.tif", IMAGE, mpp=None))
        assert closed


class TestBadFiles:
    def test_missing(self, tmp_path):
        with pytest.raises(SlideError, match=r"a\.svs: no such file"):
            open_slide(tmp_path / "a.svs")

    def test_folder(self, tmp_path):
        (tmp_path / "a.svs").mkdir()
        with pytest.raises(SlideError, match=r"a\.svs: is a folder"):
            open_slide(tmp_path / "a.svs")

    def test_empty(self, tmp_path):
        (tmp_path / "a.svs").touch()
        with pytest.raises(SlideError, match=r"a\.svs: is empty"):
            open_slide(tmp_path / "a.svs")

    def test_text(self, tmp_path):
        (tmp_path / "a.svs").write_text("not a slide")
        with pytest.raises(SlideError, match=r"a\.svs: not a slide"):
            open_slide(tmp_path / "a.svs")

    def test_no_permission(self, tmp_path, monkeypatch):
        def refuse(*_args, **_keys):
            raise PermissionError(13, "Permission denied")

        path = write_pyramid(tmp_path / "a.tif", IMAGE)
        monkeypatch.setattr(Path, "open", refuse)
        with pytest.raises(SlideError, match=r"a\.tif: can't be read: Permission denied"):
            open_slide(path)

    @pytest.mark.skipif(
        not hasattr(os, "geteuid") or os.geteuid() == 0, reason="nothing is forbidden to root"
    )
    def test_no_permission_for_real(self, tmp_path):
        path = write_pyramid(tmp_path / "a.tif", IMAGE)
        path.chmod(0)
        with pytest.raises(SlideError, match="can't be read"):
            open_slide(path)

    @pytest.mark.parametrize("share", [0.1, 0.6, 0.99])
    @pytest.mark.parametrize("write", [write_pyramid, write_flat, write_sub_ifds])
    def test_truncated(self, tmp_path, write, share):
        with pytest.raises(SlideError, match=r"a\.tif: truncated.*copy it again"):
            open_slide(truncate(write(tmp_path / "a.tif", IMAGE), share))

    def test_open_slide_does_not_pickle(self, tmp_path):
        with (
            open_slide(write_pyramid(tmp_path / "a.tif", IMAGE)) as slide,
            pytest.raises(TypeError, match="pickle"),
        ):
            pickle.dumps(slide)


class TestReadLevel:
    def test_beyond_the_slide_is_background(self, tmp_path):
        with open_slide(write_image(tmp_path / "a.png", IMAGE), 1) as slide:
            slide.background = (1, 2, 3)
            shown = slide.read_level(0, Rect(-20, 200, 50, 40))
            assert (shown[:, :20] == (1, 2, 3)).all()
            assert (shown[17:] == (1, 2, 3)).all()
            np.testing.assert_array_equal(shown[:17, 20:], IMAGE[200:, :30])
            assert (slide.read_level(0, Rect(1000, 1000, 5, 6)) == (1, 2, 3)).all()

    def test_of_a_coarser_level(self):
        slide = array_slide(IMAGE, levels=3)
        wanted = halved(IMAGE, 2)[3:40, 2:60]
        np.testing.assert_array_equal(slide.read_level(2, Rect(2, 3, 58, 37)), wanted)


class TestBestLevel:
    @pytest.mark.parametrize(
        ("downsample", "level"),
        [(0.5, 0), (1, 0), (1.9, 0), (1.97, 1), (2, 1), (3.9, 1), (4, 2), (1000, 2)],
    )
    def test_coarsest_that_is_fine_enough(self, downsample, level):
        assert array_slide(IMAGE, levels=3).sources_for(downsample)[0].level == level


class TestShrunkSources:
    """JPEG tiles are decoded at a half or a quarter where that is fine enough."""

    @pytest.fixture(params=[write_pyramid, write_aperio], ids=["tiff", "aperio"])
    def path(self, request, tmp_path):
        return request.param(tmp_path / "a.svs", picture(1001, 700), levels=1)

    @pytest.mark.parametrize(
        ("downsample", "shrink"), [(0.5, 1), (1.9, 1), (1.97, 2), (2, 2), (3.9, 2), (4, 4), (50, 4)]
    )
    def test_coarsest_that_is_fine_enough(self, path, downsample, shrink):
        with open_slide(path) as slide:
            source = slide.sources_for(downsample)[0]
            assert (source.shrink, source.downsample) == (shrink, shrink)
            assert source.size == Size(1001 // shrink, 700 // shrink)

    def test_levels_of_the_file_come_first(self, tmp_path):
        with open_slide(write_pyramid(tmp_path / "a.tif", IMAGE, levels=2)) as slide:
            sources = [(source.level, source.shrink) for source in slide.sources_for(8)]
            assert sources == [(1, 4), (1, 2), (0, 4), (1, 1), (0, 2), (0, 1)]

    @pytest.mark.parametrize("downsample", [2, 2.3, 4, 7.9])
    def test_shows_what_the_whole_tiles_show(self, path, monkeypatch, downsample):
        place = (-8, 12, Size(150, 90), downsample)
        with open_slide(path) as slide:
            shown = slide.read_region(*place).astype(int)
        monkeypatch.setattr(segments, "SHRINKS", ())
        with open_slide(path) as slide:
            assert slide.sources_for(downsample)[0].shrink == 1
            assert np.abs(shown - slide.read_region(*place))[5:-5, 8:-5].mean() < 2

    def test_a_tile_that_only_the_whole_decoder_reads(self, path, monkeypatch):
        with open_slide(path) as slide:
            expected = slide.read_region(40, 40, Size(100, 100), 2).astype(int)
        monkeypatch.setattr(ShrunkJpegs, "agrees", lambda *_: True)
        monkeypatch.setattr(ShrunkJpegs, "decode_bytes", lambda *_: 1 / 0)
        with open_slide(path) as slide:
            assert slide.sources_for(2)[0].shrink == 2
            shown = slide.read_region(40, 40, Size(100, 100), 2)
            assert np.abs(shown - expected).mean() < 2

    @pytest.mark.parametrize("downsample", [2, 2.0284, 4])
    def test_overlapping_regions_are_equal(self, path, downsample):
        with open_slide(path) as slide:
            first = slide.read_region(0, 0, Size(140, 130), downsample).astype(int)
            moved = slide.read_region(7 * downsample, 5 * downsample, Size(100, 90), downsample)
            assert np.abs(first[5:95, 7:107] - moved).max() <= (0 if downsample % 1 == 0 else 1)


class TestReadRegion:
    @given(
        x=st.floats(-30, 330),
        y=st.floats(-30, 200),
        downsample=st.floats(0.3, 7),
        width=st.integers(1, 40),
        height=st.integers(1, 40),
    )
    def test_is_the_triangle_filter_over_the_whole_slide(self, x, y, downsample, width, height):
        size = Size(width, height)
        shown = array_slide(IMAGE).read_region(x, y, size, downsample)
        assert shown.shape == (height, width, 3)
        wanted = read_slowly(IMAGE, x, y, size, downsample)
        assert np.abs(shown - wanted).max() < 2

    @given(downsample=st.floats(2, 12), x=st.floats(0, 200), y=st.floats(0, 100))
    def test_pyramid_is_read_in_its_own_pixels(self, downsample, x, y):
        slide = array_slide(IMAGE, levels=3)
        source = slide.sources_for(downsample)[0]
        level, native = source.level, source.downsample
        size = Size(9, 8)
        shown = slide.read_region(x, y, size, downsample)
        coarse = halved(IMAGE, level)
        wanted = read_slowly(coarse, x / native, y / native, size, downsample / native)
        assert np.abs(shown - wanted).max() < 2

    @given(
        step=st.tuples(st.integers(0, 20), st.integers(0, 20)),
        x=st.floats(-20, 150),
        downsample=st.floats(0.5, 5),
    )
    @example(step=(1, 1), x=0.0, downsample=0.8)
    def test_overlapping_regions_agree(self, step, x, downsample):
        slide = array_slide(IMAGE, levels=2)
        right, down = step
        first = slide.read_region(x, 7, Size(40, 40), downsample)
        moved = x + right * downsample, 7 + down * downsample
        second = slide.read_region(*moved, Size(40, 40), downsample)
        difference = first[down:, right:].astype(int) - second[: 40 - down, : 40 - right]
        # Pillow's boxes are of single precision, and each of its two passes rounds to whole values.
        assert np.abs(difference).max() <= 2

    @pytest.mark.parametrize("downsample", [1, 2, 2.5, 4, 6.25])
    def test_overlapping_regions_are_equal_at_round_scales(self, tmp_path, downsample):
        with open_slide(write_pyramid(tmp_path / "a.tif", IMAGE)) as slide:
            first = slide.read_region(8, 12, Size(40, 30), downsample)
            second = slide.read_region(
                8 + 7 * downsample, 12 + 5 * downsample, Size(40, 30), downsample
            )
            np.testing.assert_array_equal(first[5:, 7:], second[:-5, :-7])

    def test_whole_pixels_are_left_as_they_are(self):
        shown = array_slide(IMAGE).read_region(30, 40, Size(50, 60), 1)
        np.testing.assert_array_equal(shown, IMAGE[40:100, 30:80])

    def test_far_outside_is_background(self):
        assert (array_slide(IMAGE).read_region(1e6, -1e6, Size(7, 5), 3.3) == 255).all()

    def test_large_region_of_a_fine_level_is_read_in_blocks(self, monkeypatch):
        slide = array_slide(IMAGE)
        at_once = slide.read_region(5, 3, Size(40, 30), 7.3)
        monkeypatch.setattr(slide_module, "BLOCK", 50)
        regions = []
        real = slide._reader.read
        monkeypatch.setattr(slide._reader, "read", lambda *a: regions.append(a[1]) or real(*a))
        in_blocks = slide.read_region(5, 3, Size(40, 30), 7.3)
        assert np.abs(at_once.astype(int) - in_blocks).max() <= 1
        assert max(region.width for region in regions) < 50 + 2 * 9

    def test_broken_coarse_level_is_made_up_for_by_a_finer_one(self, tmp_path):
        path = write_pyramid(tmp_path / "a.tif", IMAGE, compression="lzw")
        with open_slide(break_tiles(path, range(6), level=1)) as slide:
            with pytest.raises(ReadError):
                slide.read_level(1, Rect(0, 0, 10, 10))
            shown = slide.read_region(40, 40, Size(40, 40), 2)
            assert np.abs(shown - read_slowly(IMAGE, 40, 40, Size(40, 40), 2)).max() < 2

    def test_broken_finest_level_is_not_made_up_for(self, tmp_path):
        path = write_pyramid(tmp_path / "a.tif", IMAGE, compression="lzw")
        with open_slide(break_tiles(path, [0])) as slide:
            with pytest.raises(ReadError, match="level 0"):
                slide.read_region(0, 0, Size(40, 40), 1)
            shown = slide.read_region(64, 0, Size(200, 200), 1)
            np.testing.assert_array_equal(shown, IMAGE[:200, 64:264])


class TestOverview:
    @pytest.mark.parametrize("levels", [1, 3])
    @pytest.mark.parametrize("downsample", [1, 3.7, 8, 500])
    def test_is_one_large_region(self, levels, downsample):
        slide = array_slide(IMAGE, levels)
        overview, readable = slide.overview(downsample)
        size = Size(*(int(np.ceil(side / downsample)) for side in (333, 217)))
        assert overview.shape == (size.height, size.width, 3)
        assert readable.shape == (size.height, size.width)
        assert readable.all()
        wanted = slide.read_region(0, 0, size, downsample)
        assert np.abs(overview.astype(int) - wanted).max() <= 1

    def test_of_a_slide_without_pyramid_reads_small_parts(self, monkeypatch):
        slide = array_slide(IMAGE)
        wanted, _ = slide.overview(8)
        monkeypatch.setattr(slide_module, "BLOCK", 40)
        regions = []
        real = slide._reader.read
        monkeypatch.setattr(slide._reader, "read", lambda *a: regions.append(a[1]) or real(*a))
        overview, _ = slide.overview(8)
        assert np.abs(overview.astype(int) - wanted).max() <= 1
        assert max(region.area for region in regions) <= (40 + 2 * 9) ** 2

    def test_unreadable_parts_are_told_and_no_more_than_needed(self, tmp_path, monkeypatch):
        monkeypatch.setattr(slide_module, "FINEST_BLOCK", 32)
        path = write_pyramid(tmp_path / "a.tif", IMAGE, levels=1, compression="lzw")
        with open_slide(path) as slide:
            wanted, _ = slide.overview(4)
        with open_slide(break_tiles(path, [7])) as slide:  # x 64..128, y 64..128
            overview, readable = slide.overview(4)
        assert not readable[16:32, 16:32].any()
        assert readable.sum() > 0.85 * readable.size
        assert (overview[~readable] == 255).all()
        assert np.abs(overview.astype(int) - wanted)[readable].max() <= 1

    def test_of_what_can_not_be_read_at_all(self, tmp_path):
        path = write_pyramid(tmp_path / "a.tif", IMAGE, levels=1, compression="lzw")
        with open_slide(break_tiles(path, range(24))) as slide:
            _, readable = slide.overview(4)
        assert not readable.any()


class TestRealSlides:
    def test_aperio(self, shared):
        with open_slide(shared / "slides/CMU-1-Small-Region.svs") as slide:
            assert slide.format == "aperio"
            assert slide.size == Size(2220, 2967)
            assert (slide.mpp, slide.mpp_source, slide.objective) == (0.499, "file", 20)
            overview, readable = slide.overview(16)
            assert readable.all()
            assert overview.std() > 10

    def test_dicom(self, shared):
        with open_slide(shared / "slides/boxes_0.dcm") as slide:
            assert (slide.format, slide.size, slide.mpp) == ("dicom", Size(16, 16), 0.499)
            assert slide.read_region(0, 0, Size(16, 16), 1).std() > 0

    @pytest.mark.parametrize("name", ["boxes.tiff", "small_HE_levels.tiff"])
    def test_absurd_scale(self, shared, name):
        path = shared / "slides" / name
        with pytest.raises(SlideError, match=rf"{name}: .*absurd 352.*--mpp"):
            open_slide(path)
        with open_slide(path, 0.25) as slide:
            assert slide.size == Size(300, 250)
            assert [level.downsample for level in slide.levels] == [1, 2, 4, 8]
            openslide = VendorReader(path)
            for level, read in enumerate(slide.levels):
                whole = Rect(0, 0, read.size.width, read.size.height)
                pixels = slide.read_level(level, whole)
                np.testing.assert_array_equal(pixels, openslide.read(level, whole))

    def test_unopenable(self, shared):
        with pytest.raises(SlideError, match=r"unopenable\.tiff: .*compression.*52479"):
            open_slide(shared / "slides/unopenable.tiff", 0.25)

    def test_unreadable(self, shared):
        with open_slide(shared / "slides/unreadable.svs") as slide:
            assert slide.mpp == 0.499
            for _ in range(2):
                with pytest.raises(ReadError, match=r"unreadable\.svs: level 0: "):
                    slide.read_region(0, 0, Size(16, 16), 1)
            assert not slide.overview(2)[1].any()
