"""Which processes are at work in an output folder, on whatever machine, and which are dead.

Each has a file in the hidden folder ``.claims/by`` that says who it is, and whose time it renews
every few seconds. A process is dead where that file is gone, where it was of this machine and isn't
found there any more, or where the file has not been renewed for `Pace.stale_s`.

Machines' clocks don't count: whoever looks takes the share's own time, of a file that it has just
renewed there itself, and must have watched the other's file for `Pace.watch_s`, by its own count of
seconds, without a change. Watching it for `Pace.stale_s` does without any times of the share.
"""

from __future__ import annotations

import logging
import os
import re
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pipeline.batch.lock import Holder, read_holder
from pipeline.batch.shared_files import create, make_alike
from pipeline.reports.writers import partial_name, to_json

FOLDER = ".claims"
"""Below the output folder; there only while runs go on, or after all were killed."""

_BY = "by"

_TURNS = 20
"""Tries to come while others remove what was there."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pace:
    """How often a process shows that it lives, and when it counts as dead, in seconds.

    Attributes:
        beat_s: between two renewals.
        stale_s: without a renewal until it counts as dead. More than a machine may remember a
            file's time (NFS: 60 s), so that a living process never looks dead.
        watch_s: that one must have watched it in any case.
        look_s: between two looks at what others have in work.
    """

    beat_s: float = 5.0
    stale_s: float = 120.0
    watch_s: float = 15.0
    look_s: float = 2.0


@dataclass
class _Watch:
    """A file as it was seen: its time, when that was, and for how long it has not changed."""

    mtime_ns: int
    looked: float
    unchanged: float = 0.0


class Presence:
    """This process among those that are at work in a folder.

    Args:
        out: the output folder.
        holder: who this process is.
        pace: how often it shows that it lives, and when others count as dead.
    """

    def __init__(self, out: Path, holder: Holder, pace: Pace) -> None:
        self._out, self._holder, self._pace = out, holder, pace
        self._folder = out / FOLDER / _BY
        self._token = ""
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._gone = False
        self._beaten = self._paused = 0.0
        self._seen: dict[str, _Watch] = {}
        self.accompanied = False
        """Whether anybody else was ever seen."""

    @property
    def token(self) -> str:
        """What this process is called in its claims; another one each time that it enters."""
        return self._token

    @property
    def gone(self) -> bool:
        """Whether its file was removed: somebody took it for dead."""
        return self._gone

    def enter(self) -> None:
        """Shows that this process is at work from now on.

        Raises:
            OSError: it can't be written.
        """
        begins = not self._token
        with self._lock:
            self._token = f"{os.getpid()}-{uuid.uuid4().hex[:12]}"
            for turn in range(1, _TURNS + 1):
                try:
                    self._write()
                    break
                except FileNotFoundError:  # somebody removes what a killed run has left
                    if turn == _TURNS:
                        raise
            self._gone = False
            self._beaten = self._paused = elapsed()
        if begins:
            threading.Thread(target=self._beat_on, name="presence", daemon=True).start()

    def _write(self) -> None:
        for folder in (self._folder.parent, self._folder):
            make_alike(folder, self._out)
        create(self._folder / self._token, to_json(self._holder.model_dump(mode="json")))

    def leave(self) -> None:
        """This process is at work no more."""
        self._ended.set()
        with self._lock, suppress(OSError):
            (self._folder / self._token).unlink()

    def others(self) -> list[str]:
        """What other processes are called that have been at work, dead ones among them."""
        try:
            found = [name for name in os.listdir(self._folder) if is_token(name)]
        except FileNotFoundError:
            return []
        others = sorted(set(found) - {self._token})
        self.accompanied = self.accompanied or bool(others)
        return others

    def living(self) -> list[str]:
        """Those of them that may live, at a first look."""
        found = self.others()
        return [token for token in found if self._may_live(token)] if found else []

    def holder_of(self, token: str) -> Holder | None:
        """Who a process is; None where it doesn't say."""
        return read_holder(self._folder / token)

    def is_dead(self, token: str) -> bool:
        """Whether a process is dead, so that others may take what it has. To be asked again."""
        if token == self._token:
            return False
        holder = self.holder_of(token)
        return (holder is not None and holder.is_gone) or self.is_stale(self._folder / token)

    def is_stale(self, path: Path) -> bool:
        """Whether a file was not renewed for so long that who does so is dead."""
        now = elapsed()
        try:
            mtime_ns = _time_of(path)
        except FileNotFoundError:
            return True
        except OSError:
            return False
        watch = self._seen.setdefault(str(path), _Watch(mtime_ns, now))
        # Of a pause of our own a beat counts alone: the other may have paused with us, as where
        # the share was away.
        watch.unchanged += min(now - watch.looked, self._pace.beat_s)
        watch.looked = now
        if watch.mtime_ns != mtime_ns:
            watch.mtime_ns, watch.unchanged = mtime_ns, 0.0
        if watch.unchanged < self._pace.watch_s:
            return False
        if watch.unchanged >= self._pace.stale_s:
            return True
        renewed = self.beat()
        return bool(renewed) and (renewed - mtime_ns) / 1e9 >= self._pace.stale_s

    def has_paused(self, since: float) -> bool:
        """Whether this process has failed to show that it lives, so that it may look dead.

        Args:
            since: by `elapsed`.
        """
        if elapsed() - self._beaten > self._longest_pause:
            self.beat()
        return since <= self._paused or elapsed() - self._beaten > self._longest_pause

    def beat(self) -> int:
        """Renews the time of this process's file by the share's clock; that time, ns, or 0."""
        with self._lock:
            path, before = self._folder / self._token, elapsed()
            try:
                os.utime(path)
                renewed = path.stat().st_mtime_ns
            except FileNotFoundError:
                self._gone = True
                return 0
            except OSError as error:
                _log.warning("can't show that this process lives: %s", error)
                return 0
            if elapsed() - self._beaten > self._longest_pause:
                self._paused = elapsed()
            self._beaten = before
            return renewed

    @property
    def _longest_pause(self) -> float:
        """Seconds between two renewals after which others may soon take this process for dead."""
        return self._pace.stale_s / 2

    def _beat_on(self) -> None:
        while not self._ended.wait(self._pace.beat_s):
            self.beat()
            with suppress(OSError):
                self.others()

    def _may_live(self, token: str) -> bool:
        holder = self.holder_of(token)
        if holder and holder.is_gone:
            return False
        try:
            age = (self._now() - _time_of(self._folder / token)) / 1e9
        except FileNotFoundError:
            return False
        except OSError:
            return True
        return age < self._pace.stale_s

    def _now(self) -> int:
        """The share's own time, ns, of a file that is made for that."""
        probe = self._out / partial_name()
        create(probe, "")
        try:
            return probe.stat().st_mtime_ns
        finally:
            probe.unlink(missing_ok=True)


@dataclass(frozen=True)
class Seen:
    """A process that has been at work in a folder, for who only looks.

    Attributes:
        holder: who it is.
        silent_s: seconds since it has shown that it lives: by the latest time of all files there,
            or by this machine's clock where that is later.
        stale: whether these are so many that others take it for dead.
    """

    holder: Holder
    silent_s: float
    stale: bool


def seen_at_work(out: Path, pace: Pace | None = None) -> Iterator[Seen]:
    """Who has been at work in a folder and has not left; nothing is written.

    Processes of this machine that are gone are told as stale.
    """
    found = {}
    for path in sorted((out / FOLDER / _BY).glob("*")):
        with suppress(OSError):
            if is_token(path.name) and (holder := read_holder(path)):
                found[path] = holder, _time_of(path)
    now = max([time.time_ns(), *(mtime_ns for _, mtime_ns in found.values())])
    for holder, mtime_ns in found.values():
        silent_s = (now - mtime_ns) / 1e9
        yield Seen(holder, silent_s, holder.is_gone or silent_s >= (pace or Pace()).stale_s)


def is_token(name: str) -> bool:
    """Whether a file is a process's: file systems and their clients have files of their own."""
    return re.fullmatch(r"\d+-[0-9a-f]{12}", name) is not None


def elapsed() -> float:
    """Seconds that have gone by, those in which the machine slept among them where it tells."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if clock is None else time.clock_gettime(clock)


def _time_of(path: Path) -> int:
    """When a file was renewed, ns. To open it has a client of NFS ask its server."""
    try:
        with path.open("rb") as file:
            return os.fstat(file.fileno()).st_mtime_ns
    except PermissionError:
        return path.stat().st_mtime_ns
