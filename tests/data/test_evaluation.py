"""Average precision and its kin on cases small enough to count by hand."""

import math

import numpy as np
import pytest

from data.evaluation import (
    FieldCells,
    Matches,
    ap_of_matches,
    average_precision,
    best_threshold,
    field_metrics,
    froc,
    matches,
    pool,
)

HERE, THERE, NOWHERE = [0, 0, 10, 10], [50, 50, 60, 60], [80, 0, 90, 10]


def cells(*rows):
    """Rows of box, label and, for detections, score."""
    boxes = np.array([row[0] for row in rows], float).reshape(-1, 4)
    labels = np.array([row[1] for row in rows], int)
    scores = np.array([row[2] if len(row) > 2 else 1.0 for row in rows], float)
    return FieldCells(boxes, labels, scores, np.zeros(len(rows), bool))


def test_perfect_detections_have_ap_one():
    truth = [cells((HERE, 0), (THERE, 1))]
    found = [cells((HERE, 0, 0.9), (THERE, 1, 0.8))]
    result = average_precision(truth, found, 2)
    for values in result.values():
        assert values == pytest.approx([1, 1])


def test_ap_counted_by_hand():
    """Two cells; a hit, a miss, a hit by falling score: precision 1, 1/2, 2/3 at recall 1/2, 1."""
    truth = [cells((HERE, 0), (THERE, 0))]
    found = [cells((HERE, 0, 0.9), (NOWHERE, 0, 0.8), (THERE, 0, 0.7))]
    ap50 = average_precision(truth, found, 1)["ap50"][0]
    assert ap50 == pytest.approx((51 * 1 + 50 * 2 / 3) / 101)  # COCO's 101 recalls


def test_a_class_without_cells_has_no_ap():
    result = average_precision([cells((HERE, 0))], [cells((HERE, 0, 0.9))], 2)
    assert math.isnan(result["ap50"][1])


def test_more_than_a_hundred_detections_count():
    grid = [[12 * i, 12 * j, 12 * i + 10, 12 * j + 10] for i in range(15) for j in range(15)]
    truth = [cells(*[(box, 0) for box in grid])]
    found = [cells(*[(box, 0, 0.5) for box in grid])]
    assert average_precision(truth, found, 1)["recall50"][0] == 1


def test_pooled_abnormal_forgives_the_wrong_abnormal_name():
    truth = [cells((HERE, 1), (THERE, 0))]
    found = [cells((HERE, 2, 0.9), (HERE, 1, 0.4), (THERE, 0, 0.8))]
    metrics = field_metrics(truth, found, ["NILM", "LSIL", "HSIL"], [False, True, True])
    assert metrics["ap50/LSIL"] == pytest.approx(1)
    assert metrics["ap50/abnormal"] == pytest.approx(1)
    assert metrics["ap50/any"] == pytest.approx(1)
    assert metrics["map50"] == pytest.approx(1)


def test_matches_count_each_cell_once():
    truth = [cells((HERE, 0)), cells((THERE, 0))]
    found = [cells((HERE, 0, 0.9), (HERE, 0, 0.8)), cells((NOWHERE, 0, 0.7))]
    matched = matches(truth, found, 1, 0)
    assert matched.cells == 2
    assert sorted(zip(matched.scores, matched.hits, strict=True)) == [
        (0.7, False),
        (0.8, False),
        (0.9, True),
    ]


def test_the_threshold_with_the_best_f():
    matched = Matches(np.array([0.9, 0.2, 0.6, 0.4]), np.array([True, False, True, False]), 2)
    assert best_threshold(matched) == 0.6
    late = Matches(np.array([0.9, 0.5, 0.4, 0.3]), np.array([True, False, False, True]), 2)
    assert best_threshold(late, beta=1) == 0.9  # F1 2/3 at 0.9 and at 0.3: the first stays
    assert best_threshold(late, beta=2) == 0.3  # F2 0.83 against 0.56
    assert best_threshold(Matches(np.array([0.9]), np.array([False]), 3)) == 0.5
    assert best_threshold(Matches(np.zeros(0), np.zeros(0, bool), 0)) == 0.5


def test_froc_counted_by_hand():
    """Falling score: hit, miss, hit over two fields with four cells."""
    matched = Matches(np.array([0.9, 0.8, 0.7]), np.array([True, False, True]), 4)
    assert froc(matched, 2, (0.25, 0.5, 1)) == {0.25: 0.25, 0.5: 0.5, 1: 0.5}
    nothing = Matches(np.zeros(0), np.zeros(0, bool), 4)
    assert froc(nothing, 2, (1,)) == {1: 0}


def test_pooling_names_each_cell_once():
    truth, found = pool(
        [cells((HERE, 1))],
        [cells((HERE, 1, 0.6), (HERE, 2, 0.7), (HERE, 0, 0.9))],
        np.array([1, 2]),
    )
    assert truth[0].labels.tolist() == [0]
    assert found[0].scores.tolist() == [0.7]


def random_fields(seed, count=6):
    rng = np.random.default_rng(seed)
    truth, found = [], []
    for _ in range(count):
        corners = rng.uniform(0, 200, (int(rng.integers(0, 12)), 2))
        truth.append(cells(*[([x, y, x + 20, y + 20], 0) for x, y in corners]))
        moved = corners + rng.normal(0, 6, corners.shape)
        extra = rng.uniform(0, 200, (5, 2))
        places = np.concatenate([moved, extra])
        scores = rng.random(len(places))
        rows = zip(places, scores, strict=True)
        found.append(cells(*[([x, y, x + 20, y + 20], 0, s) for (x, y), s in rows]))
    return truth, found


@pytest.mark.parametrize("seed", range(5))
def test_ap_of_matches_is_pycocotools(seed):
    truth, found = random_fields(seed)
    expected = average_precision(truth, found, 1)["ap50"][0]
    assert ap_of_matches(matches(truth, found, 1, 0)) == pytest.approx(expected, abs=1e-9)


def crowd(box, label=0):
    return FieldCells(np.array([box], float), np.array([label]), np.ones(1), np.ones(1, bool))


def join_cells(*parts):
    names = ("boxes", "labels", "scores", "crowd")
    return FieldCells(*(np.concatenate([getattr(p, n) for p in parts]) for n in names))


@pytest.mark.parametrize("label", [0, 1])
def test_in_a_crowd_nothing_is_a_false_alarm_whatever_its_class(label):
    truth = [join_cells(cells((HERE, 0), (HERE, 1)), crowd([40, 40, 100, 100], label))]
    found = [cells((THERE, 0, 0.9), (THERE, 1, 0.9), (HERE, 0, 0.5), (HERE, 1, 0.5))]
    assert average_precision(truth, found, 2)["ap50"] == pytest.approx([1, 1])
    assert average_precision([cells((HERE, 0), (HERE, 1))], found, 2)["ap50"] == pytest.approx(0.5)


def test_a_crowd_stays_one_in_any_group_of_classes():
    truth = [join_cells(cells((HERE, 1)), crowd([40, 40, 100, 100], 0))]
    found = [cells((THERE, 1, 0.9), (HERE, 1, 0.5))]
    assert matches(*pool(truth, found, np.array([1])), 1, 0).hits.tolist() == [True]
    assert matches(*pool(truth, found, np.array([1])), 1, 0).cells == 1
