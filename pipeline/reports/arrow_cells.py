"""Cells as columns of Apache Arrow: read from ``cells.csv``, written as ``cells.parquet``.

Both files hold the same values, as the one is made of the other. Columns have their types; what is
empty in the one is null in the other. A column's unit and the slide's facts are in the metadata.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from configs import ConfigError
from pipeline.cells.classes import CellClass
from pipeline.reports.cells_table import (
    CELL_COLUMNS,
    LEVEL_COLUMNS,
    PLANE_COLUMNS,
    grade_columns,
    score_columns,
)
from pipeline.reports.report import SlideReport
from pipeline.reports.tables import defuse, format_in_force
from pipeline.slides.readers.base import reason, show

if TYPE_CHECKING:
    import pyarrow as pa

FILE = "cells.parquet"

_REQUIRED = CELL_COLUMNS[:-1]
"""Columns that every version of ``cells.csv`` has, with a value in each row."""

_FLAGS = ("abnormal", "carries_suggestion")
_WORDS = ("class", "grade")
_BLOCK = 1 << 22
"""Of a ``cells.csv`` that is in memory at once, in bytes; a row of it takes some 200."""


def import_extra(module: str, extra: str, wanted: str) -> ModuleType:
    """A module of an extra that may not be installed.

    Args:
        module: to import.
        extra: of ours, that has it.
        wanted: by what, for the message.

    Raises:
        ConfigError: it isn't there; names the extra.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module.partition(".")[0]:
            raise
        raise ConfigError(
            f"{wanted}: {error.name} is not installed: pip install 'cytolibra[{extra}]'"
        ) from error


def unit_of(column: str) -> str:
    """The unit of a column of numbers; empty for one of words, flags or counts."""
    if column in ("x_um", "y_um", "z_um"):
        return "µm"
    if column.startswith(("x_", "y_")):
        return "level-0 px"
    is_share = column.startswith(("score", "grade_"))
    return "0 to 1" if is_share else ""


def cell_schema(classes: Sequence[CellClass], graded: bool, planes: bool = False) -> pa.Schema:
    """The columns of a table of cells, those of ``cells.csv`` in its order.

    Args:
        classes: of the model.
        graded: whether a grader looked again.
        planes: whether the slide has several focal planes.
    """
    import pyarrow as pa

    names = [*CELL_COLUMNS, *score_columns(classes), *LEVEL_COLUMNS]
    if graded:
        names += grade_columns(classes)
    if planes:
        names += PLANE_COLUMNS
    fields = []
    for name in names:
        unit = unit_of(name)
        metadata = {"unit": unit} if unit else None
        fields.append(pa.field(name, _type_of(name), name not in _REQUIRED, metadata))
    return pa.schema(fields)


def schema_of(report: SlideReport) -> pa.Schema:
    """The columns of one slide's cells."""
    has_planes = report.planes is not None
    return cell_schema(report.model.classes, report.second_look is not None, has_planes)


def read_batches(path: Path, report: SlideReport) -> Iterator[pa.RecordBatch]:
    """The cells of a ``cells.csv``, some thousands at a time.

    Args:
        path: of the file; of any dialect, of this version or an earlier one.
        report: of the same slide, which says how many cells there are.

    Raises:
        ConfigError: it can't be read, is damaged, or holds other cells than the report counts.
    """
    import pyarrow as pa

    schema = schema_of(report)
    names = {defuse(one.name): one.name for one in report.model.classes}
    rows = 0
    try:
        _check_end(path)
        for batch in _parse(path, schema, report):
            checked = _checked(batch, schema, names)
            rows += len(checked)
            yield checked
    except (pa.ArrowInvalid, pa.ArrowKeyError, ValueError) as error:
        raise ConfigError(
            f"{show(path)}: is damaged: {reason(error)}; screen its slide again"
        ) from error
    except OSError as error:
        raise ConfigError(f"{show(path)}: can't be read: {error.strerror or error}") from error
    if rows != sum(report.counts.values()):
        raise ConfigError(
            f"{show(path)}: is damaged: it has {rows} cells, and report.json beside it counts "
            f"{sum(report.counts.values())}; screen its slide again"
        )


def write_parquet(report: SlideReport, folder: Path) -> None:
    """Writes ``cells.parquet`` into a folder that has the slide's ``cells.csv``.

    Raises:
        ConfigError: pyarrow is not installed.
        OSError: it can't be written.
    """
    pq = import_extra("pyarrow.parquet", "parquet", "reports.parquet")
    schema = schema_of(report)
    facts = {
        **facts_of_all(report),
        "slide": report.slide.path,
        "mpp": report.slide.mpp,
        "width": report.slide.width,
        "height": report.slide.height,
    }
    schema = schema.with_metadata({"cytolibra": json.dumps(facts, ensure_ascii=False)})
    with (
        (folder / FILE).open("wb") as stream,  # see `_parse`
        pq.ParquetWriter(stream, schema, compression="zstd") as writer,
    ):
        for batch in read_batches(folder / "cells.csv", report):
            writer.write_batch(batch.replace_schema_metadata(schema.metadata))


def facts_of_all(report: SlideReport) -> dict[str, Any]:
    """What the metadata say of every slide that one model screened."""
    return {
        "schema_version": report.schema_version,
        "model": report.model.name,
        "weights": report.model.identity,
        "frame": "level-0 pixels of the whole slide, origin at its top left",
        "software": report.software.get("cytolibra", ""),
        "notice": report.notice,
    }


def _type_of(column: str) -> pa.DataType:
    import pyarrow as pa

    if column in ("id", "plane"):
        return pa.int64()
    if column in _WORDS:
        return pa.string()
    if column in _FLAGS:
        return pa.bool_()
    return pa.float64()  # in 32 bits a score of 0.35 would lie below a threshold of 0.35


def _check_end(path: Path) -> None:
    """Looks at the last byte: what was broken off within a row ends without a line's end.

    Raises:
        ValueError: it is none.
    """
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - 1))
        if file.read() != b"\n":
            raise ValueError("it was broken off" if size else "it is empty")


def _parse(path: Path, schema: pa.Schema, report: SlideReport) -> Iterator[pa.RecordBatch]:
    """What the file holds, by the dialect that the report's settings name."""
    from pyarrow import csv

    chosen = format_in_force(report.settings)
    header = _header(path, chosen.delimiter)
    if missing := [name for name in _REQUIRED if name not in header]:
        raise ValueError(f"there is no column {missing[0]}")
    options = (
        csv.ReadOptions(block_size=_BLOCK, use_threads=False),
        csv.ParseOptions(delimiter=chosen.delimiter),
        csv.ConvertOptions(
            column_types={field.name: field.type for field in schema},
            include_columns=schema.names,
            include_missing_columns=True,  # of earlier versions, which had fewer
            decimal_point=chosen.decimal,
            null_values=[""],
            strings_can_be_null=True,
            true_values=["true"],
            false_values=["false"],
        ),
    )
    # Opened here: Arrow takes no path whose bytes are no text.
    with path.open("rb") as stream, csv.open_csv(stream, *options) as reader:
        yield from reader


def _header(path: Path, delimiter: str) -> list[str]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return [name.strip('"') for name in file.readline().rstrip("\r\n").split(delimiter)]


def _checked(batch: pa.RecordBatch, schema: pa.Schema, names: dict[str, str]) -> pa.RecordBatch:
    """A batch whose values can be those of cells, with classes as the model calls them.

    Raises:
        ValueError: they can't.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    for field in schema:
        values = batch.column(field.name)
        if not field.nullable and values.null_count:
            raise ValueError(f"a cell of the column {field.name} is empty")
        if pa.types.is_floating(field.type):
            if pc.all(pc.is_finite(values)).as_py() is False:
                raise ValueError(f"a number of the column {field.name} is not finite")
            if unit_of(field.name) == "0 to 1" and (pc.max(values).as_py() or 0) > 1:
                raise ValueError(f"a number of the column {field.name} is above 1")
    called = batch.column("class").to_pylist()
    if strangers := set(called) - set(names):
        raise ValueError(f"no class of the model is called {min(strangers)}")
    columns = [batch.column(name) for name in schema.names]
    columns[schema.get_field_index("class")] = pa.array([names[one] for one in called], pa.string())
    return pa.record_batch(columns, schema=schema)
