"""Rows of a table of cells, by what their columns mean: texts and numbers, faults by line."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from data.annotations.columns import OTHERS, understand
from data.annotations.drawing import Remark
from data.tables import Sheet, decimal_mark, number

_DEFUSED = re.compile(r"^'(?=[=+\-@])")  # text that a spreadsheet is kept from running
_NUMBERS = ("mpp", "image_width", "image_height", "width", "height", "nucleus_x", "nucleus_y")


class Rows:
    """A sheet whose columns are known.

    Attributes:
        sheet: the table.
        columns: what its columns mean.

    Raises:
        ValueError: a row lacks a column, or a number is none; names the line. So do the methods.
    """

    def __init__(self, sheet: Sheet) -> None:
        self.sheet = sheet
        self.columns = understand(sheet.header)
        sheet.check_repeated(c.number for c in self.columns.known if c.meaning in OTHERS)

    def __len__(self) -> int:
        return len(self.sheet.rows)

    def images(self, own: str) -> dict[str, list[int]]:
        """The rows of each image, in the order of the file; ``own`` where no row names one."""
        meaning = "image" if self.columns.all_of("image") else "slide"
        names = self.texts(meaning)
        if any(names) and not all(names):
            raise ValueError(f"{self.line(names.index(''))}: no image is named")
        rows: dict[str, list[int]] = defaultdict(list)
        for row, name in enumerate(names):
            rows[name or own].append(row)
        return dict(rows)

    def texts(self, meaning: str) -> list[str]:
        """(N,) texts of a column; empty where there is no such column."""
        column = self.columns.first(meaning)
        if column is None:
            return [""] * len(self)
        return [_DEFUSED.sub("", self._cell(row, column)) for row in range(len(self))]

    def numbers(self, meaning: str) -> NDArray[np.float64]:
        """(N,) numbers of a column; NaN where a row has none, or there is no such column."""
        column = self.columns.first(meaning)
        return np.full(len(self), np.nan) if column is None else self._numbers(column)

    def only(self, meaning: str, rows: Sequence[int]) -> str:
        """The one text that some rows have in a column, in which they must not differ."""
        column = self.columns.first(meaning)
        if column is None:
            return ""
        first = self._cell(rows[0], column)
        for row in rows:
            if self._cell(row, column) != first:
                raise ValueError(
                    f"{self.line(row)}: {self.sheet.header[column]} differs from that of other "
                    "rows of the same image"
                )
        return first

    def only_number(self, meaning: str, rows: Sequence[int]) -> float | None:
        """The one number that some rows have in a column; None where they have none."""
        text = self.only(meaning, rows)
        return number(text, self.mark) if text else None

    def check_same(self, meaning: str) -> None:
        """Refuses several columns for one place that don't say the same."""
        _, *others = self.columns.all_of(meaning)
        stated = self.numbers(meaning)
        for other in others:
            differ = (self._numbers(other) != stated) & ~np.isnan(stated)
            if differ.any():
                raise ValueError(
                    f"{self.line(int(differ.argmax()))}: {self.name(meaning)} and "
                    f"{self.sheet.header[other]} should be the same, and differ"
                )

    def several(self, meaning: str) -> Iterator[Remark]:
        """Tells of columns that could be meant too, and say something else."""
        columns = self.columns.all_of(meaning)
        for other in columns[1:]:
            pairs = [
                (row[columns[0]], row[other])
                for row in self.sheet.rows
                if max(other, columns[0]) < len(row)
            ]
            if any(one and two and one != two for one, two in pairs):
                first, second = self.sheet.header[columns[0]], self.sheet.header[other]
                text = f"the {meaning} is taken from the column {first}, not from {second}"
                yield Remark("columns-several", text)

    def name(self, meaning: str) -> str:
        """What the file calls a column."""
        column = self.columns.first(meaning)
        return meaning if column is None else self.sheet.header[column]

    def line(self, row: int) -> str:
        """Where a row stands, for people."""
        return f"line {self.sheet.lines[row]}"

    @cached_property
    def mark(self) -> str:
        """Whether numbers have a decimal point or comma; one for all of the file."""
        meanings = {*self.columns.places, *_NUMBERS} - {"bbox"}
        columns = [column.number for column in self.columns.known if column.meaning in meanings]
        found = [[row[c] for c in columns if c < len(row)] for row in self.sheet.rows]
        try:
            return decimal_mark(text for texts in found for text in texts)
        except ValueError as error:
            row = next(i for i, texts in enumerate(found) if any("," in text for text in texts))
            raise ValueError(f"{self.line(row)}: {error}") from error

    def _numbers(self, column: int) -> NDArray[np.float64]:
        found, mark = np.full(len(self), np.nan), self.mark
        for row in range(len(self)):
            text = self._cell(row, column)
            try:
                found[row] = number(text, mark) if text else np.nan
            except ValueError as error:
                name = self.sheet.header[column]
                raise ValueError(f"{self.line(row)}: {name}: {error}") from error
        return found

    def _cell(self, row: int, column: int) -> str:
        cells = self.sheet.rows[row]
        if column >= len(cells):
            raise ValueError(f"{self.line(row)}: is cut short after {len(cells)} cells")
        return cells[column]
