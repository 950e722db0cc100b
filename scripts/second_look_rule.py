"""The rule of a second look, out of fold: ``python -m scripts.second_look_rule RUN... --write M``.

Each RUN is a grader's training (``cytolibra train --config train/grader``) whose detector and
grader both left a fold of the fields out, and judged it. The rule has four numbers. They are chosen
by cross-validation over these folds: for each fold by all others, so that what is told of the
chosen rule was never chosen on; what MODEL's card gets is then chosen on all. So are its
thresholds.

Runs of one fold that are joined by commas, ``a/fold1,b/fold1``, are judged as one grader: the mean
of their probabilities.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich import box
from rich.console import Console
from rich.progress import track
from rich.table import Table

from configs import ConfigError
from data.evaluation import (
    Calibration,
    FieldCells,
    FixedBoxes,
    Matches,
    fit_calibration,
    match_classes,
    no_calibration,
    pooled_classes,
)
from data.evaluation.bootstrap import resampled_ap
from data.fields.fieldset import FieldSet
from models.card import CombinationRule, FalseAlarms, ModelCard, read_card
from models.config import DetectorConfig
from pipeline.cells.second_look import LEAST, combine
from pipeline.geometry import Boxes
from scripts.evaluation.cards import check_card_writable, update_card
from scripts.evaluation.evidence import Draws, draw, finite, match_pooled
from scripts.evaluation.false_alarms import describe_found, false_alarm_figures
from scripts.evaluation.files import write_text
from scripts.evaluation.table import false_alarm_table, show, spread
from scripts.telling import run_for_people, warn
from scripts.training.folds import Fold, check_runs_apart, read_fold
from scripts.training.grader_judge import calibrate, even_out
from scripts.training.judge import THRESHOLD_RULE, thresholds_of

GRID: Mapping[str, Sequence[float]] = {
    "background": (0.0, 0.2, 0.4),
    "share": (0.5, 1.0),
    "evidence": (0.15, 0.3, 0.5),
    "grade": (0.15, 0.3, 0.5),
}
"""Exponents that are tried: few, coarse, and not far apart. With a wider grid folds choose rules so
different that their scores don't compare: on CRIC's 158 fields abnormal AP50 of all folds together
fell from 0.65 to 0.64."""

MANY_CELLS = 100
"""Cells of a class from which on its AP50 is steady enough to choose by."""

Parts = Mapping[str, Sequence[Matches]]
"""Matches by field: "abnormal", and each class."""


@dataclass(frozen=True)
class Choice:
    """A rule that was chosen, and what it is worth.

    Attributes:
        rule: chosen on all folds, for the card.
        of_fold: chosen for each fold on all others.
        calibrations: of each fold's grader, fitted on all others.
        found: what each field has with its own fold's rule and temperature.
    """

    rule: CombinationRule
    of_fold: Sequence[CombinationRule]
    calibrations: Sequence[Calibration]
    found: Sequence[FieldCells]


def main() -> None:
    """Chooses the rule of a second look on fields that neither detector nor grader saw."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument(
        "runs", nargs="+", help="folders of graders' trainings; joined by commas: their mean"
    )
    parser.add_argument(
        "--write", type=Path, metavar="MODEL", help="folder of the model that gets the rule"
    )
    parser.add_argument("--out", type=Path, metavar="FILE.json", help="where all figures go")
    parser.add_argument("--by", default="field", help="field, slide or patient: what is drawn anew")
    parser.add_argument("--level", type=float, default=0.95, help="of the intervals")
    parser.add_argument("--data", default="out of fold", help="what the fields are called")
    run_for_people(lambda: _run(parser.parse_args()))


def _run(options: argparse.Namespace) -> None:
    card = _writable(options.write) if options.write else None
    if card is not None and any("," in run for run in options.runs):
        raise ConfigError("--write: a mean of several graders is no model; name one run a fold")
    folds = [average([read_fold(Path(one)) for one in run.split(",")]) for run in options.runs]
    check_folds(folds, options.runs, card)
    fields = _together(folds)
    draws = draw(fields, options.by, options.level)  # refused before any rule is chosen
    choice = choose_rule(folds)
    figures = judge_choice(folds, choice, draws) | {
        "warnings": [doubt.model_dump() for doubt in draws.doubts]
    }
    console = Console()
    console.print(_table(figures, len(fields.fields)))
    warn(draws.doubts)
    final = _with_rule(folds, choice.calibrations, choice.rule)
    truth = [cells for fold in folds for cells in fold.evidence.truth]
    config = folds[0].card.detector
    thresholds = thresholds_of(truth, final, config)
    alarms = _false_alarms(fields, truth, final, config, thresholds, options.data)
    figures |= {"thresholds": thresholds}
    if alarms:
        figures |= {"false_alarms": false_alarm_figures(alarms)}
        console.print(false_alarm_table(figures["false_alarms"]))
    if options.out:
        text = json.dumps(figures, indent=2, ensure_ascii=False)
        write_text(options.out, text + "\n")
    if card is not None:
        told = (
            f"out of fold on {len(fields.fields)} fields of {len(folds)} runs "
            f"({options.data}); figures by the rule that the other folds chose"
        )
        look = card.second_look
        _write(card, options.write, choice.rule, thresholds, alarms, figures, told)
        if look and look.accuracy:
            print(
                "note: its accuracy, measured with the rule before, is taken out; cytolibra "
                "evaluate --write-accuracy measures it anew",
                file=sys.stderr,
            )
        console.print(f"Rule, thresholds and figures written: {options.write}", soft_wrap=True)


def average(folds: Sequence[Fold]) -> Fold:
    """Several graders of one fold as one: the mean of their probabilities, each at its temperature.

    Without their biases, which the calibration of the mean brings in.

    Raises:
        ConfigError: they looked at different places: the detector, its floor or the fields differ.
    """
    first = folds[0]
    if len(folds) == 1:
        return first
    classes = len(first.card.detector.classes) + 1
    for fold in folds[1:]:
        pairs = zip(fold.evidence.candidates, first.evidence.candidates, strict=False)
        same = len(fold.evidence.candidates) == len(first.evidence.candidates)
        if not same or not all(_same_boxes(a.places.boxes, b.places.boxes) for a, b in pairs):
            raise ConfigError(
                f"{fold.card.name} and {first.card.name} looked at different places: graders are "
                "averaged over the same detector, floor and fields"
            )
    temperatures = [fit_calibration(*fold.evidence.known()).temperature for fold in folds]
    as_drawn = [replace(no_calibration(classes), temperature=one) for one in temperatures]
    logits = []
    for of_field in zip(*(fold.evidence.logits for fold in folds), strict=True):
        said = [c.probabilities(one) for one, c in zip(of_field, as_drawn, strict=True)]
        logits.append(np.log(np.maximum(np.mean(said, axis=0), LEAST)).astype(np.float32))
    return replace(first, evidence=replace(first.evidence, logits=logits))


def _same_boxes(one: Boxes, other: Boxes) -> bool:
    """Within a tenth of a pixel: a network's sums differ in their last bits from run to run."""
    return one.shape == other.shape and bool(np.allclose(one, other, rtol=0, atol=0.1))


def check_folds(folds: Sequence[Fold], runs: Sequence[str], card: ModelCard | None) -> None:
    """Makes sure that folds are several, different ones of one kind of model.

    Raises:
        ConfigError: they are not.
    """
    if len(folds) < 2:
        raise ConfigError("a rule is chosen for each run by the others: name two runs or more")
    wanted = card or folds[0].card
    left_out = [fold.fields for fold in folds]
    check_runs_apart(left_out, runs, wanted.detector.classes, wanted.name)


def choose_rule(folds: Sequence[Fold]) -> Choice:
    """Chooses by the sum of abnormal AP50 and the mean AP50 of the classes, out of fold.

    Only places that are looked at count here: the rest is the same whatever the rule.
    """
    calibrations = [_calibration_of_others(folds, k) for k in range(len(folds))]
    rules = [
        CombinationRule(**dict(zip(GRID, values, strict=True)))
        for values in itertools.product(*GRID.values())
    ]
    places = [
        FixedBoxes(cells, one.places.boxes)
        for fold in folds
        for cells, one in zip(fold.evidence.truth, fold.evidence.candidates, strict=True)
    ]
    fold_of = np.repeat(np.arange(len(folds)), [len(fold.fields.fields) for fold in folds])
    everywhere = np.ones((1, len(places)), np.int64)
    without = np.array([fold_of != k for k in range(len(folds))], np.int64)
    times = np.concatenate([everywhere, without])
    scores = [
        objective(match_places(places, _scores_by(folds, calibrations, rule), folds[0].card), times)
        for rule in track(rules, "Rules")
    ]
    best = np.array(scores).argmax(axis=0)  # of equal ones the first
    of_fold = [rules[row] for row in best[1:]]
    found = [
        cells
        for k, rule in enumerate(of_fold)
        for cells in _with_rule([folds[k]], [calibrations[k]], rule)
    ]
    return Choice(rules[best[0]], of_fold, calibrations, found)


def match_parts(
    truth: Sequence[FieldCells], found: Sequence[FieldCells], card: ModelCard
) -> dict[str, Sequence[Matches]]:
    """Matches of all abnormal classes as one, of all classes as one, and of each."""
    config = card.detector
    by_class = match_classes(truth, found, len(config.classes))
    return {
        **match_pooled(truth, found, pooled_classes(config.is_abnormal)),
        **dict(zip(config.classes, by_class, strict=True)),
    }


def match_places(
    places: Sequence[FixedBoxes], scores: Sequence[NDArray[np.floating]], card: ModelCard
) -> dict[str, Sequence[Matches]]:
    """The same of places whose (M, C) scores of all classes are known, but for "any"."""
    config, labels = card.detector, np.arange(len(card.detector.classes))
    abnormal = labels[np.array(config.is_abnormal)]
    groups = {"abnormal": abnormal, **dict(zip(config.classes, labels[:, None], strict=True))}
    return {
        name: [
            place.matches(one[:, members].max(axis=1, initial=0), members)
            for place, one in zip(places, scores, strict=True)
        ]
        for name, members in groups.items()
    }


def objective(parts: Parts, times: NDArray[np.int64]) -> NDArray[np.float64]:
    """(rounds,) what a rule is chosen by, with the fields drawn ``times`` (rounds, fields)."""
    classes = [values for name, values in parts.items() if name not in ("abnormal", "any")]
    cells = [sum(part.cells for part in values) for values in classes]
    present = [values for values, count in zip(classes, cells, strict=True) if count]
    mean = np.nanmean([resampled_ap(values, times) for values in present], axis=0)
    return np.asarray(resampled_ap(parts["abnormal"], times) + mean)


def judge_choice(folds: Sequence[Fold], choice: Choice, draws: Draws) -> dict[str, Any]:
    """AP50 of the detectors alone and with the second look, paired; and what was chosen."""
    truth = [cells for fold in folds for cells in fold.evidence.truth]
    alone = [cells for fold in folds for cells in fold.evidence.alone()]
    card = folds[0].card
    sides = [match_parts(truth, found, card) for found in (alone, choice.found)]
    times = np.concatenate([np.ones((1, len(truth)), np.int64), draws.times])
    before, after = ({n: resampled_ap(m, times) for n, m in side.items()} for side in sides)
    cells = {name: sum(part.cells for part in sides[0][name]) for name in card.detector.classes}
    groups = {
        "all classes": [name for name in cells if cells[name]],
        f"classes of {MANY_CELLS} cells": [n for n in cells if cells[n] >= MANY_CELLS],
    }
    for name, members in groups.items():
        for side in (before, after):
            side[name] = np.mean([side[n] for n in members] or [np.full(len(times), np.nan)], 0)
    logits, labels = zip(*(fold.evidence.known() for fold in folds), strict=True)
    errors = [
        calibration.confidence(own, what).error
        for own, what, calibration in zip(logits, labels, choice.calibrations, strict=True)
    ]
    return {
        "fields": len(truth),
        "ap50": {
            name: {
                "cells": cells.get(name),
                "alone": finite(before[name][0]),
                "with_look": finite(after[name][0]),
                "difference": finite(after[name][0] - before[name][0]),
                "difference_interval": draws.interval(after[name][1:] - before[name][1:]),
            }
            for name in before
        },
        "intervals": {"level": draws.level, "by": draws.by, "drawn": draws.groups},
        "rule": choice.rule.model_dump(exclude={"weights"}),
        "rules_of_folds": [rule.model_dump(exclude={"weights"}) for rule in choice.of_fold],
        "calibrations": [
            {"temperature": round(one.temperature, 4), "bias": one.bias.round(4).tolist()}
            for one in choice.calibrations
        ],
        "grid": {name: list(values) for name, values in GRID.items()},
        "grades": {
            "places": int(sum(map(len, labels))),
            "calibration_error": finite(
                float(np.average(errors, weights=[len(one) for one in labels]))
            ),
        },
    }


def _calibration_of_others(folds: Sequence[Fold], k: int) -> Calibration:
    """The calibration that the other folds' graders need: no fold is judged by its own."""
    return calibrate([fold.evidence for i, fold in enumerate(folds) if i != k])


def _with_rule(
    folds: Sequence[Fold], calibrations: Sequence[Calibration], rule: CombinationRule
) -> list[FieldCells]:
    abnormal = np.array(folds[0].card.detector.is_abnormal)
    return [
        cells
        for fold, calibration in zip(folds, calibrations, strict=True)
        for cells in fold.evidence.with_look(calibration, even_out(rule, calibration), abnormal)
    ]


def _scores_by(
    folds: Sequence[Fold], calibrations: Sequence[Calibration], rule: CombinationRule
) -> list[NDArray[np.float32]]:
    """For each field the (M, C) scores of its places after the look."""
    abnormal = np.array(folds[0].card.detector.is_abnormal)
    return [
        combine(
            one.class_scores,
            calibration.probabilities(logits),
            abnormal,
            even_out(rule, calibration),
        )
        for fold, calibration in zip(folds, calibrations, strict=True)
        for one, logits in zip(fold.evidence.candidates, fold.evidence.logits, strict=True)
    ]


def _together(folds: Sequence[Fold]) -> FieldSet:
    fields = tuple(field for fold in folds for field in fold.fields.fields)
    return replace(folds[0].fields, fields=fields)


def _false_alarms(
    fields: FieldSet,
    truth: Sequence[FieldCells],
    found: Sequence[FieldCells],
    config: DetectorConfig,
    thresholds: dict[str, float],
    data: str,
) -> FalseAlarms | None:
    """What is reported by chance; None, and told, where these fields can't say."""
    try:
        return describe_found(fields, truth, found, config, data=data, thresholds=thresholds)
    except ConfigError as error:
        print(f"note: {error}", file=sys.stderr)
        return None


def _writable(folder: Path) -> ModelCard:
    check_card_writable(folder, "--write")
    card = read_card(folder)
    if card.second_look is None:
        raise ConfigError(f"--write {folder}: this model has no second look")
    return card


def _write(
    card: ModelCard,
    folder: Path,
    rule: CombinationRule,
    thresholds: dict[str, float],
    alarms: FalseAlarms | None,
    figures: dict[str, Any],
    told: str,
) -> None:
    look = card.second_look
    assert look is not None
    metrics = {
        f"out_of_fold/{side}/{name}": entry[side]
        for name, entry in figures["ap50"].items()
        for side in ("alone", "with_look")
        if entry[side] is not None
    }
    update_card(
        card,
        folder,
        looks=True,
        # Its own weights: they belong to its calibration, not to the folds'.
        rule=rule.model_copy(update={"weights": look.rule.weights}),
        thresholds=thresholds,
        false_alarms=alarms,
        accuracy=None,  # held for another rule
        metrics=look.metrics | metrics,
        training=look.training | {"rule": told, "threshold_rule": THRESHOLD_RULE},
    )


def _table(figures: dict[str, Any], fields: int) -> Table:
    title = f"AP50 out of fold, {fields} fields"
    table = Table(title=title, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), caption_justify="left")
    for place, heading in enumerate(("", "cells", "alone", "with look", "difference", "interval")):
        table.add_column(heading, justify="right" if place else "left", no_wrap=True)
    for name, entry in figures["ap50"].items():
        values = (show(entry["alone"]), show(entry["with_look"]))
        change = show(entry["difference"], sign="+"), spread(entry["difference_interval"], "+")
        table.add_row(name, str(entry["cells"] or ""), *values, *change)
    rule = ", ".join(f"{name} {value:g}" for name, value in figures["rule"].items())
    table.caption = (
        f"{100 * figures['intervals']['level']:g}% intervals by drawing "
        f"{figures['intervals']['drawn']} {figures['intervals']['by']}s anew. Each fold by the "
        f"rule that the others chose; all of them choose {rule}. Expected calibration error of "
        f"grades: {show(figures['grades']['calibration_error'])}"
    )
    return table


if __name__ == "__main__":
    main()
