"""``summary.xlsx``: the batch for people who work in a spreadsheet.

A sheet of slides in the order of the work list, with links to their pages; one of their most
suspicious cells; and one that says what all of it means. Names are text and nothing else: none is
taken for a formula, whatever it begins with. The same results give the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path

import numpy as np
from xlsxwriter import Workbook
from xlsxwriter.exceptions import XlsxWriterException
from xlsxwriter.format import Format
from xlsxwriter.url import Url
from xlsxwriter.worksheet import Worksheet

from configs import ConfigError, Doubt
from pipeline.cells.classes import grade_of, is_abnormal
from pipeline.geometry import Detections
from pipeline.reports.report import NOTICE, encodable
from pipeline.reports.slide_summary import SlideSummary
from pipeline.reports.summary_columns import Column, Kind, Value, summary_columns
from pipeline.reports.tables import starts_formula
from pipeline.reports.triage import carriers
from pipeline.reports.worklist import Place, Worklist

MOST_ROWS = 1_048_576
"""Of a sheet, by Excel's specification; the header is one of them."""

MOST_TEXT = 32_767
"""Characters of a cell, likewise."""

MOST_LINKS = 65_530
"""Links of a sheet, likewise."""

_MADE = datetime(1980, 1, 1)
"""Told as the file's age: the same results give the same bytes, whenever it is written."""

_FORMATS: dict[Kind, dict[str, object]] = {
    "text": {},
    "count": {"num_format": "#,##0"},
    "figure": {"num_format": "#,##0.00"},
    "score": {"num_format": "0.000"},
    "flag": {},
}

_WIDTHS = {"slide": 36, "path": 36, "suggestion": 26, "warnings": 40, "error": 40}
"""Of columns that need more or less than their name, in characters."""

_LONG = 40

CELL_COLUMNS: tuple[tuple[str, Kind, str], ...] = (
    ("rank", "count", "of its slide in the work list; empty for slides that have none"),
    ("slide", "text", "name of the slide's folder beside this file"),
    ("id", "count", "of the cell, as in the slide's cells.csv"),
    ("class", "text", "its class"),
    ("grade", "text", "low grade or high grade, by its class; empty for one of neither"),
    ("score", "score", "of its class, as in cells.csv"),
    ("carries_suggestion", "flag", "whether it is one of those by which a category is suggested"),
    ("x_center", "figure", "level-0 pixels of the whole slide"),
    ("y_center", "figure", "level-0 pixels of the whole slide"),
    ("x_um", "figure", "µm from the whole slide's top left"),
    ("y_um", "figure", "µm from the whole slide's top left"),
)
"""Names, kinds and meanings of the columns of the sheet of cells."""

ReadCells = Callable[[Place, SlideSummary], Detections]
"""Gives the abnormal cells of a complete slide, or raises a `ConfigError`."""


def write_workbook(
    path: Path, worklist: Worklist, read_cells: ReadCells, least_score: float
) -> tuple[Doubt, ...]:
    """Writes the workbook.

    Args:
        path: the file.
        worklist: the slides.
        read_cells: gives the abnormal cells of a slide, in the order of its cells.csv.
        least_score: abnormal cells with at least this score are listed, and whatever their score
            those that carry a suggestion.

    Returns:
        What is to be told: that cells were left out, or could not be read.

    Raises:
        OSError: it can't be written.
    """
    book = Workbook(str(path), {"constant_memory": True, "strings_to_numbers": False})
    try:
        book.set_properties({"title": "Screened slides", "comments": NOTICE, "created": _MADE})
        formats = _Formats(book)
        doubts = [
            *_write_slides(book.add_worksheet("Slides"), formats, worklist),
            *_write_cells(book.add_worksheet("Cells"), formats, worklist, read_cells, least_score),
        ]
        _write_about(book.add_worksheet("About"), formats, worklist, least_score, doubts)
    finally:
        try:
            book.close()
        except XlsxWriterException as error:  # a full disk, told as any other file's
            raise OSError(str(error)) from error
    return tuple(doubts)


class _Formats:
    """The formats of a workbook, each made once."""

    def __init__(self, book: Workbook) -> None:
        top = {"valign": "top"}
        self.head = book.add_format({"bold": True, "bottom": 1, "valign": "top"})
        blue = {"font_color": "#0563C1", "underline": 1, **top}
        self._link = book.add_format(blue)
        self._quoted_link = book.add_format(blue | {"quote_prefix": True})
        self.of = {kind: book.add_format(_FORMATS[kind] | top) for kind in _FORMATS}
        # The mark by which Excel itself keeps typed text from becoming a formula.
        self._quoted = book.add_format({"quote_prefix": True, **top})
        self.wrapped = book.add_format({"text_wrap": True, **top})

    def text(self, text: str) -> Format:
        """The format of a text: it stays text even where somebody edits its cell."""
        return self._quoted if starts_formula(text) else self.of["text"]

    def linked(self, text: str) -> Format:
        """The same of a text that is a link."""
        return self._quoted_link if starts_formula(text) else self._link


def _write_slides(sheet: Worksheet, formats: _Formats, worklist: Worklist) -> Iterator[Doubt]:
    places = worklist.places[: MOST_ROWS - 1]
    columns = summary_columns(worklist.places)
    _head(sheet, formats, [(c.name, _width(c)) for c in columns], len(places), frozen=1)
    for row, place in enumerate(places, 1):
        for column, one in enumerate(columns):
            _put(sheet, formats, row, column, one.of(place), one.kind)
        link = _link(place) if row <= MOST_LINKS else None
        if link:
            sheet.write_url(row, 0, link, formats.linked(place.row.slide))
    if len(places) < len(worklist.places):
        yield _cut("slides", len(places), len(worklist.places))


def _write_cells(
    sheet: Worksheet,
    formats: _Formats,
    worklist: Worklist,
    read_cells: ReadCells,
    least_score: float,
) -> Iterator[Doubt]:
    row, total = 0, 0
    unread: list[str] = []
    _head(sheet, formats, [(name, _WIDTHS.get(name, 14)) for name, _, _ in CELL_COLUMNS], frozen=3)
    for place in worklist.places:
        report = place.row.report
        if report is None or not report.abnormal_cells:
            continue
        try:
            cells = read_cells(place, report)
        except ConfigError:
            unread.append(place.row.slide)
            continue
        listed = list(_listed(place, report, cells, least_score))
        total += len(listed)
        for values in listed[: MOST_ROWS - 1 - row]:
            row += 1
            for column, (value, (_, kind, _)) in enumerate(zip(values, CELL_COLUMNS, strict=True)):
                _put(sheet, formats, row, column, value, kind)
    sheet.autofilter(0, 0, max(row, 1), len(CELL_COLUMNS) - 1)
    if row < total:
        yield _cut("cells", row, total)
    if unread:
        text = (
            f"cells.csv of {len(unread)} slides can't be read, so summary.xlsx lacks their cells; "
            f"the first is {encodable(unread[0])}; screen them again with --overwrite"
        )
        yield Doubt(code="xlsx-cells-missing", text=text)


def _listed(
    place: Place, report: SlideSummary, cells: Detections, least_score: float
) -> Iterator[tuple[Value, ...]]:
    """The cells of a slide that are worth a row, in the order of its cells.csv."""
    classes, mpp = report.common.classes, report.mpp
    carry = np.zeros(len(cells), bool)
    carry[carriers(report, cells, classes)] = True
    wanted = carry | (is_abnormal(cells, classes) & (cells.scores >= least_score))
    centers = cells.centers.tolist()
    for index in np.flatnonzero(wanted).tolist():
        of = classes[int(cells.labels[index])]
        x, y = centers[index]
        yield (
            *(place.rank, place.row.slide, index + 1, of.name, grade_of(of) or None),
            *(round(float(cells.scores[index]), 4), bool(carry[index])),
            *(round(value, 3) for value in (x, y, x * mpp, y * mpp)),
        )


def _write_about(
    sheet: Worksheet,
    formats: _Formats,
    worklist: Worklist,
    least_score: float,
    doubts: Sequence[Doubt],
) -> None:
    told = [
        ("", NOTICE),
        ("Order of the slides", worklist.order),
        (
            "Cells",
            f"abnormal cells with a score of at least {least_score:g}, and those that carry a "
            "suggestion whatever their score; all cells are in each slide's cells.csv",
        ),
        *(("Note", str(doubt)) for doubt in doubts),
        ("", ""),
        *((c.name, c.meaning) for c in summary_columns(worklist.places)),
        ("", ""),
        *((f"Cells: {name}", meaning) for name, _, meaning in CELL_COLUMNS),
    ]
    sheet.set_column(0, 0, 24)
    sheet.set_column(1, 1, 110)
    for row, (name, text) in enumerate(told):
        sheet.write_string(row, 0, _clip(name), formats.head if name else formats.of["text"])
        sheet.write_string(row, 1, _clip(text), formats.wrapped)


def _head(
    sheet: Worksheet,
    formats: _Formats,
    columns: Sequence[tuple[str, int]],
    rows: int | None = None,
    *,
    frozen: int,
) -> None:
    """Header, widths, and what stays in sight; a filter over so many rows."""
    for column, (name, width) in enumerate(columns):
        sheet.set_column(column, column, width)
        sheet.write_string(0, column, _clip(name), formats.head)
    sheet.freeze_panes(1, frozen)
    sheet.set_landscape()
    sheet.set_paper(9)  # A4
    sheet.fit_to_pages(1, 0)
    sheet.repeat_rows(0)
    sheet.set_footer(f"&L{NOTICE}&RPage &P of &N")
    if rows is not None:
        sheet.autofilter(0, 0, max(rows, 1), len(columns) - 1)


def _width(column: Column) -> int:
    if column.name.endswith("_reason"):
        return _LONG
    return _WIDTHS.get(column.name, min(max(len(column.name) + 3, 9), _LONG))


def _put(
    sheet: Worksheet, formats: _Formats, row: int, column: int, value: Value, kind: Kind
) -> None:
    """A value as what it is; text never as a formula, a number or a link."""
    if value is None or value == "":
        return
    if isinstance(value, str):
        sheet.write_string(row, column, _clip(value), formats.text(value))
    elif isinstance(value, bool):
        sheet.write_boolean(row, column, value, formats.of[kind])
    else:
        sheet.write_number(row, column, value, formats.of[kind])


def _clip(text: str) -> str:
    """Text that a cell can hold."""
    text = encodable(text)
    return text if len(text) <= MOST_TEXT else text[: MOST_TEXT - 1] + "…"


def _link(place: Place) -> Url | None:
    """To a slide's page, relative to the workbook; None where there is none, or none can be."""
    slide = place.row.slide
    if place.row.report is None or slide != encodable(slide):  # bytes that no link can hold
        return None
    target = "".join(_escape(c) for c in f"{slide}/report.html")
    try:
        return _relative(target, _clip(slide))
    except ValueError:  # longer than Excel takes
        return None


def _escape(character: str) -> str:
    """As Excel escapes links to files: other letters than English ones stay as they are."""
    special = not character.isalnum() and character not in "-_.~/!$&'()*+,;=@"
    return f"%{ord(character):02X}" if special and character.isascii() else character


def _relative(target: str, text: str) -> Url:
    """A link to a file beside the workbook, with slashes, and what is shown of it.

    The library writes backslashes, which only Excel on Windows follows.
    """
    url = Url(f"external:{target}")
    url._relationship_link = target
    url.text = text
    return url


def _cut(what: str, kept: int, total: int) -> Doubt:
    text = (
        f"summary.xlsx has the first {kept:,} of {total:,} {what}: a sheet holds {MOST_ROWS:,} rows"
    )
    return Doubt(code="xlsx-cut", text=f"{text}; summary.csv and each slide's cells.csv have all")
