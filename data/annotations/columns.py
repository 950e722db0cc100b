"""What the columns of a table mean: by their names, never by their order.

Names are compared without case and signs (``X min`` is ``x_min``). A unit may stand behind:
``Centroid X µm``, ``x_um``, ``x_px``. Where a cell is, is told by one of

- two corners (`left`, `top`, `right`, `bottom` below);
- a corner with width and height; ``x`` and ``y`` with width and height are taken for one;
- the centre with width and height;
- ``bbox``, a text ``[x, y, width, height]``, as COCO and Kaggle have it;
- a point with a radius or diameter;
- a point alone, which stands for a box of one size.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

Kind = Literal[
    "corners", "corner", "assumed corner", "centre", "text", "radius", "diameter", "point"
]

PLACES = {
    "left": "xmin minx left x0 x1 xtl upperleftx bboxxmin bboxx1 bboxleft",
    "top": "ymin miny top y0 y1 ytl upperlefty bboxymin bboxy1 bboxtop",
    "right": "xmax maxx right x2 xbr lowerrightx bboxxmax bboxx2 bboxright",
    "bottom": "ymax maxy bottom y2 ybr lowerrighty bboxymax bboxy2 bboxbottom",
    "x_center": "xcenter xcentre centerx centrex xcentroid centroidx cx xc xmid midx",
    "y_center": "ycenter ycentre centery centrey ycentroid centroidy cy yc ymid midy",
    "x": "x xpos posx xcoord coordx xcoordinate bboxx",
    "y": "y ypos posy ycoord coordy ycoordinate bboxy",
    "nucleus_x": "nucleusx xnucleus",
    "nucleus_y": "nucleusy ynucleus",
    "width": "width w boxwidth bboxwidth bboxw",
    "height": "height h boxheight bboxheight bboxh",
    "radius": "radius r",
    "diameter": "diameter",
    "bbox": "bbox boundingbox box",
    "further corner": "x3 y3",
}
"""Names of columns that say where a cell is, by their meaning, without signs and units."""

OTHERS = {
    "image": "image imagename imagefilename imagepath imageid imagefile filename file path "
    "filepath img imgname slidename",
    "slide": "slide slideid wsi",
    "patient": "patient patientid case caseid",
    "class": "class classname classification label labelname category categoryname bethesda "
    "celltype name",
    "image_width": "imagewidth imgwidth imagew imgw slidewidth",
    "image_height": "imageheight imgheight imageh imgh slideheight",
    "mpp": "mpp micronsperpixel",
    "object_type": "objecttype",
    "roi": "roi",
    "object_id": "objectid",
    "parent": "parent",
}
"""Names of the other columns, by their meaning; where several are there, the first holds."""

KINDS: tuple[tuple[Kind, tuple[str, ...]], ...] = (
    ("corners", ("left", "top", "right", "bottom")),
    ("corner", ("left", "top", "width", "height")),
    ("centre", ("x_center", "y_center", "width", "height")),
    ("assumed corner", ("x", "y", "width", "height")),
    ("text", ("bbox",)),
    ("radius", ("x_center", "y_center", "radius")),
    ("radius", ("x", "y", "radius")),
    ("diameter", ("x_center", "y_center", "diameter")),
    ("diameter", ("x", "y", "diameter")),
    ("point", ("x_center", "y_center")),
    ("point", ("x", "y")),
    ("point", ("nucleus_x", "nucleus_y")),
)
"""What places are told by, in the order in which it is looked for."""

_UNITS = re.compile(r"(.+?)(μm|um|microns?|micromet(?:er|re)s?|px|pixels?)")
_BY_NAME = {
    name: meaning for table in (PLACES, OTHERS) for meaning, names in table.items()
    for name in names.split()
}  # fmt: skip
_ORDER = {name: i for i, name in enumerate(_BY_NAME)}
_VIA = "regionshapeattributes"  # VGG Image Annotator's own table


class Column(NamedTuple):
    """A column that is known.

    Attributes:
        meaning: a key of `PLACES` or `OTHERS`.
        number: of the column, from 0.
        in_um: whether it is in µm, not pixels.
    """

    meaning: str
    number: int
    in_um: bool


@dataclass(frozen=True)
class Columns:
    """What a header means.

    Attributes:
        header: the names as they are.
        known: the columns that are known; of one meaning the first is the one that holds.
        kind: how places are told.
        places: meanings of the columns that tell them.
        in_um: whether these are in µm.
    """

    header: tuple[str, ...]
    known: tuple[Column, ...]
    kind: Kind
    places: tuple[str, ...]
    in_um: bool

    def all_of(self, meaning: str) -> list[int]:
        """Columns of a meaning; of a place only those in the unit that holds."""
        return [
            column.number
            for column in self.known
            if column.meaning == meaning and (meaning in OTHERS or column.in_um == self.in_um)
        ]

    def first(self, meaning: str) -> int | None:
        """The column that holds for a meaning, if there is one."""
        return next(iter(self.all_of(meaning)), None)

    @property
    def is_qupath(self) -> bool:
        """Whether it is QuPath's table of measurements."""
        there = {column.meaning for column in self.known}
        return self.places == ("x_center", "y_center") and (
            {"image", "object_id"} <= there or {"image", "parent", "roi"} <= there
        )


def names_places(header: Sequence[str]) -> bool:
    """Whether a header is of a table of cells, which may yet lack a column."""
    if _VIA in map(_plain, header):
        return False
    meanings = {column.meaning for column in _known(header)}
    there = meanings & (set(PLACES) - {"width", "height"})
    return bool(there) and (_kind(meanings) is not None or bool(meanings & {"image", "class"}))


def understand(header: Sequence[str]) -> Columns:
    """What a header means.

    Raises:
        ValueError: it names no place whole, or mixes units; names the columns.
    """
    known = _known(header)
    for in_um in (False, True):
        there = {c.meaning for c in known if c.in_um == in_um and c.meaning in PLACES}
        found = _kind(there)
        if found is None:
            continue
        kind, places = found
        if "further corner" in there:
            raise ValueError(f"{_shown(header)}: outlines of more than two corners aren't read")
        extents = {c.meaning for c in known} & {"width", "height", "radius", "diameter"}
        if kind == "point" and extents and not in_um:
            raise ValueError(
                f"{_shown(header)}: there is a point, and {' and '.join(sorted(extents))} that "
                "don't belong to it; give both in pixels, or both in µm, or neither"
            )
        return Columns(tuple(header), known, kind, places, in_um)
    needed = "; ".join(", ".join(places) for _, places in KINDS[:3])
    raise ValueError(
        f"the columns {_shown(header)} don't tell where a cell is; needed are {needed}; bbox; or "
        "x, y for points"
    )


def _kind(there: set[str]) -> tuple[Kind, tuple[str, ...]] | None:
    return next(((kind, places) for kind, places in KINDS if set(places) <= there), None)


def _known(header: Sequence[str]) -> tuple[Column, ...]:
    """The columns that are known, those of one meaning in the order of their names above."""
    names = [_plain(name) for name in header]
    found = []
    for number, name in enumerate(names):
        with_unit = _UNITS.fullmatch(name)
        in_um = False
        if name not in _BY_NAME and with_unit:
            name, in_um = with_unit[1], not with_unit[2].startswith("p")
        if name in _BY_NAME:
            found.append((_ORDER[name], Column(_meaning(name, names), number, in_um)))
    return tuple(column for _, column in sorted(found))


def _meaning(name: str, names: list[str]) -> str:
    """x1 is the left side beside x2, the right one beside x0."""
    if name in ("x1", "y1") and f"{name[0]}0" in names:
        return {"x1": "right", "y1": "bottom"}[name]
    return _BY_NAME[name]


def _plain(name: str) -> str:
    return re.sub(r"[\W_]", "", unicodedata.normalize("NFKC", name).lower())


def _shown(header: Sequence[str]) -> str:
    return ", ".join(name for name in header if name)[:300]
