"""What a slide may take of a machine, and how much of it a process has."""

from __future__ import annotations

import os
import sys
from contextlib import suppress

from pydantic import Field

from configs import ConfigError, StrictModel

GB = 10**9

_COUNTED = (b"RssAnon:", b"RssShmem:", b"VmSwap:")
"""Of ``/proc/PID/status``: memory that the system can't take back at will. A file that is mapped
is none, nor is address space without anything in it, of which OpenVINO takes much."""


class LimitSettings(StrictModel):
    """What one slide may take; it is screened by a process of its own where there is a limit.

    Attributes:
        memory_gb: of that process with all that it starts, the network included, in 10^9 bytes;
            None for no limit. Linux alone tells how much that is.
        seconds: from when the slide is opened to its report; None for no limit.
    """

    memory_gb: float | None = Field(None, gt=0)
    seconds: float | None = Field(None, gt=0)

    @property
    def are_set(self) -> bool:
        """Whether there is one."""
        return self.memory_gb is not None or self.seconds is not None

    def check(self) -> None:
        """Makes sure that this machine can tell when a limit is reached.

        Raises:
            ConfigError: it can't.
        """
        if self.memory_gb is not None and not sys.platform.startswith("linux"):
            raise ConfigError(
                "limits.memory_gb: only Linux tells how much memory a process has; leave it, and "
                "limit the memory by what starts the batch"
            )


def memory_of(pid: int) -> int:
    """Bytes that a process and its descendants have in memory and swap; 0 where it is gone.

    Any of them may end at any moment, and what is gone has nothing.
    """
    total, left = 0, [pid]
    while left:
        folder = f"/proc/{left.pop()}"
        total += _own(folder)
        with suppress(OSError):
            for thread in os.listdir(f"{folder}/task"):
                left += map(int, _read(f"{folder}/task/{thread}/children").split())
    return total


def _own(folder: str) -> int:
    lines = (line.split() for line in _read(f"{folder}/status").splitlines())
    return 1024 * sum(int(words[1]) for words in lines if words and words[0] in _COUNTED)


def _read(path: str) -> bytes:
    """As bytes: the system cuts a process's name wherever a letter may be."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:  # it has just ended
        return b""
