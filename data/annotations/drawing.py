"""What an annotation file draws on one image, before anything is decided about it."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from data.annotations.classes import UNCLASSIFIED
from data.annotations.images import ImageInfo

Outline = tuple[NDArray[np.float64], ...]
"""Rings of corners (K, 2); inside is what an odd number of them surrounds, so holes are rings."""

Placement = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Scale (2,) and offset (2,) that turn a file's coordinates into pixels: p * scale + offset."""

Frame = Literal["slide", "bounds"]
"""Where (0, 0) is: the corner of level 0, or of the part that was scanned, as QuPath has it."""

CORNERS_OF_AN_ELLIPSE = 32

CROWD, DIFFICULT, EXCLUDED = "crowd", "difficult", "excluded"
"""Why a file wants a shape to be ignored: many cells at once; too hard; no part of the analysis."""

NEGATIVE = "boxes with a negative width or height are measured from their far corner"

_LARGEST = 10_000_000
"""Pixels along a side beyond which there is no image."""


_FARTHEST = 1e12
"""Coordinates, in pixels or nm, beyond which there is no slide."""


class Remark(NamedTuple):
    """Something odd about a shape or an image, and the rule by which it was settled.

    Attributes:
        code: of `configs.doubts`.
        text: what is told, before how often it happened.
    """

    code: str
    text: str


class Shape(NamedTuple):
    """Something drawn.

    Attributes:
        name: its class, as the file calls it.
        rings: its outline; one ring of two corners is a box, of one corner a mark; none: a line,
            an arrow or whatever else can be no cell.
        crowd: whether the file says that it is to be ignored.
        nucleus: x, y, where the file says where it is.
        kind: what it is, of one that can be no cell.
        why: why it is to be ignored, if it is.
        remarks: what was odd about it.
    """

    name: str
    rings: Outline
    crowd: bool = False
    nucleus: ArrayLike | None = None
    kind: str = ""
    why: str = EXCLUDED
    remarks: tuple[Remark, ...] = ()

    def ignored(self, why: str) -> Shape:
        """The same shape, to be ignored for a reason."""
        return self._replace(crowd=True, why=why)

    def remarked(self, code: str, text: str) -> Shape:
        """The same shape with a remark."""
        return self._replace(remarks=(*self.remarks, Remark(code, text)))


@dataclass(frozen=True)
class Drawing:
    """Everything drawn on one image, in the file's own coordinates.

    Attributes:
        image: the image's name or path as the file gives it, else the file's own name.
        names: (N,) classes as the file calls them.
        boxes: (N, 4) float64 xyxy; a mark is a box without extent.
        nuclei: (N, 2) float64.
        marks: (N,) bool, single points.
        crowd: (N,) bool, what the file itself wants ignored.
        outlines: of the shapes that are more than a box, by their index.
        whys: (N,) why each is to be ignored, if it is.
        left_out: how many shapes of each kind can be no cell, such as lines.
        remarks: what was odd, and how often.
        own_name: the image that the file's own name means, where that may do for the one it names.
        size: width and height in pixels, where the file says.
        mpp: µm per unit of the coordinates, where the file says.
        mark_um: side in µm of the box that a mark stands for, where the format says.
        place: for coordinates that aren't pixels, turns the image's facts into their placement.
        declared: classes that the file lists, whether drawn or not, in its order.
        slide, patient: whose image it is, where the file says.
        frame: where the coordinates begin on a slide that has bounds.
        in_um: whether the coordinates are µm, not pixels.
        mpp_by_the_way: whether ``mpp`` is the drawing tool's, not a statement about the image.
    """

    image: str
    names: tuple[str, ...]
    boxes: NDArray[np.float64]
    nuclei: NDArray[np.float64]
    marks: NDArray[np.bool_]
    crowd: NDArray[np.bool_]
    outlines: dict[int, Outline] = field(default_factory=dict)
    whys: tuple[str, ...] = ()
    left_out: Mapping[str, int] = field(default_factory=dict)
    remarks: Mapping[Remark, int] = field(default_factory=dict)
    own_name: str = ""
    size: tuple[int, int] | None = None
    mpp: float | None = None
    mark_um: float | None = None
    place: Callable[[ImageInfo], Placement] | None = None
    declared: tuple[str, ...] = ()
    slide: str = ""
    patient: str = ""
    frame: Frame = "slide"
    in_um: bool = False
    mpp_by_the_way: bool = False

    def is_ignored(self, crowds_are_cells: bool) -> NDArray[np.bool_]:
        """Which shapes (N,) the file wants ignored; crowds, where they are cells, it doesn't."""
        if not crowds_are_cells:
            return self.crowd
        return self.crowd & (np.array(self.whys, object) != CROWD)


def draw(
    image: str,
    shapes: Iterable[Shape],
    *,
    size: tuple[float, float] | None = None,
    mpp: float | None = None,
    mark_um: float | None = None,
    place: Callable[[ImageInfo], Placement] | None = None,
    declared: tuple[str, ...] = (),
    slide: str = "",
    patient: str = "",
    own_name: str = "",
    remarks: Iterable[Remark] = (),
    frame: Frame = "slide",
    in_um: bool = False,
    mpp_by_the_way: bool = False,
) -> Drawing:
    """Packs shapes into arrays; see `Drawing` for the arguments.

    Raises:
        ValueError: a coordinate, the size or the mpp is no sensible number.
    """
    shapes = list(shapes)
    drawn = [shape for shape in shapes if shape.rings]
    ends = [
        np.concatenate([r.min(0), r.max(0)]) for r in map(np.concatenate, (s.rings for s in drawn))
    ]
    boxes = np.array(ends, np.float64).reshape(-1, 4)
    nuclei = [
        box.reshape(2, 2).mean(0) if shape.nucleus is None else shape.nucleus
        for shape, box in zip(drawn, boxes, strict=True)
    ]
    drawing = Drawing(
        image=image,
        names=tuple(clean_name(shape.name) for shape in drawn),
        boxes=boxes,
        nuclei=np.array(nuclei, np.float64).reshape(len(drawn), 2),
        marks=np.array([len(shape.rings[0]) == 1 for shape in drawn], bool),
        crowd=np.array([shape.crowd for shape in drawn], bool),
        outlines={i: s.rings for i, s in enumerate(drawn) if len(s.rings[0]) > 2},
        whys=tuple(shape.why for shape in drawn),
        left_out=Counter(shape.kind for shape in shapes if not shape.rings),
        remarks=Counter(remark for s in shapes for remark in s.remarks) + Counter(remarks),
        own_name=own_name,
        size=_whole(size),
        mpp=mpp,
        mark_um=mark_um,
        place=place,
        declared=tuple(map(clean_name, declared)),
        slide=slide,
        patient=patient,
        frame=frame,
        in_um=in_um,
        mpp_by_the_way=mpp_by_the_way,
    )
    _check(drawing)
    return drawing


def box(name: str, corners: ArrayLike, crowd: bool = False, nucleus: object = None) -> Shape:
    """A box from any two opposite corners: (2, 2), or four numbers."""
    return Shape(name, (np.array(corners, np.float64).reshape(2, 2),), crowd, nucleus)  # type: ignore[arg-type]


def mark(name: str, x: float, y: float) -> Shape:
    """A point set on a cell."""
    return Shape(name, (np.array([[x, y]], np.float64),))


def outline(name: str, *rings: ArrayLike, crowd: bool = False) -> Shape:
    """A closed outline (K, 2), or one or two corners of a box, then its holes or further parts."""
    arrays = tuple(np.array(ring, np.float64).reshape(-1, 2) for ring in rings if len(ring))  # type: ignore[arg-type]
    if not arrays or len(arrays[0]) > 2:
        return Shape(name, arrays, crowd)
    whole, *parts = arrays
    if parts:
        return Shape(name, (rectangle(whole), *parts), crowd)
    return box(name, [whole.min(0), whole.max(0)], crowd)


def rectangle(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """The four corners (4, 2) of the box around points (K, 2)."""
    (left, top), (right, bottom) = points.min(0), points.max(0)
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom]])


def ellipse(name: str, center: ArrayLike, radii: ArrayLike, degrees: float = 0.0) -> Shape:
    """An ellipse, turned clockwise about its centre."""
    return outline(name, turn(ellipse_corners(radii), degrees) + np.asarray(center))


def ellipse_corners(radii: ArrayLike) -> NDArray[np.float64]:
    """Corners (K, 2) of an ellipse about the origin."""
    angles = np.linspace(0, 2 * np.pi, CORNERS_OF_AN_ELLIPSE, endpoint=False)
    return np.column_stack([np.cos(angles), np.sin(angles)]) * np.asarray(radii)


def turn(corners: NDArray[np.float64], degrees: float) -> NDArray[np.float64]:
    """Corners (K, 2) turned clockwise, as seen with y pointing down, about the origin."""
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return corners @ np.array([[cos, sin], [-sin, cos]])


def nothing(name: str, kind: str = "lines") -> Shape:
    """A line, an arrow, a ruler: drawn, yet no cell."""
    return Shape(name, (), kind=kind)


def clean_name(name: str) -> str:
    """A class's name with letters composed, as letters that look the same are."""
    return unicodedata.normalize("NFC", name).strip() or UNCLASSIFIED


def _whole(size: tuple[float, float] | None) -> tuple[int, int] | None:
    """A size as integers; some tools write 0 where they don't know it."""
    if size is None or not all(size):
        return None
    if not all(float(side).is_integer() and abs(side) <= _LARGEST for side in size):
        raise ValueError(f"an image of {size[0]}x{size[1]} pixels")
    return int(size[0]), int(size[1])


def _check(drawing: Drawing) -> None:
    if not (np.isfinite(drawing.boxes).all() and np.isfinite(drawing.nuclei).all()):
        raise ValueError("a coordinate is not a finite number")
    if len(drawing.boxes) and np.abs(drawing.boxes).max() > _FARTHEST:
        raise ValueError(f"a coordinate is {np.abs(drawing.boxes).max():g}, no place on an image")
    if drawing.size and min(drawing.size) < 1:
        raise ValueError(f"an image of {drawing.size[0]}x{drawing.size[1]} pixels")
    if drawing.mpp is not None and not 0 < drawing.mpp < float("inf"):
        raise ValueError(f"mpp is {drawing.mpp}")
