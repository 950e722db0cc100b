"""What comes of one attempt at a slide: its result, or what went wrong with it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from configs import CytoLibraError
from pipeline.batch.claims import Claims
from pipeline.batch.discovery import SlideJob
from pipeline.batch.fingerprint import (
    FileStamp,
    Fingerprint,
    hash_content,
    hash_found,
    hash_recipe,
    place_of,
    save_fingerprint,
    stamp_files,
)
from pipeline.batch.output import publish
from pipeline.batch.plan import BatchPlan
from pipeline.errors import SlideError, WorkerLostError, is_disk_full, kind_and_text
from pipeline.objects.writing import write_objects
from pipeline.reports.report import SlideReport, encodable
from pipeline.reports.writers import write_reports
from pipeline.slides.containers import name_packages
from pipeline.slides.readers.base import show

_log = logging.getLogger(__name__)


@dataclass
class Attempt:
    """A slide that is being screened: since when, and what its files were then.

    ``known`` is what the result was made of where only its report is made anew.
    """

    job: SlideJob
    started: float
    files: tuple[FileStamp, ...] = ()
    known: Fingerprint | None = None


class StopBatchError(Exception):
    """No later slide would fare better, or none is wanted."""


class TakenOverError(Exception):
    """Another process has a slide now: this one was taken for dead."""


class Publisher:
    """Writes results into the output folder, with what they were made of.

    Args:
        plan: of the batch.
        claims: say whether a slide is still this process's to publish.
    """

    def __init__(self, plan: BatchPlan, claims: Claims) -> None:
        self._plan, self._claims = plan, claims
        self._recipe = hash_recipe(plan.settings, plan.model)
        self._found = hash_found(plan.settings, plan.model)

    def publish(self, report: SlideReport, attempt: Attempt) -> None:
        """Writes the result of an attempt.

        Raises:
            TakenOverError: another process has the slide now.
            SlideError: the slide was changed meanwhile, or the report is another's.
            OSError: it can't be written.
        """
        job, files, known = attempt.job, attempt.files, attempt.known
        # Of a slide that is gone nothing is read, and what was kept says where it once lay.
        if not job.gone and report.slide.path != encodable(job.where):
            raise SlideError(
                f"{show(job.where)}: the report that came for it is that of "
                f"{show(report.slide.path)}, and is not kept; screen it again"
            )
        sha256 = known.sha256 if known else hash_content(job)
        if not job.gone and stamp_files(job) != files:
            raise SlideError(f"{show(job.where)}: was changed while it was screened; try again")
        fingerprint = Fingerprint(
            recipe=self._recipe,
            found=self._found,
            files=known.files if known and job.gone else files,
            sha256=sha256,
            mpp=job.mpp,
            reader=known.reader if known and job.gone else name_packages(job.path),
            place=known.place if known and job.gone else place_of(job),
        )

        def write(folder: Path) -> None:
            write_reports(report, folder)
            write_objects(report, folder, sha256)
            save_fingerprint(fingerprint, folder)
            if not self._claims.is_mine(job.name):
                raise TakenOverError
            self._plan.known.put(job.name, folder, report, fingerprint)

        publish(self._plan.out, job.name, write)


def explain(job: SlideJob, problem: Exception, told: Mapping[str, object]) -> str:
    """One line that says what is wrong; what was not foreseen is told in full in the log.

    Args:
        job: the slide.
        problem: it.
        told: what the log says of the slide beside that.
    """
    if isinstance(problem, WorkerLostError):
        again = f"{problem.text}, at a second attempt too"
        return str(SlideError(again, problem.code))
    if isinstance(problem, CytoLibraError):
        return str(problem)
    if is_disk_full(problem):
        return f"{show(job.where)}: no space left on the disk of the output folder"
    if isinstance(problem, OSError):
        other = problem.filename and Path(problem.filename) != job.path
        place = f" ({show(Path(problem.filename))})" if other else ""
        return f"{show(job.where)}: {problem.strerror or problem}{place}"
    _log.error("%s: unexpected error", show(job.where), exc_info=problem, extra=told)
    return f"{show(job.where)}: unexpected error: {kind_and_text(problem)}"
