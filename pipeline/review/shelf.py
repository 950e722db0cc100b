"""Slides that are open, a few at a time; one is closed only when nobody reads it."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pipeline.review.ground import Ground
from pipeline.slides.mpp import GivenMpp
from pipeline.slides.slide import Slide, open_slide

MOST_OPEN = 4


@dataclass
class OpenSlide:
    """A slide, what is shown of it, and how many read it."""

    slide: Slide
    ground: Ground
    readers: int = 0
    leaves: bool = False


class Shelf:
    """Opens slides and keeps those that were used last.

    Args:
        most: how many stay open.
    """

    def __init__(self, most: int = MOST_OPEN) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._open: OrderedDict[tuple[Path, int, int], OpenSlide] = OrderedDict()
        self._opening: dict[tuple[Path, int, int], threading.Lock] = {}

    @contextmanager
    def lend(
        self, path: Path, mpp: float, picture: Callable[[], bytes | None]
    ) -> Iterator[OpenSlide]:
        """An open slide, for as long as it is read.

        Args:
            path: its main file.
            mpp: µm per level-0 px that its report goes by; for files that carry none.
            picture: see `Ground`.

        Raises:
            SlideError: it can't be opened.
            OSError: it is gone.
        """
        status = path.stat()
        key = (path, status.st_size, status.st_mtime_ns)
        with self._lock:
            opening = self._opening.setdefault(key, threading.Lock())
        with opening:
            held = self._take(key)
            if held is None:
                slide = open_slide(path, GivenMpp(gap=mpp))
                held = self._put(key, OpenSlide(slide, Ground(slide, picture)))
        try:
            yield held
        finally:
            with self._lock:
                held.readers -= 1
                done = held.leaves and not held.readers
            if done:
                held.slide.close()

    def close(self) -> None:
        """Closes all that nobody reads; the others when they have been read."""
        with self._lock:
            closed = [self._leave(key) for key in list(self._open)]
        _close(closed)

    def _take(self, key: tuple[Path, int, int]) -> OpenSlide | None:
        with self._lock:
            held = self._open.get(key)
            if held:
                self._open.move_to_end(key)
                held.readers += 1
            return held

    def _put(self, key: tuple[Path, int, int], held: OpenSlide) -> OpenSlide:
        with self._lock:
            held.readers += 1
            self._open[key] = held
            closed = []
            while len(self._open) > self._most:
                closed.append(self._leave(next(iter(self._open))))
            for gone in self._opening.keys() - self._open.keys():
                if not self._opening[gone].locked():
                    del self._opening[gone]
        _close(closed)
        return held

    def _leave(self, key: tuple[Path, int, int]) -> OpenSlide | None:
        held = self._open.pop(key)
        held.leaves = True
        return None if held.readers else held


def _close(slides: list[OpenSlide | None]) -> None:
    for held in slides:
        if held:
            held.slide.close()
