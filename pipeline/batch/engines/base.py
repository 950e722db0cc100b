"""What an engine is, and what it is given."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Protocol

from pipeline.reports.report import SlideReport

Screen = Callable[[Path], SlideReport]
"""Screens one slide; raises SlideError where it can't be."""

Told = Callable[[Path, int, int], None]
"""Hears of a slide how many of its tiles are done, of how many."""


class Engine(Protocol):
    """Something that screens slides."""

    @property
    def slots(self) -> int:
        """How many slides it has in work at once; the batch submits no more."""

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
