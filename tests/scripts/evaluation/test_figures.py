"""Figures of made-up evidence, counted by hand."""

from dataclasses import replace

import numpy as np
import pytest
from cellcases import cells, crowd, join_cells, random_fields
from evidence import make_evidence, make_field, two_fields

from configs import ConfigError
from data.evaluation.bootstrap import draw_groups
from data.fields.fieldset import FieldSet
from scripts.evaluation.evidence import draw, judged_mm2
from scripts.evaluation.figures import compute_figures


def figures_of(evidence, by="field", level=0.95):
    return compute_figures(evidence, draw(evidence.fields, by, level, rounds=200))


@pytest.fixture(scope="module")
def figures():
    return figures_of(make_evidence(*two_fields()))


def test_sensitivity_and_precision_are_those_of_the_report(figures):
    """From 0.5 on five are reported: abnormal 0.9 and 0.8 are hits, 0.7 is none; of three cells."""
    abnormal, anything = figures["pooled"]["abnormal"], figures["pooled"]["any"]
    assert (abnormal["cells"], abnormal["sensitivity"]) == (3, pytest.approx(2 / 3, abs=1e-4))
    assert abnormal["precision"] == pytest.approx(2 / 3, abs=1e-4)
    assert (anything["cells"], anything["sensitivity"], anything["precision"]) == (4, 0.75, 0.6)
    # Under its own name one LSIL of two is found, and the HSIL, called LSIL, is a false one.
    assert [figures["classes"]["LSIL"][n] for n in ("sensitivity", "precision")] == [0.5, 0.5]
    assert [figures["classes"]["HSIL"][n] for n in ("sensitivity", "precision")] == [0, 0]


def test_average_precision_counted_by_hand(figures):
    """Abnormal: hit, hit, miss, hit of three by falling score; 67 recalls at 1, 34 at 3/4."""
    assert figures["pooled"]["abnormal"]["ap50"] == pytest.approx((67 + 34 * 0.75) / 101, abs=1e-4)
    assert figures["classes"]["NILM"]["ap50"] == 1
    # LSIL: hit (0.9), not (0.8), hit (0.2): 51 recalls at 1, 50 at 2/3.
    assert figures["classes"]["LSIL"]["ap50"] == pytest.approx((51 + 50 * 2 / 3) / 101, abs=1e-4)
    assert figures["classes"]["HSIL"]["ap50"] == 0
    mean = (1 + (51 + 50 * 2 / 3) / 101 + 0) / 3
    assert figures["map50"] == pytest.approx(mean, abs=1e-4)


def test_froc_is_by_field_and_by_area(figures):
    """One false alarm before the last hit: half a one a field; two fields of 0.00125 mm²."""
    froc = figures["pooled"]["abnormal"]["froc"]
    assert froc["0.25"] == pytest.approx(2 / 3, abs=1e-4)
    assert froc["0.5"] == 1
    assert figures["mm2"] == 0.0025
    assert set(figures["pooled"]["abnormal"]["froc_mm2"].values()) == {0.6667}  # 400 a mm²


def test_confusion_and_groups(figures):
    assert figures["confusion"]["counts"] == [
        [1, 0, 0, 0],
        [0, 1, 0, 1],
        [0, 1, 0, 0],
        [1, 0, 1, 0],
    ]
    assert figures["confusion"]["rows"][-1] == "no cell marked"
    assert figures["groups"]["frequent"]["classes"] == ["NILM", "LSIL", "HSIL"]  # 1, 2 and 1
    assert "these fields" in figures["group_rule"]


def test_training_counts_of_the_card_make_the_groups():
    evidence = make_evidence(*two_fields())
    cells_of = {"NILM": 3007, "LSIL": 353, "HSIL": 50}
    card = evidence.card.model_copy(update={"training": {"cells": cells_of}})
    figures = figures_of(replace(evidence, card=card))
    groups = {name: group["classes"] for name, group in figures["groups"].items()}
    assert groups == {"frequent": ["NILM"], "common": ["LSIL"], "rare": ["HSIL"]}
    assert "the model's training fields" in figures["group_rule"]
    assert figures["classes"]["HSIL"]["training_cells"] == 50


def test_every_interval_holds_its_figure():
    evidence = make_evidence(*random_fields(3, count=25, classes=3), width=230, height=230)
    figures = figures_of(evidence)
    entries = [*figures["classes"].values(), *figures["pooled"].values()]
    names = ("ap50", "sensitivity", "precision")
    pairs = [(entry[name], entry[f"{name}_interval"]) for entry in entries for name in names]
    for entry in figures["pooled"].values():
        for name in ("froc", "froc_mm2"):
            rates = entry[name]
            pairs += [(rates[rate], entry[f"{name}_interval"][rate]) for rate in rates]
    pairs.append((figures["map50"], figures["map50_interval"]))
    for value, (low, high) in pairs:
        assert low <= value <= high
    narrow, wide = (figures_of(evidence, level=x)["map50_interval"] for x in (0.5, 0.99))
    assert wide[0] < narrow[0] < narrow[1] < wide[1]


def test_the_mean_of_classes_has_only_rounds_that_drew_them_all():
    """A class in one of two fields, found perfectly, and one in both, never found: always 1/2."""
    box, other = [0, 0, 20, 20], [50, 50, 70, 70]
    truth = [cells((box, 0), (other, 1)), cells((box, 0))]
    found = [cells((other, 1, 0.9)), cells()]
    figures = figures_of(make_evidence(truth, found, (0.5, 0.5), ("NILM", "HSIL")))
    assert figures["map50"] == 0.5
    assert figures["map50_interval"] == [0.5, 0.5]
    first = draw_groups(["a", "b"], 200)[:, 0]
    assert figures["intervals"]["rounds_of_all_classes"] == np.count_nonzero(first) < 200


def test_one_slide_has_no_interval():
    """Fields of one slide are drawn together; drawn anew, one slide is always itself."""
    evidence = make_evidence(*two_fields(), slide="a.svs")
    by_field, by_slide = figures_of(evidence), figures_of(evidence, "slide")
    assert by_field["pooled"]["any"]["ap50_interval"][0] is not None
    assert by_slide["pooled"]["any"]["ap50_interval"] == [None, None]
    assert by_slide["pooled"]["any"]["ap50"] == by_field["pooled"]["any"]["ap50"]
    assert by_slide["intervals"] == {
        "level": 0.95,
        "by": "slide",
        "drawn": 1,
        "rounds": 200,
        "rounds_of_all_classes": 200,
        "method": "percentile bootstrap",
    }


def test_patients_are_drawn_whole():
    truth = [cells() for _ in range(4)]
    fields = [make_field(one, i, patient="ab"[i % 2]) for i, one in enumerate(truth)]
    draws = draw(FieldSet(("NILM",), tuple(fields)), "patient", 0.95, rounds=30)
    assert draws.groups == 2
    assert (draws.times[:, 0] == draws.times[:, 2]).all()
    assert (draws.times.sum(axis=1) == 4).all()


def test_fields_of_unknown_patients_are_told_with_what_was_drawn():
    fields = [make_field(cells(), i, patient="p" * (i < 2)) for i in range(3)]
    found = FieldSet(("NILM",), tuple(fields))
    (doubt,) = draw(found, "patient", 0.95, rounds=30).doubts
    assert (doubt.code, doubt.text[:40]) == (
        "group-unknown",
        "of 1 of 3 fields nobody says the patient",
    )
    assert draw(found, "field", 0.95, rounds=30).doubts == ()


@pytest.mark.parametrize(
    ("by", "level", "message"),
    [
        ("cell", 0.95, "--by cell"),
        ("field", 95, "--level 95"),
        ("patient", 0.95, "--by patient: nobody says whose the images are"),
    ],
)
def test_what_can_not_be_drawn_is_refused(by, level, message):
    with pytest.raises(ConfigError, match=message):
        draw(FieldSet(("NILM",), (make_field(cells()),)), by, level)


def test_ignored_regions_are_no_area():
    """200 x 100 px at 0.25 µm are 50 x 25 µm; two regions that overlap cover 100 x 100 px of it."""
    ignored = join_cells(crowd([0, 0, 60, 100]), crowd([40, 0, 100, 100]), cells(([0, 0, 9, 9], 0)))
    assert judged_mm2(make_field(ignored)) == pytest.approx(0.05 * 0.025 / 2)
    assert judged_mm2(make_field(ignored, mpp=None)) is None


def test_without_scale_there_is_no_figure_by_area():
    figures = figures_of(make_evidence(*two_fields(), mpp=None))
    assert figures["mm2"] is None
    assert "froc_mm2" not in figures["pooled"]["abnormal"]


def test_absent_classes_and_fields_without_anything_are_no_error():
    figures = figures_of(make_evidence([cells(), cells()], [cells(), cells()]))
    assert figures["cells"] == 0
    assert figures["map50"] is None
    assert figures["pooled"]["abnormal"]["ap50"] is None
    assert figures["calibration"]["any"]["ece"] is None
    assert figures["classes"]["HSIL"]["sensitivity_interval"] == [None, None]


def test_calibration_under_the_own_name_takes_a_wrong_name_as_wrong(figures):
    """0.8 found an HSIL that it called LSIL: a hit when merged, none under its name."""
    named, merged = (figures["calibration"][name]["bins"] for name in ("named", "abnormal"))
    assert dict(zip(named["score"], named["hits"], strict=True))[0.8] == 0
    assert dict(zip(merged["score"], merged["hits"], strict=True))[0.8] == 1
    assert np.sum(named["detections"]) == 6


def test_levels_have_figures_of_their_own_with_their_classes_merged():
    """The HSIL that is called LSIL is missed as high grade, and a false LSIL as low grade."""
    truth, found = two_fields()
    figures = figures_of(make_evidence(truth, found))
    assert list(figures["pooled"]) == ["abnormal", "low grade", "high grade", "any"]
    low, high = figures["pooled"]["low grade"], figures["pooled"]["high grade"]
    assert (low["cells"], low["sensitivity"], low["precision"]) == (2, 0.5, 0.5)
    assert (high["cells"], high["sensitivity"], high["precision"]) == (1, 0.0, 0.0)


def test_a_grade_pools_its_classes():
    """An ASC-H called HSIL is a miss by class, and a hit as high grade."""
    names = ("NILM", "LSIL", "ASC-H", "HSIL")
    box = [0, 0, 20, 20]
    truth, found = [cells((box, 2))] * 3, [cells((box, 3, 0.9))] * 3
    figures = figures_of(make_evidence(truth, found, (0.5,) * 4, names))
    assert figures["classes"]["ASC-H"]["sensitivity"] == 0
    assert figures["pooled"]["high grade"]["sensitivity"] == 1
    assert figures["pooled"]["high grade"]["ap50"] == 1
    assert figures["confusion_levels"]["grade"] == {
        "rows": ["normal", "low grade", "high grade", "no cell marked"],
        "columns": ["normal", "low grade", "high grade", "missed"],
        "counts": [[0] * 4, [0] * 4, [0, 0, 3, 0], [0] * 4],
        "shares": [[0] * 4, [0] * 4, [0, 0, 1, 0], [0] * 4],
    }


def test_confusion_on_coarser_levels_is_of_the_same_matches(figures):
    """A NILM found, an LSIL and an HSIL called LSIL, an LSIL missed; two false alarms."""
    assert figures["confusion_levels"]["abnormal"]["counts"] == [[1, 0, 0], [0, 2, 1], [1, 1, 0]]
    assert figures["confusion_levels"]["abnormal"]["columns"] == ["normal", "abnormal", "missed"]
    grade = figures["confusion_levels"]["grade"]["counts"]
    assert grade == [[1, 0, 0, 0], [0, 1, 0, 1], [0, 1, 0, 0], [1, 0, 1, 0]]
