"""False alarms of a recipe, out of fold: ``python -m scripts.out_of_fold MODEL RUN...``.

A model's own training fields say nothing about its false alarms, and validation fields may be few.
So the recipe is trained several times, each time without a part of the fields (``data.train.split``
and ``data.val.split``), and each run judges the part that it never saw, with MODEL's thresholds.
Where the runs are graders' trainings, what is measured and written is after MODEL's second look, by
its rule.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.console import Console

from configs import ConfigError, load_config
from data.evaluation import FieldCells, fit_calibration, load_cells
from data.fields.fieldset import FieldSet
from models.card import ModelCard, read_card
from scripts.evaluation.against import check_same_fields
from scripts.evaluation.cards import check_card_writable, update_card
from scripts.evaluation.evidence import areas_of
from scripts.evaluation.false_alarms import NO_SCALE, describe_found, false_alarm_figures
from scripts.evaluation.table import false_alarm_table
from scripts.telling import run_for_people
from scripts.training.folds import check_runs_apart, read_fold
from scripts.training.grader_judge import EVIDENCE, even_out
from scripts.training.run import read_fields
from scripts.training.settings import TrainSettings

Run = tuple[FieldSet, Sequence[FieldCells], Sequence[FieldCells]]
"""The fields that a run did not learn from, what was found on them, and their cells."""


def main() -> None:
    """Measures false alarms on the fields that each run did not see, and writes them into MODEL."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("model", type=Path, help="folder of the model whose card is written")
    parser.add_argument("runs", type=Path, nargs="+", help="folders of cytolibra train")
    parser.add_argument("--data", default="out of fold", help="what the fields are called")
    run_for_people(lambda: _measure(parser.parse_args()))


def _measure(options: argparse.Namespace) -> None:
    check_card_writable(options.model, "out_of_fold")
    card = read_card(options.model)
    looks = _are_graders(options.runs, card)
    wanted = card.second_look.thresholds if looks and card.second_look else card.thresholds
    parts = [_of_grader(run, card) if looks else _of_run(run) for run in options.runs]
    left_out = [part[0] for part in parts]
    names = [str(run) for run in options.runs]
    check_runs_apart(left_out, names, card.detector.classes, card.name)
    for run, fields in zip(options.runs, left_out, strict=True):
        if areas_of(fields.fields) is None:
            raise ConfigError(f"{run}: {NO_SCALE}")
    alarms = describe_found(
        FieldSet(card.detector.classes, tuple(f for fields in left_out for f in fields.fields)),
        [cells for _, _, truth in parts for cells in truth],
        [cells for _, found, _ in parts for cells in found],
        card.detector,
        data=options.data,
        thresholds=wanted,
    )
    update_card(card, options.model, looks, false_alarms=alarms)
    Console().print(false_alarm_table(false_alarm_figures(alarms)))


def _are_graders(runs: Sequence[Path], card: ModelCard) -> bool:
    """Whether all runs are graders' trainings, or none of them.

    Raises:
        ConfigError: some are; or the model has no second look.
    """
    graders = [run for run in runs if (run / EVIDENCE).is_file()]
    if graders and len(graders) < len(runs):
        raise ConfigError(f"{graders[0]} is a grader's training, others are not: name one kind")
    if graders and card.second_look is None:
        raise ConfigError(f"{graders[0]} is a grader's training, and {card.name} has no grader")
    return bool(graders)


def _of_grader(run: Path, card: ModelCard) -> Run:
    fold = read_fold(run)
    look, own = card.second_look, fold.card.second_look
    if look is None or own is None or own.classes != look.classes:
        raise ConfigError(f"{run}: its grader is of other classes than that of {card.name}")
    abnormal = np.array(card.detector.is_abnormal)
    own_calibration = fit_calibration(*fold.evidence.known())  # as the run's own model has it
    rule = even_out(look.rule, own_calibration) if look.rule.weights else look.rule
    found = fold.evidence.with_look(own_calibration, rule, abnormal)
    return fold.fields, found, fold.evidence.truth


def _of_run(run: Path) -> Run:
    for name in ("config.yaml", "validation.npz"):
        if not (run / name).is_file():
            raise ConfigError(f"{run}: no run of cytolibra train that has ended: it has no {name}")
    settings = load_config(run / "config.yaml", TrainSettings)
    _, fields = read_fields(settings)
    truth, found = load_cells(run / "validation.npz")
    check_same_fields(truth, fields, run / "validation.npz")
    return fields, found, truth


if __name__ == "__main__":
    main()
