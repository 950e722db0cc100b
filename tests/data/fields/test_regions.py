"""Slides cut into parts: each cell once, and nothing that is seen twice counts twice."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from configs import ConfigError
from data.evaluation import FieldCells, field_metrics
from data.fields.fieldset import Field, FieldSet
from data.fields.regions import cut_fields

WIDTH, HEIGHT = 3000, 2000


def slide(cells, crowd=(), mpp=0.5):
    boxes = np.array([*cells, *crowd], np.float32).reshape(-1, 4)
    return Field(
        image=Path("slide.svs"),
        width=WIDTH,
        height=HEIGHT,
        mpp=mpp,
        boxes=boxes,
        nuclei=(boxes[:, :2] + boxes[:, 2:]) / 2,
        labels=np.arange(len(boxes)) % 2,
        crowd=np.arange(len(boxes)) >= len(cells),
    )


def cut(one, **options):
    return cut_fields(FieldSet(("a", "b"), (one,)), 0.5, **options).fields


def box(x, y, side=40):
    return (x, y, min(x + side, WIDTH), min(y + side, HEIGHT))


cells = st.lists(
    st.builds(box, st.integers(0, WIDTH - 20), st.integers(0, HEIGHT - 20)),
    min_size=1,
    max_size=60,
    unique=True,
)


@given(cells)
def test_every_cell_belongs_to_one_part_which_shows_it_whole(boxes):
    parts = cut(slide(boxes), largest=700)
    found = [
        tuple(own + np.tile(part.origin, 2))
        for part in parts
        for own in part.boxes[~part.crowd].tolist()
    ]
    assert sorted(found) == sorted(map(tuple, np.array(boxes, float).tolist()))
    assert all(part.width <= 700 and part.height <= 700 for part in parts)


@settings(max_examples=30)
@given(cells)
def test_a_detector_that_finds_all_in_every_part_is_never_wrong(boxes):
    """What a part shows of its neighbours' cells counts neither as hit nor as false alarm."""
    whole = slide(boxes)
    truth, found = [], []
    for part in cut(whole, largest=700):
        seen = np.clip(whole.boxes - np.tile(part.origin, 2), 0, [part.width, part.height] * 2)
        shown = ((seen[:, 2:] - seen[:, :2]) > 1).all(axis=1)
        count = int(shown.sum())
        ones = np.ones(len(part.labels))
        truth.append(FieldCells(part.boxes, part.labels, ones, part.crowd))
        labels = whole.labels[shown]
        found.append(FieldCells(seen[shown], labels, np.full(count, 0.9), np.zeros(count, bool)))
    metrics = field_metrics(truth, found, ["a", "b"], [False, True])
    for label, name in enumerate("ab"):
        if (whole.labels == label).any():
            assert metrics[f"ap50/{name}"] == pytest.approx(1.0)


@pytest.mark.parametrize("shift", range(0, 700, 29))
def test_a_wide_cell_on_a_seam_is_whole_too(shift):
    wide = box(400 + shift, 300 + shift, side=320)
    own = [part.boxes[~part.crowd] for part in cut(slide([wide]))]
    ((left, top, right, bottom),) = np.concatenate(own).tolist()
    assert (right - left, bottom - top) == (320, 320)


def test_what_was_not_annotated_is_left_out():
    right = (1500, 0, WIDTH, HEIGHT)
    parts = cut(slide([box(100, 100)], crowd=[right]))
    assert max(part.origin[0] for part in parts) < 1500
    assert sum(int((~part.crowd).sum()) for part in parts) == 1


def test_small_fields_stay_as_they_are():
    small = replace(slide([box(5, 5)]), width=700, height=500)
    assert cut(small) == (small,)


def test_parts_know_their_slide_and_their_place():
    parts = cut(slide([box(100, 100)]))
    assert {part.group("slide") for part in parts} == {"slide.svs"}
    assert len({part.group("field") for part in parts}) == len(parts)


def test_a_field_without_mpp_is_refused():
    with pytest.raises(ConfigError, match=r"slide.svs: nobody gives the mpp"):
        cut(slide([box(5, 5)], mpp=None))
