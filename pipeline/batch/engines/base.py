"""What an engine is, and what those of several workers have in common."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Protocol

from pipeline.in_force import InForce
from pipeline.reports.report import SlideReport

Screen = Callable[[Path], SlideReport]
"""Screens one slide; raises SlideError where it can't be."""

Told = Callable[[Path, int, int], None]
"""Hears of a slide how many of its tiles are done, of how many."""


class Engine(Protocol):
    """Something that screens slides.

    Attributes:
        slots: how many slides it has in work at once; the batch submits no more.
    """

    slots: int

    def submit(self, path: Path, careful: bool = False) -> Future[SlideReport]:
        """Begins to screen a slide; what goes wrong with it is the future's.

        Where the process or machine that is at it dies, that is `WorkerLostError`.

        Args:
            path: the slide's main file.
            careful: whether it may be the slide that ended a process.
        """

    def close(self, wait: bool = True) -> None:
        """Stops what is in work, at its next tile, and gives back threads or processes.

        Without ``wait`` it does so by and by: for who is about to end the process, as after Ctrl-C.
        """


class WorkerEngine(ABC):
    """Workers with a slide each: who is idle, and what is promised for the slides of the others.

    Args:
        slots: how many workers.
    """

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self._idle = list(range(slots))
        self._lock = threading.Lock()

    def submit(self, path: Path, careful: bool = False) -> Future[SlideReport]:
        """See `Engine`."""
        with self._lock:
            number = self._idle.pop()
        promise: Future[SlideReport] = Future()
        promise.set_running_or_notify_cancel()
        inner = self._begin(number, path)
        inner.add_done_callback(lambda done: self._hand_over(done, promise, number, path))
        return promise

    def describe(self) -> InForce:
        """What is in force, by the first worker, of which the others are taken to be alike.

        Raises:
            CytoLibraError: model and settings can't be used; all is closed then.
        """
        try:
            return self._ask()
        except BaseException:
            self.close()
            raise

    @abstractmethod
    def close(self, wait: bool = True) -> None:
        """See `Engine`."""

    @abstractmethod
    def _ask(self) -> InForce:
        """Has the first worker say what is in force."""

    @abstractmethod
    def _begin(self, number: int, path: Path) -> Future[Any]:
        """Has a worker screen a slide."""

    @abstractmethod
    def _explain(self, inner: Future[Any], number: int, path: Path) -> BaseException | None:
        """What went wrong with a slide, if anything; a worker that was lost is replaced."""

    def _hand_over(
        self, inner: Future[Any], promise: Future[SlideReport], number: int, path: Path
    ) -> None:
        """Passes a result on, once its worker is known to be idle or has been replaced."""
        error = self._explain(inner, number, path)
        with self._lock:
            self._idle.append(number)
        if error:
            promise.set_exception(error)
        else:
            promise.set_result(inner.result())
