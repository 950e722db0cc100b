"""What a set of annotated fields holds: look before you train."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data.fields.fieldset import Field, FieldSet

PERCENTILES = (5, 50, 95)


@dataclass(frozen=True)
class ClassStatistics:
    """One class of a set.

    Attributes:
        name: the class.
        cells: how many there are.
        fields, slides, patients: in how many of each they lie, as far as that is known.
        sides: (cells,) longest side in µm, of cells on fields whose mpp is known.
        clipped: cells that touch the border of their field.
    """

    name: str
    cells: int
    fields: int
    slides: int
    patients: int
    sides: NDArray[np.float64]
    clipped: int

    def side_percentiles(self) -> list[float]:
        """The `PERCENTILES` of the sides; empty without cells."""
        return np.percentile(self.sides, PERCENTILES).round(1).tolist() if len(self.sides) else []


def describe_classes(fields: FieldSet) -> list[ClassStatistics]:
    """Figures of each class, in the order of the labels."""
    return [_describe(fields, label) for label in range(len(fields.classes))]


def cells_a_tile(field: Field, side: float) -> NDArray[np.int64]:
    """How many cells have their centres in each tile of a field, tiles laid edge to edge.

    Args:
        field: the field.
        side: of a tile in pixels of the field; the last ones of a row may reach beyond it.
    """
    columns, rows = int(np.ceil(field.width / side)), int(np.ceil(field.height / side))
    cells = field.boxes[~field.crowd]
    x, y = ((cells[:, :2] + cells[:, 2:]) / 2 // side).astype(np.int64).T
    return np.bincount(y * columns + x, minlength=rows * columns)


def _describe(fields: FieldSet, label: int) -> ClassStatistics:
    having = [
        (field, own)
        for field in fields.fields
        if (own := (field.labels == label) & ~field.crowd).any()
    ]
    sizes = [
        (field.boxes[own, 2:] - field.boxes[own, :2]).max(axis=1) * field.mpp
        for field, own in having
        if field.mpp
    ]
    return ClassStatistics(
        name=fields.classes[label],
        cells=sum(int(own.sum()) for _, own in having),
        fields=len(having),
        slides=len({field.slide for field, _ in having if field.slide}),
        patients=len({field.patient for field, _ in having if field.patient}),
        sides=np.concatenate([np.zeros(0), *sizes]),
        clipped=sum(int(_touches_border(field)[own].sum()) for field, own in having),
    )


def _touches_border(field: Field) -> NDArray[np.bool_]:
    low = (field.boxes[:, :2] <= 0).any(axis=1)
    return np.logical_or(low, (field.boxes[:, 2:] >= (field.width, field.height)).any(axis=1))
