"""What a slide may take of a machine, and how much of it a process has."""

from __future__ import annotations

import sys
from pathlib import Path

from pydantic import Field

from configs import ConfigError, StrictModel

GB = 10**9

_COUNTED = ("RssAnon:", "RssShmem:", "VmSwap:")
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
    """Bytes that a process and its descendants have in memory and swap; 0 where it is gone."""
    total, left = 0, [pid]
    while left:
        folder = Path("/proc", str(left.pop()))
        total += _own(folder)
        for children in folder.glob("task/*/children"):
            left += map(int, _read(children).split())
    return total


def _own(folder: Path) -> int:
    lines = (line.split() for line in _read(folder / "status").splitlines())
    return 1024 * sum(int(words[1]) for words in lines if words and words[0] in _COUNTED)


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:  # it has just ended
        return ""
