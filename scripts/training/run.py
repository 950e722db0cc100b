"""A training run: settings, data, loop, and the model that comes out of it."""

from __future__ import annotations

import math
import platform
from contextlib import closing
from functools import partial
from importlib import metadata
from pathlib import Path

import numpy as np
import torch
import yaml
from lightning.pytorch import Callback, Trainer, seed_everything
from pydantic import Field, model_validator
from rich.console import Console

from configs import ConfigError, StrictModel
from data.annotations import AnnotationSettings
from data.crops.augment import AugmentSettings
from data.crops.sampling import CropSettings
from data.evaluation import (
    save_cells,
)
from data.fields.fieldset import FieldSet, widest_cell
from data.fields.regions import cut_fields, downsample_of
from data.fields.splits import check_leaks, take_part
from models import (
    DetectorConfig,
    ModelCard,
    build_detector,
    load_detector,
    save_detector,
    with_class_counts,
)
from models.card import DEFAULT_WIDEST_CELL, DomainFacts
from models.detectors.dense import DenseDetector
from models.learning.callbacks import GradientBalance, UnreadableImages
from models.learning.distillation import DistillationSettings, Imitation, check_pair, start_from
from models.learning.learner import DetectionLearner, OptimiserSettings
from models.learning.resuming import Tell
from pipeline.reports.report import software_versions
from scripts.domain import measure_domain
from scripts.slides import read_annotated
from scripts.telling import tell_doubts
from scripts.training.failures import explained
from scripts.training.feeding import FieldsData
from scripts.training.judge import THRESHOLD_RULE, Judge, check_monitor
from scripts.training.loggers import log_settings
from scripts.training.loop import BEST, LoopSettings, make_trainer
from scripts.training.plots import draw_balance, read_balance
from scripts.training.resumed import changed_settings, flatten


class FieldSource(AnnotationSettings):
    """Annotations, a file, folder or glob of any format, and the folder of slides or images.

    Attributes:
        annotations: what cytolibra convert reads.
        images: where the slides or images are.
        split: a file of ``cytolibra data split``; with it one source serves for all parts.
        part: of the split.
    """

    annotations: Path
    images: Path
    split: Path | None = None
    part: str = ""

    @model_validator(mode="after")
    def _a_split_has_parts(self) -> FieldSource:
        if bool(self.split) != bool(self.part):
            raise ValueError("split, a file, and part, one of its parts, go together")
        return self


class DataSettings(StrictModel):
    """What is learned from, and at which scale.

    Attributes:
        train: fields to learn from.
        val: fields to choose by; never trained on.
        mpp: µm per pixel that the detector looks at.
        crops: how crops are drawn.
        augment: how they are changed.
        cache: a folder that keeps what was decoded of slides to learn from, 3 bytes a pixel; for
            slides that are slow to decode or far away. Crops stay the same.
    """

    train: FieldSource
    val: FieldSource
    mpp: float = Field(0.5, gt=0.05, lt=5)
    crops: CropSettings = CropSettings()
    augment: AugmentSettings = AugmentSettings()
    cache: Path | None = None


class CardSettings(StrictModel):
    """What the trained model's card says beside the figures."""

    name: str = "untitled"
    summary: str = ""
    data: str = ""
    attribution: str = ""
    limits: str = "Research use only; not for clinical use."
    licence: str = ""


class TrainSettings(StrictModel):
    """A whole training run.

    Attributes:
        distillation: whom to learn from instead of the annotations; these then only judge.
    """

    model: DetectorConfig
    distillation: DistillationSettings | None = None
    data: DataSettings
    optimiser: OptimiserSettings = OptimiserSettings()
    loop: LoopSettings = LoopSettings()
    card: CardSettings = CardSettings()


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
        ConfigError: data or weights are missing or wrong, or not those of the checkpoint's run.
        CytoLibraError: the run failed, for a reason with a remedy.
        KeyboardInterrupt: the run was stopped; ``--resume`` goes on with it.
    """
    train_fields, val_fields = read_fields(settings)
    model = with_class_counts(settings.model, train_fields.class_counts())
    settings = settings.model_copy(update={"model": model})
    check_monitor(model, settings.loop.monitor)
    seed_everything(settings.loop.seed, verbose=False)
    detector = build_detector(settings.model)
    judge = Judge(detector.config)
    steps, files = settings.loop.optimiser_steps, files_of(train_fields)
    imitation = imitation_of(settings, detector)
    learner = DetectionLearner(detector, settings.optimiser, judge, steps, files, imitation)
    tell = partial(console.print, markup=False, highlight=False, soft_wrap=True)
    limit = settings.loop.max_unreadable
    balance = GradientBalance(out / "gradients.csv", detector.slot, detector.config.classes)
    watchers: list[Callback] = [UnreadableImages(files, files_of(val_fields), limit, tell)]
    if imitation is None:  # else no class is pulled by a loss of its own
        watchers.append(balance)
    with explained(settings.loop, settings.data.crops.size) as running:
        trainer = running.trainer = make_trainer(
            settings.loop, out, watchers, settings.card.name, tell, learner.in_parts
        )
        console.quiet |= not trainer.is_global_zero  # of several processes the first one speaks
        if checkpoint is not None:
            _tell_changes(settings, out, tell)
        if trainer.is_global_zero:
            _write_settings(settings, out)
            log_settings(trainer.loggers, dict(flatten(settings.model_dump(mode="json"))))
            _tell_start(settings, train_fields, val_fields, trainer, tell)
        with closing(make_data(settings, train_fields, val_fields)) as data:
            trainer.fit(learner, datamodule=data, ckpt_path=checkpoint, weights_only=False)
            # The callback keeps the moving average as the checkpoint's weights.
            best = torch.load(out / BEST, map_location="cpu", weights_only=False)
            learner.load_state_dict(best["state_dict"])
            trainer.validate(learner, datamodule=data, verbose=False)
    card = _make_card(settings, train_fields, judge)
    if not trainer.is_global_zero:
        return card
    card = card.model_copy(update={"domain": _domain(card, train_fields, val_fields, judge, tell)})
    save_cells(out / "validation.npz", judge.truth, judge.found)
    if imitation is None:
        draw_balance({settings.model.loss.name: read_balance(balance.path)}, out / "gradients.png")
    return save_detector(detector, card, out / "model", dtype=torch.float16)


def imitation_of(settings: TrainSettings, detector: DenseDetector) -> Imitation | None:
    """What the settings' teacher is for, from whose weights the detector starts; None without one.

    Raises:
        CytoLibraError: there is no such teacher, or it is another kind of detector.
    """
    if settings.distillation is None:
        return None
    teacher = load_detector(settings.distillation.teacher)
    check_pair(detector, teacher, settings.data.mpp)
    start_from(detector, teacher)
    return Imitation(teacher, settings.distillation.stem_share)


def files_of(fields: FieldSet) -> list[str]:
    """The image of each field."""
    return [str(field.image) for field in fields.fields]


def make_data(settings: TrainSettings, train: FieldSet, val: FieldSet) -> FieldsData:
    """Crops and validation fields of a run."""
    data = settings.data
    return FieldsData(train, val, data.mpp, data.crops, data.augment, settings.loop, data.cache)


def read_fields(settings: TrainSettings) -> tuple[FieldSet, FieldSet]:
    """The fields to train on, slides as a whole, and those to validate on, slides cut into parts.

    Raises:
        ConfigError: there is no cell to learn from; see also `data.annotations.read_fields` and
            `data.fields.splits.check_leaks`.
    """
    data = settings.data
    train, val = (_read_source(source, settings.model.classes) for source in (data.train, data.val))
    if settings.distillation is None and not any(train.class_counts()):
        raise ConfigError(
            f"data.train: none of its {len(train.fields)} fields has a cell to learn from; "
            "look at it with cytolibra data stats"
        )
    check_leaks(train, val)
    return train, cut_fields(val, data.mpp)


def _read_source(source: FieldSource, classes: tuple[str, ...]) -> FieldSet:
    fields = read_annotated(source.annotations, source.images, classes, source)
    return take_part(fields, source.split, source.part) if source.split else fields


def _write_settings(settings: TrainSettings, out: Path) -> None:
    text = yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    (out / "config.yaml").write_text(text, encoding="utf-8")


def _tell_changes(settings: TrainSettings, out: Path, tell: Tell) -> None:
    changes = changed_settings(out / "config.yaml", settings.model_dump(mode="json"))
    if changes:
        tell(f"goes on with other settings than it began with: {changes}")


def _tell_start(
    settings: TrainSettings, train: FieldSet, val: FieldSet, trainer: Trainer, tell: Tell
) -> None:
    """What is trained on what, where, and with which software."""
    versions = software_versions() | {"lightning": metadata.version("lightning")}
    tell(", ".join(f"{name} {version}" for name, version in versions.items()))
    count, device = trainer.world_size, trainer.strategy.root_device
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.platform()
    many = f"{count} processes, each on " if count > 1 else ""
    tell(f"{many}{device.type}, {where}; {trainer.precision}; seed {settings.loop.seed}")
    tell(_describe(settings, train, val))
    for note in (*train.notes, *val.notes):
        tell(note)
    tell_doubts(train, val)


def _describe(settings: TrainSettings, train: FieldSet, val: FieldSet) -> str:
    counts = zip(train.classes, train.class_counts(), val.class_counts(), strict=True)
    cells = ", ".join(f"{name} {n} + {m}" for name, n, m in counts)
    return (
        f"{settings.model.name} on {settings.model.backbone} at {settings.data.mpp} µm/px; "
        f"{len(train.fields)} + {len(val.fields)} fields; cells (train + val): {cells}"
    )


def _domain(
    card: ModelCard, train: FieldSet, val: FieldSet, judge: Judge, tell: Tell
) -> DomainFacts | None:
    """What the cells of the fields look like; None, and it is told why, of too few fields."""
    thresholds = np.array([card.thresholds[name] for name in card.detector.classes])
    found = []
    for field, cells in zip(val.fields, judge.found, strict=True):
        boxes = cells.boxes[cells.scores >= thresholds[cells.labels]]
        found.append((boxes[:, :2] + boxes[:, 2:]) / 2 * downsample_of(field, card.mpp))
    try:
        return measure_domain(train, val, found, card.training["data"])
    except ConfigError as error:
        tell(f"the card does not say {error}; slides are not compared with it")
        return None


def _make_card(settings: TrainSettings, train: FieldSet, judge: Judge) -> ModelCard:
    card = settings.card
    return ModelCard(
        name=card.name,
        summary=card.summary,
        detector=settings.model.model_copy(update={"backbone_weights": None}),
        mpp=settings.data.mpp,
        widest_cell=round(widest_cell(train) or DEFAULT_WIDEST_CELL, 1),
        thresholds=judge.thresholds(),
        threshold_rule=THRESHOLD_RULE,
        training={
            "data": card.data,
            "attribution": card.attribution,
            "cells": dict(zip(train.classes, train.class_counts(), strict=True)),
            "fields": len(train.fields),
            "settings": settings.model_dump(
                mode="json",
                include={
                    "data": {"mpp", "crops", "augment"},
                    "distillation": True,
                    "optimiser": True,
                    "loop": True,
                },
            ),
        },
        metrics={n: round(v, 4) for n, v in judge.metrics.items() if math.isfinite(v)},
        limits=card.limits,
        licence=card.licence,
    )
