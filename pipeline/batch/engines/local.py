"""Threads of this process."""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from pipeline.batch.engines.base import Screen
from pipeline.reports.report import SlideReport

STAGGERED = 2
"""Slides in work at once in one process: the tiles of one, while the next is opened and the last
one's pictures are taken. The detector takes the tiles of one slide after the other's, so memory
holds those of one."""


class LocalEngine:
    """Threads of this process.

    Args:
        screen: screens a slide.
        stop: set where what is in work is to end; ``screen`` heeds it.
        slots: slides at once.
    """

    def __init__(
        self, screen: Screen, stop: threading.Event | None = None, slots: int = STAGGERED
    ) -> None:
        self.slots = slots
        self._screen = screen
        self._stop = stop or threading.Event()
        self._pool = ThreadPoolExecutor(slots, thread_name_prefix="screen")

    def submit(self, path: Path) -> Future[SlideReport]:
        """See `Engine`."""
        return self._pool.submit(self._screen, path)

    def close(self, wait: bool = True) -> None:
        """See `Engine`."""
        self._stop.set()
        self._pool.shutdown(wait=wait, cancel_futures=True)
