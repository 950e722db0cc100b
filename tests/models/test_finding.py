"""Where models are found: on disk, shipped, and in a user's own folders."""

import os
from pathlib import Path

import pytest

from models.card import (
    MODELS_ENV,
    ModelCard,
    ModelFileError,
    find_model,
    list_models,
    own_folders,
    save_card,
    shipped_names,
)

SHIPPED = "cric-fcos-light"


def write(folder: Path, name: str) -> Path:
    folder.mkdir(parents=True)
    detector = {"name": "fcos", "classes": ["NILM"]}
    save_card(
        ModelCard.model_validate(
            {"name": name, "detector": detector, "mpp": 0.5, "thresholds": {"NILM": 0.5}}
        ),
        folder,
    )
    return folder


@pytest.fixture
def own(tmp_path, monkeypatch):
    monkeypatch.setenv(MODELS_ENV, str(tmp_path / "own"))
    (tmp_path / "own").mkdir()
    return tmp_path / "own"


def test_own_models_are_found_by_name_in_the_folders_of_the_environment(own, tmp_path, monkeypatch):
    copied = write(own / "a", "mine")
    trained = write(own / "run" / "model", "tuned")
    other = write(tmp_path / "other", "third")
    monkeypatch.setenv(MODELS_ENV, os.pathsep.join([str(own), str(other)]))
    assert own_folders() == [copied, trained, other]
    assert [find_model(name) for name in ("mine", "tuned", "third")] == [copied, trained, other]


def test_a_run_is_its_model(tmp_path):
    assert find_model(write(tmp_path / "run" / "model", "x").parent) == tmp_path / "run" / "model"


def test_a_shipped_name_stays_the_shipped_models(own):
    write(own / "a", SHIPPED)
    assert find_model(SHIPPED).parent.name == "zoo"
    assert find_model(own / "a") == own / "a"


def test_two_own_models_of_one_name_are_not_chosen_from(own):
    write(own / "a", "mine")
    write(own / "b", "mine")
    with pytest.raises(
        ModelFileError, match=r"several of your models are called so; name one: .*b"
    ):
        find_model("mine")


def test_an_unknown_name_is_told_with_those_that_there_are(own):
    write(own / "a", "mine")
    with pytest.raises(ModelFileError, match=rf"none: no such model; .*{SHIPPED}.*own: mine"):
        find_model("none")


def test_a_folder_that_is_none_is_told(monkeypatch, tmp_path):
    monkeypatch.setenv(MODELS_ENV, str(tmp_path / "gone"))
    with pytest.raises(ModelFileError, match=r"CYTOLIBRA_MODELS: .*gone: no such folder"):
        own_folders()


def test_names_of_shipped_models_are_those_of_their_cards():
    assert shipped_names() == {card.name for card in list_models()}
