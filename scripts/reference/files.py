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
from pipeline.reports.summary import summary_table
from scripts.reference.columns import (
    CELLS,
    FEATURES,
    GIVEN,
    OF_CLASS,
    SUMMARY,
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
        "A row a slide, of all runs and shards; failed ones and files that are not read, too.",
        "",
        *_columns(summary_columns(), SUMMARY),
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


def summary_columns() -> list[str]:
    """The header of ``summary.csv``, without the classes' columns."""
    return [str(name) for name in summary_table([])[0]]


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
