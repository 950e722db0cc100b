"""False alarms on slides that are known to be normal, of a lab's own scanner and stain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from configs import ConfigError, Doubt
from data.evaluation import FEW_UNITS, expect, fit_rate
from models.card import FalseAlarms, ModelCard, list_models
from pipeline.reports.expectation import describe_negatives, other_thresholds
from pipeline.reports.report import ModelFacts, SlideReport, read_report
from scripts.evaluation.labels import read_labels
from scripts.evaluation.slide_level import check_one_model, find_reports

OUTLYING_LEVEL, OUTLYING_TIMES = 0.999, 3.0
"""A slide is far from the others if it has more than they would hold at this level, and so many
times their rate."""


def read_negatives(
    reports: Path, labels: Path | None, positive_from: str | None, known: FalseAlarms | None
) -> tuple[FalseAlarms, list[str]]:
    """Estimates false alarms from the reports of normal slides.

    Args:
        reports: what ``cytolibra screen`` wrote of them.
        labels: CSV of slide and label; every slide must be known to be negative then.
        positive_from: the least severe category that counts as positive; None: any but normal.
        known: the model's own figures at the slides' thresholds, for how it confuses grades; see
            `known_figures`.

    Returns:
        These, and what a person should know of the labels.

    Raises:
        ConfigError: there are too few slides, they were screened with different models or
            thresholds, or some can't be normal: by their label, or as their counts lie far out.
    """
    found = {name: read_report(path) for name, path in find_reports(reports).items()}
    notes = _check_labels(found, labels, positive_from) if labels else []
    made = list(found.values())
    if len(made) < FEW_UNITS:
        raise ConfigError(
            f"{reports}: {len(made)} normal slides say too little; {FEW_UNITS} are the least, ten "
            "suffice for a start"
        )
    check_one_model(made, reports)
    model = made[0].model
    counts = np.array([[report.counts[c.name] for c in model.classes] for report in made])
    mm2 = np.array([report.area.screened_mm2 for report in made])
    _check_areas(list(found), mm2)
    _check_domain(found)
    _check_outliers(list(found), np.array([report.abnormal_cells for report in made]), mm2)
    alarms = describe_negatives(
        counts,
        mm2,
        model.classes,
        known=known,
        data=f"{len(made)} normal slides of {reports.name or reports}, {mm2.sum():.1f} mm²",
        thresholds=model.threshold,
        sha256=model.identity or "",
    )
    return alarms, notes


def known_figures(reports: Path, card: ModelCard | None) -> tuple[FalseAlarms | None, list[Doubt]]:
    """The figures of the model that screened slides; or a doubt that tells why there are none.

    Args:
        reports: of the slides.
        card: of the model that is said to have screened them; None to look among those shipped.
    """
    model = read_report(next(iter(find_reports(reports).values()))).model
    shipped = [one for one in list_models() if one.name == model.name and _has_run(one, model)]
    own = card or next(iter(shipped), None)
    known = figures_of(own, model) if own else None
    if own is None:
        why = f"{model.name} is no shipped model; name it with --model"
    elif not _has_run(own, model):
        why = f"{own.name} of --model has other weights than what screened them"
    elif known is None:
        why = f"{own.name} has no such figures; cytolibra evaluate --write-false-alarms adds them"
    elif differ := other_thresholds(known.thresholds, model.threshold):
        why = f"{own.name} has such figures for other thresholds only ({', '.join(differ)})"
    else:
        return known, []
    text = f"how often the model takes one grade for another is not known, and left out: {why}"
    return None, [Doubt(code="confusion-unknown", text=text)]


def _has_run(card: ModelCard, model: ModelFacts) -> bool:
    """Whether a card is of the weights by which a report was made."""
    return model.sha256 in {card.sha256, *(graph.sha256 for graph in card.graphs.values())}


def figures_of(card: ModelCard, model: ModelFacts) -> FalseAlarms | None:
    """A card's figures for how reports were made, with a second look or without."""
    if model.second_look is None:
        return card.false_alarms
    return card.second_look.false_alarms if card.second_look else None


def _check_labels(
    found: dict[str, SlideReport], labels: Path, positive_from: str | None
) -> list[str]:
    """Refuses slides that are no normal ones; what is odd about the table, in words."""
    told = read_labels(found, labels, positive_from)
    outcomes = told.outcomes
    positive = sorted(name for name, outcome in outcomes.items() if outcome.is_positive)
    if positive:
        raise ConfigError(
            f"{labels}: {', '.join(positive[:5])} {'are' if len(positive) > 1 else 'is'} no "
            "normal slide; take it out of the folder of negatives"
        )
    unknown = sorted(set(found) - set(outcomes))
    if unknown:
        raise ConfigError(f"{labels}: does not say whether {unknown[0]} is normal")
    # Each slide counts as one here, whosever it is.
    doubts = tuple(doubt for doubt in told.doubts if doubt.code != "group-unknown")
    return replace(told, doubts=doubts).notes(labels)


def _check_areas(names: Sequence[str], mm2: NDArray[np.float64]) -> None:
    empty = [name for name, area in zip(names, mm2, strict=True) if area <= 0]
    if empty:
        raise ConfigError(f"{empty[0]}: nothing of it was screened; take it out of the folder")


def _check_domain(found: dict[str, SlideReport]) -> None:
    """Refuses slides that the model does not know: their false alarms say nothing of others."""
    for name, report in found.items():
        if report.domain and report.domain.within is False:
            raise ConfigError(
                f"{name}: is out of the model's domain ({report.domain.reason}); take it out of "
                "the folder, or screen all of them with --set domain.check=false"
            )


def _check_outliers(
    names: Sequence[str], abnormal: NDArray[np.int64], mm2: NDArray[np.float64]
) -> None:
    """Refuses slides that hold far more than all the others would have them hold."""
    for index, name in enumerate(names):
        others = np.arange(len(names)) != index
        likely, limit = _likely(abnormal[others], mm2[others], float(mm2[index]))
        if abnormal[index] > limit:
            raise ConfigError(
                f"{name}: has {abnormal[index]} abnormal cells where the other slides make "
                f"{likely} likely; look at it, and take it out of the folder if it is no normal "
                "slide"
            )


def _likely(
    abnormal: NDArray[np.int64], mm2: NDArray[np.float64], area: float
) -> tuple[str, float]:
    """What other slides make likely of so large an area, in words, and what is far beyond it.

    Of fewer than `FEW_UNITS` others nothing is known of their spread: then the highest of their
    rates counts.
    """
    if len(abnormal) < FEW_UNITS:
        highest = float((abnormal / mm2).max()) * area
        return f"at most {highest:.0f}", OUTLYING_TIMES * (highest + 1)
    expected = expect(fit_rate(abnormal, mm2), area, OUTLYING_LEVEL)
    limit = max(expected.high, OUTLYING_TIMES * expected.mean)
    return f"{expected.low} to {expected.high}", limit
