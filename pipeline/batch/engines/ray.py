"""Workers of a Ray cluster, whose machines come and go."""

from __future__ import annotations

import logging
import math
import os
import pickle
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from configs import ConfigError, CytoLibraError
from models import ModelSource
from pipeline.batch.engines.base import Told
from pipeline.batch.engines.ray_cluster import join, load_ray, one_line, plan_room
from pipeline.batch.engines.ray_host import host_class, our_version
from pipeline.batch.engines.worker import Recipe
from pipeline.batch.fingerprint import hash_recipe
from pipeline.errors import PROCESS_DIED, EngineError, SlideError, WorkerLostError
from pipeline.in_force import InForce
from pipeline.reports.report import SlideReport, software_versions
from pipeline.slides.readers.base import show

PATIENCE_S = 300.0
"""How long nobody may have a place before the batch gives up: a cluster that grows on demand takes
minutes."""

_TOLD_S = 30.0
"""After so long workers without a place are told of."""

_TICK_S = 0.1
"""How often it is looked for new slides, and for the end."""

_TILES_S = 0.5
"""How often workers are asked for their tiles."""

_STILLBORN = 3
"""Of each worker so many starts may fail in a row, on whatever machine."""

_TILES = "tiles"
"""Calls that are answered while a slide is screened."""

_log = logging.getLogger(__name__)


@dataclass(eq=False)
class _Task:
    """A slide, and what is promised of it."""

    path: Path
    promise: Future[SlideReport]
    begun: float = 0.0
    told: tuple[int, int] = (0, 0)

    def end(self, report: SlideReport | None, error: BaseException | None = None) -> None:
        """Keeps the promise, unless nobody waits for it any more."""
        with suppress(InvalidStateError):
            if error is not None:
                self.promise.set_exception(error)
            else:
                assert report is not None
                self.promise.set_result(report)


@dataclass(eq=False)
class _Hand:
    """A worker: its actor, what it was last asked, and its machine once it has greeted."""

    actor: Any
    asked: Any
    since: float = field(default_factory=time.monotonic)
    host: str = ""
    node: str = ""
    pid: int = 0
    task: _Task | None = None
    tiles: Any = None
    tiles_asked: float = 0.0

    @property
    def is_idle(self) -> bool:
        """Whether it waits for a slide."""
        return bool(self.host) and self.task is None


class RayEngine:
    """Workers of a Ray cluster, or of this machine where none is named by ``RAY_ADDRESS``.

    Slides, models and settings are named by paths, which every machine must see alike. Each worker
    takes one GPU where the cluster has any, else some cores. A worker that dies, or whose machine
    does, costs its slide this attempt, and another one follows it as soon as there is room.
    Machines that can't do as the first that was ready does (another version, files that they don't
    see, another precision) are left out, which is told.

    Args:
        recipe: what to do.
        workers: how many; None for as many as the cluster has room for.
        told: hears of tiles, in a thread of its own.
        warn: hears in a line of what befalls the cluster, in the same thread; it is logged anyway.
        places: files and folders that each machine must see.
        patience_s: how long nobody may have a place before all is given up.

    Raises:
        ConfigError: Ray is not installed, the cluster can't be joined or has no such device, or
            memory is limited, which Ray does itself.
        CytoLibraError: there is no such model.
    """

    def __init__(
        self,
        recipe: Recipe,
        workers: int | None = None,
        told: Told | None = None,
        warn: Callable[[str], None] | None = None,
        places: Sequence[Path] = (),
        patience_s: float = PATIENCE_S,
    ) -> None:
        if recipe.settings.limits.memory_gb is not None:
            raise ConfigError(
                "engine ray: limits.memory_gb is of --engine local: Ray watches the memory of its "
                "machines itself and ends workers before it is used up"
            )
        ModelSource.find(recipe.model)  # a wrong name is told before a cluster is asked
        self._ray = load_ray()
        self._owned = join(self._ray)
        self._told, self._warn, self._patience_s = told, warn, patience_s
        try:
            self._room = plan_room(list(self._nodes().values()), workers, recipe.settings.runtime)
        except BaseException:
            self._leave()
            raise
        self.slots = self._room.slots
        self._seconds = recipe.settings.limits.seconds or math.inf
        todo = recipe.on(self._room.device, self._room.threads)
        seen = [str(place) for place in places]
        self._arguments = (our_version(), pickle.dumps(todo), os.getcwd(), seen)
        self._class = self._ray.remote(concurrency_groups={_TILES: 1})(host_class())
        self._unfit: dict[str, str] = {}
        self._warned: set[str] = set()
        self._stillborn = 0
        self._last_ready = time.monotonic()
        self._tasks: deque[_Task] = deque()
        self._in_force: Future[InForce] = Future()
        self._recipe_hash = ""
        self._failure: CytoLibraError | None = None
        self._ending = threading.Event()
        self._hands: list[_Hand] = []
        self._thread = threading.Thread(target=self._work, name="ray", daemon=True)
        self._thread.start()

    def submit(self, path: Path, careful: bool = False) -> Future[SlideReport]:
        """See `Engine`; workers are always processes of their own."""
        task = _Task(path, Future())
        task.promise.set_running_or_notify_cancel()
        self._tasks.append(task)
        if self._failure:
            self._drop_all(self._failure)
        return task.promise

    def describe(self) -> InForce:
        """What is in force, by the first worker that is ready; others must be alike.

        Raises:
            CytoLibraError: model and settings can't be used, or no worker finds a place; all is
                closed then.
        """
        try:
            return self._in_force.result()
        except BaseException:
            self.close()
            raise

    def close(self, wait: bool = True) -> None:
        """See `Engine`; workers are killed, so that there is little to wait for."""
        self._ending.set()
        self._thread.join(10 if wait else 1)
        self._drop_all(EngineError("stopped"))
        self._leave()

    def _leave(self) -> None:
        if self._owned:
            with suppress(Exception):  # the cluster may be gone
                self._ray.shutdown()

    def _work(self) -> None:
        """The life of the thread that alone speaks with the workers."""
        try:
            self._hands = [self._start() for _ in range(self.slots)]
            while not self._ending.is_set():
                self._hand_out()
                self._hear()
                self._look_after()
        except CytoLibraError as error:
            self._give_up(error)
        except Exception as error:
            if not self._ending.is_set():
                _log.exception("Ray")
                self._give_up(EngineError(f"the Ray cluster is lost: {one_line(error)}"))
        finally:
            for hand in self._hands:
                self._kill(hand)

    def _nodes(self) -> dict[str, Mapping[str, float]]:
        """Resources of the machines that are there, by their names."""
        return {n["NodeID"]: n["Resources"] for n in self._ray.nodes() if n["Alive"]}

    def _start(self) -> _Hand:
        """A worker; it waits until there is room for it."""
        without = {"ray.io/node-id": f"!in({','.join(sorted(self._unfit))})"}
        actor = self._class.options(
            **self._room.needs,
            label_selector=without if self._unfit else None,
        ).remote(*self._arguments)
        return _Hand(actor, actor.greet.remote())

    def _replace(self, hand: _Hand) -> None:
        self._kill(hand)
        self._hands.remove(hand)
        self._hands.append(self._start())

    def _kill(self, hand: _Hand) -> None:
        with suppress(Exception):  # it may be dead, or the cluster gone
            self._ray.kill(hand.actor)

    def _hand_out(self) -> None:
        """Gives slides to who is idle."""
        for hand in self._hands:
            if hand.is_idle and self._tasks:
                hand.task = self._tasks.popleft()
                hand.task.begun = time.monotonic()
                hand.tiles = None  # what is still to come is of the slide before
                hand.asked = hand.actor.screen.remote(str(hand.task.path))

    def _hear(self) -> None:
        """Takes the answers that there are, after waiting for one for a moment."""
        asked = {hand.asked: hand for hand in self._hands if hand.task or not hand.host}
        tiles = {hand.tiles: hand for hand in self._hands if hand.tiles is not None}
        waited = [*asked, *tiles]
        if not waited:
            self._ending.wait(_TICK_S)
            return
        ready, _ = self._ray.wait(waited, num_returns=1, timeout=_TICK_S)
        if ready:
            ready, _ = self._ray.wait(waited, num_returns=len(waited), timeout=0)
        for answer in ready:
            if answer in tiles:
                self._take_tiles(tiles[answer])
        for answer in ready:
            if answer in asked:
                self._take(asked[answer])

    def _take(self, hand: _Hand) -> None:
        """An answer: a greeting, a report, or what went wrong."""
        try:
            said = self._ray.get(hand.asked)
        except self._ray.exceptions.RayTaskError as error:
            cause = error.cause if isinstance(error.cause, Exception) else error
            if hand.task:
                task, hand.task = hand.task, None
                task.end(None, cause)
            else:
                self._leave_out(hand, "", f"unexpected error: {one_line(cause)}")
        except self._ray.exceptions.RayError as error:
            self._lose(hand, error)
        else:
            if hand.task:
                task, hand.task = hand.task, None
                task.end(said)
            else:
                self._welcome(hand, said)

    def _welcome(self, hand: _Hand, said: dict[str, Any]) -> None:
        """Takes a worker in that is ready, or leaves its machine out."""
        if problem := said.get("problem") or self._otherwise(said["force"]):
            self._leave_out(hand, said["node"], problem, said["host"])
            return
        hand.host, hand.node, hand.pid = said["host"], said["node"], said["pid"]
        self._stillborn = 0
        if not self._in_force.done():
            self._recipe_hash = _hash(said["force"])
            self._in_force.set_result(said["force"])
        here = software_versions()
        others = {n: v for n, v in said["software"].items() if here.get(n, v) != v}
        if others:
            told = ", ".join(f"{n} {v} (here {here[n]})" for n, v in others.items())
            text = f"{hand.host} has {told}: its results may differ a little"
            self._tell(text, once=text)

    def _otherwise(self, force: InForce) -> str:
        """In what a worker would screen otherwise than the first one; empty where in nothing."""
        if not self._in_force.done() or _hash(force) == self._recipe_hash:
            return ""
        first = self._in_force.result()
        one, other = _flat(first.settings), _flat(force.settings)
        keys = [key for key in one if one[key] != other.get(key) and not key.endswith(".device")]
        told = ", ".join(f"{key} is {other.get(key)} there, not {one[key]}" for key in keys[:3])
        return f"it would screen otherwise: {told or 'its model is another one'}"

    def _leave_out(self, hand: _Hand, node: str, problem: str, host: str = "") -> None:
        """Starts a worker on another machine; where there is none left, all is given up."""
        if node:
            self._unfit[node] = f"{host}: {problem}" if host else problem
        elif self._is_hopeless(hand, problem):
            return
        left = [n for n, has in self._nodes().items() if has.get(self._room.resource)]
        if not set(left) - set(self._unfit):
            kind = EngineError if self._in_force.done() else ConfigError
            raise kind(f"engine ray: {'; '.join(dict.fromkeys(self._unfit.values()))}")
        self._tell(f"{host or 'a machine'} is left out: {problem}")
        self._replace(hand)

    def _lose(self, hand: _Hand, error: Exception) -> None:
        """A worker that is gone: its slide has failed this time, and another one follows it."""
        _log.info("Ray: %s", one_line(error, 2000))
        why = _explain(error)
        if hand.task is None:
            if not self._is_hopeless(hand, why):
                self._replace(hand)
            return
        task = hand.task
        self._tell(f"the worker of {show(task.path)} on {hand.host} was lost: {why}")
        self._replace(hand)
        text = f"{show(task.path)}: the worker that screened it was lost: {why}"
        task.end(None, WorkerLostError(text, PROCESS_DIED))

    def _is_hopeless(self, hand: _Hand, why: str) -> bool:
        """Whether workers end again and again as they start; the others go on without this one."""
        self._stillborn += 1
        if self._stillborn < _STILLBORN * self.slots:
            return False
        why = f"workers end as they start: {why}"
        if not any(other.host for other in self._hands):
            raise EngineError(f"engine ray: {why}")
        self._hands.remove(hand)
        self._kill(hand)
        self._tell(f"{why}; {len(self._hands)} go on")
        return True

    def _take_tiles(self, hand: _Hand) -> None:
        answer, hand.tiles = hand.tiles, None
        try:
            done = self._ray.get(answer)
        except self._ray.exceptions.RayError:
            return  # that it is gone is told by what becomes of its slide
        task = hand.task
        if task and self._told and done[0] > task.told[0]:
            task.told = done
            self._told(task.path, *done)

    def _look_after(self) -> None:
        """Asks for tiles, and sees to it that nobody waits for a place for ever."""
        now = time.monotonic()
        for hand in list(self._hands):
            if hand.task and now - hand.task.begun > self._seconds:
                self._stop_late(hand, hand.task)
            due = now - hand.tiles_asked >= _TILES_S
            if self._told and hand.task and hand.tiles is None and due:
                hand.tiles_asked = now
                hand.tiles = hand.actor.tiles.options(concurrency_group=_TILES).remote()
        waiting = [hand for hand in self._hands if not hand.host]
        if len(waiting) < len(self._hands):
            self._last_ready = now
        since = min((hand.since for hand in waiting), default=now)
        if now - self._last_ready > self._patience_s:
            raise EngineError(
                f"engine ray: no worker is ready after {self._patience_s:.0f} s: each needs "
                f"{self._room} of a machine; the cluster has {self._free()}"
            )
        if now - since > _TOLD_S:
            self._tell(
                f"{len(waiting)} of {self.slots} workers have no place yet: each needs "
                f"{self._room} of a machine; the cluster has {self._free()}",
                once="place",
            )

    def _stop_late(self, hand: _Hand, task: _Task) -> None:
        """Ends a worker whose slide takes longer than it may; that one has failed for good."""
        hand.task = None
        self._replace(hand)
        text = f"{show(task.path)}: took longer than {self._seconds:g} s (limits.seconds)"
        task.end(None, SlideError(text, "over-limit"))

    def _free(self) -> str:
        what = self._room.resource
        free = self._ray.available_resources().get(what, 0)
        return f"{free:g} of {self._ray.cluster_resources().get(what, 0):g} {what} free"

    def _tell(self, text: str, once: str = "") -> None:
        """Says something; that of a kind only once."""
        if once and once in self._warned:
            return
        self._warned.add(once)
        if self._warn:
            self._warn(f"Ray: {text}")
        if not self._warn or _log.hasHandlers():  # else it would be on the terminal twice
            _log.warning("Ray: %s", text)

    def _give_up(self, error: CytoLibraError) -> None:
        self._failure = error
        if not self._in_force.done():
            self._in_force.set_exception(error)
        self._drop_all(error)

    def _drop_all(self, error: CytoLibraError) -> None:
        """Nobody screens what was promised."""
        for hand in self._hands:
            if hand.task:
                hand.task.end(None, error)
        with suppress(IndexError):
            while True:
                self._tasks.popleft().end(None, error)


def _hash(force: InForce) -> str:
    return hash_recipe(force.settings, force.model)


def _flat(settings: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Settings by dotted keys."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        key = f"{before}{name}"
        flat |= _flat(value, f"{key}.") if isinstance(value, Mapping) else {key: value}
    return flat


def _explain(error: Exception) -> str:
    """Why a worker is gone, in plain words."""
    text = str(error)
    if "low on memory" in text or "OutOfMemory" in type(error).__name__:
        return "it was ended because its machine ran out of memory"
    if "node has died" in text or "node died" in text or "NodeDied" in type(error).__name__:
        return "its machine is gone"
    if "Unavailable" in type(error).__name__:
        return "its machine or its process can't be reached any more"
    return "its process died, perhaps for want of memory"
