"""``summary.csv``, ``.html`` and ``.xlsx``: all slides of a batch, whichever run did them."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from configs import ConfigError, Doubt
from pipeline.batch.discovery import SlideJob
from pipeline.batch.fingerprint import Fingerprints, is_current
from pipeline.batch.output import has_result, load_report
from pipeline.batch.run_record import (
    SlideRecord,
    find_records,
    latest_slides,
    load_records,
    times_of,
)
from pipeline.geometry import Detections
from pipeline.reports.cells_table import read_cells
from pipeline.reports.report import SlideReport, encodable
from pipeline.reports.summary import SummaryRow
from pipeline.reports.summary_columns import summary_table
from pipeline.reports.summary_page import render_summary
from pipeline.reports.tables import PLAIN, CsvFormat, ReportSettings, write_csv
from pipeline.reports.worklist import Place, Worklist, order_slides
from pipeline.reports.writers import make_whole, write_whole
from pipeline.slides.readers.base import show
from pipeline.slides.unread import NotRead

WORKBOOK = "summary.xlsx"

_OLD = (
    "the report that is here is of other settings, or the slide has changed since; it counts no "
    "more [mixed-settings]"
)


def write_summary(
    jobs: Sequence[SlideJob],
    out: Path,
    recipe: str,
    csv_format: CsvFormat = PLAIN,
    *,
    doubts: Sequence[Doubt] = (),
    not_read: Sequence[NotRead] = (),
    reports: ReportSettings | None = None,
    fingerprints: Fingerprints | None = None,
) -> tuple[Doubt, ...]:
    """Writes the summary from what all runs and shards have left in the output folder.

    Only results and records of this very recipe count. Shards may end at the same moment: each
    writes its record first and its summary last, and writes the summary again where a record has
    changed meanwhile, so that the last one tells all. A workbook is written where it is asked for,
    and where there is one: of two runs one without the other's options never leaves it behind.

    Args:
        jobs: all slides, of all shards.
        out: the output folder.
        recipe: of the results that count.
        csv_format: of summary.csv.
        doubts: what is to be told of the batch as a whole.
        not_read: what looks like a slide and isn't read; a row each.
        reports: whether and how the workbook is written; None for the defaults.
        fingerprints: those that were read; None to read them.

    Returns:
        What is to be told of the summary itself.

    Raises:
        OSError: it can't be written.
    """
    reports, fingerprints = reports or ReportSettings(), fingerprints or Fingerprints()
    while True:
        seen = times_of(find_records(out))
        known = latest_slides(record for record in load_records(out) if record.recipe == recipe)
        rows = [
            _row(job, out, recipe, known.get(encodable(job.name)), fingerprints) for job in jobs
        ]
        rows += [_row_not_read(file) for file in not_read]
        worklist = order_slides(rows)
        _write_table(out / "summary.csv", worklist, rows, csv_format)
        write_whole(out / "summary.html", render_summary(worklist, doubts))
        told: tuple[Doubt, ...] = ()
        if reports.xlsx or (out / WORKBOOK).exists():
            told = _write_workbook(out, worklist, reports.xlsx_score)
        if times_of(find_records(out)) == seen:
            return told


def _write_table(
    path: Path, worklist: Worklist, rows: Sequence[SummaryRow], csv_format: CsvFormat
) -> None:
    """The table has the slides as they were found: its order never changes between runs."""
    places = {id(place.row): place for place in worklist.places}
    table = io.StringIO()
    write_csv(table, summary_table([places[id(row)] for row in rows]), csv_format)
    text = table.getvalue()
    write_whole(path, csv_format.start(text) + text)


def _write_workbook(out: Path, worklist: Worklist, least_score: float) -> tuple[Doubt, ...]:
    from pipeline.reports.workbook import write_workbook  # only who wants one waits for it

    def cells_of(place: Place, report: SlideReport) -> Detections:
        # Abnormal cells are the first: of a long table the rest is not looked at.
        path = out / place.row.slide / "cells.csv"
        cells = read_cells(path, report.model.classes, most=report.abnormal_cells)
        if len(cells) < report.abnormal_cells:
            raise ConfigError(f"{show(path)}: cells are missing")
        return cells

    told: list[Doubt] = []

    def write(path: Path) -> None:
        told.extend(write_workbook(path, worklist, cells_of, least_score))

    make_whole(out / WORKBOOK, write)
    return tuple(told)


def _row(
    job: SlideJob,
    out: Path,
    recipe: str,
    record: SlideRecord | None,
    fingerprints: Fingerprints,
) -> SummaryRow:
    if record and record.status == "failed":
        return SummaryRow(job.name, job.where, "failed", error=record.error or "")
    place = out / job.name
    report = load_report(place) if is_current(job, place, recipe, fingerprints) else None
    if report:
        return SummaryRow(job.name, job.where, "complete", report)
    return SummaryRow(job.name, job.where, "pending", error=_OLD if has_result(place) else "")


def _row_not_read(file: NotRead) -> SummaryRow:
    error = f"{file.kind}; {file.remedy} [files-not-read]"
    return SummaryRow(encodable(file.path.name), encodable(file.where), "not read", error=error)
