"""What a set of fields says of itself."""

from pathlib import Path

import numpy as np
import pytest

from data.fields.fieldset import Field, FieldSet, widest_cell


def field(boxes, crowd=(), **facts):
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    flags = np.isin(np.arange(len(boxes)), crowd)
    values = {"image": Path("a.png"), "width": 1000, "height": 1000, "mpp": 0.5} | facts
    middles = (boxes[:, :2] + boxes[:, 2:]) / 2
    return Field(
        boxes=boxes, nuclei=middles, labels=np.zeros(len(boxes), int), crowd=flags, **values
    )


def test_the_widest_cell_is_in_micrometres_and_no_crowd():
    fine = field([[0, 0, 40, 20], [0, 0, 900, 900]], crowd=[1])
    coarse = field([[0, 0, 10, 30]], mpp=1.0)
    fields = FieldSet(("cell",), (fine, coarse, field([]), field([[0, 0, 99, 99]], mpp=None)))
    assert widest_cell(fields) == pytest.approx(30, abs=0.1)


def test_a_field_belongs_to_the_next_smaller_thing_that_is_known():
    part = field([], origin=(5, 7))
    assert [part.group(by) for by in ("field", "slide", "patient")] == [
        "a.png@5,7",
        "a.png",
        "a.png",
    ]
    named = field([], slide="s", patient="p")
    assert [named.group(by) for by in ("slide", "patient")] == ["s", "p"]


def test_a_set_without_fields_has_no_cells():
    assert FieldSet(("A", "B"), ()).class_counts() == [0, 0]
