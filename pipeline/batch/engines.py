"""Who screens the slides of a batch: threads of this process, other processes, or a cluster.

An engine takes paths and promises reports. What is written, recorded and told stays with the batch,
in one process, so that every engine gives the same results.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property, partial
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnContext
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any, Protocol

from configs import ConfigError
from models import ModelSource
from pipeline.errors import SlideError
from pipeline.in_force import InForce, in_force
from pipeline.memory import give_back_large_blocks
from pipeline.network.detector import TileDetector, foresee
from pipeline.network.devices import count_cores, count_gpus, find_device
from pipeline.reports.report import SlideReport
from pipeline.screen import Stop, screen_slide
from pipeline.settings import ScreenSettings
from pipeline.slides.readers.base import show

Screen = Callable[[Path], SlideReport]
"""Screens one slide; raises SlideError where it can't be."""

Told = Callable[[Path, int, int], None]
"""Hears of a slide how many of its tiles are done, of how many."""

STAGGERED = 2
"""Slides in work at once in one process: the tiles of one, while the next is opened and the last
one's pictures are taken. The detector takes the tiles of one slide after the other's, so memory
holds those of one."""


class Engine(Protocol):
    """Something that screens slides.

    Attributes:
        slots: how many slides it has in work at once; the batch submits no more.
    """

    slots: int

    def submit(self, path: Path) -> Future[SlideReport]:
        """Begins to screen a slide; what goes wrong with it is the future's."""

    def close(self, wait: bool = True) -> None:
        """Stops what is in work, at its next tile, and gives back threads or processes.

        Without ``wait`` it does so by and by: for who is about to end the process, as after Ctrl-C.
        """


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


@dataclass(frozen=True)
class Recipe:
    """What another process needs to screen as this one would.

    Attributes:
        model: name or path.
        settings: of all stations; the device among them is the process's own.
    """

    model: str | Path
    settings: ScreenSettings

    def foresee(self) -> InForce | None:
        """What will be in force on this machine, before anything is loaded; None where unknown.

        Raises:
            CytoLibraError: model and settings can't be used.
        """
        card = ModelSource.find(self.model).card
        settings = self.settings
        facts = foresee(
            card, settings.runtime, settings.threshold, settings.second_look, settings.kept
        )
        return in_force(settings, facts) if facts else None

    def on(self, device: str, threads: int | None) -> Recipe:
        """The same on another device, with so many threads of the CPU."""
        where: dict[str, object] = {"device": device}
        if self.settings.runtime.threads is None:
            where["threads"] = threads
        runtime = self.settings.runtime.model_copy(update=where)
        return Recipe(self.model, self.settings.model_copy(update={"runtime": runtime}))


class _WorkerEngine(ABC):
    """Workers with a slide each: who is idle, and what is promised for the slides of the others.

    Args:
        slots: how many workers.
    """

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self._idle = list(range(slots))
        self._lock = threading.Lock()

    def submit(self, path: Path) -> Future[SlideReport]:
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


class ProcessEngine(_WorkerEngine):
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


class RayEngine(_WorkerEngine):
    """Workers of a Ray cluster, or of a local one where none is named by ``RAY_ADDRESS``.

    Slides, models and settings are named by paths, which every machine must see alike. Each worker
    takes one GPU where the cluster has any, else the cores that ``cores`` says.

    Args:
        recipe: what to do.
        workers: how many; None for as many as the cluster has room for.
        cores: of each worker on a cluster without GPUs.

    Raises:
        ConfigError: Ray is not installed.
    """

    def __init__(self, recipe: Recipe, workers: int | None = None, cores: int = 2) -> None:
        self._ray = _load_ray()
        self._owned = not self._ray.is_initialized()
        if self._owned:
            self._ray.init(include_dashboard=False, log_to_driver=False)
        room = self._ray.cluster_resources()
        gpus, cpus = int(room.get("GPU", 0)), int(room.get("CPU", 1))
        cores = min(cores, cpus)
        super().__init__(workers or gpus or max(1, cpus // cores))
        device, threads = ("cuda", None) if gpus else ("cpu", cores)
        # More workers than there is room for share it.
        needs = {
            "num_gpus": min(1.0, gpus / self.slots) if gpus else 0,
            "num_cpus": min(cores, cpus / self.slots) if not gpus else 0,
        }
        self._remote = self._ray.remote(**needs)(Worker)
        self._recipe = recipe.on(device, threads)
        self._workers = [self._start() for _ in range(self.slots)]

    def close(self, wait: bool = True) -> None:
        """See `Engine`; workers are killed, so that there is nothing to wait for."""
        for worker in self._workers:
            self._ray.kill(worker)
        if self._owned:
            self._ray.shutdown()

    def _start(self) -> Any:
        return self._remote.remote(self._recipe)

    def _ask(self) -> InForce:
        try:
            in_force: InForce = self._ray.get(self._workers[0].describe.remote())
        except self._ray.exceptions.RayTaskError as error:
            raise error.cause from None
        return in_force

    def _begin(self, number: int, path: Path) -> Future[Any]:
        inner: Future[Any] = self._workers[number].screen.remote(path.absolute()).future()
        return inner

    def _explain(self, inner: Future[Any], number: int, path: Path) -> BaseException | None:
        error = inner.exception()
        if isinstance(error, self._ray.exceptions.RayTaskError):
            cause: BaseException = error.cause
            return cause
        if error is None:
            return None
        with suppress(Exception):  # the cluster itself may be gone
            self._workers[number] = self._start()
        return SlideError(f"{show(path)}: the worker that screened it was lost: {error}")


class Worker:
    """Who screens, here, in a process, or on a cluster: its detector is made with its first task.

    So what is wrong with model or settings is that task's failure, with its cause.

    Args:
        recipe: what to do.
        stop: set where what is in work is to end.
        told: hears of tiles.
    """

    def __init__(self, recipe: Recipe, stop: Stop | None = None, told: Told | None = None) -> None:
        self._recipe, self._stop, self._told = recipe, stop, told

    @cached_property
    def _detector(self) -> TileDetector:
        give_back_large_blocks()
        settings = self._recipe.settings
        return TileDetector(
            ModelSource.find(self._recipe.model),
            settings.runtime,
            settings.threshold,
            settings.second_look,
            settings.kept,
        )

    def describe(self) -> InForce:
        """What is in force here."""
        return in_force(self._recipe.settings, self._detector)

    def screen(self, path: Path) -> SlideReport:
        """Screens one slide."""
        told = partial(self._told, path) if self._told else None
        settings = self._recipe.settings
        return screen_slide(path, self._detector, settings, progress=told, stop=self._stop)


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


def _load_ray() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would tell its makers
    try:
        import ray
    except ImportError:
        raise ConfigError(
            "engine ray: Ray is not installed; pip install 'cytolibra[ray]', or use engine local"
        ) from None
    return ray
