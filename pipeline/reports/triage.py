"""From a slide's cells to a suggested category of the Bethesda System: a rule, not a diagnosis.

By itself the rule is uncalibrated: no set of slides with known outcome stands behind it. It errs
towards review, as one cell at or above its class's threshold is enough by default; ``min_cells``
asks for more. With a rule of `cytolibra calibrate` it also says whether the slide is suspicious.
It never calls a slide negative.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from pydantic import Field

from configs import StrictModel
from pipeline.cells.classes import CellClass, order_by_severity
from pipeline.geometry import Detections
from pipeline.reports.slide_rule import load_rule

RULE_VERSION = "1"
NO_CELLS = "no cells above threshold"
NO_ABNORMAL_CELLS = "no abnormal cells above threshold"
BELOW_RULE = "below the slide rule's threshold"
TOO_FEW_CELLS = "abnormal cells above threshold, too few to suggest a category"


class TriageSettings(StrictModel):
    """How a category is suggested."""

    min_cells: int = Field(
        default=1,
        ge=1,
        description="cells at or above threshold that a class needs to be suggested",
    )
    rule: Path | None = Field(default=None, description="a file of `cytolibra calibrate`")


class Suggestion(StrictModel):
    """A suggested category, with the rule that led to it."""

    category: str = Field(description="a class of the model, or why none is suggested")
    rule: str = Field(description="the rule in words")
    version: str = Field(description="version of the rule")
    score: float | None = Field(
        default=None, description="how suspicious the slide is, by a calibrated rule; else null"
    )
    suspicious: bool | None = Field(
        default=None, description="whether the score reaches that rule's threshold; else null"
    )


def suggest_by_cells(
    cells: Detections, classes: Sequence[CellClass], settings: TriageSettings | None = None
) -> Suggestion:
    """What `suggest` says and, where there is a calibrated rule, whether that is suspicious.

    Args:
        cells: at or above threshold; labels index the classes.
        classes: the model's.
        settings: None for the defaults.

    Raises:
        ConfigError: the rule's file can't be read.
    """
    settings = settings or TriageSettings()
    numbers = np.bincount(cells.labels, minlength=len(classes)).tolist()
    counts = {c.name: count for c, count in zip(classes, numbers, strict=True)}
    plain = suggest(counts, classes, settings)
    if settings.rule is None:
        return plain
    rule = load_rule(settings.rule)
    score = rule.score(cells, classes)
    suspicious = score >= rule.threshold
    shown = f"slide score {score:.3f}, suspicious from {rule.threshold:.3f} on"
    return Suggestion(
        category=plain.category if suspicious else BELOW_RULE,
        rule=f"{shown}; calibrated on {rule.slides} slides for a sensitivity of {rule.wanted:.0%}; "
        f"category: {plain.rule.partition(';')[0]}",
        version=rule.version,
        score=round(score, 4),
        suspicious=suspicious,
    )


def suggest(
    counts: Mapping[str, int], classes: Sequence[CellClass], settings: TriageSettings | None = None
) -> Suggestion:
    """Suggests the most severe abnormal class that has at least ``min_cells`` cells.

    Args:
        counts: cells at or above threshold by class name; absent names count as 0.
        classes: the model's classes; `pipeline.cells.classes.order_by_severity` ranks them.
        settings: the rule's one number; None for its default.
    """
    settings = settings or TriageSettings()
    rule = (
        f"most severe abnormal class with at least {settings.min_cells} "
        f"{'cell' if settings.min_cells == 1 else 'cells'} at or above threshold; "
        "not calibrated on slides with known outcome"
    )
    category = _choose(counts, classes, settings.min_cells)
    return Suggestion(category=category, rule=rule, version=RULE_VERSION)


def _choose(counts: Mapping[str, int], classes: Sequence[CellClass], min_cells: int) -> str:
    abnormal = [classes[i].name for i in order_by_severity(classes) if classes[i].abnormal]
    for name in abnormal:
        if counts.get(name, 0) >= min_cells:
            return name
    if any(counts.get(name, 0) for name in abnormal):
        return TOO_FEW_CELLS
    return NO_ABNORMAL_CELLS if any(counts.values()) else NO_CELLS
