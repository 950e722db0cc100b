"""A Ray cluster: how it is joined, and how many workers it has room for."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

from configs import ConfigError
from pipeline.network.detector import RuntimeSettings

CORES = 2
"""Cores of a worker on a cluster without GPUs, unless ``runtime.threads`` says otherwise."""

_KNOCK_S = 10.0
"""How long the head of a cluster may take to answer."""

_QUIET = {"log_to_driver": False, "logging_level": "error"}

_log = logging.getLogger(__name__)

_FINEST = 1e4
"""Ray counts its resources in ten-thousandths."""


def load_ray() -> Any:
    """Ray, told to keep to itself.

    Raises:
        ConfigError: it isn't installed, or too old.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would tell its makers
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # the default to come
    os.environ["RAY_ENABLE_AUTO_CONNECT"] = "0"  # no cluster anew once it has been left
    try:
        import ray
        import ray.exceptions
    except ImportError:
        raise ConfigError(
            "engine ray: Ray is not installed; pip install 'cytolibra[ray]', or use engine local"
        ) from None
    return ray


def join(ray: Any) -> bool:
    """Joins the cluster that ``RAY_ADDRESS`` names, or starts one of this machine alone.

    Returns:
        Whether it did: not where this process had joined one before.

    Raises:
        ConfigError: there is no such cluster, or it runs another Ray or Python.
    """
    if ray.is_initialized():
        return False
    address = os.environ.get("RAY_ADDRESS", "")
    if address.startswith("ray://"):
        raise ConfigError(
            f"engine ray: RAY_ADDRESS={address}: Ray's client is not for this; start the command "
            "on a machine of the cluster, with RAY_ADDRESS=auto"
        )
    _knock(address)
    for tries_left in (0,) if address else (1, 0):
        try:
            with _deadly_interrupts():
                _init(ray, address)
        except Exception as error:  # of whatever kind: Ray raises even Exception itself
            ray.shutdown()
            if not tries_left:  # a busy machine may be too slow for what Ray waits for
                raise ConfigError(f"engine ray: {_why_not_joined(address, error)}") from error
        else:
            break
    _hush(ray)
    return True


@contextmanager
def _deadly_interrupts() -> Iterator[None]:
    """Meanwhile Ctrl-C ends this process at once, and so what it has started of Ray.

    Nothing is begun yet that would have to be kept, and as long as Ray waits for its own parts, up
    to half a minute, it lets nobody hear of it. Only the main thread may say so.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _hush(ray: Any) -> None:
    """Has what Ray says of lost machines, which is pages of its own state, go into the log."""

    def note(batch: Mapping[str, Any], *_: object, **__: object) -> None:
        _log.info("Ray: %s", one_line(" ".join(batch.get("lines", ()))))

    worker = ray._private.worker
    if hasattr(worker, "print_to_stdstream"):
        worker.print_to_stdstream = note


def _knock(address: str) -> None:
    """Makes sure that somebody is there: Ray tries for minutes."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        return  # auto, or nothing that Ray will take
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_KNOCK_S).close()
    except (OSError, OverflowError) as error:
        raise ConfigError(
            f"engine ray: RAY_ADDRESS={address}: nobody answers there: {error}; is the cluster up?"
        ) from error


def _init(ray: Any, address: str) -> None:
    if address:
        ray.init(address=address, **_QUIET)
        return
    with _alone(ray):
        ray.init(address="local", include_dashboard=False, **_QUIET)


def _why_not_joined(address: str, error: Exception) -> str:
    if not address:
        return f"Ray doesn't start on this machine: {one_line(error)}"
    if isinstance(error, ConnectionError):
        return (
            f"RAY_ADDRESS={address}: {one_line(error)}; is the cluster up? Where it wants a token, "
            "set RAY_AUTH_MODE=token, with the same ~/.ray/auth_token on all machines"
        )
    return f"RAY_ADDRESS={address}: {one_line(error)}"


@contextmanager
def _alone(ray: Any) -> Iterator[None]:
    """Meanwhile Ray starts no helpers that a cluster of one machine has no use for.

    An HTTP server, which without a dashboard serves nothing, yet asks the network which cloud this
    is, even where usage statistics are off; who would start more machines; and who would gather the
    workers' output. Starting takes half as long without them.
    """
    with ExitStack() as stack:
        for helper in ("start_api_server", "start_monitor", "start_log_monitor"):
            stack.enter_context(patch.object(ray._private.node.Node, helper))
        yield


def one_line(said: object, most: int = 300) -> str:
    """What Ray says, which may be pages, in one line."""
    text = " ".join(str(said).split())
    return text if len(text) <= most else f"{text[:most]} …"


@dataclass(frozen=True)
class Room:
    """The workers that a cluster has room for.

    Attributes:
        slots: how many.
        resource: what each takes: "GPU" or "CPU".
        share: how much of it.
    """

    slots: int
    resource: str
    share: float

    @property
    def device(self) -> str:
        """Of each worker."""
        return "cuda" if self.resource == "GPU" else "cpu"

    @property
    def threads(self) -> int | None:
        """Of each worker's CPU; None where a GPU computes."""
        return None if self.resource == "GPU" else max(1, int(self.share))

    @property
    def needs(self) -> dict[str, float]:
        """The same as Ray wants it said."""
        gpus, cpus = (self.share, 0.0) if self.resource == "GPU" else (0.0, self.share)
        return {"num_gpus": gpus, "num_cpus": cpus}

    def __str__(self) -> str:
        return f"{self.share:g} {self.resource}"


def plan_room(
    nodes: Sequence[Mapping[str, float]], workers: int | None, runtime: RuntimeSettings
) -> Room:
    """How many workers, and what each takes.

    A worker never spans machines. Where more are asked for than there is room for, they share it.

    Args:
        nodes: resources of each machine, by Ray's names.
        workers: how many are asked for; None for as many as there is room for.
        runtime: where the network is to run, and with how many threads.

    Raises:
        ConfigError: the cluster has no such device, or no room at all.
    """
    resource = _choose_resource(nodes, runtime.device)
    amounts = [amount for node in nodes if (amount := node.get(resource, 0)) > 0]
    if not amounts:
        raise ConfigError(
            f"engine ray: the cluster has no {resource} to work with; start nodes, or give "
            "--device another one"
        )
    whole = 1.0 if resource == "GPU" else min(float(runtime.threads or CORES), max(amounts))
    if workers is None:
        return Room(max(1, _count(amounts, whole)), resource, whole)
    return Room(workers, resource, _share(amounts, whole, workers))


def _choose_resource(nodes: Sequence[Mapping[str, float]], device: str) -> str:
    if device.startswith("cuda:"):
        raise ConfigError(
            f"engine ray: --device {device}: Ray gives each worker its GPU; say cuda, or auto"
        )
    gpus = sum(node.get("GPU", 0) for node in nodes)
    if device == "cuda" and not gpus:
        raise ConfigError("engine ray: --device cuda: the cluster has no GPU")
    return "GPU" if gpus and device != "cpu" else "CPU"


def _count(amounts: Sequence[float], share: float) -> int:
    return sum(int(amount / share + 1e-6) for amount in amounts)


def _share(amounts: Sequence[float], whole: float, workers: int) -> float:
    """The largest share of which there are enough: above 1 a whole number, as Ray wants it."""
    parts = {amount / k for amount in amounts for k in range(1, workers + 1)}
    shares = {int(p) if p > 1 else int(p * _FINEST) / _FINEST for p in parts if p <= whole}
    for share in sorted({whole, *shares} - {0}, reverse=True):
        if _count(amounts, share) >= workers:
            return float(share)
    raise ConfigError(f"engine ray: --workers {workers}: the cluster has no room for so many")
