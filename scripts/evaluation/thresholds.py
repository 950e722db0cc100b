"""Operating thresholds for a wanted sensitivity or precision, and how they get into a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from configs import ConfigError
from data.evaluation import (
    FEW_CELLS,
    Matches,
    join,
    threshold_for_precision,
    threshold_for_sensitivity,
)
from models import DenseDetector, DetectorConfig, ModelCard
from models.card import SIDECAR, ZOO, Accuracy, FalseAlarms, save_card
from models.storage.graphs import copy_files
from scripts.evaluation.evidence import Draws, Evidence
from scripts.evaluation.figures import rates

Kind = Literal["sensitivity", "precision"]

MERGED = "abnormal"
"""Names all abnormal classes, merged into one."""


@dataclass(frozen=True)
class Target:
    """What is wanted of a class.

    Attributes:
        kind: of the figure.
        value: of the figure.
        merged: one score for all abnormal classes, by which any of them is found.
        each: meant for every abnormal class, and not for this one in particular.
    """

    kind: Kind
    value: float
    merged: bool = False
    each: bool = False


@dataclass(frozen=True)
class Chosen:
    """Thresholds that were found.

    Attributes:
        thresholds: of every class, those that nobody asked for too.
        rule: how they were chosen, for the sidecar.
        figures: ``classes`` {name: threshold, wanted, chosen_on, and what it gives}, ``pooled``
            what is reported with all of them, ``rule``; with intervals.
    """

    thresholds: Mapping[str, float]
    rule: str
    figures: dict[str, Any]


def read_targets(
    sensitivity: Sequence[str], precision: Sequence[str], config: DetectorConfig
) -> dict[str, Target]:
    """What ``--at-sensitivity`` and ``--at-precision`` want, by class.

    An entry is ``0.9``, for each abnormal class; ``abnormal=0.9``, for all of them merged; or
    ``HSIL=0.95``. What is said of one class goes before what is said of all.

    Raises:
        ConfigError: an entry is none of these, or two say something of the same class.
    """
    entries: dict[str, Target] = {}
    kinds: tuple[tuple[Kind, Sequence[str]], ...] = (
        ("sensitivity", sensitivity),
        ("precision", precision),
    )
    for kind, texts in kinds:
        for text in texts:
            name, target = _read_target(kind, text, config)
            if name in entries or {name, *entries} >= {"", MERGED}:
                raise ConfigError(f"--at-{kind} {text}: something else is wanted there already")
            entries[name] = target
    of_all = [entries.pop(name) for name in ("", MERGED) if name in entries]
    abnormal = [n for n, yes in zip(config.classes, config.is_abnormal, strict=True) if yes]
    return {name: target for target in of_all for name in abnormal} | entries


def _read_target(kind: Kind, text: str, config: DetectorConfig) -> tuple[str, Target]:
    name, _, number = text.rpartition("=")
    try:
        value = float(number)
    except ValueError:
        value = -1.0
    if not 0 < value <= 1:
        raise ConfigError(
            f"--at-{kind} {text}: expected a share such as 0.9, or CLASS=0.9, or {MERGED}=0.9"
        )
    if name not in ("", MERGED, *config.classes):
        raise ConfigError(
            f"--at-{kind} {text}: no class {name}; expected {MERGED}, {', '.join(config.classes)}"
        )
    if name in config.classes:
        return name, Target(kind, value)
    return name, Target(kind, value, merged=bool(name), each=not name)


def choose_thresholds(
    evidence: Evidence, targets: Mapping[str, Target], draws: Draws, data: str
) -> Chosen:
    """The thresholds that give what is wanted, and what they give.

    Args:
        evidence: what they are chosen on.
        targets: what is wanted, by class.
        draws: for the intervals.
        data: what the fields are called, for the sidecar.

    Raises:
        ConfigError: a target is out of reach; the message tells the best.
    """
    by_class = dict(zip(evidence.classes, evidence.by_class, strict=True))
    chosen: dict[str, dict[str, Any]] = {}
    for name, target in targets.items():
        few = target.each and join(by_class[name]).cells < FEW_CELLS
        merged = target.merged or few
        parts = evidence.pooled[MERGED] if merged else by_class[name]
        threshold = _threshold(name, target, join(parts))
        chosen[name] = {
            "threshold": threshold,
            "wanted": {target.kind: target.value},
            "chosen_on": f"{MERGED}, merged" if merged else name,
            "cells": join(parts).cells,
            **rates(parts, draws, threshold),
        }
    old = dict(zip(evidence.classes, evidence.thresholds.tolist(), strict=True))
    new = old | {name: entry["threshold"] for name, entry in chosen.items()}
    with_them = replace(evidence, thresholds=np.array(list(new.values())))
    pooled = {name: rates(parts, draws) for name, parts in with_them.reported_pooled.items()}
    rule = _describe(evidence, targets, chosen, data)
    return Chosen(new, rule, {"classes": chosen, "pooled": pooled, "rule": rule})


def _threshold(name: str, target: Target, matched: Matches) -> float:
    choose = {
        "sensitivity": threshold_for_sensitivity,
        "precision": threshold_for_precision,
    }[target.kind]
    try:
        return choose(matched, target.value)
    except ConfigError as error:
        raise ConfigError(f"--at-{target.kind}, {name}: {error}") from error


def _describe(
    evidence: Evidence,
    targets: Mapping[str, Target],
    chosen: Mapping[str, Mapping[str, Any]],
    data: str,
) -> str:
    """For the sidecar: what was wanted of which class, on what, and what stayed as it was."""
    groups: dict[str, list[str]] = {}
    for name, target in targets.items():
        told = f"{target.kind} {target.value:g}"
        merged = chosen[name]["chosen_on"] != name
        groups.setdefault(f"{told} of all abnormal classes merged" if merged else told, []).append(
            name
        )
    wanted = "; ".join(f"{', '.join(names)}: {told}" for told, names in groups.items())
    cells = sum(evidence.fields.class_counts())
    rule = f"{wanted}; at IoU 0.5 on {data}, {len(evidence.truth)} fields, {cells} cells"
    kept = [name for name in evidence.classes if name not in targets]
    return f"{rule}. {', '.join(kept)} as before: {evidence.card.threshold_rule}" if kept else rule


def check_writable(
    detector: DenseDetector, any_wanted: bool, write: bool, copy: Path | None
) -> None:
    """Refuses to write what nobody asked for, to change a shipped model, and to replace another.

    Raises:
        ConfigError: it is one of these.
    """
    if (write or copy is not None) and not any_wanted:
        raise ConfigError(
            "--write-thresholds and --save-model need --at-sensitivity or --at-precision, which "
            "say what the thresholds are to give"
        )
    if write and detector.folder is not None and detector.folder.is_relative_to(ZOO):
        raise ConfigError(
            "--write-thresholds: a shipped model stays as it is; --save-model DIR writes a copy "
            "with the new thresholds"
        )
    if copy is not None and (copy / SIDECAR).exists():
        raise ConfigError(f"--save-model {copy}: there is a model already; name another folder")


def save_thresholds(
    detector: DenseDetector,
    chosen: Chosen,
    alarms: FalseAlarms | None,
    accuracy: Accuracy | None,
    write: bool,
    copy: Path | None,
    looks: bool = False,
) -> list[Path]:
    """Writes the thresholds into the model's sidecar, or into that of a copy, or both.

    Args:
        detector: the model.
        chosen: the thresholds.
        alarms: what is reported by chance with them, where that is known; what was known for the
            old ones holds no more.
        accuracy: how well cells are found with them; likewise.
        write: whether the model's own sidecar is written.
        copy: a folder for a copy of the model.
        looks: whether they are of the scores after the second look.

    Returns:
        The folders that have them.

    Raises:
        ConfigError: a folder can't be written.
    """
    assert detector.card is not None
    assert detector.folder is not None
    card = with_thresholds(detector.card, chosen, alarms, accuracy, looks)
    folders = [folder for folder in (detector.folder if write else None, copy) if folder]
    for folder in folders:
        try:
            if folder == copy:
                copy_files(detector.folder, card, folder)
            save_card(card, folder)
        except OSError as error:
            raise ConfigError(f"{folder}: can't be written: {error.strerror}") from error
    return folders


def with_thresholds(
    card: ModelCard,
    chosen: Chosen,
    alarms: FalseAlarms | None,
    accuracy: Accuracy | None,
    looks: bool,
) -> ModelCard:
    """A card with new thresholds, of the detector alone or after its second look."""
    new: dict[str, Any] = {
        "thresholds": dict(chosen.thresholds),
        "false_alarms": alarms,
        "accuracy": accuracy,
    }
    if not looks:
        return card.model_copy(update=new | {"threshold_rule": chosen.rule})
    assert card.second_look is not None
    told = card.second_look.training | {"threshold_rule": chosen.rule}
    return card.with_grader(training=told, **new)
