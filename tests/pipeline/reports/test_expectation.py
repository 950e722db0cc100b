"""Found against expected by chance."""

import numpy as np
import pytest
from fakes import CLASSES, MODEL, make_alarms

from configs import ConfigError
from data.evaluation import Mistakes
from pipeline.reports.expectation import (
    describe_mistakes,
    describe_negatives,
    expect_cells,
    load_negatives,
    version_of,
    why_not,
)

RNG = np.random.default_rng(0)
MM2 = np.full(40, 0.1)
ALARMS = np.stack([RNG.poisson(rate * MM2) for rate in (0, 30, 10, 0, 20, 0)], axis=1)


def described(confused=None):
    confused = np.zeros((len(ALARMS), 6, 6), np.int64) if confused is None else confused
    mistakes = Mistakes(ALARMS, confused)
    return describe_mistakes(mistakes, MM2, CLASSES, data="d", thresholds=MODEL.threshold)


def test_rates_are_those_of_classes_grades_and_all_abnormal_ones():
    groups = described().groups
    assert set(groups) == {c.name for c in CLASSES[1:]} | {"low grade", "high grade", "abnormal"}
    totals = ALARMS.sum(axis=0)
    assert groups["ASC-US"].found == totals[1]
    assert groups["low grade"].found == totals[1] + totals[2]
    assert groups["high grade"].found == totals[4]
    assert groups["abnormal"].found == totals.sum()
    assert groups["HSIL"].per_mm2 == pytest.approx((totals[4] + 0.5) / 4.0, abs=1e-3)


def test_confusion_is_the_share_of_other_abnormal_cells():
    confused = np.zeros((len(ALARMS), 6, 6), np.int64)
    confused[3, 2, 2], confused[7, 2, 4], confused[7, 5, 4], confused[9, 4, 4] = 60, 30, 10, 50
    groups = described(confused).groups
    assert groups["HSIL"].confused == pytest.approx(40 / 100)
    assert groups["high grade"].confused == pytest.approx(30 / 90, abs=1e-4)
    assert groups["abnormal"].confused == 0
    assert groups["HSIL"].confused_spread == 1.0  # of two fields only


def test_a_slide_may_confuse_more_than_the_mean_of_slides():
    even, uneven = np.zeros((2, len(ALARMS), 6, 6), np.int64)
    even[:, 2, 2], even[:, 2, 4] = 18, 2  # two of twenty LSIL on each field
    uneven[:, 2, 2] = 20
    uneven[:4, 2, 2], uneven[:4, 2, 4] = 0, 20  # all on a tenth of the fields
    calm, wild = (described(one).groups["HSIL"] for one in (even, uneven))
    assert calm.confused == wild.confused == 0.1
    assert calm.confused_spread < 0.05
    # Squares of deviations beyond Poisson's, 1360 over 160; and how few fields and cells it is by.
    assert wild.confused_spread == pytest.approx(8.5 * (1 + 1 / 40) + 1 / 80, abs=1e-4)
    counts, mm2 = {"LSIL": 200, "HSIL": 60}, 0.01
    for facts, more in ((calm, True), (wild, False)):
        alarms = make_alarms(per_mm2=0.1)
        alarms = alarms.model_copy(update={"groups": alarms.groups | {"HSIL": facts}})
        assert expect_cells(counts, CLASSES, alarms, mm2).groups["HSIL"].is_more == more


def test_what_was_found_is_set_against_area_and_confusion():
    alarms = make_alarms(per_mm2=1.0, confused=0.1, abnormal=2.0)
    counts = {"LSIL": 120, "HSIL": 10}
    small, large = (expect_cells(counts, CLASSES, alarms, mm2) for mm2 in (5.0, 50.0))
    assert small.groups["HSIL"].expected == pytest.approx(5 + 0.1 * (130 - 10))
    assert not small.groups["HSIL"].is_more
    assert small.groups["LSIL"].is_more
    assert small.groups["low grade"].found == 120
    assert large.groups["LSIL"].high > small.groups["LSIL"].high
    assert small.basis == "30 made-up slides; spread between slides"


def test_normal_slides_keep_the_model_s_own_confusions():
    known = make_alarms(confused=0.2)
    of_slides = describe_negatives(
        ALARMS, MM2, CLASSES, known=known, data="s", thresholds={}, sha256="abc"
    )
    assert (of_slides.unit, of_slides.sha256) == ("slide", "abc")
    assert of_slides.groups["HSIL"].confused == 0.2
    assert of_slides.groups["HSIL"].confused_spread == known.groups["HSIL"].confused_spread
    assert of_slides.groups["HSIL"].found == ALARMS[:, 4].sum()


def test_figures_hold_for_their_model_and_thresholds_alone():
    alarms = make_alarms()
    assert why_not(alarms, MODEL.threshold, "any") is None
    assert "does not know" in why_not(None, MODEL.threshold, None)
    other = {**MODEL.threshold, "HSIL": 0.9}
    told = why_not(alarms, other, None)
    assert "other thresholds than those in force (HSIL); screen normal slides at these" in told
    bound = alarms.model_copy(update={"sha256": "abc"})
    assert why_not(bound, MODEL.threshold, "abc") is None
    assert "another model" in why_not(bound, MODEL.threshold, "def")


def test_results_of_other_figures_are_told_apart():
    assert version_of(None) is None
    assert version_of(make_alarms()) == version_of(make_alarms())
    assert version_of(make_alarms()) != version_of(make_alarms(per_mm2=2.0))


def test_a_file_of_negatives_is_read_back_and_another_is_named(tmp_path):
    path = tmp_path / "n.json"
    path.write_text(make_alarms().model_dump_json())
    assert load_negatives(path) == make_alarms()
    (tmp_path / "bad.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"bad\.json: is no file of cytolibra calibrate"):
        load_negatives(tmp_path / "bad.json")
    with pytest.raises(ConfigError, match="can't be read"):
        load_negatives(tmp_path / "gone.json")
