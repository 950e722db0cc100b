"""YOLO: one text file an image, a cell a line: ``class x y width height``, as shares of the image.

Lines of more numbers are outlines, ``class x1 y1 x2 y2 ...``, or boxes with keypoints,
``class x y width height`` and then ``x y`` or ``x y visible`` each; `yolo_rows` tells them apart by
all files of a call. A sixth number, or one more behind an outline, is the confidence of a
prediction. What the numbers of the classes mean is told by `yolo_names`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data.annotations.drawing import Drawing, Placement, Remark, Shape, box, draw, outline
from data.annotations.files import Content, own_name
from data.annotations.images import ImageInfo
from data.annotations.yolo_names import CLASS_FILES, ClassNames, class_names
from data.annotations.yolo_rows import Layout, Row, is_numeric, layout_of, parse_rows

__all__ = ["CLASS_FILES", "SUFFIXES", "matches", "place", "read", "reader_of"]

SUFFIXES = (".txt",)


def matches(path: Path, content: Content) -> bool:
    """Whether lines are numbers; there may be none. One that isn't among them is an error."""
    if path.suffix.lower() != ".txt" or not isinstance(content, str):
        return False
    numeric = [is_numeric(line) for line in content.splitlines() if line.strip()]
    return 2 * sum(numeric) >= len(numeric)


def read(path: Path, content: Content) -> Iterator[Drawing]:
    """What a file draws on the image of its name, taken alone."""
    return reader_of([(path, content)])(path, content)


def reader_of(
    files: Sequence[tuple[Path, str]], rows: str = "auto"
) -> Callable[[Path, Content], Iterator[Drawing]]:
    """Reads files of one set, whose lines are all of one layout.

    Args:
        files: all files of the set and what they hold.
        rows: "auto", or what lines of more than five numbers are: "polygons" or "pose".
    """
    names_of = cache(class_names)

    @cache
    def layout(keypoints: tuple[int, int] | None) -> Layout:
        found = [row for path, text in files for row in parse_rows(text, path.name)]
        return layout_of(found, rows, keypoints)

    def read(path: Path, content: Content) -> Iterator[Drawing]:
        names = names_of(path.parent)
        found = parse_rows(content)
        longer = any(len(row.values) > 5 for row in found)
        how = layout(names.keypoints) if longer else Layout()
        yield draw(
            own_name(path, SUFFIXES),
            [_shape(row, how, names.names) for row in found],
            place=place,
            declared=tuple(names.names[key] for key in sorted(names.names)),
            remarks=_remarks(names, found),
        )

    return read


def place(info: ImageInfo) -> Placement:
    """Scale and offset from shares of the image to its pixels."""
    return np.array([info.width, info.height], np.float64), np.zeros(2)


def _remarks(names: ClassNames, rows: Sequence[Row]) -> Iterator[Remark]:
    yield from names.remarks
    if not names.names and rows:
        yield Remark(
            "class-numbers", "no classes.txt and no YAML file names the classes: numbers are names"
        )


def _shape(row: Row, layout: Layout, names: Mapping[int, str]) -> Shape:
    if names and row.number not in names:
        raise ValueError(f"line {row.line}: class {row.number} has no name: there are {len(names)}")
    name = names.get(row.number, str(row.number))
    places, keypoints, confidence = layout.parts(row)
    shape = outline(name, places.reshape(-1, 2)) if len(places) > 4 else _box(name, places)
    if keypoints is not None:
        shape = shape.remarked("keypoints", "keypoints behind boxes are left out")
    if confidence is not None:
        shape = shape.remarked(
            "predictions",
            "lines with a confidence, as a detector writes them, are taken as annotations",
        )
    return shape


def _box(name: str, places: NDArray[np.float64]) -> Shape:
    center, half = places[:2], places[2:4] / 2
    return box(name, [center - half, center + half])
