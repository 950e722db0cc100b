"""Which decisions of several readers are about one cell.

Cells of the report have one key for all readers, made of their boxes: screened anew by another
model a slide has others. So cells of two keys are one, too, where no reader has decided both and
their boxes overlap at an IoU of 0.5 and more, the best pairs first. Of one reader's two the later
replaces the earlier (`replaced`).

A cell that a reader has drawn is the same as another's where their boxes overlap as much; it may
also be one of the report, which the other decided and he did not.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from data.boxes import box_iou
from pipeline.cells.nms import overlapping_pairs, pair_iou
from pipeline.review.store.readings import Box, CellDecision, Reader, Reading

IOU = 0.5

_FARTHEST = 1e9
"""Level-0 px; a box of a damaged file that reaches further is at no place."""


@dataclass
class Place:
    """One cell, with what each reader says of it: those alone who have decided it.

    Attributes:
        key: of the report where it has it, of several reports the one decided last; else of the
            first reader who drew it.
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
    drawn = {}
    for reading in readings:
        decided = [reading.cells[key] for key in sorted(reading.cells)]
        decided = [cell for cell in decided if cell.decided]
        drawn[reading.reader] = [cell for cell in decided if cell.said is None]
        reported = [cell for cell in decided if cell.said is not None]
        for cell, gone in zip(reported, replaced(reported).tolist(), strict=True):
            if not gone:
                places.setdefault(cell.key, Place(cell.key)).views[reading.reader] = cell
    found = _across_reports(list(places.values()), list(drawn))
    for reader, cells in drawn.items():
        _join(found, reader, cells)
    return found


def replaced(
    cells: Sequence[CellDecision], current: NDArray[np.bool_] | None = None
) -> NDArray[np.bool_]:
    """(N,) which decisions of one reader give way to a later one about a finding of another report.

    Of another report is a finding whose box overlaps at an IoU of 0.5 and more, and which has the
    same class: of such two a report keeps one (`StitcherSettings.nms_iou`). Where it is known which
    ones the report has as it is, two of these are never of two reports, and one of these and
    another one always are.

    Args:
        cells: of the report, decided.
        current: (N,) whether the report has them as it is.
    """
    gone = np.zeros(len(cells), bool)
    one, other = overlaps(said_boxes(cells), said_boxes(cells))
    labels = np.array([cell.said.label if cell.said else "" for cell in cells], dtype=object)
    apart = np.asarray(labels[one] == labels[other], bool)
    if current is not None:
        apart = (apart | current[one] | current[other]) & ~(current[one] & current[other])
    entries = np.array([cell.entry for cell in cells], np.int64)
    gone[one[apart & (entries[one] < entries[other])]] = True
    return gone


def said_boxes(cells: Iterable[CellDecision]) -> NDArray[np.float64]:
    """(N, 4) boxes as reports have them; of cells that were drawn, as they were left."""
    return as_array(cell.said.box if cell.said else cell.box for cell in cells)


def overlaps(
    ones: NDArray[np.float64], others: NDArray[np.float64]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows of (N, 4) and (M, 4) boxes that are at one place: an IoU of 0.5 and more; best first."""
    ones, others = _sane(ones), _sane(others)
    one, other = overlapping_pairs(ones, others, IOU - 1e-9)
    iou = pair_iou(ones[one], others[other])
    order = np.lexsort((other, one, -iou))
    return one[order], other[order]


def _sane(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    near = (np.abs(boxes) <= _FARTHEST).all(axis=1, keepdims=True)
    return np.where(near, boxes, 0.0)  # without area, it overlaps nothing


def as_array(boxes: Iterable[Box]) -> NDArray[np.float64]:
    """(N, 4) of boxes."""
    return np.array(list(boxes), dtype=np.float64).reshape(-1, 4)


def _across_reports(places: Sequence[Place], readers: Sequence[Reader]) -> list[Place]:
    """Makes one of those that reports have under several keys, where no reader decided both."""
    boxes = said_boxes(next(iter(place.views.values())) for place in places)
    whole = list(places)  # by row: the place that it is part of now
    parts = [[row] for row in range(len(places))]
    for one, other in zip(*(rows.tolist() for rows in overlaps(boxes, boxes)), strict=True):
        kept, merged = whole[one], whole[other]
        if kept is merged or kept.views.keys() & merged.views.keys():
            continue
        views = kept.views | merged.views
        kept.views = {reader: views[reader] for reader in readers if reader in views}
        kept.key = max(kept.views.values(), key=lambda cell: cell.entry).key
        parts[one] = parts[other] = parts[one] + parts[other]
        for row in parts[one]:
            whole[row], parts[row] = kept, parts[one]
    return list({id(place): place for place in whole}.values())


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
