"""Processes of this machine, a slide each."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnContext
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

from pipeline.batch.engines.base import Told, WorkerEngine
from pipeline.batch.engines.worker import Recipe, Worker
from pipeline.errors import SlideError
from pipeline.in_force import InForce
from pipeline.network.devices import count_cores, count_gpus, find_device
from pipeline.reports.report import SlideReport
from pipeline.slides.readers.base import show


class ProcessEngine(WorkerEngine):
    """A process for each of several devices, all fed from one queue.

    A process that dies, of want of memory or of a fault in a library, takes only its slide along:
    another one follows it.

    Args:
        recipe: what to do.
        devices: of each process; the same one several times is fine.
        told: hears of tiles, in threads of its own.
    """

    def __init__(self, recipe: Recipe, devices: Sequence[str], told: Told | None = None) -> None:
        super().__init__(len(devices))
        self._told = told
        self._context = multiprocessing.get_context("spawn")  # CUDA and OpenSlide bear no fork
        self._stop = self._context.Event()
        threads = max(1, count_cores() // len(devices))
        self._recipes = [recipe.on(device, threads) for device in devices]
        self._lines = [_Line(self._context, told) for _ in devices]
        self._pools = [self._start(number) for number in range(self.slots)]

    def close(self, wait: bool = True) -> None:
        """See `Engine`; processes that are not waited for end with this one."""
        self._stop.set()
        for pool in self._pools:
            pool.shutdown(wait=wait, cancel_futures=True)
        for line in self._lines:
            line.close()

    def _start(self, number: int) -> ProcessPoolExecutor:
        arguments = (self._recipes[number], self._stop, self._lines[number].sender)
        return ProcessPoolExecutor(
            1, self._context, initializer=_prepare_worker, initargs=arguments
        )

    def _replace(self, number: int) -> None:
        self._lines[number].close()  # what died may have left half a message in it
        self._lines[number] = _Line(self._context, self._told)
        self._pools[number] = self._start(number)

    def _ask(self) -> InForce:
        with _deaf_to_interrupts():
            asked = self._pools[0].submit(_describe_in_worker)
        return asked.result()

    def _begin(self, number: int, path: Path) -> Future[SlideReport]:
        with _deaf_to_interrupts():  # a process starts with its first task
            try:
                return self._pools[number].submit(_screen_in_worker, path)
            except BrokenProcessPool:  # it died between two slides
                self._replace(number)
                return self._pools[number].submit(_screen_in_worker, path)

    def _explain(self, inner: Future[Any], number: int, path: Path) -> BaseException | None:
        if inner.cancelled():
            return SlideError(f"{show(path)}: stopped")
        error = inner.exception()
        if not isinstance(error, BrokenProcessPool):
            return error
        if not self._stop.is_set():
            self._replace(number)
        return SlideError(
            f"{show(path)}: the process that screened it died, perhaps for want of memory; "
            "try again with fewer --workers"
        )


@contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """Processes that start meanwhile don't hear Ctrl-C, from the first of their lines on.

    It is the batch's to handle. Only the main thread may say so; elsewhere they hear it until
    they are told not to.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


class _Line:
    """What a process tells of its tiles, on its way to who hears it.

    Each process has a line of its own: of one that all share, a process that is killed could leave
    the lock behind.

    Attributes:
        sender: the process's end; None where nobody hears.
    """

    def __init__(self, context: SpawnContext, told: Told | None) -> None:
        self.sender: Connection | None = None
        if told is None:
            return
        receiver, self.sender = context.Pipe(duplex=False)
        threading.Thread(target=_hear, args=(receiver, told), name="hear", daemon=True).start()

    def close(self) -> None:
        """Ends the line, once its process has ended."""
        if self.sender is not None:
            self.sender.close()


def _hear(receiver: Connection, told: Told) -> None:
    with receiver, suppress(EOFError, OSError):
        while True:
            told(*receiver.recv())


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


_worker: Worker
"""What a worker process screens with; set as it starts."""


def _prepare_worker(recipe: Recipe, stop: Event, line: Connection | None) -> None:
    global _worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the batch's to handle
    threading.Thread(target=_die_with_parent, daemon=True).start()
    _worker = Worker(recipe, stop, (lambda *news: line.send(news)) if line else None)


def _die_with_parent() -> None:
    """Ends a process whose batch was killed, which would wait for slides for ever."""
    if parent := multiprocessing.parent_process():
        parent.join()
        os._exit(1)


def _describe_in_worker() -> InForce:
    return _worker.describe()


def _screen_in_worker(path: Path) -> SlideReport:
    return _worker.screen(path)
