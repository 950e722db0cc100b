"""Tables as spreadsheets and other tools write them: encodings, separators, decimal commas."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from configs import ConfigError, Doubt

ASSUMED = "cp1252"
"""What text that is no UTF-8 is taken for: what Excel writes in western Europe, and latin-1."""

_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
"""Encodings by the bytes that a file begins with; those of UTF-32 begin like those of UTF-16."""

_WORKBOOKS = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")
_NO_TEXT = re.compile(r"[\0-\x08\x0e-\x1a\x1c-\x1f]")
_SEPARATOR = re.compile(r'"?sep=(.)"?\s*', re.IGNORECASE)
_SEPARATORS = ",;\t|"
_QUOTED = re.compile(r'"[^"]*"')
_HEADER = 1 << 16  # characters within which the header ends

_POINT = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_COMMA = re.compile(r"[+-]?(\d+,\d*|,\d+)([eE][+-]?\d+)?", re.ASCII)
_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2},\d{3}", re.ASCII)


Record: TypeAlias = tuple[int, Mapping[str, str]]
"""A row's line, and its cells by the names of their columns."""


class Text(str):
    """Decoded text that knows whether its encoding was assumed.

    Attributes:
        assumed: the encoding, where nothing in the file told it; else empty.
    """

    assumed: str = ""


@dataclass(frozen=True)
class Sheet:
    """A table with a header.

    Attributes:
        header: names of the columns, as they are.
        rows: cells of each row that isn't blank; no row has more than the header.
        lines: (N,) the line of the file that each row begins on, from 1.
        doubts: what was assumed in order to read it.
    """

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    lines: tuple[int, ...]
    doubts: tuple[Doubt, ...] = ()

    def records(self) -> list[Record]:
        """Each row's line, and its cells by the names of their columns in lower case.

        Raises:
            ValueError: a column is there several times, and says different things.
        """
        self.check_repeated(range(len(self.header)))
        names = self._names()
        return [
            (line, dict(zip(names, (*row, *[""] * (len(names) - len(row))), strict=True)))
            for line, row in zip(self.lines, self.rows, strict=True)
        ]

    def check_repeated(self, columns: Iterable[int]) -> None:
        """Refuses columns of one name, capitals aside, that say different things.

        Args:
            columns: their places, from 0; those without a name are passed over.

        Raises:
            ValueError: names line and column.
        """
        names = self._names()
        places: dict[str, list[int]] = defaultdict(list)
        for column in sorted(columns):
            if names[column]:
                places[names[column]].append(column)
        for name, (first, *others) in places.items():
            for line, row in zip(self.lines, self.rows, strict=True) if others else ():
                said = dict.fromkeys(row[i] if i < len(row) else "" for i in (first, *others))
                if len(said) > 1:
                    told = " and ".join(map(repr, said))
                    raise ValueError(
                        f"line {line}: has the column {name} twice, with {told}; "
                        "take one of them out"
                    )

    def _names(self) -> list[str]:
        return [name.strip().lower() for name in self.header]


def read_records(path: Path) -> tuple[Sheet, list[Record]]:
    """Reads a table from disk, and its rows by the names of their columns.

    Raises:
        ConfigError: as `read_sheet`, and `Sheet.records`.
    """
    sheet = read_sheet(path)
    try:
        return sheet, sheet.records()
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from error


def read_sheet(path: Path) -> Sheet:
    """Reads a table from disk.

    Raises:
        ConfigError: it can't be read, is no text, or has a row that can't be told apart; one line
            that begins with the file.
    """
    try:
        return parse_sheet(decode(path.read_bytes()))
    except OSError as error:
        raise ConfigError(f"{path}: can't be read: {error.strerror or error}") from error
    except ValueError as error:
        raise ConfigError(f"{path}: can't be read: {error}") from error


def decode(data: bytes) -> Text:
    """Text of a table: by its first bytes, as UTF-8, or else as `ASSUMED`.

    Raises:
        ValueError: it is no text, or a spreadsheet's own file.
    """
    if data.startswith(_WORKBOOKS):
        raise ValueError("is a workbook; save it as CSV")
    told = _decoded(data, encoding_of(data))
    decoded = _decoded(data, ASSUMED) if told is None else told
    if decoded is None or _NO_TEXT.search(decoded):
        raise ValueError("not text in UTF-8, UTF-16 or Windows' western encoding")
    text = Text(decoded)
    text.assumed = ASSUMED if told is None else ""
    return text


def encoding_of(data: bytes) -> str:
    """The encoding that the first bytes of a text tell: by a mark, or by the zeros of UTF-16."""
    for mark, encoding in _MARKS.items():
        if data.startswith(mark):
            return encoding
    if len(data) > 3 and data[1] == data[3] == 0 and data[0] and data[2]:
        return "utf-16-le"
    if len(data) > 3 and data[0] == data[2] == 0 and data[1] and data[3]:
        return "utf-16-be"
    return "utf-8"


def parse_sheet(text: str) -> Sheet:
    """A table from its text; the header is its first line that isn't blank.

    Columns are parted by what a first line ``sep=;`` says, else by whichever of comma, semicolon,
    tab and bar the header has most of.

    Raises:
        ValueError: there is no header, or a row can't be told apart; names the line.
    """
    stated = _SEPARATOR.fullmatch(_first_line(text))
    header_marks = _first_line(_QUOTED.sub("", text[:_HEADER]))
    separator = stated[1] if stated else max(_SEPARATORS, key=header_marks.count)
    found = [row for row in _rows(text, separator) if any(cell for cell in row[1])]
    found = found[1:] if stated else found
    if not found:
        raise ValueError("is empty")
    (_, header), *body = found
    for line, row in body:
        if any(row[len(header) :]):
            raise ValueError(
                f"line {line}: {len(row)} cells, where the header has {len(header)}; is there a "
                "comma in a number or a name that isn't in quotes?"
            )
    return Sheet(
        tuple(header),
        tuple(tuple(row[: len(header)]) for _, row in body),
        tuple(line for line, _ in body),
        tuple(_assumed(text)),
    )


def decimal_mark(texts: Iterable[str]) -> str:
    """What numbers that belong together have before their fractions: "." or ",".

    A comma is a decimal comma if at least one number shows that it doesn't part thousands
    ("10,5"); a point is a decimal point.

    Raises:
        ValueError: it can't be told ("1,234" alone), or both are there.
    """
    comma = point = sure = ""
    for text in texts:
        if "," in text and _COMMA.fullmatch(text):
            comma = comma or text
            sure = sure or ("" if _THOUSANDS.fullmatch(text) else text)
        elif "." in text and _POINT.fullmatch(text):
            point = point or text
    if comma and point:
        raise ValueError(f"{point} and {sure or comma}: either a point or a comma, not both")
    if comma and not sure:
        raise ValueError(f"{comma} may be a thousand or a fraction; write it with a point")
    return "," if comma else "."


def number(text: str, mark: str = ".") -> float:
    """A number from text, with this decimal mark.

    Raises:
        ValueError: it is none, or has marks for thousands.
    """
    text = text.strip()
    if mark == "," and _COMMA.fullmatch(text):
        return float(text.replace(",", "."))
    if _POINT.fullmatch(text):
        return float(text)
    digits = re.fullmatch(r"[+-]?[\d.,'’ \u00a0\u202f]+", text)
    hint = "; write it without marks for thousands" if digits and text[-1].isdigit() else ""
    raise ValueError(f"{text[:40]!r} is no number{hint}")


def numbers(texts: Sequence[str]) -> list[float]:
    """Numbers that belong together; see `decimal_mark` and `number`.

    Raises:
        ValueError: one is none, or it can't be told what a comma means.
    """
    mark = decimal_mark(texts)
    return [number(text, mark) for text in texts]


def _first_line(text: str) -> str:
    return next((line for line in text.splitlines() if line.strip()), "")


def _decoded(data: bytes, encoding: str) -> str | None:
    try:
        return data.decode(encoding)
    except UnicodeDecodeError:
        return None


def _rows(text: str, separator: str) -> list[tuple[int, list[str]]]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    found, start = [], 1
    try:
        for row in reader:
            found.append((start, [cell.strip() for cell in row]))
            start = reader.line_num + 1
    except csv.Error as error:
        raise ValueError(f"line {start}: {error}") from error
    return found


def _assumed(text: str) -> list[Doubt]:
    encoding = getattr(text, "assumed", "")
    if not encoding:
        return []
    return [Doubt(code="encoding-assumed", text=f"no UTF-8; read as {encoding}")]
