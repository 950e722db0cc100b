"""Where readers of one slide differ.

Readings are compared only when they are signed off. Then each cell that two or more of them have
decided has to have one call: the same class, rejected by all, or unsure by all; and boxes that
overlap by an IoU of 0.5 or more. A cell that a reader left undecided is no difference: he has said
nothing of it. But a region that he marked as read exhaustively says that there is no other cell in
it: a cell that another drew there, its centre in that region, is a difference.

Category and adequacy of the slide differ where two readers have said something and not the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from data.boxes import box_iou
from pipeline.review.store.places import IOU, Place, as_array, match
from pipeline.review.store.readings import Box, CellDecision, Reader, Reading

Subject = Literal["cell", "slide", "adequacy"]


@dataclass(frozen=True)
class View:
    """What one reader says of what is differed about.

    Attributes:
        reader: who.
        call: a class, "no cell", "unsure"; of the whole slide its category or adequacy; None where
            he said nothing.
        cell: the decision behind it; None of the whole slide, and where he has none.
    """

    reader: Reader
    call: str | None
    cell: CellDecision | None = None


@dataclass(frozen=True)
class Difference:
    """One thing on which readers differ.

    Attributes:
        subject: a cell; the slide's category; its adequacy.
        key: of the cell; an adjudicator decides under the same. Empty for the whole slide.
        box: of the cell.
        views: one a reader who was compared, in the order of readers.
    """

    subject: Subject
    key: str
    box: Box | None
    views: tuple[View, ...]


def find_differences(readings: Sequence[Reading]) -> list[Difference]:
    """Differences between signed readings of one slide: whole slide first, then cells by place."""
    cells = [
        Difference("cell", place.key, place.box, _views(place, readings))
        for place in match(readings)
        if is_disputed(place, readings)
    ]
    cells.sort(key=lambda one: (one.box or (), one.key))
    return [*_of_the_slide(readings), *cells]


def is_disputed(place: Place, readings: Sequence[Reading]) -> bool:
    """Whether readers differ on a cell."""
    calls = {cell.call for cell in place.views.values()}
    if len(calls) > 1 or not _one_place(list(place.views.values())):
        return True
    first = next(iter(place.views.values()))
    return first.said is None and any(
        reading.reader not in place.views and is_read(first.box, reading) for reading in readings
    )


def open_differences(
    differences: Sequence[Difference], adjudication: Reading | None
) -> list[Difference]:
    """Those that an adjudication has not decided.

    A cell is decided under its key, also under one that an earlier report had for it, or where one
    that the adjudicator drew overlaps its box by an IoU of 0.5 and more; that of his that was
    ``removed`` decides, too: no cell.
    """
    if adjudication is None:
        return list(differences)
    return [one for one in differences if not _is_decided(one, adjudication)]


def _is_decided(difference: Difference, adjudication: Reading) -> bool:
    if difference.subject == "slide":
        return adjudication.decision.category is not None
    if difference.subject == "adequacy":
        return adjudication.decision.adequacy is not None
    keys = {difference.key, *(view.cell.key for view in difference.views if view.cell)}
    known = [adjudication.cells[key] for key in keys if key in adjudication.cells]
    if known:
        return any(cell.verdict != "none" for cell in known)
    drawn = [c.box for c in adjudication.cells.values() if c.decided and c.said is None]
    if not drawn or difference.box is None:
        return False
    return bool((box_iou(as_array(drawn), as_array([difference.box])) >= IOU).any())


def _of_the_slide(readings: Sequence[Reading]) -> Iterator[Difference]:
    said: Mapping[Subject, list[str | None]] = {
        "slide": [reading.decision.category for reading in readings],
        "adequacy": [reading.decision.adequacy for reading in readings],
    }
    for subject, calls in said.items():
        if len({call for call in calls if call is not None}) > 1:
            views = [View(r.reader, call) for r, call in zip(readings, calls, strict=True)]
            yield Difference(subject, "", None, tuple(views))


def _views(place: Place, readings: Sequence[Reading]) -> tuple[View, ...]:
    cells = [(reading.reader, place.views.get(reading.reader)) for reading in readings]
    return tuple(View(reader, cell.call if cell else None, cell) for reader, cell in cells)


def _one_place(cells: Sequence[CellDecision]) -> bool:
    boxes = {cell.box for cell in cells}
    if len(boxes) < 2:
        return True
    array = as_array(boxes)
    return bool((box_iou(array, array) >= IOU).all())


def is_read(box: Box, reading: Reading) -> bool:
    """Whether the centre of a box lies in a region that was read exhaustively."""
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    return any(
        region.box[0] <= x < region.box[2] and region.box[1] <= y < region.box[3]
        for region in reading.regions.values()
    )
