"""What ends a run, in words that say what to do."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Trainer

from configs import ConfigError, CytoLibraError
from models.learning.resuming import StoppedError
from scripts.training.loop import LoopSettings

OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "cannot allocate", "not enough memory")
"""How PyTorch's allocators and the system say it; on a CPU it is a plain `RuntimeError`."""

WORKER_GONE = ("dataloader worker", "bus error", "unable to open shared memory")

PEER_GONE = ("connection closed by peer", "connection reset by peer", "broken pipe", "nccl error")

GRACE = 5
"""Seconds that the other processes of a run have to end by themselves."""


class OutOfMemoryError(CytoLibraError):
    """There is too little memory for the settings."""


class ProcessGoneError(CytoLibraError):
    """Another process of the run, or one that prepares its crops, has ended."""


@dataclass
class Running:
    """What runs; the trainer is known once it is made."""

    trainer: Trainer | None = None


@contextmanager
def explained(loop: LoopSettings, crop: int, key: str = "data.crops.size") -> Iterator[Running]:
    """Makes errors for people of what a run raises, and ends its other processes.

    Args:
        loop: its settings.
        crop: side of its crops in px.
        key: the setting that says so.

    Yields:
        Where the trainer goes, once there is one.

    Raises:
        CytoLibraError: it failed, for a reason with a remedy.
        KeyboardInterrupt: it was stopped.
    """
    running = Running()
    try:
        yield running
    except (StoppedError, SystemExit):  # Lightning makes an exit of Ctrl-C before the first step
        raise KeyboardInterrupt from None
    except Exception as error:
        if running.trainer is not None:
            _end_others(running.trainer)
        known = _explain(error, loop, f"{key} ({crop})")
        if known is None:
            raise
        raise known from error


def _explain(error: Exception, loop: LoopSettings, crop: str) -> CytoLibraError | None:
    if _is_out_of_memory(error):
        return OutOfMemoryError(
            f"out of memory: turn down loop.batch_size ({loop.batch_size}; loop.accumulate keeps "
            f"what a step learns from) or {crop}, or take a reduced "
            f"loop.precision ({loop.precision})"
        )
    if isinstance(error, MisconfigurationException):
        return ConfigError(f"loop: {_first_line(error)}")
    if str(error).startswith("Caught ") and (told := _of_worker(error)):
        return ConfigError(told)
    if isinstance(error, RuntimeError) and _says(error, WORKER_GONE):
        return ProcessGoneError(
            "a process that prepares crops has ended, mostly for want of memory: turn down "
            f"loop.workers ({loop.workers}; 0 uses none), or give /dev/shm more: "
            f"{_first_line(error)}"
        )
    if isinstance(error, RuntimeError) and _says(error, PEER_GONE):
        return ProcessGoneError(
            f"another process of this run has ended, and says why: {_first_line(error)}"
        )
    return None


def _is_out_of_memory(error: Exception) -> bool:
    kinds = (MemoryError, torch.OutOfMemoryError)
    return isinstance(error, kinds) or (
        isinstance(error, RuntimeError) and _says(error, OUT_OF_MEMORY)
    )


def _of_worker(error: Exception) -> str | None:
    """What an error for people said in a process that prepares crops, without its traceback."""
    found = re.search(r"^[\w.]*\.(?:ImageError|ConfigError): (.*)", str(error), re.MULTILINE)
    return found[1] if found else None


def _end_others(trainer: Trainer) -> None:
    """Ends the processes that this one started; they would wait for it for ever."""
    for process in getattr(trainer.strategy.launcher, "procs", []):
        with suppress(subprocess.TimeoutExpired):
            process.wait(GRACE)
        process.kill()


def _says(error: Exception, signs: tuple[str, ...]) -> bool:
    text = str(error).lower()
    return any(sign in text for sign in signs)


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
