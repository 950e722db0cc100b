"""The figures by which one detector is chosen over another while it learns."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from data.evaluation.cells import FieldCells, pool, pooled_classes
from data.evaluation.curves import ap_of_matches
from data.evaluation.matching import average_precision, matches


def field_metrics(
    truth: Sequence[FieldCells],
    found: Sequence[FieldCells],
    classes: Sequence[str],
    abnormal: Sequence[bool],
) -> dict[str, float]:
    """The figures by which a detector of cells is chosen, as ``name: value``.

    ``ap50/<class>`` for each class, ``map50`` and ``map`` their means, ``ap50/abnormal`` with all
    abnormal classes merged into one, and ``ap50/any`` with all classes merged; ``score``, the mean
    of these two and ``map50``, is steadier than any of them. Values are NaN where the truth has no
    such cell.
    """
    per_class = average_precision(truth, found, len(classes))
    metrics = {f"ap50/{name}": float(v) for name, v in zip(classes, per_class["ap50"], strict=True)}
    metrics["map50"] = float(np.nanmean(per_class["ap50"]))
    metrics["map"] = float(np.nanmean(per_class["ap"]))
    for name, members in pooled_classes(abnormal).items():
        matched = matches(*pool(truth, found, members), 1, 0)
        metrics[f"ap50/{name}"] = ap_of_matches(matched)
        metrics[f"recall50/{name}"] = matched.recall
    parts = [metrics[name] for name in ("ap50/abnormal", "ap50/any", "map50")]
    metrics["score"] = float(np.nanmean(parts))
    return metrics
