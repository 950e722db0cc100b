"""CVAT's XML 1.1 "for images": shapes in pixels, many images a file (docs.cvat.ai)."""

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

SUFFIXES = (".xml",)


def matches(path: Path, content: Content) -> bool:
    """Whether a file is CVAT's."""
    if not isinstance(content, Element) or content.tag != "annotations":
        return False
    return any(content.find(tag) is not None for tag in ("image", "track", "meta"))


def read(path: Path, content: Content) -> Iterator[Drawing]:
    """What the file draws, image by image."""
    if content.find("track") is not None:
        raise ValueError("these are tracks in a video; export as 'CVAT for images'")
    declared = tuple(e.text.strip() for e in content.iterfind(".//meta//label/name") if e.text)
    for image in content.iterfind("image"):
        yield draw(
            image.attrib["name"],
            [shape for drawn in image for shape in _shapes(drawn)],
            size=(float(image.attrib["width"]), float(image.attrib["height"])),
            declared=declared,
        )


def _shapes(drawn: Element) -> Iterator[Shape]:
    name = drawn.get("label")
    if name is None:
        return  # a tag of the whole image, or what a later version adds
    if drawn.tag == "box":
        yield _box(name, drawn)
    elif drawn.tag == "polygon":
        yield outline(name, _points(drawn))
    elif drawn.tag == "points":
        yield from (mark(name, x, y) for x, y in _points(drawn))
    elif drawn.tag == "ellipse":
        cx, cy, rx, ry = _numbers(drawn, "cx", "cy", "rx", "ry")
        yield ellipse(name, (cx, cy), (rx, ry), float(drawn.get("rotation", 0)))
    elif drawn.tag == "mask":
        left, top, width, height = _numbers(drawn, "left", "top", "width", "height")
        yield box(name, [left, top, left + width, top + height])
    elif drawn.tag != "tag":
        yield nothing(name)


def _box(name: str, drawn: Element) -> Shape:
    left, top, right, bottom = _numbers(drawn, "xtl", "ytl", "xbr", "ybr")
    degrees = float(drawn.get("rotation", 0))
    if not degrees:
        return box(name, [left, top, right, bottom])
    middle = np.array([left + right, top + bottom]) / 2
    corners = np.array([(left, top), (right, top), (right, bottom), (left, bottom)])
    return outline(name, turn(corners - middle, degrees) + middle)


def _points(drawn: Element) -> list[tuple[float, float]]:
    pairs = (pair.split(",") for pair in drawn.attrib["points"].split(";") if pair)
    return [(float(x), float(y)) for x, y in pairs]


def _numbers(drawn: Element, *names: str) -> list[float]:
    return [float(drawn.attrib[name]) for name in names]
