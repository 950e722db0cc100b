"""A training run: settings, data, loop, and the model that comes out of it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import yaml
from lightning.pytorch import Callback, LightningDataModule, Trainer, seed_everything
from lightning.pytorch.callbacks import (
    ModelCheckpoint,
    RichProgressBar,
)
from pydantic import Field
from rich.console import Console
from torch import Tensor
from torch.utils.data import DataLoader

from configs import ConfigError, StrictModel
from data.annotations import AnnotationSettings
from data.augment import AugmentSettings
from data.evaluation import (
    FEW_CELLS,
    FieldCells,
    best_threshold,
    field_metrics,
    join,
    match_classes,
    matches,
    pool,
    save_cells,
)
from data.fields import (
    CropDataset,
    Sample,
    WholeFieldDataset,
    collate,
)
from data.fieldset import FieldSet, widest_cell
from data.regions import cut_fields
from data.sampling import CropSettings
from models import (
    DetectorConfig,
    ModelCard,
    build_detector,
    save_detector,
    with_class_counts,
)
from models.callbacks import GradientBalance, MetricsFile, WarmedUpEMA
from models.learner import DetectionLearner, OptimiserSettings, Targets
from scripts.plots import draw_balance, read_balance
from scripts.slides import images_of, read_annotated

THRESHOLD_RULE = (
    "abnormal classes: best F2 on the validation fields at IoU 0.5, for a miss is worse than a "
    "false alarm; normal ones: best F1. An abnormal class with fewer than "
    f"{FEW_CELLS} cells there takes the threshold of all abnormal classes merged"
)


class FieldSource(AnnotationSettings):
    """Annotations, a file, folder or glob of any format, and the folder of slides or images."""

    annotations: Path
    images: Path


class DataSettings(StrictModel):
    """What is learned from, and at which scale.

    Attributes:
        train: fields to learn from.
        val: fields to choose by; never trained on.
        mpp: µm per pixel that the detector looks at.
        crops: how crops are drawn.
        augment: how they are changed.
    """

    train: FieldSource
    val: FieldSource
    mpp: float = Field(0.5, gt=0.05, lt=5)
    crops: CropSettings = CropSettings()
    augment: AugmentSettings = AugmentSettings()


class LoopSettings(StrictModel):
    """How long, on what, and which of the epochs is kept.

    Attributes:
        epochs: validations; each epoch is ``steps`` batches long.
        steps: batches an epoch.
        batch_size: crops a batch.
        workers: processes that prepare crops.
        device: "auto", "cpu" or "gpu".
        precision: of the convolutions; "auto" takes bf16.
        ema: decay of the weights' moving average, which is what is judged and kept.
        monitor: the validation metric by which the best epoch is chosen.
        seed: of everything random.
    """

    epochs: int = Field(4, ge=1)
    steps: int = Field(200, ge=1)
    batch_size: int = Field(8, ge=1)
    workers: int = Field(1, ge=0)
    device: Literal["auto", "cpu", "gpu"] = "auto"
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed"] = "auto"
    ema: float = Field(0.995, ge=0, lt=1)
    monitor: str = "val/score"
    seed: int = 0


class CardSettings(StrictModel):
    """What the trained model's card says beside the figures."""

    name: str = "untitled"
    summary: str = ""
    data: str = ""
    attribution: str = ""
    limits: str = "Research use only; not for clinical use."
    licence: str = ""


class TrainSettings(StrictModel):
    """A whole training run."""

    model: DetectorConfig
    data: DataSettings
    optimiser: OptimiserSettings = OptimiserSettings()
    loop: LoopSettings = LoopSettings()
    card: CardSettings = CardSettings()


class FieldsData(LightningDataModule):
    """Crops to train on, drawn anew each epoch, and whole fields to validate on."""

    def __init__(self, settings: TrainSettings, train: FieldSet, val: FieldSet) -> None:
        super().__init__()
        self.settings, self.train_fields, self.val_fields = settings, train, val
        self._images, self._val_images = images_of(train), images_of(val)

    def train_dataloader(self) -> DataLoader[Sample]:
        """This epoch's crops; they depend on the seed and the epoch only, so resuming is exact."""
        data, loop = self.settings.data, self.settings.loop
        epoch = self.trainer.current_epoch if self.trainer else 0
        length = loop.steps * loop.batch_size
        crops = CropDataset(
            self.train_fields,
            self._images,
            data.mpp,
            data.crops,
            data.augment,
            length,
            loop.seed,
            epoch,
        )
        return DataLoader(crops, loop.batch_size, collate_fn=collate, num_workers=loop.workers)

    def val_dataloader(self) -> DataLoader[Sample]:
        """Every validation field, whole."""
        fields = WholeFieldDataset(self.val_fields, self._val_images, self.settings.data.mpp)
        return DataLoader(fields, batch_size=1, collate_fn=collate)


def run_training(
    settings: TrainSettings, out: Path, checkpoint: Path | None, console: Console
) -> ModelCard:
    """Trains, keeps the best epoch and writes it to ``out/model``.

    Beside it: ``config.yaml`` (all settings), ``metrics.csv`` (a row a validation),
    ``gradients.csv`` and ``gradients.png`` (how the loss pulls each class), ``validation.npz``
    (what the best epoch found on the validation fields; see `data.evaluation.load_cells`).

    Args:
        settings: of the run; written to ``out/config.yaml``.
        out: an existing folder.
        checkpoint: of an earlier run to go on with.
        console: where people look.

    Raises:
        ConfigError: data or weights are missing or wrong.
        KeyboardInterrupt: the run was stopped; ``--resume`` goes on with it.
    """
    train_fields, val_fields = read_fields(settings)
    model = with_class_counts(settings.model, train_fields.class_counts())
    settings = settings.model_copy(update={"model": model})
    text = yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    (out / "config.yaml").write_text(text, encoding="utf-8")
    seed_everything(settings.loop.seed, verbose=False)
    detector = build_detector(settings.model)
    judge = Judge(detector.config)
    learner = DetectionLearner(detector, settings.optimiser, judge)
    data = FieldsData(settings, train_fields, val_fields)
    best = _keep_best(settings.loop, out)
    balance = GradientBalance(out / "gradients.csv", detector.slot, detector.config.classes)
    trainer = _make_trainer(settings.loop, [best, MetricsFile(out / "metrics.csv"), balance])
    console.print(_describe(settings, train_fields, val_fields))
    for note in (*train_fields.notes, *val_fields.notes):
        console.print(note, markup=False)
    trainer.fit(learner, datamodule=data, ckpt_path=checkpoint, weights_only=False)
    if trainer.interrupted:
        raise KeyboardInterrupt
    # The callback keeps the moving average as the checkpoint's weights.
    state = torch.load(best.best_model_path, map_location="cpu", weights_only=False)
    learner.load_state_dict(state["state_dict"])
    trainer.validate(learner, datamodule=data, verbose=False)
    save_cells(out / "validation.npz", judge.truth, judge.found)
    draw_balance({settings.model.loss.name: read_balance(balance.path)}, out / "gradients.png")
    card = _make_card(settings, train_fields, judge)
    return save_detector(detector, card, out / "model", dtype=torch.float16)


def read_fields(settings: TrainSettings) -> tuple[FieldSet, FieldSet]:
    """The fields to train on, slides as a whole, and those to validate on, slides cut into parts.

    Raises:
        ConfigError: see `data.annotations.read_fields`; or one image is in both sets.
    """
    classes, data = settings.model.classes, settings.data
    train_fields, val_fields = (
        read_annotated(source.annotations, source.images, classes, source)
        for source in (data.train, data.val)
    )
    both = {f.image.resolve() for f in train_fields.fields} & {
        f.image.resolve() for f in val_fields.fields
    }
    if both:
        raise ConfigError(
            f"{min(both)}: is in data.train and in data.val; validate on other fields"
        )
    return train_fields, cut_fields(val_fields, data.mpp)


class Judge:
    """Computes the validation metrics, and remembers the last cells that it judged.

    Attributes:
        metrics: of the last validation, by name.
        truth, found: its cells, an entry a field.
    """

    def __init__(self, config: DetectorConfig) -> None:
        self.config = config
        self.metrics: dict[str, float] = {}
        self.truth: list[FieldCells] = []
        self.found: list[FieldCells] = []

    def __call__(self, truth: Targets, found: Targets) -> dict[str, float]:
        """See `data.evaluation.field_metrics`."""
        self.truth = [to_cells(target) for target in truth]
        self.found = [to_cells(target) for target in found]
        classes, abnormal = self.config.classes, self.config.is_abnormal
        self.metrics = field_metrics(self.truth, self.found, classes, abnormal)
        return self.metrics

    def thresholds(self) -> dict[str, float]:
        """For each class the score that `THRESHOLD_RULE` gives."""
        classes, abnormal = self.config.classes, self.config.is_abnormal
        sides = pool(self.truth, self.found, np.flatnonzero(abnormal))
        pooled = best_threshold(matches(*sides, 1, 0), beta=2)
        thresholds = {}
        by_class = match_classes(self.truth, self.found, len(classes))
        for label, (name, by_field) in enumerate(zip(classes, by_class, strict=True)):
            of_class = join(by_field)
            own = best_threshold(of_class, beta=2 if abnormal[label] else 1)
            too_few = abnormal[label] and of_class.cells < FEW_CELLS
            thresholds[name] = round(pooled if too_few else own, 4)
        return thresholds


def to_cells(target: dict[str, Tensor]) -> FieldCells:
    """A target or a detector's output as arrays for the evaluation."""
    count = len(target["labels"])
    scores = target.get("scores", torch.ones(count))
    crowd = target.get("crowd", torch.zeros(count, dtype=torch.bool))
    return FieldCells(
        target["boxes"].double().numpy(),
        target["labels"].numpy(),
        scores.double().numpy(),
        crowd.numpy(),
    )


def _keep_best(loop: LoopSettings, out: Path) -> ModelCheckpoint:
    return ModelCheckpoint(
        out / "checkpoints",
        filename="best",
        monitor=loop.monitor,
        mode="max",
        save_last=True,
        enable_version_counter=False,
    )


def _make_trainer(loop: LoopSettings, callbacks: list[Callback]) -> Trainer:
    if loop.ema:
        callbacks = [WarmedUpEMA(loop.ema), *callbacks]
    return Trainer(
        max_epochs=loop.epochs,
        accelerator=loop.device,
        devices=1,
        precision="bf16-mixed" if loop.precision == "auto" else loop.precision,
        callbacks=[RichProgressBar(leave=True), *callbacks],
        logger=False,
        num_sanity_val_steps=0,
        reload_dataloaders_every_n_epochs=1,
        log_every_n_steps=10,
    )


def _describe(settings: TrainSettings, train: FieldSet, val: FieldSet) -> str:
    counts = zip(train.classes, train.class_counts(), val.class_counts(), strict=True)
    cells = ", ".join(f"{name} {n} + {m}" for name, n, m in counts)
    return (
        f"{settings.model.name} on {settings.model.backbone} at {settings.data.mpp} µm/px; "
        f"{len(train.fields)} + {len(val.fields)} fields; cells (train + val): {cells}"
    )


def _make_card(settings: TrainSettings, train: FieldSet, judge: Judge) -> ModelCard:
    card = settings.card
    return ModelCard(
        name=card.name,
        summary=card.summary,
        detector=settings.model.model_copy(update={"backbone_weights": None}),
        mpp=settings.data.mpp,
        widest_cell=round(widest_cell(train), 1),
        thresholds=judge.thresholds(),
        threshold_rule=THRESHOLD_RULE,
        training={
            "data": card.data,
            "attribution": card.attribution,
            "cells": dict(zip(train.classes, train.class_counts(), strict=True)),
            "fields": len(train.fields),
            "settings": settings.model_dump(
                mode="json",
                include={"data": {"mpp", "crops", "augment"}, "optimiser": True, "loop": True},
            ),
        },
        metrics={n: round(v, 4) for n, v in judge.metrics.items() if math.isfinite(v)},
        limits=card.limits,
        licence=card.licence,
    )
