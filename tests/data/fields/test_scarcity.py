"""Classes without cells to learn from, or with too few to judge by."""

from pathlib import Path

import numpy as np

from data.fields.fieldset import Field, FieldSet
from data.fields.scarcity import class_doubts, with_class_doubts


def fields(**counts):
    labels = np.repeat(np.arange(len(counts)), list(counts.values()))
    boxes = np.zeros((len(labels), 4), np.float32)
    none = np.zeros(len(labels), bool)
    one = Field(Path("a.png"), 10, 10, 0.5, boxes, boxes[:, :2], labels, none)
    return FieldSet(tuple(counts), (one,))


def told(found, use):
    return [(doubt.code, doubt.text) for doubt in class_doubts(found, use)]


def test_a_class_without_cells_is_never_learned():
    assert told(fields(NILM=1, HSIL=0, SCC=0), "learn from") == [
        ("class-untrained", "there is no cell of HSIL, SCC to learn from: never to be found")
    ]
    assert told(fields(NILM=1), "learn from") == []


def test_a_class_of_fewer_than_twenty_cells_is_hardly_judged():
    assert told(fields(NILM=20, HSIL=19, SCC=0), "judge by") == [
        (
            "class-unjudged",
            "fewer than 20 cells to judge HSIL (19), SCC (0) by: their intervals, and figures, "
            "say little",
        )
    ]
    assert told(fields(NILM=20), "judge by") == []


def test_they_stand_beside_what_was_odd_before():
    found = with_class_doubts(with_class_doubts(fields(NILM=0), "learn from"), "judge by")
    assert [doubt.code for doubt in found.doubts] == ["class-untrained", "class-unjudged"]
