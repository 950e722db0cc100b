"""``cytolibra models``: shipped and own ones, and all that a card says."""

import json
import re

import pytest
from typer.testing import CliRunner

from models import DEFAULT_MODEL
from models.card import MODELS_ENV, find_model, read_card
from scripts.cli import build_app

SHIPPED = "cric-fcos-light"


def call(*arguments):
    return CliRunner().invoke(build_app("models"), ["models", *map(str, arguments)])


def card(folder, name, **training):
    folder.mkdir(parents=True)
    detector = {"name": "fcos", "classes": ["NILM"]}
    content = {"name": name, "detector": detector, "mpp": 0.5, "thresholds": {"NILM": 0.5}}
    (folder / "model.json").write_text(json.dumps(content | {"training": training}))
    return folder


def test_lists_own_models_behind_the_shipped_ones(tmp_path, monkeypatch):
    monkeypatch.setenv(MODELS_ENV, str(tmp_path))
    mine, alike = card(tmp_path / "a", "mine"), card(tmp_path / "b", SHIPPED)
    (card(tmp_path / "c", "broken") / "model.json").write_text("{")
    result = call()
    assert result.exit_code == 0
    assert f"mine (your own, {mine})" in result.stdout
    assert f"{SHIPPED} (your own, {alike}; called by its folder" in result.stdout
    assert "not a model's sidecar" in result.stderr


def test_shows_sources_and_parents_with_theirs(tmp_path):
    source = {
        "part": "train",
        "name": "clinic",
        "images": 3,
        "cells": {"NILM": 5},
        "licence": "CC0",
        "annotations_sha256": "aa",
        "images_sha256": "bb",
    }
    parent = {"role": "teacher", "name": "old", "sha256": "cc", "licence": "", "sources": [source]}
    shown = call("show", card(tmp_path / "a", "mine", sources=[source], parents=[parent]))
    assert shown.exit_code == 0
    lines = shown.stdout.splitlines()
    assert "  train: clinic, 3 images; NILM 5" in lines
    assert "    licence: CC0" in lines
    assert "  teacher: old" in lines
    assert "    licence: not stated" in lines
    assert "    train: clinic, 3 images; NILM 5" in lines


def test_shows_what_a_grader_was_made_of():
    look = read_card(find_model(DEFAULT_MODEL)).second_look
    lines = call("show", DEFAULT_MODEL).stdout.splitlines()
    at = lines.index(f"  grader: {look.name}")
    assert lines[at + 1] == f"    data: {look.training['data']}"
    assert f"    limits: {look.limits}" in lines[at:]
    assert "    licence: CC BY 4.0" in lines[at:]


def test_tells_the_thresholds_and_figures_in_force_before_those_of_the_detector_alone():
    card, shown = read_card(find_model(DEFAULT_MODEL)), call("show", DEFAULT_MODEL).stdout
    _, looked, alone = re.split("  with its second look:|  by the detector alone:", shown)
    for part, told in ((card.second_look, looked), (card, alone)):
        listed = ", ".join(f"{name} {value:.2f}" for name, value in part.thresholds.items())
        assert f"\n    counts from: {listed}\n" in told
        found = part.accuracy.groups["abnormal"]
        assert f"    abnormal: {found.cells} cells, AP50 {found.ap50.value:.2f} (" in told
        rate = part.false_alarms.groups["abnormal"].per_mm2
        assert f"    false alarms: {rate:.1f} abnormal cells a mm²" in told
    assert "  metrics, detector alone: " in alone
    light = call("show", SHIPPED).stdout.partition("  at its thresholds:\n")[2]
    assert f"NILM {read_card(find_model(SHIPPED)).thresholds['NILM']:.2f}, " in light


@pytest.mark.parametrize(
    ("training", "key"),
    [
        ({"sources": [{"name": "x"}]}, "training.sources.0.part"),
        ({"sources": 5}, "training.sources"),
        ({"parents": "abc"}, "training.parents"),
    ],
)
def test_a_card_of_another_form_is_named_with_its_key(tmp_path, training, key):
    result = call("show", card(tmp_path / "a", "mine", **training))
    assert result.exit_code == 2
    assert result.stderr.startswith(
        f"error: {tmp_path / 'a' / 'model.json'}: not a model's sidecar"
    )
    assert key in result.stderr


@pytest.mark.parametrize("threshold", [59, 0, -1, True])
def test_a_threshold_that_is_no_score_is_refused(tmp_path, threshold):
    sidecar = card(tmp_path / "a", "mine") / "model.json"
    sidecar.write_text(
        json.dumps(json.loads(sidecar.read_text()) | {"thresholds": {"NILM": threshold}})
    )
    result = call("show", tmp_path / "a")
    assert result.exit_code == 2
    assert "thresholds.NILM" in result.stderr


def test_an_own_model_whose_card_is_broken_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv(MODELS_ENV, str(tmp_path))
    (card(tmp_path / "a", "mine") / "model.json").write_text("{")
    assert f"with a card that can't be read: {tmp_path / 'a'}" in call("show", "mine").stderr


def test_shows_a_shipped_one_and_refuses_what_is_none():
    assert "attribution: Rezende" in call("show", SHIPPED).stdout
    result = call("show", "none")
    assert result.exit_code == 2
    assert result.stderr.startswith("error: none: no such model")
