"""ASAP's XML: annotations in level-0 pixels, grouped; the group is the class.

After the files of CAMELYON16 and ASAP's own writer (``XmlRepository.cpp``): types Polygon, Spline,
Rectangle, Dot and PointSet; an annotation in no group has ``PartOfGroup="None"``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from xml.etree.ElementTree import Element

from data.annotations.classes import UNCLASSIFIED
from data.annotations.drawing import Drawing, Shape, draw, mark, nothing, outline
from data.annotations.files import Content, own_name

SUFFIXES = (".xml",)


def matches(path: Path, content: Content) -> bool:
    """Whether a file is ASAP's."""
    return isinstance(content, Element) and content.tag == "ASAP_Annotations"


def read(path: Path, content: Content) -> Iterator[Drawing]:
    """What the file draws on the image of its name."""
    found = content.iterfind("Annotations/Annotation")
    yield draw(own_name(path, SUFFIXES), (shape for one in found for shape in _shapes(one)))


def _shapes(annotation: Element) -> Iterator[Shape]:
    group = annotation.get("PartOfGroup", "None")
    name = UNCLASSIFIED if group == "None" else group
    corners = annotation.findall("Coordinates/Coordinate")
    corners.sort(key=lambda corner: float(corner.attrib["Order"]))
    points = [(float(corner.attrib["X"]), float(corner.attrib["Y"])) for corner in corners]
    kind = annotation.attrib["Type"]
    if kind in ("Dot", "PointSet"):
        yield from (mark(name, x, y) for x, y in points)
    elif kind in ("Polygon", "Spline", "Rectangle"):
        yield outline(name, points)
    else:
        yield nothing(name)
