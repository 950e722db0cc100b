"""Pascal VOC: one XML file an image.

A pixel's corners are counted from 1 and the last pixel belongs to the box (VOC 2012 development
kit, section 8), so that xmin = 1 and xmax = width is the whole image. Objects that are
``difficult`` are ignored, as in VOC's own evaluation.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from xml.etree.ElementTree import Element

from data.annotations.classes import UNCLASSIFIED
from data.annotations.drawing import Drawing, Shape, box, draw
from data.annotations.files import Content, own_name

SUFFIXES = (".xml",)


def matches(path: Path, content: Content) -> bool:
    """Whether a file is VOC's."""
    return isinstance(content, Element) and content.tag == "annotation"


def read(path: Path, content: Content) -> Iterator[Drawing]:
    """What the file draws on its image."""
    name = (content.findtext("filename") or "").strip() or own_name(path, SUFFIXES)
    size = tuple(float(content.findtext(f"size/{side}") or 0) for side in ("width", "height"))
    yield draw(name, [_shape(one) for one in content.iterfind("object")], size=(size[0], size[1]))


def _shape(drawn: Element) -> Shape:
    corners = {edge: drawn.findtext(f"bndbox/{edge}") for edge in ("xmin", "ymin", "xmax", "ymax")}
    missing = [edge for edge, text in corners.items() if text is None]
    if missing:
        raise ValueError(f"an object without {', '.join(missing)}")
    left, top, right, bottom = (float(text) for text in corners.values() if text is not None)
    name = (drawn.findtext("name") or "").strip() or UNCLASSIFIED
    crowd = (drawn.findtext("difficult") or "0").strip() == "1"
    return box(name, [left - 1, top - 1, right, bottom], crowd)
