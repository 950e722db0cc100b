"""Hooks of the training loop."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import WeightAveraging
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from configs import ConfigError
from losses.gradient_ratio import gradient_sums
from losses.ranks import sum_over_ranks
from models.slot import LossSlot


class WarmedUpEMA(WeightAveraging):
    """Exponential moving average of the weights, which is what is judged and kept.

    The decay rises to its value as (1 + n) / (10 + n) over updates n: with a constant one, random
    starting weights would still weigh in after hundreds of steps.

    Args:
        decay: of the average, once warmed up.
    """

    def __init__(self, decay: float) -> None:
        def average(averaged: Tensor, current: Tensor, updates: Tensor | int) -> Tensor:
            share = 1 - min(decay, float((1 + updates) / (10 + updates)))
            return averaged + share * (current - averaged)  # lerp would refuse step counts

        super().__init__(use_buffers=True, avg_fn=average)


class MetricsFile(Callback):
    """Writes ``metrics.csv``: a row a validation; a resumed run goes on where it was.

    Lightning's own CSV logger starts the file anew on every resume.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._rows: list[dict[str, float]] = []

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Adds the row of this validation and writes the file whole."""
        if trainer.sanity_checking or not trainer.is_global_zero:
            return
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        self._rows.append({"epoch": trainer.current_epoch, "step": trainer.global_step, **metrics})
        _write_rows(self.path, self._rows)

    def state_dict(self) -> dict[str, Any]:
        """The rows so far, for the checkpoint."""
        return {"rows": self._rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes up the rows of a checkpoint."""
        self._rows = state_dict["rows"]


class GradientBalance(Callback):
    """Writes ``gradients.csv``: how the classification loss pulls each class up and down.

    The ratio r of positive to negative gradient is what the Grad-Libra paper plots in its figure
    3, after EQL v2; the share is a class's part of the whole gradient. Both are of the true
    gradient in the class logits, summed over the steps since the row before.

    Args:
        path: the file.
        slot: of the detector in training.
        classes: their names.
        every: steps from row to row.
    """

    def __init__(self, path: Path, slot: LossSlot, classes: Sequence[str], every: int = 10) -> None:
        self.path, self.slot, self.classes, self.every = path, slot, classes, every
        self._rows: list[dict[str, float | str]] = []
        self._sums = torch.zeros(2, len(classes))

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begins to watch the slot."""
        self.slot.watcher = self._add

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Watches no longer."""
        self.slot.watcher = None

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, *_: Any, **__: Any
    ) -> None:
        """Adds rows, one a class, when it is time."""
        if trainer.global_step % self.every == 0 and trainer.global_step:
            sums = sum_over_ranks(self._sums.to(pl_module.device)).cpu()
            self._sums = torch.zeros_like(self._sums)
            self._rows += balance_rows(sums, self.classes, trainer.global_step)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes the file whole."""
        if trainer.is_global_zero:
            _write_rows(self.path, self._rows)

    def state_dict(self) -> dict[str, Any]:
        """The rows so far, for the checkpoint."""
        return {"rows": self._rows, "sums": self._sums}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes up the rows of a checkpoint."""
        self._rows, self._sums = state_dict["rows"], state_dict["sums"]

    def _add(self, gradient: Tensor, targets: Tensor) -> None:
        sums = gradient_sums(gradient.abs(), targets).float()
        # A step that overflowed half precision adds nothing, as to the weights.
        self._sums = self._sums.to(sums.device) + sums.nan_to_num(nan=0.0, posinf=0.0)


class UnreadableImages(Callback):
    """Counts images that could not be read and were passed over, and ends the run at too many.

    Args:
        names: of the images, by the index that samples tell.
        limit: so many may be unreadable.

    Attributes:
        found: the names of those that were.
    """

    def __init__(self, names: Sequence[str], limit: int) -> None:
        self.names, self.limit = names, limit
        self.found: dict[str, None] = {}

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Looks through a batch's targets.

        Raises:
            ConfigError: more images than the limit can't be read; names them.
        """
        for target in batch[1]:
            for index in target.get("unreadable", []):
                self._add(self.names[int(index)])

    def _add(self, name: str) -> None:
        if name in self.found:
            return
        self.found[name] = None
        rank_zero_warn(f"{name}: cannot be read; other crops are drawn instead")
        if len(self.found) > self.limit:
            raise ConfigError(
                f"{len(self.found)} images can't be read, more than loop.max_unreadable = "
                f"{self.limit}: {', '.join(self.found)}"
            )

    def state_dict(self) -> dict[str, Any]:
        """What was found so far, for the checkpoint."""
        return {"found": list(self.found)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes up what a checkpoint knows."""
        self.found = dict.fromkeys(state_dict["found"])


def balance_rows(sums: Tensor, classes: Sequence[str], step: int) -> list[dict[str, float | str]]:
    """A row a class of (2, C) positive and negative gradient, with ratio and share."""
    total = max(float(sums.sum()), 1e-12)
    return [
        {
            "step": step,
            "class": name,
            "positive": positive,
            "negative": negative,
            "ratio": positive / max(negative, 1e-12),
            "share": (positive + negative) / total,
        }
        for name, (positive, negative) in zip(classes, sums.T.tolist(), strict=True)
    ]


def _write_rows(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """A CSV file, whole or not at all."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    part = path.with_suffix(".part")
    with part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(rows)
    part.replace(path)
