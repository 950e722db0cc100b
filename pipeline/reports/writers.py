"""The files of one slide: ``report.json``, ``cells.csv``, ``cells.geojson``, ``report.html``.

Text is UTF-8, lines end as on Unix; numbers have a fixed count of decimals; the same report gives
the same bytes. Cells are streamed row by row, so that millions of them need no second copy.
"""

from __future__ import annotations

import csv
import io
import json
import os
import platform
import re
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

from pipeline.cells.classes import class_colors
from pipeline.geometry import Detections
from pipeline.reports.pages import render_report
from pipeline.reports.report import SlideReport

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
)

PARTIAL = ".partial-"
"""How names begin of what is being written."""


def _host() -> str:
    """This machine's name, and on Linux its world of process numbers.

    Containers may share a machine's name, but not its processes: a number that one does not know
    may be at work in another.
    """
    name = platform.node()
    with suppress(OSError):
        name += f".{os.stat('/proc/self/ns/pid').st_ino}"
    return re.sub(r"[^0-9A-Za-z.]+", "_", name)


HOST = _host()
"""Whose process numbers stand in partial names."""

_CELL_NAMESPACE = uuid.UUID("6c1f0d0e-3a57-5e0b-9f0c-2f1d8f6b7a41")
"""Namespace of cells' UUIDs; never to be changed, so that a cell keeps its id."""

_CHUNK = 10_000

_FORMULA_STARTS = tuple("=+-@\t\r\n＝＋－＠")


def write_reports(report: SlideReport, folder: Path) -> None:
    """Writes every file of one slide into ``folder``, which exists.

    Raises:
        OSError: a file can't be written; the folder is then not to be used.
    """
    with _create(folder / "report.json") as stream:
        stream.write(to_json(report.model_dump(mode="json")))
    with _create(folder / "cells.csv") as stream:
        _write_cells(stream, report)
    with _create(folder / "cells.geojson") as stream:
        _write_geojson(stream, report)
    with _create(folder / "report.html") as stream:
        stream.write(render_report(report))


def to_json(value: Any) -> str:
    """Strict, readable JSON: UTF-8 as it is, no NaN, keys in their given order."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, indent=2) + "\n"


def write_csv(stream: TextIO, rows: Iterable[Sequence[str | float | None]]) -> None:
    """Writes rows as CSV for spreadsheets: text is defused, numbers stay as they are.

    A spreadsheet would run text that begins like a formula; an apostrophe in front prevents it.
    """
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerows([_defuse(value) for value in row] for row in rows)


def write_whole(path: Path, text: str) -> None:
    """Writes a file whole or not at all: readers and other writers never meet a half of it."""
    partial = path.with_name(partial_name())
    try:
        with _create(partial) as stream:
            stream.write(text)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def partial_name() -> str:
    """A new name for something that is being written: hidden, and telling who writes it."""
    return f"{PARTIAL}{HOST}-{os.getpid()}-{uuid.uuid4().hex}"


def _create(path: Path) -> TextIO:
    # A file's name may hold bytes that are no text: they are shown as escapes.
    return path.open("w", encoding="utf-8", errors="backslashreplace", newline="")


def _defuse(value: str | float | None) -> str | float | None:
    if isinstance(value, str) and value.startswith(_FORMULA_STARTS):
        return f"'{value}"
    return value


def _write_cells(stream: TextIO, report: SlideReport) -> None:
    """Writes `CELL_COLUMNS`; only the class is text, so it alone needs quoting and defusing."""
    write_csv(stream, [CELL_COLUMNS])
    classes = [_csv_text(c.name, "true" if c.abnormal else "false") for c in report.model.classes]
    mpp = report.slide.mpp
    row_format = "%d,%s,%.4f" + ",%.2f" * 8 + "\n"
    for number, label, score, box in _rows(report.cells):
        x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
        stream.write(row_format % (number, classes[label], score, *box, x, y, x * mpp, y * mpp))


def _csv_text(*values: str) -> str:
    stream = io.StringIO()
    write_csv(stream, [values])
    return stream.getvalue().removesuffix("\n")


def _write_geojson(stream: TextIO, report: SlideReport) -> None:
    """A FeatureCollection for QuPath, one feature a line."""
    stream.write('{"type": "FeatureCollection", "features": [')
    for index, feature in enumerate(_features(report)):
        stream.write(",\n" if index else "\n")
        stream.write(feature)
    stream.write("\n]}\n")


def _features(report: SlideReport) -> Iterator[str]:
    slide = Path(report.slide.path).name
    classes = [
        json.dumps({"name": c.name, "color": color}, ensure_ascii=False)
        for c, color in zip(report.model.classes, class_colors(report.model.classes), strict=True)
    ]
    for number, label, score, box in _rows(report.cells):
        left, top, right, bottom = (f"{value:.2f}" for value in box)
        name = f"{slide}\n{report.model.classes[label].name}\n{left} {top} {right} {bottom}"
        yield (
            f'{{"type": "Feature", "id": "{uuid.uuid5(_CELL_NAMESPACE, name)}", '
            f'"geometry": {{"type": "Polygon", "coordinates": [[[{left}, {top}], [{right}, {top}], '
            f"[{right}, {bottom}], [{left}, {bottom}], [{left}, {top}]]]}}, "
            f'"properties": {{"objectType": "detection", "name": "{number}", '
            f'"classification": {classes[label]}, "measurements": {{"score": {score:.4f}}}}}}}'
        )


def _rows(cells: Detections) -> Iterator[tuple[int, int, float, list[float]]]:
    """Number from 1, label, score and box of each cell; only a chunk at a time as objects."""
    for start in range(0, len(cells), _CHUNK):
        part = cells[start : start + _CHUNK]
        yield from zip(
            range(start + 1, start + 1 + len(part)),
            part.labels.tolist(),
            part.scores.tolist(),
            part.boxes.tolist(),
            strict=True,
        )
