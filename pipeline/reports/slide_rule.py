"""From a slide's cells to one score: few features, weights that are never negative.

One more abnormal cell, or a higher score of one, never lowers a slide's score. The weights are
fitted by `scripts.calibrate` on slides with known outcome, for one model and its thresholds. A rule
names the features that it uses, so that files of earlier versions go on being read.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError, model_validator

from configs import ConfigError, StrictModel
from pipeline.cells.classes import CellClass, find_category, order_by_severity
from pipeline.geometry import Detections
from pipeline.reports.rule_out import ANY_ABNORMAL, RuleOut

TOP = (1, 5)
"""So many of the best scores make a feature each, as their mean."""

GRADED = ("graded_sum", *(f"graded_top{count}" for count in TOP))
"""Features that need the scores of all classes at each cell's place; see `graded_scores`."""

HIGH_GRADE = 3
"""Severity of ASC-H, from which on a cell is called high grade."""

_OR_WORSE = " and more severe"


class Share(StrictModel):
    """A share and its 95% interval."""

    value: float
    low: float
    high: float


class SlideRule(StrictModel):
    """The rule, and what is known of it.

    Attributes:
        model, sha256: what it was fitted for; see `ModelFacts.identity`.
        thresholds: of that model's cells, by class.
        positive: the labels that count as positive, in words; see `name_positive`.
        features: their names; see `slide_features`.
        weights: of the features, none negative.
        intercept: of the logistic function.
        threshold: score from which on a slide is called suspicious.
        wanted: sensitivity that the threshold was chosen for.
        sensitivity, specificity, auc: as cross-validation estimates them.
        slides, positives: how many it was fitted on.
        rule_out: which slides are set aside; None where that was not asked for.
    """

    format: Literal["cytolibra-slide-rule-1", "cytolibra-slide-rule-2"] = "cytolibra-slide-rule-2"
    model: str
    sha256: str | None
    thresholds: dict[str, float]
    positive: str
    features: tuple[str, ...]
    weights: tuple[float, ...]
    intercept: float
    threshold: float = Field(ge=0, le=1)
    wanted: float = Field(gt=0, le=1)
    sensitivity: Share
    specificity: Share
    auc: Share
    slides: int
    positives: int
    rule_out: RuleOut | None = None
    notice: str = (
        "Research use only. Not a medical device; not for diagnosis. Findings require review by a "
        "qualified cytologist."
    )

    @model_validator(mode="after")
    def _is_monotone(self) -> SlideRule:
        if len(self.weights) != len(self.features) or min(self.weights, default=0) < 0:
            raise ValueError("each feature has a weight, and none is negative")
        return self

    @property
    def version(self) -> str:
        """Tells this rule from every other."""
        # Without what is not there: rules of the first format keep the version that they had.
        absent = {"rule_out"} if self.rule_out is None else None
        told = self.model_dump_json(exclude=absent)
        kind = self.format.removeprefix("cytolibra-")
        return f"{kind}:{hashlib.sha256(told.encode()).hexdigest()[:12]}"

    @property
    def least(self) -> float:
        """Severity from which on a category counts as positive; infinite where no words say it."""
        if self.positive == ANY_ABNORMAL:
            return 1
        category = find_category(self.positive.removesuffix(_OR_WORSE))
        return category.severity if category else math.inf

    def score(self, cells: Detections, classes: Sequence[CellClass]) -> float:
        """How suspicious a slide is, 0 to 1; a probability only for slides like the rule's own.

        Raises:
            ConfigError: a feature needs the scores of all classes, and the cells lack them.
        """
        values = slide_features(cells, classes)
        if not set(self.features) <= set(values):
            raise ConfigError(
                f"the slide rule, calibrated for {self.model}, needs the scores of all classes of "
                "each cell, which are not known here; screen the slide again, or calibrate anew"
            )
        total = self.intercept + sum(
            weight * values[name] for name, weight in zip(self.features, self.weights, strict=True)
        )
        return float(1 / (1 + np.exp(-total)))

    def check(
        self, sha256: str | None, thresholds: dict[str, float], classes: Sequence[CellClass]
    ) -> None:
        """Makes sure that the rule was fitted for this model.

        Raises:
            ConfigError: it was not.
        """
        known = (*feature_names(classes), *GRADED)
        if (
            self.sha256 != sha256
            or self.thresholds != thresholds
            or not set(self.features) <= set(known)
        ):
            raise ConfigError(
                f"the slide rule was calibrated for {self.model} with other weights, precision or "
                "thresholds; screen with those, or calibrate anew"
            )


def name_positive(least: str | None) -> str:
    """What counts as positive, in words, from the least severe category; None: any but normal."""
    category = find_category(least) if least else None
    if category is None or category.severity <= 1:
        return ANY_ABNORMAL
    return category.name + _OR_WORSE


def feature_names(classes: Sequence[CellClass]) -> tuple[str, ...]:
    """The features that cells of these classes have, whatever is known of their scores."""
    return tuple(
        name for group in _groups(classes) for name in (f"{group}_count", *_top_names(group))
    )


def slide_features(cells: Detections, classes: Sequence[CellClass]) -> dict[str, float]:
    """Few figures of a slide, none of which falls when an abnormal cell is added.

    For all abnormal cells, and for those from ASC-H up where the model names such: the logarithm of
    1 + their count, and the mean of the best scores, places that no cell takes being 0. Where the
    scores of all classes are known, the same of all cells' graded scores (`GRADED`), with the
    logarithm of 1 + their sum: these take in what the second look changed, and cells that lie
    between grades, or between normal and abnormal.

    Args:
        cells: at or above the model's thresholds; labels index the classes.
        classes: the model's.
    """
    values: dict[str, float] = {}
    for group, members in _groups(classes).items():
        scores = np.sort(cells.scores[np.isin(cells.labels, members)])[::-1].astype(np.float64)
        values[f"{group}_count"] = float(np.log1p(len(scores)))
        for name, count in zip(_top_names(group), TOP, strict=True):
            values[name] = float(scores[:count].sum() / count)
    if cells.class_scores is None and len(cells):
        return values
    graded = np.sort(graded_scores(cells, classes))[::-1]
    best = [float(graded[:count].sum() / count) for count in TOP]
    return values | dict(zip(GRADED, (float(np.log1p(graded.sum())), *best), strict=True))


def graded_scores(cells: Detections, classes: Sequence[CellClass]) -> NDArray[np.float64]:
    """(N,) how abnormal each cell is: the sum of its abnormal scores, each times its severity.

    The most severe class weighs 1, the others in even steps less. An expected severity, if the
    scores were the chances of the classes; they are not, so it is a score, too. A sum, so that it
    never falls with a higher score of an abnormal class.

    Args:
        cells: with the scores of all classes, or none at all.
        classes: the model's.
    """
    if not len(cells):
        return np.zeros(0)
    assert cells.class_scores is not None
    order = [label for label in order_by_severity(classes) if classes[label].abnormal]
    weights = np.zeros(len(classes))
    weights[order] = np.linspace(1, 0, len(order), endpoint=False)
    return np.asarray(cells.class_scores.astype(np.float64) @ weights)


@cache
def load_rule(path: Path) -> SlideRule:
    """Reads a rule.

    Raises:
        ConfigError: the file can't be read, or is no rule.
    """
    try:
        return SlideRule.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"triage.rule: {path}: can't be read: {error}") from error
    except ValidationError as error:
        reason = error.errors()[0]["msg"]
        raise ConfigError(
            f"triage.rule: {path}: is no slide rule of cytolibra calibrate: {reason}"
        ) from error


def _groups(classes: Sequence[CellClass]) -> dict[str, NDArray[np.intp]]:
    """Labels by group: all abnormal ones, and the high-grade ones where there are some."""
    abnormal = np.flatnonzero([c.abnormal for c in classes])
    ranks = [find_category(classes[int(label)].name) for label in abnormal]
    high = np.array([c is not None and c.severity >= HIGH_GRADE for c in ranks], bool)
    groups = {"abnormal": abnormal}
    return groups | {"high_grade": abnormal[high]} if high.any() else groups


def _top_names(group: str) -> list[str]:
    return [f"{group}_top{count}" for count in TOP]
