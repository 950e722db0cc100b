"""Labelme: one JSON file an image, with shapes in pixels (wkentaro/labelme)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from data.annotations.classes import UNCLASSIFIED
from data.annotations.drawing import Drawing, Shape, box, draw, ellipse, mark, nothing, outline
from data.annotations.files import Content

SUFFIXES = (".json",)


def matches(path: Path, content: Content) -> bool:
    """Whether a file is Labelme's."""
    return isinstance(content, dict) and {"shapes", "imagePath"} <= set(content)


def read(path: Path, content: Content) -> Iterator[Drawing]:
    """What the file draws on its image."""
    size = (content.get("imageWidth") or 0, content.get("imageHeight") or 0)
    shapes = [shape for one in content["shapes"] for shape in _shapes(one)]
    yield draw(content["imagePath"], shapes, size=size)


def _shapes(drawn: Mapping[str, Any]) -> Iterator[Shape]:
    name, points = drawn["label"] or UNCLASSIFIED, drawn["points"]
    kind = drawn.get("shape_type") or "polygon"
    if kind in ("point", "points"):
        yield from (mark(name, x, y) for x, y in points)
    elif kind == "circle":  # its centre, and a point on its edge
        radius = math.dist(*points)
        yield ellipse(name, points[0], (radius, radius))
    elif kind in ("rectangle", "mask") and len(points) == 2:
        yield box(name, points)
    elif kind in ("polygon", "rectangle"):
        yield outline(name, points)
    else:
        yield nothing(name)
