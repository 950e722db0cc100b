"""The page of files: every column and key, with its unit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydantic import BaseModel

from configs.describing import described_schema
from models import DEFAULT_MODEL, ModelSource
from pipeline.batch.run_record import RunRecord
from pipeline.cells.classes import name_classes
from pipeline.reports.cells_table import (
    CELL_COLUMNS,
    LEVEL_COLUMNS,
    grade_columns,
    score_columns,
)
from pipeline.reports.report import SlideReport
from pipeline.reports.summary_columns import COLUMNS as SUMMARY_COLUMNS
from pipeline.reports.workbook import CELL_COLUMNS as SHEET_COLUMNS
from scripts.reference.columns import (
    CELLS,
    FEATURES,
    GIVEN,
    OF_CLASS,
    UNITS,
    WRITTEN,
    Column,
    meaning,
)
from scripts.reference.tables import code, rows_of, table

KEYS = ["key", "value", "what"]
COLUMNS = ["column", "unit", "what"]


def page() -> str:
    """``docs/reference/files.md``.

    Raises:
        KeyError: a column has no description.
    """
    lines = [
        "# Files",
        "",
        "What each command writes, and which tables it takes. Columns and keys are only added,",
        "behind the others; a change that breaks a reader raises `schema_version`. Tables are",
        "UTF-8; see [Excel](../how-to/excel.md) for other dialects.",
        "",
        *table(["file", "by", "what"], ([code(n), code(by), w] for n, by, w in WRITTEN)),
        "",
        "## cells.csv",
        "",
        "A row a cell, the most suspicious first: abnormal ones before normal, then by score.",
        f"Classes are the model's, here those of `{DEFAULT_MODEL}`.",
        "",
        *_columns(cell_columns(), CELLS),
        "",
        "## summary.csv",
        "",
        "A row a slide, of all runs and shards, in the order in which they were found; failed ones",
        "and files that are not read, too. Behind `abnormal_cells` stands a column for each class.",
        "",
        *table(COLUMNS, (_summarised(c.name, c.kind, c.meaning) for c in SUMMARY_COLUMNS)),
        "",
        "## summary.xlsx",
        "",
        "The sheet Slides has these columns; the sheet Cells the abnormal cells with a score of at",
        "least `reports.xlsx_score`, and whatever their score those that carry a suggestion:",
        "",
        *table(COLUMNS, (_summarised(*column) for column in SHEET_COLUMNS)),
        "",
        "## cells.geojson",
        "",
        "A FeatureCollection, a feature a line. Its `frame` says from where pixels count: the",
        "corner of the slide's bounds, as QuPath does; see [frames](../concepts/frames.md).",
        "",
        *table(COLUMNS, ([code(name), *column] for name, column in FEATURES.items())),
        "",
        *_keys("report.json", "All that is known of one slide.", SlideReport),
        "",
        *_keys("run.json", "What a run was asked, and how it went with each slide.", RunRecord),
        "",
        "## Tables that you give",
        "",
        *table(
            ["table", "column", "what"],
            ([name, code(column), text] for name, column, text in GIVEN),
        ),
    ]
    return "\n".join(lines) + "\n"


def cell_columns() -> list[str]:
    """The header of ``cells.csv`` of the default model, with its second look."""
    detector = ModelSource.find(DEFAULT_MODEL).card.detector
    classes = name_classes(detector.classes, detector.is_abnormal)
    return [
        *(*CELL_COLUMNS, *score_columns(classes)),
        *(*LEVEL_COLUMNS, *grade_columns(classes)),
    ]


def _summarised(name: str, kind: str, meaning: str) -> list[str]:
    if name not in UNITS and kind not in ("text", "flag"):
        raise KeyError(f"the column {name} has no unit in scripts/reference/columns.py")
    return [code(name), UNITS.get(name, ""), meaning]


def _columns(names: Sequence[str], known: Mapping[str, Column]) -> list[str]:
    return table(COLUMNS, ([code(name), *_described(name, known)] for name in names))


def _described(name: str, known: Mapping[str, Column]) -> Column:
    """What is said of a column; of those of classes by how their names begin."""
    if name in known:
        return known[name]
    starts = [start for start in OF_CLASS if name.startswith(start)]
    if not starts:
        raise KeyError(f"the column {name} has no description in scripts/reference/columns.py")
    return OF_CLASS[starts[0]]


def _keys(name: str, what: str, model: type[BaseModel]) -> list[str]:
    found = rows_of(described_schema(model))
    rows = [[code(row.path), row.kind, meaning(row.path, row.text)] for row in found]
    return [f"## {name}", "", what, "", *table(KEYS, rows)]
