"""Where files lie that are fetched: what each kind of place must be able to do; how it is asked.

All of them are asked by coroutines on one loop in a thread of its own, so that many requests are
under way at once, and each can be given up.
"""

from __future__ import annotations

import asyncio
import importlib
from abc import ABC, abstractmethod
from collections.abc import Coroutine, Mapping, Sequence
from concurrent.futures import Future, wait
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol, TypeVar

from configs import ConfigError
from pipeline.cloud.problems import explain
from pipeline.cloud.settings import CloudSettings
from pipeline.cloud.urls import Url

T = TypeVar("T")

_POLL_S = 0.2
"""Seconds between looks whether to stop."""

_CLOSE_S = 5.0
_FIRST_WAIT_S = 0.5
_LONGEST_WAIT_S = 30.0


class Stop(Protocol):
    """An event that ends what is under way."""

    def is_set(self) -> bool:
        """Whether to end."""


class StoppedError(Exception):
    """Nobody wants it any more."""


@dataclass(frozen=True)
class RemoteFile:
    """A file in a store or on a server.

    Attributes:
        shown: its URL, without secrets.
        path: the same as a path: scheme, host or bucket, folders, name.
        address: what the store is asked for.
        size: bytes.
        version: what tells its content from another: an ETag, a generation, or when it was changed;
            empty where the server tells nothing of the kind.
        sums: checksums that it is known to have, by kind.
        ranged: whether pieces of it can be asked for.
        signed: whether its address carries a query.
        exact: whether ``size`` is what it has, and not the most that it may have.
    """

    shown: str
    path: Path
    address: str = field(repr=False)
    size: int
    version: str
    sums: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    ranged: bool = True
    signed: bool = False
    exact: bool = True


class Store(ABC):
    """A place that files are fetched from. Its errors are its library's; see `problems.explain`."""

    @abstractmethod
    def path_of(self, url: Url) -> Path:
        """A URL as a path: scheme, host or bucket, folders, name."""

    @abstractmethod
    async def look(self, url: Url) -> RemoteFile | None:
        """The file that a URL names; None for a folder."""

    @abstractmethod
    async def list(self, url: Url) -> Sequence[RemoteFile]:
        """All files below a folder, sorted by name."""

    @abstractmethod
    async def head(self, file: RemoteFile) -> RemoteFile:
        """What the store says of a file now, with all checksums that it tells."""

    @abstractmethod
    async def read(self, file: RemoteFile, start: int, end: int) -> bytes:
        """A piece of a file, of its version where the store can tell versions apart."""

    async def stream(self, file: RemoteFile, take: Any) -> None:
        """Hands a whole file over, piece by piece, where it is not ``ranged``."""
        take(await self.read(file, 0, file.size))

    async def close(self) -> None:  # noqa: B027 (most have nothing to give back)
        """Gives back its connections."""


class Stores:
    """The stores of a run, each opened once: one for each scheme and account.

    Args:
        settings: how they are asked.
    """

    def __init__(self, settings: CloudSettings) -> None:
        self.settings = settings
        self._open: dict[str, Store] = {}

    def of(self, url: Url) -> Store:
        """The store of a URL; see `open_store`."""
        if url.is_dicomweb or url.is_web:
            key = "dicomweb" if url.is_dicomweb else "web"
        else:
            key = f"{url.scheme}://{url.text.split('/', 3)[2]}"
        if key not in self._open:
            self._open[key] = open_store(url, self.settings)
        return self._open[key]

    def __enter__(self) -> Stores:
        return self

    def __exit__(self, *_: object) -> None:
        for store in self._open.values():
            with suppress(Exception):
                run(asyncio.wait_for(store.close(), _CLOSE_S))
        self._open.clear()


def open_store(url: Url, settings: CloudSettings) -> Store:
    """The store of a URL; nothing is asked of it yet.

    Raises:
        ConfigError: what it needs isn't installed.
    """
    if url.is_web:
        from pipeline.cloud.web import WebStore

        return WebStore(settings)
    if url.is_dicomweb:
        from pipeline.cloud.dicomweb import DicomWebStore

        return DicomWebStore(settings)
    from pipeline.cloud.buckets import open_buckets

    return open_buckets(url, settings)


def import_extra(module: str, url: Url) -> ModuleType:
    """A module of the extra ``cloud``.

    Raises:
        ConfigError: it isn't installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ConfigError(
            f"{url}: needs {error.name or module}: pip install 'cytolibra[cloud]'"
        ) from None


@lru_cache(maxsize=1)
def loop() -> asyncio.AbstractEventLoop:
    """The loop on which all is asked; fsspec's own, on which its file systems live."""
    from fsspec.asyn import get_loop

    found: asyncio.AbstractEventLoop = get_loop()
    return found


def run(what: Coroutine[Any, Any, T], stop: Stop | None = None) -> T:
    """Waits for something on the loop.

    Raises:
        StoppedError: ``stop`` was set; it is given up.
    """
    future: Future[T] = asyncio.run_coroutine_threadsafe(what, loop())
    try:
        while not wait([future], _POLL_S).done:
            if stop and stop.is_set():
                raise StoppedError
        return future.result()
    except BaseException:
        future.cancel()
        raise


async def patiently(ask: Any, settings: CloudSettings, signed: bool = False) -> Any:
    """Asks again where that may help, after longer and longer waits.

    Args:
        ask: makes the coroutine that asks; called for each try.
        settings: how often, and how long an answer may take.
        signed: see `problems.explain`.
    """
    pause = _FIRST_WAIT_S
    for left in reversed(range(settings.tries)):
        try:
            return await asyncio.wait_for(ask(), settings.timeout_s)
        except Exception as error:
            if left == 0 or not explain(error, signed).passing:
                raise
        await asyncio.sleep(pause)
        pause = min(2 * pause, _LONGEST_WAIT_S)
    raise AssertionError("no try is left")
