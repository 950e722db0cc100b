"""The worst errors: which they are, and what their pictures show."""

import io

import numpy as np
import pytest
from cellcases import cells, crowd, join_cells
from evidence import make_evidence, two_fields
from PIL import Image

from scripts.evaluation.errors import false_alarms, missed_cells, take_pictures

LEFT, MIDDLE, RIGHT = [0, 0, 20, 20], [60, 40, 80, 60], [150, 70, 170, 90]


def told(errors):
    return [(e.field, e.label, round(e.score, 2), e.note) for e in errors]


def test_missed_cells_and_false_alarms_of_two_fields():
    evidence = make_evidence(*two_fields())
    assert told(missed_cells(evidence)) == [(1, 1, 0.2, "nothing reported")]
    # What is called LSIL where an HSIL is found an abnormal cell: no false alarm.
    assert told(false_alarms(evidence)) == [(0, 2, 0.7, "no cell marked")]


def test_severe_cells_come_first_then_those_that_were_seen_least():
    truth = [cells((LEFT, 1), (MIDDLE, 1), (RIGHT, 2))]
    found = [cells((LEFT, 1, 0.4), (MIDDLE, 0, 0.9), (RIGHT, 1, 0.3))]
    assert told(missed_cells(make_evidence(truth, found))) == [
        (0, 2, 0.3, "nothing reported"),
        (0, 1, 0.0, "NILM 0.90"),
        (0, 1, 0.4, "nothing reported"),
    ]


def test_two_cells_in_one_place_found_once():
    """Both overlap the detection by more than half; the second is missed."""
    near = [2, 0, 22, 20]
    evidence = make_evidence([cells((LEFT, 2), (near, 1))], [cells((LEFT, 2, 0.9))])
    assert told(missed_cells(evidence)) == [(0, 1, 0.9, "HSIL 0.90 found its neighbour")]


def test_the_surest_false_alarm_comes_first_with_what_is_marked_there():
    truth = [cells((LEFT, 0))]
    found = [cells((LEFT, 2, 0.6), (RIGHT, 1, 0.8))]
    assert told(false_alarms(make_evidence(truth, found))) == [
        (0, 1, 0.8, "no cell marked"),
        (0, 2, 0.6, "marked NILM"),
    ]


def test_ignored_regions_are_no_errors():
    truth = [join_cells(crowd([100, 50, 200, 100]), cells((LEFT, 1)))]
    found = [cells((RIGHT, 2, 0.9), (LEFT, 1, 0.9))]
    evidence = make_evidence(truth, found)
    assert missed_cells(evidence) == []
    assert false_alarms(evidence) == []


def test_normal_cells_are_no_errors_of_this_kind():
    evidence = make_evidence([cells((LEFT, 0))], [cells((RIGHT, 0, 0.9))])
    assert missed_cells(evidence) == []
    assert false_alarms(evidence) == []


def test_a_picture_has_the_cell_in_the_middle_with_its_neighbours(tmp_path):
    """At 0.5 µm/px a picture of 64 µm is 128 px wide: the cell's 20 px are 15.6% of it."""
    box, near = [140, 140, 160, 160], [170, 140, 190, 160]
    truth, found = [cells((box, 1), (near, 0))], [cells((near, 0, 0.9))]
    evidence = make_evidence(truth, found, folder=tmp_path, width=300, height=300, mpp=0.5)
    picture = take_pictures(evidence, missed_cells(evidence))[0]
    assert Image.open(io.BytesIO(picture.jpeg)).size == (128, 128)
    assert picture.bar == pytest.approx(20 / 128 * 100, abs=0.01)
    main = next(b for b in picture.boxes if b.main)
    assert main.frame == pytest.approx((42.19, 42.19, 15.62, 15.62), abs=0.02)
    rest = {(b.title, b.marked, b.frame) for b in picture.boxes if not b.main}
    place = pytest.approx(65.62, abs=0.02)
    assert {title for title, *_ in rest} == {"marked NILM", "reported NILM 0.90"}
    assert all(frame[0] == place for *_, frame in rest)


@pytest.mark.parametrize("size", [(40, 30), (200, 100)])
def test_at_the_edge_the_picture_stays_in_the_field(tmp_path, size):
    width, height = size
    corner = [width - 10, height - 10, width, height]
    evidence = make_evidence(
        [cells((corner, 2))], [cells()], folder=tmp_path, width=width, height=height, mpp=None
    )
    picture = take_pictures(evidence, missed_cells(evidence))[0]
    left, top, wide, high = picture.boxes[0].frame
    assert left + wide == pytest.approx(100, abs=0.1)
    assert top + high == pytest.approx(100, abs=0.1)
    assert picture.bar is None


def test_only_the_worst_are_pictured(tmp_path):
    boxes = [[30 * i, 0, 30 * i + 20, 20] for i in range(6)]
    scores = np.linspace(0.6, 0.9, 6)
    found = [cells(*[(b, 2, s) for b, s in zip(boxes, scores, strict=True)])]
    evidence = make_evidence([cells()], found, folder=tmp_path)
    pictures = take_pictures(evidence, false_alarms(evidence), limit=2)
    assert [round(p.error.score, 2) for p in pictures] == [0.9, 0.84]
