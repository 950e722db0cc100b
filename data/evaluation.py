"""Average precision by pycocotools, in the groups by which this field judges a detector."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

MAX_DETECTIONS = 1000
"""Detections an image that count; a cap of 100 costs 2 points in crowded fields."""


@dataclass(frozen=True)
class FieldCells:
    """Cells of one field: the truth, or what a detector found.

    Attributes:
        boxes: (N, 4) xyxy in pixels.
        labels: (N,) indices into the classes.
        scores: (N,) of a detector; of no meaning for the truth.
        crowd: (N,) of the truth; of no meaning for a detector.
    """

    boxes: NDArray[np.floating]
    labels: NDArray[np.integer]
    scores: NDArray[np.floating]
    crowd: NDArray[np.bool_]


def average_precision(
    truth: Sequence[FieldCells], found: Sequence[FieldCells], classes: int
) -> dict[str, NDArray[np.float64]]:
    """COCO's AP (IoU 0.5 to 0.95), AP50, AP75 and recall at IoU 0.5, for each class.

    Args:
        truth: the annotated cells, one entry a field.
        found: the detections, in the same order.
        classes: number of classes.

    Returns:
        ``ap``, ``ap50``, ``ap75``, ``recall50``, each (classes,); NaN where a class has no cell
        in the truth.
    """
    evaluation = _evaluate(truth, found, classes)
    precision = evaluation.eval["precision"][:, :, :, 0, -1]  # IoU, recall, class
    recall = evaluation.eval["recall"][:, :, 0, -1]  # IoU, class
    precision = np.where(precision < 0, np.nan, precision)
    recall = np.where(recall < 0, np.nan, recall)
    return {
        "ap": precision.mean(axis=(0, 1)),
        "ap50": precision[0].mean(axis=0),
        "ap75": precision[5].mean(axis=0),
        "recall50": recall[0],
    }


def field_metrics(
    truth: Sequence[FieldCells],
    found: Sequence[FieldCells],
    classes: Sequence[str],
    abnormal: Sequence[bool],
) -> dict[str, float]:
    """The figures by which a detector of cells is chosen, as ``name: value``.

    ``ap50/<class>`` for each class, ``map50`` and ``map`` their means, ``ap50/abnormal`` with all
    abnormal classes merged into one, and ``ap50/any`` with all classes merged. Values are NaN
    where the truth has no such cell.
    """
    per_class = average_precision(truth, found, len(classes))
    metrics = {f"ap50/{name}": float(v) for name, v in zip(classes, per_class["ap50"], strict=True)}
    metrics["map50"] = float(np.nanmean(per_class["ap50"]))
    metrics["map"] = float(np.nanmean(per_class["ap"]))
    merged = {
        "abnormal": np.flatnonzero(abnormal),
        "any": np.arange(len(classes)),
    }
    for name, members in merged.items():
        result = average_precision(
            [merge(cells, members) for cells in truth],
            [suppress_doubles(merge(cells, members)) for cells in found],
            1,
        )
        metrics[f"ap50/{name}"] = float(result["ap50"][0])
        metrics[f"recall50/{name}"] = float(result["recall50"][0])
    return metrics


def merge(cells: FieldCells, members: NDArray[np.integer]) -> FieldCells:
    """The cells of some classes, as one class 0."""
    kept = np.isin(cells.labels, members)
    return FieldCells(
        cells.boxes[kept],
        np.zeros(int(kept.sum()), np.int64),
        cells.scores[kept],
        cells.crowd[kept],
    )


def suppress_doubles(cells: FieldCells, iou: float = 0.5) -> FieldCells:
    """Of the names that one cell got, keeps the most certain; ``cells`` are of one class."""
    import torch
    from torchvision.ops import nms

    kept = nms(
        torch.as_tensor(cells.boxes, dtype=torch.float32),
        torch.as_tensor(cells.scores, dtype=torch.float32),
        iou,
    ).numpy()
    return FieldCells(cells.boxes[kept], cells.labels[kept], cells.scores[kept], cells.crowd[kept])


def _evaluate(truth: Sequence[FieldCells], found: Sequence[FieldCells], classes: int) -> COCOeval:
    coco_truth, coco_found = COCO(), COCO()
    ids = range(1, len(truth) + 1)
    shared = {
        "images": [{"id": i} for i in ids],
        "categories": [{"id": c, "name": str(c)} for c in range(classes)],
    }
    coco_truth.dataset = {**shared, "annotations": _annotations(truth)}
    coco_found.dataset = {**shared, "annotations": _annotations(found)}
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints its progress
        coco_truth.createIndex()
        coco_found.createIndex()
        evaluation = COCOeval(coco_truth, coco_found, "bbox")
        evaluation.params.maxDets = [MAX_DETECTIONS]
        evaluation.params.areaRng = [[0, 1e10]]
        evaluation.params.areaRngLbl = ["all"]
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation


def _annotations(fields: Sequence[FieldCells]) -> list[Mapping[str, object]]:
    annotations: list[Mapping[str, object]] = []
    for image_id, cells in enumerate(fields, start=1):
        sizes = cells.boxes[:, 2:] - cells.boxes[:, :2]
        rows = zip(cells.boxes, sizes, cells.labels, cells.scores, cells.crowd, strict=True)
        for box, size, label, score, crowd in rows:
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": int(label),
                    "bbox": [*box[:2].tolist(), *size.tolist()],
                    "area": float(size.prod()),
                    "score": float(score),
                    "iscrowd": int(crowd),
                }
            )
    return annotations
