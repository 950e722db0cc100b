"""Pascal VOC: one XML file an image.

A pixel's corners are counted from 1 and the last pixel belongs to the box (VOC 2012 development
kit, section 8), so that xmin = 1 and xmax = width is the whole image. Objects that are
``difficult`` are ignored, as in VOC's own evaluation. An object without a box may have a turned one
(``robndbox``, as roLabelImg writes it: middle, extent, radians) or a ``polygon``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from xml.etree.ElementTree import Element

import numpy as np

from data.annotations.classes import UNCLASSIFIED
from data.annotations.drawing import DIFFICULT, Drawing, Shape, box, draw, outline, turn
from data.annotations.files import Content, own_name
from data.annotations.values import as_number, shown

SUFFIXES = (".xml",)

_YES, _NO = {"1", "true", "yes"}, {"", "0", "false", "no"}


def matches(path: Path, content: Content) -> bool:
    """Whether a file is VOC's."""
    return isinstance(content, Element) and content.tag == "annotation"


def read(path: Path, content: Content) -> Iterator[Drawing]:
    """What the file draws on its image."""
    own = own_name(path, SUFFIXES)
    yield draw(
        (content.findtext("filename") or "").strip() or own,
        [_shape(one, f"object {n}") for n, one in enumerate(content.iterfind("object"), 1)],
        size=(_side(content, "width"), _side(content, "height")),
        own_name=own,
    )


def _side(content: Element, side: str) -> float:
    return as_number((content.findtext(f"size/{side}") or "0").strip() or "0", f"size/{side}")


def _shape(drawn: Element, what: str) -> Shape:
    name = (drawn.findtext("name") or "").strip() or UNCLASSIFIED
    shape = _outlined(drawn, name, what)
    if drawn.find("part") is not None:
        shape = shape.remarked("shapes-left-out", "parts within objects are no cells of their own")
    return _rated(shape, drawn)


def _outlined(drawn: Element, name: str, what: str) -> Shape:
    if drawn.find("bndbox") is not None:
        return _box(drawn, name, what)
    if drawn.find("robndbox") is not None:
        return _turned(drawn, name, what)
    if (polygon := drawn.find("polygon")) is not None:
        return _polygon(polygon, name, what)
    raise ValueError(f"{what} ({name}) has no bndbox")


def _box(drawn: Element, name: str, what: str) -> Shape:
    left, top, right, bottom = _numbers(
        drawn, "bndbox", ("xmin", "ymin", "xmax", "ymax"), f"{what} ({name})"
    )
    (x0, x1), (y0, y1) = sorted((left, right)), sorted((top, bottom))
    shape = box(name, [x0 - 1, y0 - 1, x1, y1])
    if (x0, y0) != (left, top):
        shape = shape.remarked(
            "corners-swapped", "boxes whose maximum is less than their minimum are turned round"
        )
    if min(x0, y0) == 0:
        shape = shape.remarked(
            "counted-from-zero",
            "boxes with a corner at 0 are read as VOC's, which counts pixels from 1",
        )
    return shape


def _turned(drawn: Element, name: str, what: str) -> Shape:
    x, y, width, height, angle = _numbers(
        drawn, "robndbox", ("cx", "cy", "w", "h", "angle"), f"{what} ({name})"
    )
    half = np.array([[-width, -height], [width, -height], [width, height], [-width, height]]) / 2
    return outline(name, turn(half, float(np.degrees(angle))) + np.array([x, y]))


def _polygon(polygon: Element, name: str, what: str) -> Shape:
    """Corners x1, y1, x2, y2, …, each an element."""
    values = [
        (child.tag, as_number((child.text or "").strip(), f"{child.tag} of {what}"))
        for child in polygon
    ]
    xs = [value for tag, value in values if tag.startswith("x")]
    ys = [value for tag, value in values if tag.startswith("y")]
    if len(xs) != len(ys) or len(xs) < 3:
        raise ValueError(f"the polygon of {what} ({name}) has {len(xs)} x and {len(ys)} y")
    return outline(name, np.column_stack([xs, ys]))


def _numbers(drawn: Element, tag: str, keys: tuple[str, ...], what: str) -> list[float]:
    texts = {key: drawn.findtext(f"{tag}/{key}") for key in keys}
    missing = [key for key, text in texts.items() if text is None or not text.strip()]
    if missing:
        raise ValueError(f"{what}: {tag} without {', '.join(missing)}")
    return [as_number((text or "").strip(), f"{key} of {what}") for key, text in texts.items()]


def _rated(shape: Shape, drawn: Element) -> Shape:
    """A shape that is ignored where the file calls it difficult."""
    word = (drawn.findtext("difficult") or "").strip()
    if word.casefold() in _YES:
        return shape.ignored(DIFFICULT)
    if word.casefold() in _NO:
        return shape
    return shape.remarked(
        "difficult-unclear", f"objects with difficult = {shown(word)} are taken as not difficult"
    )
