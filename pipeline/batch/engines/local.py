"""Threads of this process."""

from __future__ import annotations

import logging
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

from pipeline.batch.engines.base import Screen
from pipeline.reports.report import SlideReport
from pipeline.slides.doubtful import why_in_doubt
from pipeline.slides.readers.base import show

STAGGERED = 2
"""Slides in work at once in one process: the tiles of one, while the next is opened and the last
one's pictures are taken. The detector takes the tiles of one slide after the other's, so memory
holds those of one."""

_log = logging.getLogger(__name__)


class Aside(Protocol):
    """Screens slides that might end this process."""

    def screen(self, path: Path, careful: bool = False) -> SlideReport:
        """Screens one, when it can."""

    def close(self, wait: bool = True) -> None:
        """See `Engine.close`."""


class LocalEngine:
    """Threads of this process, which a slide that is in doubt doesn't enter.

    Args:
        screen: screens a slide.
        stop: set where what is in work is to end; ``screen`` heeds it.
        slots: slides at once.
        aside: screens those in doubt; None where none is.
    """

    def __init__(
        self,
        screen: Screen,
        stop: threading.Event | None = None,
        slots: int = STAGGERED,
        aside: Aside | None = None,
    ) -> None:
        self.slots = slots
        self._screen = screen
        self._stop = stop or threading.Event()
        self._aside = aside
        self._pool = ThreadPoolExecutor(slots, thread_name_prefix="screen")

    def submit(self, path: Path, careful: bool = False) -> Future[SlideReport]:
        """See `Engine`."""
        if self._aside is None:
            return self._pool.submit(self._screen, path)
        return self._pool.submit(self._screen_warily, path, careful, self._aside)

    def close(self, wait: bool = True) -> None:
        """See `Engine`."""
        self._stop.set()
        if self._aside:
            self._aside.close(wait)
        self._pool.shutdown(wait=wait, cancel_futures=True)

    def _screen_warily(self, path: Path, careful: bool, aside: Aside) -> SlideReport:
        why = "a process ended while it was in work" if careful else why_in_doubt(path)
        if not why:
            return self._screen(path)
        _log.info("%s: screened by a process of its own: %s", show(path), why)
        return aside.screen(path, careful)
