"""What lets a run that was killed end as one that ran through: its whole state, often kept."""

from __future__ import annotations

import os
import random
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint, EarlyStopping, ModelCheckpoint
from lightning.pytorch.callbacks.early_stopping import EarlyStoppingReason
from torch import distributed

from configs import ConfigError
from losses.ranks import of_all_ranks

Tell = Callable[[str], None]
"""Says a line to people."""


class StoppedError(BaseException):
    """A run was asked to stop, and has; as Ctrl-C's own, not for ``except Exception``."""


class BestCheckpoint(ModelCheckpoint):
    """Keeps the checkpoint of the best epoch, in a run's folder that may have been moved.

    Args:
        path: the file.
        monitor: the figure; the higher the better.
    """

    def __init__(self, path: Path, monitor: str) -> None:
        super().__init__(
            path.parent,
            filename=path.stem,
            monitor=monitor,
            mode="max",
            enable_version_counter=False,
        )

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes up the figure of the best epoch so far."""
        if state_dict["best_model_path"]:
            path = str(Path(str(self.dirpath), f"{self.filename}.ckpt"))
            state_dict = state_dict | {
                "dirpath": self.dirpath,
                "best_model_path": path,
                "kth_best_model_path": path,
                "best_k_models": {path: state_dict["best_model_score"]},
            }
        super().load_state_dict(state_dict)


class Patience(EarlyStopping):
    """Ends a run whose best epoch lies too far back; gone on with, it has ended.

    Args:
        monitor: the figure; the higher the better.
        epochs: how many may pass without a better one.
    """

    def __init__(self, monitor: str, epochs: int) -> None:
        # A figure is NaN where the fields have no such cell, which is no reason to end.
        super().__init__(monitor, patience=epochs, mode="max", check_finite=False)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Ends where the run had ended."""
        if self.stopping_reason is EarlyStoppingReason.PATIENCE_EXHAUSTED:
            trainer.should_stop = True


class LastCheckpoint(Checkpoint):
    """Keeps ``last.ckpt``: after every so many steps, after each validation, and at the end.

    The file is there whole or not at all, whenever the process is killed. Beside what Lightning
    keeps it holds the states of all random generators, of every process, and what the run is made
    of: ``content``, digests by setting.

    Ctrl-C and SIGTERM end the run once the step is done, for half a step can't be gone on with; the
    last step of an epoch waits for its validation. A second Ctrl-C ends it at once.

    Args:
        path: the file.
        every: steps of the optimiser between two checkpoints.
        tell: says a line to people.
    """

    def __init__(self, path: Path, every: int, tell: Tell) -> None:
        self.path, self.every, self.tell = path, every, tell
        self.content: dict[str, str] = {}
        self._asked = False
        self._speaks = True
        self._handlers: dict[int, Any] = {}
        self._random: dict[str, Any] | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Listens for signals; goes on with the random states of a checkpoint."""
        self._speaks = trainer.is_global_zero
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._handlers[number] = signal.signal(number, self._hear)
        if self._random is not None:
            set_random_states(self._random)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, *_: Any, **__: Any
    ) -> None:
        """Saves, where it is time; the last step of an epoch waits for the validation."""
        done = trainer.fit_loop.epoch_loop.batch_progress.current.ready
        batches_a_step = trainer.accumulate_grad_batches
        if done % batches_a_step or done >= trainer.num_training_batches:
            return  # gradients that wait for more are in no checkpoint
        if self._is_to_stop(trainer):
            self._stop(trainer)
        if done % (self.every * batches_a_step) == 0:
            self._save(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Saves what the validation left."""
        if self._is_to_stop(trainer):
            self._stop(trainer)
        self._save(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Gives the signals back."""
        self._give_back_signals()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Gives the signals back."""
        self._give_back_signals()

    def state_dict(self) -> dict[str, Any]:
        """The random states of all processes, by rank, and what the run is made of."""
        return {"random": of_all_ranks(random_states()), "content": self.content}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes this process's random states; none where another number of processes goes on."""
        states = state_dict["random"]
        rank = distributed.get_rank() if distributed.is_initialized() else 0
        self._random = states[rank] if len(states) == len(of_all_ranks(None)) else None

    def _is_to_stop(self, trainer: Trainer) -> bool:
        """Whether any process was asked to: all stop after the same step."""
        return bool(trainer.strategy.reduce_boolean_decision(self._asked, all=False))

    def _stop(self, trainer: Trainer) -> None:
        self._save(trainer)
        if self._speaks:
            self.tell(f"stopped after step {trainer.global_step}; --resume goes on from there")
        raise StoppedError

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if self._asked:
            raise StoppedError
        self._asked = True
        if self._speaks:
            self.tell("stopping after this step, or its validation; Ctrl-C again stops at once")

    def _give_back_signals(self) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}

    def _save(self, trainer: Trainer) -> None:
        unfinished = self.path.with_suffix(".part")
        trainer.save_checkpoint(unfinished)
        if trainer.is_global_zero:
            os.replace(unfinished, self.path)


def check_checkpoint(path: Path) -> dict[str, str]:
    """Makes sure that a run can be gone on with, before it is: nothing is unpickled but tensors.

    Returns:
        What the run is made of, as `LastCheckpoint` kept it; empty where its version kept nothing.

    Raises:
        ConfigError: the file can't be read, is damaged, or holds something else.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except OSError as error:
        raise ConfigError(f"--resume {path}: can't be read: {error.strerror}") from error
    except Exception as error:  # torch promises no type for what a broken file causes
        raise _no_checkpoint(path) from error
    parts = ("state_dict", "optimizer_states", "loops", "callbacks")
    if not isinstance(content, dict) or any(part not in content for part in parts):
        raise _no_checkpoint(path)
    callbacks = content["callbacks"]
    last = callbacks.get(LastCheckpoint.__name__) if isinstance(callbacks, dict) else None
    kept = last.get("content") if isinstance(last, dict) else None
    return kept if isinstance(kept, dict) else {}


def _no_checkpoint(path: Path) -> ConfigError:
    return ConfigError(
        f"--resume {path}: is damaged, or no checkpoint of cytolibra train; start another run, or "
        "copy the checkpoint again"
    )


def random_states() -> dict[str, Any]:
    """Those of this process's generators, of types that load without unpickling objects."""
    state: Any = np.random.get_state()  # noqa: NPY002  # libraries draw from it
    name, numbers, *rest = state
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "numpy": (name, torch.from_numpy(numbers.astype(np.int64)), *rest),
        "python": random.getstate(),
    }


def set_random_states(states: dict[str, Any]) -> None:
    """Sets what `random_states` gave; those of GPUs where there are as many."""
    torch.set_rng_state(states["torch"])
    if len(states["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(states["cuda"])
    name, numbers, *rest = states["numpy"]
    np.random.set_state((name, numbers.numpy(), *rest))  # noqa: NPY002
    random.setstate(states["python"])
