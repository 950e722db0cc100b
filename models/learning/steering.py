"""The gradient that each class receives steers where training crops are cut.

Ours, under a name of its own: what is unequal between frequent and rare classes is the share of the
whole gradient, which no weighing by the ratio within a class can change, but drawing can.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch import LightningModule, Trainer
from numpy.typing import NDArray
from torch import Tensor

from models.detectors.slot import LossSlot
from models.learning.callbacks import GradientWatch, write_rows

Floats = NDArray[np.float64]


class GradientSteering(GradientWatch):
    """Measures shares of the gradient, and tells samplers by which factors classes are drawn.

    Batches are counted over the whole run, by intervals. What was measured by the end of one holds
    for the batches of the one after the next, whatever the number of processes that prepare crops;
    so the crops of a run are a function of its settings, and a resumed run has the same ones.
    Writes ``sampling.csv``: a row a class and interval.

    Args:
        path: the file.
        slot: of the detector in training.
        classes: their names.
        cells: of each class in training; classes without one are left out of the shares.
        alpha, max_repeat, interval, momentum: see `data.crops.sampling.GradientSettings`.
    """

    def __init__(
        self,
        path: Path,
        slot: LossSlot,
        classes: Sequence[str],
        cells: Sequence[int],
        alpha: float,
        max_repeat: float,
        interval: int,
        momentum: float,
    ) -> None:
        super().__init__(slot, len(classes))
        self.path, self.classes = path, classes
        self.drawn = np.array(cells) > 0
        self.alpha, self.max_repeat = alpha, max_repeat
        self.interval, self.momentum = interval, momentum
        self._batches = 0
        self._shares: list[float] = []
        self._factors: dict[int, list[float]] = {}
        self._rows: list[dict[str, Any]] = []

    def factors_at(self, batch: int) -> Floats | None:
        """(C,) factors for the crops of a batch of the run; None before there is a measurement."""
        found = self._factors.get(batch // self.interval)
        return None if found is None else np.array(found)

    def sums_of(self, gradient: Tensor, targets: Tensor) -> Tensor:
        """(C,): the gradient that each class receives."""
        return gradient.abs().float().sum(dim=0)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, *_: Any, **__: Any
    ) -> None:
        """Measures, when an interval is over."""
        self._batches += 1
        if self._batches % self.interval == 0:
            self._measure(self._mean_sums().double().numpy(), self._batches // self.interval - 1)
            self._sums.zero_()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes the file whole."""
        if trainer.is_global_zero and self._rows:
            write_rows(self.path, self._rows)

    def state_dict(self) -> dict[str, Any]:
        """All that the next crops depend on, for the checkpoint."""
        return {
            "sums": self._mean_sums(),
            "batches": self._batches,
            "shares": self._shares,
            "factors": self._factors,
            "rows": self._rows,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes up what a checkpoint knows."""
        self._sums, self._batches = state_dict["sums"], state_dict["batches"]
        self._shares, self._factors = state_dict["shares"], state_dict["factors"]
        self._rows = state_dict["rows"]

    def _measure(self, sums: Floats, over: int) -> None:
        """Takes the gradient of an interval into the shares, and makes factors of them."""
        total = sums[self.drawn].sum()
        if total > 0:  # of steps that all overflowed there is nothing to learn
            # Shares, not sums: the loss falls.
            now = np.where(self.drawn, sums, 0) / total
            before = np.array(self._shares) if self._shares else now
            self._shares = (self.momentum * before + (1 - self.momentum) * now).tolist()
        if not self._shares:
            return
        factors = repeats(np.array(self._shares), self.drawn, self.alpha, self.max_repeat)
        # Those of the interval that begins were settled by the one before.
        self._factors = {k: v for k, v in self._factors.items() if k > over}
        self._factors[over + 2] = factors.tolist()
        for name, share, factor in zip(self.classes, self._shares, factors.tolist(), strict=True):
            row = {"batch": (over + 1) * self.interval, "class": name, "share": share}
            self._rows.append({**row, "factor": factor, "holds_from": (over + 2) * self.interval})


def repeats(shares: Floats, drawn: NDArray[np.bool_], alpha: float, most: float) -> Floats:
    """(C,) factors min(most, (1 / (C' q)) ** alpha) of shares q; 1 for classes that have no cell.

    Args:
        shares: (C,) of the gradient, over the C' classes that have cells.
        drawn: (C,) which have.
        alpha: how much of the difference is made up for.
        most: the largest factor.
    """
    even = 1 / max(int(drawn.sum()), 1)
    factors = (even / np.maximum(shares, 1e-12)) ** alpha
    return np.where(drawn, np.minimum(factors, most), 1.0)
