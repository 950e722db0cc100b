"""The scratch folder: slides lie there while they are screened, and not longer.

Each run has a folder of its own in it, named by a lock that the operating system lets go of when
the process ends, however it ends. What lies there without its lock held is of a run that was
killed, and is swept away by the next run; what a live one uses is never touched. Who makes or
sweeps passes through a gate, so that nobody sweeps what is just being made.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import shutil
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import Timeout

from configs import ConfigError
from pipeline.cloud.settings import CloudSettings
from pipeline.locks import file_lock
from pipeline.slides.readers.base import show

DEFAULT = ".fetched"
"""Name of the scratch folder in ``--out``."""

GB = 10**9

_GATE = ".gate.lock"
_LOCK = ".lock"
_OWN = re.compile(r"cytolibra-[0-9a-f]{12}\.lock")
"""Locks of runs: of nothing else in a folder of the user's own is anything thought or removed."""

_POLL_S = 0.2
_TURNS = 5
_MOST_GB = 200.0
_SHARE = 0.5
"""Of the disk's free space that a run takes at most where nothing else is said."""

_NO_LOCKS = {
    getattr(errno, name)
    for name in ("ENOSYS", "ENOLCK", "EOPNOTSUPP", "ENOTSUP", "EINVAL")
    if hasattr(errno, name)
}

_log = logging.getLogger(__name__)


class Scratch:
    """A run's own part of the scratch folder, bounded; made when it is entered.

    Attributes:
        folder: of this run.
        bound: bytes that may be there at once; known once it is entered.
        returned: how often room was given back.

    Args:
        settings: where, and how large.
        out: the output folder.
    """

    def __init__(self, settings: CloudSettings, out: Path) -> None:
        self._settings = settings
        self._root = (settings.scratch or out / DEFAULT).absolute()
        self._own_root = settings.scratch is None
        self.folder = self._root / f"cytolibra-{uuid.uuid4().hex[:12]}"
        self.bound = 0
        self.returned = 0
        self._held = 0
        self._changed = threading.Condition()

    def __enter__(self) -> Scratch:
        """Makes the folder.

        Raises:
            ConfigError: it can't be made.
        """
        try:
            self._make()
            self.bound = self._find_bound()
        except OSError as error:
            place = "--out" if self._own_root else "cloud.scratch"
            raise ConfigError(
                f"{place} {show(self._root)}: can't be written: {error.strerror or error}"
            ) from error
        _log.info("slides are fetched to %s, at most %.1f GB", show(self.folder), self.bound / GB)
        return self

    def __exit__(self, *_: object) -> None:
        remove(self.folder)
        # While it is held: who comes next sees no lock without a holder.
        with suppress(OSError):
            _lock_of(self.folder).unlink(missing_ok=True)
        self._lock.release()
        if self._own_root:
            with suppress(OSError), _gate(self._root):  # others may be at work in it
                if set(os.listdir(self._root)) <= {_GATE}:
                    shutil.rmtree(self._root, ignore_errors=True)

    def take(self, size: int, stopped: Callable[[], bool]) -> bool:
        """Waits until there is room for so many bytes, and takes it; False where it was stopped."""
        assert size <= self.bound, (size, self.bound)
        with self._changed:
            while self._held + size > self.bound:
                if stopped():
                    return False
                self._changed.wait(_POLL_S)
            self._held += size
            return True

    def give_back(self, size: int) -> None:
        """Gives room back."""
        with self._changed:
            self._held -= size
            self.returned += 1
            self._changed.notify_all()

    def wait_for_less(self, returned: int, stopped: Callable[[], bool]) -> bool:
        """Waits until room is given back once more; False where nobody is to, or it was stopped.

        For who finds the disk full though the bound allows for more.

        Args:
            returned: how often room had been given back when it was still full.
            stopped: whether to wait no longer.
        """
        with self._changed:
            while self.returned <= returned and self._held > 0 and not stopped():
                self._changed.wait(_POLL_S)
            return self.returned > returned and not stopped()

    def _make(self) -> None:
        for left in reversed(range(_TURNS)):
            try:
                self._root.mkdir(parents=True, exist_ok=True)
                with _gate(self._root):
                    _sweep(self._root)
                    self._lock = file_lock(_lock_of(self.folder))
                    with _without_locks():
                        self._lock.acquire(timeout=0)
                    self.folder.mkdir()
                return
            except FileNotFoundError:  # who ended just now has removed an empty scratch folder
                if not left:
                    raise

    def _find_bound(self) -> int:
        given = self._settings.scratch_gb
        if given is not None:
            return int(given * GB)
        free = shutil.disk_usage(self.folder).free
        return int(min(_MOST_GB * GB, _SHARE * free))


def show_size(size: int) -> str:
    """Bytes for people."""
    return f"{size / GB:.2f} GB" if size >= GB / 10 else f"{size / 10**6:.2f} MB"


def remove(folder: Path) -> None:
    """Removes a folder, whatever is in it; what can't be removed is told in the log."""

    def tell(_: object, path: str, error: tuple[type, BaseException, object]) -> None:
        if not isinstance(error[1], FileNotFoundError):
            _log.warning("%s: can't be removed: %s", show(Path(path)), error[1])

    shutil.rmtree(folder, onerror=tell)


def _lock_of(folder: Path) -> Path:
    return folder.with_name(folder.name + _LOCK)


@contextmanager
def _without_locks() -> Iterator[None]:
    """Does without locks where the file system has none; then nothing is swept."""
    try:
        yield
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
    except NotImplementedError:
        pass


@contextmanager
def _gate(root: Path) -> Iterator[None]:
    """Lets one run at a time make its folder, or sweep."""
    lock = file_lock(root / _GATE)
    with _without_locks():
        lock.acquire(timeout=60)
    try:
        yield
    finally:
        lock.release()


def _sweep(root: Path) -> None:
    """Removes the folders of runs that were killed."""
    for path in sorted(root.iterdir()):
        if not _OWN.fullmatch(path.name):
            continue
        folder = path.with_suffix("")
        lock = file_lock(_lock_of(folder))
        try:
            lock.acquire(timeout=0)
        except (Timeout, OSError, NotImplementedError):
            continue  # somebody is at work there, or it can't be known
        try:
            if folder.is_dir() and not folder.is_symlink():
                _log.info("%s: left behind by a run that was killed; removed", show(folder))
                remove(folder)
            _lock_of(folder).unlink(missing_ok=True)
        finally:
            lock.release()
