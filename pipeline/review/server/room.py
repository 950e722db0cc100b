"""What all requests share: catalogue, store, who is in, and how much work is done at once."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

from starlette.requests import Request

from pipeline.review.bounded import BoundedCache
from pipeline.review.catalogue import Catalogue
from pipeline.review.server.sessions import Sessions
from pipeline.review.server.throttle import LoginBrake
from pipeline.review.server.users import Users
from pipeline.review.store import Reader, ReviewStore, SlideKey, SlideState

T = TypeVar("T")

_LIST_BYTES = 32 << 20

MOST_WAITING = 512
"""Requests that wait for a worker; more are told to come again."""


class BusyError(Exception):
    """Too much is asked for at once."""


class GoneError(Exception):
    """Who asked is gone: nothing was begun."""


class Desk:
    """Does what takes long outside of the loop, a few at once, and nothing for who is gone.

    Args:
        workers: at once; by default as many as there are cores, four at most.
    """

    def __init__(self, workers: int | None = None) -> None:
        count = workers or min(4, max(2, os.cpu_count() or 2))
        self._pool = ThreadPoolExecutor(count, thread_name_prefix="view")
        self._free = asyncio.Semaphore(count)
        self._waiting = 0
        self.begun = 0

    async def do(self, request: Request, work: Callable[[], T]) -> T:
        """The result of some work, begun when a worker is free and somebody still waits for it.

        Raises:
            BusyError: too many wait already.
            GoneError: who asked is gone.
        """
        if self._waiting >= MOST_WAITING:
            raise BusyError
        self._waiting += 1
        try:
            await self._free.acquire()
        finally:
            self._waiting -= 1
        try:
            if await request.is_disconnected():
                raise GoneError
            self.begun += 1
            return await asyncio.get_running_loop().run_in_executor(self._pool, work)
        finally:
            self._free.release()

    def close(self) -> None:
        """Begins nothing more; does not wait for what is in work."""
        self._pool.shutdown(wait=False, cancel_futures=True)


@dataclass(frozen=True)
class Listed:
    """The work list as one reader sees it: compressed JSON, and what it was made of."""

    version: int
    states: Mapping[SlideKey, SlideState]
    packed: bytes


@dataclass
class Room:
    """The reading room.

    Attributes:
        catalogue: the folder of reports.
        store: decisions.
        sessions: who is in.
        hosts: what a browser may call this server, ``name:port`` in lower case; None for any
            address in numbers, beside `names`.
        names: with any port, where `hosts` is None.
        scheme: http or https.
        cookie: its name.
        read_only: whether nothing may be written.
        users: who may come in; None where the token lets in.
        brake: slows wrong passwords.
        desk: does what takes long.
        lists: the work list of each reader.
    """

    catalogue: Catalogue
    store: ReviewStore
    sessions: Sessions
    hosts: frozenset[str] | None
    names: frozenset[str] = frozenset()
    scheme: str = "http"
    cookie: str = "cytolibra"
    read_only: bool = False
    users: Users | None = None
    brake: LoginBrake = field(default_factory=LoginBrake)
    desk: Desk = field(default_factory=Desk)
    lists: BoundedCache[Reader | None, Listed] = field(
        default_factory=lambda: BoundedCache(_LIST_BYTES, lambda one: len(one.packed))
    )
