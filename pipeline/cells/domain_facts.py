"""What a model's card says of the looks of its cells: learned from the fields of its training.

Stain and structure are described apart, since each may be strange by itself.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from data.evaluation.domain import fit_spread, left_out_distances, limit_for
from data.fields.fieldset import Field
from data.fields.images import FieldImages
from models.card import DomainFacts, LooksFacts
from pipeline.cells.domain import FEWEST_CELLS
from pipeline.cells.looks import ASPECTS, LOOKS, MPP, SIDE, measure_looks

Values = NDArray[np.float64]

SHARES = {"stain": 0.02, "structure": 0.01}
"""Of single fields like the model's own that may lie beyond the limit of an aspect. Single fields
differ in stain far more than whole slides do, and a few oddly stained ones would set a limit that
lets another stain pass: docs/concepts/domain.md has figures."""


def look_at_field(images: FieldImages, index: int, field: Field, centers: Values) -> Values:
    """Looks of the cells of an annotated field.

    Args:
        images: of the fields.
        index: of the field.
        field: it; its scale is known.
        centers: (N, 2) of its cells, in its pixels.

    Returns:
        (N, len(LOOKS)).

    Raises:
        ImageError: it can't be read.
    """
    assert field.mpp is not None
    step = MPP / field.mpp
    extent = np.array([field.width, field.height], np.float64)
    pictures = [_cut(images, index, center - step * SIDE / 2, step, extent) for center in centers]
    return measure_looks(np.array(pictures, np.uint8).reshape(-1, SIDE, SIDE, 3))


def describe_domain(
    fields: Sequence[Values], wholes: Sequence[str], apart: Sequence[Values], data: str
) -> DomainFacts:
    """What a model's card says of the looks of its cells.

    The limits come from fields that the figures had not seen: of those that were learned from the
    ones left out in turn, and all of those that weren't.

    Args:
        fields: looks of the cells of each field that the model learned from.
        wholes: what each of these is part of, such as its slide.
        apart: looks of the cells of fields that it was validated on.
        data: what they are called.

    Raises:
        ValueError: there are too few fields with `FEWEST_CELLS`.
    """
    kept = [index for index, cells in enumerate(fields) if len(cells) >= FEWEST_CELLS]
    own, names = [fields[index] for index in kept], [wholes[index] for index in kept]
    others = [cells for cells in apart if len(cells) >= FEWEST_CELLS]
    aspects = {
        name: _describe(own, names, others, looks, SHARES[name]) for name, looks in ASPECTS.items()
    }
    return DomainFacts(aspects=aspects, fields=len(own), checked=len(own) + len(others), data=data)


def _describe(
    own: Sequence[Values],
    names: Sequence[str],
    others: Sequence[Values],
    looks: Sequence[str],
    wanted: float,
) -> LooksFacts:
    columns = [list(LOOKS).index(look) for look in looks]
    groups = [cells[:, columns] for cells in own]
    spread = fit_spread(groups)
    seen = [spread.distance(cells[:, columns]) for cells in others]
    distances = np.concatenate([left_out_distances(groups, names), np.array(seen)])
    limit, share = limit_for(distances, wanted)
    rounded = (part.round(6) for part in (spread.mean, spread.between, spread.within))
    mean, between, within = (part.tolist() for part in rounded)
    return LooksFacts(
        looks=tuple(looks),
        mean=tuple(mean),
        between=tuple(map(tuple, between)),
        within=tuple(map(tuple, within)),
        limit=round(limit, 4),
        share=round(share, 4),
    )


def _cut(
    images: FieldImages, index: int, corner: Values, step: float, extent: Values
) -> NDArray[np.uint8]:
    """A cell's picture from its top left corner; white beyond the field, as beyond a slide."""
    picture = np.full((SIDE, SIDE, 3), 255, np.uint8)
    first = np.ceil(np.maximum(0, -corner) / step).astype(int)
    last = np.floor(np.minimum(SIDE, (extent - corner) / step)).astype(int)
    if (last > first).all():
        low = np.maximum(0, corner + first * step)
        high = np.minimum(extent, corner + last * step)
        (left, top), (right, bottom) = first.tolist(), last.tolist()
        box = (*low.tolist(), *high.tolist())
        picture[top:bottom, left:right] = images.crop(index, (right - left, bottom - top), box)
    return picture
