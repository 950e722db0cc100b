"""Adequacy by its rule, step by step, and what an estimate rests on."""

import math

import numpy as np
import pytest
from fakes import CLASSES, MODEL, make_accuracy, make_alarms, make_cells, make_report

from configs import ConfigError, Doubt
from pipeline.cells.classes import CellClass, squamous_labels
from pipeline.geometry import Detections
from pipeline.reports.adequacy import (
    AdequacySettings,
    Specimen,
    assess,
    look_through,
    warn_of,
)
from pipeline.reports.pages import render_report
from pipeline.reports.report import judge_cells
from pipeline.tiles.deposit import Deposit
from pipeline.tiles.plausible import Focus

LIQUID = AdequacySettings(preparation="liquid-based")


def round_deposit(radius: int = 40, thick: float = 0.0) -> Deposit:
    """A disc of squares of 64 µm at 0.25 µm/px, whose top rows are too thick."""
    y, x = np.mgrid[0:100, 0:100] - 49.5
    mask = np.hypot(x, y) <= radius
    return Deposit(mask, (y < -40 + 80 * thick) & mask, 256.0)


def specimen(**changes) -> Specimen:
    values = {"scanned_mm2": 40.0, "screened_mm2": 30.0, "unread_mm2": 0.0, "mpp": 0.25}
    values |= {"deposit": round_deposit(), "focus": Focus(0, 9)}
    return Specimen(**(values | changes))


def spread_cells(count: int, label: int = 0, seed: int = 0) -> Detections:
    """Cells evenly over the disc of `round_deposit`."""
    rng = np.random.default_rng(seed)
    radius, angle = 40 * 256 * np.sqrt(rng.random(count)), 2 * math.pi * rng.random(count)
    centers = 50 * 256 + radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1)
    boxes = np.concatenate([centers - 40, centers + 40], 1)
    return Detections(boxes, np.full(count, 0.9, np.float32), np.full(count, label))


def assessed(cells: Detections | int, seen: Specimen | None = None, **changes):
    found = spread_cells(cells) if isinstance(cells, int) else cells
    options = {"is_abnormal": False, "accuracy": make_accuracy(), "settings": LIQUID}
    return assess(found, CLASSES, seen or specimen(), **(options | changes))


def test_the_estimate_carries_recall_and_precision():
    """0.9 cells for each reported: a precision of 0.81 by a recall of 0.9."""
    count = assessed(8000).squamous_cells
    assert (count.found, count.estimate) == (8000, 7200)
    # Half of the interval on a logarithmic scale: 1.96 times the ratio's spread, 0.1 and 0.05.
    reach = math.exp(1.96 * math.sqrt(math.log1p(0.01 + 0.0025 + 0.2 / 8000)))
    assert count.low == pytest.approx(7200 / reach, abs=2)
    assert count.high == pytest.approx(7200 * reach, abs=2)
    assert "0.90 cells for each reported" in count.basis


@pytest.mark.parametrize(
    ("cells", "preparation", "satisfactory"),
    [
        (8000, "liquid-based", True),
        (3000, "liquid-based", False),
        (5600, "liquid-based", None),
        (8000, "conventional", None),
        (12000, "conventional", True),
        (12000, None, None),
        (0, "liquid-based", False),
        (0, None, None),
    ],
)
def test_the_interval_decides_where_the_preparation_is_known(cells, preparation, satisfactory):
    found = assessed(cells, settings=AdequacySettings(preparation=preparation))
    assert found.satisfactory is satisfactory
    assert found.preparation == preparation
    assert found.needed == {"liquid-based": 5000, "conventional": 8000}


def test_without_the_preparation_both_limits_are_told():
    found = assessed(7000, settings=AdequacySettings())
    assert found.reached == {"liquid-based": True, "conventional": False}
    assert found.reason.endswith(
        "the preparation is not known (liquid-based: 5,000 needed, reached; "
        "conventional: 8,000 needed, not reached)"
    )


def test_any_abnormal_specimen_is_satisfactory():
    found = assessed(10, specimen(focus=Focus(9, 9)), is_abnormal=True)
    assert found.satisfactory is True
    assert found.reached["liquid-based"] is False


def test_one_that_chance_explains_is_no_abnormal_specimen():
    """A single HSIL is what the model reports by chance, five are not."""
    for count, satisfactory in ((1, None), (60, True)):
        cells = spread_cells(count, label=4)
        seen = Specimen(40.0, 30.0, 0.0, 0.25)
        judged = judge_cells(cells, MODEL, seen, alarms=make_alarms(), accuracy=make_accuracy())
        assert judged.adequacy.satisfactory is satisfactory, count


def test_most_of_it_obscured_is_unsatisfactory():
    for share, verdict in ((0.7, True), (0.8, False)):
        found = assessed(20_000, specimen(deposit=round_deposit(thick=share)))
        assert found.satisfactory is verdict
    assert 0.75 < found.obscured_share < 0.9
    assert "of the deposit is obscured, more than 75%" in found.reason
    (doubt,) = warn_of(found)
    assert doubt.code == "unsatisfactory"
    assert warn_of(assessed(20_000)) == []


def test_obscured_is_thick_or_of_the_rest_out_of_focus():
    looked = look_through(round_deposit(thick=0.5), Focus(3, 9))
    assert looked.thick == pytest.approx(0.5, abs=0.02)
    assert looked.out_of_focus == pytest.approx(1 / 3, abs=1e-4)
    assert looked.share == pytest.approx(1 - 0.5 * 2 / 3, abs=0.02)
    nothing = look_through(None, Focus(0, 0))
    assert (nothing.share, nothing.thick, nothing.out_of_focus) == (None, None, None)


def test_ten_fields_along_a_diameter_find_as_many():
    """Fields of 0.55 mm on a disc of 5.12 mm: nine fit; each holds its share of the cells."""
    found = assessed(8000, specimen(deposit=round_deposit()))
    fields = found.by_fields
    assert len(fields.counts) == 9
    area = math.pi * 2.56**2
    assert fields.deposit_mm2 == pytest.approx(area, rel=0.02)
    assert np.mean(fields.counts) == pytest.approx(8000 * (0.275**2 * math.pi) / area, rel=0.1)
    assert fields.low < 7200 < fields.high
    assert fields.estimate == pytest.approx(7200, rel=0.1)
    smaller = assessed(8000, settings=AdequacySettings(field_mm=0.5)).by_fields
    assert len(smaller.counts) == 10


def test_fields_that_hold_nothing_leave_it_open_above():
    fields = assessed(0).by_fields
    assert (set(fields.counts), fields.estimate, fields.low) == ({0}, 0, 0)
    assert fields.high == math.ceil(0.9 / 9 * fields.deposit_mm2 / (math.pi * 0.275**2))


def test_a_deposit_smaller_than_a_field_has_none():
    assert assessed(50, specimen(deposit=round_deposit(radius=2))).by_fields is None
    assert assessed(50, specimen(deposit=round_deposit(radius=0))).by_fields is None
    assert assessed(50, specimen(deposit=None)).by_fields is None


def test_what_could_not_be_read_may_hold_as_many_cells():
    whole, part = assessed(4000), assessed(4000, specimen(unread_mm2=15.0))
    assert whole.satisfactory is False
    assert part.satisfactory is None
    assert part.squamous_cells.high == pytest.approx(1.5 * whole.squamous_cells.high, rel=1e-3)
    assert part.squamous_cells.low == whole.squamous_cells.low


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"seen": specimen(screened_mm2=0.0)}, "not assessed: nothing was screened"),
        ({"unknown": "it is black"}, "not assessed: it is black"),
        ({"seen": specimen(scanned_mm2=9.9)}, "9.90 mm² were scanned: a part of a preparation"),
        ({"accuracy": None}, "measure it with cytolibra evaluate --write-accuracy"),
        ({"accuracy": make_accuracy(counting=None)}, "not known for this model"),
    ],
)
def test_where_nothing_can_be_said_nothing_is(changes, reason):
    found = assessed(9000, **changes)
    assert found.satisfactory is None
    assert reason in found.reason
    assert found.squamous_cells is None or found.squamous_cells.found == 9000


def test_figures_of_other_thresholds_do_not_count():
    other = make_accuracy(thresholds=dict(MODEL.threshold) | {"NILM": 0.5})
    report = make_report(cells=make_cells(0), accuracy=other)
    assert report.accuracy is None
    assert report.adequacy.squamous_cells.estimate is None


def test_a_picture_that_is_no_smear_is_not_assessed():
    seen = Specimen(40.0, 30.0, 0.0, 0.25)
    dark = [Doubt(code="too-dark", text="it is dark")]
    judged = judge_cells(
        spread_cells(9), MODEL, seen, warnings=dark, alarms=make_alarms(), accuracy=make_accuracy()
    )
    assert judged.adequacy.reason.startswith("not assessed: it is no picture that the model knows")


def test_squamous_are_those_of_bethesda_or_those_that_are_named():
    names = ("NILM", "leukocyte", "AGC", "HSIL")
    classes = [CellClass(name=name, abnormal=name in ("AGC", "HSIL")) for name in names]
    assert squamous_labels(classes) == (0, 3)
    assert squamous_labels(classes, ["HSIL", "leukocyte", "HSIL"]) == (3, 1)
    with pytest.raises(ConfigError, match=r"adequacy.squamous: .* no class koilocyte; it has NILM"):
        squamous_labels(classes, ["koilocyte"])
    odd = [CellClass(name="cell", abnormal=False)]
    found = assess(spread_cells(5), odd, specimen(), is_abnormal=False, accuracy=make_accuracy())
    assert "name them: adequacy.squamous" in found.reason


def test_only_squamous_cells_are_counted():
    cells = spread_cells(6000)
    half = Detections(cells.boxes, cells.scores, np.arange(6000) % 2 * 4)
    found = assessed(half, settings=AdequacySettings(squamous=("NILM",)))
    assert found.squamous_cells.found == 3000


def test_the_page_says_it_as_a_suggestion():
    page = render_report(make_report(cells=make_cells(0), accuracy=make_accuracy()))
    assert "Adequacy: no verdict" in page
    assert "A suggestion by the limits of the Bethesda System" in page
    assert "not assessable: no class of the model knows its cells" in page
    assert "Recall, precision, AP50" in page
    without = render_report(make_report(cells=make_cells(0)))
    assert "How well the model finds cells of each level is not known" in without
