"""Single cells, cut out: a table that gives each image its class, as HiCervix and APACC have it.

Each image is a cell whose box is all of it, its nucleus in the middle. That a table without places
is meant so is not for a program to guess: the format has to be named (``format: crops``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from data.annotations.columns import names_places
from data.annotations.drawing import Drawing, Placement, box, draw
from data.annotations.files import TABLES, Content
from data.annotations.images import ImageInfo
from data.tables import parse_sheet

SUFFIXES = TABLES

IMAGE_COLUMNS = ("image_name", "image", "filename", "image_filename")
CLASS_COLUMNS = ("class_name", "label", "class")


def matches(path: Path, content: Content) -> bool:
    """Whether it is a table that names no places; asked only where the format is named."""
    if not isinstance(content, str) or path.suffix.lower() not in SUFFIXES:
        return False
    try:
        return not names_places(parse_sheet(content).header)
    except ValueError:
        return False


def read(path: Path, content: Content) -> Iterator[Drawing]:
    """What the file draws, an image a row.

    Raises:
        ValueError: there is no column for the image or for its class.
    """
    sheet = parse_sheet(content)
    image = _column(sheet.header, IMAGE_COLUMNS, "image")
    name = _column(sheet.header, CLASS_COLUMNS, "class")
    for line, row in sheet.records():
        if not row[image]:
            raise ValueError(f"line {line}: names no image")
        yield draw(row[image], [box(row[name], (0, 0, 1, 1))], place=place)


def place(info: ImageInfo) -> Placement:
    """Scale and offset from shares of an image to its pixels."""
    return np.array([info.width, info.height], np.float64), np.zeros(2)


def _column(header: Sequence[str], known: tuple[str, ...], what: str) -> str:
    """The column's name, in lower case."""
    names = [name.strip().lower() for name in header]
    found = next((name for name in known if name in names), None)
    if found is None:
        raise ValueError(
            f"no column for the {what}: expected {' or '.join(known)}; it has {', '.join(header)}"
        )
    return found
