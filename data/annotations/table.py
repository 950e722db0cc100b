"""CSV with a header, a cell a row: boxes, or points that stand for boxes of one size.

Columns are known by several names, whatever their case and signs (``x_min``, ``Xmin``, ``left``):
the image, the class, and either two corners, or a corner with width and height, or a point.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping
from itertools import groupby
from pathlib import Path

from data.annotations.classes import UNCLASSIFIED
from data.annotations.drawing import Drawing, Shape, box, draw, mark
from data.annotations.files import Content, own_name

SUFFIXES = (".csv", ".tsv")

_COLUMNS = {
    "image": (
        "image",
        "imagename",
        "imagefilename",
        "imagepath",
        "filename",
        "file",
        "path",
        "slide",
    ),
    "class": ("class", "classname", "label", "name", "category", "classification"),
    "left": ("xmin", "x1", "left", "x0"),
    "top": ("ymin", "y1", "top", "y0"),
    "right": ("xmax", "x2", "right"),
    "bottom": ("ymax", "y2", "bottom"),
    "x": ("x", "xcenter", "xcentre", "centerx", "centrex", "xpx", "nucleusx"),
    "y": ("y", "ycenter", "ycentre", "centery", "centrey", "ypx", "nucleusy"),
    "width": ("width", "w"),
    "height": ("height", "h"),
    "mpp": ("mpp",),
}
_CORNERS, _EXTENT, _POINT = ("left", "top", "right", "bottom"), ("x", "y", "width", "height"), "xy"

Row = Mapping[str, str]


def matches(path: Path, content: Content) -> bool:
    """Whether the header names places."""
    if not isinstance(content, str) or path.suffix.lower() not in SUFFIXES:
        return False
    return _kind(_columns(_header(content))) is not None


def read(path: Path, content: Content) -> Iterator[Drawing]:
    """What the file draws, image by image; without a column for it, on the image of its name."""
    header = _header(content)
    columns = _columns(header)
    kind = _kind(columns)
    if kind is None:
        raise ValueError(f"the header has no box and no point: {', '.join(header)}")
    own = own_name(path, SUFFIXES)
    rows = [_row(line, columns) for line in list(_lines(content))[1:] if any(line)]
    for image, found in groupby(sorted(rows, key=_image_of), _image_of):
        yield _drawing(image or own, list(found), kind)


def _drawing(image: str, rows: list[Row], kind: tuple[str, ...]) -> Drawing:
    size = None
    if kind == _CORNERS and {"width", "height"} <= set(rows[0]):
        size = float(rows[0]["width"]), float(rows[0]["height"])  # TensorFlow's: the image's
    mpp = float(rows[0]["mpp"]) if rows[0].get("mpp") else None
    return draw(image, [_shape(row, kind) for row in rows], size=size, mpp=mpp)


def _shape(row: Row, kind: tuple[str, ...]) -> Shape:
    name = row.get("class") or UNCLASSIFIED
    values = [float(row[column]) for column in kind]
    if len(values) == 2:
        return mark(name, *values)
    if kind == _CORNERS:
        return box(name, values)
    x, y, width, height = values
    return box(name, [x, y, x + width, y + height])


def _kind(columns: Mapping[str, int]) -> tuple[str, ...] | None:
    """The columns that say where a cell is."""
    return next((tuple(k) for k in (_CORNERS, _EXTENT, _POINT) if set(k) <= set(columns)), None)


def _columns(header: list[str]) -> dict[str, int]:
    """The index of each column that is known."""
    plain = [re.sub(r"[\W_]", "", name).lower() for name in header]
    found = {key: [plain.index(n) for n in names if n in plain] for key, names in _COLUMNS.items()}
    return {key: indices[0] for key, indices in found.items() if indices}


def _row(line: list[str], columns: Mapping[str, int]) -> Row:
    if len(line) <= max(columns.values()):
        raise ValueError(f"a row is too short: {','.join(line)}")
    return {key: line[index].strip() for key, index in columns.items()}


def _header(content: str) -> list[str]:
    return next(_lines(content), [])


def _lines(content: str) -> Iterator[list[str]]:
    """Rows, parted by whichever of comma, semicolon and tab the header has most of."""
    first = content.partition("\n")[0]
    return csv.reader(content.splitlines(), delimiter=max(",;\t", key=first.count))


def _image_of(row: Row) -> str:
    return row.get("image", "")
