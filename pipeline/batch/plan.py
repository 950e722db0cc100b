"""What a batch is to do, how it went, and who hears of it meanwhile."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from pydantic import JsonValue

from configs import Doubt
from configs.doubts import with_code
from pipeline.batch.discovery import SlideJob
from pipeline.batch.fingerprint import (
    are_of_two_slides,
    hash_recipe,
    is_other_slide,
    load_fingerprint,
)
from pipeline.batch.known import KnownResults
from pipeline.batch.lock import Terms
from pipeline.batch.presence import Pace
from pipeline.batch.rescore import Rescorer
from pipeline.batch.run_log import LogFormat
from pipeline.batch.run_record import Shard, SlideRecord
from pipeline.conclusion import check_strict
from pipeline.errors import SlideError
from pipeline.reports.report import ModelFacts, encodable
from pipeline.reports.slide_summary import Note, SlideSummary
from pipeline.reports.tables import ReportSettings
from pipeline.slides.readers.base import show
from pipeline.slides.unread import NotRead

_UNREAD = KnownResults(Path())
"""Stands for what nobody has read yet."""


@dataclass(frozen=True)
class BatchPlan:
    """What a batch is to do.

    Attributes:
        out: the output folder.
        model: what finds the cells.
        settings: all that shapes a result besides slide and model, as JSON.
        command: the command line, for the record.
        overwrite: whether to screen slides whose results are there.
        fail_fast: whether to stop at the first slide that fails.
        shard: the part of the slides that is screened here; None for all.
        strict: whether slides with warnings fail.
        doubts: what is to be told of the batch as a whole.
        not_read: files that look like slides and aren't read.
        reports: how the summary of all slides is written.
        rescorer: makes reports of what was found before; None where all is to be screened.
        source: the folder of the results that it takes; None for ``out``.
        screens: whether a slide of which it can't make one is screened; it fails else.
        given: settings as they were given, and the model, for the record.
        only: names of the slides that are taken, as in records; None for all. How it went with the
            others stays in the record.
        known: what is known of the results in ``out``, each read once.
        pace: when another process of this run counts as dead.
        log_format: whether the log is for people or for programs.
        resumed: since when processes of this very call were at work, in UTC, of which the last has
            died: what they have done counts as done here. None where there were none.
    """

    out: Path
    model: ModelFacts
    settings: Mapping[str, JsonValue]
    command: Sequence[str] = ()
    overwrite: bool = False
    fail_fast: bool = False
    shard: Shard | None = None
    strict: bool = False
    doubts: Sequence[Doubt] = ()
    not_read: Sequence[NotRead] = ()
    reports: ReportSettings = field(default_factory=ReportSettings)
    rescorer: Rescorer | None = None
    source: Path | None = None
    screens: bool = True
    given: tuple[Mapping[str, JsonValue], str | None] = field(default_factory=lambda: ({}, None))
    only: frozenset[str] | None = None
    known: KnownResults = field(default=_UNREAD, repr=False)
    pace: Pace = field(default_factory=Pace)
    log_format: LogFormat = "text"
    resumed: str | None = None

    def __post_init__(self) -> None:
        if self.known is _UNREAD:
            object.__setattr__(self, "known", KnownResults(self.out))

    def jobs_of(self, jobs: Sequence[SlideJob]) -> Sequence[SlideJob]:
        """The slides that are taken: of a shard, and of these those that are asked for."""
        part = take_shard(jobs, self.shard)
        return part if self.only is None else [j for j in part if encodable(j.name) in self.only]

    def terms(self, jobs: Sequence[SlideJob]) -> Terms | None:
        """In what other processes must agree to be one run with this one; None where none may.

        Only those that screen share slides, and only where these aren't parted already. Where the
        slides lie may differ from machine to machine: their names count.
        """
        if self.shard or not self.screens:
            return None
        names = hashlib.sha256()
        for job in jobs:
            names.update(f"{encodable(job.name)}\n{job.mpp}\n".encode())
        flags = {
            "--strict": self.strict,
            "--overwrite": self.overwrite,
            "--fail-fast": self.fail_fast,
            "--only": sorted(self.only) if self.only is not None else None,
        }
        return Terms(
            recipe=hash_recipe(self.settings, self.model),
            slides=names.hexdigest(),
            options={**flags, "reports": self.reports.model_dump(mode="json")},
        )

    def place_of(self, job: SlideJob) -> Path:
        """Where a slide's earlier result lies."""
        return (self.source or self.out) / job.name


@dataclass(frozen=True)
class BatchResult:
    """How a batch went.

    Attributes:
        screened: number of slides screened now.
        reused: number of slides whose results were there.
        rescored: number of slides whose reports were made of what was found before.
        failed: error by slide's name.
        pending: number of slides of this shard that were not reached.
        interrupted: whether somebody stopped it.
        warned: number of complete slides with warnings.
        outside: number of complete slides that are out of the model's domain.
        not_read: number of files that look like slides and aren't read.
        strict: whether these count as failures.
        problem: what else went wrong, such as a summary that can't be written.
        doubts: what a person should know of the output folder.
    """

    screened: int
    reused: int
    failed: Mapping[str, str]
    pending: int
    interrupted: bool
    warned: int = 0
    outside: int = 0
    not_read: int = 0
    strict: bool = False
    problem: str | None = None
    doubts: tuple[Doubt, ...] = ()
    rescored: int = 0

    @staticmethod
    def of(
        slides: Mapping[str, SlideRecord], plan: BatchPlan, problem: str | None = None
    ) -> BatchResult:
        """What the records of a plan's slides, by name, come to."""
        failed = {n: slide.error or "" for n, slide in slides.items() if slide.status == "failed"}
        complete = [slide for slide in slides.values() if slide.status == "complete"]
        reused = sum(slide.reused for slide in complete)
        rescored = sum(slide.rescored for slide in complete)
        return BatchResult(
            screened=len(complete) - reused - rescored,
            reused=reused,
            failed=failed,
            pending=sum(slide.status == "pending" for slide in slides.values()),
            interrupted=False,
            warned=sum(bool(slide.warnings) for slide in complete),
            outside=sum("out-of-domain" in slide.warnings for slide in complete),
            not_read=len(plan.not_read),
            strict=plan.strict,
            problem=problem,
            rescored=rescored,
        )

    @property
    def exit_code(self) -> int:
        """What the command ends with: 0, 1 where slides failed, 130 where interrupted."""
        if self.interrupted:
            return 130
        refused = self.strict and self.not_read
        return 1 if self.failed or self.pending or self.problem or refused else 0


class Listener(Protocol):
    """Hears how a batch goes, so that it can be shown."""

    def batch_started(self, slides: int) -> None:
        """The batch begins; ``slides`` of this shard."""

    def joined(self, whom: str) -> None:
        """The batch began earlier, and its slides are shared with ``whom``."""

    def slide_started(self, job: SlideJob) -> None:
        """A slide is being screened."""

    def slide_ended(self, job: SlideJob, record: SlideRecord, report: SlideSummary | None) -> None:
        """A slide is complete (with what its report says) or failed (without)."""

    def slide_ended_elsewhere(
        self, job: SlideJob, record: SlideRecord, report: SlideSummary | None
    ) -> None:
        """The same of a slide that another process of this run has done."""

    def waiting(self, slides: int, whom: str) -> None:
        """All that is left, ``slides``, is in work elsewhere: by ``whom``; told again and again."""


def take_shard(jobs: Sequence[SlideJob], shard: Shard | None) -> Sequence[SlideJob]:
    """The slides of a shard, of all for None."""
    return [job for job in jobs if shard.takes(job.name)] if shard else jobs


def is_done(jobs: Sequence[SlideJob], plan: BatchPlan) -> bool:
    """Whether no slide of a plan's shard needs the network: all that has to be found was found.

    A slide whose warnings `BatchPlan.strict` would turn into its failure is one to screen, where
    its report is not to be made anew anyway.
    """
    if plan.overwrite:
        return False
    recipe = hash_recipe(plan.settings, plan.model)
    return all(
        not job.problem
        and (current_result(job, plan, recipe) is not None or why_not_rescored(job, plan) is None)
        for job in plan.jobs_of(jobs)
    )


def why_not_rescored(job: SlideJob, plan: BatchPlan) -> str | None:
    """Why no report is made of what was found before, empty where that is not wanted; else None."""
    if plan.rescorer is None or (plan.overwrite and plan.screens):
        return ""
    return plan.rescorer.why_not(job, plan.place_of(job))


def why_of_another(job: SlideJob, plan: BatchPlan) -> str | None:
    """That the result in a slide's place is another slide's, and stays; None where it may go.

    Of what is not screened the result that it is made of says which slide it is.
    """
    folder = plan.out / job.name
    known = None if plan.overwrite else load_fingerprint(folder)
    if known is None:
        return None
    if plan.screens:
        other = is_other_slide(job, known)
    else:
        source = load_fingerprint(plan.place_of(job))
        other = source is not None and are_of_two_slides(source, known)
    if not other:
        return None
    text = (
        f"{show(job.where)}: {show(folder)} is the report of another slide of this name, "
        f"{show(known.place)}; give another --out, or --overwrite to replace it"
    )
    return with_code(text, "other-slide")


def why_refused(job: SlideJob, warnings: Sequence[Doubt | Note], plan: BatchPlan) -> str | None:
    """Why a slide whose result is by this recipe fails by `BatchPlan.strict`; None where not so.

    Its report, made anew, has the same warnings again, but for that of a slide which was away. Of
    what is screened anew nothing is foretold.

    Args:
        job: the slide.
        warnings: of the report that is there.
        plan: of the batch.
    """
    if plan.overwrite and plan.screens:
        return None
    stay = [one for one in warnings if job.gone or one.code != "slide-not-there"]
    try:
        check_strict(job.where, stay, plan.strict)
    except SlideError as refusal:
        return str(refusal)
    return None


def current_result(job: SlideJob, plan: BatchPlan, recipe: str) -> SlideSummary | None:
    """What the result says that is there, if it is of this very slide, by this recipe."""
    report = plan.known.current(job, recipe)
    return None if report and plan.strict and report.warnings else report
