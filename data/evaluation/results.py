"""Detections in COCO's format for results, so that other tools can count again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from data.evaluation.cells import FieldCells


def to_results(found: Sequence[FieldCells]) -> list[dict[str, Any]]:
    """Detections as COCO results; images and categories count from 1, as `to_coco` has them."""
    return [
        {"image_id": image_id, "category_id": label + 1, "bbox": box, "score": score}
        for image_id, cells in enumerate(found, 1)
        for label, box, score in zip(
            cells.labels.tolist(), _to_xywh(cells), _short(cells), strict=True
        )
    ]


def from_results(results: Sequence[Mapping[str, Any]], fields: int) -> list[FieldCells]:
    """Detections of so many fields from COCO results; see `to_results`.

    Raises:
        KeyError, IndexError, TypeError, ValueError: they are none, or of more fields.
    """
    by_field: list[list[Mapping[str, Any]]] = [[] for _ in range(fields)]
    for result in results:
        by_field[int(result["image_id"]) - 1].append(result)
    return [_to_cells(rows) for rows in by_field]


def _to_cells(rows: Sequence[Mapping[str, Any]]) -> FieldCells:
    boxes = np.array([row["bbox"] for row in rows], np.float64).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    labels = np.array([row["category_id"] - 1 for row in rows], np.int64)
    scores = np.array([row["score"] for row in rows], np.float64)
    return FieldCells(boxes, labels, scores, np.zeros(len(rows), bool))


def _to_xywh(cells: FieldCells) -> list[list[float]]:
    sizes = cells.boxes[:, 2:] - cells.boxes[:, :2]
    return np.concatenate([cells.boxes[:, :2], sizes], axis=1).round(3).tolist()


def _short(cells: FieldCells) -> list[float]:
    """The scores, which come in single precision, with no more digits than that has."""
    return [float(str(score)) for score in cells.scores.astype(np.float32)]
