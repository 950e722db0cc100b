"""Reads ``cells.csv`` as this program writes it by default, millions of cells in seconds.

Numbers go from text to arrays without an object a cell. Whatever is not as written here, a decimal
comma, a damaged row, is left to `cells_table.read_cells`, which takes anything and says what is
wrong: there is nothing here that it would read otherwise.
"""

from __future__ import annotations

import csv
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from pipeline.geometry import Detections

PLANE = "plane"
"""The column of a focal plane's number."""

MOST_PLANES = 2**15

_ROWS = 100_000
"""Read at once."""

_WIDEST = 24
"""Characters of a number that is kept as text until it is known whether there is one."""


def read_plain(
    path: Path,
    names: Sequence[str],
    sides: Sequence[str],
    scores: Sequence[str],
    grades: Sequence[str],
    most: int | None,
) -> Detections | None:
    """The cells of a plain table.

    Args:
        path: the file.
        names: of the classes, as they are written.
        sides: columns of the boxes.
        scores: columns of the scores of all classes.
        grades: columns of the second look's.
        most: rows that are wanted; None for all.

    Returns:
        The cells; None where this is no such table.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            header = next(csv.reader([stream.readline()]), [])
            if not {"class", "score", *sides} <= set(header) or len(set(header)) < len(header):
                return None
            columns = _Columns(header, names, sides, scores, grades)
            parts = [columns.convert(rows) for rows in _rows(stream, columns, most)]
    except (OSError, ValueError, csv.Error):
        return None
    if any(part is None for part in parts):
        return None
    found = [part for part in parts if part is not None]
    return _joined(found)


def as_planes(numbers: NDArray[np.float64]) -> NDArray[np.int16]:
    """(N,) focal planes, 0-based, of their numbers from 1.

    Raises:
        ValueError: a number is none of a plane.
    """
    if not ((numbers >= 1) & (numbers < MOST_PLANES) & (numbers == np.floor(numbers))).all():
        raise ValueError("not all numbers of planes are some")
    return np.asarray(numbers - 1, np.int16)


class _Columns:
    """Which columns are read, and how."""

    def __init__(
        self,
        header: Sequence[str],
        names: Sequence[str],
        sides: Sequence[str],
        scores: Sequence[str],
        grades: Sequence[str],
    ) -> None:
        self._sides = list(sides)
        self._scores = list(scores) if set(scores) <= set(header) else []
        self._grades = list(grades) if set(grades) <= set(header) else []
        # One character more than the longest: what is cut to it is no class's name.
        self._names = np.array(names, f"U{max(map(len, names)) + 1}")
        self._has_planes = PLANE in header
        numbers = ["score", *self._sides, *([PLANE] if self._has_planes else [])]
        # Scores of all classes may be empty, in all rows, and grades in some.
        texts = [*self._scores, *self._grades]
        places = {name: place for place, name in enumerate(header)}
        self.use = [places[name] for name in ("class", *numbers, *texts)]
        kinds = [("f0", self._names.dtype)]
        kinds += [(f"f{i}", np.dtype(np.float64)) for i in range(1, len(numbers) + 1)]
        first = len(numbers) + 1
        kinds += [(f"f{i}", np.dtype(f"S{_WIDEST}")) for i in range(first, first + len(texts))]
        self.dtype = np.dtype(kinds)

    def convert(self, rows: NDArray[Any]) -> Detections | None:
        """The cells of some rows; None where not all numbers are some, or a class is none."""
        labels = np.full(len(rows), -1, np.int64)
        for label, name in enumerate(self._names):
            labels[rows["f0"] == name] = label
        boxes = np.stack([rows[f"f{i}"] for i in range(2, 6)], axis=1)
        own = rows["f1"]
        if (labels < 0).any() or not (np.isfinite(boxes).all() and np.isfinite(own).all()):
            return None
        first = 7 if self._has_planes else 6
        between = first + len(self._scores)
        scores = self._texts(rows, first, between)
        grades = self._texts(rows, between, between + len(self._grades))
        if scores is not None and np.isnan(scores).any():
            scores = None
        planes = as_planes(rows["f6"]) if self._has_planes else None
        return Detections(boxes, own.astype(np.float32), labels, scores, grades, planes)

    def _texts(self, rows: NDArray[Any], first: int, last: int) -> NDArray[np.float32] | None:
        """(N, columns), NaN where the first of them is empty; None for no columns.

        Raises:
            ValueError: something else is empty, or is no number.
        """
        if first == last:
            return None
        known = rows[f"f{first}"] != b""
        values = np.full((len(rows), last - first), np.nan, np.float32)
        for place in range(first, last):
            values[known, place - first] = rows[f"f{place}"][known].astype(np.float64)
        if not np.isfinite(values[known]).all():
            raise ValueError("a number is none")
        return values


def _rows(stream: TextIO, columns: _Columns, most: int | None) -> Iterator[NDArray[Any]]:
    """Rows of the rest of a file, a part at a time; at least one part, which may be empty."""
    left, first = most, True
    while first or left is None or left > 0:
        wanted = _ROWS if left is None else min(_ROWS, left)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that nothing is left
            rows = np.loadtxt(
                stream,
                dtype=columns.dtype,
                delimiter=",",
                comments=None,
                quotechar='"',
                usecols=columns.use,
                max_rows=wanted,
                ndmin=1,
            )
        if first or len(rows):
            yield rows
        first = False
        if len(rows) < wanted:
            return
        left = None if left is None else left - len(rows)


def _joined(parts: Sequence[Detections]) -> Detections:
    """All parts; scores of all classes where the first cell has them, as `read_cells` has it."""
    of_all = [p.class_scores for p in parts if p.class_scores is not None]
    grades = [p.grades for p in parts if p.grades is not None]
    planes = [p.planes for p in parts if p.planes is not None]
    return Detections(
        np.concatenate([p.boxes for p in parts]),
        np.concatenate([p.scores for p in parts]),
        np.concatenate([p.labels for p in parts]),
        np.concatenate(of_all) if len(of_all) == len(parts) else None,
        np.concatenate(grades) if len(grades) == len(parts) else None,
        np.concatenate(planes) if len(planes) == len(parts) else None,
    )
