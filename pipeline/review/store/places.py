"""Which decisions of several readers are about one cell.

Cells of the report have one key for all readers. A cell that a reader has drawn is the same as
another's where their boxes overlap at an IoU of 0.5 and more, the best pairs first; it may also be
one of the report, which the other decided and he did not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from data.boxes import box_iou
from pipeline.review.store.readings import Box, CellDecision, Reader, Reading

IOU = 0.5


@dataclass
class Place:
    """One cell, with what each reader says of it: those alone who have decided it.

    Attributes:
        key: of the report where it has it, else of the first reader who drew it.
        views: by reader.
    """

    key: str
    views: dict[Reader, CellDecision] = field(default_factory=dict)

    @property
    def box(self) -> Box:
        """The first reader's."""
        return next(iter(self.views.values())).box


def match(readings: Sequence[Reading]) -> list[Place]:
    """The cells that any of the readings decides, each once; readers in the order given."""
    places: dict[str, Place] = {}
    for reading in readings:
        for cell in _decided(reading.cells):
            if cell.said is not None:
                places.setdefault(cell.key, Place(cell.key)).views[reading.reader] = cell
    found = list(places.values())
    for reading in readings:
        _join(found, reading.reader, [c for c in _decided(reading.cells) if c.said is None])
    return found


def as_array(boxes: Iterable[Box]) -> NDArray[np.float64]:
    """(N, 4) of boxes."""
    return np.array(list(boxes), dtype=np.float64).reshape(-1, 4)


def _decided(cells: Mapping[str, CellDecision]) -> list[CellDecision]:
    return [cells[key] for key in sorted(cells) if cells[key].decided]


def _join(places: list[Place], reader: Reader, added: list[CellDecision]) -> None:
    """Puts the cells that a reader drew to those of others, or behind them as new ones."""
    free = [place for place in places if reader not in place.views]
    taken: set[int] = set()
    if free and added:
        iou = box_iou(as_array(cell.box for cell in added), as_array(place.box for place in free))
        for flat in np.argsort(-iou, axis=None, kind="stable").tolist():
            row, column = divmod(flat, len(free))
            if iou[row, column] < IOU:
                break
            if row not in taken and reader not in free[column].views:
                free[column].views[reader] = added[row]
                taken.add(row)
    for row, cell in enumerate(added):
        if row not in taken:
            places.append(Place(cell.key, {reader: cell}))
