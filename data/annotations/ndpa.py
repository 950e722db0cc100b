"""Hamamatsu's NDPA: annotations in nanometres from the centre of the physical slide.

The scanned image lies off that centre by ``hamamatsu.X/YOffsetFromSlideCentre``, nanometres from
the slide's centre to the image's, x to the right and y downwards (B. Gilbert, openslide-users,
November 2014, "Nanozoomer annotation coordinate system to openslide pixels"). Hence, for each axis,

    px = (nm - offset) / (1000 * mpp) + size / 2

The name is that of the image with ``.ndpa`` behind it; the title of a view is the class. An outline
whose ends stayed apart by a quarter of what was drawn or less was meant to be closed; others are
lines.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from xml.etree.ElementTree import Element

import numpy as np
from numpy.typing import NDArray

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
from data.annotations.scaling import axis_mpp
from data.tables import number

SUFFIXES = (".ndpa",)

WIDEST_GAP = 0.25
"""Distance of the ends of an open outline, as a share of its length, up to which it is closed."""

_AXES = ("X", "Y")
_KINDS = {
    "freehand": "open lines",
    "linearmeasure": "rulers",
    "pointer": "arrows",
    "": "bare views",
}


def matches(path: Path, content: Content) -> bool:
    """Whether a file is NDP.view's."""
    is_xml = isinstance(content, Element) and content.tag == "annotations"
    return is_xml and (path.suffix.lower() == ".ndpa" or content.find("ndpviewstate") is not None)


def read(path: Path, content: Content) -> Iterator[Drawing]:
    """What the file draws on the slide of its name."""
    views = content.findall("ndpviewstate")
    yield draw(own_name(path, SUFFIXES), [_shape(view) for view in views], place=place)


def place(info: ImageInfo) -> Placement:
    """Scale and offset from nanometres to level-0 pixels.

    Raises:
        ConfigError: the slide doesn't say where its centre is, or its scale.
    """
    try:
        offset = [number(info.properties[f"hamamatsu.{a}OffsetFromSlideCentre"]) for a in _AXES]
    except ValueError as error:
        raise ConfigError(f"the slide's offset from its centre: {error}") from None
    except KeyError as error:
        raise ConfigError(
            f"NDPA counts from the slide's centre, but the image has no {error.args[0]}; "
            "give the NDPI itself"
        ) from None
    mpp = axis_mpp(info, info.mpp)
    if mpp is None:
        raise ConfigError("NDPA counts in nanometres, but the image has no µm per pixel")
    scale = 1 / (1000 * mpp)
    return scale, np.array([info.width, info.height]) / 2 - np.array(offset) * scale


def _shape(view: Element) -> Shape:
    unit = (view.findtext("coordformat") or "nanometers").strip()
    if unit.lower() not in ("nanometers", "nanometres"):
        raise ValueError(f"coordformat is {unit}, not nanometers")
    name = (view.findtext("title") or "").strip() or UNCLASSIFIED
    drawn, kind = view.find("annotation"), _kind(view)
    if drawn is None or _is_line(view):
        return nothing(name, _KINDS.get(kind, f"drawings of type {kind}"))
    if kind == "pin":
        return mark(name, *_point(drawn))
    if kind == "circle":
        radius = _number(drawn, "radius")
        return ellipse(name, _point(drawn), (radius, radius))
    shape = outline(name, _points(drawn))
    if not _is_open(view):
        return shape
    return shape.remarked(
        "outline-closed", "outlines drawn open, with their ends close, are closed"
    )


def _kind(view: Element) -> str:
    """The type of what a view shows."""
    drawn = view.find("annotation")
    return "" if drawn is None else (drawn.get("type") or "unknown").strip()


def _is_open(view: Element) -> bool:
    drawn = view.find("annotation")
    is_freehand = drawn is not None and _kind(view) == "freehand"
    return is_freehand and (drawn.findtext("closed") or "1").strip().lower() in ("0", "false")  # type: ignore[union-attr]


def _is_line(view: Element) -> bool:
    """Whether what a view shows encloses nothing."""
    drawn = view.find("annotation")
    if drawn is None or _kind(view) not in ("freehand", "circle", "pin"):
        return True
    if not _is_open(view):
        return False
    points = _points(drawn)
    if len(points) < 3:
        return True
    drawn_length = float(np.hypot(*np.diff(points, axis=0).T).sum())
    return float(np.hypot(*(points[-1] - points[0]))) > WIDEST_GAP * drawn_length


def _points(drawn: Element) -> NDArray[np.float64]:
    points = [_point(point) for point in drawn.iterfind("pointlist/point")]
    return np.array(points, np.float64).reshape(-1, 2)


def _point(element: Element) -> tuple[float, float]:
    return _number(element, "x"), _number(element, "y")


def _number(element: Element, tag: str) -> float:
    text = element.findtext(tag)
    if text is None:
        raise ValueError(f"<{element.tag}> without <{tag}>")
    try:
        return number(text)
    except ValueError as error:
        raise ValueError(f"<{tag}>: {error}") from error
