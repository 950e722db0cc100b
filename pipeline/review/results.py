"""What lies in a folder of reports: results, read once and again only where they change."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import ValidationError

from configs import ConfigError, Doubt
from pipeline.batch.fingerprint import Fingerprint, load_fingerprint
from pipeline.batch.journal import journals
from pipeline.batch.places import check_folder, look_below
from pipeline.batch.run_record import (
    RunRecord,
    SlideRecord,
    find_records,
    latest_slides,
    load_records,
    times_of,
)
from pipeline.reports.report import SlideReport, encodable, why_unreadable
from pipeline.reports.slide_summary import SlideSummary
from pipeline.reports.summary import Status, SummaryRow
from pipeline.review.guard import read_inside
from pipeline.review.store import SlideKey
from pipeline.slides.readers.base import show

REPORT = "report.json"

MOST_REPORT_BYTES = 256 << 20
"""A report.json that is larger is none."""

_OLD = Doubt(
    code="mixed-settings",
    text="this report is of other settings than the last run in this folder: thresholds and counts "
    "don't compare with the others'",
)

Stamp = tuple[int, int, int, int]
"""Size and time of a report and of its fingerprint; zeros where there is none."""


@dataclass(frozen=True)
class ReportFolder:
    """The result of one slide, as it lies in its folder.

    Attributes:
        id: short hash of the name; never a path.
        name: of the folder below the folder of reports, with forward slashes.
        folder: where it lies.
        report: without its cells.
        fingerprint: what it was made of; None where that is not known.
        stamp: changes with the result.
    """

    id: str
    name: str
    folder: Path
    report: SlideReport
    fingerprint: Fingerprint | None
    stamp: Stamp

    @property
    def key(self) -> SlideKey:
        """What its decisions are kept under."""
        return SlideKey(self.fingerprint.sha256 if self.fingerprint else "", self.name)


@dataclass(frozen=True)
class Broken:
    """A result that can't be used: its name, and why in one line."""

    name: str
    problem: str
    stamp: Stamp


def id_of(name: str) -> str:
    """The id of a result by its name: 16 hex digits."""
    return hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:16]


class Results:
    """The results below a folder; safe to use from several threads.

    Raises:
        ConfigError: there is no such folder, it is the report of one slide, there is no report in
            it, or none of them can be used.
    """

    def __init__(self, folder: Path) -> None:
        check_folder(folder)
        self.folder = folder
        self._lock = threading.Lock()
        self._known: dict[str, ReportFolder | Broken] = {}
        self._records: Sequence[RunRecord] = ()
        self._records_stamp: object = None
        self.refresh()
        self._refuse_useless()

    def refresh(self) -> bool:
        """Looks what has changed; whether anything has."""
        with self._lock:
            changed = self._read_records()
            places = look_below(self.folder)
            found = {places.name_of(place): place for place in places.results}
            for name in self._known.keys() - found.keys():
                del self._known[name]
                changed = True
            for name, place in found.items():
                stamp, known = stamp_of(place), self._known.get(name)
                if known is None or known.stamp != stamp:
                    self._known[name] = _load(self.folder, name, place, stamp)
                    changed = True
            return changed

    def folders(self) -> list[ReportFolder]:
        """Results that can be used, by name."""
        with self._lock:
            good = [one for one in self._known.values() if isinstance(one, ReportFolder)]
            recipe = _last_recipe(self._records)
        return sorted((_told(one, recipe) for one in good), key=lambda one: one.name)

    def broken(self) -> list[Broken]:
        """Results that can't, by name."""
        with self._lock:
            bad = [one for one in self._known.values() if isinstance(one, Broken)]
        return sorted(bad, key=lambda one: one.name)

    def rows(self) -> list[SummaryRow]:
        """A row a slide, by name: those with a report, and what the runs' records tell of others.

        A slide that the last run failed with counts as failed, though an older report may lie
        there, as in summary.html. A report of other settings than the last run's is shown,
        with a warning.
        """
        with self._lock:
            known, records = dict(self._known), self._records
        latest, recipe = latest_slides(records), _last_recipe(records)
        rows = [_row(name, one, latest, recipe) for name, one in known.items()]
        reported = {encodable(name) for name in known}
        for name, record in latest.items():
            if name not in reported:
                status: Status = "failed" if record.status == "failed" else "pending"
                rows.append(SummaryRow(name, record.path, status, error=record.error or ""))
        not_read = {path: text for record in records for path, text in record.not_read.items()}
        for path, text in not_read.items():
            rows.append(SummaryRow(Path(path).name, path, "not read", error=text))
        return sorted(rows, key=lambda row: row.slide)

    def _read_records(self) -> bool:
        stamp = times_of([*find_records(self.folder), *journals(self.folder)])
        if stamp == self._records_stamp:
            return False
        self._records = load_records(self.folder)
        self._records_stamp = stamp
        return True

    def _refuse_useless(self) -> None:
        if self.folders():
            return
        broken = self.broken()
        if broken:
            first = broken[0]
            raise ConfigError(
                f"{show(self.folder)}: none of its {len(broken)} reports can be used; "
                f"{first.problem}"
            )
        if not self._records:
            raise ConfigError(
                f"{show(self.folder)}: has no reports; name a folder that cytolibra screen wrote"
            )


def _row(
    name: str,
    one: ReportFolder | Broken,
    latest: Mapping[str, SlideRecord],
    recipe: str | None,
) -> SummaryRow:
    record = latest.get(encodable(name))
    if isinstance(one, Broken):
        return SummaryRow(name, record.path if record else name, "failed", error=one.problem)
    if record and record.status == "failed":
        return SummaryRow(name, one.report.slide.path, "failed", error=record.error or "")
    return SummaryRow(
        name, one.report.slide.path, "complete", SlideSummary.of(_told(one, recipe).report)
    )


def _last_recipe(records: Sequence[RunRecord]) -> str | None:
    """Of the run that began last; None where no record can be read."""
    last = max(records, key=lambda record: record.started, default=None)
    return last.recipe if last else None


def _told(one: ReportFolder, recipe: str | None) -> ReportFolder:
    """The same, with a warning where its report is of other settings than the last run's."""
    known = one.fingerprint
    if known is None or recipe is None or known.recipe == recipe:
        return one
    warnings = (*one.report.warnings, _OLD)
    return replace(one, report=one.report.model_copy(update={"warnings": warnings}))


def stamp_of(folder: Path) -> Stamp:
    """What the file system says of a result."""
    numbers: list[int] = []
    for name in (REPORT, "fingerprint.json"):
        try:
            status = (folder / name).stat()
            numbers += (status.st_size, status.st_mtime_ns)
        except OSError:
            numbers += (0, 0)
    return numbers[0], numbers[1], numbers[2], numbers[3]


def _load(root: Path, name: str, folder: Path, stamp: Stamp) -> ReportFolder | Broken:
    path = folder / REPORT
    content = read_inside(root, path, MOST_REPORT_BYTES)
    if content is None:
        return Broken(name, f"{show(path)}: can't be read, or lies outside of the reports", stamp)
    try:
        report = SlideReport.model_validate_json(content)
    except ValidationError:
        return Broken(name, f"{show(path)}: {why_unreadable(content)}", stamp)
    return ReportFolder(id_of(name), name, folder, report, load_fingerprint(folder), stamp)
