"""Slides with known outcome: matched with their reports, fitted, and judged."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.table import Table
from scipy.optimize import minimize
from scipy.special import expit

from configs import ConfigError
from data.evaluation.slide_metrics import (
    Estimate,
    auc,
    auc_by_groups,
    auc_difference,
    has_several,
    proportion_by_groups,
    threshold_for,
)
from data.fields.splits import stratify
from pipeline.batch.output import REPORT
from pipeline.batch.places import find_places
from pipeline.geometry import Detections
from pipeline.reports.cells_table import read_cells
from pipeline.reports.report import SlideReport, read_report
from pipeline.reports.slide_rule import (
    GRADED,
    Share,
    SlideRule,
    feature_names,
    slide_features,
)
from scripts.evaluation.labels import note_slides, read_labels

FEWEST = 10
"""Patients with slides of either outcome below which nothing can be fitted."""

PENALTIES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
"""L2 penalties a slide that cross-validation chooses from."""


@dataclass(frozen=True)
class LabelledSlides:
    """Reports of slides whose outcome is known.

    Attributes:
        names: of the slides.
        reports: without their cells.
        cells: of each.
        positive: (N,) their outcome.
        groups: (N,) whose slide each is, as a number; of each its own where nobody says.
        notes: what was left out.
    """

    names: tuple[str, ...]
    reports: tuple[SlideReport, ...]
    cells: tuple[Detections, ...]
    positive: NDArray[np.bool_]
    groups: NDArray[np.intp]
    notes: tuple[str, ...]

    def features(self) -> tuple[tuple[str, ...], NDArray[np.float64]]:
        """Names and (N, F) values of what all have; see `slide_rule.slide_features`."""
        classes = self.reports[0].model.classes
        values = [slide_features(cells, classes) for cells in self.cells]
        names = (*feature_names(classes), *GRADED)
        shared = tuple(name for name in names if all(name in one for one in values))
        return shared, np.array([[one[name] for name in shared] for one in values])

    def scores(self, rule: SlideRule) -> NDArray[np.float64]:
        """(N,) by a rule that was fitted already."""
        classes = self.reports[0].model.classes
        return np.array([rule.score(cells, classes) for cells in self.cells])

    def part(self, chosen: NDArray[np.bool_]) -> LabelledSlides:
        """Those of a (N,) mask, without the notes."""
        rows = np.flatnonzero(chosen).tolist()
        return LabelledSlides(
            names=tuple(self.names[row] for row in rows),
            reports=tuple(self.reports[row] for row in rows),
            cells=tuple(self.cells[row] for row in rows),
            positive=self.positive[rows],
            groups=np.unique(self.groups[rows], return_inverse=True)[1],
            notes=(),
        )


def read_labelled(reports: Path, labels: Path, positive_from: str | None) -> LabelledSlides:
    """Matches the reports in a folder with a CSV of labels.

    Args:
        reports: what ``cytolibra screen`` wrote.
        labels: see `read_labels`.
        positive_from: the least severe category that counts as positive; None: any but normal.

    Raises:
        ConfigError: a file can't be read, a label is not known, a name fits no slide or several,
            or the reports were made with different models.
    """
    found = find_reports(reports)
    told = read_labels(found, labels, positive_from)
    if not told.outcomes:
        raise ConfigError(f"{labels}: names none of the {len(found)} slides in {reports}")
    names = sorted(told.outcomes)
    read = [_read_result(found[name]) for name in names]
    check_one_model([report for report, _ in read], reports)
    patients = [told.outcomes[name].patient for name in names]
    _, groups = np.unique(patients, return_inverse=True)
    strange = [
        name
        for name, (report, _) in zip(names, read, strict=True)
        if report.domain and report.domain.within is False
    ]
    ungraded = [
        name
        for name, (_, cells) in zip(names, read, strict=True)
        if len(cells) and cells.class_scores is None
    ]
    some_graded = any(cells.class_scores is not None for _, cells in read if len(cells))
    unlabelled = sorted(set(found) - set(told.outcomes))
    notes = told.notes(labels)
    for what, rest in {
        "have no label": unlabelled,
        "are out of the model's domain": strange,
        "lack the scores of all classes, so that those of others don't count either": (
            ungraded if some_graded else []
        ),
    }.items():
        notes += note_slides(what, rest)
    return LabelledSlides(
        names=tuple(names),
        reports=tuple(report for report, _ in read),
        cells=tuple(cells for _, cells in read),
        positive=np.array([told.outcomes[name].is_positive for name in names]),
        groups=groups,
        notes=tuple(notes),
    )


@dataclass(frozen=True)
class Judged:
    """How well scores tell slides apart."""

    auc: Estimate
    sensitivity: Estimate
    specificity: Estimate


def judge(
    scores: NDArray[np.float64],
    positive: NDArray[np.bool_],
    threshold: float,
    groups: NDArray[np.intp],
) -> Judged:
    """Area under the curve, and the shares at a threshold, with 95% intervals.

    The area's is DeLong's, the shares' are Wilson's. Where some patients have several slides, the
    area's is by drawing patients anew, a share's Wilson's of as many slides as tell it as well; see
    `data.evaluation.slide_metrics.proportion_by_groups`.

    Args:
        scores: (N,), higher for more suspicious.
        positive: (N,) the outcome.
        threshold: score from which on a slide is called suspicious.
        groups: (N,) whose slide each is.
    """
    called = scores >= threshold
    several = has_several(groups)
    return Judged(
        auc=auc_by_groups(scores, positive, groups) if several else auc(scores, positive),
        sensitivity=proportion_by_groups(called[positive], groups[positive]),
        specificity=proportion_by_groups(~called[~positive], groups[~positive]),
    )


def fit_rule(
    slides: LabelledSlides, wanted: float, positive: str, folds: int = 5, seed: int = 0
) -> tuple[SlideRule, NDArray[np.float64]]:
    """Fits a rule, and scores each slide by one that has not seen it.

    Logistic regression with weights that are never negative. The penalty is the one with the best
    likelihood in cross-validation; folds keep patients whole and share out the outcomes. Threshold
    and figures come from the scores of slides that were left out.

    Args:
        slides: with known outcome.
        wanted: sensitivity that the threshold is chosen for.
        positive: what counts as positive, in words.
        folds: of the cross-validation.
        seed: of the folds.

    Returns:
        The rule, and (N,) scores of the slides when they were left out.

    Raises:
        ConfigError: there are too few patients with slides of either outcome.
    """
    positives = int(slides.positive.sum())
    ill, well = (
        len(np.unique(slides.groups[chosen])) for chosen in (slides.positive, ~slides.positive)
    )
    if min(ill, well) < FEWEST:
        raise ConfigError(
            f"{positives} positive slides of {ill} patients, {len(slides.positive) - positives} "
            f"negative ones of {well}: a rule needs at least {FEWEST} of each, patients that is, "
            "as slides of one are alike"
        )
    names, features = slides.features()
    fold = _folds(slides, folds, seed)
    left_out = {
        penalty: _left_out(features, slides.positive, fold, penalty) for penalty in PENALTIES
    }
    losses = {penalty: _log_loss(scores, slides.positive) for penalty, scores in left_out.items()}
    penalty = min(losses, key=losses.__getitem__)
    scores = left_out[penalty]
    threshold = threshold_for(scores, slides.positive, wanted)
    judged = judge(scores, slides.positive, threshold, slides.groups)
    weights, intercept = _fit(features, slides.positive, penalty)
    model = slides.reports[0].model
    rule = SlideRule(
        model=model.name,
        sha256=model.identity,
        thresholds=model.threshold,
        positive=positive,
        features=names,
        weights=tuple(weights.round(6).tolist()),
        intercept=round(intercept, 6),
        threshold=math.floor(threshold * 1e6) / 1e6,
        wanted=wanted,
        sensitivity=as_share(judged.sensitivity),
        specificity=as_share(judged.specificity),
        auc=as_share(judged.auc),
        slides=len(slides.positive),
        positives=positives,
    )
    return rule, scores


def judge_slides(slides: LabelledSlides, rule: SlideRule | None) -> dict[str, Any]:
    """Figures of slides by a rule's score, or without one by their number of abnormal cells.

    Returns:
        ``score`` (by what), ``threshold``, ``slides``, ``positives``, ``patients``; ``auc``,
        ``sensitivity``, ``specificity``, each {value, low, high} with 95% intervals; with a rule
        ``against_count``, how much larger its area is than the count's, and the p-value;
        ``intervals``, whether they take slides of one patient for alike, "by patient", or there
        are none, "by slide"; and ``by_slide``.

    Raises:
        ConfigError: all slides have one outcome, or the rule is of another model.
    """
    if slides.positive.all() or not slides.positive.any():
        raise ConfigError("all slides have the same outcome; nothing can be told apart")
    model = slides.reports[0].model
    abnormal = np.array([c.abnormal for c in model.classes])
    counts = np.array([float(abnormal[cells.labels].sum()) for cells in slides.cells])
    scores, threshold, against = counts, 1.0, {}
    if rule:
        rule.check(model.identity, model.threshold, model.classes)
        scores = slides.scores(rule)
        threshold = rule.threshold
        difference, p_value = auc_difference(scores, counts, slides.positive, slides.groups)
        against = {"against_count": as_share(difference).model_dump() | {"p": round(p_value, 4)}}
    judged = judge(scores, slides.positive, threshold, slides.groups)
    return {
        "score": rule.version if rule else "abnormal cells",
        "threshold": threshold,
        "slides": len(slides.names),
        "positives": int(slides.positive.sum()),
        "patients": len(np.unique(slides.groups)),
        **{name: as_share(estimate).model_dump() for name, estimate in vars(judged).items()},
        **against,
        "intervals": intervals_of(slides.groups),
        "by_slide": [
            {"slide": name, "positive": bool(outcome), "score": round(float(score), 4)}
            for name, outcome, score in zip(slides.names, slides.positive, scores, strict=True)
        ],
    }


def intervals_of(groups: NDArray[np.intp]) -> str:
    """Whether intervals of (N,) slides heed whose they are, in the words of `judge_slides`."""
    return "by patient" if has_several(groups) else "by slide"


def slide_table(figures: Mapping[str, Any]) -> Table:
    """`judge_slides` for a terminal."""
    title = f"{figures['slides']} slides, {figures['positives']} positive, by {figures['score']}"
    table = Table(title=title, caption=f"with 95% intervals {figures['intervals']}")
    table.add_column("figure")
    table.add_column("value", justify="right")
    rows = {
        "area under the ROC curve": "auc",
        f"sensitivity from {figures['threshold']:g} on": "sensitivity",
        "specificity there": "specificity",
        "area beyond that of the count": "against_count",
    }
    for name, key in rows.items():
        if share := figures.get(key):
            bounds = f"{share['value']:.3f} ({share['low']:.3f} to {share['high']:.3f})"
            table.add_row(name, bounds)
    return table


def _folds(slides: LabelledSlides, folds: int, seed: int) -> NDArray[np.int64]:
    """(N,) fold of each slide; patients stay whole, outcomes are shared out."""
    count = int(slides.groups.max()) + 1
    if count < folds:
        raise ConfigError(f"--folds {folds}: there are {count} patients")
    outcomes = np.zeros((count, 2), np.int64)
    np.add.at(outcomes, (slides.groups, slides.positive.astype(int)), 1)
    parts = stratify(outcomes, np.full(folds, 1 / folds), np.random.default_rng(seed))
    return parts[slides.groups]


def _left_out(
    features: NDArray[np.float64],
    positive: NDArray[np.bool_],
    fold: NDArray[np.int64],
    penalty: float,
) -> NDArray[np.float64]:
    scores = np.zeros(len(positive))
    for part in np.unique(fold):
        own = fold == part
        if len(np.unique(positive[~own])) < 2:
            raise ConfigError(
                "--folds: all slides of one outcome are of patients of one part, and without it "
                "nothing can be learned; another --seed parts them otherwise, or give more patients"
            )
        weights, intercept = _fit(features[~own], positive[~own], penalty)
        scores[own] = expit(features[own] @ weights + intercept)
    return scores


def _fit(
    features: NDArray[np.float64], positive: NDArray[np.bool_], penalty: float
) -> tuple[NDArray[np.float64], float]:
    """Weights of the features as they are, none negative, and the intercept.

    The penalty is on weights of features that vary by 1, so that none is favoured for its unit.
    """
    spread = features.std(axis=0)
    spread = np.where(spread > 1e-9, spread, 1.0)
    scaled = features / spread
    sign = np.where(positive, 1.0, -1.0)

    def loss(values: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        margin = sign * (scaled @ values[:-1] + values[-1])
        slope = -sign * expit(-margin) / len(sign)
        gradient = np.append(scaled.T @ slope + penalty * values[:-1], slope.sum())
        penalised = 0.5 * penalty * float(values[:-1] @ values[:-1])
        return float(np.logaddexp(0, -margin).mean()) + penalised, gradient

    bounds = [(0, None)] * features.shape[1] + [(None, None)]
    found = minimize(loss, np.zeros(features.shape[1] + 1), jac=True, bounds=bounds)
    return found.x[:-1] / spread, float(found.x[-1])


def _log_loss(scores: NDArray[np.float64], positive: NDArray[np.bool_]) -> float:
    likely = np.where(positive, scores, 1 - scores)
    return float(-np.log(likely.clip(1e-12)).mean())


def as_share(estimate: Estimate) -> Share:
    """A figure as rules and metrics.json have it."""
    return Share(
        value=round(estimate.value, 4), low=round(estimate.low, 4), high=round(estimate.high, 4)
    )


def find_reports(reports: Path) -> dict[str, Path]:
    """The ``report.json`` of each slide in a folder, by the slide's name below it.

    Raises:
        ConfigError: there are none.
    """
    places = find_places(reports)
    return {places.name_of(folder): folder / REPORT for folder in places.results}


def _read_result(path: Path) -> tuple[SlideReport, Detections]:
    report = read_report(path)
    cells = read_cells(path.parent / "cells.csv", report.model.classes)
    counted = sum(report.counts.values())
    if len(cells) != counted:
        raise ConfigError(
            f"{path.parent}: report.json counts {counted} cells, cells.csv has {len(cells)}: one "
            "of the two was changed or cut off; screen the slide again"
        )
    return report, cells


def check_one_model(reports: Sequence[SlideReport], folder: Path) -> None:
    """Makes sure that reports were made with one model and one set of thresholds.

    Raises:
        ConfigError: they weren't.
    """
    made = {(r.model.identity, tuple(sorted(r.model.threshold.items()))) for r in reports}
    if len(made) > 1:
        raise ConfigError(
            f"{folder}: the slides were screened with different models or thresholds; screen them "
            "again with one"
        )
