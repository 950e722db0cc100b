"""Which focal planes are asked for, and which of a slide's that means."""

import numpy as np
import pytest
from PIL import Image, ImageFilter
from planefiles import write_planes, write_without
from pydantic import TypeAdapter, ValidationError
from slidefiles import array_slide, picture
from zarrfiles import write_ngff

from pipeline.errors import SlideError
from pipeline.slides.slide import open_slide
from pipeline.tiles.focal import PlaneChoice, plan_planes

SHARP = picture(512, 384, seed=1)
CHOICE = TypeAdapter(PlaneChoice)


def blurred(radius):
    return np.asarray(Image.fromarray(SHARP).filter(ImageFilter.GaussianBlur(radius)))


IMAGES = [blurred(3), SHARP, blurred(2)]


@pytest.fixture
def stack(tmp_path):
    with open_slide(write_planes(tmp_path / "a.ome.tif", IMAGES, [-2, 0, 3])) as slide:
        yield slide


@pytest.fixture
def lacking(tmp_path):
    with open_slide(write_without(tmp_path / "a.ome.tif", IMAGES, missing=0)) as slide:
        yield slide


def told(slide):
    facts = [fact for fact in slide.facts if fact.name == "focal plane"]
    return facts, [doubt for doubt in slide.doubts if doubt.code == "focal-planes"]


class TestChoice:
    @pytest.mark.parametrize(
        ("given", "taken"),
        [
            ("one", "one"),
            ("best", "best"),
            ("all", "all"),
            (3, 3),
            ("3", 3),
            ("z=-2", "z=-2"),
            ("z = 1.50", "z=1.5"),
            ("z=+0.0", "z=0"),
        ],
    )
    def test_is_told_in_one_way(self, given, taken):
        assert CHOICE.validate_python(given) == taken

    @pytest.mark.parametrize(
        "given", [0, -1, "0", "ALL", "", "z=", "z=1,5", "z=nan", "2-4", 1.5, True, None, [1, 2]]
    )
    def test_of_nonsense(self, given):
        with pytest.raises(ValidationError):
            CHOICE.validate_python(given)


class TestPlan:
    @pytest.mark.parametrize(
        ("choice", "how", "planes"),
        [
            ("one", "one", (1,)),
            ("best", "best", (0, 1, 2)),
            ("all", "all", (0, 1, 2)),
            (1, "one", (0,)),
            ("z=3", "one", (2,)),
            ("z=-2.9", "one", (0,)),
            ("z=0.9", "one", (1,)),
        ],
    )
    def test_of_a_stack(self, stack, choice, how, planes):
        slide, plan = plan_planes(stack, choice)
        assert (plan.how, plan.planes) == (how, planes)
        assert slide.plane == (planes[0] if how == "one" else 1)
        assert [doubt.code for doubt in plan.doubts] == (
            ["planes-searched"] if choice == "all" else []
        )

    def test_tells_the_one_that_is_asked_for(self, stack):
        slide, _ = plan_planes(stack, 3)
        (fact,), (doubt,) = told(slide)
        assert (fact.value, fact.source) == ("plane 3 at z = 3 µm, one of 3", "argument")
        assert "plane 3 at z = 3 µm is read, as asked for" in doubt.text
        assert "not looked at: plane 1 at z = -2 µm, plane 2 at z = 0 µm" in doubt.text

    @pytest.mark.parametrize("choice", ["best", "all"])
    def test_nothing_is_left_out_where_all_are_looked_at(self, stack, choice):
        (fact,), doubts = told(plan_planes(stack, choice)[0])
        assert fact.value.startswith({"best": "the sharpest of 3", "all": "all 3"}[choice])
        assert doubts == []

    @pytest.mark.parametrize(
        ("choice", "faults"),
        [
            ("one", []),
            (1, ["1 of 12 of the finest level"]),
            (2, []),
            ("all", ["z = 0 µm: 1 of 12 of the finest level"]),
            ("best", ["z = 0 µm: 1 of 12 of the finest level"]),
        ],
    )
    def test_what_is_wrong_with_the_planes_that_are_read_is_told(self, tmp_path, choice, faults):
        path = write_ngff(tmp_path / "a.zarr", IMAGES, levels=1)
        for channel in range(3):
            (path / f"0/0.{channel}.0.0.0").unlink()
        with open_slide(path) as slide:
            seen, _ = plan_planes(slide, choice)
            texts = [doubt.text for doubt in seen.doubts if doubt.code == "chunks-missing"]
        assert [text.partition(" are not stored")[0] for text in texts] == faults

    def test_those_that_cannot_be_read_are_told(self, lacking):
        slide, plan = plan_planes(lacking, "all")
        assert plan.planes == (1, 2)
        _, (doubt,) = told(slide)
        assert "holds 3 focal planes; 2 of them can be read; not looked at: plane 1" in doubt.text

    def test_a_reader_that_gives_one_of_several(self, lacking):
        header = lacking._reader.header
        planes = tuple(
            plane.__class__(plane.name, plane.z_um, n == lacking.plane)
            for n, plane in enumerate(header.planes)
        )
        lacking.planes = planes
        slide, plan = plan_planes(lacking, "best")
        assert (plan.how, plan.planes) == ("one", (1,))
        _, (doubt,) = told(slide)
        assert "planes = best is asked for, but tifffile gives one of them, plane 2" in doubt.text

    @pytest.mark.parametrize("choice", ["one", "best", "all", 1])
    def test_a_slide_of_one_plane_has_nothing_to_tell(self, choice):
        slide = array_slide(SHARP)
        same, plan = plan_planes(slide, choice)
        assert same is slide
        assert (plan.how, plan.planes, plan.doubts) == ("one", (None,), ())
        assert told(slide) == ([], [])


class TestRefused:
    @pytest.mark.parametrize(
        ("choice", "text"),
        [
            (4, r"has 3 focal planes: plane 1 at z = -2 µm, .*; planes = 4 asks for another one"),
            ("z=5", r"no focal plane lies near planes = z=5; it has plane 1 at z = -2 µm"),
        ],
    )
    def test_a_plane_that_is_not_there(self, stack, choice, text):
        with pytest.raises(SlideError, match=text) as refused:
            plan_planes(stack, choice)
        assert refused.value.code == "plane-not-read"
        assert "\n" not in refused.value.text

    def test_a_plane_that_cannot_be_read(self, lacking):
        with pytest.raises(SlideError, match=r"its focal plane 1, .*, can't be read by tifffile"):
            plan_planes(lacking, 1)

    @pytest.mark.parametrize(
        ("choice", "text"),
        [(2, "has one focal plane; planes = 2"), ("z=0", "has one focal plane: give a number")],
    )
    def test_of_a_slide_of_one_plane(self, choice, text):
        with pytest.raises(SlideError, match=text):
            plan_planes(array_slide(SHARP), choice)
