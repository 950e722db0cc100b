"""What the second look of a model's grader makes of the detector's findings on annotated fields."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from configs import ConfigError
from data.crops.grades import BACKGROUND, UNKNOWN, GradeSettings, PlacesDataset, label_places
from data.evaluation import Matches, most_certain, reliability
from models.card import ModelCard, SecondLookFacts
from pipeline.geometry import Detections
from pipeline.network.detector import TileDetector
from pipeline.network.grading import Grader
from scripts.candidates import Candidates, find_candidates, to_field_cells
from scripts.evaluation.against import differences
from scripts.evaluation.evidence import Draws, Evidence, finite
from scripts.evaluation.figures import describe_bins
from scripts.slides import images_of

MODES = ("both", "on", "off")
"""With the second look beside the detector alone, with it only, and without."""


@dataclass(frozen=True)
class Look:
    """A second look at all places of some fields.

    Attributes:
        evidence: with it; thresholds are the look's.
        candidates: of each field, what the detector found and what was looked at.
        probabilities: of each field (M, C + 1), the grader's, background last.
        sha256: of the weights or the graph that the grader ran.
        precision: that it computed in.
    """

    evidence: Evidence
    candidates: Sequence[Candidates]
    probabilities: Sequence[NDArray[np.float32]]
    sha256: str
    precision: str


def find_mode(card: ModelCard, mode: str | None) -> str:
    """Whether a model's second look is judged: as asked for, by default both where it has one.

    Raises:
        ConfigError: there is no such mode, or the model has no second look.
    """
    if mode not in (None, *MODES):
        raise ConfigError(f"--second-look {mode}: expected {', '.join(MODES)}")
    if card.second_look is None and mode in ("both", "on"):
        raise ConfigError(f"--second-look {mode}: {card.name} has no second look")
    return mode or ("both" if card.second_look else "off")


def look_again(detector: TileDetector, alone: Evidence, found: Sequence[Detections]) -> Look:
    """Looks at every place of every field again.

    Screening looks at the most suspicious ones of a slide only; of a field they are all.

    Args:
        detector: with its second look made ready.
        alone: what it found by itself.
        found: the same, with the scores of all classes.

    Raises:
        ImageError: a field can't be read.
    """
    look, facts = detector.second_look, detector.card.second_look
    assert look is not None
    assert facts is not None
    candidates = [find_candidates(one, detector.card, facts.floor) for one in found]
    probabilities = grade_places(look.grader, facts, alone, candidates)
    abnormal = np.array(alone.abnormal)
    again = [
        most_certain(to_field_cells(one.rescored(said, abnormal, facts.rule)), len(before))
        for one, said, before in zip(candidates, probabilities, alone.found, strict=True)
    ]
    names = alone.classes
    evidence = replace(
        alone,
        card=with_look(detector.card),
        found=again,
        thresholds=np.array([facts.thresholds[name] for name in names]),
    )
    return Look(evidence, candidates, probabilities, look.grader.sha256, look.grader.precision)


def with_look(card: ModelCard) -> ModelCard:
    """A card whose thresholds and false alarms are those after the second look."""
    facts = card.second_look
    assert facts is not None
    return card.model_copy(
        update={
            "thresholds": facts.thresholds,
            "threshold_rule": str(facts.training.get("threshold_rule", "")),
            "false_alarms": facts.false_alarms,
            "accuracy": facts.accuracy,
        }
    )


def grade_places(
    grader: Grader, facts: SecondLookFacts, evidence: Evidence, candidates: Sequence[Candidates]
) -> list[NDArray[np.float32]]:
    """(M, C + 1) probabilities of the places of each field."""
    centers = [one.places.centers for one in candidates]
    fields = evidence.fields
    crops = PlacesDataset(fields, images_of(fields), centers, (facts.size, facts.mpp))
    return [_grade(grader, crops.read(index), len(facts.classes)) for index in range(len(centers))]


def _grade(grader: Grader, crops: NDArray[np.uint8], classes: int) -> NDArray[np.float32]:
    size = grader.batch_size
    answers = [np.zeros((0, classes + 1), np.float32)]
    for start in range(0, len(crops), size):
        part = crops[start : start + size]
        # Always as many at once; what fills up the last batch is thrown away.
        full = np.concatenate([part, np.repeat(part[:1], size - len(part), axis=0)])
        answers.append(grader.grade(full)[: len(part)])
    return np.concatenate(answers)


def look_figures(look: Look, alone: Evidence, draws: Draws) -> dict[str, Any]:
    """What the look changed, paired, and whether the grader's probabilities mean what they say.

    Returns:
        ``grader``, ``sha256``, ``precision``; ``ap50`` as of `differences`, the detector alone
        being the other; ``grades``: of the places that are known, how many there are, the share of
        cells that get their class, and reliability of the likeliest answer (``named``) and of
        abnormal (``abnormal``).
    """
    facts = look.evidence.card.second_look
    assert facts is not None
    return {
        "grader": facts.name,
        "sha256": look.sha256,
        "precision": look.precision,
        "rule": facts.rule.model_dump(),
        "ap50": differences(look.evidence, alone, draws),
        "grades": _grades(look),
    }


def _grades(look: Look) -> dict[str, Any]:
    fields, abnormal = look.evidence.fields.fields, np.array(look.evidence.abnormal)
    least = GradeSettings().background_iou
    labels = np.concatenate(
        [
            label_places(field, one.places.boxes, least)
            for field, one in zip(fields, look.candidates, strict=True)
        ]
    )
    said = np.concatenate(look.probabilities).astype(np.float64)[labels != UNKNOWN]
    labels = labels[labels != UNKNOWN]
    classes = len(abnormal)
    true = np.where(labels == BACKGROUND, classes, labels)
    on_cell = labels >= 0
    right = said[on_cell, :classes].argmax(axis=1) == labels[on_cell]
    named = Matches(said.max(axis=1), said.argmax(axis=1) == true, len(true))
    of_abnormal = Matches(
        said[:, :classes][:, abnormal].sum(axis=1), np.append(abnormal, False)[true], len(true)
    )
    return {
        "places": len(labels),
        "cells": int(on_cell.sum()),
        "right": finite(right.mean()) if len(right) else None,
        "named": describe_bins(reliability(named, lowest=0.0)),
        "abnormal": describe_bins(reliability(of_abnormal, lowest=0.0)),
    }
