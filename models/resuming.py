"""What lets a run that was killed end as one that ran through: its whole state, often kept."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint


class LastCheckpoint(Checkpoint):
    """Keeps ``last.ckpt``: after every so many steps, and after each validation.

    The file is there whole or not at all, whenever the process is killed. Beside what Lightning
    keeps it holds the states of all random generators.

    Args:
        path: the file.
        every: steps between two checkpoints.
    """

    def __init__(self, path: Path, every: int) -> None:
        self.path = path
        self.every = every

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, *_: Any, **__: Any
    ) -> None:
        """Saves, where it is time; the last step of an epoch waits for the validation."""
        done = trainer.fit_loop.epoch_loop.batch_progress.current.ready
        if done % self.every == 0 and done < trainer.num_training_batches:
            self._save(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Saves what the validation left."""
        self._save(trainer)

    def state_dict(self) -> dict[str, Any]:
        """The random states, for the checkpoint; of types that load without unpickling objects."""
        state: Any = np.random.get_state()  # noqa: NPY002  # libraries draw from it
        name, numbers, *rest = state
        return {
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
            "numpy": (name, torch.from_numpy(numbers.astype(np.int64)), *rest),
            "python": random.getstate(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on with the random states of a checkpoint."""
        torch.set_rng_state(state_dict["torch"])
        if len(state_dict["cuda"]) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all(state_dict["cuda"])
        name, numbers, *rest = state_dict["numpy"]
        np.random.set_state((name, numbers.numpy(), *rest))  # noqa: NPY002
        random.setstate(state_dict["python"])

    def _save(self, trainer: Trainer) -> None:
        unfinished = self.path.with_suffix(".part")
        trainer.save_checkpoint(unfinished)
        if trainer.is_global_zero:
            os.replace(unfinished, self.path)
