"""What readers said of the same things, as arrays: for their agreement.

A reader's call of a cell is a class, "no cell" where he rejected it, or unsure. Of a cell that
another drew in a region that he read exhaustively, and that he has not, it is "no cell". What he
left undecided has none.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.review.store.differences import is_read
from pipeline.review.store.places import Place, match
from pipeline.review.store.readings import REJECTED, UNSURE, Reader, Reading
from pipeline.review.store.store import ReviewStore

Subject = Literal["cells", "category", "adequacy"]

UNDECIDED, IS_UNSURE = -1, -2


@dataclass(frozen=True)
class Ratings:
    """Calls of readers, a row a subject.

    Attributes:
        subject: cells, or whole slides by category or adequacy.
        readers: a column each.
        slides: of each row, the identity of its slide.
        categories: that the numbers in `calls` stand for.
        calls: (N, readers) int; `UNDECIDED` and `IS_UNSURE` where there is no category.
    """

    subject: Subject
    readers: tuple[Reader, ...]
    slides: tuple[str, ...]
    categories: tuple[str, ...]
    calls: NDArray[np.int64]


def collect(store: ReviewStore, *, unsigned: bool = False) -> tuple[Ratings, ...]:
    """Ratings of cells, categories and adequacies, of all slides with two readings or more.

    Args:
        store: the reviews.
        unsigned: take readings that are not signed off, too.
    """
    by_slide = {}
    for slide in store.slides():
        readings = [one for one in store.readings(slide) if unsigned or one.signed]
        if len(readings) > 1:
            by_slide[slide.identity] = readings
    readers = sorted({r.reader for rs in by_slide.values() for r in rs}, key=lambda one: one.id)
    return (
        _table("cells", readers, _cells(by_slide)),
        _table("category", readers, _slides(by_slide, "category")),
        _table("adequacy", readers, _slides(by_slide, "adequacy")),
    )


_Row = tuple[str, Mapping[Reader, str]]


def _cells(by_slide: Mapping[str, Sequence[Reading]]) -> Iterator[_Row]:
    for slide, readings in by_slide.items():
        for place in match(readings):
            yield slide, _calls(place, readings)


def _calls(place: Place, readings: Sequence[Reading]) -> dict[Reader, str]:
    calls = {reader: cell.call for reader, cell in place.views.items() if cell.call}
    if all(cell.said is None for cell in place.views.values()):
        for reading in readings:
            if reading.reader not in place.views and is_read(place.box, reading):
                calls[reading.reader] = REJECTED
    return calls


def _slides(
    by_slide: Mapping[str, Sequence[Reading]], what: Literal["category", "adequacy"]
) -> Iterator[_Row]:
    for slide, readings in by_slide.items():
        said = {reading.reader: getattr(reading.decision, what) for reading in readings}
        yield slide, {reader: call for reader, call in said.items() if call}


def _table(subject: Subject, readers: Sequence[Reader], rows: Iterator[_Row]) -> Ratings:
    found = [(slide, calls) for slide, calls in rows if calls]
    names = sorted({call for _, calls in found for call in calls.values()} - {UNSURE})
    number = {name: index for index, name in enumerate(names)} | {UNSURE: IS_UNSURE}
    column = {reader: index for index, reader in enumerate(readers)}
    calls = np.full((len(found), len(readers)), UNDECIDED, np.int64)
    for row, (_, said) in enumerate(found):
        for reader, call in said.items():
            calls[row, column[reader]] = number[call]
    return Ratings(subject, tuple(readers), tuple(slide for slide, _ in found), tuple(names), calls)
