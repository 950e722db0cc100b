"""CVAT's XML 1.1 "for images": shapes in pixels, many images a file (docs.cvat.ai).

A mask is its runs row by row within a frame; its box is that of what it fills.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from xml.etree.ElementTree import Element

import numpy as np

from data.annotations.drawing import (
    Drawing,
    Shape,
    box,
    draw,
    ellipse,
    mark,
    nothing,
    outline,
    turn,
)
from data.annotations.files import Content
from data.annotations.runs import box_of_rows
from data.annotations.values import as_number, shown

SUFFIXES = (".xml",)

_LEFT_OUT = {
    "polyline": "polylines",
    "skeleton": "skeletons",
    "cuboid": "cuboids",
    "tag": "tags of whole images",
}


def matches(path: Path, content: Content) -> bool:
    """Whether a file is CVAT's."""
    if not isinstance(content, Element) or content.tag != "annotations":
        return False
    return any(content.find(tag) is not None for tag in ("image", "track", "meta"))


def read(path: Path, content: Content) -> Iterator[Drawing]:
    """What the file draws, image by image."""
    if content.find("track") is not None:
        raise ValueError("these are tracks in a video; export as 'CVAT for images'")
    declared = tuple(_declared(content))
    for image in content.iterfind("image"):
        name = (image.get("name") or "").strip()
        if not name:
            raise ValueError(f"the image with id {shown(image.get('id'))} has no name")
        yield draw(
            name,
            [shape for drawn in image for shape in _shapes(drawn, f"{drawn.tag} on {name}")],
            size=(_side(image, "width"), _side(image, "height")),
            declared=declared,
        )


def _declared(content: Element) -> Iterator[str]:
    """The labels of the task, but for the joints of skeletons."""
    for label in content.iterfind(".//meta//label"):
        name = (label.findtext("name") or "").strip()
        if name and not (label.findtext("parent") or "").strip():
            yield name


def _side(image: Element, side: str) -> float:
    return as_number(image.get(side) or "0", f"the {side} of {image.get('name')}")


def _shapes(drawn: Element, what: str) -> Iterator[Shape]:
    name = drawn.get("label")
    if name is None:
        if drawn.tag in _LEFT_OUT:
            raise ValueError(f"{what} has no label")
        return  # what a later version adds
    if drawn.get("outside") == "1":
        yield nothing(name, "shapes marked as outside of the picture")
    elif drawn.tag == "box":
        yield _box(name, drawn, what)
    elif drawn.tag == "polygon":
        points = _points(drawn, what)
        is_outline = len(points) > 2
        yield (
            outline(name, points) if is_outline else nothing(name, "polygons of one or two corners")
        )
    elif drawn.tag == "points":
        yield from (mark(name, x, y) for x, y in _points(drawn, what))
    elif drawn.tag == "ellipse":
        cx, cy, rx, ry = _numbers(drawn, what, "cx", "cy", "rx", "ry")
        yield ellipse(name, (cx, cy), (rx, ry), _degrees(drawn, what))
    elif drawn.tag == "mask":
        yield _mask(name, drawn, what)
    else:
        yield nothing(name, _LEFT_OUT.get(drawn.tag, f"shapes of the kind {drawn.tag}"))


def _box(name: str, drawn: Element, what: str) -> Shape:
    left, top, right, bottom = _numbers(drawn, what, "xtl", "ytl", "xbr", "ybr")
    degrees = _degrees(drawn, what)
    if degrees:
        middle = np.array([left + right, top + bottom]) / 2
        corners = np.array([(left, top), (right, top), (right, bottom), (left, bottom)])
        return outline(name, turn(corners - middle, degrees) + middle)
    shape = box(name, [left, top, right, bottom])
    if right < left or bottom < top:
        return shape.remarked(
            "corners-swapped", "boxes whose maximum is less than their minimum are turned round"
        )
    return shape


def _mask(name: str, drawn: Element, what: str) -> Shape:
    left, top, width, height = _numbers(drawn, what, "left", "top", "width", "height")
    frame = box(name, [left, top, left + width, top + height])
    words = [word for word in (drawn.get("rle") or "").split(",") if word.strip()]
    runs = [as_number(word.strip(), f"the rle of {what}") for word in words]
    try:
        found = box_of_rows(runs, int(width), int(height))
    except ValueError:
        return frame.remarked(
            "mask-frame", "masks whose runs don't fill their frame are taken as all of it"
        )
    if found is None:
        return nothing(name, "empty masks")
    return box(name, found + np.array([left, top, left, top]))


def _degrees(drawn: Element, what: str) -> float:
    return as_number(drawn.get("rotation") or "0", f"the rotation of {what}")


def _points(drawn: Element, what: str) -> list[tuple[float, float]]:
    pairs = [pair.split(",") for pair in (drawn.get("points") or "").split(";") if pair.strip()]
    if not pairs or any(len(pair) != 2 for pair in pairs):
        raise ValueError(f"the points of {what} are {shown(drawn.get('points'))}, not x,y;x,y;…")
    return [
        (as_number(x.strip(), f"a point of {what}"), as_number(y.strip(), f"a point of {what}"))
        for x, y in pairs
    ]


def _numbers(drawn: Element, what: str, *names: str) -> list[float]:
    missing = [name for name in names if not (drawn.get(name) or "").strip()]
    if missing:
        raise ValueError(f"{what} has no {', '.join(missing)}")
    return [as_number(drawn.attrib[name].strip(), f"{name} of {what}") for name in names]
