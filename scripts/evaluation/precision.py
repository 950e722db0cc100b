"""AP50 of every class and group in every round: what intervals and comparisons go by."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from data.evaluation import long_tail
from data.evaluation.bootstrap import mean_of_classes, resampled_ap
from scripts.evaluation.evidence import Evidence

CLASS_MEAN = "all classes"

Rounds = Mapping[str, Mapping[str, NDArray[np.float64]]]
"""(rounds,) values by kind ("pooled", "means", "classes") and name."""


def training_cells(evidence: Evidence) -> tuple[list[int], str]:
    """Cells of each class by which the long tail is told, and where they were counted."""
    counts = evidence.card.training.get("cells")
    if isinstance(counts, dict) and all(isinstance(counts.get(n), int) for n in evidence.classes):
        return [counts[name] for name in evidence.classes], "the model's training fields"
    return evidence.fields.class_counts(), "these fields, as the model's card names no counts"


def tail_groups(evidence: Evidence) -> dict[str, NDArray[np.intp]]:
    """Labels of the frequent, common and rare classes."""
    return long_tail(training_cells(evidence)[0])


def ap50_rounds(evidence: Evidence, times: NDArray[np.integer]) -> Rounds:
    """AP50 with the fields drawn so often.

    Means are over the classes that have cells; see `mean_of_classes`.
    """
    classes = [resampled_ap(by_field, times) for by_field in evidence.by_class]
    groups = {CLASS_MEAN: np.arange(len(classes)), **tail_groups(evidence)}
    counts = evidence.fields.class_counts()
    return {
        "pooled": {name: resampled_ap(m, times) for name, m in evidence.pooled.items()},
        "means": {
            name: mean_of_classes(
                [classes[label] for label in members],
                [counts[label] > 0 for label in members],
                len(times),
            )
            for name, members in groups.items()
        },
        "classes": dict(zip(evidence.classes, classes, strict=True)),
    }


def ap50(evidence: Evidence) -> Mapping[str, Mapping[str, float]]:
    """AP50 with each field once."""
    once = np.ones((1, len(evidence.truth)), np.int64)
    return {
        kind: {name: float(values[0]) for name, values in figures.items()}
        for kind, figures in ap50_rounds(evidence, once).items()
    }
