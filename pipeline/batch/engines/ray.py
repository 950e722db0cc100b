"""Workers of a Ray cluster."""

from __future__ import annotations

import os
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import Any

from configs import ConfigError
from pipeline.batch.engines.base import WorkerEngine
from pipeline.batch.engines.worker import Recipe, Worker
from pipeline.errors import SlideError
from pipeline.in_force import InForce
from pipeline.slides.readers.base import show


class RayEngine(WorkerEngine):
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


def _load_ray() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would tell its makers
    try:
        import ray
    except ImportError:
        raise ConfigError(
            "engine ray: Ray is not installed; pip install 'cytolibra[ray]', or use engine local"
        ) from None
    return ray
