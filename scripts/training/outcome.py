"""What a run's card says beside the figures by which its epoch was chosen.

False alarms on the validation fields, and how well the model does on each source of its fields and
on one that was held out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from lightning.pytorch import Trainer
from torch.utils.data import DataLoader

from data.crops.drawing import Sample
from data.fields.fieldset import FieldSet, of_source
from models.card import FalseAlarms
from models.detectors.dense import DenseDetector
from scripts.evaluation.false_alarms import describe_found
from scripts.training.judge import Judge

ALARM_DATA = "the validation fields, by which epoch and thresholds were chosen too"
"""What the false alarms of a run are measured on, as its card tells: kinder than other fields."""


def false_alarms_of(judge: Judge, fields: FieldSet, thresholds: Mapping[str, float]) -> FalseAlarms:
    """False alarms a mm² on the fields of the last validation, as ``evaluate`` would measure them.

    Args:
        judge: after that validation.
        fields: its fields.
        thresholds: by class.

    Raises:
        ConfigError: a field's scale is unknown, there are too few, or no class is abnormal.
    """
    judged = FieldSet(fields.classes, tuple(fields.fields[index] for index in judge.fields))
    return describe_found(
        judged, judge.truth, judge.found, judge.config, data=ALARM_DATA, thresholds=thresholds
    )


@torch.inference_mode()
def judge_fields(
    detector: DenseDetector, fields: DataLoader[Sample], trainer: Trainer
) -> tuple[Judge, int]:
    """What a detector finds on fields, as validation would, without leaving a trace in the run.

    Args:
        detector: the run's, with the weights that are kept.
        fields: whole ones.
        trainer: of the run; says where and in which precision.

    Returns:
        The judge of these fields, and how many can't be read.
    """
    device = trainer.strategy.root_device
    detector.to(device).eval()
    truth, found = [], []
    unreadable = 0
    for images, targets in fields:
        if any("unreadable" in target for target in targets):
            unreadable += 1
            continue
        with trainer.precision_plugin.val_step_context():
            outputs = detector([image.to(device) for image in images])
        truth += list(targets)
        found += [{name: value.cpu() for name, value in one.items()} for one in outputs]
    judge = Judge(detector.config)
    judge(truth, found)
    return judge, unreadable


def source_facts(judge: Judge, fields: FieldSet) -> dict[str, Any]:
    """Fields, cells and figures by source; empty where the fields are of one."""
    names = list(dict.fromkeys(field.source for field in fields.fields))
    if len(names) < 2:
        return {}
    return {name: facts_on(judge, fields, of_source(fields, name)) for name in names}


def facts_on(judge: Judge, fields: FieldSet, members: Sequence[int]) -> dict[str, Any]:
    """Fields, cells of each class, and what figures are defined there.

    Counted is what was judged; of fields that could not be read, where there are some, how many.
    """
    read = set(judge.fields)
    judged = [index for index in members if index in read]
    own = FieldSet(fields.classes, tuple(fields.fields[index] for index in judged))
    figures = judge.figures_on(judged)
    unreadable = len(members) - len(judged)
    return {
        "fields": len(own.fields),
        **({"unreadable": unreadable} if unreadable else {}),
        "cells": dict(zip(own.classes, own.class_counts(), strict=True)),
        "metrics": {n: round(v, 4) for n, v in figures.items() if math.isfinite(v)},
    }
