"""``cytolibra models``: shipped and own ones, and all that a card says."""

import json

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
    assert "    licence: not stated" in lines[at:]


def test_shows_a_shipped_one_and_refuses_what_is_none():
    assert "attribution: Rezende" in call("show", SHIPPED).stdout
    result = call("show", "none")
    assert result.exit_code == 2
    assert result.stderr.startswith("error: none: no such model")
