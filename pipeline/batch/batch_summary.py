"""``summary.csv`` and ``summary.html``: all slides of a batch, whichever run or shard did them."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from configs import Doubt
from pipeline.batch.discovery import SlideJob
from pipeline.batch.fingerprint import is_current
from pipeline.batch.output import has_result, load_report
from pipeline.batch.run_record import SlideRecord, find_records, latest_slides, load_records
from pipeline.reports.pages import render_summary
from pipeline.reports.report import encodable
from pipeline.reports.summary import SummaryRow, summary_table
from pipeline.reports.tables import PLAIN, CsvFormat, write_csv
from pipeline.reports.writers import write_whole
from pipeline.slides.unread import NotRead

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
) -> None:
    """Writes the summary from what all runs and shards have left in the output folder.

    Only results and records of this very recipe count. Shards may end at the same moment: each
    writes its record first and its summary last, and writes the summary again where a record has
    changed meanwhile, so that the last one tells all.

    Args:
        jobs: all slides, of all shards.
        out: the output folder.
        recipe: of the results that count.
        csv_format: of summary.csv.
        doubts: what is to be told of the batch as a whole.
        not_read: what looks like a slide and isn't read; a row each.

    Raises:
        OSError: it can't be written.
    """
    while True:
        seen = _stamp_records(out)
        known = latest_slides(record for record in load_records(out) if record.recipe == recipe)
        rows = [_row(job, out, recipe, known.get(encodable(job.name))) for job in jobs]
        rows += [_row_not_read(file) for file in not_read]
        table = io.StringIO()
        write_csv(table, summary_table(rows), csv_format)
        text = table.getvalue()
        write_whole(out / "summary.csv", csv_format.start(text) + text)
        write_whole(out / "summary.html", render_summary(rows, doubts))
        if _stamp_records(out) == seen:
            return


def _row(job: SlideJob, out: Path, recipe: str, record: SlideRecord | None) -> SummaryRow:
    if record and record.status == "failed":
        return SummaryRow(job.name, str(job.path), "failed", error=record.error or "")
    place = out / job.name
    report = load_report(place) if is_current(job, place, recipe) else None
    if report:
        return SummaryRow(job.name, str(job.path), "complete", report)
    return SummaryRow(job.name, str(job.path), "pending", error=_OLD if has_result(place) else "")


def _row_not_read(file: NotRead) -> SummaryRow:
    error = f"{file.kind}; {file.remedy} [files-not-read]"
    return SummaryRow(encodable(file.path.name), encodable(file.path), "not read", error=error)


def _stamp_records(out: Path) -> list[tuple[Path, int]]:
    return [(path, path.stat().st_mtime_ns) for path in find_records(out)]
