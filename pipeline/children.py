"""Processes that this one starts: none outlives it, and how one ended is told in plain words."""

from __future__ import annotations

import ctypes
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from functools import cache
from typing import IO

PARENT = "CYTOLIBRA_PARENT"
"""Environment variable that tells a child the number of the process that started it."""

_PR_SET_PDEATHSIG = 1
"""Linux' own number of the option, from linux/prctl.h."""

_WORDS = {
    "SIGSEGV": "segmentation fault",
    "SIGBUS": "bus error",
    "SIGABRT": "it aborted itself",
    "SIGILL": "illegal instruction",
    "SIGFPE": "arithmetic fault",
    "SIGKILL": "killed, perhaps for want of memory",
}


def start_module(module: str, errors: IO[bytes], *, leads: bool = False) -> subprocess.Popen[bytes]:
    """Starts a Python process that is asked on its standard input and answers on its output.

    Linux tells a child of the end of the thread that started it: this one lives as long as this
    process. The thread is deaf to Ctrl-C, and so is what it starts: that is for this process to
    handle.

    Args:
        module: what it runs.
        errors: where its standard error goes.
        leads: whether it leads a group of its own, so that what it starts can be ended with it.

    Raises:
        OSError: it can't be started.
    """
    made: Future[subprocess.Popen[bytes]] = Future()

    def run() -> None:
        try:
            made.set_result(_start(module, errors, leads))
        except BaseException as error:  # whoever waits hears of it
            made.set_exception(error)

    _tasks().put(run)
    return made.result()


def _start(module: str, errors: IO[bytes], leads: bool) -> subprocess.Popen[bytes]:
    """Starts a module, which is told where modules lie, and who started it."""
    paths = os.pathsep.join(os.path.abspath(path) for path in sys.path)
    return subprocess.Popen(
        [sys.executable, "-P", "-m", module],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=errors,
        env=os.environ | {"PYTHONPATH": paths, PARENT: str(os.getpid())},
        process_group=0 if leads else None,
    )


def end_with_parent() -> None:
    """Has this process killed as soon as the one that started it is gone, whatever it is at.

    Only Linux does so. Elsewhere a process ends when nobody asks it any more, unless it hangs.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = os.environ.get(PARENT)
    die_with_parent(int(parent) if parent else os.getppid())


def die_with_parent(parent: int) -> None:
    """The same for a process that hears Ctrl-C.

    Args:
        parent: the process that started it.
    """
    if not sys.platform.startswith("linux"):
        return
    with suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:  # it was gone before
        os._exit(1)


def kill_group(pid: int) -> None:
    """Kills a process that leads a group, and all of the group; it must not have been waited for.

    A process that is gone is no error.
    """
    with suppress(OSError):
        if hasattr(os, "killpg"):
            os.killpg(pid, signal.SIGKILL)
        else:
            os.kill(pid, signal.SIGTERM)  # Windows ends it at once


def tell_end(code: int) -> str:
    """How a process ended, by what waiting for it gave: a signal's name in words, or a code."""
    if code >= 0:
        return f"it ended with code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        return f"ended by signal {-code}"
    return _WORDS.get(name, f"ended by {name}")


@cache
def _tasks() -> queue.SimpleQueue[Callable[[], None]]:
    tasks: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
    threading.Thread(target=_work, args=(tasks,), name="children", daemon=True).start()
    return tasks


def _work(tasks: queue.SimpleQueue[Callable[[], None]]) -> None:
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    while True:
        tasks.get()()
