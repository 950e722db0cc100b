"""How well a model does on each level, as its card has it."""

import pytest
from cellcases import cells
from evidence import make_evidence, two_fields

from models.card import ModelCard
from scripts.evaluation.accuracy import measure_accuracy
from scripts.evaluation.cards import update_card
from scripts.evaluation.evidence import draw
from scripts.evaluation.figures import compute_figures

LEFT, RIGHT = [0, 0, 20, 20], [100, 50, 120, 70]


def accuracy_of(evidence, **changes):
    draws = draw(evidence.fields, "field", 0.95, rounds=50)
    figures = compute_figures(evidence, draws)
    return measure_accuracy(evidence, draws, figures, "set.json", **changes)[0]


def test_each_level_and_class_has_its_figures():
    accuracy = accuracy_of(make_evidence(*two_fields()))
    assert list(accuracy.groups) == [
        "abnormal", "low grade", "high grade", "any", "NILM", "LSIL", "HSIL"
    ]  # fmt: skip
    abnormal = accuracy.groups["abnormal"]
    assert abnormal.cells == 3
    assert abnormal.recall.value == pytest.approx(2 / 3, abs=1e-4)
    assert abnormal.ap50.value == pytest.approx((67 + 34 * 0.75) / 101, abs=1e-4)
    assert accuracy.groups["any"].precision.value == 0.6
    assert accuracy.data == "set.json: 2 fields, 4 cells"
    assert accuracy.thresholds == {"NILM": 0.5, "LSIL": 0.5, "HSIL": 0.5}
    assert accuracy.counting is None  # two fields tell nothing of how they differ


def test_other_thresholds_have_other_figures():
    higher = {"NILM": 0.5, "LSIL": 0.85, "HSIL": 0.5}
    accuracy = accuracy_of(make_evidence(*two_fields()), thresholds=higher)
    assert accuracy.thresholds == higher
    assert accuracy.groups["LSIL"].precision.value == 1
    assert accuracy.groups["abnormal"].recall.value == pytest.approx(1 / 3, abs=1e-4)


def test_cells_there_are_for_each_reported():
    """One of two reported is a cell, and every second cell is reported: as many as there are."""
    truth = [cells((LEFT, 0), (RIGHT, 0))] * 6
    found = [cells((LEFT, 0, 0.9), ([50, 0, 70, 20], 1, 0.8))] * 6
    counting = accuracy_of(make_evidence(truth, found)).counting
    assert (counting.ratio, counting.cells, counting.reported) == (1.0, 12, 12)
    half = [cells((LEFT, 0, 0.9))] * 6
    assert accuracy_of(make_evidence(truth, half)).counting.ratio == 2.0


def test_why_counts_are_worth_nothing_is_told():
    def told(truth, found):
        made = make_evidence(truth, found)
        draws = draw(made.fields, "field", 0.95, rounds=50)
        figures = compute_figures(made, draws)
        return [str(doubt) for doubt in measure_accuracy(made, draws, figures, "set.json")[1]]

    few = "how many cells there are for each reported is not known: "
    assert told(*two_fields()) == [
        f"{few}2 fields say nothing about how counts vary [counting-unknown]"
    ]
    truth = [cells((LEFT, 0))] * 6
    assert told(truth, [cells()] * 6) == [
        f"{few}no cell is marked, or none is reported [counting-unknown]"
    ]
    assert told(truth, truth) == []


def test_it_survives_a_card(tmp_path):
    """A figure that is not defined, as the precision of nothing, too."""
    made = make_evidence([cells((LEFT, 0))] * 6, [cells((LEFT, 0, 0.9))] * 6)
    accuracy = accuracy_of(made)
    assert accuracy.groups["HSIL"].precision.value is None
    update_card(made.card, tmp_path, accuracy=accuracy)
    text = (tmp_path / "model.json").read_text(encoding="utf-8")
    assert ModelCard.model_validate_json(text).accuracy == accuracy
