"""False alarms from annotated fields, into figures and the model's card."""

from dataclasses import replace

import numpy as np
import pytest
from cellcases import cells, crowd
from evidence import make_evidence

from configs import ConfigError
from models.card import ZOO, ModelCard, read_card, save_card
from scripts.evaluation.cards import check_card_writable, update_card
from scripts.evaluation.false_alarms import (
    false_alarm_figures,
    measure_false_alarms,
)

LEFT, RIGHT = [0, 0, 20, 20], [100, 50, 120, 70]
FIELD_MM2 = 200 * 100 * (0.25 / 1000) ** 2


def evidence(normal, lesions):
    """Normal fields with one HSIL reported each, and others with LSIL called HSIL."""
    truth = [cells((LEFT, 0))] * normal + [cells((LEFT, 1))] * lesions
    found = [cells((RIGHT, 2, 0.9))] * normal + [cells((LEFT, 2, 0.9), (RIGHT, 1, 0.8))] * lesions
    return make_evidence(truth, found)


def test_normal_fields_alone_say_what_chance_is():
    alarms = measure_false_alarms(evidence(6, 10), "set.json")
    assert alarms.data == f"set.json: 6 fields without an abnormal cell, {6 * FIELD_MM2:.2f} mm²"
    assert alarms.groups["HSIL"].found == 6
    assert alarms.groups["HSIL"].per_mm2 == pytest.approx(6.5 / (6 * FIELD_MM2), rel=1e-3)
    assert alarms.groups["LSIL"].found == 0
    assert alarms.groups["HSIL"].confused == 1.0  # each LSIL is called so
    assert alarms.thresholds == {"NILM": 0.5, "LSIL": 0.5, "HSIL": 0.5}


def test_without_enough_of_them_all_fields_do():
    alarms = measure_false_alarms(evidence(2, 10), "set.json")
    assert "12 fields, most with abnormal cells" in alarms.data
    assert alarms.groups["LSIL"].found == 10
    assert alarms.groups["abnormal"].found == 12


def test_other_thresholds_have_other_false_alarms():
    higher = {"NILM": 0.5, "LSIL": 0.5, "HSIL": 0.95}
    alarms = measure_false_alarms(evidence(6, 10), "set.json", higher)
    assert alarms.groups["HSIL"].found == 0
    assert alarms.thresholds == higher


def test_what_is_missing_is_named():
    with pytest.raises(ConfigError, match="3 fields or slides say nothing"):
        measure_false_alarms(evidence(1, 2), "set.json")
    unknown = make_evidence([cells((LEFT, 0))] * 6, [cells((RIGHT, 2, 0.9))] * 6, mpp=None)
    with pytest.raises(ConfigError, match="need the scale"):
        measure_false_alarms(unknown, "set.json")


def test_a_field_that_is_ignored_wholly_is_left_out():
    all_of_it = crowd([0, 0, 200, 100])
    normal, found = [cells((LEFT, 0))] * 6, [cells((RIGHT, 2, 0.9))] * 6
    alarms = measure_false_alarms(make_evidence([*normal, all_of_it], [*found, cells()]), "a.json")
    assert alarms.data == (
        f"a.json: 6 fields without an abnormal cell, {6 * FIELD_MM2:.2f} mm², without 1 that is "
        "ignored wholly"
    )
    alone = measure_false_alarms(make_evidence(normal, found), "a.json")
    assert alarms.groups == alone.groups


def test_one_field_of_no_slide_leaves_the_others_with_theirs():
    """Else each field would pass for a slide, and their mean rate for far better known."""
    made = evidence(6, 0)
    fields = [
        replace(one, slide="s" if index else "") for index, one in enumerate(made.fields.fields)
    ]
    partly = replace(made, fields=replace(made.fields, fields=tuple(fields)))
    assert measure_false_alarms(partly, "set.json").groups["HSIL"].slides == 2
    assert measure_false_alarms(made, "set.json").groups["HSIL"].slides == 6  # an image each


def test_they_are_written_into_a_card_but_not_a_shipped_one(tmp_path):
    made = evidence(6, 10)
    save_card(made.card, tmp_path)
    alarms = measure_false_alarms(made, "set.json")
    update_card(made.card, tmp_path, false_alarms=alarms)
    assert read_card(tmp_path).false_alarms == alarms
    assert ModelCard.model_validate(made.card.model_dump()).false_alarms is None
    with pytest.raises(ConfigError, match="a shipped model stays as it is"):
        check_card_writable(ZOO / "some-model", "--write-false-alarms")
    check_card_writable(tmp_path, "--write-false-alarms")


def test_figures_tell_what_an_area_holds():
    figures = false_alarm_figures(measure_false_alarms(evidence(6, 10), "set.json"))
    low, high = figures["groups"]["HSIL"]["expected"]
    assert low <= figures["groups"]["HSIL"]["per_mm2"] * figures["in_mm2"] <= high
    assert np.isfinite(high)
