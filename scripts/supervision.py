"""The process that is called watches the one that works, and has another go on where that one dies.

A decoder that crashes ends its whole process: where slides are read by threads of the batch's own,
the batch. So what is called forks before anything is loaded, which takes some milliseconds, and
waits. Where the other process dies of a fault (a segmentation fault, an abort, a kill for want of
memory), one more takes up the same batch: slides that were in work have processes of their own
there, and what is done stays done. From the third on every slide has one.

The two are one job of the shell, in one group: a terminal's Ctrl-C and Ctrl-Z reach both. Signals
that somebody sends to the process that was called are passed on. If that is killed, so is the
other.

Linux only: elsewhere a crash ends the batch, and the same command goes on from there.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from configs import Doubt

MOST_LIVES = 4
"""Processes that follow each other, the first among them."""

_FAULTS = {
    getattr(signal, name)
    for name in ("SIGSEGV", "SIGBUS", "SIGABRT", "SIGILL", "SIGFPE")
    if hasattr(signal, name)
}
"""What a process dies of by itself."""

_PASSED_ON = tuple(
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2")
    if hasattr(signal, name)
)

_LOOK_S = 5.0
"""How often it is looked how many processes the system has killed for want of memory."""

_SHOW_CURSOR = "\x1b[?25h"
"""Of a terminal, where who draws bars has hidden it, and died."""


@dataclass(frozen=True)
class Resumption:
    """What this process goes on from, where others of the very same call have died.

    Attributes:
        since: when the first of them began, in UTC, as records have it; None where this is it.
        deaths: how each ended, in words.
        noted: what they have noted for those that follow.
    """

    since: str | None = None
    deaths: tuple[str, ...] = ()
    noted: dict[str, Any] = field(default_factory=dict)

    @property
    def isolates(self) -> bool:
        """Whether every slide is to have a process of its own from now on."""
        return len(self.deaths) >= MOST_LIVES - 1

    @property
    def doubts(self) -> list[Doubt]:
        """What is to be told of it."""
        from configs import Doubt

        if not self.deaths:
            return []
        died = ", then ".join(self.deaths)
        text = f"a process of this run died ({died}), and another one went on: see run.log"
        return [Doubt(code="resumed", text=text)]

    def allow(self) -> None:
        """Says that a batch begins: if this process dies from now on, another one goes on."""
        self.note(begun=True)

    def note(self, **notes: Any) -> None:
        """Leaves word for those that follow.

        Args:
            notes: what they are to know, as JSON has it; kept with what was noted before.
        """
        if _notes:
            _notes.write(_notes.read() | notes)


class _Notes:
    """What a process tells the ones after it: a file without a name, which forks share."""

    def __init__(self) -> None:
        self._file = os.memfd_create("cytolibra")

    def write(self, notes: dict[str, Any]) -> None:
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, json.dumps(notes).encode(), 0)

    def read(self) -> dict[str, Any]:
        """What was written; nothing where a process died while it wrote."""
        with suppress(ValueError):
            content: dict[str, Any] = json.loads(os.pread(self._file, 1 << 30, 0))
            return content
        return {}


_resumption = Resumption()
_notes: _Notes | None = None


def resumption() -> Resumption:
    """What this process goes on from."""
    return _resumption


def supervise() -> None:
    """Forks: returns in the process that is to work, and ends the other one as that has ended."""
    if not _is_possible():
        return
    global _resumption, _notes
    notes, since, deaths = _Notes(), _now(), list[str]()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {*_PASSED_ON, signal.SIGCHLD})
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # else nobody could wait
    while True:
        _end_if_asked()
        own = os.getpid()
        pid = os.fork()
        if pid == 0:
            _notes = notes
            if deaths:
                _resumption = Resumption(since, tuple(deaths), notes.read())
            _die_with(own)
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            return
        code, is_fault = _watch(pid)
        if not is_fault:
            _end_alike(code)
        if sys.stdout.isatty():
            print(_SHOW_CURSOR)
        if not notes.read().get("begun") or len(deaths) + 1 >= MOST_LIVES:
            _tell(f"error: the process died: {_in_words(code)}")
            _end_alike(code)
        deaths.append(_in_words(code))
        _tell(
            f"warning: the process that screens died: {deaths[-1]}; another one goes on, and "
            + ("every slide" if len(deaths) >= MOST_LIVES - 1 else "each slide that was in work")
            + " has a process of its own"
        )


def _is_possible() -> bool:
    """Whether this system can; a process of several threads must not be forked."""
    return sys.platform.startswith("linux") and threading.active_count() == 1


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _end_if_asked() -> None:
    """Heeds what was sent while there was no other process."""
    while info := signal.sigtimedwait(_PASSED_ON, 0):
        _end_alike(-info.si_signo)


def _die_with(parent: int) -> None:
    from pipeline.children import die_with_parent

    die_with_parent(parent)


def _watch(pid: int) -> tuple[int, bool]:
    """Waits for a process, and passes on what is sent to this one.

    A terminal sends to both; what a person or a program sends, to this one alone.

    Returns:
        How it ended, as `subprocess.Popen.returncode`, and whether of a fault.
    """
    kills = deque([_kills_of_system()], maxlen=2)
    looked = time.monotonic()
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            code = os.waitstatus_to_exitcode(status)
            starved = -code == signal.SIGKILL and _kills_of_system() > kills[0]
            return code, -code in _FAULTS or starved
        info = signal.sigtimedwait((*_PASSED_ON, signal.SIGCHLD), _LOOK_S)
        if info and info.si_signo != signal.SIGCHLD and info.si_code <= 0:
            os.kill(pid, info.si_signo)
        if time.monotonic() - looked >= _LOOK_S:
            looked = time.monotonic()
            kills.append(_kills_of_system())


def _kills_of_system() -> int:
    """How many processes the system has killed for want of memory, since it started.

    Somebody's kill looks alike else: that one is to end the batch.
    """
    with suppress(OSError, ValueError):
        for line in Path("/proc/vmstat").read_text().splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return 0


def _in_words(code: int) -> str:
    from pipeline.children import tell_end

    return tell_end(code)


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _end_alike(code: int) -> None:
    """Ends this process as the other one has ended, so that who called it sees that."""
    if code < 0:
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # the other one has left its own
        with suppress(OSError, ValueError):  # SIGKILL has no other way
            signal.signal(-code, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {-code})
        os.kill(os.getpid(), -code)
        code = 128 - code  # a signal that is no end by default
    os._exit(code)
