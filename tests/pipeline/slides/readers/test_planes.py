"""Focal planes of one file: named with their depth, and each read as the file stores it."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageFilter
from planefiles import damage_plane, write_planes, write_without
from slidefiles import ArrayReader, halved, picture, resolution_tags, write_pyramid
from tifffile import TiffWriter

from configs import Doubt
from pipeline.errors import ReadError, SlideError
from pipeline.geometry import Rect, Size
from pipeline.slides.mpp import Scale
from pipeline.slides.readers.areas import Area, AreasReader
from pipeline.slides.readers.base import Fact, FocalPlane
from pipeline.slides.readers.planes import Plane, best_plane
from pipeline.slides.readers.profiled import by_profile
from pipeline.slides.readers.tiff import TiffReader
from pipeline.slides.slide import Slide, open_slide

SHARP = picture(512, 384, seed=1)
WHOLE = Rect(0, 0, 512, 384)


def blurred(image, radius):
    return np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(radius)))


IMAGES = [blurred(SHARP, 4), blurred(SHARP, 2), SHARP, blurred(SHARP, 3)]


def with_faults(*faults, levels=1):
    """A stack whose planes lack something each; the second one is sharpest."""
    planes = []
    for number, fault in enumerate(faults, 1):
        image = SHARP if number == 2 else blurred(SHARP, 2)
        reader = ArrayReader(image, levels)
        if fault:
            fact = Fact(name="chunks", value=fault, source="file")
            told = {"facts": (fact,), "doubts": (Doubt(code="chunks-missing", text=fault),)}
            reader.header = replace(reader.header, **told)
        planes.append(Plane(reader, f"plane {number}"))
    reader = best_plane(planes)
    doubt = Doubt(code="picture-left-out", text="a map")  # of the file, found out later
    reader.header = replace(reader.header, doubts=(*reader.header.doubts, doubt))
    return reader


def told_of(reader):
    header = reader.header
    facts = [fact.value for fact in header.facts if fact.name == "chunks"]
    doubts = [doubt for doubt in header.doubts if doubt.code == "chunks-missing"]
    assert facts == [doubt.text for doubt in doubts]
    others = [doubt.code for doubt in header.doubts if doubt not in doubts]
    return facts, others


class TestOme:
    @pytest.mark.parametrize("levels", [1, 2])
    def test_each_plane_is_read_as_it_is_stored(self, tmp_path, levels):
        path = write_planes(tmp_path / "a.ome.tif", IMAGES, [-3, -1, 1, 2.5], levels=levels)
        with open_slide(path) as slide:
            assert slide.plane == 2
            assert slide.on_plane(None) is slide
            assert slide.on_plane(2) is slide
            for index, image in enumerate(IMAGES):
                seen = slide.on_plane(index)
                assert seen.plane == index
                assert (seen.mpp, seen.size, seen.levels) == (slide.mpp, slide.size, slide.levels)
                for level in range(levels):
                    shown = seen.read_level(level, Rect(0, 0, 512 >> level, 384 >> level))
                    np.testing.assert_array_equal(shown, halved(image, level))

    @pytest.mark.parametrize(
        ("places", "step", "told"),
        [
            ([-3, -1, 1, 2.5], 7, [-3, -1, 1, 2.5]),  # the stage's, where they differ
            ([5, 5, 5, 5], 1.5, [0, 1.5, 3, 4.5]),  # all the same say nothing
            (None, 0.75, [0, 0.75, 1.5, 2.25]),
            (None, None, [None] * 4),
            (None, 0.0, [None] * 4),
        ],
    )
    def test_where_they_lie(self, tmp_path, places, step, told):
        path = write_planes(tmp_path / "a.ome.tif", IMAGES, places, step)
        with open_slide(path) as slide:
            assert [plane.z_um for plane in slide.planes] == told
            depth = "" if told[3] is None else f" at z = {told[3]:g} µm"
            assert slide.planes[3].name == f"plane 4{depth}"

    def test_a_slide_of_one_has_none(self, tmp_path):
        with open_slide(write_pyramid(tmp_path / "a.tif", SHARP)) as slide:
            assert (slide.planes, slide.plane) == ((), None)
            with pytest.raises(SlideError, match=r"a\.tif: holds one focal plane, and no number 2"):
                slide.on_plane(1)

    def test_several_threads_read_several_planes(self, tmp_path):
        path = write_planes(tmp_path / "a.ome.tif", IMAGES)
        places = [Rect(x, y, 64, 64) for y in range(0, 384, 64) for x in range(0, 512, 64)]

        def same(task):
            index, place = task
            shown = slide.on_plane(index).read_level(0, place)
            rows, columns = slice(place.y, place.bottom), slice(place.x, place.right)
            return np.array_equal(shown, IMAGES[index][rows, columns])

        tasks = [(index, place) for place in places for index in range(4)]
        with open_slide(path) as slide, ThreadPoolExecutor(8) as pool:
            assert all(pool.map(same, tasks))

    def test_closing_a_plane_leaves_the_file_open(self, tmp_path):
        with open_slide(write_planes(tmp_path / "a.ome.tif", IMAGES)) as slide:
            other = slide.on_plane(0)
            other.close()
            np.testing.assert_array_equal(other.read_level(0, WHOLE), IMAGES[0])

    def test_a_scale_that_is_settled_later_is_that_of_all(self, tmp_path):
        with open_slide(write_planes(tmp_path / "a.ome.tif", IMAGES)) as slide:
            other = slide.on_plane(0)
            slide.settle(slide._scale.__class__(0.5, "estimate"))
            assert other.mpp == 0.5
            assert slide.on_plane(1).mpp == 0.5

    def test_a_cache_keeps_planes_apart(self, tmp_path):
        path = write_planes(tmp_path / "a.ome.tif", IMAGES)
        for _ in range(2):
            with open_slide(path, cache=tmp_path / "cache") as slide:
                for index, image in enumerate(IMAGES):
                    shown = slide.on_plane(index).read_level(0, WHOLE)
                    np.testing.assert_array_equal(shown, image)


class TestTold:
    """What is wrong with a plane is told of it, and of no other one."""

    FAULTS = (None, "a third", "a third"), ("half", None, None), ("half", "a third", None)

    @pytest.mark.parametrize("faults", FAULTS)
    def test_of_each_plane_its_own(self, faults):
        reader = with_faults(*faults)
        assert reader.header.plane == 1
        for index, fault in enumerate(faults):
            told = told_of(reader.of_plane(index))
            assert told == ([fault] if fault else [], ["focal-planes", "picture-left-out"])

    @pytest.mark.parametrize("faults", FAULTS)
    def test_through_a_profile_too(self, faults):
        reader = by_profile(with_faults(*faults))
        for index, fault in enumerate(faults):
            other = reader.of_plane(index)
            others = ["focal-planes", "picture-left-out", "icc-missing"]
            assert told_of(other) == ([fault] if fault else [], others)

    def test_of_each_plane_of_areas(self):
        one, other = with_faults(None, "a third", None), with_faults("half", None, None)
        reader = AreasReader([Area(one, ""), Area(other, "")])
        later = Doubt(code="ending-differs", text="a TIFF")
        reader.header = replace(reader.header, doubts=(*reader.header.doubts, later))
        wanted = [["area 2: half"], ["area 1: a third"], []]
        for index, faults in enumerate(wanted):
            other = reader.of_plane(index)
            found = [d.text for d in other.header.doubts if d.code == "chunks-missing"]
            assert found == faults
            others = [d.code for d in other.header.doubts if d.code != "chunks-missing"]
            assert sorted(others) == sorted(
                ["areas-joined", "ending-differs", "focal-planes", "picture-left-out"]
            )

    def test_of_several_with_their_names(self):
        slide = Slide(None, with_faults("half", "a third", None), Scale(0.25, "file"))
        fact = Fact(name="focal plane", value="all 3", source="data")
        for _ in range(2):  # told again, nothing is told twice
            slide.tell_planes(fact, None, range(3))
            assert [doubt.text for doubt in slide.doubts] == [
                "a map", "plane 1: half", "plane 2: a third"
            ]  # fmt: skip
            assert [f"{fact.name}: {fact.value}" for fact in slide.facts] == [
                "plane 1: chunks: half", "plane 2: chunks: a third", "focal plane: all 3"
            ]  # fmt: skip

    def test_of_several_once_where_all_have_it(self):
        slide = Slide(None, with_faults("half", "half", "half"), Scale(0.25, "file"))
        slide.tell_planes(Fact(name="focal plane", value="all 3", source="data"), None, range(3))
        assert [doubt.text for doubt in slide.doubts] == ["half", "a map"]


class TestBad:
    def test_a_plane_without_its_page(self, tmp_path):
        with open_slide(write_without(tmp_path / "a.ome.tif", IMAGES, missing=1)) as slide:
            assert slide.planes[1] == FocalPlane(
                "plane 2 at z = 1.5 µm (its pages are missing)", 1.5, readable=False
            )
            assert slide.plane == 2
            np.testing.assert_array_equal(slide.on_plane(3).read_level(0, WHOLE), IMAGES[3])
            with pytest.raises(SlideError, match=r"focal plane 2, .*, can't be read") as told:
                slide.on_plane(1)
            assert told.value.code == "plane-not-read"

    @pytest.mark.parametrize("plane", [0, 2])
    def test_a_damaged_plane_leaves_the_others(self, tmp_path, plane):
        path = damage_plane(write_planes(tmp_path / "a.ome.tif", IMAGES), plane)
        with open_slide(path) as slide:
            assert slide.plane == (1 if plane == 2 else 2)
            assert "best-focused one by its pixels" in slide.doubts[-1].text
            with pytest.raises(ReadError):
                slide.on_plane(plane).read_level(0, WHOLE)
            np.testing.assert_array_equal(slide.on_plane(3).read_level(0, WHOLE), IMAGES[3])

    def test_planes_of_another_size_are_told_and_not_read(self):
        readers = [ArrayReader(SHARP), ArrayReader(SHARP[:100]), ArrayReader(blurred(SHARP, 2))]
        planes = [Plane(reader, f"plane {n + 1}") for n, reader in enumerate(readers)]
        reader = best_plane(planes)
        assert [plane.readable for plane in reader.header.planes] == [True, False, True]
        assert "plane 2 (of another size)" in reader.header.doubts[0].text
        assert reader.header.levels[0].size == Size(512, 384)


class TestAreas:
    def write(self, path, *images):
        with TiffWriter(path) as writer:
            for image in images:
                keys = {"photometric": "rgb", "tile": (64, 64), **resolution_tags(0.25)}
                writer.write(image, metadata=None, **keys)
        return path

    def test_the_same_plane_of_each(self, tmp_path):
        other = picture(512, 384, seed=2)
        pages = SHARP, other, blurred(SHARP, 3), blurred(other, 4)
        reader = TiffReader(self.write(tmp_path / "a.tif", *pages))
        assert [plane.name for plane in reader.header.planes] == ["plane 1", "plane 2"]
        assert reader.header.plane == 0
        second = reader.of_plane(1)
        np.testing.assert_array_equal(second.read(0, WHOLE), pages[2])
        np.testing.assert_array_equal(second.read(0, Rect(1024, 0, 512, 384)), pages[3])

    def test_every_plane_says_which_images_are_left_out(self, tmp_path):
        other, small = picture(512, 384, seed=2), picture(128, 96)
        pages = SHARP, other, blurred(SHARP, 3), blurred(other, 4), small
        first = TiffReader(self.write(tmp_path / "a.tif", *pages))
        second = first.of_plane(1)
        assert "128 x 96 px: far smaller" in [fact.value for fact in second.header.facts]
        assert second.header.plane == 1

    def test_they_lie_alike_in_planes_of_other_levels(self):
        """Areas are moved by whole pixels of every level: as many as the first plane has."""
        corners = [(0.0, 0.0), (205.0, 5.0)]
        areas = []
        for corner in corners:
            planes = [ArrayReader(SHARP, 3), ArrayReader(blurred(SHARP, 3), 1)]
            for plane in planes:
                plane.header = replace(plane.header, mpp=(0.25, 0.25))
            reader = best_plane([Plane(plane, f"plane {n}") for n, plane in enumerate(planes)])
            areas.append(Area(reader, "", corner))
        reader = AreasReader(areas)
        other = reader.of_plane(1)
        assert other.places == reader.places
        assert other.header.levels == reader.header.levels[:1]

    def test_each_in_a_plane_of_its_own(self, tmp_path):
        other = picture(512, 384, seed=2)
        pages = SHARP, blurred(other, 4), blurred(SHARP, 3), other
        reader = TiffReader(self.write(tmp_path / "a.tif", *pages))
        assert reader.header.plane is None
        np.testing.assert_array_equal(reader.read(0, Rect(1024, 0, 512, 384)), other)
        np.testing.assert_array_equal(reader.of_plane(0).read(0, Rect(1024, 0, 512, 384)), pages[1])

    def test_those_with_other_planes_are_read_as_they_are(self, tmp_path):
        other = picture(512, 384, seed=2)
        reader = TiffReader(self.write(tmp_path / "a.tif", SHARP, other, blurred(SHARP, 3)))
        assert reader.header.plane is None
        assert not any(plane.readable for plane in reader.header.planes)
        with pytest.raises(SlideError, match="can't be read"):
            reader.of_plane(1)
