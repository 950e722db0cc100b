"""Tables as spreadsheets write them: CSV of any delimiter and encoding that they use."""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from configs import ConfigError

DELIMITERS = ",;\t"

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)

FALLBACK = "cp1252"
"""What text that is not UTF-8 is taken for: what Excel writes in Western Europe and America."""


@dataclass(frozen=True)
class Table:
    """Rows of text below a header.

    Attributes:
        header: the columns' names as they stand there.
        rows: the line each row begins on, counted from 1, and its values, one a column; empty rows
            are left out.
        encoding: of the file; "cp1252" was assumed, all others are certain.
    """

    header: tuple[str, ...]
    rows: tuple[tuple[int, tuple[str, ...]], ...]
    encoding: str


def read_table(path: Path) -> Table:
    """Reads a table; see `parse_table`.

    Raises:
        ConfigError: it can't be read, or is no table; names the file.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: can't be read: {error.strerror or error}") from error
    text, encoding = decode(data)
    try:
        return parse_table(text, encoding)
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from error


def decode(data: bytes) -> tuple[str, str]:
    """Text, and its encoding: by its mark, else UTF-8, else `FALLBACK`, which takes any byte."""
    marked = next((name for mark, name in _MARKS if data.startswith(mark)), None)
    for encoding in (marked, "utf-8") if marked else ("utf-8",):
        try:
            return data.decode(encoding), encoding
        except UnicodeDecodeError:
            continue
    return data.decode(FALLBACK, "replace"), FALLBACK


def parse_table(text: str, encoding: str = "utf-8") -> Table:
    """Reads a table from text.

    The delimiter is what a first line such as ``sep=;`` names, else whichever of comma, semicolon
    and tab the header has most of.

    Raises:
        ValueError: it has no header, or a row has more values than the header has columns; names
            the line.
    """
    delimiter, first, body = _delimiter(text)
    lines = _lines(body, delimiter, first)
    _, header = next(lines, (first, []))
    if not any(header):
        raise ValueError("has no header")
    rows = tuple((line, _fit(line, row, len(header))) for line, row in lines if any(row))
    return Table(tuple(header), rows, encoding)


def _delimiter(text: str) -> tuple[str, int, str]:
    """The delimiter, the number of the header's line, and the text from there on."""
    head, _, rest = text.partition("\n")
    named = head.strip().strip('"').lower()
    if named.startswith("sep=") and len(named) <= len("sep=;"):
        return named[4:] or "\t", 2, rest
    return max(DELIMITERS, key=head.count), 1, text


def _lines(text: str, delimiter: str, first: int) -> Iterator[tuple[int, list[str]]]:
    """Rows with the number of the line that each begins on, their values without blanks around."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    line = 0
    try:
        for row in reader:
            yield first + line, [value.strip() for value in row]
            line = reader.line_num
    except csv.Error as error:
        raise ValueError(f"line {first + line}: {error}") from error


def _fit(line: int, row: Sequence[str], columns: int) -> tuple[str, ...]:
    """A row with as many values as there are columns; empty ones behind them are cut off."""
    if any(row[columns:]):
        raise ValueError(
            f"line {line}: has {len(row)} values, but the header names {columns} columns"
        )
    return (*row[:columns], *[""] * (columns - len(row)))
