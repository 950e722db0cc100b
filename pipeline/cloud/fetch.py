"""Fetching a file: in pieces, several at once, each asked for again where its connection is cut.

What arrives is held against the size and the checksum that the store tells, and against the version
that was listed, before and after: a file that is changed meanwhile is never taken for a whole one.
"""

from __future__ import annotations

import asyncio
from collections import deque
from pathlib import Path

from pipeline.cloud.problems import ChangedError, UnfitError
from pipeline.cloud.settings import CloudSettings
from pipeline.cloud.store import RemoteFile, Stop, Store, patiently, run
from pipeline.cloud.sums import Checker
from pipeline.errors import SlideError

PIECE = 8 << 20
"""Bytes that are asked for at once."""

_WHOLE_TRIES = 2
"""How often a file is fetched whose checksum doesn't fit."""


class ShortError(OSError):
    """A connection ended before all was there."""


def fetch(
    store: Store, file: RemoteFile, target: Path, settings: CloudSettings, stop: Stop | None = None
) -> Checker:
    """Fetches a file.

    Args:
        store: where it lies.
        file: as it was listed.
        target: where it goes; its folder is made.
        settings: how it is fetched.
        stop: set where it is to be given up.

    Returns:
        What it was held against, and its SHA-256.

    Raises:
        StoppedError: ``stop`` was set.
        SlideError: it doesn't fit its checksum, again.
        Exception: whatever the store's library raises; see `problems.explain`.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    for _ in range(_WHOLE_TRIES):
        checker = run(_fetch(store, file, target, settings), stop)
        if checker.fits:
            return checker
    raise SlideError(
        f"{file.shown}: what arrives does not fit the {checker.kind} that is stored with it; "
        "copy it there again",
        "remote-damaged",
    )


async def _fetch(store: Store, file: RemoteFile, target: Path, settings: CloudSettings) -> Checker:
    now = await patiently(lambda: store.head(file), settings, file.signed)
    _check_same(now, file)
    if now.ranged:
        checker = await _in_pieces(store, now, target, settings)
    else:
        checker = await _in_one(store, now, target, settings)
    _check_same(await patiently(lambda: store.head(file), settings, file.signed), file)
    return checker


async def _in_pieces(
    store: Store, file: RemoteFile, target: Path, settings: CloudSettings
) -> Checker:
    """Pieces are asked for ahead, and written in order."""
    checker = Checker(file.sums)

    async def ask(start: int) -> bytes:
        end = min(start + PIECE, file.size)

        async def once() -> bytes:
            data = await store.read(file, start, end)
            if len(data) != end - start:
                raise ShortError(f"the connection was cut after {len(data)} of {end - start} bytes")
            return data

        data: bytes = await patiently(once, settings, file.signed)
        return data

    starts = iter(range(0, file.size, PIECE))
    under_way: deque[asyncio.Task[bytes]] = deque()
    try:
        with target.open("wb") as stream:
            while True:
                while len(under_way) < settings.connections:
                    if (start := next(starts, None)) is None:
                        break
                    under_way.append(asyncio.create_task(ask(start)))
                if not under_way:
                    return checker
                data = await under_way.popleft()
                # In threads: the loop has other pieces to take in meanwhile.
                await asyncio.to_thread(stream.write, data)
                await asyncio.to_thread(checker.update, data)
    finally:
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)


async def _in_one(store: Store, file: RemoteFile, target: Path, settings: CloudSettings) -> Checker:
    """From a server that gives no pieces: from the start again where it is cut.

    Where it doesn't say how large the file is, `Store.stream` tells where it was cut.
    """

    async def once() -> Checker:
        checker, taken = Checker(file.sums), 0
        with target.open("wb") as stream:

            def take(data: bytes) -> None:
                nonlocal taken
                taken += len(data)
                if taken > file.size and not file.exact:
                    raise UnfitError(
                        f"it has more bytes than the {file.size} that were kept free for it, as "
                        "its frames and its LossyImageCompressionRatio let expect"
                    )
                stream.write(data)
                checker.update(data)

            await store.stream(file, take)
        if taken != file.size and file.exact:
            raise ShortError(f"the connection was cut after {taken} of {file.size} bytes")
        return checker

    checker: Checker = await patiently(once, settings.unhurried, file.signed)
    return checker


def _check_same(now: RemoteFile, file: RemoteFile) -> None:
    if (now.size, now.version) != (file.size, file.version):
        raise ChangedError
