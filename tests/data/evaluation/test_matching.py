"""Average precision and its kin on cases small enough to count by hand."""

import math

import numpy as np
import pytest
from cellcases import HERE, NOWHERE, THERE, cells, crowd, join_cells, random_fields

from configs import ConfigError
from data.evaluation import (
    FALSE_ALARM,
    IGNORED,
    average_precision,
    field_metrics,
    load_cells,
    matches,
    most_certain,
    partners,
    pool,
    save_cells,
)


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


@pytest.mark.filterwarnings("ignore:Mean of empty slice")  # of no abnormal class
@pytest.mark.parametrize("seed", range(3))
def test_pooled_figures_are_pycocotools(seed):
    truth, found = random_fields(seed)
    metrics = field_metrics(truth, found, ["NILM"], [False])
    expected = average_precision(*pool(truth, found, np.array([0])), 1)
    assert metrics["ap50/any"] == pytest.approx(expected["ap50"][0], abs=1e-9)
    assert metrics["recall50/any"] == pytest.approx(expected["recall50"][0])


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
    assert matched.recall == 0.5
    assert math.isnan(matches([cells()], found[:1], 1, 0).recall)


def test_pooling_names_each_cell_once():
    truth, found = pool(
        [cells((HERE, 1))],
        [cells((HERE, 1, 0.6), (HERE, 2, 0.7), (HERE, 0, 0.9))],
        np.array([1, 2]),
    )
    assert truth[0].labels.tolist() == [0]
    assert found[0].scores.tolist() == [0.7]


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


def test_average_recall_is_the_mean_over_the_overlaps():
    """Moved by 2 of 10 px the IoU is 80 / 120 = 0.67: found at 0.5, 0.55, 0.6 and 0.65 of ten."""
    result = average_precision([cells((HERE, 0))], [cells(([2, 0, 12, 10], 0, 0.9))], 1)
    assert result["ar"] == pytest.approx([0.4])
    assert result["ap"] == pytest.approx([0.4])
    assert result["ap75"] == [0]


def test_more_than_a_thousand_detections_of_one_field_count():
    """As a large part of a slide has them; the cells have the lowest scores."""
    junk = [([500, y, 510, y + 10], 0, 0.9) for y in range(1200)]
    found = [cells(*junk, (HERE, 0, 0.1))]
    assert matches([cells((HERE, 0))], found, 1, 0).hits.sum() == 1
    assert average_precision([cells((HERE, 0))], found, 1)["recall50"] == [1]


def test_partners_are_found_whatever_the_names():
    truth = [
        cells((THERE, 2)),
        join_cells(crowd([40, 40, 100, 100]), cells((HERE, 1))),
        cells(),
    ]
    found = [
        cells((HERE, 1, 0.9)),
        cells((NOWHERE, 0, 0.8), (THERE, 2, 0.7), (HERE, 0, 0.3), (HERE, 2, 0.4)),
        cells((HERE, 0, 0.5)),
    ]
    rows = [field.tolist() for field in partners(truth, found)]
    assert rows == [[FALSE_ALARM], [FALSE_ALARM, IGNORED, FALSE_ALARM, 1], [FALSE_ALARM]]


@pytest.mark.parametrize("seed", range(5))
def test_partners_agree_with_the_matches_of_one_class(seed):
    truth, found = random_fields(seed)
    rows = np.concatenate(partners(truth, found))
    assert (rows >= 0).sum() == matches(truth, found, 1, 0).hits.sum()
    for cell, of_field in zip(truth, partners(truth, found), strict=True):
        hits = of_field[of_field >= 0]
        assert len(set(hits)) == len(hits)
        assert (hits < len(cell)).all()


def test_the_most_certain_detections_are_kept():
    found = cells((HERE, 0, 0.2), (THERE, 1, 0.9), (NOWHERE, 2, 0.5))
    assert most_certain(found, 2).labels.tolist() == [1, 2]
    assert most_certain(found, 9).labels.tolist() == [1, 2, 0]


def test_kept_cells_come_back(tmp_path):
    truth, found = random_fields(0, classes=3)
    save_cells(tmp_path / "cells.npz", truth, found)
    again = load_cells(tmp_path / "cells.npz")
    for side, kept in zip((truth, found), again, strict=True):
        for one, other in zip(side, kept, strict=True):
            for name in ("boxes", "labels", "scores", "crowd"):
                assert (getattr(one, name) == getattr(other, name)).all()


@pytest.mark.parametrize(
    "odd",
    [
        {"fields": np.array([6])},
        {"fields": np.array([-1, 7])},
        {"fields": np.array([2**62, 2**62])},
        {"labels": np.array([0, 0, 0, 0, 0, -1])},
        {"labels": np.zeros(6)},
        {"scores": np.full(6, np.nan)},
        {"boxes": np.zeros((6, 3))},
        {"boxes": np.array(["x"] * 6)},
        {"crowd": np.zeros(5, bool)},
    ],
    ids=str,
)
def test_kept_cells_that_do_not_fit_each_other_are_refused(tmp_path, odd):
    arrays = {
        "fields": np.array([2, 4]),
        "boxes": np.zeros((6, 4)),
        "labels": np.zeros(6, np.int64),
        "scores": np.ones(6),
        "crowd": np.zeros(6, bool),
    }
    path = tmp_path / "cells.npz"
    np.savez(path, **arrays)
    assert [len(side[0]) for side in load_cells(path)] == [2, 4]
    np.savez(path, **arrays | odd)
    with pytest.raises(ConfigError, match=r"cells\.npz: not what .* kept"):
        load_cells(path)


def test_kept_cells_that_are_gone_or_no_archive_are_refused_in_a_line(tmp_path):
    path = tmp_path / "cells.npz"
    with pytest.raises(ConfigError, match=r"cells\.npz: No such file"):
        load_cells(path)
    path.write_bytes(b"PK\x03\x04")
    with pytest.raises(ConfigError, match=r"cells\.npz: not what .* kept: no archive"):
        load_cells(path)
