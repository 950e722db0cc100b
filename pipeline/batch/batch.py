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

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import replace
from itertools import chain
from pathlib import Path
from types import FrameType

from configs import Doubt
from configs.doubts import split_code
from pipeline.batch.attempts import (
    Attempt,
    Publisher,
    StopBatchError,
    TakenOverError,
    explain,
)
from pipeline.batch.claims import Claims, Standing, at_work
from pipeline.batch.discovery import SlideJob
from pipeline.batch.engines import STAGGERED, Engine
from pipeline.batch.fingerprint import load_fingerprint, stamp_files
from pipeline.batch.ledger import Ledger
from pipeline.batch.lock import Holder, InUseError, hold, process_name
from pipeline.batch.opening import open_run
from pipeline.batch.others import Others, by_all, by_whom
from pipeline.batch.output import has_result, prepare_output, sweep
from pipeline.batch.plan import (
    BatchPlan,
    BatchResult,
    Listener,
    current_result,
    why_not_rescored,
    why_of_another,
)
from pipeline.batch.rescore import Rescorer
from pipeline.batch.run_log import log_name, run_log
from pipeline.batch.run_record import (
    RunRecord,
    SlideRecord,
    now,
)
from pipeline.batch.telling import Telling
from pipeline.errors import EngineError, SlideError, WorkerLostError, is_disk_full
from pipeline.reports.detections import DetectionsError
from pipeline.reports.report import SlideReport, encodable
from pipeline.reports.slide_summary import SlideSummary
from pipeline.slides.readers.base import show

_HEED_S = 1.0
"""How long is waited at a stretch: a signal that came just before is heeded only after that."""

_SAME_WISH_S = 1.0
"""Seconds in which a second signal to end says nothing new."""

_log = logging.getLogger(__name__)


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
            run_log(plan.out / _log_name(plan, claims), plan.log_format),
        ):
            plan = replace(plan, doubts=(*plan.doubts, *doubts))
            result = _Batch(jobs, engine, plan, listener, claims).run()
        interrupted = result.interrupted
        return replace(result, doubts=(*doubts, *result.doubts))
    finally:
        engine.close(wait=not interrupted)


def _log_name(plan: BatchPlan, claims: Claims) -> str:
    """A log for each process: lines that several machines add to one file may be lost."""
    return log_name(plan.shard, plan.log_format, None if claims.first else process_name())


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
        self._jobs = plan.jobs_of(jobs)
        self._claims = claims
        self._others = Others(plan, claims)
        self._publisher = Publisher(plan, claims)
        self._interrupted = False
        self._engine = engine
        self._running: dict[Future[SlideReport], Attempt] = {}
        self._plan = plan
        self._listener = listener
        self._again: list[SlideJob] = []
        self._lost: set[str] = set()
        """Slides whose process died once, by their names in the record."""
        self._problem: str | None = None
        self._doubts: tuple[Doubt, ...] = ()
        self._rescoring = ThreadPoolExecutor(STAGGERED, thread_name_prefix="rescore")
        opening = open_run(jobs, self._jobs, plan)
        self._suspects = opening.suspects
        self._ledger = Ledger(opening.record, plan.out, claims)
        self._telling = Telling(jobs, plan, self._ledger, opening.before)

    @property
    def _record(self) -> RunRecord:
        return self._ledger.record

    def run(self) -> BatchResult:
        """Screens all, and writes what there is to write.

        Raises:
            KeyboardInterrupt: even that is not wanted.
        """
        with _termination_as_interrupt():
            return self._run()

    def _run(self) -> BatchResult:
        _log.info("started: %d slides, recipe %s", len(self._jobs), self._record.recipe)
        for doubt in self._plan.doubts:
            _log.warning(str(doubt), extra={"code": doubt.code})
        for file in self._plan.not_read:
            _log.warning(str(file))
        try:
            self._ledger.begin()
            if self._claims.first:
                self._telling.begin()
            self._listener.batch_started(len(self._jobs))
            if not self._claims.first:
                self._listener.joined(by_all(self._claims.fellows()))
            self._screen_all()
            self._end("complete")
        except StopBatchError:
            self._end("stopped")
        except KeyboardInterrupt:
            self._keep_finished()
            self._end("interrupted")
        except InUseError as refused:  # others are at work here now, on other terms
            self._problem = str(refused)
            self._ledger.end("stopped", now())
        finally:
            if self._plan.rescorer:
                self._plan.rescorer.close(wait=not self._interrupted)
            self._rescoring.shutdown(wait=not self._interrupted, cancel_futures=True)
        return self._result()

    def _screen_all(self) -> None:
        jobs = iter(_from_own_place(self._jobs, self._claims))
        self._fill(jobs)
        while self._running or self._others:
            done = self._await()
            self._fill(jobs)  # the next ones are screened while these are written
            for future in [future for future in self._running if future in done]:
                self._finish(future)
            if self._again or not self._running:
                self._fill(jobs)
            if self._looks():
                self._look_at_others()

    def _await(self) -> set[Future[SlideReport]]:
        """Waits until a slide has ended, or until it is time to look at those of others."""
        pause = self._others.pause_s
        if not self._running:
            time.sleep(pause)
            return set()
        looks = self._looks()
        while True:
            done = wait(self._running, pause if looks else _HEED_S, FIRST_COMPLETED).done
            if done or looks:
                return done

    def _looks(self) -> bool:
        """Whether the slides of others matter now: there is room for those that they leave."""
        return bool(self._others) and self._wants_more()

    def _fill(self, jobs: Iterator[SlideJob]) -> None:
        """Starts slides until the engine has all that it can take."""
        self._claims.notice()  # else what somebody has just made would be told as done before
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
            raise StopBatchError

    def _keep_finished(self) -> None:
        """Writes what had been screened when the batch was interrupted."""
        ended = [f for f in self._running if f.done() and not f.exception()]
        with suppress(KeyboardInterrupt, StopBatchError):  # somebody is in a hurry
            for future in ended:
                self._finish(future)

    def _wants_more(self) -> bool:
        ended = [future for future in self._running if future.done()]
        problems = [problem for future in ended if (problem := future.exception())]
        if any(self._plan.fail_fast or isinstance(p, EngineError) for p in problems):
            return False
        slots = self._engine.slots
        if len(ended) > slots:  # those that end at once, as broken files do: they are written first
            return False
        return len(self._running) - len(ended) < slots

    def _take(self, job: SlideJob) -> None:
        plan = self._plan
        if plan.resumed and self._was_done(job):
            return
        report = None if plan.overwrite else current_result(job, plan, self._record.recipe)
        if report:
            self._take_result(job, report)
        elif self._get(lambda: self._claims.claim(job.name)):
            self._begin_unless_done(job, again=not self._claims.first)
        else:
            self._others.add(job)

    def _was_done(self, job: SlideJob) -> bool:
        """Whether this run had done with a slide when its process died; takes note of that."""
        known = self._record.slides[encodable(job.name)]
        report = self._plan.known.summary(job.name) if known.status == "complete" else None
        if report is None and known.status != "failed":
            return False
        self._adopt(job, known, report)
        return True

    def _take_result(self, job: SlideJob, report: SlideSummary, *, ours: bool = False) -> None:
        """Takes the result that is there, which another process may just have made.

        Args:
            job: the slide.
            report: of the result.
            ours: whether the slide is.
        """
        standing = self._claims.look(job.name) if self._claims.accompanied else None
        if standing and standing.record:
            self._adopt(job, standing.record, report)
            return
        if standing and standing.state == "in work" and not ours:
            self._others.add(job)  # whoever made it has yet to say what became of it
            return
        record = self._note(
            job, status="complete", reused=True, error=None, warnings=report.codes, ended=now()
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
            raise StopBatchError from problem

    def _look_at_others(self) -> None:
        """Takes note of what others have done, and takes over what they have left."""
        self._heed_stop()
        for news in self._others.look():
            if news.done:
                self._adopt(news.job, news.done, news.report)
            elif self._wants_more():
                self._take_over(news.job, news.standing)
        slides, whom = self._others.awaited
        if slides and not self._running:
            self._listener.waiting(slides, whom)

    def _adopt(self, job: SlideJob, done: SlideRecord, report: SlideSummary | None) -> None:
        """Takes note of what another process of this run has made of a slide."""
        self._others.drop(job)
        record = done.changed(path=encodable(job.where))
        self._record.slides[encodable(job.name)] = record
        shown = report if record.status == "complete" else None
        self._listener.slide_ended_elsewhere(job, record, shown)

    def _take_over(self, job: SlideJob, standing: Standing) -> None:
        """Takes a slide that its process has left, if nobody else is quicker."""
        if not self._get(lambda: self._claims.take_over(job.name, standing)):
            return
        self._others.drop(job)
        if standing.number >= 0:
            whom = by_whom(standing)
            _log.warning("%s: taken over from %s", show(job.where), whom, extra=self._of(job))
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
        report = current_result(job, self._plan, self._record.recipe) if looks else None
        if report is None:
            self._begin(job)
            return
        known = self._record.slides[encodable(job.name)]
        if known.status == "complete":
            self._adopt(job, known, report)
        else:
            self._take_result(job, report, ours=True)
            self._keep(job)
        self._claims.end(job.name, self._record.slides[encodable(job.name)])

    def _begin(self, job: SlideJob) -> None:
        """Starts a slide that is ours: to be screened, or rescored where that will do."""
        plan = self._plan
        known = has_result(plan.place_of(job)) and not job.problem
        if known and (other := why_of_another(job, plan)):
            self._attempt(replace(job, problem=other))
            return
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
        _log.info("%s: rescored from what was found before", show(job.where), extra=self._of(job))
        attempt = Attempt(job, time.monotonic(), known=load_fingerprint(place))
        with suppress(OSError):  # then it is told what can't be read
            attempt.files = () if job.gone else stamp_files(job)
        careful = encodable(job.name) in self._suspects
        self._running[self._rescoring.submit(rescorer.rescore, job, place, careful)] = attempt

    def _attempt_instead(self, job: SlideJob, problem: str) -> None:
        """Screens a slide of whose earlier result no report can be made."""
        if not self._plan.screens:
            job = replace(job, problem=f"{problem}; screen it again")
        elif not job.problem:
            _log.info("%s: screened again: %s", show(job.where), problem, extra=self._of(job))
        self._attempt(job)

    def _attempt(self, job: SlideJob) -> None:
        attempts = self._record.slides[encodable(job.name)].attempts + self._plan.screens
        self._note(job, status="running", attempts=attempts, rescored=False)
        self._keep(job)
        self._listener.slide_started(job)
        _log.info("%s: started", show(job.where), extra=self._of(job))
        attempt = Attempt(job, time.monotonic())
        self._running[self._submit(attempt)] = attempt

    def _submit(self, attempt: Attempt) -> Future[SlideReport]:
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
            self._publisher.publish(report, attempt)
        except DetectionsError as problem:
            del self._running[future]
            self._attempt_instead(attempt.job, problem.text)
        except EngineError as problem:  # no fault of the slide's: it stays to be done
            del self._running[future]
            self._problem = str(problem)
            self._keep_finished()
            raise StopBatchError from problem
        except TakenOverError:
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
            self._close(attempt, None, explain(attempt.job, problem, self._of(attempt.job)))
            if self._plan.fail_fast:
                self._claims.stop_all()
            if self._plan.fail_fast or is_disk_full(problem):
                raise StopBatchError from problem
        else:
            del self._running[future]
            self._close(attempt, report, None)

    def _try_again(self, job: SlideJob, problem: WorkerLostError) -> bool:
        """Has a slide whose process died tried once more; False for one that was."""
        name = encodable(job.name)
        if name in self._lost:
            return False
        told = self._of(job, code=problem.code)
        _log.warning("%s; tried once more", problem, extra=told)
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
            extra=self._of(job),
        )
        self._others.add(job)

    def _close(self, attempt: Attempt, report: SlideReport | None, error: str | None) -> None:
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
            ended=now(),
        )
        self._keep(job)
        self._claims.end(job.name, record)
        for doubt in report.warnings if report else ():
            _log.warning("%s: %s", show(job.where), doubt, extra=self._of(job, code=doubt.code))
        _log.log(
            logging.ERROR if error else logging.INFO,
            error or f"{show(job.where)}: complete",
            extra=self._of(job, seconds=seconds, code=split_code(error or "")[1]),
        )
        self._listener.slide_ended(job, record, told)
        self._telling.now_and_then()

    def _note(self, job: SlideJob, **changes: object) -> SlideRecord:
        return self._ledger.note(encodable(job.name), **changes)

    def _of(self, job: SlideJob, **more: object) -> dict[str, object]:
        """What a line of the log says of a slide beside its message."""
        name = encodable(job.name)
        slide = self._record.slides[name]
        return {"slide": name, "attempt": slide.attempts, "status": slide.status, **more}

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
            if self._claims.accompanied:  # some of them may have been killed
                sweep(self._plan.out)
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
            self._ledger.end(status, now())
        saved = self._ledger.save(last=not fellows)
        if goes_on:
            return saved
        self._doubts = self._telling.end(self._lost)
        return saved

    def _result(self) -> BatchResult:
        names = [encodable(job.name) for job in self._jobs]
        slides = {name: self._record.slides[name] for name in names}
        result = BatchResult.of(slides, self._plan, self._problem or self._telling.problem)
        return replace(result, interrupted=self._interrupted, doubts=self._doubts)


def _from_own_place(jobs: Sequence[SlideJob], claims: Claims) -> Iterator[SlideJob]:
    """The slides, from the first on, or where others are at work from anywhere on.

    So each has a part of its own for most of the time.
    """
    start = 0 if claims.first or not jobs else int.from_bytes(os.urandom(8)) % len(jobs)
    return chain(jobs[start:], jobs[:start])


@contextmanager
def _termination_as_interrupt() -> Iterator[None]:
    """SIGTERM ends a batch as Ctrl-C does; only the main thread may say so.

    What comes right after another one is of the same wish: who ends a group of processes is heard
    by each, and by one that passes it on.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    last = -_SAME_WISH_S

    def interrupt(signum: int, frame: FrameType | None) -> None:
        nonlocal last
        if time.monotonic() - last >= _SAME_WISH_S:
            last = time.monotonic()
            raise KeyboardInterrupt

    before = {signal.SIGTERM: signal.signal(signal.SIGTERM, interrupt)}
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # or nobody wants to hear it
        before[signal.SIGINT] = signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
