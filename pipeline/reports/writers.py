"""The files of one slide: ``report.json``, ``.html``, ``cells.csv``, ``.geojson``, its previews.

``detections.npz`` beside them has what the network found, of which other reports can be made.

Text is UTF-8, lines end as on Unix; numbers have a fixed count of decimals; the same report gives
the same bytes. Cells are streamed row by row, so that millions of them need no second copy.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

from pipeline.cells.classes import class_colors, grade_of
from pipeline.reports.arrow_cells import write_parquet
from pipeline.reports.cells_table import grade_columns, numbered, write_cells
from pipeline.reports.detections import save_kept
from pipeline.reports.pages import render_report
from pipeline.reports.planes import PlaneFacts
from pipeline.reports.previews import preview_files
from pipeline.reports.report import SlideReport
from pipeline.reports.tables import wants_parquet

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
"""Whose process numbers stand in the journals of runs."""


def _machine() -> str:
    """This machine as nobody else can be it: machines may share a name, but not a start."""
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{HOST}.{boot.replace('-', '')}"
    return f"{HOST}.{uuid.getnode():x}"


MACHINE = _machine()
"""Whose process numbers stand in partial names, journals and a `pipeline.batch.lock.Holder`."""

_BOOT_ID = 32
"""Hexadecimal digits of what Linux calls a start. Elsewhere an address of the network stands there,
which another start may share and another call may not."""


def is_earlier_start(machine: str) -> bool:
    """Whether a `MACHINE` is this one before it was started anew, as far as that can be told.

    Another machine of this name looks the same.
    """
    host, _, boot = machine.rpartition(".")
    ours = MACHINE.rpartition(".")[2]
    return host == HOST and boot != ours and len(boot) == len(ours) == _BOOT_ID


_LEVELS = ', "score_abnormal": %.4f, "score_low_grade": %.4f, "score_high_grade": %.4f'

_CELL_NAMESPACE = uuid.UUID("6c1f0d0e-3a57-5e0b-9f0c-2f1d8f6b7a41")
"""Namespace of cells' UUIDs; never to be changed, so that a cell keeps its id."""


def write_reports(report: SlideReport, folder: Path) -> None:
    """Writes every file of one slide into ``folder``, which exists.

    But for the objects of ``reports.dicom`` and ``reports.fhir``, for which the slide is read once
    more: cytolibra screen writes these, and cytolibra objects.

    Raises:
        OSError: a file can't be written; the folder is then not to be used.
    """
    with create(folder / "report.json") as stream:
        stream.write(to_json(report.model_dump(mode="json")))
    with create(folder / "cells.csv") as stream:
        write_cells(stream, report)
    if wants_parquet(report.settings):
        write_parquet(report, folder)
    with create(folder / "cells.geojson") as stream:
        _write_geojson(stream, report)
    with create(folder / "report.html") as stream:
        stream.write(render_report(report))
    for name, jpeg in preview_files(report.pictures):
        (folder / name).write_bytes(jpeg)
    if report.kept:
        save_kept(report.kept, folder)


def to_json(value: Any) -> str:
    """Strict, readable JSON: UTF-8 as it is, no NaN, keys in their given order."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, indent=2) + "\n"


def write_whole(path: Path, text: str) -> None:
    """Writes a file whole or not at all: readers and other writers never meet a half of it."""

    def write(partial: Path) -> None:
        with create(partial) as stream:
            stream.write(text)

    make_whole(path, write)


def make_whole(path: Path, write: Callable[[Path], None]) -> None:
    """The same of a file, or a folder, that ``write`` makes at the path that it is given."""
    partial = path.with_name(partial_name())
    try:
        write(partial)
        os.replace(partial, path)
    finally:
        if partial.is_dir():
            shutil.rmtree(partial, ignore_errors=True)
        else:
            partial.unlink(missing_ok=True)


def partial_name() -> str:
    """A new name for something that is being written: hidden, and telling who writes it."""
    return f"{PARTIAL}{MACHINE}-{os.getpid()}-{uuid.uuid4().hex}"


def create(path: Path) -> TextIO:
    """A new text file, as all of them are."""
    # A file's name may hold bytes that are no text: they are shown as escapes.
    return path.open("w", encoding="utf-8", errors="backslashreplace", newline="")


def _write_geojson(stream: TextIO, report: SlideReport) -> None:
    """A FeatureCollection for QuPath, one feature a line, in QuPath's frame.

    QuPath crops a slide to the bounds that the file states, so that its origin is theirs.
    """
    left, top, *_ = report.slide.bounds or (0, 0)
    frame = {"origin": [left, top], "unit": "level-0 pixel", "of": "slide.bounds in report.json"}
    stream.write('{"type": "FeatureCollection", ')
    stream.write(f'"frame": {json.dumps(frame)}, "features": [')
    for index, feature in enumerate(_features(report, left, top)):
        stream.write(",\n" if index else "\n")
        stream.write(feature)
    stream.write("\n]}\n")


def _place_of(plane: PlaneFacts) -> tuple[str, str]:
    """Of a focal plane: what QuPath has in a geometry, counted from 0, and measurements."""
    depth = "" if plane.z_um is None else f', "z_um": {plane.z_um:.3f}'
    geometry = f', "plane": {{"c": -1, "z": {plane.number - 1}, "t": 0}}'
    return geometry, f', "plane": {plane.number}{depth}'


def _features(report: SlideReport, x: int, y: int) -> Iterator[str]:
    """Features with their origin at x, y in level-0 pixels; ids are of where cells lie there."""
    slide = Path(report.slide.path).name
    classes = [
        json.dumps({"name": c.name, "color": color}, ensure_ascii=False)
        for c, color in zip(report.model.classes, class_colors(report.model.classes), strict=True)
    ]
    names = [json.dumps(name, ensure_ascii=False) for name in grade_columns(report.model.classes)]
    grades = [grade_of(c) for c in report.model.classes]
    places = [_place_of(plane) for plane in report.planes or ()]
    for cell in numbered(report.cells, report.model.classes):
        corners = " ".join(f"{value:.2f}" for value in cell.box)
        name = f"{slide}\n{report.model.classes[cell.label].name}\n{corners}"
        sides = (cell.box[0] - x, cell.box[1] - y, cell.box[2] - x, cell.box[3] - y)
        left, top, right, bottom = (f"{value:.2f}" for value in sides)
        more = _LEVELS % (cell.scores[0], *cell.by_grade) if cell.scores else ""
        if cell.grades:
            more += "".join(map(", {}: {:.4f}".format, names, cell.grades))
        geometry, place = places[cell.plane] if cell.plane is not None else ("", "")
        more += place
        grade = f', "metadata": {{"grade": "{grades[cell.label]}"}}' if grades[cell.label] else ""
        yield (
            f'{{"type": "Feature", "id": "{uuid.uuid5(_CELL_NAMESPACE, name)}", '
            f'"geometry": {{"type": "Polygon", "coordinates": [[[{left}, {top}], [{right}, {top}], '
            f"[{right}, {bottom}], [{left}, {bottom}], [{left}, {top}]]]{geometry}}}, "
            f'"properties": {{"objectType": "detection", "name": "{cell.number}", '
            f'"classification": {classes[cell.label]}, '
            f'"measurements": {{"score": {cell.score:.4f}{more}}}{grade}}}}}'
        )
