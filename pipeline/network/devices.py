"""What this machine computes with: cores, their instructions, GPUs.

Asked without torch where that can be: it takes seconds to load, and a screen on a CPU does without.
"""

from __future__ import annotations

import functools
import os
import sys
from contextlib import suppress
from pathlib import Path

from configs import ConfigError

_GPU_NODES = ("nvidiactl", "kfd", "dxg")
"""Of ``/dev`` on Linux, where torch's devices "cuda" are: NVIDIA's, AMD's, and those of WSL."""


def find_device(name: str) -> str:
    """The device of a name such as "auto", "cpu", "cuda", "cuda:1".

    Raises:
        ConfigError: there is no such device here; the message names those that there are.
    """
    if name == "cpu":
        return name
    gpus = count_gpus()
    if name == "auto":
        return "cuda" if gpus else "cpu"
    available = ["cpu", *(f"cuda:{i}" for i in range(gpus))]
    if name not in available and not (name == "cuda" and gpus):
        raise ConfigError(f"device {name}: not on this machine, which has {', '.join(available)}")
    return name


def count_gpus() -> int:
    """GPUs that torch can use."""
    if sys.platform == "linux" and not any(Path("/dev", node).exists() for node in _GPU_NODES):
        return 0
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def count_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@functools.cache
def cpu_instructions() -> frozenset[str]:
    """Instruction sets of the CPU, by the names that Linux and torch give them."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            key, _, names = line.partition(":")
            if key.strip() == "flags":
                return frozenset(names.split())
    import torch

    return frozenset(name for name, there in torch.cpu.get_capabilities().items() if there)


def leave_cores_to_network() -> None:
    """Gives torch, if it is loaded, one thread a reader.

    Beside OpenVINO's network it only resamples and decodes: threads of its own in each of the
    readers' would be in the way.
    """
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)
