"""The reference pages are what the code says, and leave out nothing of it."""

import io
import json

import pytest
from fakes import make_report

import cytolibra
from pipeline.batch import run_record
from pipeline.reports import report
from pipeline.reports.cells_table import write_cells
from pipeline.reports.summary_columns import COLUMNS
from scripts.cli import SUMMARIES
from scripts.reference.columns import meaning
from scripts.reference.files import _columns
from scripts.reference.pages import FOLDER, PAGES


def read(name):
    return (FOLDER / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_what_the_code_says(name):
    assert read(name) == PAGES[name](), "out of date: write it anew with `make docs`"


def test_every_command_has_a_section_with_its_options():
    sections = dict(part.split("\n", 1) for part in read("commands.md").split("\n## ")[1:])
    assert list(sections) == list(SUMMARIES)
    assert "`cytolibra calibrate REPORTS`" in sections["calibrate"]
    assert (
        "| `--sensitivity` | `X` | `0.95` | Share of positive slides to be found. |"
        in (sections["calibrate"])
    )
    assert "### data split" in sections["data"]
    assert "| `--out` | `DIR` | required | Folder for the reports. |" in sections["screen"]


def test_every_column_that_is_written_is_told():
    told = read("files.md")
    stream = io.StringIO()
    write_cells(stream, make_report())
    header = stream.getvalue().splitlines()[0].split(",")
    classes = set(make_report().counts)
    for column in [*header, *(column.name for column in COLUMNS)]:
        plain = column.removeprefix("score_").removeprefix("grade_")
        assert plain in classes or f"\n| `{column}` | " in told, column


def test_a_column_without_a_description_is_told():
    with pytest.raises(KeyError, match="the column stain has no description"):
        _columns(["stain"], {})
    with pytest.raises(KeyError, match=r"slide\.stain has no description"):
        meaning("slide.stain", "")


@pytest.mark.parametrize("schema", [report.SCHEMA, run_record.SCHEMA])
def test_every_key_of_a_published_schema_is_told(schema):
    content = json.loads(schema.read_text(encoding="utf-8"))
    parts = [content, *content["$defs"].values()]
    names = {name for part in parts for name in part.get("properties", {})}
    rows = [line for line in read("files.md").splitlines() if line.startswith("| `")]
    ends = {line.split("`")[1].rpartition(".")[2].removesuffix("[]") for line in rows}
    assert names <= ends


def test_no_setting_stands_there_without_a_meaning():
    rows = [line for line in read("settings.md").splitlines() if line.startswith("| `")]
    assert len(rows) > 400
    assert not [row for row in rows if row.endswith("|  |")]
    alpha = "| `model.loss.alpha_pos` | number ≥ 0 ≤ 1 | `0.8` | (name grad_libra) alpha of"
    assert any(row.startswith(alpha) for row in rows)


def test_every_public_name_is_on_the_page_of_python():
    lines = read("python.md").splitlines()
    for name in set(cytolibra.__all__) - {"__version__", "main"}:
        assert any(line.startswith("::: ") and line.endswith(f".{name}") for line in lines), name
