"""``summary.csv``, ``.html`` and ``.xlsx``: all slides of a batch, whichever run did them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from pydantic import ValidationError

from configs import ConfigError, Doubt
from pipeline.batch.discovery import SlideJob
from pipeline.batch.known import KnownResults
from pipeline.batch.output import has_result
from pipeline.batch.run_record import (
    RunRecord,
    SlideRecord,
    find_records,
    latest_slides,
    load_records,
    times_of,
)
from pipeline.batch.state import read_state
from pipeline.geometry import Detections
from pipeline.reports.cells_table import read_cells
from pipeline.reports.report import encodable, on_disk
from pipeline.reports.slide_summary import SlideSummary
from pipeline.reports.summary import SummaryRow
from pipeline.reports.summary_columns import summary_table
from pipeline.reports.summary_page import render_summary
from pipeline.reports.tables import PLAIN, CsvFormat, ReportSettings, format_in_force, write_csv
from pipeline.reports.worklist import Place, Worklist, order_slides
from pipeline.reports.writers import create, make_whole, write_whole
from pipeline.slides.readers.base import show
from pipeline.slides.unread import NotRead

TABLE = "summary.csv"

PAGE = "summary.html"

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
    known: KnownResults | None = None,
    as_of: str = "",
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
        known: what is known of the results; None to read it.
        as_of: of a run that goes on, how it stands and since when, in words. The workbook waits
            for its end then.

    Returns:
        What is to be told of the summary itself.

    Raises:
        OSError: it can't be written.
    """
    reports, known = reports or ReportSettings(), known or KnownResults(out)
    unread = [_row_not_read(file) for file in not_read]
    while True:
        seen = times_of(find_records(out))
        failed = _failures(out, recipe)
        rows = [_row(job, out, recipe, failed.get(encodable(job.name)), known) for job in jobs]
        told = _write([*rows, *unread], out, csv_format, doubts, reports, as_of)
        if as_of or times_of(find_records(out)) == seen:
            known.save()
            return told


def summarise_folder(out: Path) -> tuple[Path, tuple[Doubt, ...]]:
    """Writes the summary of a batch by its files alone, whether a run goes on or not.

    It is the one that the last run writes at its end, but for two things: whether slides have
    changed since is not looked at, and slides that no run has taken in hand yet are not in it.

    Args:
        out: the output folder.

    Returns:
        Its page, and what is to be told of it.

    Raises:
        ConfigError: there is no batch, or its record is damaged or of a newer version; or the
            summary can't be written.
    """
    known = KnownResults(out)
    state = read_state(out, known=known)
    last = max((run.record for run in state.runs), key=lambda record: record.started)
    rows = [
        _row_of_record(out, n, state.slides[n], last.recipe, known) for n in sorted(state.slides)
    ]
    not_read = {p: text for run in state.runs for p, text in run.record.not_read.items()}
    rows += [
        SummaryRow(Path(p).name, p, "not read", error=f"{text} [files-not-read]")
        for p, text in not_read.items()
    ]
    doubts = dict.fromkeys(doubt for run in state.runs for doubt in run.record.warnings)
    ended = sum(row.status in ("complete", "failed") for row in rows)
    going_on = any(run.alive for run in state.runs)
    as_of = tell_progress(ended, len(state.slides)) if going_on else ""
    csv_format, reports = format_in_force(last.settings), _reports_of(last)
    try:
        told = _write(rows, out, csv_format, list(doubts), reports, as_of)
    except OSError as error:
        raise ConfigError(f"{show(out)}: the summary can't be written: {error}") from error
    known.save()
    return out / PAGE, told


def tell_progress(ended: int, slides: int) -> str:
    """How a run that goes on stands, in words."""
    at = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    return (
        f"The run goes on: this is how it stood at {at}, with {ended:,} of {slides:,} slides done"
    )


def _write(
    rows: Sequence[SummaryRow],
    out: Path,
    csv_format: CsvFormat,
    doubts: Sequence[Doubt],
    reports: ReportSettings,
    as_of: str,
) -> tuple[Doubt, ...]:
    worklist = order_slides(rows)
    _write_table(out / TABLE, worklist, rows, csv_format)
    write_whole(out / PAGE, render_summary(worklist, doubts, as_of=as_of))
    if not as_of and (reports.xlsx or (out / WORKBOOK).exists()):
        return _write_workbook(out, worklist, reports.xlsx_score)
    return ()


def _failures(out: Path, recipe: str) -> dict[str, SlideRecord]:
    """What the records of this recipe tell of slides that failed last."""
    latest = latest_slides(record for record in load_records(out) if record.recipe == recipe)
    return {name: slide for name, slide in latest.items() if slide.status == "failed"}


def _reports_of(record: RunRecord) -> ReportSettings:
    """How a run was asked to write its reports; the defaults where its record is an older one."""
    try:
        return ReportSettings.model_validate(record.given.get("reports", {}))
    except ValidationError:
        return ReportSettings()


def _write_table(
    path: Path, worklist: Worklist, rows: Sequence[SummaryRow], csv_format: CsvFormat
) -> None:
    """The table has the slides as they were found: its order never changes between runs."""
    places = {id(place.row): place for place in worklist.places}
    ordered = [places[id(row)] for row in rows]
    texts = (v for row in summary_table(ordered) for v in row if isinstance(v, str))

    def write(partial: Path) -> None:
        with create(partial) as stream:
            stream.write(csv_format.start_of(texts))
            write_csv(stream, summary_table(ordered), csv_format)

    make_whole(path, write)


def _write_workbook(out: Path, worklist: Worklist, least_score: float) -> tuple[Doubt, ...]:
    from pipeline.reports.workbook import write_workbook  # only who wants one waits for it

    def cells_of(place: Place, report: SlideSummary) -> Detections:
        # Abnormal cells are the first: of a long table the rest is not looked at.
        path = out / place.row.slide / "cells.csv"
        cells = read_cells(path, report.common.classes, most=report.abnormal_cells)
        if len(cells) < report.abnormal_cells:
            raise ConfigError(f"{show(path)}: cells are missing")
        return cells

    told: list[Doubt] = []

    def write(path: Path) -> None:
        told.extend(write_workbook(path, worklist, cells_of, least_score))

    make_whole(out / WORKBOOK, write)
    return tuple(told)


def _row(
    job: SlideJob, out: Path, recipe: str, failure: SlideRecord | None, known: KnownResults
) -> SummaryRow:
    path = job.where
    if failure:
        return SummaryRow(job.name, path, "failed", error=failure.error or "")
    report = known.current(job, recipe)
    if report:
        return SummaryRow(job.name, path, "complete", report)
    return SummaryRow(job.name, path, "pending", error=_OLD if has_result(out / job.name) else "")


def _row_of_record(
    out: Path, name: str, slide: SlideRecord, recipe: str, known: KnownResults
) -> SummaryRow:
    if slide.status == "failed":
        return SummaryRow(name, slide.path, "failed", error=slide.error or "")
    folder = on_disk(name, out)
    if known.recipe(folder) == recipe and (report := known.summary(folder)):
        return SummaryRow(folder, slide.path, "complete", report)
    error = _OLD if has_result(out / folder) else ""
    return SummaryRow(folder, slide.path, "pending", error=error)


def _row_not_read(file: NotRead) -> SummaryRow:
    error = f"{file.kind}; {file.remedy} [files-not-read]"
    return SummaryRow(encodable(file.path.name), encodable(file.where), "not read", error=error)
