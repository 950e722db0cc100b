"""What a TIFF of several images holds: areas, planes, levels, labels; none is left out untold."""

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageFilter
from slidefiles import MPP, halved, picture, resolution_tags

from pipeline.errors import SlideError
from pipeline.geometry import Rect, Size
from pipeline.slides.readers.tiff import TiffReader

ONE, TWO = picture(400, 300, seed=1), picture(400, 300, seed=2)
SMALL = picture(200, 260, seed=3)
KEYS = {"photometric": "rgb", "tile": (64, 64), "compression": "deflate"}
STATED = {"PhysicalSizeX": MPP, "PhysicalSizeY": MPP}


def blurred(image, radius=6):
    return np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(radius)))


def write_pages(path, *images, **keys):
    """Pages of a plain TIFF, one an image; (image, options) gives one options of its own."""
    with tifffile.TiffWriter(path) as writer:
        for page in images:
            image, own = page if isinstance(page, tuple) else (page, {})
            grey = {"photometric": "minisblack"} if image.ndim == 2 else {}
            all_keys = {**KEYS, **resolution_tags(MPP), "metadata": None, **grey, **keys, **own}
            writer.write(image, **all_keys)
    return path


def write_ome(path, *images, levels=1, **shared):
    """Images of an OME-TIFF; (image, metadata) gives one metadata of its own."""
    with tifffile.TiffWriter(path, ome=True) as writer:
        for page in images:
            image, own = page if isinstance(page, tuple) else (page, {})
            axes = "YXS" if image.ndim == 3 else "YX"
            keys = KEYS if image.ndim == 3 else {**KEYS, "photometric": "minisblack"}
            metadata = {"axes": axes, **STATED, **shared, **own}
            writer.write(image, subifds=levels - 1, metadata=metadata, **keys)
            for level in range(1, levels):
                writer.write(halved(image, level), subfiletype=1, **keys)
    return path


def at(x, y, unit="µm"):
    return {"Plane": {"PositionX": x, "PositionY": y, "PositionXUnit": unit, "PositionYUnit": unit}}


def codes(reader):
    return [doubt.code for doubt in reader.header.doubts]


def facts(reader):
    return {fact.name: fact.value for fact in reader.header.facts}


def assert_shows(reader, image, x=0, y=0, level=0):
    height, width = image.shape[:2]
    np.testing.assert_array_equal(reader.read(level, Rect(x, y, width, height)), image)


class TestAreas:
    @pytest.mark.parametrize("levels", [1, 3])
    def test_of_an_ome_tiff_lie_in_a_row(self, tmp_path, levels):
        images = (ONE, {"Name": "left"}), (TWO, {"Name": "right"})
        reader = TiffReader(write_ome(tmp_path / "a.ome.tif", *images, levels=levels))
        assert codes(reader) == ["areas-joined"]
        assert facts(reader) == {
            "area 1": '"left", 400 x 300 px at (0, 0)',
            "area 2": '"right", 400 x 300 px at (1024, 0)',
        }
        assert reader.header.mpp == pytest.approx((MPP, MPP))
        assert reader.header.bounds == Rect(0, 0, 1424, 300)
        assert [level.downsample for level in reader.header.levels] == [1, 2, 4][:levels]
        for level in range(levels):
            assert_shows(reader, halved(ONE, level), level=level)
            assert_shows(reader, halved(TWO, level), x=1024 >> level, level=level)
            gap = reader.read(level, Rect(400 >> level, 0, 624 >> level, 300 >> level))
            assert (gap == 255).all()

    def test_a_region_may_cross_both(self, tmp_path):
        reader = TiffReader(write_ome(tmp_path / "a.ome.tif", ONE, TWO))
        shown = reader.read(0, Rect(390, 100, 700, 250))
        np.testing.assert_array_equal(shown[:200, :10], ONE[100:, 390:])
        np.testing.assert_array_equal(shown[:200, 634:], TWO[100:, :66])
        assert (shown[200:] == 255).all()
        assert (shown[:, 10:634] == 255).all()

    @pytest.mark.parametrize("metadata", [None, {}])
    @pytest.mark.parametrize("size", [(400, 300), (400, 310), (300, 300)])
    def test_of_pages(self, tmp_path, metadata, size):
        other = picture(*size, seed=5)
        reader = TiffReader(write_pages(tmp_path / "a.tif", ONE, other, metadata=metadata))
        assert codes(reader) == ["areas-joined"]
        assert_shows(reader, ONE)
        assert_shows(reader, other, x=1024)

    def test_of_pages_with_levels_each_keep_their_own(self, tmp_path):
        pages = [
            (halved(image, level), {"subfiletype": int(level > 0)})
            for image in (ONE, TWO, SMALL)
            for level in range(3)
        ]
        reader = TiffReader(write_pages(tmp_path / "a.tif", *pages))
        assert [level.downsample for level in reader.header.levels] == [1, 2, 4]
        for level in range(3):
            for image, x in ((ONE, 0), (TWO, 1024), (SMALL, 2048)):
                assert_shows(reader, halved(image, level), x=x >> level, level=level)

    def test_of_shrunk_jpegs(self, tmp_path):
        keys = {"compression": "jpeg", "compressionargs": {"level": 95}}
        reader = TiffReader(write_pages(tmp_path / "a.tif", ONE, TWO, **keys))
        alone = TiffReader(write_pages(tmp_path / "b.tif", TWO, **keys))
        assert reader.shrinks(0) == alone.shrinks(0) == (2, 4)
        for shrink in (2, 4):
            size = 400 // shrink, 300 // shrink
            wanted = alone.read(0, Rect(0, 0, *size), shrink)
            shown = reader.read(0, Rect(1024 // shrink, 0, *size), shrink)
            np.testing.assert_array_equal(shown, wanted)

    def test_of_half_the_size(self, tmp_path):
        half = picture(200, 150, seed=8)
        reader = TiffReader(write_pages(tmp_path / "a.tif", ONE, half))
        assert codes(reader) == ["areas-joined"]
        assert_shows(reader, half, x=1024)

    def test_levels_out_of_order_stay_with_what_they_show(self, tmp_path):
        small = {"subfiletype": 1}
        pages = ONE, (halved(ONE), small), SMALL, (halved(SMALL), small), TWO, (halved(TWO), small)
        for order in (range(6), (0, 2, 4, 5, 3, 1), (1, 3, 5, 0, 2, 4), (5, 0, 3, 2, 1, 4)):
            path = write_pages(tmp_path / "a.tif", *(pages[n] for n in order))
            reader = TiffReader(path)
            assert [level.downsample for level in reader.header.levels] == [1, 2]
            for level in range(2):
                for image, x in ((ONE, 0), (SMALL, 1024), (TWO, 1792)):
                    assert_shows(reader, halved(image, level), x=x >> level, level=level)

    def test_that_state_no_scale_have_one(self, tmp_path):
        keys = {"resolution": None, "resolutionunit": None}
        reader = TiffReader(write_pages(tmp_path / "a.tif", ONE, TWO, **keys))
        assert codes(reader) == ["areas-joined"]
        assert reader.header.mpp is None

    def test_small_one_of_the_same_stated_scale(self, tmp_path):
        tiny = picture(60, 50, seed=4)
        reader = TiffReader(write_ome(tmp_path / "a.ome.tif", ONE, tiny))
        assert codes(reader) == ["areas-joined"]
        assert_shows(reader, tiny, x=1024)

    def test_blank_ones_are_no_planes(self, tmp_path):
        blank = np.full_like(ONE, 240)
        reader = TiffReader(write_ome(tmp_path / "a.ome.tif", ONE, blank, blank))
        assert len(facts(reader)) == 3


class TestPositions:
    def test_of_the_stage(self, tmp_path):
        images = (ONE, at(1000.0, 2000.0)), (TWO, at(1000.0 - 600 * MPP, 2000.0 + 72 * MPP))
        reader = TiffReader(write_ome(tmp_path / "a.ome.tif", *images, levels=2))
        assert reader.header.bounds == Rect(0, 0, 1000, 372)
        assert facts(reader)["area 1"].endswith("at (600, 0)")
        assert facts(reader)["area 2"].endswith("at (0, 72)")
        for level in range(2):
            assert_shows(reader, halved(ONE, level), x=600 >> level, level=level)
            assert_shows(reader, halved(TWO, level), y=72 >> level, level=level)
        assert "places that the file states" in reader.header.doubts[0].text

    def test_in_millimetres(self, tmp_path):
        images = (ONE, at(1.0, 2.0, "mm")), (TWO, at(1.5, 2.0, "mm"))
        reader = TiffReader(write_ome(tmp_path / "a.ome.tif", *images))
        assert facts(reader)["area 2"].endswith("at (2000, 0)")

    def test_of_a_label_of_the_stage(self, tmp_path):
        def label(x):
            return {"StageLabel": {"Name": "s", "X": x, "XUnit": "µm", "Y": 0.0, "YUnit": "µm"}}

        path = write_ome(tmp_path / "a.ome.tif", (ONE, label(0.0)), (TWO, label(200.0)))
        if b"StageLabel" not in path.read_bytes():
            xml = tifffile.tiffcomment(path)
            first, second, third = xml.split("</Pixels>")
            place = '</Pixels><StageLabel Name="s" X="{}" Y="0" XUnit="µm" YUnit="µm"/>'
            xml = first + place.format(0) + second + place.format(200) + third
            tifffile.tiffcomment(path, xml.encode())
        assert facts(TiffReader(path))["area 2"].endswith("at (800, 0)")

    def test_of_pages(self, tmp_path):
        def place(x):
            return {"extratags": [(286, 5, 1, (x, 10000), True), (287, 5, 1, (0, 1), True)]}

        pages = (ONE, place(0)), (TWO, place(200))
        reader = TiffReader(write_pages(tmp_path / "a.tif", *pages))
        assert facts(reader)["area 2"].endswith("at (800, 0)")

    def test_that_touch_are_not_moved_onto_each_other(self, tmp_path):
        odd = picture(401, 300, seed=6)
        images = (odd, at(0.0, 0.0)), (TWO, at(401 * MPP, 0.0))
        reader = TiffReader(write_ome(tmp_path / "a.ome.tif", *images, levels=2))
        assert facts(reader)["area 2"].endswith("at (401, 0)")
        assert_shows(reader, odd)
        assert_shows(reader, TWO, x=401)
        assert len(reader.header.levels) == 1  # 401 is no whole number of its pixels

    @pytest.mark.parametrize(
        "others",
        [
            at(0.0, 0.0),  # the same for all
            {},
            at(5.0, 0.0, "reference frame"),
            at(1e9, 0.0),
            at(float("nan"), 0.0),
        ],
    )
    def test_that_say_nothing(self, tmp_path, others):
        images = (ONE, at(0.0, 0.0)), (TWO, others)
        reader = TiffReader(write_ome(tmp_path / "a.ome.tif", *images))
        assert facts(reader)["area 2"].endswith("at (1024, 0)")
        assert "in a row" in reader.header.doubts[0].text

    def test_that_overlap_are_refused(self, tmp_path):
        images = (ONE, at(0.0, 0.0)), (TWO, at(390 * MPP, 0.0))
        with pytest.raises(SlideError, match=r"a\.ome\.tif: .*overlap.*export") as caught:
            TiffReader(write_ome(tmp_path / "a.ome.tif", *images))
        assert caught.value.code == "several-areas"


class TestRefused:
    @pytest.mark.parametrize(
        ("others", "why"),
        [
            ((TWO, {"PhysicalSizeX": 2 * MPP, "PhysicalSizeY": 2 * MPP}), "different scales"),
            ((TWO, {"PhysicalSizeX": MPP / 2, "PhysicalSizeY": MPP / 2}), "different scales"),
            (TWO[..., 0], "different kinds"),
            (TWO.astype(np.uint16) * 257, "different kinds"),
        ],
        ids=["coarser", "finer", "grey", "16 bits"],
    )
    def test_areas_that_can_not_be_joined(self, tmp_path, others, why):
        with pytest.raises(SlideError, match=rf"a\.ome\.tif: .*{why}.*export") as caught:
            TiffReader(write_ome(tmp_path / "a.ome.tif", (ONE, {"Name": "first"}), others))
        assert caught.value.code == "several-areas"
        assert '"first", 400 x 300 px' in caught.value.text

    @pytest.mark.parametrize("size", [(400, 300), (390, 310)])
    def test_pages_of_different_scales(self, tmp_path, size):
        other = picture(*size, seed=7), resolution_tags(2 * MPP)
        with pytest.raises(SlideError, match="different scales") as caught:
            TiffReader(write_pages(tmp_path / "a.tif", ONE, other))
        assert caught.value.code == "several-areas"

    def test_one_without_a_scale(self, tmp_path):
        other = picture(390, 310), {"resolution": None, "resolutionunit": None}
        with pytest.raises(SlideError, match="only one of them states its scale"):
            TiffReader(write_pages(tmp_path / "a.tif", ONE, other))

    def test_more_areas_than_a_slide_has(self, tmp_path):
        pages = [picture(64, 64, seed) for seed in range(70)]
        with pytest.raises(SlideError, match="more than 64") as caught:
            TiffReader(write_pages(tmp_path / "a.tif", *pages))
        assert caught.value.code == "several-areas"

    def test_times_are_no_planes(self, tmp_path):
        stack = np.stack([ONE, TWO])
        tifffile.imwrite(tmp_path / "a.ome.tif", stack, metadata={"axes": "TYXS"}, **KEYS)
        with pytest.raises(SlideError, match="stack of images"):
            TiffReader(tmp_path / "a.ome.tif")


class TestNoAreas:
    @pytest.mark.parametrize("name", ["label", "Macro image", "slide_overview", "Thumbnail 1"])
    def test_what_is_called_so(self, tmp_path, name):
        images = (ONE, {"Name": "scan"}), (SMALL, {"Name": name})
        reader = TiffReader(write_ome(tmp_path / "a.ome.tif", *images))
        assert reader.header.levels[0].size == Size(400, 300)
        assert_shows(reader, ONE)
        assert codes(reader) == ["picture-left-out"]  # it is as large as an area
        assert facts(reader)["image left out"] == f'"{name}", 200 x 260 px: called so'

    def test_label_larger_than_the_slide(self, tmp_path):
        images = (picture(600, 600), {"Name": "label"}), (ONE, {"Name": "scan"})
        assert_shows(TiffReader(write_ome(tmp_path / "a.ome.tif", *images)), ONE)

    def test_the_only_image_may_be_called_anything(self, tmp_path):
        reader = TiffReader(write_ome(tmp_path / "a.ome.tif", (ONE, {"Name": "overview"})))
        assert_shows(reader, ONE)
        assert codes(reader) == []

    def test_an_overview_by_its_scale(self, tmp_path):
        coarse = {"PhysicalSizeX": 16 * MPP, "PhysicalSizeY": 16 * MPP}
        images = ONE, (picture(100, 90), coarse)
        reader = TiffReader(write_ome(tmp_path / "a.ome.tif", *images))
        assert_shows(reader, ONE)
        assert codes(reader) == []
        assert facts(reader)["image left out"] == '"Image1", 100 x 90 px: an overview by its scale'

    def test_what_is_marked_as_reduced(self, tmp_path):
        pages = ONE, (SMALL, {"subfiletype": 1})
        reader = TiffReader(write_pages(tmp_path / "a.tif", *pages))
        assert_shows(reader, ONE)
        assert codes(reader) == []

    @pytest.mark.parametrize("times", [1, 2])
    def test_levels_that_are_not_marked(self, tmp_path, times):
        pages = ONE, halved(ONE, times)
        reader = TiffReader(write_pages(tmp_path / "a.tif", *pages))
        assert_shows(reader, ONE)
        assert codes(reader) == []


class TestPlanes:
    @pytest.mark.parametrize("metadata", [None, {}])
    @pytest.mark.parametrize("sharp", [0, 1, 2])
    def test_of_pages_of_one_place(self, tmp_path, metadata, sharp):
        images = [blurred(ONE)] * 3
        images[sharp] = ONE
        path = write_pages(tmp_path / "a.tif", *images, metadata=metadata)
        reader = TiffReader(path)
        assert_shows(reader, ONE)
        assert codes(reader) == ["focal-planes"]
        assert facts(reader)["focal plane"] == f"plane {sharp + 1}, one of 3"

    @pytest.mark.parametrize("levels", [1, 2])
    def test_of_an_axis(self, tmp_path, levels):
        path = tmp_path / "a.ome.tif"
        stack = np.stack([blurred(ONE), ONE, blurred(ONE, 3)])
        with tifffile.TiffWriter(path, ome=True) as writer:
            metadata = {"axes": "ZYXS", **STATED}
            writer.write(stack, subifds=levels - 1, metadata=metadata, **KEYS)
            if levels > 1:
                small = np.stack([halved(image) for image in stack])
                writer.write(small, subfiletype=1, **KEYS)
        reader = TiffReader(path)
        assert codes(reader) == ["focal-planes"]
        assert len(reader.header.levels) == levels
        for level in range(levels):
            assert_shows(reader, halved(ONE, level), level=level)
        text = reader.header.doubts[0].text
        assert "3 focal planes; plane 2 is read" in text
        assert "not looked at: plane 1, plane 3" in text

    def test_of_channels_in_pages_of_their_own(self, tmp_path):
        stack = np.stack([np.moveaxis(image, 2, 0) for image in (blurred(ONE), ONE)])
        keys = {**KEYS, "photometric": "minisblack", "metadata": {"axes": "ZCYX", **STATED}}
        tifffile.imwrite(tmp_path / "a.ome.tif", stack, **keys)
        assert_shows(TiffReader(tmp_path / "a.ome.tif"), ONE)

    def test_of_two_areas(self, tmp_path):
        pages = blurred(ONE), TWO, ONE, blurred(TWO)
        reader = TiffReader(write_pages(tmp_path / "a.tif", *pages))
        assert_shows(reader, ONE)
        assert_shows(reader, TWO, x=1024)
        assert codes(reader) == ["areas-joined", "focal-planes", "focal-planes"]
        assert reader.header.doubts[2].text.startswith("area 2: the file holds 2 focal planes")
        assert facts(reader)["area 1: focal plane"] == "plane 2, one of 2"
        assert facts(reader)["area 2: focal plane"] == "plane 1, one of 2"

    def test_levels_of_another_plane_are_not_taken(self, tmp_path):
        small = {"subfiletype": 1}
        pages = blurred(ONE), ONE, (halved(blurred(ONE)), small)
        reader = TiffReader(write_pages(tmp_path / "a.tif", *pages))
        assert len(reader.header.levels) == 1
        assert_shows(reader, ONE)

    def test_that_are_equally_sharp(self, tmp_path):
        reader = TiffReader(write_pages(tmp_path / "a.tif", ONE, ONE))
        assert facts(reader)["focal plane"] == "plane 1, one of 2"

    def test_that_show_nothing(self, tmp_path):
        blank = np.full((2, 300, 400, 3), 240, np.uint8)
        tifffile.imwrite(tmp_path / "a.ome.tif", blank, metadata={"axes": "ZYXS"}, **KEYS)
        reader = TiffReader(tmp_path / "a.ome.tif")
        assert "the one that the file puts first" in reader.header.doubts[0].text

    def test_one_plane_is_none(self, tmp_path):
        tifffile.imwrite(tmp_path / "a.ome.tif", ONE[None], metadata={"axes": "ZYXS"}, **KEYS)
        reader = TiffReader(tmp_path / "a.ome.tif")
        assert (codes(reader), facts(reader)) == ([], {})
        assert_shows(reader, ONE)
