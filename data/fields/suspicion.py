"""Whether annotated boxes hold anything: a look at some of them, before they are learned from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from configs import Doubt
from data.fields.fieldset import FieldSet
from data.fields.images import FieldImages, ImageError, Opener, Pixels, no_slides
from data.thinning import evenly

MOST_BOXES = 50
"""Boxes of a set that are looked at."""

MOST_FIELDS = 12
"""Fields that they are taken from: a plain image is decoded as a whole, some 20 ms."""

FEWEST = 3
"""Boxes that must have been seen before anything is said of them."""

SHARE = 1 / 3
"""Share of empty ones from which on it is told."""

MARGIN = 0.25
"""Share of its sides by which a box is looked at beyond them: a cell that fills its box is even
within, and shows at its border."""

SIDE = 32
"""Longest side, in px, at which a box is looked at: noise is averaged away, a nucleus is not."""

EVEN = 20.0
"""Levels, of 255, between the 2nd and 98th percentile, below which there is nothing but glass. Of
CRIC's cells the faintest has 83; its empty places have 5 to 15."""


def glass_doubts(fields: FieldSet, opener: Opener = no_slides) -> tuple[Doubt, ...]:
    """Tells where a third or more of the boxes hold nothing: they may be of another place.

    Some boxes of some fields are looked at, always the same ones. What can't be read is passed
    over; whoever needs its pixels tells so.

    Args:
        fields: with their boxes.
        opener: of slides.

    Returns:
        One doubt, ``boxes-on-glass``, or none.
    """
    # A slide that carries no scale can be opened with any: only its own pixels are looked at.
    known = [replace(field, mpp=field.mpp or 1.0) for field in fields.fields]
    images = FieldImages(known, opener)
    seen = [is_even(pixels) for pixels in _looks(replace(fields, fields=tuple(known)), images)]
    empty = sum(seen)
    if len(seen) < FEWEST or empty < SHARE * len(seen):
        return ()
    text = f"{empty} of {len(seen)} boxes that were looked at hold nothing but even background"
    return (Doubt(code="boxes-on-glass", text=f"{text}: are they of these images, at this place?"),)


def is_even(pixels: Pixels) -> bool:
    """Whether pixels (H, W, 3) show nothing that stands out from the rest."""
    low, high = np.percentile(pixels.mean(axis=2), [2, 98])
    return bool(high - low < EVEN)


def _looks(fields: FieldSet, images: FieldImages) -> Iterator[Pixels]:
    """Some boxes with their margins, each at most `SIDE` px long."""
    with_cells = [i for i, field in enumerate(fields.fields) if not field.crowd.all()]
    chosen = evenly(len(with_cells), MOST_FIELDS)
    each = MOST_BOXES // max(len(chosen), 1)
    for index in (with_cells[i] for i in chosen.tolist()):
        field = fields.fields[index]
        boxes = field.boxes[~field.crowd].astype(np.float64)
        for box in boxes[evenly(len(boxes), each)]:
            try:
                yield _look(images, index, box, (field.width, field.height))
            except ImageError:
                break


def _look(
    images: FieldImages, index: int, box: NDArray[np.float64], size: tuple[int, int]
) -> Pixels:
    margin = (box[2:] - box[:2]) * MARGIN
    low, high = (box[:2] - margin).clip(0), np.minimum(box[2:] + margin, size)
    sides = high - low
    width, height = np.ceil(sides / max(sides.max() / SIDE, 1)).astype(int).tolist()
    (left, top), (right, bottom) = low.tolist(), high.tolist()
    return images.crop(index, (max(width, 1), max(height, 1)), (left, top, right, bottom))
