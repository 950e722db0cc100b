"""CRIC Cervix as it is published: JSON, a list of images with their ``classifications``.

Rezende et al., "Cric searchable image database as a public platform for conventional pap smear
cytology data", Scientific Data 8, 151 (2021), CC BY 4.0, doi.org/10.6084/m9.figshare.c.4960286.
Each cell is a mark on its nucleus, in the frame of the published images, 1376 x 1020 pixels of
0.228 µm; it stands for a square of 20.5 µm, clipped to the field. Images of another size are taken
to show the same field.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from data.annotations.drawing import Drawing, Placement, Shape, draw, mark
from data.annotations.files import Content
from data.annotations.images import ImageInfo
from data.annotations.values import as_list, as_number, as_record, as_text

SUFFIXES = (".json",)

FRAME = (1376, 1020)
MPP = 0.228
CELL_UM = 20.5

CLASSES = {
    "Negative for intraepithelial lesion": "NILM",
    "ASC-US": "ASC-US",
    "LSIL": "LSIL",
    "ASC-H": "ASC-H",
    "HSIL": "HSIL",
    "SCC": "SCC",
}
"""The Bethesda classes of this project by the names that CRIC publishes."""


def matches(path: Path, content: Content) -> bool:
    """Whether a file is CRIC's."""
    first = content[0] if isinstance(content, list) and content else None
    return isinstance(first, dict) and {"image_name", "classifications"} <= set(first)


def read(path: Path, content: Content) -> Iterator[Drawing]:
    """What the file draws, image by image."""
    for number, one in enumerate(content, 1):
        record = as_record(one, f"image {number}")
        cells = as_list(record["classifications"], f"image {number}: classifications")
        yield draw(
            as_text(record["image_name"], f"image {number}: image_name"),
            [_shape(as_record(cell, f"image {number}: a cell")) for cell in cells],
            size=FRAME,
            mpp=MPP,
            mark_um=CELL_UM,
            place=place,
            declared=tuple(CLASSES.values()),
        )


def place(info: ImageInfo) -> Placement:
    """Scale and offset from the published frame to an image of the field."""
    return np.array([info.width, info.height]) / FRAME, np.zeros(2)


def _shape(cell: Mapping[str, Any]) -> Shape:
    name = as_text(cell["bethesda_system"], "bethesda_system")
    x, y = (as_number(cell[key], key) for key in ("nucleus_x", "nucleus_y"))
    return mark(CLASSES.get(name, name), x, y)
