"""Tables for spreadsheets: CSV in the dialect that a program or a person's Excel expects."""

from __future__ import annotations

import csv
import locale
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TextIO

from pydantic import Field, JsonValue

from configs import StrictModel

Value = str | float | None
"""Of a table's cell; truth values are written as "True" and "False"."""

CsvKind = Literal["plain", "excel", "excel-comma", "excel-point"]

BOM = "\ufeff"

_FORMULA_STARTS = "=+\\-@＝＋－＠"
_FORMULA = re.compile(rf"^(?=[{_FORMULA_STARTS}\t\r\n])|(?<=[,;\t\r\n])(?=[{_FORMULA_STARTS}])")


@dataclass(frozen=True)
class CsvFormat:
    """How a table is written.

    Attributes:
        delimiter: between cells.
        decimal: mark in numbers.
        always_bom: whether the file begins with a byte order mark even where all is ASCII, which
            Excel needs to see that a file is UTF-8.
    """

    delimiter: str = ","
    decimal: str = "."
    always_bom: bool = False

    def start(self, *texts: str) -> str:
        """What a file begins with that holds these texts: a BOM where Excel would need it.

        Of plain CSV only where something is not ASCII: many programs read a BOM as part of the
        first column's name.
        """
        # A file's name may hold bytes that are no text: they are written as escapes.
        written = "".join(texts).encode("utf-8", "backslashreplace")
        return BOM if self.always_bom or not written.isascii() else ""

    def start_of(self, texts: Iterable[str]) -> str:
        """The same of many texts, which are looked at one by one as far as need be."""
        if self.always_bom:
            return BOM
        return next((begin for text in texts if (begin := self.start(text))), "")

    def number(self, text: str) -> str:
        """A number, or several in one row, as written with a point."""
        return text.replace(".", self.decimal)


PLAIN = CsvFormat()

_FORMATS: Mapping[JsonValue, CsvFormat] = {
    "plain": PLAIN,
    "excel-comma": CsvFormat(";", ",", always_bom=True),
    "excel-point": CsvFormat(",", ".", always_bom=True),
}


class ReportSettings(StrictModel):
    """How results are written.

    Attributes:
        csv: dialect of cells.csv and summary.csv. "plain" is for programs: commas, decimal points,
            UTF-8, with a byte order mark where a text is not ASCII: in cells.csv a class, in
            summary.csv nearly always something. Excel reads what the system's region says:
            "excel-comma" has semicolons and decimal commas, "excel-point" commas and decimal
            points, both a byte order mark. "excel" is one of these two, by the decimal mark of this
            machine's locale.
        xlsx: whether summary.xlsx is written, too. One that is there is kept up in any case.
        xlsx_score: abnormal cells with at least this score have a row in it, and whatever their
            score those that carry a suggestion.
        parquet: whether each slide's cells are written as cells.parquet, too; needs pyarrow, of the
            extra `parquet`.
        dicom: whether each slide's results are written as DICOM objects, too: cells.ann.dcm and
            report.sr.dcm; needs highdicom, of the extra `dicom`. "source": of DICOM slides, into
            their study; "derived": of all, others under UIDs that are derived from their content.
        fhir: whether report.fhir.json, a FHIR R4 DiagnosticReport, is written, too.
    """

    csv: CsvKind = "plain"
    xlsx: bool = False
    xlsx_score: float = Field(0.5, ge=0, le=1)
    parquet: bool = False
    dicom: Literal["source", "derived"] | None = None
    fhir: bool = False

    def settled(self) -> ReportSettings:
        """The same with "excel" as what it is on this machine."""
        return self.model_copy(update={"csv": _excel_here()}) if self.csv == "excel" else self

    def of_slides(self) -> dict[str, JsonValue]:
        """What shapes a slide's own files, as JSON, settled: nothing of the workbook of all.

        Of what is not wanted nothing is said, as before there was any.
        """
        extra = {"parquet": self.parquet, "dicom": self.dicom, "fhir": self.fhir}
        return {"csv": self.settled().csv} | {name: value for name, value in extra.items() if value}


def wants_parquet(settings: Mapping[str, JsonValue]) -> bool:
    """Whether all settings in force want ``cells.parquet`` (``reports.parquet``)."""
    reports = settings.get("reports")
    return isinstance(reports, dict) and reports.get("parquet") is True


def format_in_force(settings: Mapping[str, JsonValue]) -> CsvFormat:
    """The format that all settings in force name (``reports.csv``); plain where they don't."""
    reports = settings.get("reports")
    kind = reports.get("csv") if isinstance(reports, dict) else None
    return _FORMATS.get(_excel_here() if kind == "excel" else kind, PLAIN)


def write_csv(
    stream: TextIO, rows: Iterable[Sequence[Value]], csv_format: CsvFormat = PLAIN
) -> None:
    """Writes rows as CSV: text is defused, numbers get the format's decimal mark.

    The caller writes `CsvFormat.start` before.
    """
    # "\r\n" makes the writer quote text with either of the two, of which readers end a row.
    writer = csv.writer(_Lines(stream), delimiter=csv_format.delimiter, lineterminator="\r\n")
    writer.writerows([_cell(value, csv_format) for value in row] for row in rows)


def defuse(text: str) -> str:
    """Text that no spreadsheet runs, by an apostrophe before what begins like a formula.

    Also behind commas, semicolons and tabs: a spreadsheet that expects another delimiter than the
    file has cuts there, quotes or not.
    """
    return _FORMULA.sub("'", text)


def starts_formula(text: str) -> bool:
    """Whether a spreadsheet would take a text for a formula, were it typed into a cell."""
    return defuse(text[:1]) != text[:1]


class _Lines:
    """Takes rows as they come from `csv`, and ends them as on Unix."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, row: str) -> int:
        """One row, with its end."""
        return self._stream.write(row.removesuffix("\r\n") + "\n")


def _cell(value: Value, csv_format: CsvFormat) -> Value:
    if isinstance(value, str):
        return defuse(value)
    return csv_format.number(repr(value)) if type(value) is float else value


def _excel_here() -> CsvKind:
    """By the decimal mark of the user's locale; a point where the system knows none."""
    before = locale.setlocale(locale.LC_NUMERIC)
    try:
        locale.setlocale(locale.LC_NUMERIC, "")
        mark = locale.localeconv()["decimal_point"]
    except locale.Error:  # LANG names one that is not installed
        mark = "."
    finally:
        locale.setlocale(locale.LC_NUMERIC, before)
    return "excel-point" if mark == "." else "excel-comma"
