"""Tables with a header, a cell a row: boxes, or points that stand for boxes of one size.

`columns` says what columns mean, `data.fields.sheets` how spreadsheets write tables. Without a
column for the image all rows are of the image of the file's own name; of ``cells.csv``, as
``cytolibra screen`` writes it, of the slide that the ``report.json`` beside it names. QuPath's
table of measurements counts from the corner of a slide's bounds, as QuPath's GeoJSON does.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data.annotations.classes import UNCLASSIFIED
from data.annotations.columns import names_places, understand
from data.annotations.drawing import Drawing, Remark, Shape, box, draw, mark, nothing
from data.annotations.files import TABLES, Content, own_name
from data.annotations.own import screened_slide
from data.fields.sheets import Sheet, decimal_mark, number, parse_sheet

SUFFIXES = TABLES

_MANY = 3
"""Rows of an image from which on places that all lie within one width and height show that these
are the image's."""

_NO_CELLS = ("tile", "tma", "root", "image")  # how QuPath's types of objects begin
_LINES = ("line", "polyline", "arrow")  # of QuPath's ROI
_DEFUSED = re.compile(r"^'(?=[=+\-@])")  # text that a spreadsheet is kept from running


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
    table = _Table(parse_sheet(content))
    own = screened_slide(path)
    table.check()
    shapes = table.shapes()
    remarks = table.remarks()
    if own:
        remarks[Remark("detections-read", "cells were found by a model, not by a person")] = 1
    for image, rows in table.images(own or own_name(path, SUFFIXES)).items():
        yield draw(
            image,
            [shape for row in rows if (shape := shapes[row])],
            size=table.size(rows),
            mpp=table.mpp(rows),
            slide=table.only("slide", rows) if table.columns.all_of("image") else "",
            patient=table.only("patient", rows),
            frame="bounds" if table.columns.is_qupath else "slide",
            in_um=table.columns.in_um,
            remarks=remarks,
        )
        remarks = Counter()  # of the file, and told with its first image


class _Table:
    """A sheet whose columns are known.

    Attributes:
        columns: what they mean.
    """

    def __init__(self, sheet: Sheet) -> None:
        self._sheet = sheet
        self.columns = understand(sheet.header)

    def images(self, own: str) -> dict[str, list[int]]:
        """The rows of each image, in the order of the file; ``own`` where no row names one."""
        columns = self.columns.all_of("image") or self.columns.all_of("slide")
        names = [
            _DEFUSED.sub("", self._text(row, columns[0])) if columns else "" for row in self._rows
        ]
        if any(names) and not all(names):
            raise ValueError(f"{self._line(names.index(''))}: no image is named")
        rows: dict[str, list[int]] = defaultdict(list)
        for row, name in enumerate(names):
            rows[name or own].append(row)
        return dict(rows)

    def check(self) -> None:
        """Refuses places that contradict each other or the sizes beside them.

        Raises:
            ValueError: names line and columns.
        """
        values = self._values
        placed = values[~np.isnan(values).all(1)] if len(values) else values
        if len(placed) and not self.columns.in_um and placed.min() >= 0 and 0 < placed.max() <= 1:
            raise ValueError("all places lie within 0 and 1; are they shares? give them in pixels")
        for meaning in self.columns.places:
            self._check_same(meaning)
        if self.columns.kind in ("corner", "assumed corner", "centre", "text"):
            negative = np.flatnonzero((values[:, 2:] < 0).any(1))
            if len(negative):
                raise ValueError(f"{self._line(negative[0])}: width or height is negative")
        if self.columns.kind in ("assumed corner", "centre"):
            self._check_extent()
        if self.columns.kind == "text":
            self._check_within()

    def shapes(self) -> list[Shape | None]:
        """What each row draws; None where it names no place, or no cell."""
        column = self.columns.first("class")
        types, rois = self.columns.first("object_type"), self.columns.first("roi")
        found: list[Shape | None] = []
        for row, values in zip(self._rows, self._boxes, strict=True):
            name = "" if column is None else _DEFUSED.sub("", self._text(row, column))
            name = name or UNCLASSIFIED
            kind = "" if types is None else self._text(row, types)
            if np.isnan(values).any() or (self.columns.is_qupath and _is_no_cell(kind)):
                found.append(None)
            elif self.columns.is_qupath and rois is not None and _is_line(self._text(row, rois)):
                found.append(nothing(name, "lines"))
            elif self.columns.kind == "point":
                found.append(mark(name, *values[:2]))
            else:
                found.append(box(name, values))
        return found

    def remarks(self) -> Counter[Remark]:
        """What was odd about the file, and how often."""
        found = Counter(Remark(doubt.code, doubt.text) for doubt in self._sheet.doubts)
        shown = ", ".join(self._name(meaning) for meaning in self.columns.places)
        if self.columns.kind in ("assumed corner", "text"):
            text = f"{shown}: x and y are taken for the top left corner of a box"
            found[Remark("corner-assumed", text)] = 1
        if self.columns.kind == "corners":
            text = f"boxes whose corners ({shown}) stand in the wrong order are turned round"
            found[Remark("corners-swapped", text)] = int(self._are_swapped.sum())
        text = "rows name no place, and are no cells"
        found[Remark("rows-without-cells", text)] = int(np.isnan(self._values).all(1).sum())
        if self.columns.is_qupath:
            found.update(self._left_out())
        found.update(self._several("class"))
        found.update(self._several("image"))
        return +found

    def size(self, rows: Sequence[int]) -> tuple[float, float] | None:
        """Width and height of the image that some rows are of, where they say."""
        names = ("image_width", "image_height")
        if self.columns.first(names[0]) is None and self._size_is_images:
            names = ("width", "height")
        width, height = (self._one_number(name, rows) for name in names)
        return (width, height) if width and height else None

    def mpp(self, rows: Sequence[int]) -> float | None:
        """µm per pixel of the image that some rows are of, where they say."""
        return self._one_number("mpp", rows)

    def only(self, meaning: str, rows: Sequence[int]) -> str:
        """The one text that some rows have in a column, which must not differ."""
        column = self.columns.first(meaning)
        if column is None:
            return ""
        first = self._text(self._rows[rows[0]], column)
        for row in rows:
            if self._text(self._rows[row], column) != first:
                raise ValueError(
                    f"{self._line(row)}: {self._sheet.header[column]} differs from that of other "
                    "rows of the same image"
                )
        return first

    @property
    def _rows(self) -> tuple[tuple[str, ...], ...]:
        return self._sheet.rows

    @cached_property
    def _mark(self) -> str:
        """Whether numbers have a decimal point or comma; one for all of the file."""
        if self.columns.kind == "text":
            return "."
        meanings = {*self.columns.places, "mpp", "image_width", "image_height", "width", "height"}
        columns = [c.index for c in self.columns.known if c.meaning in meanings]
        found = [[self._text(row, c, needed=False) for c in columns] for row in self._rows]
        try:
            return decimal_mark(text for texts in found for text in texts)
        except ValueError as error:
            row = next(i for i, texts in enumerate(found) if any("," in text for text in texts))
            raise ValueError(f"{self._line(row)}: {error}") from error

    @cached_property
    def _values(self) -> NDArray[np.float64]:
        """(N, K) what the columns of places say; NaN where a row has no place."""
        if self.columns.kind == "text":
            return np.array([self._listed(row) for row in range(len(self._rows))]).reshape(-1, 4)
        places = self.columns.places
        values = [self._numbers(meaning) for meaning in places]
        found = np.array(values, np.float64).reshape(len(places), -1).T
        empty = np.isnan(found)
        part = np.flatnonzero(empty.any(1) & ~empty.all(1))
        if len(part):
            missing = places[int(np.flatnonzero(empty[part[0]])[0])]
            raise ValueError(f"{self._line(part[0])}: {self._name(missing)} is empty")
        return found

    @cached_property
    def _boxes(self) -> NDArray[np.float64]:
        """(N, 4) xyxy as they are; of points twice the point."""
        values = self._values
        if self.columns.kind == "point":
            return np.hstack([values, values])
        if self.columns.kind == "corners":
            return values
        left_top, extent = values[:, :2], values[:, 2:]
        if self.columns.kind == "centre":
            left_top = left_top - extent / 2
        return np.hstack([left_top, left_top + extent])

    @property
    def _are_swapped(self) -> NDArray[np.bool_]:
        return (self._boxes[:, 2:] < self._boxes[:, :2]).any(1)

    @cached_property
    def _size_is_images(self) -> bool:
        """Whether width and height, beside whole boxes, are the image's, as TensorFlow has it."""
        if self.columns.kind not in ("corners", "text"):
            return False
        if any(self.columns.first(name) is None for name in ("width", "height")):
            return False
        stated = np.array([self._numbers("width"), self._numbers("height")]).T
        extent = np.abs(self._boxes[:, 2:] - self._boxes[:, :2])
        return not bool((np.abs(stated - extent) <= 1.01).all())

    def _check_same(self, meaning: str) -> None:
        """Of several columns for one place all must say the same."""
        for other in self.columns.all_of(meaning)[1:]:
            differ = self._numbers(meaning) != self._numbers(meaning, other)
            differ &= ~np.isnan(self._numbers(meaning))
            if differ.any():
                raise ValueError(
                    f"{self._line(np.flatnonzero(differ)[0])}: {self._name(meaning)} and "
                    f"{self._sheet.header[other]} should be the same, and differ"
                )

    def _check_extent(self) -> None:
        """Refuses what is the image's size in the place of the box's."""
        for rows in self.images("").values():
            values = self._values[rows]
            places, extents = values[:, :2], values[:, 2:]
            even = len(np.unique(extents, axis=0)) == 1 and len(np.unique(places, axis=0)) >= _MANY
            if even and (places <= extents).all():
                names = f"{self._name('width')} and {self._name('height')}"
                raise ValueError(
                    f"{names} are the same in all rows of an image, and all places lie within "
                    "them: they seem to be the image's; call them image_width and image_height if so"
                )

    def _check_within(self) -> None:
        """Refuses boxes that reach beyond the image whose size is stated: they may be corners."""
        for rows in self.images("").values():
            size = self.size(rows)
            beyond = self._boxes[rows, 2:] > np.array(size or np.inf) + 1
            if beyond.any():
                row = rows[int(np.flatnonzero(beyond.any(1))[0])]
                raise ValueError(
                    f"{self._line(row)}: {self._name('bbox')} as x, y, width, height reaches "
                    "beyond the image; if these are corners, give them as x_min, y_min, x_max, y_max"
                )

    def _numbers(self, meaning: str, column: int | None = None) -> NDArray[np.float64]:
        """(N,) numbers of a column; NaN where a row has none."""
        index = self.columns.first(meaning) if column is None else column
        if index is None:
            return np.full(len(self._rows), np.nan)
        found = []
        for row, cells in enumerate(self._rows):
            text = self._text(cells, index, row=row)
            try:
                found.append(number(text, self._mark) if text else np.nan)
            except ValueError as error:
                name = self._sheet.header[index]
                raise ValueError(f"{self._line(row)}: {name}: {error}") from error
        return np.array(found, np.float64)

    def _listed(self, row: int) -> list[float]:
        """The four numbers of a text ``[x, y, width, height]``."""
        column = self.columns.first("bbox")
        assert column is not None
        text = self._text(self._rows[row], column, row=row)
        parts = [part for part in re.split(r"[\[\](){}\s,;]+", text) if part]
        if not parts:
            return [np.nan] * 4
        if len(parts) != 4:
            raise ValueError(f"{self._line(row)}: {text[:60]!r} has not four numbers")
        try:
            return [number(part) for part in parts]
        except ValueError as error:
            raise ValueError(f"{self._line(row)}: {self._name('bbox')}: {error}") from error

    def _one_number(self, meaning: str, rows: Sequence[int]) -> float | None:
        text = self.only(meaning, rows)
        return number(text, self._mark) if text else None

    def _text(
        self, cells: tuple[str, ...], column: int, needed: bool = True, row: int | None = None
    ) -> str:
        if column < len(cells):
            return cells[column]
        if not needed:
            return ""
        where = self._line(self._rows.index(cells) if row is None else row)
        raise ValueError(f"{where}: is cut short after {len(cells)} cells")

    def _several(self, meaning: str) -> Iterator[Remark]:
        """Tells of columns that could be meant too, and say something else."""
        first, *others = self.columns.all_of(meaning) or [0]
        for other in others:
            pairs = [(self._text(c, first), self._text(c, other, needed=False)) for c in self._rows]
            if any(one and two and one != two for one, two in pairs):
                names = self._sheet.header[first], self._sheet.header[other]
                text = f"the {meaning} is taken from the column {names[0]}, not from {names[1]}"
                yield Remark("columns-several", text)

    def _left_out(self) -> Iterator[Remark]:
        column = self.columns.first("object_type")
        for kind in [] if column is None else [self._text(row, column) for row in self._rows]:
            if _is_no_cell(kind):
                text = f"objects of type {kind} are no cells, and are left out"
                yield Remark("tiles-left-out", text)

    def _name(self, meaning: str) -> str:
        column = self.columns.first(meaning)
        return meaning if column is None else self._sheet.header[column]

    def _line(self, row: int) -> str:
        return f"line {self._sheet.lines[row]}"


def _is_no_cell(kind: str) -> bool:
    return kind.lower().removeprefix("path").startswith(_NO_CELLS)


def _is_line(roi: str) -> bool:
    return roi.lower().startswith(_LINES)
