"""Areas that are joined show, at every level, what a canvas shows onto which they are pasted."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from slidefiles import ArrayReader, halved, picture

from configs import Doubt
from pipeline.errors import SlideError
from pipeline.geometry import Rect, Size
from pipeline.slides.mpp import Scale
from pipeline.slides.readers.areas import Area, AreasReader
from pipeline.slides.readers.base import Fact
from pipeline.slides.slide import Slide

BACKGROUND = (10, 200, 30)
IMAGES = [picture(*size, seed) for seed, size in enumerate([(160, 96), (64, 128), (99, 70)])]


def joined(corners=(None, None, None), levels=3, mpp=0.5):
    areas = []
    for image, corner in zip(IMAGES, corners, strict=True):
        reader = ArrayReader(image, levels, BACKGROUND)
        reader.header = replace(reader.header, mpp=(mpp, mpp))
        areas.append(Area(reader, "", corner))
    return AreasReader(areas)


def canvas_of(reader, level):
    """The slow, obvious way: the whole level, area by area."""
    facts = reader.header.levels[level]
    canvas = np.full((facts.size.height, facts.size.width, 3), BACKGROUND, np.uint8)
    for image, place in zip(IMAGES, reader.places, strict=True):
        part = halved(image, level)
        x, y = place.x >> level, place.y >> level
        canvas[y : y + part.shape[0], x : x + part.shape[1]] = part
    return canvas


ROW = joined()
BY_STAGE = joined([(100.0, 64.0), (0.0, 0.0), (40.0, 80.0)])


@pytest.mark.parametrize("reader", [ROW, BY_STAGE], ids=["row", "stage"])
@given(data=st.data(), level=st.integers(0, 2))
def test_any_region_is_that_of_the_canvas(reader, data, level):
    canvas = canvas_of(reader, level)
    height, width = canvas.shape[:2]
    x, y = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    region = Rect(x, y, data.draw(st.integers(1, width - x)), data.draw(st.integers(1, height - y)))
    wanted = canvas[region.y : region.bottom, region.x : region.right]
    np.testing.assert_array_equal(reader.read(level, region), wanted)


def test_places_by_the_stage():
    assert [(place.x, place.y) for place in BY_STAGE.places] == [(192, 128), (0, 0), (80, 160)]
    assert BY_STAGE.header.bounds == Rect(0, 0, 352, 230)


def test_levels_are_whole_fractions_of_the_slide():
    for reader in (ROW, BY_STAGE):
        whole = reader.header.levels[0].size
        for level in reader.header.levels:
            factor = int(level.downsample)
            assert Size(level.size.width * factor, level.size.height * factor) == whole


@given(
    corners=st.lists(
        st.tuples(st.floats(0, 400), st.floats(0, 400)), min_size=3, max_size=3, unique=True
    )
)
def test_no_area_hides_another_wherever_they_lie(corners):
    try:
        reader = joined(corners)
    except SlideError:  # they overlap; see the next test
        return
    for image, place in zip(IMAGES, reader.places, strict=True):
        np.testing.assert_array_equal(reader.read(0, place), image)


@pytest.mark.parametrize("corner", [(79.0, 47.0), (0.0, 40.0), (-31.0, -63.0), (20.0, 10.0)])
def test_areas_that_overlap_are_refused(corner):
    with pytest.raises(SlideError, match="overlap") as caught:
        joined([(0.0, 0.0), corner, (1000.0, 0.0)])
    assert caught.value.code == "several-areas"


def test_levels_that_one_area_lacks_are_left_out():
    few = ArrayReader(IMAGES[0], 1, BACKGROUND)
    many = ArrayReader(IMAGES[1], 3, BACKGROUND)
    assert len(AreasReader([Area(few, ""), Area(many, "")]).header.levels) == 1


def test_what_all_areas_tell_is_told_once():
    readers = [ArrayReader(image, 1) for image in IMAGES[:2]]
    same = Fact(name="bit depth", value="12", source="file")
    for number, reader in enumerate(readers):
        own = Doubt(code="unread-area", text=f"part {number}")
        reader.header = replace(reader.header, facts=(same,), doubts=(own,))
    header = AreasReader([Area(reader, "n") for reader in readers]).header
    assert [fact.name for fact in header.facts] == ["area 1", "area 2", "bit depth"]
    texts = [doubt.text for doubt in header.doubts if doubt.code == "unread-area"]
    assert texts == ["area 1: part 0", "area 2: part 1"]


def test_as_a_slide_at_a_scale_between_levels(tmp_path):
    slide = Slide(tmp_path, ROW, Scale(0.5, "file"))
    shown = slide.read_region(ROW.places[1].x, 0, Size(32, 64), 2)
    assert np.abs(shown.astype(int) - halved(IMAGES[1])).max() <= 1
    overview, readable = slide.overview(8)
    assert readable.all()
    assert overview.shape[:2] == (-(-slide.size.height // 8), -(-slide.size.width // 8))
