"""The training loop: how long, on what, in how many processes, and what is kept on the way."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint, RichProgressBar
from lightning.pytorch.loggers import Logger, MLFlowLogger, TensorBoardLogger
from pydantic import Field, model_validator

from configs import ConfigError, StrictModel
from models.callbacks import MetricsFile, WarmedUpEMA
from models.resuming import LastCheckpoint, Tell


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
        precision: of the convolutions; "auto" takes bf16.
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
    loggers: tuple[Literal["tensorboard", "mlflow"], ...] = ("tensorboard",)
    max_unreadable: int = Field(5, ge=0)
    deterministic: bool = False
    seed: int = 0

    @property
    def optimiser_steps(self) -> int:
        """Steps of the optimiser in the whole run."""
        return self.epochs * math.ceil(self.steps / self.accumulate)

    @model_validator(mode="after")
    def _half_precision_has_a_gpu(self) -> LoopSettings:
        on_gpu = self.device == "gpu" or (self.device == "auto" and torch.cuda.is_available())
        if self.precision == "16-mixed" and not on_gpu:
            raise ValueError("precision 16-mixed is for GPUs; on a CPU take bf16-mixed or 32-true")
        return self


def make_trainer(
    loop: LoopSettings,
    out: Path,
    callbacks: Sequence[Callback],
    name: str = "",
    tell: Tell = print,
) -> tuple[Trainer, ModelCheckpoint]:
    """The trainer, and the callback that knows the best epoch.

    Args:
        loop: its settings.
        out: folder of the run.
        callbacks: what else is to happen.
        name: of the run, for loggers.
        tell: says a line to people.

    Raises:
        ConfigError: a logger's package is missing.
    """
    logging.getLogger("lightning.pytorch.utilities.rank_zero").setLevel(logging.WARNING)
    best = ModelCheckpoint(
        out / "checkpoints",
        filename="best",
        monitor=loop.monitor,
        mode="max",
        enable_version_counter=False,
    )
    last = LastCheckpoint(out / "checkpoints" / "last.ckpt", loop.checkpoint_every, tell)
    kept = [MetricsFile(out / "metrics.csv"), *callbacks, best, last]
    if loop.patience:
        kept.insert(0, EarlyStopping(loop.monitor, mode="max", patience=loop.patience))
    if loop.ema:
        kept.insert(0, WarmedUpEMA(loop.ema))
    trainer = Trainer(
        default_root_dir=out,
        max_epochs=loop.epochs,
        accelerator=loop.device,
        **_processes(loop),
        precision="bf16-mixed" if loop.precision == "auto" else loop.precision,
        accumulate_grad_batches=loop.accumulate,
        deterministic=loop.deterministic,
        callbacks=[RichProgressBar(leave=True), *kept],
        logger=[_logger(kind, out, name) for kind in loop.loggers],
        num_sanity_val_steps=0,
        reload_dataloaders_every_n_epochs=1,
        use_distributed_sampler=False,  # ShareSampler deals out the crops
        log_every_n_steps=10,
    )
    return trainer, best


def _processes(loop: LoopSettings) -> dict[str, Any]:
    """How many processes there are, by torchrun where that started them."""
    here = int(os.environ.get("LOCAL_WORLD_SIZE", loop.devices))
    everywhere = int(os.environ.get("WORLD_SIZE", here * loop.nodes))
    many = everywhere > 1
    on_gpu = loop.device != "cpu" and torch.cuda.is_available()
    return {
        "devices": here,
        "num_nodes": max(1, everywhere // here),
        "strategy": "ddp" if many else "auto",
        "sync_batchnorm": many and on_gpu,  # torch has none for CPUs
    }


def _logger(kind: str, out: Path, name: str) -> Logger:
    if kind == "tensorboard":
        return TensorBoardLogger(out, name="tensorboard", version="")
    try:
        return MLFlowLogger(
            experiment_name="cytolibra", run_name=name, tracking_uri=(out / "mlflow").as_uri()
        )
    except ImportError as error:
        raise ConfigError(
            "loop.loggers: mlflow is not installed: pip install 'cytolibra[mlflow]'"
        ) from error
