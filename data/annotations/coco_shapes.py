"""One annotation of COCO as a shape: its box, or that of its outline or mask."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.annotations.drawing import CROWD, DIFFICULT, NEGATIVE, Shape, box, nothing, outline
from data.annotations.runs import box_of_columns, runs_of_text
from data.annotations.values import as_flag, as_list, as_number, as_numbers, as_points, shown

_ALIKE = 0.5
"""Intersection over union of box and outline below which they contradict each other."""

Boxes = NDArray[np.float64]


def shape_of(
    annotation: Mapping[str, Any], name: str, size: tuple[float, float] | None, what: str
) -> Shape:
    """What an annotation draws.

    A box goes before an outline or a mask; without one, or where it has no extent, theirs holds.

    Args:
        annotation: an entry of ``annotations``.
        name: its class.
        size: of its image, where the file says.
        what: the annotation, for errors.

    Raises:
        ValueError: it has no box and nothing that one can be made of, or they aren't as COCO has
            them.
    """
    given = annotation.get("bbox")
    stated = as_numbers(given, f"the bbox of {what}", 4) if given not in (None, []) else None
    drawn = _drawn(name, annotation.get("segmentation"), size, what)
    if stated is None and drawn is None:
        raise ValueError(f"{what} has neither a bbox nor an outline or a mask")
    if stated is None or (drawn is not None and drawn.rings and not stated[2:].any()):
        shape = drawn if drawn is not None else nothing(name)
    else:
        shape = _compared(_box(name, stated), drawn)
    return _flagged(shape._replace(nucleus=_nucleus(annotation, what)), annotation, what)


def mask_size(annotations: Iterable[Mapping[str, Any]]) -> tuple[float, float] | None:
    """Width and height of the image that the first mask is of; None without masks.

    Raises:
        ValueError: a mask has no size.
    """
    for one in annotations:
        if isinstance(mask := one.get("segmentation"), Mapping) and mask:
            where = f"the size of the mask of annotation {shown(one.get('id'))}"
            height, width = as_numbers(mask.get("size"), where, 2).tolist()
            return width, height
    return None


def _box(name: str, stated: Boxes) -> Shape:
    corner, extent = stated[:2], stated[2:]
    shape = box(name, [*corner, *(corner + extent)])
    if (extent < 0).any():
        return shape.remarked("corners-swapped", NEGATIVE)
    return shape


def _compared(shape: Shape, drawn: Shape | None) -> Shape:
    """A box, with a remark where the outline is another one."""
    if drawn is None or not drawn.rings:
        return shape
    if _overlap(*_ends(shape), *_ends(drawn)) >= _ALIKE:
        return shape
    return shape.remarked(
        "box-outline-differ", "boxes lie elsewhere than their outlines; the boxes hold"
    )


def _drawn(
    name: str, segmentation: Any, size: tuple[float, float] | None, what: str
) -> Shape | None:
    """The outline or mask of an annotation; None where it has none."""
    if segmentation in (None, [], {}, ""):
        return None
    if isinstance(segmentation, Mapping):
        return _mask(name, segmentation, size, what)
    return _outline(name, as_list(segmentation, f"the segmentation of {what}"), what)


def _outline(name: str, rings: Any, what: str) -> Shape | None:
    """Parts, each x, y, x, y, …; some tools leave out the list around them, or pair the numbers."""
    where = f"the segmentation of {what}"
    lists = [ring for ring in rings if isinstance(ring, list)]
    if not lists or all(len(ring) == 2 for ring in lists):
        rings = [rings]
    corners = [_ring(ring, where) for ring in rings if ring != []]
    corners.sort(key=len, reverse=True)  # what is less than a triangle makes no outline of its own
    return outline(name, *corners) if corners else None


def _ring(ring: Any, where: str) -> Boxes:
    if isinstance(ring, list) and ring and isinstance(ring[0], list):
        return as_points(ring, where)
    numbers = as_numbers(ring, where)
    if len(numbers) % 2:
        raise ValueError(f"{where} has {len(numbers)} numbers, which are no pairs")
    return numbers.reshape(-1, 2)


def _mask(name: str, mask: Mapping[str, Any], size: tuple[float, float] | None, what: str) -> Shape:
    where = f"the mask of {what}"
    height, width = as_numbers(mask.get("size"), f"the size of {where}", 2).tolist()
    if size and (width, height) != size:
        raise ValueError(
            f"{where} is of {width:g}x{height:g} px, its image of {size[0]:g}x{size[1]:g}"
        )
    counts = mask.get("counts")
    runs = (
        runs_of_text(counts)
        if isinstance(counts, str)
        else [as_number(one, where) for one in as_list(counts, f"the counts of {where}")]
    )
    try:
        found = box_of_columns(runs, int(width), int(height))
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
    return nothing(name, "empty masks") if found is None else box(name, found)


def _flagged(shape: Shape, annotation: Mapping[str, Any], what: str) -> Shape:
    if as_flag(annotation.get("iscrowd"), f"iscrowd of {what}"):
        return shape.ignored(CROWD)
    flags = ("ignore", "difficult")
    if any(as_flag(annotation.get(key), f"{key} of {what}") for key in flags):
        return shape.ignored(DIFFICULT)
    return shape


def _nucleus(annotation: Mapping[str, Any], what: str) -> Boxes | None:
    given = annotation.get("nucleus")
    return None if given is None else as_numbers(given, f"the nucleus of {what}", 2)


def _ends(shape: Shape) -> tuple[list[float], list[float]]:
    """The least and the largest x and y of a shape."""
    corners = shape.rings[0] if len(shape.rings) == 1 else np.concatenate(shape.rings)
    return corners.min(0).tolist(), corners.max(0).tolist()


def _overlap(
    start: list[float], end: list[float], other_start: list[float], other_end: list[float]
) -> float:
    """Intersection over union of two boxes; 1 for boxes without area."""
    shared = own = others = 1.0
    for low, high, other_low, other_high in zip(start, end, other_start, other_end, strict=True):
        shared *= max(0.0, min(high, other_high) - max(low, other_low))
        own *= high - low
        others *= other_high - other_low
    union = own + others - shared
    return shared / union if union > 0 else 1.0
