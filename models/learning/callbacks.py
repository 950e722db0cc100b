"""Hooks of the training loop."""

from __future__ import annotations

import csv
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import WeightAveraging
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor

from configs import CytoLibraError
from losses.gradient_ratio import gradient_sums
from losses.ranks import mean_over_ranks, of_all_ranks
from models.detectors.slot import LossSlot
from models.learning.resuming import Tell


class WarmedUpEMA(WeightAveraging):
    """Exponential moving average of the weights, which is what is judged and kept.

    The decay rises to its value as (1 + n) / (10 + n) over updates n: with a constant one, random
    starting weights would still weigh in after hundreds of steps. Buffers of whole numbers and of
    flags (counts, places in a memory, which classes are rare) have no mean: the last ones hold.

    Args:
        decay: of the average, once warmed up.
    """

    def __init__(self, decay: float) -> None:
        def average(averaged: Tensor, current: Tensor, updates: Tensor | int) -> Tensor:
            if not current.is_floating_point():
                return current
            share = 1 - min(decay, float((1 + updates) / (10 + updates)))
            return averaged + share * (current - averaged)

        super().__init__(use_buffers=True, avg_fn=average)

    def averaged(self, device: torch.device) -> LightningModule:
        """The module with the average as its weights, put on a device; there while a run learns."""
        assert self._average_model is not None
        module = self._average_model.to(device).module
        assert isinstance(module, LightningModule)
        return module

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Judges the average while it is learned; after that whatever weights are loaded.

        Lightning would judge the last epoch's average even where the best one's weights were
        loaded, and its figures and thresholds would stand beside the best one's weights.
        """
        if trainer.state.fn == TrainerFn.FITTING:
            super().on_validation_epoch_start(trainer, pl_module)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Goes back to the weights that learn."""
        if trainer.state.fn == TrainerFn.FITTING:
            super().on_validation_epoch_end(trainer, pl_module)


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
        metrics = {
            name: float(value)
            for name, value in trainer.callback_metrics.items()
            if name.startswith(("train/", "val/"))
        }
        self._rows.append({"epoch": trainer.current_epoch, "step": trainer.global_step, **metrics})
        write_rows(self.path, self._rows)

    def state_dict(self) -> dict[str, Any]:
        """The rows so far, for the checkpoint."""
        return {"rows": self._rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes up the rows of a checkpoint."""
        self._rows = state_dict["rows"]


class GradientWatch(Callback):
    """Sums up the gradient in the class logits while a model learns.

    A step that overflowed half precision adds nothing, as to the weights.

    Args:
        slot: of the detector in training.
        shape: of the sums.
    """

    def __init__(self, slot: LossSlot, *shape: int) -> None:
        self.slot = slot
        self._sums = torch.zeros(shape)
        self._trainer: Trainer | None = None

    @abstractmethod
    def sums_of(self, gradient: Tensor, targets: Tensor) -> Tensor:
        """What the (N, C) gradient of a batch, towards (N, C) targets, adds to the sums."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begins to watch the slot."""
        self._trainer = trainer
        self._sums = self._sums.to(pl_module.device)
        self.slot.watchers.append(self._add)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Watches no longer."""
        self._trainer = None
        self.slot.watchers.remove(self._add)

    def _mean_sums(self) -> Tensor:
        return mean_over_ranks(self._sums).float().cpu()

    def _add(self, gradient: Tensor, targets: Tensor) -> None:
        scale = 1.0 if self._trainer is None else loss_scale(self._trainer)
        true = gradient.float() / scale
        self._sums += self.sums_of(true, targets).float().nan_to_num(nan=0.0, posinf=0.0)


def loss_scale(trainer: Trainer) -> float:
    """What the loss, and with it each gradient of the way back, is multiplied by: 1 but in fp16."""
    scaler = getattr(trainer.precision_plugin, "scaler", None)
    return 1.0 if scaler is None else float(scaler.get_scale())


class GradientBalance(GradientWatch):
    """Writes ``gradients.csv``: how the classification loss pulls each class up and down.

    The ratio r of positive to negative gradient is what the Grad-Libra paper plots in its figure
    3, after EQL v2; the share is a class's part of the whole gradient. Both are of the true
    gradient in the class logits, summed over the steps since the row before; of several processes
    the mean.

    Args:
        path: the file.
        slot: of the detector in training.
        classes: their names.
        every: steps from row to row.
    """

    def __init__(self, path: Path, slot: LossSlot, classes: Sequence[str], every: int = 10) -> None:
        super().__init__(slot, 2, len(classes))
        self.path, self.classes, self.every = path, classes, every
        self._rows: list[dict[str, float | str]] = []
        self._step = 0

    def sums_of(self, gradient: Tensor, targets: Tensor) -> Tensor:
        """(2, C): what pulls each class up, and down."""
        return gradient_sums(gradient.abs(), targets)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, *_: Any, **__: Any
    ) -> None:
        """Adds rows, one a class, when it is time."""
        step = trainer.global_step
        if step % self.every == 0 and step != self._step:  # a step may take several batches
            self._step = step
            self._rows += balance_rows(self._mean_sums(), self.classes, step)
            self._sums.zero_()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes the file whole."""
        if trainer.is_global_zero:
            write_rows(self.path, self._rows)

    def state_dict(self) -> dict[str, Any]:
        """The rows so far, for the checkpoint."""
        return {"rows": self._rows, "sums": self._mean_sums(), "step": self._step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes up the rows of a checkpoint."""
        self._rows, self._sums = state_dict["rows"], state_dict["sums"]
        self._step = state_dict["step"]


class UnreadableError(CytoLibraError):
    """More images than are allowed can't be read."""


class UnreadableImages(Callback):
    """Counts images that could not be read and were passed over, and ends the run at too many.

    Args:
        train: images to learn from, by the index that samples tell.
        val: images to judge by, likewise.
        limit: so many may be unreadable.
        tell: says a line to people.

    Attributes:
        found: the names of those that were.
    """

    def __init__(self, train: Sequence[str], val: Sequence[str], limit: int, tell: Tell) -> None:
        self.train, self.val, self.limit, self.tell = train, val, limit, tell
        self.found: dict[str, None] = {}

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Looks through a batch's targets.

        Raises:
            UnreadableError: more images than the limit can't be read; names them.
        """
        self._look(batch, self.train, "other crops are drawn instead")

    def on_validation_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, *_: Any, **__: Any
    ) -> None:
        """Looks at a validation field; see `on_train_batch_start`."""
        self._look(batch, self.val, "it is left out of the validation")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Puts together what all processes found, and tells it."""
        found = dict.fromkeys(name for own in of_all_ranks(list(self.found)) for name in own)
        self.found = found
        if found and trainer.is_global_zero:
            self.tell(f"{len(found)} images could not be read: {', '.join(found)}")

    def _look(self, batch: Any, names: Sequence[str], instead: str) -> None:
        for target in batch[1]:
            for index in target.get("unreadable", []):
                self._add(names[int(index)], instead)

    def _add(self, name: str, instead: str) -> None:
        if name in self.found:
            return
        self.found[name] = None
        self.tell(f"{name}: cannot be read; {instead}")
        if len(self.found) > self.limit:
            raise UnreadableError(
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


def write_rows(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """A CSV file, whole or not at all."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    part = path.with_suffix(".part")
    with part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(rows)
    part.replace(path)
