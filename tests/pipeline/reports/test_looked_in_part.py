"""Of a slide that was looked at in part, figures promise no more than either look would."""

import math

import pytest

from models.card import Accuracy, CountFacts, FalseAlarms, Figure, LevelFigures, RateFacts
from pipeline.cells.classes import name_classes
from pipeline.reports.looked_in_part import least_accuracy, widest_alarms

CLASSES = name_classes(["NILM", "LSIL", "HSIL"], [False, True, True])


def rate(per_mm2, confused=0.0):
    return RateFacts(
        per_mm2=per_mm2,
        between=0.5,
        within=0.1,
        units=10,
        slides=5,
        mm2=2.0,
        found=3,
        unit_mm2=0.2,
        confused=confused,
    )


def alarms(data="val", **groups):
    thresholds = dict.fromkeys(["NILM", "LSIL", "HSIL"], 0.3)
    return FalseAlarms(groups=groups, unit="field", data=data, thresholds=thresholds)


def level(recall):
    figure = Figure(value=recall, low=recall - 0.1, high=recall + 0.1)
    return LevelFigures(cells=20, ap50=figure, recall=figure, precision=figure)


def accuracy(recall, ratio=1.0, data="val"):
    counting = CountFacts(
        ratio=ratio, spread=0.04, error=0.01, noise=0.1, units=30, cells=100, reported=100
    )
    names = ("abnormal", "any", "NILM", "LSIL", "HSIL")
    return Accuracy(
        groups=dict.fromkeys(names, level(recall)),
        counting=counting,
        level=0.95,
        data=data,
        thresholds=dict.fromkeys(["NILM", "LSIL", "HSIL"], 0.3),
    )


def test_chance_has_what_the_worse_of_both_has_group_by_group():
    after = alarms(HSIL=rate(2.0, confused=0.3), abnormal=rate(5.0))
    alone = alarms(HSIL=rate(4.0, confused=0.1), abnormal=rate(3.0))
    widest = widest_alarms(after, alone)
    assert {name: facts.per_mm2 for name, facts in widest.groups.items()} == {
        "HSIL": 4.0,
        "abnormal": 5.0,
    }
    assert widest.groups["HSIL"].confused == 0.3
    assert "whichever has more" in widest.data


def test_where_one_is_unknown_chance_is():
    known = alarms(abnormal=rate(1.0))
    assert widest_alarms(known, None) is None
    assert widest_alarms(None, known) is None


def test_abnormal_cells_that_were_all_looked_at_keep_the_figures_of_the_look():
    least = least_accuracy(accuracy(0.9), accuracy(0.6), CLASSES, abnormal_left=0)
    recalls = {name: facts.recall.value for name, facts in least.groups.items()}
    assert recalls == {"abnormal": 0.9, "any": 0.6, "NILM": 0.6, "LSIL": 0.9, "HSIL": 0.9}


def test_where_some_were_not_all_figures_are_the_lower_ones_with_room_for_both():
    least = least_accuracy(accuracy(0.9), accuracy(0.6), CLASSES, abnormal_left=3)
    figure = least.groups["HSIL"].recall
    assert figure.value == 0.6
    assert (figure.low, figure.high) == pytest.approx((0.5, 1.0))


def test_cells_a_reported_one_lie_between_both_and_their_distance_is_spread():
    after, alone = accuracy(0.9, ratio=1.0), accuracy(0.6, ratio=math.e)
    counting = least_accuracy(after, alone, CLASSES, abnormal_left=0).counting
    assert counting.ratio == pytest.approx(math.exp(0.5), abs=1e-4)
    assert counting.spread == pytest.approx(0.04 + 0.25, abs=1e-4)


def test_without_figures_of_the_detector_only_those_of_the_look_are_left():
    least = least_accuracy(accuracy(0.9), None, CLASSES, abnormal_left=0)
    assert set(least.groups) == {"abnormal", "LSIL", "HSIL"}
    assert least.counting is None
    assert least_accuracy(accuracy(0.9), None, CLASSES, abnormal_left=1) is None
    assert least_accuracy(None, accuracy(0.6), CLASSES, abnormal_left=0) is None
