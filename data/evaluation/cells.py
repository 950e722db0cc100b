"""The cells of a field as arrays, what is kept of them on disk, and how classes are merged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torchvision.ops import nms

from configs import ConfigError
from data.arrays import BROKEN, open_arrays


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

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, rows: NDArray[np.bool_] | NDArray[np.intp]) -> FieldCells:
        return FieldCells(self.boxes[rows], self.labels[rows], self.scores[rows], self.crowd[rows])


def save_cells(path: Path, truth: Sequence[FieldCells], found: Sequence[FieldCells]) -> None:
    """Keeps what a model found beside the truth, so that figures can be computed again."""
    both = [*truth, *found]
    with path.open("wb") as file:
        np.savez_compressed(
            file,
            fields=np.array([len(cells) for cells in both]),
            boxes=np.concatenate([cells.boxes for cells in both]),
            labels=np.concatenate([cells.labels for cells in both]),
            scores=np.concatenate([cells.scores for cells in both]),
            crowd=np.concatenate([cells.crowd for cells in both]),
        )


def load_cells(path: Path) -> tuple[list[FieldCells], list[FieldCells]]:
    """Truth and detections that `save_cells` wrote.

    Raises:
        ConfigError: the file can't be read, is damaged, or holds something else.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    try:
        with open_arrays(content) as arrays:
            counts, *columns = (arrays[name] for name in ("fields", *_COLUMNS))
        _check(counts, columns)
    except BROKEN as error:
        raise ConfigError(
            f"{path}: not what `cytolibra evaluate` or `train` kept: {error}"
        ) from error
    ends = np.cumsum(counts)[:-1]
    parts = [np.split(column, ends) for column in columns]
    cells = [FieldCells(*one) for one in zip(*parts, strict=True)]
    return cells[: len(cells) // 2], cells[len(cells) // 2 :]


_COLUMNS = ("boxes", "labels", "scores", "crowd")


def _check(counts: NDArray[Any], columns: Sequence[NDArray[Any]]) -> None:
    """Makes sure that arrays fit each other and are what they are called.

    Raises:
        ValueError: they don't, or aren't.
    """
    kinds = (counts, "iu"), *zip(columns, ("f", "iu", "f", "b"), strict=True)
    if any(array.dtype.kind not in kind for array, kind in kinds) or counts.ndim != 1:
        raise ValueError("arrays of other kinds than of cells")
    if len(counts) % 2 or (counts < 0).any() or not (counts <= len(columns[1])).all():
        raise ValueError("counts of cells that can't be")
    total = int(counts.sum())
    if columns[0].shape != (total, 4) or any(c.shape != (total,) for c in columns[1:]):
        raise ValueError("arrays of other lengths than there are cells")
    if (columns[1] < 0).any() or not all(np.isfinite(column).all() for column in columns):
        raise ValueError("numbers that are none")


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


def merge(cells: FieldCells, members: NDArray[np.integer]) -> FieldCells:
    """The cells of some classes, as one class 0; crowds stay whatever they are called."""
    kept = cells[np.isin(cells.labels, members) | cells.crowd]
    return FieldCells(kept.boxes, np.zeros(len(kept), np.int64), kept.scores, kept.crowd)


def suppress_doubles(cells: FieldCells, iou: float = 0.5) -> FieldCells:
    """Of the names that one cell got, keeps the most certain; ``cells`` are of one class."""
    return cells[_best(cells.boxes, cells.scores, iou)]


def most_certain(cells: FieldCells, count: int) -> FieldCells:
    """The ``count`` detections with the best scores, by falling score."""
    return cells[np.argsort(-cells.scores, kind="stable")[:count]]


def _best(
    boxes: NDArray[np.floating], scores: NDArray[np.floating], iou: float
) -> NDArray[np.intp]:
    """Rows that greedy suppression keeps, by falling score."""
    return nms(
        torch.as_tensor(boxes, dtype=torch.float32),
        torch.as_tensor(scores, dtype=torch.float32),
        iou,
    ).numpy()
