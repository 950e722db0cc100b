"""One run at a time in a folder, or one of each shard: who comes second is told who is at work.

A run holds a lock of the operating system, which lets go of it when the process ends, however it
ends. Beside the lock lies a word about who holds it, for people only: one that a killed run left
behind stands for nothing. Both are hidden, and gone when a run has ended by itself.
"""

from __future__ import annotations

import errno
import os
import platform
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout
from pydantic import ValidationError

from configs import ConfigError, Doubt, StrictModel
from configs.doubts import with_code
from pipeline.batch.run_record import Shard, record_name
from pipeline.reports.report import encodable
from pipeline.reports.writers import to_json, write_whole
from pipeline.slides.readers.base import show

_SUFFIX = ".lock"
_GATE = ".gate.lock"
_HOLDER = ".holder.json"

_UNSUPPORTED = {
    getattr(errno, name)
    for name in ("ENOSYS", "ENOLCK", "EOPNOTSUPP", "ENOTSUP", "EINVAL")
    if hasattr(errno, name)
}
"""What a file system answers that has no locks, such as NFS without its lock daemon."""

_GATE_S = 30.0
"""Seconds to wait for the gate, through which runs pass one by one, each in milliseconds."""

_MOST_SHOWN = 200
"""Characters of another run's command that are shown."""


BY_SHARDS = (
    "wait until it has ended, name another --out, or give each run its part by --shard i/n, all "
    "with the same n"
)
"""What to do where a screen meets another."""


class InUseError(ConfigError):
    """Another run is at work in the folder."""


class Holder(StrictModel):
    """Who is at work in a folder.

    Attributes:
        host: the machine.
        pid: the process.
        since: when it began, in UTC.
        command: what was called.
    """

    host: str
    pid: int
    since: str
    command: tuple[str, ...]

    def __str__(self) -> str:
        command = " ".join(self.command)
        if len(command) > _MOST_SHOWN:
            command = f"{command[:_MOST_SHOWN]}…"
        text = f"process {self.pid} on {self.host}, since {self.since}: {command}"
        return "".join(c if c.isprintable() else "?" for c in text)  # it comes from a file


@contextmanager
def hold(
    folder: Path,
    shard: Shard | None = None,
    command: Sequence[str] = (),
    todo: str = BY_SHARDS,
) -> Iterator[tuple[Doubt, ...]]:
    """Keeps other runs out of a folder; shards of one count may be in it together, each once.

    Args:
        folder: exists, and can be written.
        shard: the part that is worked on; None for all.
        command: the command line, for who comes second.
        todo: what that one is told to do.

    Yields:
        What a person should know: that the file system has no locks, where it has none.

    Raises:
        InUseError: another run is at work there.
        ConfigError: the lock can't be made.
    """
    doubts: tuple[Doubt, ...] = ()
    with ExitStack() as held:
        try:
            _take(folder, shard, command, held)
        except Timeout as busy:
            raise InUseError(_in_use(folder, Path(busy.lock_file), todo)) from None
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
                problem = f"--out {show(folder)}: can't be locked: {error.strerror}"
                raise ConfigError(problem) from error
            doubts = (_no_lock(folder),)
        yield doubts


def _take(folder: Path, shard: Shard | None, command: Sequence[str], held: ExitStack) -> None:
    """Takes the lock and says who holds it; through the gate, so that of two runs one gets it."""
    with _locked(folder / _GATE, _GATE_S):
        for rival in _rivals(folder, shard):
            with _locked(rival):  # left behind
                rival.with_suffix(_HOLDER).unlink(missing_ok=True)
        own = folder / f".{record_name(shard, _SUFFIX)}"
        held.enter_context(_locked(own))
        held.enter_context(_word(own.with_suffix(_HOLDER), command))


def _rivals(folder: Path, shard: Shard | None) -> list[Path]:
    """The locks, held or left behind, of runs that would work on the same slides."""
    beside = f".run.shard-*-of-{shard.count}{_SUFFIX}" if shard else None
    found = sorted(folder.glob(f".run*{_SUFFIX}"))
    return [path for path in found if not (beside and path.match(beside))]


@contextmanager
def _locked(path: Path, seconds: float = 0) -> Iterator[None]:
    """Holds the lock of one file, which is gone afterwards.

    Raises:
        Timeout: somebody else holds it.
        OSError: it can't be made.
    """
    # Whoever may write in the folder may lock: who made the file may be another person.
    lock = FileLock(path, mode=0o666, fallback_to_soft=False)
    while True:
        try:
            lock.acquire(timeout=seconds)
            break
        except Timeout:
            if path.exists():  # else its holder has ended just now
                raise
        except OSError as error:
            if error.errno in _UNSUPPORTED:
                path.unlink(missing_ok=True)
            raise
    try:
        yield
    finally:
        # While it is held: who waits for this file sees that it is gone, and makes another. An
        # open file can't be removed on Windows, where the lock's release does it.
        with suppress(OSError):
            path.unlink()
        lock.release()


@contextmanager
def _word(path: Path, command: Sequence[str]) -> Iterator[None]:
    """Says who is at work for as long as it lasts; a full disk doesn't matter."""
    holder = Holder(
        host=platform.node(),
        pid=os.getpid(),
        since=datetime.now(UTC).isoformat(timespec="seconds"),
        command=tuple(encodable(word) for word in command),
    )
    with suppress(OSError):
        write_whole(path, to_json(holder.model_dump(mode="json")))
    try:
        yield
    finally:
        with suppress(OSError):
            path.unlink()


def read_holder(folder: Path, shard: Shard | None) -> Holder | None:
    """Who says to be at work in a folder; a killed run's word stays, and stands for nothing."""
    return _read_word(folder / f".{record_name(shard, _HOLDER)}")


def _read_word(path: Path) -> Holder | None:
    try:
        return Holder.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None


def _in_use(folder: Path, lock: Path, todo: str) -> str:
    holder = _read_word(lock.with_suffix(_HOLDER)) or "it does not say who"
    return with_code(
        f"--out {show(folder)}: another run is at work there ({holder}); {todo}", "out-in-use"
    )


def _no_lock(folder: Path) -> Doubt:
    return Doubt(
        code="no-lock",
        text=f"{show(folder)}: this file system has no locks: another run that starts there now "
        "would not be noticed",
    )
