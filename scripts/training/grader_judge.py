"""The judge of a grader's training: what the second look makes of what the detector found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from configs import ConfigError
from data.arrays import BROKEN, open_arrays
from data.crops.grades import BACKGROUND, UNKNOWN, GradeSettings, label_places
from data.evaluation import (
    Calibration,
    FieldCells,
    Matches,
    field_metrics,
    fit_calibration,
    no_calibration,
    reliability,
)
from data.fields.fieldset import FieldSet
from models import DetectorConfig
from models.card import CombinationRule
from pipeline.geometry import Detections
from scripts.candidates import (
    Candidates,
    to_field_cells,
    truth_of,
)

EVIDENCE = "second_look.npz"
"""In a run's folder: what detector and grader say of the validation fields."""

GRADE_FIGURES = (
    "grades/right",
    "grades/likelihood",
    "grades/calibration",
    "grades/abnormal",
    "grades/abnormal_calibration",
)
"""Of the places that are looked at: share of cells that get their class (of those that the detector
found); negative log-likelihood of classes and background, and expected calibration error of the
likeliest, as calibrated on the same places; area under the ROC curve of abnormal against all else,
and calibration error of its probability."""


@dataclass(frozen=True)
class LookEvidence:
    """What detector and grader say of fields, beside the truth.

    Attributes:
        truth: the cells of each field.
        candidates: what the detector found on each.
        logits: for each field (M, C + 1) of the grader, a row a place.
        labels: for each field (M,) what lies at its places, see `data.crops.grades.label_places`.
    """

    truth: Sequence[FieldCells]
    candidates: Sequence[Candidates]
    logits: Sequence[NDArray[np.float32]]
    labels: Sequence[NDArray[np.int64]]

    def alone(self) -> list[FieldCells]:
        """What the detector reports without a second look."""
        return [to_field_cells(one.found) for one in self.candidates]

    def with_look(
        self, calibration: Calibration, rule: CombinationRule, abnormal: NDArray[np.bool_]
    ) -> list[FieldCells]:
        """What is reported with it."""
        return [
            to_field_cells(one.rescored(calibration.probabilities(logits), abnormal, rule))
            for one, logits in zip(self.candidates, self.logits, strict=True)
        ]

    def known(self) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """(K, C + 1) logits of the places that are known, and (K,) what lies there."""
        logits, labels = np.concatenate(self.logits), np.concatenate(self.labels)
        known = labels != UNKNOWN
        background = logits.shape[1] - 1
        return logits[known], np.where(labels == BACKGROUND, background, labels)[known]

    def only(self, rows: Sequence[int]) -> LookEvidence:
        """That of some fields."""
        return LookEvidence(*([part[i] for i in rows] for part in self._parts()))

    def __add__(self, other: LookEvidence) -> LookEvidence:
        pairs = zip(self._parts(), other._parts(), strict=True)
        return LookEvidence(*([*one, *more] for one, more in pairs))

    def _parts(self) -> tuple[Sequence[Any], ...]:
        return self.truth, self.candidates, self.logits, self.labels


def make_evidence(
    fields: FieldSet, candidates: Sequence[Candidates], crops: GradeSettings
) -> LookEvidence:
    """Evidence on fields before the grader has said anything: its logits are zeros."""
    labels = [
        label_places(field, found.places.boxes, crops.background_iou)
        for field, found in zip(fields.fields, candidates, strict=True)
    ]
    classes = len(fields.classes)
    logits = [np.zeros((len(one.places), classes + 1), np.float32) for one in candidates]
    return LookEvidence(truth_of(fields), candidates, logits, labels)


def calibrate(evidence: Sequence[LookEvidence]) -> Calibration:
    """What fits the answers of several graders, each on fields of its own, best."""
    logits, labels = zip(*(one.known() for one in evidence), strict=True)
    return fit_calibration(np.concatenate(logits), np.concatenate(labels))


class GraderJudge:
    """Computes the validation metrics, and remembers what they are made of.

    Args:
        config: of the detector.
        evidence: on the validation fields, without the grader's.
        rule: of the combination.
        calibration: what makes probabilities; None: what fits each validation best.

    Attributes:
        metrics: of the last validation, by name.
        calibration: of the last validation.
        evidence: with the logits of the last validation; fields that could not be read are left
            out.
    """

    def __init__(
        self,
        config: DetectorConfig,
        evidence: LookEvidence,
        rule: CombinationRule,
        calibration: Calibration | None = None,
    ) -> None:
        self.config, self.rule, self._given = config, rule, calibration
        self.metrics: dict[str, float] = {}
        self.calibration = calibration or no_calibration(len(config.classes) + 1)
        self.evidence = self._all = evidence

    @property
    def abnormal(self) -> NDArray[np.bool_]:
        """(C,) which classes are."""
        return np.array(self.config.is_abnormal)

    def __call__(self, logits: dict[int, Tensor]) -> dict[str, float]:
        """See `data.evaluation.field_metrics` and `GRADE_FIGURES`."""
        rows = sorted(logits)
        own = [logits[row].numpy() for row in rows]
        self.evidence = replace(self._all.only(rows), logits=own)
        self.calibration = self._given or fit_calibration(*self.evidence.known())
        found = self.found()
        figures = field_metrics(
            self.evidence.truth, found, self.config.classes, self.config.is_abnormal
        )
        self.metrics = figures | grade_figures(self.evidence, self.calibration, self.abnormal)
        return self.metrics

    def found(self) -> list[FieldCells]:
        """What is reported of the fields of the last validation."""
        return self.evidence.with_look(self.calibration, self.evened, self.abnormal)

    @property
    def evened(self) -> CombinationRule:
        """The rule, for what the grader says as it is calibrated."""
        return even_out(self.rule, self.calibration)


def even_out(rule: CombinationRule, calibration: Calibration) -> CombinationRule:
    """A rule for probabilities that are so calibrated: it has the classes as they were drawn.

    On CRIC's 158 fields, out of fold, abnormal AP50 was 0.655 so, 0.650 without; whether an
    abnormal cell is as likely as it says is another matter, for which the calibration is.
    """
    return rule.model_copy(update={"weights": calibration.evened})


def grade_figures(
    evidence: LookEvidence, calibration: Calibration, abnormal: NDArray[np.bool_]
) -> dict[str, float]:
    """See `GRADE_FIGURES`; NaN where there is nothing to judge by."""
    logits, labels = evidence.known()
    cells = labels < len(abnormal)
    said = calibration.probabilities(logits)
    named = said[cells, : len(abnormal)].argmax(axis=1)
    figures = (
        float((named == labels[cells]).mean()) if cells.any() else float("nan"),
        calibration.likelihood(logits, labels),
        calibration.confidence(logits, labels).error,
        *_abnormal_figures(said, labels, abnormal),
    )
    return dict(zip(GRADE_FIGURES, figures, strict=True))


def _abnormal_figures(
    probabilities: NDArray[np.float64], labels: NDArray[np.int64], abnormal: NDArray[np.bool_]
) -> tuple[float, float]:
    """Area under the ROC curve of abnormal, and the calibration error of its probability."""
    from data.evaluation.slide_metrics import auc_with_covariance

    positive = np.append(abnormal, False)[labels]
    scores = probabilities[:, :-1][:, abnormal].sum(axis=1)
    error = reliability(Matches(scores, positive, len(positive)), lowest=0.0).error
    if positive.all() or not positive.any():
        return float("nan"), error
    return float(auc_with_covariance(scores[None], positive)[0][0]), error


def save_evidence(path: Path, evidence: LookEvidence) -> None:
    """Keeps evidence, so that a rule can be chosen by it; see `load_evidence`."""
    columns: dict[str, NDArray[Any]] = {}
    for name in PARTS:
        parts = [getattr(one, name) for one in evidence.candidates]
        columns[f"{name}_fields"] = np.array([len(one) for one in parts])
        for key in ("boxes", "scores", "labels", "class_scores"):
            columns[f"{name}_{key}"] = np.concatenate([getattr(one, key) for one in parts])
    for key in ("boxes", "labels", "crowd"):
        columns[f"truth_{key}"] = np.concatenate([getattr(one, key) for one in evidence.truth])
    columns["truth_fields"] = np.array([len(one) for one in evidence.truth])
    columns["logits"] = np.concatenate(evidence.logits)
    columns["labels"] = np.concatenate(evidence.labels)
    with path.open("wb") as file:
        np.savez_compressed(file, **columns)  # type: ignore[arg-type]  # of numpy's stubs


PARTS = ("found", "places", "rest")
"""Of `Candidates`."""


def load_evidence(path: Path) -> LookEvidence:
    """Evidence that `save_evidence` wrote.

    Raises:
        ConfigError: the file is missing or broken.
    """
    try:
        with open_arrays(path.read_bytes()) as arrays:
            columns = dict(arrays)
        candidates = [
            Candidates(*parts)
            for parts in zip(*(_detections(columns, name) for name in PARTS), strict=True)
        ]
        truth = [
            FieldCells(boxes, labels, np.ones(len(labels)), crowd)
            for boxes, labels, crowd in zip(
                *(_split(columns, "truth", key) for key in ("boxes", "labels", "crowd")),
                strict=True,
            )
        ]
        ends = np.cumsum(columns["places_fields"])[:-1]
        logits, labels = (np.split(columns[key], ends) for key in ("logits", "labels"))
    except (*BROKEN, IndexError, TypeError) as error:
        raise ConfigError(f"{path}: not what a grader's training keeps: {error}") from error
    return LookEvidence(truth, candidates, logits, labels)


def _detections(columns: dict[str, NDArray[Any]], name: str) -> list[Detections]:
    keys = ("boxes", "scores", "labels", "class_scores")
    return [
        Detections(*parts)
        for parts in zip(*(_split(columns, name, key) for key in keys), strict=True)
    ]


def _split(columns: dict[str, NDArray[Any]], name: str, key: str) -> list[NDArray[Any]]:
    return np.split(columns[f"{name}_{key}"], np.cumsum(columns[f"{name}_fields"])[:-1])
