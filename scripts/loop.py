"""The training loop: how long, on what, in how many processes, and what is kept on the way."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.pytorch import Callback, LightningDataModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint, RichProgressBar
from lightning.pytorch.loggers import Logger, MLFlowLogger, TensorBoardLogger
from pydantic import Field, model_validator
from torch.utils.data import DataLoader, Sampler, Subset

from configs import ConfigError, StrictModel
from data.augment import AugmentSettings
from data.fields import CropDataset, Sample, WholeFieldDataset, collate
from data.fieldset import FieldSet
from data.sampling import CropSettings
from models.callbacks import MetricsFile, WarmedUpEMA
from models.resuming import LastCheckpoint
from scripts.slides import images_of


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
        checkpoint_every: steps after which the run could go on from, if it were killed.
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

    @model_validator(mode="after")
    def _half_precision_has_a_gpu(self) -> LoopSettings:
        on_gpu = self.device == "gpu" or (self.device == "auto" and torch.cuda.is_available())
        if self.precision == "16-mixed" and not on_gpu:
            raise ValueError("precision 16-mixed is for GPUs; on a CPU take bf16-mixed or 32-true")
        return self


class ShareSampler(Sampler[int]):
    """The crops of one process: of each round of batches its own, in order.

    All processes together see in a round what one process with a larger batch would see.

    Args:
        steps: batches.
        batch_size: crops a batch.
        rank, ranks: which process, of how many.
    """

    def __init__(self, steps: int, batch_size: int, rank: int = 0, ranks: int = 1) -> None:
        self.steps, self.batch_size, self.rank, self.ranks = steps, batch_size, rank, ranks
        self.start = 0

    def __len__(self) -> int:
        return self.steps * self.batch_size

    def __iter__(self) -> Iterator[int]:
        for step in range(self.start, self.steps):
            first = (step * self.ranks + self.rank) * self.batch_size
            yield from range(first, first + self.batch_size)


class CropLoader(DataLoader[Sample]):
    """Loads an epoch's crops; goes on in the middle of it, where a checkpoint says so."""

    sampler: ShareSampler
    _served = 0

    def __iter__(self) -> Any:
        self._served = self.sampler.start
        for batch in super().__iter__():
            self._served += 1
            yield batch
        self.sampler.start = 0

    def state_dict(self) -> dict[str, int]:
        """How many batches were served; Lightning keeps it in its checkpoints."""
        return {"served": self._served}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Begins after those batches."""
        self.sampler.start = state_dict["served"]


class FieldsData(LightningDataModule):
    """Crops to train on, drawn anew each epoch, and whole fields to validate on.

    Args:
        train: fields to learn from.
        val: fields to judge by.
        mpp: of the detector.
        crops: how crops are drawn.
        augment: how they are changed.
        loop: how many of them.
        cache: a folder for decoded blocks of slides.
    """

    def __init__(
        self,
        train: FieldSet,
        val: FieldSet,
        mpp: float,
        crops: CropSettings,
        augment: AugmentSettings,
        loop: LoopSettings,
        cache: Path | None = None,
    ) -> None:
        super().__init__()
        self.train_fields, self.val_fields = train, val
        self.mpp, self.crops, self.augment, self.loop = mpp, crops, augment, loop
        self._train_images, self._val_images = images_of(train, cache), images_of(val)

    def train_dataloader(self) -> CropLoader:
        """This epoch's crops; they depend on the seed and the epoch only, so resuming is exact."""
        loop, (rank, ranks) = self.loop, self._place()
        crops = CropDataset(
            self.train_fields,
            self._train_images,
            self.mpp,
            self.crops,
            self.augment,
            loop.steps * loop.batch_size * ranks,
            loop.seed,
            self.trainer.current_epoch if self.trainer else 0,
        )
        return CropLoader(
            crops,
            loop.batch_size,
            sampler=ShareSampler(loop.steps, loop.batch_size, rank, ranks),
            collate_fn=collate,
            num_workers=loop.workers,
        )

    def val_dataloader(self) -> DataLoader[Sample]:
        """Every validation field, whole; each process has its share."""
        fields = WholeFieldDataset(self.val_fields, self._val_images, self.mpp)
        rank, ranks = self._place()
        own = Subset(fields, range(rank, len(fields), ranks))
        return DataLoader(own, batch_size=1, collate_fn=collate)

    def _place(self) -> tuple[int, int]:
        """Which process this is, of how many."""
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)


def make_trainer(
    loop: LoopSettings, out: Path, callbacks: Sequence[Callback], name: str = ""
) -> tuple[Trainer, ModelCheckpoint]:
    """The trainer, and the callback that knows the best epoch.

    Args:
        loop: its settings.
        out: folder of the run.
        callbacks: what else is to happen.
        name: of the run, for loggers.

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
    last = LastCheckpoint(out / "checkpoints" / "last.ckpt", loop.checkpoint_every)
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


@contextmanager
def told_when_out_of_memory(loop: LoopSettings, crop: int) -> Iterator[None]:
    """Says what to turn down.

    Raises:
        ConfigError: memory ran out.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not _is_out_of_memory(error):
            raise
        raise ConfigError(
            f"out of memory: turn down loop.batch_size ({loop.batch_size}; loop.accumulate keeps "
            f"what a step learns from) or data.crops.size ({crop}), or take a reduced "
            f"loop.precision ({loop.precision})"
        ) from error


def _is_out_of_memory(error: Exception) -> bool:
    text = str(error).lower()
    return (
        isinstance(error, (MemoryError, torch.OutOfMemoryError))
        or "out of memory" in text
        or "can't allocate memory" in text
        or "not enough memory" in text
    )


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
