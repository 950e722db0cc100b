"""False alarms of a recipe, out of fold: ``python -m scripts.out_of_fold MODEL RUN...``.

A model's own training fields say nothing about its false alarms, and validation fields may be few.
So the recipe is trained several times, each time without a part of the fields (``data.train.split``
and ``data.val.split``), and each run judges the part that it never saw, with MODEL's thresholds.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from rich.console import Console

from configs import ConfigError, load_config
from data.evaluation import FieldCells, load_cells
from data.fields.fieldset import FieldSet
from models.card import read_card
from scripts.evaluation.cards import update_card
from scripts.evaluation.evidence import judged_mm2, reported
from scripts.evaluation.false_alarms import (
    describe_fields,
    false_alarm_figures,
)
from scripts.evaluation.table import false_alarm_table
from scripts.training.run import TrainSettings, read_fields


def main() -> None:
    """Measures false alarms on the fields that each run did not see, and writes them into MODEL."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("model", type=Path, help="folder of the model whose card is written")
    parser.add_argument("runs", type=Path, nargs="+", help="folders of cytolibra train")
    parser.add_argument("--data", default="out of fold", help="what the fields are called")
    options = parser.parse_args()
    card = read_card(options.model)
    thresholds = np.array([card.thresholds[name] for name in card.detector.classes])
    truth: list[FieldCells] = []
    found: list[FieldCells] = []
    mm2: list[float] = []
    slides: list[str] = []
    for run in options.runs:
        fields, detections, cells = _of_run(run)
        truth += cells
        found += [reported(one, thresholds, card.detector.is_abnormal) for one in detections]
        mm2 += _areas(fields, run)
        slides += [field.slide for field in fields.fields]
    alarms = describe_fields(
        truth,
        found,
        np.array(mm2),
        card.detector,
        data=options.data,
        thresholds=card.thresholds,
        slides=slides if all(slides) else (),
    )
    update_card(card, options.model, false_alarms=alarms)
    Console().print(false_alarm_table(false_alarm_figures(alarms)))


def _of_run(run: Path) -> tuple[FieldSet, list[FieldCells], list[FieldCells]]:
    """The fields that a run did not learn from, what it found on them, and their cells."""
    settings = load_config(run / "config.yaml", TrainSettings)
    _, fields = read_fields(settings)
    truth, found = load_cells(run / "validation.npz")
    if len(truth) != len(fields.fields):
        raise ConfigError(f"{run}: its validation.npz has {len(truth)} fields, its data other ones")
    return fields, list(found), list(truth)


def _areas(fields: FieldSet, run: Path) -> list[float]:
    areas = [judged_mm2(field) for field in fields.fields]
    known = [area for area in areas if area is not None]
    if len(known) < len(areas):
        raise ConfigError(f"{run}: false alarms a mm² need the scale of every field")
    return known


if __name__ == "__main__":
    main()
