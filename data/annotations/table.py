"""Tables with a header, a cell a row: boxes, or points that stand for boxes of one size.

`columns` says what columns mean, `data.tables` how spreadsheets write tables. Without a
column for the image all rows are of the image of the file's own name; of ``cells.csv``, as
``cytolibra screen`` writes it, of the slide that the ``report.json`` beside it names. QuPath's
table of measurements counts from the corner of a slide's bounds, as QuPath's GeoJSON does.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data.annotations.classes import UNCLASSIFIED
from data.annotations.columns import names_places
from data.annotations.drawing import Drawing, Remark, Shape, box, draw, mark, nothing
from data.annotations.files import TABLES, Content, own_name
from data.annotations.own import screened_slide
from data.annotations.rows import Rows
from data.tables import number, parse_sheet

SUFFIXES = TABLES

_MANY = 3
"""Rows of an image from which on places that all lie within one width and height show that these
are the image's."""

_ROUNDED = 1.01
"""Pixels by which a centre may lie off the middle of its box: both may be rounded."""

_NO_CELLS = ("tile", "tma", "root", "image")  # how QuPath's types of objects begin
_LINES = ("line", "polyline", "arrow")  # of QuPath's ROI


def matches(path: Path, content: Content) -> bool:
    """Whether the header names places."""
    if not isinstance(content, str) or path.suffix.lower() not in SUFFIXES:
        return False
    try:
        return names_places(parse_sheet(content).header)
    except ValueError:
        return bool(content.strip())  # no table that can be told apart: `read` says why


def read(path: Path, content: Content) -> Iterator[Drawing]:
    """What the file draws, image by image; without a column for it, on the image of its name.

    Raises:
        ValueError: a column is missing, or a row can't be read; names it.
    """
    rows = Rows(parse_sheet(content))
    places = _Places(rows)
    places.check()
    remarks = _remarks(rows, places)
    own = screened_slide(path)
    if own:
        remarks[Remark("detections-read", "cells were found by a model, not by a person")] = 1
    shapes = _shapes(rows, places)
    for image, members in rows.images(own or own_name(path, SUFFIXES)).items():
        yield draw(
            image,
            [shape for row in members if (shape := shapes[row])],
            size=places.size(members),
            mpp=rows.only_number("mpp", members),
            slide=rows.only("slide", members) if rows.columns.all_of("image") else "",
            patient=rows.only("patient", members),
            frame="bounds" if rows.columns.is_qupath else "slide",
            in_um=rows.columns.in_um,
            remarks=remarks,
        )
        remarks = Counter()  # of the file, and told with its first image


class _Places:
    """Where the cells of a table are.

    Attributes:
        values: (N, K) what the columns of places say; NaN where a row has no place.
        boxes: (N, 4) xyxy, corners as they are; of points twice the point.
    """

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._kind = rows.columns.kind
        self.values = self._listed() if self._kind == "text" else self._in_columns()
        self.boxes = self._as_boxes()

    @property
    def are_missing(self) -> NDArray[np.bool_]:
        """(N,) rows that name no place."""
        return np.asarray(np.isnan(self.values).all(axis=1))

    @property
    def are_swapped(self) -> NDArray[np.bool_]:
        """(N,) boxes whose second corner isn't the lower right one."""
        x0, y0, x1, y1 = self.boxes.T
        return np.asarray((x1 < x0) | (y1 < y0))

    def size(self, members: Sequence[int]) -> tuple[float, float] | None:
        """Width and height of the image that some rows are of, where they say."""
        names = ("image_width", "image_height")
        if self._rows.columns.first(names[0]) is None and self._size_is_images:
            names = ("width", "height")
        width, height = (self._rows.only_number(name, members) for name in names)
        return (width, height) if width and height else None

    def check(self) -> None:
        """Refuses places that contradict each other or the sizes beside them.

        Raises:
            ValueError: names line and columns.
        """
        rows = self._rows
        self._check_shares()
        if self._kind == "text":
            self._check_within()
        else:
            for meaning in rows.columns.places:
                rows.check_same(meaning)
        if self._kind not in ("corners", "point"):
            negative = (self.values[:, 2:] < 0).any(1)
            if negative.any():
                raise ValueError(f"{rows.line(int(negative.argmax()))}: a size is negative")
        if self._kind in ("assumed corner", "centre"):
            self._check_extent()
        self._check_middle()

    def _in_columns(self) -> NDArray[np.float64]:
        places = self._rows.columns.places
        found = np.array([self._rows.numbers(meaning) for meaning in places], np.float64).T
        empty = np.isnan(found)
        part = np.flatnonzero(empty.any(1) & ~empty.all(1))
        if len(part):
            missing = places[int(empty[part[0]].argmax())]
            raise ValueError(f"{self._rows.line(part[0])}: {self._rows.name(missing)} is empty")
        return found

    def _listed(self) -> NDArray[np.float64]:
        """Boxes that are texts ``[x, y, width, height]``."""
        found = np.full((len(self._rows), 4), np.nan)
        for row, text in enumerate(self._rows.texts("bbox")):
            parts = [part for part in re.split(r"[\[\](){}\s,;]+", text) if part]
            if len(parts) not in (0, 4):
                raise ValueError(f"{self._rows.line(row)}: {text[:60]!r} has not four numbers")
            try:
                found[row] = [number(part) for part in parts] or np.nan
            except ValueError as error:
                where = f"{self._rows.line(row)}: {self._rows.name('bbox')}"
                raise ValueError(f"{where}: {error}") from error
        return found

    def _as_boxes(self) -> NDArray[np.float64]:
        if self._kind == "point":
            return np.hstack([self.values, self.values])
        if self._kind == "corners":
            return self.values
        low, extent = self.values[:, :2], self.values[:, 2:]
        if self._kind in ("radius", "diameter"):
            extent = np.repeat(extent * (2 if self._kind == "radius" else 1), 2, axis=1)
        if self._kind in ("centre", "radius", "diameter"):
            low = low - extent / 2
        return np.hstack([low, low + extent])

    @cached_property
    def _size_is_images(self) -> bool:
        """Whether width and height, beside whole boxes, are the image's, as TensorFlow has it."""
        if self._kind not in ("corners", "text"):
            return False
        if any(self._rows.columns.first(name) is None for name in ("width", "height")):
            return False
        stated = np.array([self._rows.numbers("width"), self._rows.numbers("height")]).T
        extent = np.abs(self.boxes[:, 2:] - self.boxes[:, :2])
        return not bool((np.abs(stated - extent) <= 1.01).all())

    def _check_shares(self) -> None:
        """Refuses points that must be shares of the image; boxes are judged with all formats'."""
        placed = self.values[~self.are_missing]
        if self._kind != "point" or self._rows.columns.in_um or not len(placed):
            return
        if placed.min() >= 0 and 0 < placed.max() <= 1:
            raise ValueError("all places lie within 0 and 1; are they shares? give them in pixels")

    def _check_middle(self) -> None:
        """Refuses a centre that isn't the middle of the box that corners give."""
        if self._kind not in ("corners", "corner"):
            return
        stated = np.array([self._rows.numbers("x_center"), self._rows.numbers("y_center")]).T
        off = np.abs((self.boxes[:, :2] + self.boxes[:, 2:]) / 2 - stated) > _ROUNDED
        if off.any():
            row = int(off.any(1).argmax())
            names = f"{self._rows.name('x_center')}, {self._rows.name('y_center')}"
            raise ValueError(f"{self._rows.line(row)}: {names} are not the middle of the box")

    def _check_extent(self) -> None:
        """Refuses what is the image's size in the place of the box's."""
        for members in self._rows.images("").values():
            low, extents = self.values[members, :2], self.values[members, 2:]
            even = len(np.unique(extents, axis=0)) == 1 and len(np.unique(low, axis=0)) >= _MANY
            if even and (low <= extents).all():
                names = f"{self._rows.name('width')} and {self._rows.name('height')}"
                raise ValueError(
                    f"{names} are the same in all rows of an image, and all places lie within "
                    "them: they seem to be the image's; then call them image_width, image_height"
                )

    def _check_within(self) -> None:
        """Refuses boxes that reach beyond the image whose size is stated: they may be corners."""
        for members in self._rows.images("").values():
            size = self.size(members)
            beyond = (self.boxes[members, 2:] > np.array(size or np.inf) + 1).any(1)
            if beyond.any():
                where = self._rows.line(members[int(beyond.argmax())])
                raise ValueError(
                    f"{where}: {self._rows.name('bbox')} as x, y, width, height reaches beyond the "
                    "image; if these are corners, give them as x_min, y_min, x_max, y_max"
                )


def _shapes(rows: Rows, places: _Places) -> list[Shape | None]:
    """What each row draws; None where it names no place, or no cell."""
    kinds, rois = ([""] * len(rows),) * 2
    if rows.columns.is_qupath:
        kinds, rois = rows.texts("object_type"), rows.texts("roi")
    missing = places.are_missing.tolist()
    nuclei = _nuclei(rows)
    found: list[Shape | None] = []
    for row, name in enumerate(rows.texts("class")):
        name = name or UNCLASSIFIED
        if missing[row] or _is_no_cell(kinds[row]):
            found.append(None)
        elif rois[row].lower().startswith(_LINES):
            found.append(nothing(name, "lines"))
        elif rows.columns.kind == "point":
            found.append(mark(name, *places.values[row]))
        else:
            stated = None if np.isnan(nuclei[row]).any() else nuclei[row]
            found.append(box(name, places.boxes[row], nucleus=stated))
    return found


def _nuclei(rows: Rows) -> NDArray[np.float64]:
    """(N, 2) x and y of the nuclei; NaN where a row says nothing of them.

    Raises:
        ValueError: a row has one of both only; names it.
    """
    found = np.array([rows.numbers("nucleus_x"), rows.numbers("nucleus_y")]).T
    half = np.isnan(found[:, 0]) != np.isnan(found[:, 1])
    if half.any():
        row = int(half.argmax())
        meaning = "nucleus_x" if np.isnan(found[row, 0]) else "nucleus_y"
        raise ValueError(f"{rows.line(row)}: {rows.name(meaning)} is missing")
    return found


def _remarks(rows: Rows, places: _Places) -> Counter[Remark]:
    """What was odd about a table, and how often."""
    found = Counter(Remark(doubt.code, doubt.text) for doubt in rows.sheet.doubts)
    shown = ", ".join(rows.name(meaning) for meaning in rows.columns.places)
    if rows.columns.kind in ("assumed corner", "text"):
        text = f"{shown}: x and y are taken for the top left corner of a box"
        found[Remark("corner-assumed", text)] = 1
    if rows.columns.kind == "corners":
        text = f"boxes whose corners ({shown}) stand in the wrong order are turned round"
        found[Remark("corners-swapped", text)] = int(places.are_swapped.sum())
    text = "rows name no place, and are no cells"
    found[Remark("rows-without-cells", text)] = int(places.are_missing.sum())
    if rows.columns.is_qupath:
        for kind in filter(_is_no_cell, rows.texts("object_type")):
            text = f"objects of type {kind} are no cells, and are left out"
            found[Remark("tiles-left-out", text)] += 1
    found.update([*rows.several("class"), *rows.several("image")])
    return +found


def _is_no_cell(kind: str) -> bool:
    return kind.lower().removeprefix("path").startswith(_NO_CELLS)
