"""Which detection found which cell, and average precision, by pycocotools."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from data.evaluation.cells import FieldCells, merge

MAX_DETECTIONS = 1000
"""Detections an image that count at least; where more are given all do. COCO's cap of 100 costs 2
points in crowded fields."""

FALSE_ALARM, IGNORED = -1, -2
"""In place of a row of the truth: nothing is marked there; an ignored region lies there."""


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

    @property
    def recall(self) -> float:
        """Share of the cells that were found; NaN where there were none to find."""
        return float(self.hits.sum() / self.cells) if self.cells else float("nan")


def average_precision(
    truth: Sequence[FieldCells], found: Sequence[FieldCells], classes: int
) -> dict[str, NDArray[np.float64]]:
    """COCO's AP (IoU 0.5 to 0.95), AP50, AP75, AR, and recall at IoU 0.5, for each class.

    Args:
        truth: the annotated cells, one entry a field.
        found: the detections, in the same order.
        classes: number of classes.

    Returns:
        ``ap``, ``ap50``, ``ap75``, ``ar`` (recall at `MAX_DETECTIONS`, the mean over IoU 0.5 to
        0.95), ``recall50``, each (classes,); NaN where a class has no cell in the truth.
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
        "ar": recall.mean(axis=0),
        "recall50": recall[0],
    }


def match_classes(
    truth: Sequence[FieldCells], found: Sequence[FieldCells], classes: int
) -> list[list[Matches]]:
    """Class by class, field by field, which detections hit a cell at IoU 0.5 (COCO's rule)."""
    entries = _entries(truth, found, classes)
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


def partners(truth: Sequence[FieldCells], found: Sequence[FieldCells]) -> list[NDArray[np.int64]]:
    """For each detection the cell that it found at IoU 0.5, whatever the two are called.

    COCO's rule with all classes as one: by falling score, each takes of the cells that are left the
    one that it overlaps most.

    Returns:
        For each field an (N,) row of the truth for each detection, or `FALSE_ALARM`, or `IGNORED`.
    """
    everything = np.unique(np.concatenate([one.labels for one in (*truth, *found)]))
    cells, detections = ([merge(one, everything) for one in side] for side in (truth, found))
    entries = _entries(cells, detections, 1)
    firsts = np.cumsum([1, *map(len, truth)]), np.cumsum([1, *map(len, found)])
    return [
        _partners(entries.get((0, i + 1)), len(found[i]), int(firsts[0][i]), int(firsts[1][i]))
        for i in range(len(truth))
    ]


def _partners(
    entry: Mapping[str, Any] | None, count: int, first_cell: int, first_found: int
) -> NDArray[np.int64]:
    """From pycocotools' ids, which count through all fields, to rows of one field."""
    rows = np.full(count, FALSE_ALARM, np.int64)
    if entry is None or not count:
        return rows
    matched = entry["dtMatches"][0].astype(np.int64)
    found = np.where(matched > 0, matched - first_cell, FALSE_ALARM)
    found[entry["dtIgnore"][0].astype(bool)] = IGNORED
    rows[np.array(entry["dtIds"]) - first_found] = found
    return rows


def _entries(
    truth: Sequence[FieldCells], found: Sequence[FieldCells], classes: int
) -> dict[tuple[int, int], Mapping[str, Any]]:
    """Pycocotools' account of each class on each field at IoU 0.5, by label and field from 1."""
    return {
        (entry["category_id"], entry["image_id"]): entry
        for entry in _evaluate(truth, found, classes, ious=[0.5]).evalImgs
        if entry is not None
    }


def _evaluate(
    truth: Sequence[FieldCells],
    found: Sequence[FieldCells],
    classes: int,
    ious: Sequence[float] | None = None,
) -> COCOeval:
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
        evaluation.params.maxDets = [max([MAX_DETECTIONS, *map(len, found)])]
        evaluation.params.areaRng = [[0, 1e10]]
        evaluation.params.areaRngLbl = ["all"]
        if ious is not None:
            evaluation.params.iouThrs = np.array(ious)
        evaluation.evaluate()
        if ious is None:
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
        rows = zip(
            np.concatenate([cells.boxes[:, :2], sizes], axis=1).tolist(),
            sizes.prod(axis=1).tolist(),
            cells.labels.tolist(),
            cells.scores.tolist(),
            cells.crowd.tolist(),
            strict=True,
        )
        for box, area, label, score, crowd in rows:
            annotation = {
                "image_id": image_id,
                "bbox": box,
                "area": area,
                "score": score,
                "iscrowd": int(crowd),
            }
            for category in range(classes) if crowd else [label]:
                ids = {"id": len(annotations) + 1, "category_id": category}
                annotations.append(annotation | ids)
    return annotations
