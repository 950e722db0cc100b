"""Processes of this machine, a slide each."""

from __future__ import annotations

import queue
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from pipeline.batch.engines.base import Told
from pipeline.batch.engines.supervised import Maker, Seat
from pipeline.batch.engines.worker import Recipe
from pipeline.in_force import InForce
from pipeline.limits import LimitSettings
from pipeline.network.devices import count_cores, count_gpus, find_device
from pipeline.reports.report import SlideReport

NO_LIMITS = LimitSettings()


class ProcessEngine:
    """Processes that are fed from one queue: one for each of several devices, or just one.

    A process that dies, of want of memory or of a fault in a library, takes only its slide along:
    another one follows it.

    Args:
        makers: of what screens in each process; see `processes_of`.
        told: hears of tiles, in threads of its own.
        limits: of each slide.

    Raises:
        ConfigError: this machine can't tell when a limit is reached.
    """

    def __init__(
        self, makers: Sequence[Maker], told: Told | None = None, limits: LimitSettings = NO_LIMITS
    ) -> None:
        limits.check()
        self.slots = len(makers)
        self._seats = [Seat(maker, limits, told) for maker in makers]
        self._idle: queue.LifoQueue[Seat] = queue.LifoQueue()
        for seat in reversed(self._seats):
            self._idle.put(seat)
        self._pool = ThreadPoolExecutor(self.slots, thread_name_prefix="supervise")

    def submit(self, path: Path, careful: bool = False) -> Future[SlideReport]:
        """See `Engine`."""
        return self._pool.submit(self.screen, path, careful)

    def screen(self, path: Path, careful: bool = False, asked: object = None) -> SlideReport:
        """Screens one slide, once a process is idle; see `Seat.screen`."""
        seat = self._idle.get()
        try:
            return seat.screen(path, careful, asked)
        finally:
            self._idle.put(seat)

    def describe(self) -> InForce:
        """What is in force, by the first process, of which the others are taken to be alike.

        Raises:
            CytoLibraError: model and settings can't be used; all is closed then.
        """
        try:
            return self._seats[0].describe()
        except BaseException:
            self.close()
            raise

    def close(self, wait: bool = True) -> None:
        """See `Engine`; processes that are in work are ended at once."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        for seat in self._seats:
            seat.close(now=not wait)
        self._pool.shutdown(wait=wait)


def processes_of(recipe: Recipe, devices: Sequence[str]) -> list[Recipe]:
    """What each of some processes screens by.

    Args:
        recipe: of all.
        devices: of each; several of one device share its cores.
    """
    if len(devices) == 1:
        return [recipe]
    threads = max(1, count_cores() // len(devices))
    return [recipe.on(device, threads) for device in devices]


def devices_for(device: str, workers: int | None) -> list[str]:
    """The device of each process: all GPUs for "auto" and "cuda", the one that is named else.

    Args:
        device: "auto", "cpu", "cuda", "cuda:1", …
        workers: how many processes; None for one a device.

    Raises:
        ConfigError: there is no such device here.
    """
    chosen = find_device(device)
    several = device in ("auto", "cuda") and chosen == "cuda"
    names = [f"cuda:{i}" for i in range(count_gpus())] if several else [chosen]
    return [names[i % len(names)] for i in range(workers or len(names))]
