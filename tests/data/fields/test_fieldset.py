"""What a set of fields says of itself."""

from pathlib import Path

import numpy as np
import pytest

from configs import ConfigError
from data.fields.fieldset import Field, FieldSet, check_apart, widest_cell


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


def test_what_runs_left_out_counts_once(tmp_path):
    one, other = tmp_path / "one.png", tmp_path / "other.png"
    one.touch()
    other.symlink_to(one)

    def part(**facts):
        return FieldSet(("cell",), (field([], **facts), field([], **facts, origin=(9, 9))))

    alone = part(image=one)
    check_apart([alone, part(image=tmp_path / "third.png")], ["a", "b"])
    for runs in (["a", "b"], ["a", "a"]):  # by whatever name
        for again in (alone, part(image=other)):
            with pytest.raises(ConfigError, match=rf"{' and '.join(runs)} both left .*png out"):
                check_apart([alone, again], runs)
    same = [part(image=image, slide="s") for image in (one, tmp_path / "copy.png")]
    with pytest.raises(ConfigError, match="a and b both left slide s out"):
        check_apart(same, ["a", "b"])
