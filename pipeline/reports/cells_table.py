"""``cells.csv``: a row a cell, written and read back.

Columns are only ever added behind the others.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, TextIO

import numpy as np
from numpy.typing import NDArray

from configs import ConfigError
from data.tables import Sheet, number, read_sheet
from pipeline.cells.classes import (
    HIGH_GRADE,
    LOW_GRADE,
    CellClass,
    abnormal_scores,
    grade_of,
    level_scores,
)
from pipeline.geometry import Detections
from pipeline.reports.cells_reading import as_planes, read_plain
from pipeline.reports.planes import PlaneFacts
from pipeline.reports.report import SlideReport
from pipeline.reports.tables import CsvFormat, defuse, format_in_force, write_csv
from pipeline.reports.triage import carriers
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
"""Of every table; a score of each class follows, see `score_columns`, then `LEVEL_COLUMNS`, and
where a grader looked again its grades, see `grade_columns`."""

LEVEL_COLUMNS = ("grade", "score_low_grade", "score_high_grade", "carries_suggestion")
"""Low or high grade by the cell's class, empty for one of neither; its best score of each; whether
it is one of those by which a category is suggested."""

PLANE_COLUMNS = ("plane", "z_um")
"""Of a slide with several focal planes, behind all others: the number of the plane in which a cell
was found, from 1, and where that lies, in µm; empty where the file doesn't say."""

BACKGROUND = "grade_background"
"""The column of how likely it is that there is no cell."""

_SIDES = ("x_min", "y_min", "x_max", "y_max")

_CHUNK = 10_000


def score_columns(classes: Sequence[CellClass]) -> list[str]:
    """Names of the columns of each class's score: ``score_HSIL``; in the model's order.

    A class that is called "abnormal" would take the name of a column of all: its own is
    ``score_class_abnormal``; likewise "low_grade" and "high_grade".
    """
    taken = {*CELL_COLUMNS, *LEVEL_COLUMNS}
    names = [f"score_{cell_class.name}" for cell_class in classes]
    return [n.replace("score_", "score_class_", 1) if n in taken else n for n in names]


def grade_columns(classes: Sequence[CellClass]) -> list[str]:
    """Names of the columns of a grader's probabilities, which sum to one: ``grade_HSIL``.

    ``grade_background`` is the last. A class of that name is ``grade_class_background``.
    """
    names = [f"grade_{cell_class.name}" for cell_class in classes]
    return [n.replace("grade_", "grade_class_", 1) if n == BACKGROUND else n for n in names] + [
        BACKGROUND
    ]


def write_cells(stream: TextIO, report: SlideReport) -> None:
    """Writes the cells; only the class is text, so it alone needs quoting and defusing.

    Where nobody knows the scores of all classes their cells are empty, and so are the grades of
    cells that were not looked at again. Without a second look there are no columns of grades, of
    a slide with one focal plane none of planes.
    """
    classes, mpp = report.model.classes, report.slide.mpp
    chosen = format_in_force(report.settings)
    stream.write(chosen.start(*(c.name for c in classes)))
    graded = report.second_look is not None
    second = grade_columns(classes) if graded else []
    places = [_place_of(plane, chosen) for plane in report.planes or ()]
    columns = [*CELL_COLUMNS, *score_columns(classes), *LEVEL_COLUMNS, *second]
    write_csv(stream, [[*columns, *(PLANE_COLUMNS if places else ())]], chosen)
    names = [_text(chosen, c.name, "true" if c.abnormal else "false") for c in classes]
    numbers = chosen.delimiter.join(["%.4f", *["%.2f"] * 8])
    of_all = f"{chosen.delimiter}%.4f" * (len(classes) + 1)
    unknown = chosen.delimiter * (len(classes) + 1)
    of_second, no_second = f"{chosen.delimiter}%.4f" * len(second), chosen.delimiter * len(second)
    grades = [chosen.delimiter + grade_of(c) for c in classes]
    of_levels, no_levels = f"{chosen.delimiter}%.4f" * 2, chosen.delimiter * 2
    carry = set(carriers(report.suggestion, report.cells, classes).tolist())
    flags = [chosen.delimiter + text for text in ("false", "true")]
    for cell in numbered(report.cells, classes):
        left, top, right, bottom = cell.box
        x, y = (left + right) / 2, (top + bottom) / 2
        row = numbers % (cell.score, *cell.box, x, y, x * mpp, y * mpp)
        start = (str(cell.number), names[cell.label], chosen.number(row))
        rest = chosen.number(of_all % cell.scores) if cell.scores else unknown
        levels = chosen.number(of_levels % cell.by_grade) if cell.by_grade else no_levels
        stream.write(chosen.delimiter.join(start) + rest + grades[cell.label] + levels)
        looked = chosen.number(of_second % cell.grades) if graded and cell.grades else no_second
        place = places[cell.plane] if places and cell.plane is not None else ""
        stream.write(flags[cell.number - 1 in carry] + looked + place + "\n")


class Numbered(NamedTuple):
    """A cell as the files have it.

    Attributes:
        number: from 1.
        label: index into the classes.
        score: of the class that it is called by.
        box: level-0 pixels.
        scores: that it is abnormal, then of each class; empty where nobody knows them.
        by_grade: that it is of low grade, that it is of high grade; likewise.
        grades: of each class and of background, by a second look; empty where there was none.
        plane: 0-based; None of a slide with one.
    """

    number: int
    label: int
    score: float
    box: list[float]
    scores: tuple[float, ...]
    by_grade: tuple[float, ...]
    grades: tuple[float, ...] = ()
    plane: int | None = None


def numbered(cells: Detections, classes: Sequence[CellClass]) -> Iterator[Numbered]:
    """The cells one by one; only a chunk at a time as objects."""
    for start in range(0, len(cells), _CHUNK):
        part = cells[start : start + _CHUNK]
        scores: list[tuple[float, ...]] = [()] * len(part)
        by_grade = scores
        if part.class_scores is not None:
            scores = _rows(abnormal_scores(part, classes), part.class_scores)
            by_grade = _rows(*(level_scores(part, classes, g) for g in (LOW_GRADE, HIGH_GRADE)))
        grades: list[tuple[float, ...]] = [()] * len(part)
        if part.grades is not None:
            rows = zip(part.grades.tolist(), part.graded.tolist(), strict=True)
            grades = [tuple(row) if is_known else () for row, is_known in rows]
        numbers = range(start + 1, start + 1 + len(part))
        plain = (part.labels.tolist(), part.scores.tolist(), part.boxes.tolist())
        unknown = [None] * len(part)
        planes = unknown if part.planes is None else part.planes.tolist()
        columns = (*plain, scores, by_grade, grades, planes)
        yield from map(Numbered, numbers, *columns)


def _rows(*columns: NDArray[np.float32]) -> list[tuple[float, ...]]:
    return list(map(tuple, np.column_stack(columns).tolist()))


def read_cells(path: Path, classes: Sequence[CellClass], most: int | None = None) -> Detections:
    """Reads a ``cells.csv`` of any format, of this version or an earlier one.

    Args:
        path: the file.
        classes: the model's, by which its cells are named.
        most: the number of rows that are wanted, the first ones; None for all.

    Returns:
        Level-0 boxes in the file's order, with the scores of all classes where they are told, and
        grades and focal planes where there are columns of them.

    Raises:
        ConfigError: it can't be read, or is none.
    """
    names, columns = [defuse(c.name) for c in classes], score_columns(classes)
    plain = read_plain(path, names, _SIDES, columns, grade_columns(classes), most)
    if plain is not None:
        return plain
    sheet = read_sheet(path)
    sheet = replace(sheet, rows=sheet.rows[:most])
    labels = {name: label for label, name in enumerate(names)}
    of_all = None
    try:
        boxes = _numbers(sheet, _SIDES)
        scores = _numbers(sheet, ["score"])[:, 0].astype(np.float32)
        called = _column(sheet, "class")
        if strangers := set(called) - set(labels):
            raise ValueError(f"no class is called {min(strangers)}")
        named = np.array([labels[name] for name in called], np.int64)
        if set(columns) <= set(sheet.header) and all(_column(sheet, columns[0])):
            of_all = _numbers(sheet, columns).astype(np.float32)
        grades = _grades(sheet, grade_columns(classes))
        planes = None
        if PLANE_COLUMNS[0] in sheet.header:
            planes = as_planes(_numbers(sheet, PLANE_COLUMNS[:1])[:, 0])
    except ValueError as error:
        raise ConfigError(f"{path}: is no cells.csv of this model: {reason(error)}") from error
    return Detections(boxes, scores, named, of_all, grades, planes)


def _place_of(plane: PlaneFacts, chosen: CsvFormat) -> str:
    """The cells of `PLANE_COLUMNS`, behind others."""
    depth = "" if plane.z_um is None else chosen.number(f"{plane.z_um:.3f}")
    return f"{chosen.delimiter}{plane.number}{chosen.delimiter}{depth}"


def _grades(sheet: Sheet, columns: Sequence[str]) -> NDArray[np.float32] | None:
    """(N, C + 1), NaN where cells are empty; None where there are no such columns."""
    if not set(columns) <= set(sheet.header):
        return None
    known = np.array([bool(text) for text in _column(sheet, columns[0])], bool)
    grades = np.full((len(known), len(columns)), np.nan, np.float32)
    kept = [row for row, is_known in zip(sheet.rows, known, strict=True) if is_known]
    grades[known] = _numbers(replace(sheet, rows=tuple(kept)), columns)
    return grades


def _column(sheet: Sheet, name: str) -> list[str]:
    """The cells of one column; those that a short row lacks are empty."""
    if name not in sheet.header:
        raise ValueError(f"there is no column {name}")
    place = sheet.header.index(name)
    return [row[place] if place < len(row) else "" for row in sheet.rows]


def _numbers(sheet: Sheet, names: Sequence[str]) -> NDArray[np.float64]:
    """(N, columns), all finite; what this program writes has no marks for thousands."""
    numbers = np.empty((len(sheet.rows), len(names)))
    for place, name in enumerate(names):
        texts = [text.replace(",", ".") for text in _column(sheet, name)]
        try:
            numbers[:, place] = list(map(float, texts))
        except ValueError:
            numbers[:, place] = list(map(number, texts))  # slower, and says which is none
    if not np.isfinite(numbers).all():
        raise ValueError("not all numbers are finite")
    return numbers


def _text(chosen: CsvFormat, *values: str) -> str:
    stream = io.StringIO()
    write_csv(stream, [values], chosen)
    return stream.getvalue().removesuffix("\n")
