"""Boxes that can't be what their format says: shares of the image, corners for extents."""

import numpy as np
import pytest
from annotationfiles import HEIGHT, WIDTH, write_blank, write_coco, write_csv, write_json, write_voc
from hypothesis import given
from hypothesis import strategies as st

from configs import ConfigError
from data.annotations import read_fields
from data.annotations.plausible import repeated

NAME = "a.png"


@pytest.fixture
def folder(tmp_path):
    write_blank(tmp_path / NAME)
    return tmp_path


def write_boxes(folder, *boxes):
    """COCO whose bbox is just what is given."""
    return write_json(
        folder / "c.json",
        {
            "images": [{"id": 1, "file_name": NAME}],
            "categories": [{"id": 1, "name": "HSIL"}],
            "annotations": [
                {"id": i, "image_id": 1, "category_id": 1, "bbox": list(box)}
                for i, box in enumerate(boxes, 1)
            ],
        },
    )


@pytest.mark.parametrize("writer", [write_coco, write_csv, write_voc])
def test_shares_of_the_image_are_no_pixels(folder, writer):
    cells = [("HSIL", 0.1, 0.1, 0.3, 0.4), ("HSIL", 0.5, 0.5, 0.9, 1.0)]
    with pytest.raises(ConfigError, match=r"shares of the image, not pixels.*\[boxes-are-shares\]"):
        read_fields(writer(folder, NAME, cells), [folder])


@pytest.mark.parametrize("box", [(0, 0, 0, 0), (-1, -1, -1, -1)])
def test_boxes_that_stand_for_none_are_no_shares(folder, box):
    found = read_fields(write_boxes(folder, box), [folder])
    assert found.class_counts() == [0]


def test_one_slip_at_the_corner_does_not_make_shares_of_all(folder):
    cells = [("HSIL", 0, 0, 1, 1), ("HSIL", 100, 120, 180, 190)]
    assert read_fields(write_coco(folder, NAME, cells), [folder]).class_counts() == [1]


def test_corners_are_no_extents(folder):
    path = write_boxes(folder, [700, 600, 780, 690], [300, 200, 380, 270], [900, 80, 980, 150])
    with pytest.raises(ConfigError) as told:
        read_fields(path, [folder])
    assert "2 of 3 boxes reach over the border" in str(told.value)
    assert "x_min, y_min, x_max, y_max" in str(told.value)
    assert str(told.value).endswith("[boxes-are-corners]")


@pytest.mark.parametrize(
    "boxes",
    [
        [(1150, 850, 80, 80), (10, 10, 40, 40)],  # a cell at the border, whose extent is no corner
        [(2, 3, 1199, 20)],  # a pixel over the border
        [(20, 20, 60, 60)],  # as corners or extents it lies on the image
    ],
)
def test_extents_that_may_be_are_taken(folder, boxes):
    found = read_fields(write_boxes(folder, *boxes), [folder])
    x, y, width, height = boxes[0]
    expected = [x, y, min(x + width, WIDTH), min(y + height, HEIGHT)]
    assert found.fields[0].boxes[0].tolist() == expected


def test_cells_that_were_drawn_twice_count_as_drawn_and_are_told(folder):
    cells = [("HSIL", 1, 2, 30, 40)] * 3 + [("NILM", 1, 2, 30, 40), ("NILM", 50, 60, 90, 99)]
    found = read_fields(write_coco(folder, NAME, cells), [folder])
    assert found.class_counts() == [3, 2]
    assert {doubt.code: doubt.text for doubt in found.doubts} == {
        "cells-twice": "cells have the box and the class of another one; each counts "
        "(2 in instances.json)",
        "cells-of-two-classes": "boxes stand there in several classes; each counts "
        "(instances.json)",
    }


@given(st.lists(st.tuples(st.integers(0, 2), st.sampled_from("AB")), max_size=12))
def test_what_repeats_is_counted_as_by_hand(cells):
    boxes = np.array([[x, 0, x + 1, 1] for x, _ in cells], float).reshape(-1, 4)
    twice, several = repeated(boxes, np.array([name for _, name in cells], object))
    assert twice == len(cells) - len(set(cells))
    assert several == sum({(x, "A"), (x, "B")} <= set(cells) for x in range(3))
