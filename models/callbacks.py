"""Hooks of the training loop."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor


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
        if trainer.sanity_checking:
            return
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        self._rows.append({"epoch": trainer.current_epoch, "step": trainer.global_step, **metrics})
        names = list(dict.fromkeys(name for row in self._rows for name in row))
        part = self.path.with_suffix(".part")
        with part.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, names)
            writer.writeheader()
            writer.writerows(self._rows)
        part.replace(self.path)

    def state_dict(self) -> dict[str, Any]:
        """The rows so far, for the checkpoint."""
        return {"rows": self._rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes up the rows of a checkpoint."""
        self._rows = state_dict["rows"]
