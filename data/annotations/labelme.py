"""Labelme: one JSON file an image, with shapes in pixels (wkentaro/labelme); X-AnyLabeling's too.

Outlines, boxes and masks of one label that share a ``group_id`` are parts of one cell, as in
Labelme's own export. The corners of a mask are its first and last pixels. X-AnyLabeling adds
``rotation`` and ``quadrilateral``, boxes of four corners, and ``difficult``, which is ignored.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.annotations.classes import UNCLASSIFIED
from data.annotations.drawing import (
    DIFFICULT,
    Drawing,
    Shape,
    box,
    draw,
    ellipse,
    mark,
    nothing,
    outline,
)
from data.annotations.files import Content, own_name
from data.annotations.values import as_flag, as_list, as_number, as_points, as_record, as_text

SUFFIXES = (".json",)

_MARKS = ("point", "points")
_MASKS = ("mask", "ai_mask")
_OUTLINES = ("polygon", "ai_polygon", "rectangle", "rotation", "quadrilateral", *_MASKS)
_LEFT_OUT = {"line": "lines", "linestrip": "line strips", "cuboid": "cuboids"}


def matches(path: Path, content: Content) -> bool:
    """Whether a file is Labelme's."""
    if not isinstance(content, dict) or "shapes" not in content:
        return False
    return bool({"imagePath", "imageData", "imageWidth"} & set(content))


def read(path: Path, content: Content) -> Iterator[Drawing]:
    """What the file draws on its image."""
    own = own_name(path, SUFFIXES)
    size = [as_number(content.get(key) or 0, key) for key in ("imageWidth", "imageHeight")]
    found = [
        (_group(as_record(one, f"shape {n}")), list(_shapes(one, f"shape {n}")))
        for n, one in enumerate(as_list(content["shapes"], "shapes"), 1)
    ]
    yield draw(
        as_text(content.get("imagePath") or own, "imagePath"),
        list(_together(found)),
        size=(size[0], size[1]),
        own_name=own,
    )


def _group(drawn: Mapping[str, Any]) -> str:
    """What a shape is a part of; empty for one of its own."""
    group = drawn.get("group_id")
    return "" if group is None else str(group)


def _together(found: list[tuple[str, list[Shape]]]) -> Iterator[Shape]:
    """Shapes, of which the parts of one cell come as one, where its first stood."""
    parts: dict[tuple[str, str], list[Shape]] = {}
    for group, shapes in found:
        for shape in shapes:
            if group and shape.rings:
                parts.setdefault((group, shape.name), []).append(shape)
    cells = {key: members for key, members in parts.items() if any(map(_encloses, members))}
    whole = {id(shape): key for key, members in cells.items() for shape in members}
    for _, shapes in found:
        for shape in shapes:
            key = whole.get(id(shape))
            if key is None:  # several points are no parts of one cell
                yield shape
            elif key in cells:
                yield _one_of(cells.pop(key))


def _encloses(shape: Shape) -> bool:
    return len(shape.rings[0]) > 1


def _one_of(parts: list[Shape]) -> Shape:
    if len(parts) == 1:
        return parts[0]
    corners = np.concatenate([ring for part in parts for ring in part.rings])
    shape = box(parts[0].name, [corners.min(0), corners.max(0)])._replace(
        remarks=tuple(remark for part in parts for remark in part.remarks)
    )
    if any(part.crowd for part in parts):
        shape = shape.ignored(DIFFICULT)
    return shape.remarked(
        "parts-grouped", "shapes of one label and group_id are taken together as one cell"
    )


def _shapes(drawn: Mapping[str, Any], what: str) -> Iterator[Shape]:
    label = drawn.get("label")
    is_blank = label is None or (isinstance(label, str) and not label.strip())
    name = UNCLASSIFIED if is_blank else as_text(label, f"the label of {what}")
    points = as_points(drawn.get("points"), f"a point of {what} ({name})")
    kind = drawn.get("shape_type") or "polygon"
    difficult = as_flag(drawn.get("difficult"), f"difficult of {what}")
    for shape in _of_kind(name, as_text(kind, f"the shape_type of {what}"), points):
        yield shape.ignored(DIFFICULT) if difficult else shape


def _of_kind(name: str, kind: str, points: NDArray[np.float64]) -> Iterator[Shape]:
    if kind in _MARKS:
        yield from (mark(name, x, y) for x, y in points.tolist())
    elif kind == "circle":  # its centre, and a point on its edge
        if len(points) == 2:
            yield ellipse(name, points[0], np.full(2, math.dist(*points)))
        else:
            yield nothing(name, "circles without a point on their edge")
    elif kind not in _OUTLINES:
        yield nothing(name, _LEFT_OUT.get(kind, f"shapes of the kind {kind}"))
    elif len(points) > 2:
        yield outline(name, points)
    elif len(points) == 2 and kind not in ("polygon", "ai_polygon"):
        last = points.max(0) + (kind in _MASKS)  # the last pixel of a mask belongs to it
        yield box(name, [points.min(0), last])
    else:
        yield nothing(name, f"{kind} shapes of fewer corners than they need")
