"""The sidecar's part for a grader."""

import json
from pathlib import Path
from typing import get_args

import pytest
from pydantic import BaseModel, ValidationError

from models.card import ModelCard, ModelFileError, SecondLookFacts, read_card, save_card
from models.config import DetectorConfig

CLASSES = ("NILM", "LSIL", "HSIL")
GRADER = {
    "name": "grader",
    "backbone": "mobilenet_v2",
    "classes": CLASSES,
    "mean": (0.485, 0.456, 0.406),
    "std": (0.229, 0.224, 0.225),
    "thresholds": dict.fromkeys(CLASSES, 0.2),
    "sha256": "00",
}


def models_in(annotation):
    """The parts of a card that a field's type names."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return {annotation}
    return {one for argument in get_args(annotation) for one in models_in(argument)}


def card_with(**changes) -> ModelCard:
    return ModelCard(
        name="twice",
        detector=DetectorConfig(name="fcos", classes=CLASSES),
        mpp=0.5,
        thresholds=dict.fromkeys(CLASSES, 0.3),
        second_look=SecondLookFacts(**{**GRADER, **changes}),
    )


def test_a_card_with_a_grader_reads_back_as_it_was(tmp_path: Path):
    card = card_with(temperature=1.5)
    save_card(card, tmp_path)

    assert read_card(tmp_path) == card
    assert read_card(tmp_path).second_look.rule.background == 0.2


@pytest.mark.parametrize(
    "loss",
    [
        {"name": "focal", "alpha": None},
        {"name": "losses.baselines:FocalLoss", "alpha": None},
    ],
)
def test_a_setting_of_none_reads_back_as_none(loss, tmp_path: Path):
    detector = DetectorConfig(name="fcos", classes=CLASSES, loss=loss, max_detections=None)
    card = card_with().model_copy(update={"detector": detector})
    save_card(card, tmp_path)

    assert read_card(tmp_path) == card
    assert read_card(tmp_path).detector.loss.build(3).alpha is None


def test_a_part_whose_none_is_no_default_is_written_whole():
    """What `save_card` leaves out where it is None must have that as its default."""

    def parts(kind):
        yield kind
        for name, field in kind.model_fields.items():
            if (kind, name) != (ModelCard, "detector"):
                for one in models_in(field.annotation):
                    yield from parts(one)

    fields = [
        (f"{one.__name__}.{n}", f) for one in parts(ModelCard) for n, f in one.model_fields.items()
    ]
    nullable = {
        name: field.default for name, field in fields if type(None) in get_args(field.annotation)
    }

    assert nullable
    assert set(nullable.values()) == {None}


def test_a_grader_of_other_classes_is_refused_in_one_line(tmp_path: Path):
    save_card(card_with(), tmp_path)
    path = tmp_path / "model.json"
    values = json.loads(path.read_text())
    values["second_look"] |= {"classes": ["NILM", "HSIL"], "thresholds": {"NILM": 0.5, "HSIL": 0.5}}
    path.write_text(json.dumps(values))

    with pytest.raises(ModelFileError) as refused:
        read_card(tmp_path)

    assert str(refused.value) == (
        f"{path}: second_look tells NILM, HSIL apart, the detector NILM, LSIL, HSIL: train a "
        "grader for this detector, or take second_look out"
    )


@pytest.mark.parametrize(
    "wrong",
    [
        {"thresholds": {"NILM": 0.2}},
        {"temperature": 0},
        {"std": (0.2, 0, 0.2)},
        {"floor": 0},
        {"mean": (0.5, 0.5)},
    ],
)
def test_facts_that_cannot_be_are_refused(wrong):
    with pytest.raises(ValidationError):
        card_with(**wrong)
