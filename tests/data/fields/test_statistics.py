"""Figures of a set, against counts by hand."""

from dataclasses import replace

import numpy as np
from annotatedfields import field

from data.fields.fieldset import FieldSet
from data.fields.statistics import cells_a_tile, describe_classes


def test_cells_are_counted_by_class_and_measured_in_micrometres():
    one = field("a.png", (0, 1), slide="s", patient="p")
    two = replace(
        field("b.png", (1, 1), slide="s"),
        boxes=np.array([[20, 20, 60, 40], [50, 50, 100, 100]], np.float32),
    )
    normal, abnormal = describe_classes(FieldSet(("NILM", "HSIL"), (one, two)))
    assert (normal.cells, normal.fields, normal.slides, normal.patients) == (1, 1, 1, 1)
    assert (abnormal.cells, abnormal.fields, abnormal.slides, abnormal.patients) == (3, 2, 1, 1)
    assert sorted(abnormal.sides) == [5, 20, 25]
    assert (normal.clipped, abnormal.clipped) == (1, 2)
    assert normal.side_percentiles() == [5, 5, 5]


def test_crowds_are_no_cells():
    ignored = replace(field("a.png", (0,)), crowd=np.array([True]))
    (normal,) = describe_classes(FieldSet(("NILM",), (ignored,)))
    assert (normal.cells, normal.side_percentiles()) == (0, [])


def test_tiles_are_laid_edge_to_edge():
    boxes = np.array([[0, 0, 10, 10], [40, 0, 60, 10], [85, 85, 95, 95]], np.float32)
    one = replace(field("a.png", (0, 0, 0)), boxes=boxes)
    assert cells_a_tile(one, 40).tolist() == [1, 1, 0, 0, 0, 0, 0, 0, 1]
