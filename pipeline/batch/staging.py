"""Slides that are fetched: each into the scratch folder, while those before it are screened.

To a batch this is an engine like any other, which takes a few slides more than the one that
screens. They are fetched one after the other, in the order in which they are submitted, as far
ahead as the scratch folder has room; each is removed as soon as its report is made. Reports and
messages name where a slide comes from, never where it lay meanwhile.
"""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from configs import CytoLibraError, Doubt
from pipeline.batch.discovery import SlideJob
from pipeline.batch.rescore import Rescorer
from pipeline.batch.series import BROKEN_OFF, is_dicom, sort_dicom
from pipeline.cloud.fetch import fetch
from pipeline.cloud.problems import explain, lacks_room
from pipeline.cloud.scratch import Scratch, remove, show_size
from pipeline.cloud.settings import CloudSettings
from pipeline.cloud.store import StoppedError
from pipeline.errors import SlideError
from pipeline.reports.detections import DetectionsError
from pipeline.reports.report import SlideReport
from pipeline.slides.readers.base import show

if TYPE_CHECKING:
    from pipeline.batch.engines import Engine

_JOIN_S = 10.0

_log = logging.getLogger(__name__)


class Staging:
    """Fetches slides into a scratch folder, and removes them from it.

    Attributes:
        folder: where they are put, below it.
        stop: set where what is being fetched is to be given up.

    Args:
        scratch: the run's own.
        settings: how they are fetched.
    """

    def __init__(self, scratch: Scratch, settings: CloudSettings) -> None:
        self._scratch, self._settings = scratch, settings
        self._turn = threading.Lock()
        self.folder = scratch.folder
        self.stop = threading.Event()

    def fetch(self, job: SlideJob) -> Staged:
        """Fetches all files of a slide; waits for room.

        Raises:
            SlideError: it can't be had, or isn't what was listed.
        """
        with self._turn:  # who comes first has room first
            return self._fetch(job)

    def _fetch(self, job: SlideJob) -> Staged:
        remote = job.remote
        assert remote is not None, job
        size, bound = remote.size, self._scratch.bound
        if size > bound:
            raise SlideError(
                f"{show(job.where)}: has {show_size(size)}, more than the {show_size(bound)} of "
                "the scratch folder; set cloud.scratch_gb, or cloud.scratch to a larger disk",
                "scratch-full",
            )
        while True:
            if not self._scratch.take(size, self.stop.is_set):
                raise SlideError(f"{show(job.where)}: stopped")
            returned = self._scratch.returned
            staged = Staged(job, self._scratch, self._folder(job), size)
            try:
                began = time.monotonic()
                kinds = self._fetch_files(job)
                staged.seconds = time.monotonic() - began
            except BaseException as error:
                staged.remove()
                returned += 1  # this one's own
                if lacks_room(error) and self._scratch.wait_for_less(returned, self.stop.is_set):
                    continue  # others had filled it; some of it is free now
                raise self._explain(job, error) from None
            break
        _log.info(
            "%s: fetched %d file(s), %s, in %.1f s; checked by %s%s",
            show(job.where),
            len(job.files),
            show_size(sum(path.stat().st_size for path in job.files)),
            staged.seconds,
            "size" if remote.is_exact else "how the answer ended",
            "".join(f" and {kind}" for kind in sorted(set(filter(None, kinds)))),
        )
        return staged

    def _fetch_files(self, job: SlideJob) -> list[str]:
        """Fetches the files; by which checksums they were checked."""
        remote, digest, kinds = job.remote, hashlib.sha256(), []
        assert remote is not None, job
        assert remote.store is not None, job
        for file, path in zip(remote.files, job.files, strict=True):
            checker = fetch(remote.store, file, path, self._settings, self.stop)
            digest.update(checker.sha256)
            kinds.append(checker.kind)
        _check_series(job)
        remote.sha256 = digest.hexdigest()
        return kinds

    def _folder(self, job: SlideJob) -> Path:
        """A slide's own folder in the scratch folder."""
        inside = job.path.relative_to(self._scratch.folder)
        return self._scratch.folder / inside.parts[0]

    def _explain(self, job: SlideJob, error: BaseException) -> BaseException:
        if isinstance(error, CytoLibraError) or not isinstance(error, Exception):
            return error
        if isinstance(error, StoppedError):
            return SlideError(f"{show(job.where)}: stopped")
        signed = job.remote is not None and any(file.signed for file in job.remote.files)
        problem = explain(error, signed)
        return SlideError(f"{show(job.where)}: {problem.text}", problem.code)


def _check_series(job: SlideJob) -> None:
    """Refuses a DICOM series of which a file is broken off where it comes from."""
    if len(job.files) < 2 or not is_dicom(job.path):
        return
    series = sort_dicom(job.files).series.get(job.path)
    if series and series.damaged:
        name = show(series.damaged.name)
        raise SlideError(f"{show(job.where)}: its file {name} is {BROKEN_OFF}")


@dataclass
class Staged:
    """A slide that lies in the scratch folder.

    Attributes:
        job: the slide.
        scratch: where it has taken room.
        folder: of this slide alone.
        size: bytes.
        seconds: how long it took to fetch.
    """

    job: SlideJob
    scratch: Scratch
    folder: Path
    size: int
    seconds: float = 0.0

    def remove(self) -> None:
        """Removes its files, and gives back their room."""
        remove(self.folder)
        self.scratch.give_back(self.size)

    def as_remote(self, report: SlideReport) -> SlideReport:
        """A report that names where the slide comes from."""
        slide = report.slide.model_copy(update={"path": self.job.where})
        timing = {"fetch": round(self.seconds, 3), **report.timing}
        warnings = self._doubts(report.warnings)
        changes = {"slide": slide, "warnings": warnings, "timing": timing}
        found = report.model_copy(update=changes)
        if kept := report.kept:
            found._kept = replace(kept, slide=slide, doubts=self._doubts(kept.doubts))
        return found

    def _doubts(self, doubts: Sequence[Doubt]) -> tuple[Doubt, ...]:
        return tuple(d.model_copy(update={"text": self.renamed(d.text)}) for d in doubts)

    def explain(self, error: BaseException) -> BaseException:
        """An error that names where the slide comes from."""
        if isinstance(error, SlideError) and not isinstance(error, DetectionsError):
            return type(error)(self.renamed(error.text), error.code)
        return error

    def renamed(self, text: str) -> str:
        """Text with the slide's files named as they are called where they come from."""
        start = self.job.where.partition("://")[0]
        return text.replace(f"{show(self.folder)}/", f"{start}://")


class StagingEngine:
    """Has slides screened by another engine, those that are elsewhere once they are here.

    Args:
        inner: screens them.
        staging: fetches them.
        jobs: all slides.
        ahead: how many slides are fetched before their turn.
    """

    def __init__(
        self, inner: Engine, staging: Staging, jobs: Sequence[SlideJob], ahead: int
    ) -> None:
        self.slots = inner.slots + ahead
        self._inner, self._staging = inner, staging
        self._jobs = {job.path: job for job in jobs if job.remote}
        self._lock = threading.Lock()
        self._waiting: deque[_Task] = deque()
        self._due: deque[_Task] = deque()
        self._busy = 0
        self._more = threading.Condition(self._lock)
        self._thread = threading.Thread(target=self._fetch_all, name="fetch", daemon=True)
        self._thread.start()

    def submit(self, path: Path, careful: bool = False) -> Future[SlideReport]:
        """See `pipeline.batch.engines.Engine`."""
        task = _Task(path, self._jobs.get(path), Future(), careful)
        task.promise.set_running_or_notify_cancel()
        with self._lock:
            (self._waiting if task.job else self._due).append(task)
            self._more.notify_all()
        self._hand_on()
        return task.promise

    def close(self, wait: bool = True) -> None:
        """See `pipeline.batch.engines.Engine`."""
        self._staging.stop.set()
        with self._lock:
            self._more.notify_all()
        self._thread.join(_JOIN_S)
        self._inner.close(wait)

    def _fetch_all(self) -> None:
        """Fetches slide after slide."""
        stop = self._staging.stop
        while True:
            with self._lock:
                while not self._waiting and not stop.is_set():
                    self._more.wait()
                if not self._waiting:
                    return
                task = self._waiting.popleft()
            assert task.job is not None
            try:
                if stop.is_set():
                    raise SlideError(f"{show(task.job.where)}: stopped")
                task.staged = self._staging.fetch(task.job)
            except BaseException as error:
                task.promise.set_exception(error)
                continue
            with self._lock:
                self._due.append(task)
            self._hand_on()

    def _hand_on(self) -> None:
        """Gives the other engine what it has room for."""
        while True:
            with self._lock:
                if not self._due or self._busy >= self._inner.slots:
                    return
                task = self._due.popleft()
                self._busy += 1
            try:
                inner = (
                    self._inner.submit(task.path, careful=True)
                    if task.careful
                    else self._inner.submit(task.path)
                )
            except BaseException as error:
                self._end(task, None, error)
                continue
            inner.add_done_callback(partial(self._take_back, task))

    def _take_back(self, task: _Task, done: Future[SlideReport]) -> None:
        if done.cancelled():
            self._end(task, None, SlideError(f"{show(task.where)}: stopped"))
        elif error := done.exception():
            self._end(task, None, error)
        else:
            self._end(task, done.result(), None)
        self._hand_on()

    def _end(self, task: _Task, report: SlideReport | None, error: BaseException | None) -> None:
        with self._lock:
            self._busy -= 1
        try:
            if task.staged:
                if report:
                    report = task.staged.as_remote(report)
                if error:
                    error = task.staged.explain(error)
                task.staged.remove()
        except BaseException as problem:  # else the batch would wait for ever
            error = problem
        if error:
            task.promise.set_exception(error)
        elif report:
            task.promise.set_result(report)


@dataclass
class _Task:
    """A slide on its way: its job where it is fetched, what was promised, and once it is here.

    ``careful`` is whether it may be the slide that ended a process.
    """

    path: Path
    job: SlideJob | None
    promise: Future[SlideReport]
    careful: bool = False
    staged: Staged | None = None

    @property
    def where(self) -> str:
        return self.job.where if self.job else str(self.path)


@dataclass(frozen=True)
class StagingRescorer(Rescorer):
    """Makes reports of what was kept, and fetches slides for their pictures.

    Attributes:
        staging: fetches them.
    """

    staging: Staging | None = None

    def rescore(self, job: SlideJob, folder: Path, careful: bool = False) -> SlideReport:
        """See `Rescorer`."""
        if job.remote is None or self.staging is None:
            return super().rescore(job, folder, careful)
        staged = self.staging.fetch(job)
        try:
            return staged.as_remote(super().rescore(job, folder, careful))
        except Exception as error:
            raise staged.explain(error) from None
        finally:
            staged.remove()
