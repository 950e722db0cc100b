"""A process that screens, watched from outside: how it died, what it takes, for how long.

It screens one slide at a time, so that what happens is that slide's. A slide whose process dies is
`WorkerLostError`, which the batch tries once more; one that takes more than it may is over for
good, but for memory that a process may still have from slides before.
"""

from __future__ import annotations

import logging
import os
import pickle
import queue
import tempfile
import threading
import time
from abc import ABC, abstractmethod
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Protocol

from configs import ConfigError
from pipeline.batch.engines.base import Told
from pipeline.children import kill_group, start_module, tell_end
from pipeline.errors import PROCESS_DIED, SlideError, WorkerLostError
from pipeline.in_force import InForce
from pipeline.limits import GB, LimitSettings, memory_of
from pipeline.reports.report import SlideReport
from pipeline.search import StoppedError
from pipeline.slides.readers.base import show

_CHILD = "pipeline.batch.engines.child"

PERIOD_S = 0.1
"""How often a process is looked at."""

END_S = 5.0
"""How long one that has nothing to do may take to end."""

_LAST_WORDS = 4096
"""Of what a process wrote to standard error before it died, in bytes; for the log."""

_log = logging.getLogger(__name__)


class Screening(Protocol):
    """Who screens in the process, or makes reports otherwise."""

    def describe(self) -> InForce | None:
        """What is in force there, if it is for it to say."""

    def screen(self, asked: Any, /) -> SlideReport:
        """Screens one slide: by its path, or by whatever it is asked with."""


class Maker(Protocol):
    """Who makes that; it is pickled."""

    def worker(self, told: Told) -> Screening:
        """Called in the process."""


class Seat:
    """A place for one process, which is started when it is needed, and anew when it was lost.

    One thread at a time may ask it; any may close it.

    Args:
        maker: of what screens.
        limits: of each slide.
        told: hears of tiles, in the thread that asks.
    """

    def __init__(self, maker: Maker, limits: LimitSettings, told: Told | None = None) -> None:
        self._maker = maker
        self._limits = limits
        self._told = told
        self._child: Child | None = None
        self._lock = threading.Lock()
        self._closed = False

    def describe(self) -> InForce:
        """What is in force.

        Raises:
            CytoLibraError: model and settings can't be used, or the process died.
        """
        child = self._ready()
        assert child.in_force is not None
        return child.in_force

    def screen(self, path: Path, fresh: bool = False, asked: object = None) -> SlideReport:
        """Screens one slide.

        Args:
            path: the slide's main file.
            fresh: whether only a process will do that has screened none before.
            asked: what who screens is asked with, which can be pickled; None for the path.

        Raises:
            WorkerLostError: the process died, or had no memory left after earlier slides.
            SlideError: it took more than it may; or as `pipeline.screen.screen_slide`.
            StoppedError: it was closed.
        """
        if fresh and self._child and self._child.slides:
            self._leave()
        for _ in range(2):
            try:
                return self._ready().screen(asked or path, self._limits)
            except _EndedError as error:
                self._leave(now=True)
                if self._closed:
                    raise StoppedError(f"{show(path)}: stopped") from None
                if error.is_of_slide:
                    raise error.explain(path) from None
            except BaseException:
                if self._child and self._child.owes:
                    self._leave(now=True)
                raise
        raise SlideError(f"{show(path)}: the process that is to screen it ends again and again")

    def close(self, now: bool = False) -> None:
        """Ends the process: by itself where it has nothing to do, and there is time, else at once.

        Args:
            now: whether there is none.
        """
        with self._lock:
            self._closed = True
            child = self._child
        if child:
            child.end(now)

    def _ready(self) -> Child:
        """A process whose network is loaded: a slide's time is its own."""
        if self._child:
            return self._child
        with self._lock:
            if self._closed:
                raise StoppedError("stopped")
            child = self._child = Child(self._maker, self._told)
        try:
            child.in_force = child.ask(None, LimitSettings())
        except _EndedError as error:
            self._leave(now=True)
            raise error.explain(None) from None
        except BaseException:
            self._leave()
            raise
        self._check_room(child)
        return child

    def _check_room(self, child: Child) -> None:
        """Looks whether the network alone takes all that a slide may."""
        limit, has = self._limits.memory_gb, child.memory
        if limit is not None and has > limit * GB:
            self._leave()
            raise ConfigError(
                f"limits.memory_gb = {limit:g}: a process has {has / GB:.2g} GB before it has read "
                "a slide; allow more"
            )

    def _leave(self, now: bool = False) -> None:
        if self._child:
            self._child.end(now)
            self._child = None


class Child:
    """A process; asked by one thread at a time.

    Args:
        maker: of what screens there.
        told: hears of tiles.

    Attributes:
        slides: how many it was asked to screen.
        in_force: what is in force there, once it was asked.
        owes: whether it was asked something and nobody has heard its answer: it must not be asked
            again then.

    Raises:
        SlideError: no process can be started.
    """

    def __init__(self, maker: Maker, told: Told | None) -> None:
        self.slides = 0
        self.in_force: InForce | None = None
        self.owes = False
        self._asked = 0
        self._told = told
        self._busy = threading.Lock()
        self._ending = threading.Lock()
        self._inbox: queue.SimpleQueue[tuple[int, str, Any] | None] = queue.SimpleQueue()
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed by end()
        try:
            self._process = start_module(_CHILD, self._errors, leads=True)
        except OSError as error:
            self._errors.close()
            raise SlideError(f"no process can be started: {error.strerror}") from error
        assert self._process.stdout is not None
        threading.Thread(
            target=_hear, args=(self._process.stdout, self._inbox), name="hear", daemon=True
        ).start()
        self._send(maker)

    @property
    def memory(self) -> int:
        """Bytes that it has, with all that it started."""
        return memory_of(self._process.pid)

    def screen(self, asked: object, limits: LimitSettings) -> SlideReport:
        """Screens one slide; see `Seat.screen`.

        Raises:
            _EndedError: the process ended, or was.
        """
        self.slides += 1
        report: SlideReport = self.ask(asked, limits)
        return report

    def ask(self, question: object, limits: LimitSettings) -> Any:
        """One question and its answer; None asks what is in force.

        Raises:
            _EndedError: the process ended, or was.
            Exception: as raised there.
        """
        with self._busy:
            self._asked += 1
            self.owes = True
            self._send((self._asked, question))
            since = looked = time.monotonic()
            begun = False
            while True:
                with suppress(queue.Empty):
                    heard = self._inbox.get(timeout=PERIOD_S)
                    if heard is None:
                        raise self._death(begun)
                    number, kind, content = heard
                    if number != self._asked:
                        continue  # to an earlier question
                    begun = True
                    self.owes = kind not in ("failed", "done")
                    if kind == "failed":
                        raise content
                    if kind == "done":
                        return content
                    if kind == "tiles" and self._told:
                        self._told(*content)
                if time.monotonic() - looked >= PERIOD_S:
                    looked = time.monotonic()
                    self._check(limits, looked - since)

    def end(self, now: bool = False) -> None:
        """Ends it and all that it started, and waits for that; a second time does nothing.

        Args:
            now: whether not to wait until it ends by itself, as it does where it is asked nothing.
        """
        with self._ending:
            if self._process.returncode is not None:
                return
            if not now and self._busy.acquire(blocking=False):
                with suppress(OSError, queue.Empty):
                    self._process.stdin.close()  # type: ignore[union-attr]
                    self._inbox.get(timeout=END_S)
                self._inbox.put(None)
                self._busy.release()
            self._reap()
        with suppress(OSError):  # what could not be sent
            self._process.stdin.close()  # type: ignore[union-attr]
        self._errors.close()

    def _reap(self) -> int:
        """Kills what is left of it, and says how it ended."""
        if self._process.returncode is None:
            kill_group(self._process.pid)
        return self._process.wait()

    def _check(self, limits: LimitSettings, seconds: float) -> None:
        """Ends a process that takes more than it may.

        Raises:
            _EndedError: it was.
        """
        if limits.seconds is not None and seconds > limits.seconds:
            raise _OverTimeError(limits.seconds)
        if limits.memory_gb is not None and self.memory > limits.memory_gb * GB:
            raise _OverMemoryError(limits.memory_gb, fresh=self.slides == 1)

    def _send(self, content: object) -> None:
        with suppress(OSError):  # it has ended, which is heard
            stdin = self._process.stdin
            assert stdin is not None
            stdin.write(pickle.dumps(content))
            stdin.flush()

    def _death(self, begun: bool) -> _EndedError:
        """How it ended, and the last that it wrote.

        Args:
            begun: whether it had begun with what it was asked.
        """
        with self._ending:
            code = self._reap()
        with suppress(ValueError):  # was closed
            self._errors.seek(max(0, self._errors.seek(0, os.SEEK_END) - _LAST_WORDS))
            words = self._errors.read().decode(errors="replace").strip()
            return _DiedError(tell_end(code), words, begun)
        return _DiedError(tell_end(code), "", begun)


class _EndedError(Exception, ABC):
    """A process ended before it had answered.

    Attributes:
        is_of_slide: whether that is the slide's fault, as it was at it.
    """

    is_of_slide = True

    @abstractmethod
    def explain(self, path: Path | None) -> SlideError:
        """What that means for the slide that it was at; None for none."""


class _DiedError(_EndedError):
    def __init__(self, how: str, last_words: str, is_of_slide: bool) -> None:
        super().__init__(how)
        self.is_of_slide = is_of_slide
        self.how = how
        self.last_words = last_words

    def explain(self, path: Path | None) -> SlideError:
        if path is None:
            said = self.last_words.split("\n")[-1]
            return SlideError(
                f"the process that is to screen died as it started: {self.how}"
                + (f" ({said})" if said else "")
            )
        if self.last_words:
            _log.warning("%s: the last words of its process:\n%s", show(path), self.last_words)
        return WorkerLostError(
            f"{show(path)}: the process that screened it died: {self.how}", PROCESS_DIED
        )


class _OverTimeError(_EndedError):
    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds

    def explain(self, path: Path | None) -> SlideError:
        return SlideError(
            f"{show(path or Path())}: took longer than {self.seconds:g} s (limits.seconds)",
            "over-limit",
        )


class _OverMemoryError(_EndedError):
    def __init__(self, gigabytes: float, fresh: bool) -> None:
        super().__init__()
        self.gigabytes = gigabytes
        self.fresh = fresh

    def explain(self, path: Path | None) -> SlideError:
        kind = SlideError if self.fresh else WorkerLostError  # slides before may have left some
        text = f"used more than {self.gigabytes:g} GB of memory (limits.memory_gb)"
        return kind(f"{show(path or Path())}: {text}", "over-limit")


def _hear(out: IO[bytes], inbox: queue.SimpleQueue[tuple[int, str, Any] | None]) -> None:
    """Takes what a process answers until it has ended, or answers nonsense."""
    with out, suppress(Exception):
        while True:
            inbox.put(pickle.load(out))
    inbox.put(None)
