"""Hamamatsu's NDPA: annotations in nanometres from the centre of the physical slide.

The scanned image lies off that centre by ``hamamatsu.X/YOffsetFromSlideCentre``, nanometres from
the slide's centre to the image's, x to the right and y downwards (B. Gilbert, openslide-users,
November 2014, "Nanozoomer annotation coordinate system to openslide pixels"). Hence, for each axis,

    px = (nm - offset) / (1000 * mpp) + size / 2

The name is that of the image with ``.ndpa`` behind it; the title of a view is the class.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from xml.etree.ElementTree import Element

import numpy as np

from configs import ConfigError
from data.annotations.classes import UNCLASSIFIED
from data.annotations.drawing import (
    Drawing,
    Placement,
    Shape,
    draw,
    ellipse,
    mark,
    nothing,
    outline,
)
from data.annotations.files import Content, own_name
from data.annotations.images import ImageInfo

SUFFIXES = (".ndpa",)

_AXES = ("X", "Y")


def matches(path: Path, content: Content) -> bool:
    """Whether a file is NDP.view's."""
    is_xml = isinstance(content, Element) and content.tag == "annotations"
    return is_xml and (path.suffix.lower() == ".ndpa" or content.find("ndpviewstate") is not None)


def read(path: Path, content: Content) -> Iterator[Drawing]:
    """What the file draws on the slide of its name."""
    shapes = [_shape(view) for view in content.iterfind("ndpviewstate")]
    yield draw(own_name(path, SUFFIXES), shapes, place=place)


def place(info: ImageInfo) -> Placement:
    """Scale and offset from nanometres to level-0 pixels.

    Raises:
        ConfigError: the slide doesn't say where its centre is, or its scale.
    """
    try:
        offset = [float(info.properties[f"hamamatsu.{a}OffsetFromSlideCentre"]) for a in _AXES]
    except KeyError as error:
        raise ConfigError(
            f"NDPA counts from the slide's centre, but the image has no {error.args[0]}; "
            "give the NDPI itself"
        ) from None
    mpp = [info.properties.get(f"openslide.mpp-{axis.lower()}", info.mpp) for axis in _AXES]
    if None in mpp:
        raise ConfigError("NDPA counts in nanometres, but the image has no µm per pixel")
    scale = 1 / (1000 * np.array(mpp, np.float64))
    return scale, np.array([info.width, info.height]) / 2 - np.array(offset) * scale


def _shape(view: Element) -> Shape:
    unit = (view.findtext("coordformat") or "nanometers").strip()
    if unit != "nanometers":
        raise ValueError(f"coordformat is {unit}, not nanometers")
    name = (view.findtext("title") or "").strip() or UNCLASSIFIED
    drawn = view.find("annotation")
    kind = "" if drawn is None else drawn.get("type")
    if drawn is None or kind not in ("freehand", "circle", "pin"):
        return nothing(name)
    if kind == "pin":
        return mark(name, *_point(drawn))
    if kind == "circle":
        radius = _number(drawn, "radius")
        return ellipse(name, _point(drawn), (radius, radius))
    if drawn.findtext("closed", "1").strip() == "0":
        return nothing(name)
    return outline(name, [_point(point) for point in drawn.iterfind("pointlist/point")])


def _point(element: Element) -> tuple[float, float]:
    return _number(element, "x"), _number(element, "y")


def _number(element: Element, tag: str) -> float:
    text = element.findtext(tag)
    if text is None:
        raise ValueError(f"<{element.tag}> without <{tag}>")
    return float(text)
