"""What holds of a slide, of all its readings.

1. An adjudication that is signed off: what its reader decided, and beside it what the signed
   readings agree on. Nothing where a reading that was signed off after it differs from others in
   what it did not decide: there it has to go on.
2. Else, where readings are signed off, theirs: one alone holds as it is; of several what they agree
   on, and nothing while they differ. Readings that are not signed off don't count then.
3. Else the only reading, as it is, not signed off; of several that are not, none holds.

Of cells that only some readers decided holds what these say: silence contradicts nobody, but in a
region that was read exhaustively (`differences`). Boxes that differ a little become their mean. A
region holds where every reader who counts marked it as read: their intersection. Where one alone
spoke of category or adequacy, his word holds; comments and notes are joined.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import TypeVar

from data.boxes import box_iou
from pipeline.review.store.differences import find_differences, is_disputed, open_differences
from pipeline.review.store.places import IOU, Place, as_array, match
from pipeline.review.store.readings import (
    Adequacy,
    Box,
    CellDecision,
    Reader,
    Reading,
    RegionMark,
    SlideDecision,
)

_Value = TypeVar("_Value")

CONSENSUS = Reader(0, "consensus")


def agree(readings: Sequence[Reading], adjudication: Reading | None = None) -> Reading | None:
    """The consensus of the readings of one slide; None where there is none.

    Args:
        readings: those in which anything stands, of round ``reading``, in the order of readers.
        adjudication: of the slide.
    """
    if awaits(readings, adjudication):
        return None
    signed = [reading for reading in readings if reading.signed]
    if adjudication and adjudication.signed and len(signed) > 1:
        return _overlaid(_common(signed), adjudication)
    if signed:
        return _common(signed)
    return _common(readings) if len(readings) == 1 else None


def awaits(readings: Sequence[Reading], adjudication: Reading | None) -> bool:
    """Whether differences between signed readings are left that nobody has adjudicated.

    Only an adjudication that is signed off decides any.
    """
    signed = [reading for reading in readings if reading.signed]
    if len(signed) < 2:
        return False
    decides = adjudication if adjudication and adjudication.signed else None
    return bool(open_differences(find_differences(signed), decides))


def _common(readings: Sequence[Reading]) -> Reading:
    """What readings agree on; what they differ on is left out."""
    if len(readings) == 1:
        return replace(readings[0], reader=CONSENSUS, can_undo=False, can_redo=False)
    cells = {
        place.key: _merged(place) for place in match(readings) if not is_disputed(place, readings)
    }
    decisions = [reading.decision for reading in readings]
    adequacy: Adequacy | None = _one({d.adequacy for d in decisions if d.adequacy})
    return Reading(
        readings[0].slide,
        CONSENSUS,
        "reading",
        sum(reading.version for reading in readings),
        MappingProxyType(cells),
        MappingProxyType(_shared(readings)),
        SlideDecision(
            adequacy,
            _one({d.category for d in decisions if d.category}),
            _joined(d.comment for d in decisions),
            max(d.signed for d in decisions if d.signed),
        ),
        seconds=sum(reading.seconds for reading in readings),
    )


def _overlaid(common: Reading, adjudication: Reading) -> Reading:
    """An adjudication over what is agreed: its word goes before, cell by cell."""
    drawn = [c.box for c in adjudication.cells.values() if c.decided and c.said is None]
    cells = {
        key: cell
        for key, cell in common.cells.items()
        if not (cell.said is None and drawn and _overlap(cell.box, drawn))
    }
    for key, cell in adjudication.cells.items():
        if cell.verdict != "none":
            cells[key] = cell
    said = adjudication.decision
    return replace(
        common,
        round="adjudication",
        version=common.version + adjudication.version,
        cells=MappingProxyType(cells),
        regions=MappingProxyType({**common.regions, **adjudication.regions}),
        decision=SlideDecision(
            said.adequacy or common.decision.adequacy,
            said.category or common.decision.category,
            _joined([common.decision.comment, said.comment]),
            said.signed,
        ),
        seconds=common.seconds + adjudication.seconds,
    )


def _merged(place: Place) -> CellDecision:
    cells = list(place.views.values())
    first = next(cell for cell in cells if cell.key == place.key)
    boxes = as_array(cell.box for cell in cells)
    box = first.box if (boxes == boxes[0]).all() else _box(boxes.mean(axis=0).tolist())
    last = max(cells, key=lambda cell: cell.entry)
    return replace(
        first,
        key=place.key,
        box=box,
        note=_joined(cell.note for cell in cells),
        at=last.at,
        entry=last.entry,
        seconds=sum(cell.seconds for cell in cells),
    )


def _shared(readings: Sequence[Reading]) -> Mapping[str, RegionMark]:
    """Where all readers read exhaustively: intersections of one region of each."""
    common = {mark.key: mark for mark in readings[0].regions.values()}
    for reading in readings[1:]:
        pairs = [
            (one, other, _intersection(one.box, other.box))
            for one in common.values()
            for other in reading.regions.values()
        ]
        common = {}
        for one, other, box in pairs:
            if box:
                key = one.key if one.key not in common else f"{one.key}.{len(common)}"
                common[key] = RegionMark(key, box, _joined([one.note, other.note]))
    return common


def _intersection(one: Box, other: Box) -> Box | None:
    left, top = max(one[0], other[0]), max(one[1], other[1])
    right, bottom = min(one[2], other[2]), min(one[3], other[3])
    return (left, top, right, bottom) if left < right and top < bottom else None


def _overlap(box: Box, others: Sequence[Box]) -> bool:
    return bool((box_iou(as_array([box]), as_array(others)) >= IOU).any())


def _box(sides: Sequence[float]) -> Box:
    left, top, right, bottom = sides
    return left, top, right, bottom


def _one(values: set[_Value]) -> _Value | None:
    return next(iter(values)) if len(values) == 1 else None


def _joined(texts: Iterable[str]) -> str:
    return "\n".join(dict.fromkeys(text for text in texts if text))
