"""CSV for programs and for spreadsheets: dialects, and text that nobody runs."""

import csv
import io
import locale

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.reports.tables import (
    PLAIN,
    CsvFormat,
    ReportSettings,
    defuse,
    format_in_force,
    read_number,
    read_table,
    write_csv,
)

COMMA = format_in_force({"reports": {"csv": "excel-comma"}})
POINT = format_in_force({"reports": {"csv": "excel-point"}})

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


def test_the_dialects() -> None:
    assert CsvFormat(";", ",", always_bom=True) == COMMA
    assert CsvFormat(",", ".", always_bom=True) == POINT
    assert format_in_force({}) == format_in_force({"reports": {"csv": "plain"}}) == PLAIN


@pytest.mark.parametrize("chosen", [PLAIN, COMMA, POINT])
@given(st.lists(st.tuples(texts, st.floats(allow_nan=False), st.integers()), min_size=1))
def test_what_was_written_is_read_back(tmp_path_factory, chosen, rows) -> None:
    stream = io.StringIO()
    write_csv(stream, [("text", "number", "count"), *rows], chosen)
    path = tmp_path_factory.getbasetemp() / "table.csv"
    path.write_bytes((chosen.start(stream.getvalue()) + stream.getvalue()).encode())
    columns, back = read_table(path)
    assert list(columns) == ["text", "number", "count"]
    assert [(r["text"], read_number(r["number"]), int(r["count"])) for r in back] == [
        (defuse(text), number, count) for text, number, count in rows
    ]


@pytest.mark.parametrize("start", list("=+-@＝＋－＠"))
def test_text_is_defused_at_its_start_and_behind_other_delimiters(start: str) -> None:
    """A spreadsheet that expects semicolons cuts there, quotes or not."""
    assert defuse(f"{start}1+2") == f"'{start}1+2"
    for delimiter in ",;\t\n":
        assert defuse(f"f{delimiter}{start}1+2") == f"f{delimiter}'{start}1+2"
    assert defuse(f"a{start}b; {start}c") == f"a{start}b; {start}c"


def test_a_mark_stands_before_what_is_not_ascii_and_before_all_for_excel() -> None:
    assert PLAIN.start("slide", "a.svs") == ""
    assert PLAIN.start("slide", "Prüfling.svs") == POINT.start("slide") == "\ufeff"


@pytest.mark.parametrize(("mark", "kind"), [(".", "excel-point"), (",", "excel-comma")])
def test_excel_is_what_the_locale_says(monkeypatch, mark: str, kind: str) -> None:
    before = locale.setlocale(locale.LC_NUMERIC)
    monkeypatch.setattr(locale, "localeconv", lambda: {"decimal_point": mark})
    assert ReportSettings(csv="excel").settled().csv == kind
    assert format_in_force({"reports": {"csv": "excel"}}).decimal == mark
    assert locale.setlocale(locale.LC_NUMERIC) == before
    for forced in ("plain", "excel-comma", "excel-point"):
        assert ReportSettings(csv=forced).settled().csv == forced


def test_a_locale_that_is_not_installed_has_decimal_points(monkeypatch) -> None:
    monkeypatch.setenv("LC_ALL", "xx_XX.UTF-8")
    assert ReportSettings(csv="excel").settled().csv == "excel-point"


def test_a_quoted_cell_with_a_comma_is_no_number_of_columns() -> None:
    stream = io.StringIO()
    write_csv(stream, [["a,b", 1.5, True, None]], COMMA)
    assert stream.getvalue() == "a,b;1,5;True;\n"
    assert next(csv.reader([stream.getvalue()], delimiter=";")) == ["a,b", "1,5", "True", ""]
