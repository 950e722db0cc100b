"""Many slides, one after the other: one bad slide never ends the batch, and nothing is lost.

While an engine screens the next slides, the results of the last ones are written here.

A batch can be ended at any moment, however rudely, and started again: results that are there, made
of the same content, settings and weights, are used again; failed slides are tried again. Where only
thresholds and the like are others, new reports are made of what was found before.

Results of other settings stay until those that follow them are there. Meanwhile they count no more:
the summary marks them, and what a run leaves of them is told.

Several processes, on several machines, may be one run: each claims the slides that it takes
(`pipeline.batch.claims`), waits in the end for those of the others, takes over what these leave,
and tells of the whole.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import signal
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from types import FrameType
from typing import Protocol

from pydantic import JsonValue

from configs import CytoLibraError, Doubt
from pipeline.batch.batch_summary import tell_progress, write_summary
from pipeline.batch.claims import Claims, Standing, at_work
from pipeline.batch.discovery import SlideJob
from pipeline.batch.engines import STAGGERED, Engine
from pipeline.batch.fingerprint import (
    FileStamp,
    Fingerprint,
    hash_content,
    hash_found,
    hash_recipe,
    load_fingerprint,
    save_fingerprint,
    stamp_files,
)
from pipeline.batch.known import KnownResults
from pipeline.batch.ledger import Ledger
from pipeline.batch.lock import Holder, InUseError, Terms, hold, process_name
from pipeline.batch.output import has_result, prepare_output, publish
from pipeline.batch.presence import Pace
from pipeline.batch.rescore import Rescorer
from pipeline.batch.run_log import run_log
from pipeline.batch.run_record import (
    RunRecord,
    Shard,
    SlideRecord,
    latest_slides,
    load_records,
    record_name,
)
from pipeline.errors import EngineError, SlideError, WorkerLostError
from pipeline.objects.writing import write_objects
from pipeline.reports.detections import DetectionsError
from pipeline.reports.report import ModelFacts, SlideReport, encodable, software_versions
from pipeline.reports.slide_summary import SlideSummary
from pipeline.reports.tables import ReportSettings, format_in_force
from pipeline.reports.writers import write_reports
from pipeline.slides.containers import name_packages
from pipeline.slides.readers.base import show
from pipeline.slides.unread import NotRead

_DISK_FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))

_SUMMARY_EVERY_S = 60.0
"""Seconds between two summaries of a run that goes on, or more:"""

_SUMMARY_COST = 50
"""times as long as the last one took."""

_NAMED = 3
"""Slides that are named where several are told of."""

_log = logging.getLogger(__name__)


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


def screen_batch(
    jobs: Sequence[SlideJob], engine: Engine, plan: BatchPlan, listener: Listener
) -> BatchResult:
    """Screens slides and writes their results, the summary and the record of the run.

    Args:
        jobs: all slides, of all shards; see `pipeline.batch.discovery.discover`.
        engine: screens the slides; closed at the end.
        plan: what to do.
        listener: hears how it goes.

    Raises:
        ConfigError: the output folder can't be used, or another run is at work there; nothing was
            started.
    """
    interrupted = False
    try:
        prepare_output(plan.out, jobs)
        terms = plan.terms(jobs)
        with (
            hold(plan.out, plan.shard, plan.command, terms=terms) as doubts,
            at_work(
                plan.out, Holder.this(plan.command, terms), plan.pace, anew=plan.overwrite
            ) as claims,
            run_log(plan.out / _log_name(plan, claims)),
        ):
            plan = replace(plan, doubts=(*plan.doubts, *doubts))
            result = _Batch(jobs, engine, plan, listener, claims).run()
        interrupted = result.interrupted
        return replace(result, doubts=(*doubts, *result.doubts))
    finally:
        engine.close(wait=not interrupted)


def _log_name(plan: BatchPlan, claims: Claims) -> str:
    """A log for each process: lines that several machines add to one file may be lost."""
    return record_name(plan.shard, ".log") if claims.first else f"run.{process_name()}.log"


def take_shard(jobs: Sequence[SlideJob], shard: Shard | None) -> Sequence[SlideJob]:
    """Every n-th slide, so that each shard gets its share of every folder."""
    return jobs[shard.index - 1 :: shard.count] if shard else jobs


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
        and (_reuse(job, plan, recipe) is not None or why_not_rescored(job, plan) is None)
        for job in plan.jobs_of(jobs)
    )


def why_not_rescored(job: SlideJob, plan: BatchPlan) -> str | None:
    """Why no report is made of what was found before, empty where that is not wanted; else None."""
    if plan.rescorer is None or (plan.overwrite and plan.screens):
        return ""
    return plan.rescorer.why_not(job, plan.place_of(job))


def _reuse(job: SlideJob, plan: BatchPlan, recipe: str) -> SlideSummary | None:
    """What the result says that is there, if it is of this very slide, by this recipe."""
    report = plan.known.current(job, recipe)
    return None if report and plan.strict and report.warnings else report


@dataclass
class _Attempt:
    """A slide that is being screened: since when, and what its files were then.

    ``known`` is what the result was made of where only its report is made anew.
    """

    job: SlideJob
    started: float
    files: tuple[FileStamp, ...] = ()
    known: Fingerprint | None = None


class _StopBatchError(Exception):
    """No later slide would fare better, or none is wanted."""


class _TakenOverError(Exception):
    """Another process has a slide now: this one was taken for dead."""


class _Batch:
    """One run over the slides of a shard; its state is the record that it keeps."""

    def __init__(
        self,
        jobs: Sequence[SlideJob],
        engine: Engine,
        plan: BatchPlan,
        listener: Listener,
        claims: Claims,
    ) -> None:
        self._all_jobs = jobs
        self._jobs = plan.jobs_of(jobs)
        self._claims = claims
        self._theirs: dict[str, SlideJob] = {}
        self._missed: dict[str, float] = {}
        self._looked = 0.0
        self._interrupted = False
        self._engine = engine
        self._running: dict[Future[SlideReport], _Attempt] = {}
        self._plan = plan
        self._listener = listener
        self._again: list[SlideJob] = []
        self._lost: set[str] = set()
        """Slides whose process died once, by their names in the record."""
        self._problem: str | None = None
        self._doubts: tuple[Doubt, ...] = ()
        self._rescoring = ThreadPoolExecutor(STAGGERED, thread_name_prefix="rescore")
        self._found = hash_found(plan.settings, plan.model)
        self._summarised, self._summary_took = time.monotonic(), 0.0
        record = RunRecord(
            command=tuple(plan.command),
            shard=plan.shard,
            started=_now(),
            software=software_versions(),
            model=plan.model,
            settings=dict(plan.settings),
            recipe=hash_recipe(plan.settings, plan.model),
            given=dict(plan.given[0]),
            model_given=plan.given[1],
            warnings=tuple(plan.doubts),
            not_read={encodable(f.where): f"{f.kind}; {f.remedy}" for f in plan.not_read},
            slides={},
        )

        part = take_shard(jobs, plan.shard)
        records = load_records(plan.out)
        self._suspects = _in_work(records)
        record.slides.update(_fresh_records(part, self._jobs, record.recipe, records))
        self._ledger = Ledger(record, plan.out, claims)

    @property
    def _record(self) -> RunRecord:
        return self._ledger.record

    def run(self) -> BatchResult:
        _log.info("started: %d slides, recipe %s", len(self._jobs), self._record.recipe)
        for doubt in self._plan.doubts:
            _log.warning(str(doubt))
        for file in self._plan.not_read:
            _log.warning(str(file))
        try:
            with _termination_as_interrupt():
                self._ledger.begin()
                if self._claims.first and (old := self._tell_old(self._find_old())):
                    self._summarise(old)  # a run that is killed leaves a summary that says so
                self._listener.batch_started(len(self._jobs))
                self._screen_all()
            self._end("complete")
        except _StopBatchError:
            self._end("stopped")
        except KeyboardInterrupt:
            self._keep_finished()
            self._end("interrupted")
        except InUseError as refused:  # others are at work here now, on other terms
            self._problem = str(refused)
            self._ledger.end("stopped", _now())
        finally:
            self._rescoring.shutdown(wait=not self._interrupted, cancel_futures=True)
        return self._result()

    def _screen_all(self) -> None:
        jobs = iter(_from_own_place(self._jobs, self._claims))
        self._fill(jobs)
        while self._running or self._theirs:
            done = self._await()
            self._fill(jobs)  # the next ones are screened while these are written
            for future in [future for future in self._running if future in done]:
                self._finish(future)
            if self._again:
                self._fill(jobs)
            if self._looks():
                self._look_at_theirs()

    def _await(self) -> set[Future[SlideReport]]:
        """Waits until a slide has ended, or until it is time to look at those of others."""
        pause = max(0.0, self._looked + self._plan.pace.look_s - time.monotonic())
        if self._running:
            timeout = pause if self._looks() else None
            return wait(self._running, timeout, return_when=FIRST_COMPLETED).done
        time.sleep(pause)
        return set()

    def _looks(self) -> bool:
        """Whether the slides of others matter now: there is room for those that they leave."""
        return bool(self._theirs) and self._wants_more()

    def _fill(self, jobs: Iterator[SlideJob]) -> None:
        """Starts slides until the engine has all that it can take."""
        while self._wants_more():
            if self._again:
                self._heed_stop()
                self._begin(self._again.pop())
            elif job := next(jobs, None):
                self._heed_stop()
                self._take(job)
            else:
                return

    def _heed_stop(self) -> None:
        if self._plan.fail_fast and self._claims.stopped:
            self._problem = "another process of this run has stopped it, by --fail-fast"
            self._keep_finished()
            raise _StopBatchError

    def _keep_finished(self) -> None:
        """Writes what had been screened when the batch was interrupted."""
        ended = [f for f in self._running if f.done() and not f.exception()]
        with suppress(KeyboardInterrupt, _StopBatchError):  # somebody is in a hurry
            for future in ended:
                self._finish(future)

    def _wants_more(self) -> bool:
        ended = [future for future in self._running if future.done()]
        problems = [problem for future in ended if (problem := future.exception())]
        if any(self._plan.fail_fast or isinstance(p, EngineError) for p in problems):
            return False
        return len(self._running) - len(ended) < self._engine.slots

    def _take(self, job: SlideJob) -> None:
        plan = self._plan
        report = None if plan.overwrite else _reuse(job, plan, self._record.recipe)
        if report:
            self._take_result(job, report)
        elif self._get(lambda: self._claims.claim(job.name)):
            self._begin_unless_done(job, again=not self._claims.first)
        else:
            self._theirs[job.name] = job

    def _take_result(self, job: SlideJob, report: SlideSummary) -> None:
        """Takes the result that is there, which another process may just have made."""
        standing = self._claims.look(job.name) if self._claims.accompanied else None
        if standing and standing.record:
            self._adopt(job, standing.record, report)
            return
        record = self._note(
            job, status="complete", reused=True, warnings=report.codes, ended=_now()
        )
        self._listener.slide_ended(job, record, report)

    def _get(self, claim: Callable[[], bool]) -> bool:
        """Claims a slide, or ends the batch where nothing can be claimed."""
        try:
            return claim()
        except OSError as problem:
            place = f"{show(self._plan.out)}: a claim can't be written"
            self._problem = f"{place}: {problem.strerror or problem}"
            _log.error(self._problem)
            self._keep_finished()
            raise _StopBatchError from problem

    def _look_at_theirs(self) -> None:
        """Takes note of what others have done, and takes over what they have left."""
        if time.monotonic() - self._looked < self._plan.pace.look_s:
            return
        self._heed_stop()
        at_work: Counter[str] = Counter()
        for job in list(self._theirs.values()):
            standing = self._claims.look(job.name)
            report = self._plan.known.summary(job.name) if standing.record else None
            if standing.record and (report or standing.record.status == "failed"):
                self._adopt(job, standing.record, report)
            elif standing.record:  # not seen yet from this machine, or gone
                self._miss(job, standing)
            elif standing.state == "in work":
                at_work[_by_whom(standing)] += 1
            elif self._wants_more():
                self._take_over(job, standing)
        self._looked = time.monotonic()
        if at_work and not self._running:
            whom = ", ".join(f"{who} ({count})" for who, count in at_work.most_common())
            self._listener.waiting(sum(at_work.values()), whom)

    def _adopt(self, job: SlideJob, done: SlideRecord, report: SlideSummary | None) -> None:
        """Takes note of what another process of this run has made of a slide."""
        self._theirs.pop(job.name, None)
        record = done.changed(path=encodable(job.where))
        self._record.slides[encodable(job.name)] = record
        shown = report if record.status == "complete" else None
        self._listener.slide_ended_elsewhere(job, record, shown)

    def _miss(self, job: SlideJob, standing: Standing) -> None:
        """Waits for a result that another process says to have made, and makes it in the end."""
        since = self._missed.setdefault(job.name, time.monotonic())
        if time.monotonic() - since >= self._plan.pace.stale_s and self._wants_more():
            self._take_over(job, standing)

    def _take_over(self, job: SlideJob, standing: Standing) -> None:
        """Takes a slide that its process has left, if nobody else is quicker."""
        if not self._get(lambda: self._claims.take_over(job.name, standing)):
            return
        del self._theirs[job.name]
        if standing.number >= 0:
            _log.warning("%s: taken over from %s", show(job.where), _by_whom(standing))
        self._ledger.take_in()  # how often it was tried
        if self._record.slides[encodable(job.name)].status == "running":
            self._suspects.add(encodable(job.name))
        self._begin_unless_done(job, again=True)

    def _begin_unless_done(self, job: SlideJob, *, again: bool) -> None:
        """Starts a slide that has just become ours.

        Args:
            job: the slide.
            again: whether to look for a result: others may have made it before it was ours.
        """
        looks = again and not self._plan.overwrite
        report = _reuse(job, self._plan, self._record.recipe) if looks else None
        if report is None:
            self._begin(job)
            return
        known = self._record.slides[encodable(job.name)]
        if known.status == "complete":
            self._adopt(job, known, report)
        else:
            self._take_result(job, report)
            self._keep(job)
        self._claims.end(job.name, self._record.slides[encodable(job.name)])

    def _begin(self, job: SlideJob) -> None:
        """Starts a slide that is ours: to be screened, or rescored where that will do."""
        plan = self._plan
        known = has_result(plan.place_of(job)) and not job.problem
        problem = why_not_rescored(job, plan) if known else ""
        if problem is None and plan.rescorer:
            self._rescore(job, plan.place_of(job), plan.rescorer)
        elif problem:
            self._attempt_instead(job, problem)
        else:
            self._attempt(job)

    def _rescore(self, job: SlideJob, place: Path, rescorer: Rescorer) -> None:
        """Starts to make a report of what was found before."""
        self._note(job, status="running", rescored=True)
        self._keep(job)
        self._listener.slide_started(job)
        _log.info("%s: rescored from what was found before", show(job.where))
        attempt = _Attempt(job, time.monotonic(), known=load_fingerprint(place))
        with suppress(OSError):  # then it is told what can't be read
            attempt.files = () if job.gone else stamp_files(job)
        self._running[self._rescoring.submit(rescorer.rescore, job, place)] = attempt

    def _attempt_instead(self, job: SlideJob, problem: str) -> None:
        """Screens a slide of whose earlier result no report can be made."""
        if not self._plan.screens:
            job = replace(job, problem=f"{problem}; screen it again")
        elif not job.problem:
            _log.info("%s: screened again: %s", show(job.where), problem)
        self._attempt(job)

    def _attempt(self, job: SlideJob) -> None:
        attempts = self._record.slides[encodable(job.name)].attempts + self._plan.screens
        self._note(job, status="running", attempts=attempts, rescored=False)
        self._keep(job)
        self._listener.slide_started(job)
        _log.info("%s: started", show(job.where))
        attempt = _Attempt(job, time.monotonic())
        self._running[self._submit(attempt)] = attempt

    def _submit(self, attempt: _Attempt) -> Future[SlideReport]:
        try:
            if attempt.job.problem:
                raise SlideError(attempt.job.problem)
            attempt.files = stamp_files(attempt.job)
            if encodable(attempt.job.name) in self._suspects:
                return self._engine.submit(attempt.job.path, careful=True)
            return self._engine.submit(attempt.job.path)
        except Exception as problem:
            failed: Future[SlideReport] = Future()
            failed.set_exception(problem)
            return failed

    def _finish(self, future: Future[SlideReport]) -> None:
        """Writes what came of a slide, or tells what went wrong with it."""
        attempt = self._running[future]
        try:
            report = future.result()
            self._publish(report, attempt)
        except DetectionsError as problem:
            del self._running[future]
            self._attempt_instead(attempt.job, problem.text)
        except EngineError as problem:  # no fault of the slide's: it stays to be done
            del self._running[future]
            self._problem = _one_line(problem)
            self._keep_finished()
            raise _StopBatchError from problem
        except _TakenOverError:
            del self._running[future]
            self._give_up(attempt.job)
        except InUseError:
            raise
        except Exception as problem:
            del self._running[future]
            if not self._get(lambda: self._claims.is_mine(attempt.job.name)):
                self._give_up(attempt.job)
                return
            if isinstance(problem, WorkerLostError) and self._try_again(attempt.job, problem):
                return
            self._close(attempt, None, _explain(attempt.job, problem))
            if self._plan.fail_fast:
                self._claims.stop_all()
            if self._plan.fail_fast or _is_disk_full(problem):
                raise _StopBatchError from problem
        else:
            del self._running[future]
            self._close(attempt, report, None)

    def _try_again(self, job: SlideJob, problem: WorkerLostError) -> bool:
        """Has a slide whose process died tried once more; False for one that was."""
        name = encodable(job.name)
        if name in self._lost:
            return False
        _log.warning("%s; tried once more", _one_line(problem))
        self._lost.add(name)
        if problem.code != "reader-failed":  # which has a process of its own in any case
            self._suspects.add(name)
        self._again.append(job)
        return True

    def _give_up(self, job: SlideJob) -> None:
        """Drops what was made of a slide that another process has taken over meanwhile."""
        _log.warning(
            "%s: dropped: this process had not shown for long that it lives, and another one has "
            "taken the slide over",
            show(job.where),
        )
        self._theirs[job.name] = job

    def _close(self, attempt: _Attempt, report: SlideReport | None, error: str | None) -> None:
        """Records and tells how an attempt went."""
        job, status = attempt.job, "complete" if report else "failed"
        elapsed = time.monotonic() - attempt.started
        timing = report.timing if report else {}
        told = SlideSummary.of(report) if report else None
        seconds = round(timing.get("rescore", timing.get("total", elapsed)), 3)
        record = self._note(
            job,
            status=status,
            error=error,
            warnings=told.codes if told else (),
            seconds=seconds,
            ended=_now(),
        )
        self._keep(job)
        self._claims.end(job.name, record)
        for doubt in report.warnings if report else ():
            _log.warning("%s: %s", show(job.where), doubt)
        _log.log(logging.ERROR if error else logging.INFO, error or f"{show(job.where)}: complete")
        self._listener.slide_ended(job, record, told)
        self._summarise_now_and_then()

    def _publish(self, report: SlideReport, attempt: _Attempt) -> None:
        job, files, known = attempt.job, attempt.files, attempt.known
        sha256 = known.sha256 if known else hash_content(job)
        if not job.gone and stamp_files(job) != files:
            raise SlideError(f"{show(job.where)}: was changed while it was screened; try again")
        fingerprint = Fingerprint(
            recipe=self._record.recipe,
            found=self._found,
            files=known.files if known and job.gone else files,
            sha256=sha256,
            mpp=job.mpp,
            reader=known.reader if known and job.gone else name_packages(job.path),
        )

        def write(folder: Path) -> None:
            write_reports(report, folder)
            write_objects(report, folder, sha256)
            save_fingerprint(fingerprint, folder)
            if not self._claims.is_mine(job.name):
                raise _TakenOverError
            self._plan.known.put(job.name, folder, report, fingerprint)

        publish(self._plan.out, job.name, write)

    def _note(self, job: SlideJob, **changes: object) -> SlideRecord:
        return self._ledger.note(encodable(job.name), **changes)

    def _keep(self, job: SlideJob) -> None:
        self._ledger.keep(encodable(job.name))

    def _end(self, status: str) -> None:
        """Writes what a batch leaves; of several processes the last one removes the claims."""
        self._interrupted = status == "interrupted"
        if self._claims.accompanied:
            self._ledger.take_in()
        fellows = bool(self._claims.fellows())
        self._cut_short(only_own=fellows)
        saved = self._write_end(status, fellows)
        left = self._ledger.journals()
        if self._claims.leave():
            if fellows:  # they have left meanwhile, and the rest to this process
                self._ledger.take_in()
                self._cut_short(only_own=False)
                saved = self._write_end(status, fellows=False)
            if saved:
                self._ledger.clear(left)
            self._claims.clear()
        _log.info("%s", status)

    def _cut_short(self, *, only_own: bool) -> None:
        """Slides that are in work no more are pending; who else looks is told."""
        own = self._ledger.in_work
        for job in self._jobs:
            name = encodable(job.name)
            if self._record.slides[name].status != "running" or (only_own and name not in own):
                continue
            self._note(job, status="pending")
            if only_own:
                self._ledger.jot(name)

    def _write_end(self, status: str, fellows: bool) -> bool:
        """Writes record and summary; whether the record.

        Where the run goes on without this process, it says what it is up to now.
        """
        goes_on = fellows and status != "complete"
        if not goes_on:
            self._ledger.end(status, _now())
        saved = self._ledger.save(last=not fellows)
        if goes_on:
            return saved
        old = self._tell_old(self._find_old())
        self._doubts = (*old, *self._tell_lost(), *self._summarise(old))
        for doubt in self._doubts:
            _log.warning(str(doubt))
        return saved

    def _summarise(self, old: Sequence[Doubt], as_of: str = "") -> tuple[Doubt, ...]:
        """Writes the summary, in which results of other settings are marked.

        Args:
            old: that there are some.
            as_of: how the run stands, while it goes on.

        Returns:
            What is to be told of the summary itself.
        """
        try:
            return write_summary(
                self._all_jobs,
                self._plan.out,
                self._record.recipe,
                format_in_force(self._plan.settings),
                doubts=(*self._plan.doubts, *old),
                not_read=self._plan.not_read,
                reports=self._plan.reports,
                known=self._plan.known,
                as_of=as_of,
            )
        except OSError as error:  # a full disk, or a spreadsheet that holds the file
            problem = f"the summary can't be written: {error}"
            self._problem = None if as_of else problem  # it may be written at the end
            _log.warning(problem)
            return ()

    def _summarise_now_and_then(self) -> None:
        """Lets the summary say how far a long run is, for a fiftieth of its time at most."""
        began = time.monotonic()
        if began - self._summarised < max(_SUMMARY_EVERY_S, _SUMMARY_COST * self._summary_took):
            return
        slides = self._record.slides
        ended = sum(slide.status in ("complete", "failed") for slide in slides.values())
        self._summarise(self._tell_old(self._find_old()), tell_progress(ended, len(slides)))
        self._summarised = time.monotonic()
        self._summary_took = self._summarised - began

    def _find_old(self) -> list[str]:
        """Names of slides, of all shards, whose results here are of other settings."""
        out, recipe, known = self._plan.out, self._record.recipe, self._plan.known
        return [
            encodable(job.name)
            for job in self._all_jobs
            if not known.is_current(job, recipe) and has_result(out / job.name)
        ]

    def _tell_old(self, old: Sequence[str]) -> tuple[Doubt, ...]:
        if not old:
            return ()
        text = (
            f"mixed: {len(old)} of {len(self._all_jobs)} slides have reports of other settings, or "
            f"of files that have changed since: {_some(old)}; run the same command again"
        )
        return (Doubt(code="mixed-settings", text=text),)

    def _tell_lost(self) -> tuple[Doubt, ...]:
        """That slides are complete whose process died at first."""
        slides = self._record.slides
        names = [name for name in sorted(self._lost) if slides[name].status == "complete"]
        if not names:
            return ()
        text = (
            f"the process of {len(names)} slide(s) died, and they were screened again: "
            f"{_some(names)}; see run.log"
        )
        return (Doubt(code="screened-again", text=text),)

    def _result(self) -> BatchResult:
        slides = {(n := encodable(job.name)): self._record.slides[n] for job in self._jobs}
        complete = [slide for slide in slides.values() if slide.status == "complete"]
        reused = sum(slide.reused for slide in complete)
        rescored = sum(slide.rescored for slide in complete)
        return BatchResult(
            screened=len(complete) - reused - rescored,
            reused=reused,
            failed={name: slide.error for name, slide in slides.items() if slide.error},
            pending=sum(slide.status == "pending" for slide in slides.values()),
            interrupted=self._interrupted,
            warned=sum(bool(slide.warnings) for slide in complete),
            outside=sum("out-of-domain" in slide.warnings for slide in complete),
            not_read=len(self._plan.not_read),
            strict=self._plan.strict,
            problem=self._problem,
            doubts=self._doubts,
            rescored=rescored,
        )


def _some(names: Sequence[str]) -> str:
    """The first of some names, and how many more there are."""
    more = f" and {len(names) - _NAMED} more" if names[_NAMED:] else ""
    return ", ".join(names[:_NAMED]) + more


def _from_own_place(jobs: Sequence[SlideJob], claims: Claims) -> Iterator[SlideJob]:
    """The slides, from the first on, or where others are at work from anywhere on.

    So each has a part of its own for most of the time.
    """
    start = 0 if claims.first or not jobs else int.from_bytes(os.urandom(8)) % len(jobs)
    return chain(jobs[start:], jobs[:start])


def _by_whom(standing: Standing) -> str:
    holder = standing.holder
    said = f"process {holder.pid} on {holder.host}" if holder else "a process that has left"
    return show(Path(said))


def _in_work(records: Sequence[RunRecord]) -> set[str]:
    """Slides that were in work when a run was killed: they may be what killed it."""
    return {n for n, slide in latest_slides(records).items() if slide.status == "running"}


def _fresh_records(
    jobs: Sequence[SlideJob], taken: Sequence[SlideJob], recipe: str, records: Sequence[RunRecord]
) -> dict[str, SlideRecord]:
    """A record for each slide that knows of the attempts of earlier runs.

    Of slides that are not taken, how it went by the same settings and model stays.
    """
    known, alike = latest_slides(records), latest_slides(r for r in records if r.recipe == recipe)
    due = {encodable(job.name) for job in taken}
    fresh = {}
    for job in jobs:
        name = encodable(job.name)
        attempts = known[name].attempts if name in known else 0
        fresh[name] = SlideRecord(path=encodable(job.where), attempts=attempts)
        if name not in due and name in alike and alike[name].status in ("complete", "failed"):
            fresh[name] = alike[name].changed(attempts=attempts)
    return fresh


def _explain(job: SlideJob, problem: Exception) -> str:
    """One line that says what is wrong; what was not foreseen is told in full in the log."""
    if isinstance(problem, WorkerLostError):
        again = f"{problem.text}, at a second attempt too"
        return _one_line(SlideError(again, problem.code))
    if isinstance(problem, CytoLibraError):
        return _one_line(problem)
    if _is_disk_full(problem):
        return f"{show(job.where)}: no space left on the disk of the output folder"
    if isinstance(problem, OSError):
        other = problem.filename and Path(problem.filename) != job.path
        place = f" ({show(Path(problem.filename))})" if other else ""
        return f"{show(job.where)}: {problem.strerror or problem}{place}"
    _log.error(
        "%s: unexpected error\n%s", show(job.where), "".join(traceback.format_exception(problem))
    )
    kind = type(problem).__name__
    return f"{show(job.where)}: unexpected error: {kind}: {_one_line(problem)}"


def _one_line(problem: Exception) -> str:
    return " ".join(str(problem).split())


def _is_disk_full(problem: Exception) -> bool:
    return isinstance(problem, OSError) and problem.errno in _DISK_FULL


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


@contextmanager
def _termination_as_interrupt() -> Iterator[None]:
    """SIGTERM ends a batch as Ctrl-C does; only the main thread may say so."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(signum: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
