"""Average precision by pycocotools, in the groups by which this field judges a detector."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torchvision.ops import nms

MAX_DETECTIONS = 1000
"""Detections an image that count; a cap of 100 costs 2 points in crowded fields."""


FROC_RATES = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
"""False positives a field at which FROC is read (LUNA16, CAMELYON16)."""


@dataclass(frozen=True)
class FieldCells:
    """Cells of one field: the truth, or what a detector found.

    Attributes:
        boxes: (N, 4) xyxy in pixels.
        labels: (N,) indices into the classes.
        scores: (N,) of a detector; of no meaning for the truth.
        crowd: (N,) of the truth: regions in which nothing counts, whatever the class and their
            label; none of a detector's.
    """

    boxes: NDArray[np.floating]
    labels: NDArray[np.integer]
    scores: NDArray[np.floating]
    crowd: NDArray[np.bool_]


@dataclass(frozen=True)
class Matches:
    """Detections of one class over all fields, against the truth.

    Attributes:
        scores: (N,) of the detections.
        hits: (N,) whether each found a cell that no better one had found.
        cells: how many cells there were to find.
    """

    scores: NDArray[np.float64]
    hits: NDArray[np.bool_]
    cells: int


def save_cells(path: Path, truth: Sequence[FieldCells], found: Sequence[FieldCells]) -> None:
    """Keeps what a model found beside the truth, so that figures can be computed again."""
    both = [*truth, *found]
    with path.open("wb") as file:
        np.savez_compressed(
            file,
            fields=np.array([len(cells.labels) for cells in both]),
            boxes=np.concatenate([cells.boxes for cells in both]),
            labels=np.concatenate([cells.labels for cells in both]),
            scores=np.concatenate([cells.scores for cells in both]),
            crowd=np.concatenate([cells.crowd for cells in both]),
        )


def load_cells(path: Path) -> tuple[list[FieldCells], list[FieldCells]]:
    """Truth and detections that `save_cells` wrote."""
    with np.load(path) as arrays:
        ends = np.cumsum(arrays["fields"])[:-1]
        names = ("boxes", "labels", "scores", "crowd")
        columns = [np.split(arrays[name], ends) for name in names]
    cells = [FieldCells(*parts) for parts in zip(*columns, strict=True)]
    return cells[: len(cells) // 2], cells[len(cells) // 2 :]


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
    abnormal classes merged into one, and ``ap50/any`` with all classes merged; ``score``, the mean
    of these two and ``map50``, is steadier than any of them. Values are NaN where the truth has no
    such cell.
    """
    per_class = average_precision(truth, found, len(classes))
    metrics = {f"ap50/{name}": float(v) for name, v in zip(classes, per_class["ap50"], strict=True)}
    metrics["map50"] = float(np.nanmean(per_class["ap50"]))
    metrics["map"] = float(np.nanmean(per_class["ap"]))
    for name, members in pooled_classes(abnormal).items():
        truth_of, found_of = pool(truth, found, members)
        result = average_precision(truth_of, found_of, 1)
        metrics[f"ap50/{name}"] = float(result["ap50"][0])
        metrics[f"recall50/{name}"] = float(result["recall50"][0])
    parts = [metrics[name] for name in ("ap50/abnormal", "ap50/any", "map50")]
    metrics["score"] = float(np.nanmean(parts))
    return metrics


def pooled_classes(abnormal: Sequence[bool]) -> dict[str, NDArray[np.intp]]:
    """The merged groups that every model is judged by: all abnormal classes, and all classes."""
    return {"abnormal": np.flatnonzero(abnormal), "any": np.arange(len(abnormal))}


def pool(
    truth: Sequence[FieldCells], found: Sequence[FieldCells], members: NDArray[np.integer]
) -> tuple[list[FieldCells], list[FieldCells]]:
    """Truth and detections of some classes as one class, each cell named once."""
    return (
        [merge(cells, members) for cells in truth],
        [suppress_doubles(merge(cells, members)) for cells in found],
    )


def match_classes(
    truth: Sequence[FieldCells], found: Sequence[FieldCells], classes: int
) -> list[list[Matches]]:
    """Class by class, field by field, which detections hit a cell at IoU 0.5 (COCO's rule)."""
    entries = {
        (entry["category_id"], entry["image_id"]): entry
        for entry in _evaluate(truth, found, classes).evalImgs
        if entry is not None
    }
    ids = range(1, len(truth) + 1)
    return [[_matches(entries.get((label, i))) for i in ids] for label in range(classes)]


def match_fields(
    truth: Sequence[FieldCells], found: Sequence[FieldCells], classes: int, label: int
) -> list[Matches]:
    """`match_classes` of one class."""
    return match_classes(truth, found, classes)[label]


def matches(
    truth: Sequence[FieldCells], found: Sequence[FieldCells], classes: int, label: int
) -> Matches:
    """`match_fields` of all fields together."""
    return join(match_fields(truth, found, classes, label))


def join(parts: Sequence[Matches]) -> Matches:
    """Matches of several fields as one."""
    return Matches(
        np.concatenate([np.zeros(0), *(part.scores for part in parts)]),
        np.concatenate([np.zeros(0, bool), *(part.hits for part in parts)]),
        sum(part.cells for part in parts),
    )


def ap_of_matches(matched: Matches) -> float:
    """AP as COCO computes it: precision at 101 recalls, made monotone; NaN without cells."""
    if not matched.cells:
        return float("nan")
    hits = matched.hits[np.argsort(-matched.scores, kind="mergesort")]
    true_positives = np.cumsum(hits)
    precision = true_positives / np.arange(1, len(hits) + 1)
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    at = np.searchsorted(true_positives / matched.cells, np.linspace(0, 1, 101), side="left")
    return float(np.append(precision, np.zeros(1))[np.minimum(at, len(hits))].mean())


def best_threshold(matched: Matches, beta: float = 1.0) -> float:
    """The score from which on detections have the best F-beta; 0.5 where nothing was hit.

    Args:
        matched: detections of one class.
        beta: how many times as much recall counts as precision (van Rijsbergen).
    """
    order = np.argsort(-matched.scores, kind="stable")
    hits = np.cumsum(matched.hits[order])
    if not len(hits) or not hits[-1]:
        return 0.5
    f = (1 + beta**2) * hits / (np.arange(1, len(hits) + 1) + beta**2 * matched.cells)
    return float(matched.scores[order][np.argmax(f)])


def froc(matched: Matches, fields: int, rates: Sequence[float] = FROC_RATES) -> dict[float, float]:
    """Free-response ROC: sensitivity at so many false positives a field.

    Returns:
        Sensitivity by rate: the best that a threshold with at most that rate gives.
    """
    order = np.argsort(-matched.scores, kind="stable")
    hits = matched.hits[order]
    false_positives = np.cumsum(~hits) / max(fields, 1)
    sensitivity = np.cumsum(hits) / max(matched.cells, 1)
    return {rate: float(sensitivity[false_positives <= rate].max(initial=0.0)) for rate in rates}


def merge(cells: FieldCells, members: NDArray[np.integer]) -> FieldCells:
    """The cells of some classes, as one class 0; crowds stay whatever they are called."""
    kept = np.isin(cells.labels, members) | cells.crowd
    return FieldCells(
        cells.boxes[kept],
        np.zeros(int(kept.sum()), np.int64),
        cells.scores[kept],
        cells.crowd[kept],
    )


def suppress_doubles(cells: FieldCells, iou: float = 0.5) -> FieldCells:
    """Of the names that one cell got, keeps the most certain; ``cells`` are of one class."""
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
    coco_truth.dataset = {**shared, "annotations": _annotations(truth, classes)}
    coco_found.dataset = {**shared, "annotations": _annotations(found, classes)}
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


def _matches(entry: Mapping[str, Any] | None) -> Matches:
    if entry is None:
        return Matches(np.zeros(0), np.zeros(0, bool), 0)
    used = ~entry["dtIgnore"][0].astype(bool)
    return Matches(
        np.array(entry["dtScores"], float)[used],
        entry["dtMatches"][0][used] > 0,
        int((np.array(entry["gtIgnore"]) == 0).sum()),
    )


def _annotations(fields: Sequence[FieldCells], classes: int) -> list[Mapping[str, object]]:
    """Cells as COCO has them; a crowd once a class, since COCO ignores it only for its own."""
    annotations: list[Mapping[str, object]] = []
    for image_id, cells in enumerate(fields, start=1):
        sizes = cells.boxes[:, 2:] - cells.boxes[:, :2]
        rows = zip(cells.boxes, sizes, cells.labels, cells.scores, cells.crowd, strict=True)
        for box, size, label, score, crowd in rows:
            annotation = {
                "image_id": image_id,
                "bbox": [*box[:2].tolist(), *size.tolist()],
                "area": float(size.prod()),
                "score": float(score),
                "iscrowd": int(crowd),
            }
            for category in range(classes) if crowd else [int(label)]:
                ids = {"id": len(annotations) + 1, "category_id": category}
                annotations.append(annotation | ids)
    return annotations
