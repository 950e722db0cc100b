"""How a detector learns: one Lightning module, everything else is a callback of the trainer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from lightning.pytorch import LightningModule
from pydantic import Field
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import OneCycleLR

from configs import StrictModel
from models.dense import DenseDetector

Targets = list[dict[str, Tensor]]
Judge = Callable[[Targets, Targets], dict[str, float]]
"""From the truth and the detections of all validation fields to metrics by name."""


class OptimiserSettings(StrictModel):
    """AdamW with a one-cycle schedule, which needs little tuning on a new data set.

    Attributes:
        lr: peak learning rate.
        backbone_lr: factor on it for the backbone, which starts from trained weights.
        weight_decay: of weights; biases and norms have none.
        warmup: share of the steps that rise to the peak.
        clip: largest norm of the gradient; None for no limit.
        freeze: how many of the backbone's first stages keep their starting weights.
        backbone_norm: whether the backbone's batch norms go on learning.
    """

    lr: float = Field(1e-3, gt=0)
    backbone_lr: float = Field(1.0, gt=0)
    weight_decay: float = Field(0.05, ge=0)
    warmup: float = Field(0.15, ge=0, lt=1)
    clip: float | None = Field(10.0, gt=0)
    freeze: int = Field(2, ge=0)
    backbone_norm: Literal["trained", "frozen"] = "trained"


class DetectionLearner(LightningModule):
    """Trains a detector and judges it on whole fields.

    Args:
        detector: with the loss in its slot.
        settings: of the optimiser.
        judge: computes the validation metrics, which are logged under ``val/``.
    """

    def __init__(self, detector: DenseDetector, settings: OptimiserSettings, judge: Judge) -> None:
        super().__init__()
        self.detector = detector
        self.settings = settings
        self.judge = judge
        self._truth: Targets = []
        self._found: Targets = []
        for stage in self._frozen_stages():
            stage.requires_grad_(False)

    def training_step(self, batch: tuple[Sequence[Tensor], Targets], _: int) -> Tensor:
        """Sum of the detector's losses."""
        images, targets = batch
        losses = self.detector(images, targets)
        total = torch.stack(list(losses.values())).sum()
        parts = {f"train/{name}": value.detach() for name, value in losses.items()}
        self.log_dict(parts, on_step=True, batch_size=len(images))
        self.log("train/loss", total.detach(), on_step=True, prog_bar=True, batch_size=len(images))
        return total

    def on_train_epoch_start(self) -> None:
        """Keeps the statistics of frozen norms; draws the epoch's own crops."""
        for module in self._frozen_norms():
            module.eval()

    def validation_step(self, batch: tuple[Sequence[Tensor], Targets], _: int) -> None:
        """Collects truth and detections."""
        images, targets = batch
        self._truth += [_on_cpu(target) for target in targets]
        self._found += [_on_cpu(found) for found in self.detector(images)]

    def on_validation_epoch_end(self) -> None:
        """Judges all validation fields together."""
        metrics = self.judge(self._truth, self._found)
        self.log_dict({f"val/{name}": value for name, value in metrics.items()})
        self._truth, self._found = [], []

    def configure_optimizers(self) -> Any:
        """AdamW in groups by learning rate and decay, and its schedule."""
        optimizer = AdamW(self._parameter_groups(), lr=self.settings.lr)
        schedule = OneCycleLR(
            optimizer,
            max_lr=[group["lr"] for group in optimizer.param_groups],
            total_steps=int(self.trainer.estimated_stepping_batches),
            pct_start=self.settings.warmup,
            cycle_momentum=False,
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    def configure_gradient_clipping(self, optimizer: Optimizer, *_: Any, **__: Any) -> None:
        """Clips by the gradient's norm."""
        if self.settings.clip is not None:
            self.clip_gradients(optimizer, self.settings.clip, "norm")

    def _parameter_groups(self) -> list[dict[str, Any]]:
        groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
        for name, parameter in self.detector.named_parameters():
            if parameter.requires_grad:
                key = (name.startswith("backbone.body."), parameter.ndim > 1)
                groups.setdefault(key, []).append(parameter)
        return [
            {
                "params": parameters,
                "lr": self.settings.lr * (self.settings.backbone_lr if in_body else 1.0),
                "weight_decay": self.settings.weight_decay if decays else 0.0,
            }
            for (in_body, decays), parameters in groups.items()
        ]

    def _frozen_stages(self) -> list[nn.Module]:
        return list(self.detector.backbone.body.children())[: self.settings.freeze]

    def _frozen_norms(self) -> list[nn.Module]:
        everywhere = self.settings.backbone_norm == "frozen"
        roots = [self.detector.backbone.body] if everywhere else self._frozen_stages()
        return [m for root in roots for m in root.modules() if isinstance(m, nn.BatchNorm2d)]


def _on_cpu(values: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().cpu() for name, value in values.items()}
