"""Aperio ImageScope's XML: layers (``Annotation``) of regions in level-0 pixels.

The class is a region's ``Text`` where it has one, else its layer's ``Name`` or description.
``Type`` is 0 for outlines, 1 for rectangles, 2 for ellipses; where there are two vertices, they are
corners of the box around it. 3 and above are arrows, rulers and the like. A region with
``NegativeROA="1"`` is a hole of the regions of its layer that it lies in; elsewhere it is cut out
of the analysis: to be ignored. HALO writes the same with ``Type="Polygon"``, and ``V`` for
vertices.

``MicronsPerPixel`` is what ImageScope knew of the slide, 1 where it knew nothing: the slide's own
scale goes before it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree.ElementTree import Element

import numpy as np
from numpy.typing import NDArray

from data.annotations.classes import UNCLASSIFIED
from data.annotations.drawing import (
    Drawing,
    Remark,
    Shape,
    draw,
    ellipse_corners,
    nothing,
    outline,
    rectangle,
)
from data.annotations.files import Content, own_name
from data.tables import number, numbers

SUFFIXES = (".xml", ".annotations")

UNKNOWN_MPP = 1.0
"""What ImageScope writes for images whose scale it doesn't know."""

_OUTLINES = {"0", "1", "2", "polygon", "rectangle", "ellipse"}
_ELLIPSES = {"2", "ellipse"}
_KINDS = {"3": "arrows", "4": "rulers"}


def matches(path: Path, content: Content) -> bool:
    """Whether a file is ImageScope's."""
    return isinstance(content, Element) and content.tag == "Annotations"


def read(path: Path, content: Content) -> Iterator[Drawing]:
    """What the file draws on the image of its name."""
    regions = [_region(one, layer, place) for layer, place, one in _regions(content)]
    mpp = _mpp(content.get("MicronsPerPixel") or "")
    remarks = list(_remarks(regions))
    if mpp == UNKNOWN_MPP:
        text = "MicronsPerPixel is 1, which stands for unknown; it is not used"
        remarks.append(Remark("annotation-mpp", text))
    yield draw(
        own_name(path, SUFFIXES),
        _with_holes(regions),
        mpp=None if mpp == UNKNOWN_MPP else mpp,
        mpp_by_the_way=True,
        remarks=remarks,
    )


@dataclass(frozen=True)
class _Region:
    """A region as it is written.

    Attributes:
        layer: the number of its layer.
        name: its class.
        has_text: whether that is its own text, though its layer has a name.
        kind: its type.
        corners: (K, 2), none for what encloses nothing.
        negative: whether it is cut out.
    """

    layer: int
    name: str
    has_text: bool
    kind: str
    corners: NDArray[np.float64]
    negative: bool

    def holds(self, other: _Region) -> bool:
        """Whether another one is a hole of this, as it lies within its box."""
        if self.layer != other.layer or self.negative or not len(self.corners):
            return False
        low, high = self.corners.min(0), self.corners.max(0)
        return bool(((other.corners >= low) & (other.corners <= high)).all())


def _regions(root: Element) -> Iterator[tuple[Element, int, Element]]:
    for place, layer in enumerate(root.findall("Annotation")):
        for region in layer.iterfind("Regions/Region"):
            yield layer, place, region


def _region(region: Element, layer: Element, place: int) -> _Region:
    text, of_layer = (region.get("Text") or "").strip(), _name_of(layer)
    kind = (region.get("Type") or "0").strip().lower()
    return _Region(
        layer=place,
        name=text or of_layer or UNCLASSIFIED,
        has_text=bool(text and of_layer and text != of_layer),
        kind=kind,
        corners=_corners(region, kind) if kind in _OUTLINES else np.zeros((0, 2)),
        negative=(region.get("NegativeROA") or "0").strip().lower() in ("1", "true"),
    )


def _name_of(layer: Element) -> str:
    """A layer's name; ImageScope asks for a description, which older versions keep beside it."""
    name = (layer.get("Name") or "").strip()
    described = layer.find("Attributes/Attribute[@Name='Description']")
    return name or ("" if described is None else (described.get("Value") or "").strip())


def _corners(region: Element, kind: str) -> NDArray[np.float64]:
    vertices = [*region.iterfind("Vertices/Vertex"), *region.iterfind("Vertices/V")]
    texts = [vertex.attrib[axis].strip() for vertex in vertices for axis in ("X", "Y")]
    try:
        corners = np.array(numbers(texts), np.float64).reshape(-1, 2)
    except ValueError as error:
        raise ValueError(f"region {region.get('Id', '')}: {error}") from error
    if len(corners) == 2 and kind in _ELLIPSES:
        return ellipse_corners((corners[1] - corners[0]) / 2) + corners.mean(0)
    return rectangle(corners) if len(corners) == 2 else corners


def _mpp(text: str) -> float | None:
    """µm per pixel as it stands there; some locales write a comma."""
    if not text.strip():
        return None
    try:
        return number(text, "," if "," in text else ".") or None
    except ValueError as error:
        raise ValueError(f"MicronsPerPixel: {error}") from error


def _with_holes(regions: Sequence[_Region]) -> Iterator[Shape]:
    """Regions as shapes, each with its holes; what lies in none is to be ignored."""
    holes: dict[int, list[NDArray[np.float64]]] = {}
    inside = set()
    for number_, region in enumerate(regions):
        if region.negative and len(region.corners):
            holders = [i for i, other in enumerate(regions) if other.holds(region)]
            if holders:
                inside.add(number_)
            for holder in holders:
                holes.setdefault(holder, []).append(region.corners)
    for number_, region in enumerate(regions):
        if number_ in inside:
            continue
        if not len(region.corners):
            yield nothing(region.name, _KINDS.get(region.kind, f"regions of type {region.kind}"))
        else:
            rings = (region.corners, *holes.get(number_, []))
            yield outline(region.name, *rings, crowd=region.negative)


def _remarks(regions: Sequence[_Region]) -> Iterator[Remark]:
    drawn = [region for region in regions if len(region.corners) and not region.negative]
    layers = {region.layer for region in drawn if not region.has_text}
    mixed = [region for region in drawn if region.has_text and region.layer in layers]
    for region in mixed:
        text = f"regions beside others of their layer are called {region.name!r} by their own text"
        yield Remark("text-as-class", text)
