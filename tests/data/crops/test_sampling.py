"""Where crops lie: near cells, on what looks like cells, never where nobody annotated."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from configs import ConfigError
from data.crops.sampling import CropSettings, WindowSampler, build_sampler, source_shares
from data.fields.fieldset import Field, FieldSet
from data.fields.images import FieldImages, ImageError
from data.fields.rarity import repeat_factors
from data.fields.regions import is_covered
from data.resample import resample

SIDE = 1024
DARK = [(100, 100), (100, 800), (800, 100), (800, 800)]
"""Corners of dark squares of 64 px on a white slide."""


def field(cells=(), labels=None, crowd=()):
    boxes = np.array([*cells, *crowd], np.float32).reshape(-1, 4)
    return Field(
        image=Path("slide.svs"),
        width=SIDE,
        height=SIDE,
        mpp=0.5,
        boxes=boxes,
        nuclei=(boxes[:, :2] + boxes[:, 2:]) / 2,
        labels=np.array(labels if labels is not None else [0] * len(boxes), np.int64),
        crowd=np.arange(len(boxes)) >= len(cells),
    )


def square(corner, side=64):
    return (*corner, corner[0] + side, corner[1] + side)


class DarkSquares:
    def __init__(self, _):
        self._pixels = np.full((SIDE, SIDE, 3), 240, np.uint8)
        for x, y in DARK:
            self._pixels[y : y + 64, x : x + 64] = 80

    def read(self, x, y, size, downsample, away=0):
        end = x + size[0] * downsample, y + size[1] * downsample
        return resample(self._pixels, size, (x, y, *end))

    def overview(self, mpp):
        step = round(mpp / 0.5)
        image = resample(self._pixels, (SIDE // step, SIDE // step))
        return image, image.min(axis=2) < 220, float(step)

    def close(self):
        pass


def windows(one, count=200, slide=True, **settings):
    fields = FieldSet(("a", "b"), (one,))
    values = {"size": 128, "scale": 1.0, "around_cells": 0.0} | settings
    images = FieldImages(fields.fields, DarkSquares if slide else lambda _: None)
    sampler = WindowSampler(fields, images, [1.0], CropSettings(**values))
    return np.array([sampler.draw(np.random.default_rng((0, i)))[1] for i in range(count)])


def shows(drawn, corner):
    left, top, right, bottom = square(corner)
    low, high = (drawn[:, :2] < (right, bottom)).all(1), (drawn[:, 2:] > (left, top)).all(1)
    return low & high


def test_rare_classes_repeat_their_fields():
    """Of four fields all hold class a, one holds b: f = (1, 1/4); t = 1/2 gives sqrt(2) for b."""
    both = field([square(DARK[0]), square(DARK[1])], labels=[0, 1])
    fields = FieldSet(("a", "b"), (field([square(DARK[0])]),) * 3 + (both,))
    np.testing.assert_allclose(repeat_factors(fields, 0.5), [1, 1, 1, 2**0.5])
    np.testing.assert_allclose(repeat_factors(fields, 0.25), 1)


def test_crowds_and_absent_classes_repeat_nothing():
    fields = FieldSet(("a", "b"), (field(crowd=[square(DARK[0])]), field([square(DARK[1])])))
    np.testing.assert_allclose(repeat_factors(fields, 1.0), [1, 2**0.5])


def test_fields_of_rare_classes_are_drawn_more_often():
    plain, rare = field([square(DARK[0])]), field([square(DARK[0])], labels=[1])
    fields = FieldSet(("a", "b"), (plain,) * 9 + (rare,))
    settings = CropSettings(size=128, around_cells=0, repeat_threshold=0.9)
    sampler = WindowSampler(fields, FieldImages(fields.fields), [1.0] * 10, settings)
    drawn = [sampler.draw(np.random.default_rng((1, i)))[0] for i in range(1000)]
    assert drawn.count(9) / 1000 == pytest.approx(3 / 12, abs=0.04)  # sqrt(0.9 / 0.1) of 3 + 9


@pytest.mark.parametrize("around", [0.0, 1.0])
def test_factors_steer_fields_by_their_largest_class_and_cells_by_their_own(around):
    """Nine fields of a, one of both classes; a is to come half as often, b eight times as often."""
    plain, both = field([square(DARK[0])]), field([square(corner) for corner in DARK[:2]], [0, 1])
    fields = FieldSet(("a", "b"), (plain,) * 8 + (field(),) + (both,))
    settings = CropSettings(size=128, around_cells=around, class_power=1)
    sampler = WindowSampler(
        fields, FieldImages(fields.fields, lambda _: None), [1.0] * 10, settings
    )
    factors = np.array([0.5, 8.0])
    drawn = [sampler.draw(np.random.default_rng((1, i)), factors)[0] for i in range(1000)]
    shares = np.bincount(drawn, minlength=10) / 1000
    if around:  # by class evenly, so 0.5 to 8; those of a in nine fields
        expected = np.array([0.5 / 9] * 8 + [0] + [8 + 0.5 / 9]) / 8.5
    else:
        expected = np.array([0.5] * 8 + [1.0] + [8.0]) / 13
    np.testing.assert_allclose(shares, expected, atol=0.05)
    assert sampler.draw(np.random.default_rng(7)) == sampler.draw(np.random.default_rng(7), None)


def test_hard_background_is_dark_and_has_no_annotated_cell():
    drawn = windows(field([square(DARK[0])]), hard_background=1.0)
    assert not shows(drawn, DARK[0]).any()
    seen = np.array([shows(drawn, corner) for corner in DARK[1:]])
    assert seen.any(axis=0).mean() > 0.95  # an overview's pixel is 8 µm wide
    assert (seen.mean(axis=1) > 0.2).all()  # all three of them, evenly


def test_hard_background_of_a_plain_image_with_nothing_else_lies_anywhere():
    one = field([square(corner) for corner in DARK])
    assert len(windows(one, hard_background=1.0, count=20)) == 20


def test_windows_on_a_slide_seldom_show_glass_alone():
    drawn = windows(field([square(DARK[0])]))
    showing = np.array([shows(drawn, corner) for corner in DARK]).any(axis=0)
    assert showing.mean() > 0.8  # by chance it were 0.15


def test_windows_never_lie_where_nobody_annotated():
    right = (SIDE // 2, 0, SIDE, SIDE)
    drawn = windows(field([square(DARK[0])], crowd=[right]), slide=False)
    assert (drawn[:, 0] < SIDE // 2).all()


def outside(left, top, right, bottom):
    """Maximal rectangles of what lies outside of a region."""
    return [(0, 0, left, SIDE), (right, 0, SIDE, SIDE), (0, 0, SIDE, top), (0, bottom, SIDE, SIDE)]


@pytest.mark.parametrize("slide", [True, False], ids=["slide", "image"])
def test_every_window_meets_a_small_annotated_region(slide, tmp_path):
    """Drawn at random, one in twenty would."""
    one = field([square(DARK[0])], crowd=outside(90, 90, 180, 180))
    if not slide:
        Image.fromarray(DarkSquares(None)._pixels).save(tmp_path / "a.png")
        one = replace(one, image=tmp_path / "a.png")
    drawn = windows(one, slide=slide)
    assert not any(is_covered(tuple(window), one.boxes[one.crowd]) for window in drawn)


def test_a_field_of_which_nothing_was_annotated_is_never_drawn():
    nothing = field(crowd=[(0, 0, SIDE, SIDE)])
    fields = FieldSet(("a", "b"), (nothing, field([square(DARK[0])]), nothing))
    settings = CropSettings(size=128, around_cells=0)
    sampler = WindowSampler(fields, FieldImages(fields.fields), [1.0] * 3, settings)
    assert {sampler.draw(np.random.default_rng(i))[0] for i in range(30)} == {1}
    with pytest.raises(ConfigError, match="nothing to learn from"):
        WindowSampler(replace(fields, fields=(nothing,)), FieldImages([nothing]), [1.0], settings)


def test_a_slide_that_cannot_be_opened_ends_nothing_before_it_is_read():
    def refuse(field):
        raise ImageError(field.image, "is gone")

    fields = FieldSet(("a", "b"), (field([square(DARK[0])]),))
    settings = CropSettings(size=128, around_cells=0, hard_background=0.5)
    sampler = WindowSampler(fields, FieldImages(fields.fields, refuse), [1.0], settings)
    assert [sampler.draw(np.random.default_rng(i))[0] for i in range(10)] == [0] * 10


def test_slides_without_cells_are_drawn_from_though_all_crops_were_to_lie_around_cells():
    drawn = windows(field(), 20, around_cells=1.0)
    assert len(drawn) == 20


def test_shares_are_no_more_than_all():
    with pytest.raises(ValidationError, match="together at most 1"):
        CropSettings(around_cells=0.7, hard_background=0.4)


def test_settings_at_their_defaults_draw_what_they_always_drew():
    """Recipes stay what they are: these windows were drawn before there was hard background."""
    drawn = windows(field([square(DARK[0])]), 3, slide=False, around_cells=0.5, scale=1.2)
    np.testing.assert_allclose(drawn[:, 0], EXPECTED, atol=0.01)


EXPECTED = [36.253, 719.727, 105.345]


def of_sources(counts, weights):
    """Fields of several sources, each with one cell."""
    fields = [
        replace(field([square(DARK[0])]), image=Path(f"{name}{i}.png"), source=name)
        for name, count in counts.items()
        for i in range(count)
    ]
    return FieldSet(("a",), tuple(fields), weights=weights)


def test_shares_of_sources_follow_fields_power_and_weight():
    fields = of_sources({"large": 16, "small": 4}, {})
    assert shares(fields, source_power=0) == {"large": 0.8, "small": 0.2}
    assert shares(fields, source_power=1) == {"large": 0.5, "small": 0.5}
    assert shares(fields, source_power=0.5) == pytest.approx({"large": 2 / 3, "small": 1 / 3})
    assert shares(fields, batches="balanced") == {"large": 0.5, "small": 0.5}
    weighed = of_sources({"large": 16, "small": 4}, {"small": 2.0})
    assert shares(weighed) == pytest.approx({"large": 2 / 3, "small": 1 / 3})


def shares(fields, **settings):
    return source_shares(fields, CropSettings(**settings))


@pytest.mark.parametrize("around", [0.0, 1.0])
def test_crops_come_from_sources_by_their_shares(around):
    fields = of_sources({"large": 16, "small": 4}, {})
    images = FieldImages(fields.fields, lambda _: None)
    for power, expected in [(0.0, 0.2), (1.0, 0.5)]:
        settings = CropSettings(size=128, around_cells=around, source_power=power)
        sampler = build_sampler(fields, images, [1.0] * 20, settings)
        drawn = np.array([sampler.draw(np.random.default_rng((5, i)))[0] for i in range(600)])
        assert np.mean(drawn >= 16) == pytest.approx(expected, abs=0.06)
        assert set(drawn[drawn >= 16]) == {16, 17, 18, 19}


def test_rare_fields_are_rare_within_their_source():
    """Class b is in one of four fields of the first source, and in all of the second."""
    a, b = field([square(DARK[0])]), field([square(DARK[0])], labels=[1])
    fields = [replace(one, source="one") for one in (a, a, a, b)]
    fields += [replace(b, source="two")] * 4
    one_set = FieldSet(("a", "b"), tuple(fields))
    images = FieldImages(one_set.fields, lambda _: None)
    settings = CropSettings(size=128, around_cells=0, repeat_threshold=1, source_power=1)
    sampler = build_sampler(one_set, images, [1.0] * 8, settings)
    drawn = np.array([sampler.draw(np.random.default_rng((5, i)))[0] for i in range(1200)])
    of_first = np.bincount(drawn[drawn < 4]) / (drawn < 4).sum()
    # t = 1: sqrt(1 / f) is sqrt(4 / 3) for class a, 2 for class b.
    expected = np.array([3**-0.5 * 2] * 3 + [2.0])
    np.testing.assert_allclose(of_first, expected / expected.sum(), atol=0.06)


def test_a_source_of_ignored_images_is_named():
    fields = of_sources({"one": 2}, {})
    covered = replace(field(crowd=[(0, 0, SIDE, SIDE)]), source="two")
    both = replace(fields, fields=(*fields.fields, covered))
    images = FieldImages(both.fields, lambda _: None)
    with pytest.raises(ConfigError, match="all of every image of the source two is to be ignored"):
        build_sampler(both, images, [1.0] * 3, CropSettings(size=128, source_power=0.5))


def test_balanced_batches_have_each_source_as_often_and_take_turns_with_what_is_over():
    fields = of_sources({"one": 6, "two": 1, "three": 2}, {})
    images = FieldImages(fields.fields, lambda _: None)
    settings = CropSettings(size=128, batches="balanced")
    sampler = build_sampler(fields, images, [1.0] * 9, settings)
    drawn = [sampler.draw(np.random.default_rng((5, i)), turn=i)[0] for i in range(40)]
    source = np.searchsorted([6, 7], drawn, side="right")
    assert source.tolist() == [0, 1, 2] * 13 + [0]
    assert len(set(drawn)) > 6
    for batch in source.reshape(5, 8):
        assert sorted(np.bincount(batch, minlength=3)) == [2, 3, 3]


def test_what_cannot_be_balanced_is_refused():
    one = of_sources({"one": 2}, {})
    weighed = of_sources({"one": 2, "two": 2}, {"two": 2.0})
    settings = CropSettings(size=128, batches="balanced")
    for fields, message in [(one, "needs several sources"), (weighed, "weight of those")]:
        images = FieldImages(fields.fields, lambda _: None)
        with pytest.raises(ConfigError, match=r"data\.crops\.batches: balanced .*" + message):
            build_sampler(fields, images, [1.0] * 4, settings)
    with pytest.raises(ValueError, match=r"batches: balanced .*source_power"):
        CropSettings(batches="balanced", source_power=0.5)
