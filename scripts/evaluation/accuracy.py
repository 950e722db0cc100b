"""How well cells are found on each level, as a model's card has it."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import numpy as np

from configs import Doubt
from data.evaluation.counting import fit_counting
from models.card import Accuracy, CountFacts, Figure, LevelFigures
from scripts.evaluation.evidence import Draws, Evidence
from scripts.evaluation.false_alarms import slides_of
from scripts.evaluation.figures import Figures, rates


def measure_accuracy(
    evidence: Evidence,
    draws: Draws,
    figures: Figures,
    data: str,
    thresholds: dict[str, float] | None = None,
) -> tuple[Accuracy, list[Doubt]]:
    """Average precision, recall and precision by level and class, and what counts are worth.

    Args:
        evidence: on annotated fields.
        draws: by which the intervals come about.
        figures: of the same evidence, for average precision, which knows no thresholds, and for
            what ran the network.
        data: what the fields are called.
        thresholds: others than the evidence's.

    Returns:
        These, and a doubt where the fields can't tell what counts are worth.
    """
    names = list(evidence.classes)
    if thresholds:
        evidence = replace(evidence, thresholds=np.array([thresholds[name] for name in names]))
    matched = {
        **evidence.reported_pooled,
        **dict(zip(names, evidence.reported_by_class, strict=True)),
    }
    entries = {**figures["pooled"], **figures["classes"]}
    groups = {name: _level(entries[name] | rates(parts, draws)) for name, parts in matched.items()}
    ran = figures.get("settings", {})
    by = ", ".join(str(ran[name]) for name in ("runtime", "precision") if ran.get(name))
    values = [round(float(value), 4) for value in evidence.thresholds]
    counting, doubts = _counting(evidence)
    accuracy = Accuracy(
        groups=groups,
        counting=counting,
        level=draws.level,
        data=f"{data}: {len(evidence.truth)} fields, {groups['any'].cells} cells"
        + (f"; by {by}" if by else ""),
        thresholds=dict(zip(names, values, strict=True)),
    )
    return accuracy, doubts


def _level(entry: dict[str, Any]) -> LevelFigures:
    return LevelFigures(
        cells=entry["cells"],
        ap50=_figure(entry, "ap50"),
        recall=_figure(entry, "sensitivity"),
        precision=_figure(entry, "precision"),
    )


def _figure(entry: dict[str, Any], name: str) -> Figure:
    low, high = entry[f"{name}_interval"]
    return Figure(value=entry[name], low=low, high=high)


def _counting(evidence: Evidence) -> tuple[CountFacts | None, list[Doubt]]:
    """Of cells of any class; None, and a doubt, where the fields are too few, or empty."""
    parts = evidence.reported_pooled["any"]
    columns = [[p.cells, len(p.hits), int(p.hits.sum())] for p in parts]
    cells, reported, hits = np.array(columns, np.int64).reshape(-1, 3).T
    try:
        counting = fit_counting(cells, reported, hits, slides_of(evidence.fields))
    except ValueError as error:
        text = f"how many cells there are for each reported is not known: {error}"
        return None, [Doubt(code="counting-unknown", text=text)]
    rounded = {k: round(v, 5) if isinstance(v, float) else v for k, v in asdict(counting).items()}
    return CountFacts(**rounded), []
