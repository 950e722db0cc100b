"""RIVA as its challenge gives it out: CSV, a cell a row, by the middle of its box.

Columns ``image_filename, x, y, width, height, class_name, class``. Elsewhere x and y beside width
and height are a corner; here they are the middle, so this header is a format of its own. Read from
descriptions of the set by those who used it, not from the set itself: look at some boxes
(``cytolibra data stats``) before you train.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

from data.annotations.drawing import Drawing, Shape, box, draw
from data.annotations.files import TABLES, Content
from data.tables import number, parse_sheet

SUFFIXES = TABLES

COLUMNS = ("image_filename", "x", "y", "width", "height", "class_name", "class")


def matches(path: Path, content: Content) -> bool:
    """Whether the header is RIVA's."""
    if not isinstance(content, str) or path.suffix.lower() not in SUFFIXES:
        return False
    try:
        return tuple(name.strip().lower() for name in parse_sheet(content).header) == COLUMNS
    except ValueError:
        return False


def read(path: Path, content: Content) -> Iterator[Drawing]:
    """What the file draws, image by image.

    Raises:
        ValueError: a row has no number where one belongs, or a size that is none.
    """
    cells: dict[str, list[Shape]] = defaultdict(list)
    for line, row in parse_sheet(content).records():
        cells[row["image_filename"]].append(_cell(row, line))
    for image, shapes in cells.items():
        yield draw(image, shapes)


def _cell(row: Mapping[str, str], line: int) -> Shape:
    values = {}
    for name in ("x", "y", "width", "height"):
        try:
            values[name] = number(row[name], ".")
        except ValueError as error:
            raise ValueError(f"line {line}: {name}: {error}") from None
    x, y, width, height = values.values()
    if width <= 0 or height <= 0:
        raise ValueError(f"line {line}: a box of {width:g} x {height:g} px")
    corners = [x - width / 2, y - height / 2, x + width / 2, y + height / 2]
    return box(row["class_name"], corners, nucleus=(x, y))
