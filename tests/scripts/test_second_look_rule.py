"""The rule of a second look: chosen for each fold by the others, written with its worth."""

import json
from dataclasses import replace

import numpy as np
import pytest
from fakes import make_accuracy
from graders import grader_facts

from configs import ConfigError
from data.evaluation import FieldCells, fit_calibration, no_calibration
from data.fields.fieldset import Field, FieldSet
from models import DetectorConfig, ModelCard
from models.card import ZOO, CombinationRule, read_card, save_card
from pipeline.geometry import Detections
from scripts import second_look_rule as module
from scripts.candidates import find_candidates
from scripts.evaluation.evidence import draw
from scripts.second_look_rule import (
    Fold,
    average,
    check_folds,
    choose_rule,
    judge_choice,
    match_parts,
    objective,
)
from scripts.training.grader_judge import (
    LookEvidence,
    even_out,
    load_evidence,
    save_evidence,
)

CLASSES = ("NILM", "LSIL", "HSIL")
CARD = ModelCard(
    name="made up",
    detector=DetectorConfig(name="fcos", classes=CLASSES),
    mpp=0.5,
    thresholds=dict.fromkeys(CLASSES, 0.3),
)
NOTHING = np.zeros(0)


def fold(tmp_path, number, confusing=0.0, fields=4, per_field=9, seed=0):
    """Fields on which the detector finds every cell and guesses its class, and the grader knows it.

    Args:
        confusing: how much of what the grader says is said of another class.
    """
    rng = np.random.default_rng((seed, number))
    sets, truth, candidates, logits, labels = [], [], [], [], []
    for index in range(fields):
        left = 100.0 * np.arange(per_field)
        boxes = np.column_stack([left, np.zeros(per_field), left + 20, np.full(per_field, 20.0)])
        own = np.arange(per_field) % 3
        known = rng.uniform(0.3, 0.6, (per_field, 3)).astype(np.float32)
        guessed = known.argmax(axis=1)
        found = Detections(boxes, known.max(axis=1), guessed, known)
        found = find_candidates(found, CARD, 0.1)
        order = np.argsort(found.places.boxes[:, 0])
        of_place = np.empty(per_field, np.int64)
        of_place[order] = own
        swapped = rng.random(per_field) < confusing
        said = np.where(swapped, (of_place + 1) % 3, of_place)
        sets.append(
            Field(
                tmp_path / f"{number}-{index}.png",
                1000,
                20,
                0.25,
                boxes.astype(np.float32),
                boxes[:, :2].astype(np.float32),
                own,
                np.zeros(per_field, bool),
            )
        )
        truth.append(FieldCells(boxes, own, np.ones(per_field), np.zeros(per_field, bool)))
        candidates.append(found)
        logits.append((4.0 * np.eye(4)[said]).astype(np.float32))
        labels.append(of_place)
    evidence = LookEvidence(truth, candidates, logits, labels)
    return Fold(FieldSet(CLASSES, tuple(sets)), evidence, CARD)


@pytest.fixture
def small_grid(monkeypatch):
    grid = {"background": (0.0,), "share": (1.0,), "evidence": (0.0, 1.0), "grade": (0.0, 1.0)}
    monkeypatch.setattr(module, "GRID", grid)


def test_a_grader_that_knows_is_trusted(tmp_path, small_grid):
    folds = [fold(tmp_path, number) for number in range(3)]
    choice = choose_rule(folds)
    wanted = CombinationRule(background=0, share=1, evidence=1, grade=1)
    assert choice.rule == wanted
    assert list(choice.of_fold) == [wanted] * 3
    truth = [cells for one in folds for cells in one.evidence.truth]
    once = np.ones((1, len(truth)), np.int64)
    alone = [cells for one in folds for cells in one.evidence.alone()]
    before, after = (
        objective(match_parts(truth, found, CARD), once)[0] for found in (alone, choice.found)
    )
    assert after == pytest.approx(2.0, abs=0.02)  # both parts are perfect
    assert before < 1.6


def test_each_fold_is_judged_by_what_the_others_chose(tmp_path, small_grid):
    # The grader of one fold always errs: the others trust theirs, and it has to bear that.
    folds = [fold(tmp_path, 0, confusing=1.0), *(fold(tmp_path, n) for n in (1, 2))]
    choice = choose_rule(folds)
    trusting = CombinationRule(background=0, share=1, evidence=1, grade=1)
    assert choice.of_fold[0] == trusting
    errs = folds[0].evidence
    own = choice.calibrations[0]
    expected = errs.with_look(own, even_out(trusting, own), np.array([False, True, True]))
    for ours, theirs in zip(choice.found[:4], expected, strict=True):
        np.testing.assert_array_equal(ours.scores, theirs.scores)
    figures = judge_choice(folds, choice, draw(module._together(folds), "field", 0.9))
    one = figures["ap50"]["all classes"]
    assert one["difference"] == pytest.approx(one["with_look"] - one["alone"], abs=2e-4)
    low, high = one["difference_interval"]
    assert low < one["difference"] < high


def test_calibrations_come_from_the_others(tmp_path, small_grid):
    folds = [fold(tmp_path, 0, confusing=0.5), fold(tmp_path, 1), fold(tmp_path, 2)]
    sure, *unsure = (one.temperature for one in choose_rule(folds).calibrations)
    assert sure < 0.5  # the others never err
    assert min(unsure) > 2 * sure


def test_evidence_is_kept_as_it_is(tmp_path):
    kept = fold(tmp_path, 0).evidence
    save_evidence(tmp_path / "second_look.npz", kept)
    loaded = load_evidence(tmp_path / "second_look.npz")
    for one, other in zip(kept.truth, loaded.truth, strict=True):
        np.testing.assert_array_equal(one.boxes, other.boxes)
        np.testing.assert_array_equal(one.labels, other.labels)
    for name in ("logits", "labels"):
        for one, other in zip(getattr(kept, name), getattr(loaded, name), strict=True):
            np.testing.assert_array_equal(one, other)
    rule, abnormal = CombinationRule(), np.array([False, True, True])
    as_is = no_calibration(4)
    sides = (evidence.with_look(as_is, rule, abnormal) for evidence in (kept, loaded))
    for one, other in zip(*sides, strict=True):
        np.testing.assert_array_equal(one.scores, other.scores)
    (tmp_path / "second_look.npz").write_bytes(b"nothing")
    with pytest.raises(ConfigError, match="not what a grader's training keeps"):
        load_evidence(tmp_path / "second_look.npz")


def test_folds_that_do_not_go_together_are_refused(tmp_path):
    one, other = fold(tmp_path, 0), fold(tmp_path, 1)
    with pytest.raises(ConfigError, match="name two runs or more"):
        check_folds([one], ["a"], None)
    for runs in (["a", "b"], ["a", "a"]):
        with pytest.raises(ConfigError, match=rf"{' and '.join(runs)} both left .*0-0\.png out"):
            check_folds([one, one], runs, None)
    detector = DetectorConfig(name="fcos", classes=("NILM", "SCC"))
    card = CARD.model_copy(update={"detector": detector, "name": "mine"})
    with pytest.raises(ConfigError, match=r"a is of the classes NILM, LSIL, HSIL, mine of"):
        check_folds([one, other], ["a", "b"], card)


def test_joined_by_commas_graders_are_averaged(tmp_path):
    one, other = (fold(tmp_path, 0, confusing=value) for value in (0.2, 0.5))
    both = average([one, other])
    said = [
        replace(fit_calibration(*each.evidence.known()), bias=np.zeros(4)).probabilities(
            each.evidence.logits[0]
        )
        for each in (one, other)
    ]
    np.testing.assert_allclose(np.exp(both.evidence.logits[0]), np.mean(said, axis=0), rtol=1e-5)
    moved = [
        replace(one, places=replace(one.places, boxes=one.places.boxes + 1e-4))
        for one in other.evidence.candidates
    ]  # as another run of the same network in fp32 places them
    again = average([one, replace(other, evidence=replace(other.evidence, candidates=moved))])
    np.testing.assert_array_equal(again.evidence.logits[0], both.evidence.logits[0])
    with pytest.raises(ConfigError, match="looked at different places"):
        average([one, fold(tmp_path, 1, per_field=8)])


@pytest.fixture
def model(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    save_card(CARD.model_copy(update={"second_look": grader_facts(CLASSES)}), folder)
    return folder


def call(monkeypatch, *arguments):
    monkeypatch.setattr("sys.argv", ["second_look_rule", *map(str, arguments)])
    module.main()


def test_rule_thresholds_and_figures_go_into_the_card(
    tmp_path, model, small_grid, monkeypatch, capsys
):
    save_card(read_card(model).with_grader(accuracy=make_accuracy()), model)
    folds = {tmp_path / name: fold(tmp_path, n) for n, name in enumerate("abc")}
    monkeypatch.setattr(module, "read_fold", folds.__getitem__)
    call(monkeypatch, *folds, "--write", model, "--out", tmp_path / "rule.json", "--data", "drawn")
    look = read_card(model).second_look
    assert look.rule == CombinationRule(background=0, share=1, evidence=1, grade=1)
    assert look.metrics["out_of_fold/with_look/HSIL"] == pytest.approx(1.0, abs=0.02)
    assert look.metrics["out_of_fold/alone/HSIL"] < 0.8
    assert "out of fold on 12 fields of 3 runs (drawn)" in look.training["rule"]
    assert look.false_alarms.thresholds == look.thresholds
    figures = json.loads((tmp_path / "rule.json").read_text())
    assert figures["thresholds"] == look.thresholds
    assert look.accuracy is None  # held for another rule
    assert "note: its accuracy, measured with the rule before" in capsys.readouterr().err
    # The thresholds let through what is right: no look of these would call it otherwise.
    assert all(0 < value < 1 for value in look.thresholds.values())


def test_patients_are_drawn_only_where_somebody_says_them(
    tmp_path, small_grid, monkeypatch, capsys
):
    folds = {tmp_path / name: fold(tmp_path, n) for n, name in enumerate("ab")}
    monkeypatch.setattr(module, "read_fold", folds.__getitem__)
    with pytest.raises(SystemExit):
        call(monkeypatch, *folds, "--by", "patient")
    assert "--by patient: nobody says whose the images are" in capsys.readouterr().err
    first = folds[tmp_path / "a"]
    known = tuple(replace(field, patient="p") for field in first.fields.fields)
    folds[tmp_path / "a"] = replace(first, fields=replace(first.fields, fields=known))
    call(monkeypatch, *folds, "--by", "patient", "--out", tmp_path / "rule.json")
    assert "warning: of 4 of 8 fields nobody says the patient" in capsys.readouterr().err
    (warning,) = json.loads((tmp_path / "rule.json").read_text())["warnings"]
    assert warning["code"] == "group-unknown"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere", "nowhere else"], "nowhere: no folder of cytolibra train"),
        (["a,c", "b", "--write", "MODEL"], "a mean of several graders is no model"),
        (["a", "b", "--write", ZOO / "cric-fcos-light"], "a shipped model stays as it is"),
    ],
)
def test_wrong_calls_get_one_line(arguments, message, model, monkeypatch, capsys):
    arguments = [model if argument == "MODEL" else argument for argument in arguments]
    with pytest.raises(SystemExit) as caught:
        call(monkeypatch, *arguments)
    assert caught.value.code == 2
    assert capsys.readouterr().err.startswith("error: ")
    with pytest.raises(SystemExit):
        call(monkeypatch, *arguments)
    assert message in capsys.readouterr().err


def test_a_model_without_a_grader_gets_no_rule(tmp_path, monkeypatch, capsys):
    save_card(CARD, tmp_path)
    with pytest.raises(SystemExit):
        call(monkeypatch, "a", "b", "--write", tmp_path)
    assert "has no second look" in capsys.readouterr().err
