"""Which results still count, by what the records of the last run say of their slides.

A result stays until the next one takes its place. So one may lie there of a slide that failed when
it was last screened, of a file that has changed since, or of other settings than those of the last
run, which has not come to that slide, or could make no other report of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipeline.batch.fingerprint import has_same_files, load_fingerprint, slide_of
from pipeline.batch.run_record import (
    SlideRecord,
    latest_slides,
    load_records,
    of_last_run,
    tell_missing_parts,
)
from pipeline.reports.report import encodable
from pipeline.slides.containers import name_packages

Verdict = Literal["stands", "failed", "changed", "outdated"]
"""What holds of a result: it counts; its slide failed when it was last screened; its slide's files
have changed since; it is of other settings, or another reader's version, than the last run."""


@dataclass(frozen=True)
class LastRun:
    """What the records in a folder tell of its last run, of all its shards.

    Attributes:
        folder: of the run.
        recipe: of the results that it makes.
        rescores: whether it is ``cytolibra rescore``: what fails there has failed no screening.
        failed: names of slides that failed when they were last screened, but for those whose place
            has the report of another slide, which stands.
        undone: by name, slides that are neither complete nor among these.
        incomplete: names of all slides that are not complete.
        not_read: files that look like slides.
        parts: that parts have left no record; None where that isn't so.
    """

    folder: Path
    recipe: str
    rescores: bool
    failed: frozenset[str]
    undone: Mapping[str, SlideRecord]
    incomplete: frozenset[str]
    not_read: frozenset[str]
    parts: str | None

    @staticmethod
    def of(folder: Path) -> LastRun:
        """What the records in a folder tell."""
        records = load_records(folder)
        last = of_last_run(records)
        latest, own = latest_slides(records), latest_slides(last)
        screened = latest_slides(record for record in records if not record.rescores)
        failed = frozenset(
            name
            for name, one in screened.items()
            if one.status == "failed"
            and latest[name].status != "complete"
            and not one.finds_another
        )
        undone = {
            name: one
            for name, one in own.items()
            if one.status != "complete" and name not in failed and not one.finds_another
        }
        return LastRun(
            folder=folder,
            recipe=last[0].recipe if last else "",
            rescores=any(record.rescores for record in last),
            failed=failed,
            undone=undone,
            incomplete=frozenset(
                n for n, one in (latest | own).items() if one.status != "complete"
            ),
            not_read=frozenset(path for record in records for path in record.not_read),
            parts=tell_missing_parts(last),
        )

    def verdict(self, result: Path) -> Verdict:
        """What holds of the result in a folder; it stands where the run knows nothing of it."""
        if self.folder not in result.parents:
            return "stands"
        name = encodable(result.relative_to(self.folder).as_posix())
        if name in self.failed:
            return "failed"
        if name not in self.undone:
            return "stands"
        known = load_fingerprint(result)
        if known is None:
            return "outdated"
        job = slide_of(self.undone[name].path, name, known)
        if not job.gone and not has_same_files(job, result, known):
            return "changed"
        reader = known.reader if job.gone else name_packages(job.path)
        return "stands" if (known.recipe, known.reader) == (self.recipe, reader) else "outdated"


def verdict_of(result: Path, runs: Sequence[LastRun]) -> Verdict:
    """What the last runs in several folders say of a result: it stands where none denies it."""
    told = (run.verdict(result) for run in runs)
    return next((verdict for verdict in told if verdict != "stands"), "stands")
