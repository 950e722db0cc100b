"""ASAP's XML: annotations in level-0 pixels, grouped; the group is the class.

After the files of CAMELYON16 and ASAP's own writer (``XmlRepository.cpp``): types Polygon, Spline,
Rectangle, Dot and PointSet; an annotation in no group has ``PartOfGroup="None"``. ASAP shows all of
a slide, whatever its bounds.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from xml.etree.ElementTree import Element

import numpy as np
from numpy.typing import NDArray

from data.annotations.classes import UNCLASSIFIED
from data.annotations.drawing import Drawing, Shape, draw, mark, nothing, outline
from data.annotations.files import Content, own_name
from data.tables import number, numbers

SUFFIXES = (".xml",)

_OUTLINES, _MARKS = ("polygon", "spline", "rectangle"), ("dot", "pointset")


def matches(path: Path, content: Content) -> bool:
    """Whether a file is ASAP's."""
    return isinstance(content, Element) and content.tag == "ASAP_Annotations"


def read(path: Path, content: Content) -> Iterator[Drawing]:
    """What the file draws on the image of its name."""
    found = content.iterfind("Annotations/Annotation")
    yield draw(own_name(path, SUFFIXES), (shape for one in found for shape in _shapes(one)))


def _kind(annotation: Element) -> str:
    return annotation.attrib["Type"].strip().lower()


def _shapes(annotation: Element) -> Iterator[Shape]:
    group = (annotation.get("PartOfGroup") or "None").strip()
    name = UNCLASSIFIED if group == "None" else group
    kind = _kind(annotation)
    if kind in _MARKS:
        yield from (mark(name, *point) for point in _points(annotation))
    elif kind in _OUTLINES:
        yield outline(name, _points(annotation))
    else:
        yield nothing(name, f"annotations of type {kind}")


def _points(annotation: Element) -> NDArray[np.float64]:
    """Corners (K, 2) in their order."""
    try:
        corners = annotation.findall("Coordinates/Coordinate")
        corners.sort(key=lambda corner: number(corner.attrib["Order"]))
        texts = [corner.attrib[axis].strip() for corner in corners for axis in ("X", "Y")]
        return np.array(numbers(texts), np.float64).reshape(-1, 2)
    except ValueError as error:
        raise ValueError(f"annotation {annotation.get('Name', '')}: {error}") from error
