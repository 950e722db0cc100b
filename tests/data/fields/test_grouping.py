"""Fields of which nobody says the slide or patient that they are to be grouped by."""

from pathlib import Path

import numpy as np
import pytest

from configs import ConfigError
from data.fields.fieldset import Field, FieldSet
from data.fields.grouping import grouping_of, with_group_doubts


def fields(*groups):
    """One of each (slide, patient)."""
    boxes, labels, crowd = np.zeros((0, 4), np.float32), np.zeros(0, int), np.zeros(0, bool)
    parts = (Path("a.png"), 10, 10, 0.5, boxes, boxes[:, :2], labels, crowd)
    found = tuple(Field(*parts, slide=slide, patient=patient) for slide, patient in groups)
    return FieldSet(("NILM",), found)


def told(found, by):
    return [str(doubt) for doubt in with_group_doubts(found, by).doubts]


def test_some_without_a_patient_are_told():
    assert told(fields(("a", "p"), ("b", ""), ("c", "q")), "patient") == [
        "of 1 of 3 fields nobody says the patient: the slide, or image, of each counts as a "
        "patient of its own; --groups can tell [group-unknown]"
    ]
    assert told(fields(("a", "p"), ("b", "q")), "patient") == []


def test_without_any_patient_there_is_no_grouping_by_them():
    with pytest.raises(ConfigError, match="--by patient: nobody says whose the images are"):
        with_group_doubts(fields(("a", ""), ("b", "")), "patient")


def test_images_may_be_slides_but_not_among_those_that_name_theirs():
    assert told(fields(("", ""), ("", "")), "slide") == []
    assert told(fields(("a", ""), ("", "")), "slide") == [
        "of 1 of 2 fields nobody says the slide: the image of each counts as a slide of its own; "
        "--groups can tell [group-unknown]"
    ]
    assert told(fields(("a", ""), ("", "")), "field") == []


def test_no_other_grouping():
    assert grouping_of("slide") == "slide"
    with pytest.raises(ConfigError, match="--by hospital: expected field, slide, patient"):
        grouping_of("hospital")
