"""Aperio ImageScope's XML: layers (``Annotation``) of regions in level-0 pixels.

The class is a region's ``Text`` where it has one, else its layer's ``Name``. ``Type`` is 0 for
outlines, 1 for rectangles, 2 for ellipses, whose two vertices are corners of the box around them;
3 and above are arrows, rulers and the like. A region with ``NegativeROA="1"`` is cut out of the
analysis: it is to be ignored. HALO writes the same with ``Type="Polygon"``, and ``V`` for vertices.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from xml.etree.ElementTree import Element

from data.annotations.classes import UNCLASSIFIED
from data.annotations.drawing import Drawing, Shape, draw, nothing, outline
from data.annotations.files import Content, own_name

SUFFIXES = (".xml",)

_OUTLINES = {"0", "1", "2", "Polygon", "Rectangle", "Ellipse"}


def matches(path: Path, content: Content) -> bool:
    """Whether a file is ImageScope's."""
    return isinstance(content, Element) and content.tag == "Annotations"


def read(path: Path, content: Content) -> Iterator[Drawing]:
    """What the file draws on the image of its name."""
    layers = content.findall("Annotation")
    shapes = [_shape(one, layer) for layer in layers for one in layer.iterfind("Regions/Region")]
    mpp = float(content.get("MicronsPerPixel") or 0) or None
    yield draw(own_name(path, SUFFIXES), shapes, mpp=mpp)


def _shape(region: Element, layer: Element) -> Shape:
    name = region.get("Text") or layer.get("Name") or UNCLASSIFIED
    if region.get("Type", "0") not in _OUTLINES:
        return nothing(name)
    vertices = [*region.iterfind("Vertices/Vertex"), *region.iterfind("Vertices/V")]
    corners = [(float(vertex.attrib["X"]), float(vertex.attrib["Y"])) for vertex in vertices]
    return outline(name, corners, crowd=region.get("NegativeROA") == "1")
