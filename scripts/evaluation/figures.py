"""Every figure of a model on annotated fields, with its interval, as metrics.json has it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.evaluation import (
    CALIBRATED_FROM,
    FROC_RATES,
    LONG_TAIL_RULE,
    Matches,
    Reliability,
    ap_of_matches,
    average_precision,
    confusion_matrix,
    froc,
    join,
    merge_matrix,
    reliability,
    shares,
)
from data.evaluation.bootstrap import resampled_froc, resampled_rates
from pipeline.cells.classes import ABNORMAL, HIGH_GRADE, LOW_GRADE
from scripts.evaluation.evidence import Draws, Evidence, finite
from scripts.evaluation.precision import (
    CLASS_MEAN,
    Rounds,
    ap50_rounds,
    tail_groups,
    training_cells,
)

Figures = dict[str, Any]

FALSE_ALARMS, MISSED = "no cell marked", "missed"
"""The last row and the last column of the confusion matrix."""

NAMED = "named"
"""Calibration of a detection under its own name: a hit has to be of its class."""


def compute_figures(evidence: Evidence, draws: Draws) -> Figures:
    """All figures; those that are not defined, as of a class without cells, are None.

    Returns:
        ``fields``, ``cells``, ``mm2``, ``classes`` {name: …}, ``pooled`` {abnormal, low
        grade, high grade, any: …}, ``groups`` {frequent, common, rare: …}, ``group_rule``,
        ``map``, ``map50``, ``map75``, ``mar``, ``confusion``, ``confusion_levels`` {abnormal,
        grade: …}, ``calibration``, ``intervals``. A figure's interval stands beside
        it under its name with ``_interval``.
    """
    rounds = ap50_rounds(evidence, draws.times)
    classes = _classes(evidence, draws, rounds)
    total = evidence.mm2
    return {
        "fields": len(evidence.truth),
        "cells": sum(entry["cells"] for entry in classes.values()),
        "mm2": None if total is None else finite(total.sum()),
        "classes": classes,
        "pooled": {name: _pooled(evidence, draws, rounds, name) for name in evidence.pooled},
        "groups": _groups(evidence, draws, rounds, classes),
        "group_rule": f"{LONG_TAIL_RULE}; counted on {training_cells(evidence)[1]}",
        **_means(classes, list(classes)),
        "map50_interval": draws.interval(rounds["means"][CLASS_MEAN]),
        **_confusion(evidence),
        "calibration": _calibration(evidence),
        "intervals": _how_drawn(draws, rounds),
    }


def rates(
    parts: Sequence[Matches], draws: Draws, threshold: float = 0.0
) -> dict[str, float | list[float | None] | None]:
    """Sensitivity and precision from a threshold on, with their intervals."""
    once = np.ones((1, len(parts)), np.int64)
    point = resampled_rates(parts, once, threshold)
    drawn = resampled_rates(parts, draws.times, threshold)
    result: dict[str, float | list[float | None] | None] = {}
    for name, value, values in zip(("sensitivity", "precision"), point, drawn, strict=True):
        result |= {name: finite(value[0]), f"{name}_interval": draws.interval(values)}
    return result


def _classes(evidence: Evidence, draws: Draws, rounds: Rounds) -> dict[str, Figures]:
    coco = average_precision(evidence.truth, evidence.found, len(evidence.classes))
    cells, trained = evidence.fields.class_counts(), training_cells(evidence)[0]
    group_of = {int(i): name for name, group in tail_groups(evidence).items() for i in group}
    return {
        name: {
            "cells": cells[i],
            "training_cells": trained[i],
            "group": group_of[i],
            **{figure: finite(values[i]) for figure, values in coco.items()},
            "ap50_interval": draws.interval(rounds["classes"][name]),
            "threshold": finite(evidence.thresholds[i]),
            **rates(evidence.reported_by_class[i], draws),
        }
        for i, name in enumerate(evidence.classes)
    }


def _pooled(evidence: Evidence, draws: Draws, rounds: Rounds, group: str) -> Figures:
    by_field = evidence.pooled[group]
    matched = join(by_field)
    figures = {
        "cells": matched.cells,
        "ap50": finite(ap_of_matches(matched)),
        "ap50_interval": draws.interval(rounds["pooled"][group]),
        "recall50": finite(matched.hits.sum() / max(matched.cells, 1)),
        **rates(evidence.reported_pooled[group], draws),
        **_froc("froc", by_field, draws, np.ones(len(by_field))),
    }
    if evidence.mm2 is not None:
        figures |= _froc("froc_mm2", by_field, draws, evidence.mm2)
    return figures


def _froc(
    name: str, by_field: Sequence[Matches], draws: Draws, sizes: NDArray[np.float64]
) -> Figures:
    """Sensitivity by false positives a field, or a mm² where sizes are mm²."""
    keys = [f"{rate:g}" for rate in FROC_RATES]
    drawn = resampled_froc(by_field, draws.times, sizes, FROC_RATES)
    point = froc(join(by_field), float(sizes.sum())).values()
    return {
        name: dict(zip(keys, map(finite, point), strict=True)),
        f"{name}_interval": dict(zip(keys, map(draws.interval, drawn.T), strict=True)),
    }


def _groups(
    evidence: Evidence, draws: Draws, rounds: Rounds, classes: Mapping[str, Figures]
) -> Figures:
    groups = {}
    for group, labels in tail_groups(evidence).items():
        names = [evidence.classes[label] for label in labels]
        groups[group] = {
            "classes": names,
            "cells": sum(classes[name]["cells"] for name in names),
            **{_KEYS[key]: value for key, value in _means(classes, names).items()},
            "ap50_interval": draws.interval(rounds["means"][group]),
        }
    return groups


_KEYS = {"map": "ap", "map50": "ap50", "map75": "ap75", "mar": "ar"}


def _means(classes: Mapping[str, Figures], names: Sequence[str]) -> Figures:
    """Means over those classes of which there are cells."""
    return {key: _mean([classes[name][figure] for name in names]) for key, figure in _KEYS.items()}


def _mean(values: Sequence[float | None]) -> float | None:
    present = [value for value in values if value is not None]
    return finite(sum(present) / len(present)) if present else None


def _confusion(evidence: Evidence) -> Figures:
    """By class, and the same matches on the coarser levels."""
    matrix = confusion_matrix(evidence.truth, evidence.reported, len(evidence.classes))
    by_class = {name: [label] for label, name in enumerate(evidence.classes)}
    levels = {"abnormal": _normal_or_not(evidence), "grade": _grades(evidence)}
    return {
        "confusion": _matrix(matrix, by_class),
        "confusion_levels": {name: _matrix(matrix, groups) for name, groups in levels.items()},
    }


def _matrix(matrix: NDArray[np.int64], groups: Mapping[str, Sequence[int]]) -> Figures:
    merged = merge_matrix(matrix, list(groups.values()))
    return {
        "rows": [*groups, FALSE_ALARMS],
        "columns": [*groups, MISSED],
        "counts": merged.tolist(),
        "shares": shares(merged).round(4).tolist(),
    }


def _normal_or_not(evidence: Evidence) -> dict[str, Sequence[int]]:
    normal = [label for label, flag in enumerate(evidence.abnormal) if not flag]
    return _without_empty({"normal": normal, ABNORMAL: evidence.merged[ABNORMAL]})


def _grades(evidence: Evidence) -> dict[str, Sequence[int]]:
    """Normal, low grade, high grade, and what is abnormal and neither."""
    grades = {g: evidence.merged.get(g, ()) for g in (LOW_GRADE, HIGH_GRADE)}
    graded = {label for members in grades.values() for label in members}
    ungraded = [label for label in evidence.merged[ABNORMAL] if label not in graded]
    normal = _normal_or_not(evidence).get("normal", ())
    return _without_empty({"normal": normal, **grades, "abnormal, of no grade": ungraded})


def _without_empty(groups: Mapping[str, Sequence[int]]) -> dict[str, Sequence[int]]:
    return {name: members for name, members in groups.items() if members}


def _calibration(evidence: Evidence) -> Figures:
    named = join([part for by_field in evidence.by_class for part in by_field])
    pooled = {name: join(by_field) for name, by_field in evidence.pooled.items()}
    return {
        "from_score": CALIBRATED_FROM,
        **{
            name: describe_bins(reliability(part))
            for name, part in {NAMED: named, **pooled}.items()
        },
    }


def describe_bins(bins: Reliability) -> Figures:
    """Errors of calibration, and what a reliability diagram shows."""
    return {
        "ece": finite(bins.error),
        "excess": finite(bins.excess),
        "detections": int(bins.counts.sum()),
        "bins": {
            "score": bins.scores.round(4).tolist(),
            "hits": bins.hits.round(4).tolist(),
            "detections": bins.counts.tolist(),
        },
    }


def _how_drawn(draws: Draws, rounds: Rounds) -> Figures:
    drew_all = ~np.isnan(rounds["means"][CLASS_MEAN])
    return {
        "level": draws.level,
        "by": draws.by,
        "drawn": draws.groups,
        "rounds": len(draws.times),
        "rounds_of_all_classes": int(drew_all.sum()),
        "method": "percentile bootstrap",
    }
