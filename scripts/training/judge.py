"""The judge of a training run: the figures of each epoch, and the thresholds of the best one."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from configs import ConfigError
from data.evaluation import (
    FEW_CELLS,
    FieldCells,
    best_threshold,
    field_metrics,
    join,
    match_classes,
    matches,
    pool,
)
from data.fields.fieldset import FieldSet
from models import DetectorConfig
from models.learning.learner import Targets

THRESHOLD_RULE = (
    "abnormal classes: best F2 on the validation fields at IoU 0.5, for a miss is worse than a "
    "false alarm; normal ones: best F1. An abnormal class with fewer than "
    f"{FEW_CELLS} cells there takes the threshold of all abnormal classes merged"
)


class Judge:
    """Computes the validation metrics, and remembers the last cells that it judged.

    Attributes:
        metrics: of the last validation, by name.
        truth, found: its cells, an entry a field.
        fields: which field each entry is, where targets tell; unreadable ones have none.
    """

    def __init__(self, config: DetectorConfig) -> None:
        self.config = config
        self.metrics: dict[str, float] = {}
        self.truth: list[FieldCells] = []
        self.found: list[FieldCells] = []
        self.fields: list[int] = []

    def __call__(self, truth: Targets, found: Targets) -> dict[str, float]:
        """See `data.evaluation.field_metrics`."""
        self.truth = [to_cells(target) for target in truth]
        self.found = [to_cells(target) for target in found]
        self.fields = [int(target["field"]) for target in truth if "field" in target]
        classes, abnormal = self.config.classes, self.config.is_abnormal
        self.metrics = field_metrics(self.truth, self.found, classes, abnormal)
        return self.metrics

    def figures_on(self, fields: Sequence[int]) -> dict[str, float]:
        """The metrics on some of the fields of the last validation, NaN where nothing defines them.

        Args:
            fields: their indices.
        """
        wanted = set(fields)
        rows = [row for row, field in enumerate(self.fields) if field in wanted]
        truth, found = ([cells[row] for row in rows] for cells in (self.truth, self.found))
        with warnings.catch_warnings(action="ignore"):  # means of nothing
            return field_metrics(truth, found, self.config.classes, self.config.is_abnormal)

    def thresholds(self) -> dict[str, float]:
        """For each class the score that `THRESHOLD_RULE` gives."""
        return thresholds_of(self.truth, self.found, self.config)


def thresholds_of(
    truth: Sequence[FieldCells], found: Sequence[FieldCells], config: DetectorConfig
) -> dict[str, float]:
    """For each class the score that `THRESHOLD_RULE` gives on these fields."""
    classes, abnormal = config.classes, config.is_abnormal
    sides = pool(truth, found, np.flatnonzero(abnormal))
    pooled = best_threshold(matches(*sides, 1, 0), beta=2)
    thresholds = {}
    by_class = match_classes(truth, found, len(classes))
    for label, (name, by_field) in enumerate(zip(classes, by_class, strict=True)):
        of_class = join(by_field)
        own = best_threshold(of_class, beta=2 if abnormal[label] else 1)
        too_few = abnormal[label] and of_class.cells < FEW_CELLS
        thresholds[name] = round(pooled if too_few else own, 4)
    return thresholds


def to_cells(target: dict[str, Tensor]) -> FieldCells:
    """A target or a detector's output as arrays for the evaluation."""
    count = len(target["labels"])
    scores = target.get("scores", torch.ones(count))
    crowd = target.get("crowd", torch.zeros(count, dtype=torch.bool))
    return FieldCells(
        target["boxes"].double().numpy(),
        target["labels"].numpy(),
        scores.double().numpy(),
        crowd.numpy(),
    )


def check_monitor(config: DetectorConfig, monitor: str, others: Sequence[str] = ()) -> None:
    """Tells before the first epoch, not after it, that there is no such figure.

    Args:
        config: of the detector.
        monitor: the figure.
        others: names of figures beside the detector's.

    Raises:
        ConfigError: there is none.
    """
    with warnings.catch_warnings(action="ignore"):  # means of nothing
        names = [f"val/{name}" for name in (*Judge(config)([], []), *others)]
    if monitor not in names:
        raise ConfigError(f"loop.monitor = {monitor}: expected one of {', '.join(names)}")


def check_judged(config: DetectorConfig, monitor: str, val: FieldSet) -> None:
    """Makes sure that the validation fields have cells that define the figure.

    Else it is no number in any epoch, and the first epoch would be the best.

    Raises:
        ConfigError: they don't.
    """
    present = np.flatnonzero(val.class_counts())
    places = np.arange(len(present))[:, None] * 10.0 + [0, 0, 5, 5]
    none = np.zeros(len(present), np.bool_)
    seen = FieldCells(places, present, np.ones(len(present)), none)
    with warnings.catch_warnings(action="ignore"):  # means of nothing
        figures = field_metrics([seen], [seen], config.classes, config.is_abnormal)
    value = figures.get(monitor.removeprefix("val/"))
    if value is None or not math.isnan(value):
        return
    others = [f"val/{name}" for name, value in figures.items() if not math.isnan(value)]
    remedy = f"; or take one of {', '.join(others)}" if others else ""
    raise ConfigError(
        f"loop.monitor = {monitor}: data.val has no cell that it could be judged by, so no epoch "
        f"would be the best; give fields with such cells{remedy}"
    )
