"""``cells.csv``: a row a cell, written and read back.

Columns are only ever added behind the others.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TextIO

import numpy as np
from numpy.typing import NDArray

from configs import ConfigError
from pipeline.cells.classes import CellClass, abnormal_scores
from pipeline.geometry import Detections
from pipeline.reports.report import SlideReport
from pipeline.reports.tables import (
    CsvFormat,
    defuse,
    format_in_force,
    read_number,
    read_table,
    write_csv,
)
from pipeline.slides.readers.base import reason

CELL_COLUMNS = (
    "id",
    "class",
    "abnormal",
    "score",
    "x_min",
    "y_min",
    "x_max",
    "y_max",
    "x_center",
    "y_center",
    "x_um",
    "y_um",
    "score_abnormal",
)
"""Of every table; a score of each class follows, see `score_columns`."""

_SIDES = ("x_min", "y_min", "x_max", "y_max")

_CHUNK = 10_000


def score_columns(classes: Sequence[CellClass]) -> list[str]:
    """Names of the columns of each class's score: ``score_HSIL``; in the model's order.

    A class that is called "abnormal" would take the name of a column of all: its own is
    ``score_class_abnormal``.
    """
    names = [f"score_{cell_class.name}" for cell_class in classes]
    return [n.replace("score_", "score_class_", 1) if n in CELL_COLUMNS else n for n in names]


def write_cells(stream: TextIO, report: SlideReport) -> None:
    """Writes the cells; only the class is text, so it alone needs quoting and defusing.

    Where nobody knows the scores of all classes their cells are empty.
    """
    classes, mpp = report.model.classes, report.slide.mpp
    chosen = format_in_force(report.settings)
    stream.write(chosen.start(*(c.name for c in classes)))
    write_csv(stream, [[*CELL_COLUMNS, *score_columns(classes)]], chosen)
    names = [_text(chosen, c.name, "true" if c.abnormal else "false") for c in classes]
    numbers = chosen.delimiter.join(["%.4f", *["%.2f"] * 8])
    of_all = f"{chosen.delimiter}%.4f" * (len(classes) + 1)
    unknown = chosen.delimiter * (len(classes) + 1) + "\n"
    for cell in numbered(report.cells, classes):
        left, top, right, bottom = cell.box
        x, y = (left + right) / 2, (top + bottom) / 2
        row = numbers % (cell.score, *cell.box, x, y, x * mpp, y * mpp)
        rest = of_all % cell.scores + "\n" if cell.scores else unknown
        start = (str(cell.number), names[cell.label], chosen.number(row))
        stream.write(chosen.delimiter.join(start) + chosen.number(rest))


class Numbered(NamedTuple):
    """A cell as the files have it.

    Attributes:
        number: from 1.
        label: index into the classes.
        score: of the class that it is called by.
        box: level-0 pixels.
        scores: that it is abnormal, then of each class; empty where nobody knows them.
    """

    number: int
    label: int
    score: float
    box: list[float]
    scores: tuple[float, ...]


def numbered(cells: Detections, classes: Sequence[CellClass]) -> Iterator[Numbered]:
    """The cells one by one; only a chunk at a time as objects."""
    for start in range(0, len(cells), _CHUNK):
        part = cells[start : start + _CHUNK]
        scores: list[tuple[float, ...]] = [()] * len(part)
        if part.class_scores is not None:
            both = np.column_stack([abnormal_scores(part, classes), part.class_scores])
            scores = list(map(tuple, both.tolist()))
        numbers = range(start + 1, start + 1 + len(part))
        columns = (part.labels.tolist(), part.scores.tolist(), part.boxes.tolist(), scores)
        yield from map(Numbered, numbers, *columns)


def read_cells(path: Path, classes: Sequence[CellClass]) -> Detections:
    """Reads a ``cells.csv`` of any format, of this version or an earlier one.

    Args:
        path: the file.
        classes: the model's, by which its cells are named.

    Returns:
        Level-0 boxes in the file's order, with the scores of all classes where they are told.

    Raises:
        ConfigError: it can't be read, or is none.
    """
    try:
        found, rows = read_table(path)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"{path}: can't be read: {reason(error)}") from error
    lacking = [name for name in ("class", "score", *_SIDES) if name not in found]
    if lacking:
        raise ConfigError(f"{path}: is no cells.csv: it has no column {lacking[0]}")
    labels = {defuse(c.name): label for label, c in enumerate(classes)}
    columns = score_columns(classes)
    told = bool(rows) and all(rows[0].get(name) for name in columns)
    try:
        boxes = _numbers(rows, _SIDES)
        scores = _numbers(rows, ["score"])[:, 0].astype(np.float32)
        named = np.array([labels[row["class"]] for row in rows], np.int64)
        of_all = _numbers(rows, columns).astype(np.float32) if told else None
    except (KeyError, ValueError) as error:
        raise ConfigError(f"{path}: is no cells.csv of this model: {reason(error)}") from error
    return Detections(boxes, scores, named, of_all)


def _numbers(rows: Sequence[Mapping[str, str]], names: Sequence[str]) -> NDArray[np.float64]:
    """(N, columns), all finite."""
    values = [[read_number(row[name]) for name in names] for row in rows]
    numbers = np.array(values, np.float64).reshape(-1, len(names))
    if not np.isfinite(numbers).all():
        raise ValueError("not all numbers are finite")
    return numbers


def _text(chosen: CsvFormat, *values: str) -> str:
    stream = io.StringIO()
    write_csv(stream, [values], chosen)
    return stream.getvalue().removesuffix("\n")
