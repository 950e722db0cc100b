"""The training loop: how long, on what, in how many processes, and what is kept on the way."""

from __future__ import annotations

import logging
import math
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import LearningRateMonitor, RichProgressBar
from pydantic import Field, ValidationInfo, field_validator

from configs import StrictModel
from models.learning.callbacks import MetricsFile, WarmedUpEMA
from models.learning.resuming import BestCheckpoint, LastCheckpoint, Patience, Tell
from pipeline.network.precision import NO_BF16, computes_bf16
from scripts.training.loggers import LoggerName, build_loggers

NOISE = (
    r".*LeafSpec.* is deprecated",
    r".*does not have many workers",
    r".*module\(s\) in eval mode at the start of training",  # frozen norms
    r"Checkpoint directory .* exists and is not empty",
    r"The number of training batches .* is smaller than the logging interval",
    r".*It is recommended to use .*sync_dist=True",  # the learner has averaged
    r".*across ranks is zero",  # a process may have no validation field
)
"""Warnings that tell whoever trains here nothing."""


class LoopSettings(StrictModel):
    """How long, on what, and which of the epochs is kept.

    Attributes:
        epochs: validations; each epoch is ``steps`` batches long.
        steps: batches an epoch, in each process.
        batch_size: crops a batch, in each process.
        accumulate: batches whose gradients make one step of the optimiser.
        workers: processes that prepare crops, for each process that trains.
        device: "auto", "cpu" or "gpu".
        devices: processes on this machine, one a GPU; torchrun's own number goes before it.
        nodes: machines.
        precision: of the convolutions; "auto" takes bf16 where the hardware computes it.
        ema: decay of the weights' moving average, which is what is judged and kept.
        monitor: the validation metric by which the best epoch is chosen.
        patience: ends the run after so many epochs that were no better; None: never.
        checkpoint_every: steps of the optimiser from one checkpoint to the next, within an epoch.
        loggers: where figures go besides metrics.csv.
        max_unreadable: images that may be unreadable before the run ends.
        deterministic: refuses operations whose result depends on the order of additions.
        seed: of everything random.
    """

    epochs: int = Field(4, ge=1)
    steps: int = Field(200, ge=1)
    batch_size: int = Field(8, ge=1)
    accumulate: int = Field(1, ge=1)
    workers: int = Field(1, ge=0)
    device: Literal["auto", "cpu", "gpu"] = "auto"
    devices: int = Field(1, ge=1)
    nodes: int = Field(1, ge=1)
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed"] = "auto"
    ema: float = Field(0.995, ge=0, lt=1)
    monitor: str = "val/score"
    patience: int | None = Field(None, ge=1)
    checkpoint_every: int = Field(100, ge=1)
    loggers: tuple[LoggerName, ...] = ("tensorboard",)
    max_unreadable: int = Field(5, ge=0)
    deterministic: bool = False
    seed: int = 0

    @property
    def optimiser_steps(self) -> int:
        """Steps of the optimiser in the whole run."""
        return self.epochs * math.ceil(self.steps / self.accumulate)

    @field_validator("precision")
    @classmethod
    def _is_computed_here(cls, precision: str, info: ValidationInfo) -> str:
        on_gpu = _is_gpu(info.data.get("device", "auto"))
        if precision == "16-mixed" and not on_gpu:
            raise ValueError("precision 16-mixed is for GPUs; on a CPU take auto or 32-true")
        if precision == "bf16-mixed" and not on_gpu and not computes_bf16():
            raise ValueError(f"precision bf16-mixed: {NO_BF16}; take auto or 32-true")
        return precision


def _is_gpu(device: str) -> bool:
    """Whether a run on this device, "auto", "cpu" or "gpu", runs on a GPU."""
    return device == "gpu" or (device == "auto" and torch.cuda.is_available())


def settled_precision(loop: LoopSettings) -> Literal["32-true", "bf16-mixed", "16-mixed"]:
    """What "auto" comes to: bf16 where the hardware computes it, else fp32.

    fp16, which older GPUs compute, is for those to choose who look after its narrow range.
    """
    if loop.precision != "auto":
        return loop.precision
    if _is_gpu(loop.device):
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        native = computes_bf16()
    return "bf16-mixed" if native else "32-true"


BEST = Path("checkpoints", "best.ckpt")
"""In a run's folder: the best epoch's weights, those of the moving average."""


def make_trainer(
    loop: LoopSettings,
    out: Path,
    callbacks: Sequence[Callback],
    name: str = "",
    tell: Tell = print,
    in_parts: bool = False,
) -> Trainer:
    """The trainer of a run.

    Args:
        loop: its settings.
        out: folder of the run.
        callbacks: what else is to happen.
        name: of the run, for loggers.
        tell: says a line to people.
        in_parts: whether there are steps in which some weights learn nothing.

    Raises:
        ConfigError: a logger's package is missing.
        MisconfigurationException: there are not so many devices, or none of the kind.
    """
    _quieten()
    last = LastCheckpoint(out / "checkpoints" / "last.ckpt", loop.checkpoint_every, tell)
    best = BestCheckpoint(out / BEST, loop.monitor)
    kept = [MetricsFile(out / "metrics.csv"), *callbacks, best, last]
    if loop.loggers:
        kept.insert(0, LearningRateMonitor("step"))
    if loop.patience:
        kept.insert(0, Patience(loop.monitor, loop.patience))
    if loop.ema:
        kept.insert(0, WarmedUpEMA(loop.ema))
    return Trainer(
        default_root_dir=out,
        max_epochs=loop.epochs,
        accelerator=loop.device,
        **_processes(loop, in_parts),
        precision=settled_precision(loop),
        accumulate_grad_batches=loop.accumulate,
        deterministic=loop.deterministic,
        callbacks=[RichProgressBar(leave=True), *kept],
        logger=build_loggers(loop.loggers, out, name),
        num_sanity_val_steps=0,
        reload_dataloaders_every_n_epochs=1,
        use_distributed_sampler=False,  # ShareSampler deals out the crops
        log_every_n_steps=10,
        enable_model_summary=False,
    )


def _processes(loop: LoopSettings, in_parts: bool) -> dict[str, Any]:
    """How many processes there are, by torchrun where that started them."""
    here = int(os.environ.get("LOCAL_WORLD_SIZE", loop.devices))
    everywhere = int(os.environ.get("WORLD_SIZE", here * loop.nodes))
    many = everywhere > 1
    # Else processes wait for gradients that never come; looking for them costs time.
    ddp = "ddp_find_unused_parameters_true" if in_parts else "ddp"
    on_gpu = loop.device != "cpu" and torch.cuda.is_available()
    return {
        "devices": here,
        "num_nodes": max(1, everywhere // here),
        "strategy": ddp if many else "auto",
        "sync_batchnorm": many and on_gpu,  # torch has none for CPUs
    }


def _quieten() -> None:
    """Leaves of what Lightning says what matters to whoever trains here."""
    for name in ("lightning.pytorch", "lightning.pytorch.utilities.rank_zero"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for pattern in NOISE:
        warnings.filterwarnings("ignore", pattern)


def fit_best(
    trainer: Trainer,
    learner: LightningModule,
    data: LightningDataModule,
    out: Path,
    checkpoint: Path | None,
) -> None:
    """Trains, then judges the best epoch, whose weights the learner has in the end.

    Args:
        trainer: of `make_trainer`, for this folder.
        learner: what learns.
        data: what from.
        out: the run's folder.
        checkpoint: of an earlier run to go on with.
    """
    trainer.fit(learner, datamodule=data, ckpt_path=checkpoint, weights_only=True)
    # The callback keeps the moving average as the checkpoint's weights.
    best = torch.load(out / BEST, map_location="cpu", weights_only=True)
    learner.load_state_dict(best["state_dict"])
    trainer.validate(learner, datamodule=data, verbose=False)
