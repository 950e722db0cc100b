"""A training run: settings, data, loop, and the model that comes out of it."""

from __future__ import annotations

import math
import platform
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import yaml
from lightning.pytorch import Callback, Trainer, seed_everything
from rich.console import Console

from configs import ConfigError, Doubt, StrictModel
from data.crops.augment import notes_of
from data.crops.dataset import with_templates
from data.crops.sampling import source_shares
from data.evaluation import save_cells
from data.fields.fieldset import FieldSet, widest_cell
from data.fields.regions import downsample_of
from data.fields.scarcity import with_class_doubts
from models import (
    DetectorConfig,
    ModelCard,
    build_detector,
    load_detector,
    save_detector,
    with_class_counts,
)
from models.card import (
    DEFAULT_WIDEST_CELL,
    DomainFacts,
    ParentFacts,
    SourceFacts,
    find_model,
    read_card,
)
from models.detectors.backbones import find_backbone
from models.detectors.dense import DenseDetector
from models.learning.callbacks import GradientBalance, UnreadableImages
from models.learning.distillation import Imitation, check_pair, start_from
from models.learning.group_dro import GroupDRO
from models.learning.learner import DetectionLearner
from models.learning.mean_teacher import MeanTeacher, check_scores
from models.learning.resuming import LastCheckpoint, Tell, check_checkpoint
from models.learning.steering import GradientSteering
from models.learning.views import StainViews
from pipeline.reports.report import software_versions
from pipeline.reports.writers import write_whole
from scripts.domain import measure_domain
from scripts.slides import images_of
from scripts.telling import tell_doubts
from scripts.training.failures import explained
from scripts.training.feeding import FieldsData, Steer, whole_fields
from scripts.training.judge import THRESHOLD_RULE, Judge, check_judged, check_monitor
from scripts.training.loggers import log_settings
from scripts.training.loop import fit_best, make_trainer
from scripts.training.outcome import facts_on, false_alarms_of, judge_fields, source_facts
from scripts.training.plots import draw_balance, read_balance
from scripts.training.provenance import (
    describe_parents,
    describe_sources,
    digests_of,
    frozen_doubts,
    in_words,
    model_name,
    provenance_doubts,
)
from scripts.training.resumed import changed_settings, check_content, flatten
from scripts.training.settings import TrainSettings
from scripts.training.sources import DataSettings, FieldSource, RunFields, read_sources
from scripts.training.unlabelled import (
    Unlabelled,
    describe_unlabelled,
    fourier_images,
    unlabelled_of,
)

PARENTS: dict[Literal["teacher", "backbone"], str] = {
    "teacher": "distillation.teacher",
    "backbone": "model.backbone_weights",
}
"""Settings that name the weights of a run's parents, by their role."""


@dataclass(frozen=True)
class _Made:
    """What a run's model is, and what it is made of."""

    name: str
    sources: tuple[SourceFacts, ...]
    parents: tuple[ParentFacts, ...]
    unlabelled: dict[str, Any]

    @classmethod
    def by(
        cls, settings: TrainSettings, out: Path, fields: RunFields, unlabelled: Unlabelled | None
    ) -> _Made:
        distillation = settings.distillation
        sources = (
            *describe_sources("train", _used(settings.data.train, settings.data), fields.train),
            *describe_sources("val", _used(settings.data.val, settings.data), fields.val),
        )
        teacher = distillation.teacher if distillation else None
        parents = describe_parents(settings.model.backbone_weights, teacher)
        data = settings.data
        amplitudes = fourier_images(data.augment, data.crops.size, fields, data.hold_out)
        others = describe_unlabelled(data.augment, amplitudes, settings.mean_teacher, unlabelled)
        return cls(model_name(settings.card, out), sources, tuple(parents), others)

    @property
    def content(self) -> dict[str, str]:
        """By which data and weights are known again, by setting."""
        images = {key: told["images_sha256"] for key, told in self.unlabelled.items()}
        return digests_of(self.sources, self.parents, PARENTS) | images


def _used(sources: Sequence[FieldSource], data: DataSettings) -> list[FieldSource]:
    """Sources of a part, but for what is held out."""
    return [source for source in sources if source.called != data.hold_out]


def run_training(
    settings: TrainSettings, out: Path, checkpoint: Path | None, console: Console
) -> ModelCard:
    """Trains, keeps the best epoch and writes it to ``out/model``.

    Beside it: ``config.yaml`` (all settings), ``metrics.csv`` (a row a validation),
    ``gradients.csv`` and ``gradients.png`` (how the loss pulls each class), ``sampling.csv`` where
    that steers which crops are drawn, ``mean_teacher.csv`` where there is one, ``validation.npz``
    (what the best epoch found on the validation fields; see `data.evaluation.load_cells`). The
    card tells false alarms on the validation fields, and figures by source where there are several.

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
    fields = read_run_fields(settings)
    train_fields, val_fields = fields.train, fields.val
    unlabelled = unlabelled_of(settings.mean_teacher, settings.data, settings.loop, fields, out)
    model = with_counts(settings, train_fields)
    settings = settings_on(settings.model_copy(update={"model": model}), train_fields)
    check_monitor(model, settings.loop.monitor)
    check_judged(model, settings.loop.monitor, val_fields)
    made = _Made.by(settings, out, fields, unlabelled)
    seed_everything(settings.loop.seed, verbose=False)
    detector = build_detector(settings.model)
    judge = Judge(detector.config)
    steps, files = settings.loop.optimiser_steps, files_of(train_fields)
    imitation, teacher = imitation_of(settings, detector), mean_teacher_of(settings, detector, out)
    if unlabelled is not None:
        files += files_of(unlabelled.fields)
    learner = DetectionLearner(
        detector,
        settings.optimiser,
        judge,
        steps,
        files,
        imitation,
        teacher,
        views_of(settings),
        groups_of(settings, train_fields),
    )
    tell = partial(console.print, markup=False, highlight=False, soft_wrap=True)
    limit = settings.loop.max_unreadable
    balance = GradientBalance(out / "gradients.csv", detector.slot, detector.config.classes)
    unreadable = UnreadableImages(files, files_of(val_fields), limit, tell)
    watchers: list[Callback] = [unreadable]
    if imitation is None:  # else no class is pulled by a loss of its own
        watchers.append(balance)
    if teacher is not None:
        watchers.append(teacher)
    steering = steering_of(settings, detector, train_fields, out)
    if steering is not None:
        watchers.append(steering)
    with explained(settings.loop, settings.data.crops.size) as running:
        trainer = running.trainer = make_trainer(
            settings.loop, out, watchers, made.name, tell, learner.in_parts
        )
        console.quiet |= not trainer.is_global_zero  # of several processes the first one speaks
        begin(settings, out, checkpoint, trainer, tell, made.content)
        if trainer.is_global_zero:
            _tell_start(settings, fields, trainer, tell)
            for note in unlabelled.fields.notes if unlabelled else ():
                tell(f"mean_teacher.images: {note}")
            licence = settings.card.licence
            doubts = provenance_doubts(made.name, licence, made.sources, made.parents)
            if checkpoint is None:  # else its weights take the place of these
                doubts += _frozen_doubts(settings, detector)
            for doubt in doubts:
                tell(f"warning: {doubt}")
        steer = None if steering is None else steering.factors_at
        with closing(make_data(settings, train_fields, val_fields, steer, unlabelled)) as data:
            fit_best(trainer, learner, data, out, checkpoint)
        card = _make_card(settings, made, train_fields, judge, len(unreadable.found))
        if not trainer.is_global_zero:
            return card
        if fields.held_out is not None:
            card = _with_held_out(card, settings, fields.held_out, detector, trainer, tell)
    card = _with_validation(_with_false_alarms(card, judge, val_fields, tell), fields, judge)
    card = card.model_copy(update={"domain": _domain(card, train_fields, val_fields, judge, tell)})
    save_cells(out / "validation.npz", judge.truth, judge.found)
    if imitation is None:
        draw_balance({settings.model.loss.name: read_balance(balance.path)}, out / "gradients.png")
    return save_detector(detector, card, out / "model", dtype=torch.float16)


def _frozen_doubts(settings: TrainSettings, detector: DenseDetector) -> list[Doubt]:
    backbone, freeze = detector.backbone, settings.optimiser.freeze
    stages = [name for name, _ in backbone.body.named_children()]
    facts = find_backbone(settings.model.backbone)
    would_do = settings.model.backbone_weights is None and not any(
        facts.is_own(name) for name in stages[:freeze]
    )
    key = "model.backbone_weights" if would_do else None
    return frozen_doubts(stages, freeze, backbone.random_stages, key)


def with_counts(settings: TrainSettings, train: FieldSet) -> DetectorConfig:
    """The detector's settings with the training cells of each class, where they lack them.

    A student's are its teacher's, if this has some: by them BAGS makes the groups in which the
    teacher's logits have a meaning.

    Raises:
        CytoLibraError: there is no such teacher.
    """
    counts = train.class_counts()
    if settings.distillation is not None:
        taught = read_card(find_model(settings.distillation.teacher)).detector
        if taught.classes == settings.model.classes:  # else `check_pair` tells
            counts = list(getattr(taught.loss, "class_counts", None) or counts)
    return with_class_counts(settings.model, counts)


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


def views_of(settings: TrainSettings) -> StainViews | None:
    """What holds two stains of each crop consistent; None where there is one."""
    return None if settings.views is None else StainViews(settings.views)


def groups_of(settings: TrainSettings, train: FieldSet) -> GroupDRO | None:
    """What weighs the sources; None where all crops count alike."""
    if settings.group_dro is None:
        return None
    sources = [field.source for field in train.fields]
    names = list(dict.fromkeys(sources))
    return GroupDRO(settings.group_dro, names, [names.index(name) for name in sources])


def mean_teacher_of(
    settings: TrainSettings, detector: DenseDetector, out: Path
) -> MeanTeacher | None:
    """What learns from unlabelled crops; None where nothing does.

    Raises:
        ConfigError: the loss gives no probabilities.
    """
    teaching = settings.mean_teacher
    if teaching is None:
        return None
    check_scores(detector.slot)
    return MeanTeacher(out / "mean_teacher.csv", detector.config.classes, teaching)


def files_of(fields: FieldSet) -> list[str]:
    """The image of each field."""
    return [str(field.image) for field in fields.fields]


def steering_of(
    settings: TrainSettings, detector: DenseDetector, train: FieldSet, out: Path
) -> GradientSteering | None:
    """What steers crops by the gradient; None where nothing does."""
    gradient = settings.data.crops.gradient
    if gradient is None:
        return None
    return GradientSteering(
        out / "sampling.csv",
        detector.slot,
        train.classes,
        train.class_counts(),
        **gradient.model_dump(),
    )


def settings_on(settings: TrainSettings, train: FieldSet) -> TrainSettings:
    """Settings with what templates of stain have to know of the training crops."""
    data = settings.data
    if data.augment.templates is None:
        return settings
    images, seed = images_of(train, data.cache), settings.loop.seed
    augment = with_templates(data.augment, train, images, data.mpp, data.crops, seed)
    return settings.model_copy(update={"data": data.model_copy(update={"augment": augment})})


def make_data(
    settings: TrainSettings,
    train: FieldSet,
    val: FieldSet,
    steer: Steer | None = None,
    unlabelled: Unlabelled | None = None,
) -> FieldsData:
    """Crops and validation fields of a run; ``steer`` and ``unlabelled`` as in `FieldsData`."""
    settings = settings_on(settings, train)
    data, loop, views = settings.data, settings.loop, settings.views is not None
    return FieldsData(
        train, val, data.mpp, data.crops, data.augment, loop, data.cache, steer, unlabelled, views
    )


def read_fields(settings: TrainSettings) -> tuple[FieldSet, FieldSet]:
    """The fields to train on, slides as a whole, and those to validate on, slides cut into parts.

    Raises:
        ConfigError: see `read_run_fields`.
    """
    fields = read_run_fields(settings)
    return fields.train, fields.val


def read_run_fields(settings: TrainSettings) -> RunFields:
    """All fields of a run.

    Raises:
        ConfigError: there is no cell to learn from; see also `read_sources`.
    """
    fields = read_sources(settings.data, settings.model.classes)
    if settings.distillation is None and not any(fields.train.class_counts()):
        raise ConfigError(
            f"data.train: none of its {len(fields.train.fields)} fields has a cell to learn from; "
            "look at it with cytolibra data stats"
        )
    train, val = fields.train, with_class_doubts(fields.val, "judge by")
    if settings.distillation is None:
        train = with_class_doubts(train, "learn from")
    return replace(fields, train=train, val=val)


def begin(
    settings: StrictModel,
    out: Path,
    checkpoint: Path | None,
    trainer: Trainer,
    tell: Tell,
    content: dict[str, str],
) -> None:
    """Tells with which other settings a run goes on, writes them to ``config.yaml``, logs them.

    Args:
        settings: of the run.
        out: its folder.
        checkpoint: to go on with.
        trainer: its checkpoints will keep the content.
        tell: says a line to people.
        content: digests of data and weights by setting.

    Raises:
        ConfigError: see `changed_settings` and `check_content`; or the checkpoint is none.
    """
    if checkpoint is not None:
        before = check_checkpoint(checkpoint)
        _tell_changes(settings, out, tell)
        check_content(before, content)
        if not before:
            tell(
                "the checkpoint is of a version that did not keep on which data and weights the "
                "run began: whether these are the same is not checked"
            )
    for one in trainer.checkpoint_callbacks:
        if isinstance(one, LastCheckpoint):
            one.content = content
    if trainer.is_global_zero:
        write_settings(settings, out)
        log_settings(trainer.loggers, dict(flatten(settings.model_dump(mode="json"))))


def write_settings(settings: StrictModel, out: Path) -> None:
    """Writes all settings of a run to ``config.yaml``, whole: other processes may be reading it."""
    text = yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    write_whole(out / "config.yaml", text)


def _tell_changes(settings: StrictModel, out: Path, tell: Tell) -> None:
    changes = changed_settings(out / "config.yaml", settings)
    if changes:
        tell(f"goes on with other settings than it began with: {changes}")


def _tell_start(settings: TrainSettings, fields: RunFields, trainer: Trainer, tell: Tell) -> None:
    """What is trained on what, where, and with which software."""
    tell_machine(trainer, settings.loop.seed, tell)
    tell(_describe(settings, fields.train, fields.val))
    shares = source_shares(fields.train, settings.data.crops)
    if len(shares) > 1:
        told = ", ".join(f"{name} {share:.0%}" for name, share in shares.items())
        tell(f"crops by source, about: {told}")
    if fields.held_out is not None:
        tell(f"held out: {settings.data.hold_out}, {len(fields.held_out.fields)} fields")
    notes = notes_of(settings.data.augment, settings.data.crops.size)
    for note in (*fields.train.notes, *fields.val.notes, *notes):
        tell(note)
    tell_doubts(*fields.all_sets)


def tell_machine(trainer: Trainer, seed: int, tell: Tell) -> None:
    """Tells where a run runs, and with which software."""
    versions = software_versions() | {"lightning": metadata.version("lightning")}
    tell(", ".join(f"{name} {version}" for name, version in versions.items()))
    count, device = trainer.world_size, trainer.strategy.root_device
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.platform()
    many = f"{count} processes, each on " if count > 1 else ""
    tell(f"{many}{device.type}, {where}; {trainer.precision}; seed {seed}")


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
    judged = [val.fields[index] for index in judge.fields]  # others can't be read
    for field, cells in zip(judged, judge.found, strict=True):
        boxes = cells.boxes[cells.scores >= thresholds[cells.labels]]
        found.append((boxes[:, :2] + boxes[:, 2:]) / 2 * downsample_of(field, card.mpp))
    try:
        return measure_domain(
            train, replace(val, fields=tuple(judged)), found, card.training["data"]
        )
    except ConfigError as error:
        tell(f"the card does not say {error}; slides are not compared with it")
        return None


def _with_false_alarms(card: ModelCard, judge: Judge, val: FieldSet, tell: Tell) -> ModelCard:
    """The card with the false alarms on the validation fields; says why where they can't tell."""
    try:
        alarms = false_alarms_of(judge, val, card.thresholds)
    except ConfigError as error:
        why = str(error).removeprefix("false alarms: ")
        tell(f"the card tells no false alarms: {why}; evaluate --write-false-alarms adds them")
        return card
    return card.model_copy(update={"false_alarms": alarms})


def _with_validation(card: ModelCard, fields: RunFields, judge: Judge) -> ModelCard:
    """The card with the figures of each source of validation fields, where there are several."""
    validation = source_facts(judge, fields.val)
    told: dict[str, Any] = {"validation": validation} if validation else {}
    return card.model_copy(update={"training": card.training | told})


def _with_held_out(
    card: ModelCard,
    settings: TrainSettings,
    held_out: FieldSet,
    detector: DenseDetector,
    trainer: Trainer,
    tell: Tell,
) -> ModelCard:
    """The card with the figures on the sources that are held out."""
    loader = whole_fields(held_out, images_of(held_out), settings.data.mpp)
    judge, unreadable = judge_fields(detector, loader, trainer)
    if unreadable:
        tell(f"{settings.data.hold_out}, which is held out: {unreadable} fields can't be read")
    facts = facts_on(judge, held_out, range(len(held_out.fields)))
    told = {"held_out": {"name": settings.data.hold_out} | facts}
    return card.model_copy(update={"training": card.training | told})


def _summary(settings: TrainSettings) -> str:
    model = settings.model
    taught = " by a teacher" if settings.distillation else f" with {model.loss.name}"
    return f"{model.name} on {model.backbone} at {settings.data.mpp:g} µm/px, trained{taught}"


def _make_card(
    settings: TrainSettings, made: _Made, train: FieldSet, judge: Judge, unreadable: int
) -> ModelCard:
    """The card; images that could not be read count as fields and cells, and are told beside."""
    card = settings.card
    others: dict[str, Any] = {"unlabelled": made.unlabelled} if made.unlabelled else {}
    others |= {"unreadable": unreadable} if unreadable else {}
    return ModelCard(
        name=made.name,
        summary=card.summary or _summary(settings),
        detector=settings.model.model_copy(update={"backbone_weights": None}),
        mpp=settings.data.mpp,
        widest_cell=round(widest_cell(train) or DEFAULT_WIDEST_CELL, 1),
        thresholds=judge.thresholds(),
        threshold_rule=THRESHOLD_RULE,
        training={
            "data": card.data or in_words(made.sources),
            "attribution": card.attribution,
            "sources": [one.model_dump(mode="json") for one in made.sources],
            "parents": [one.model_dump(mode="json") for one in made.parents],
            "cells": dict(zip(train.classes, train.class_counts(), strict=True)),
            "fields": len(train.fields),
            **others,
            "settings": _settings_of(settings),
        },
        metrics={n: round(v, 4) for n, v in judge.metrics.items() if math.isfinite(v)},
        limits=card.limits,
        licence=card.licence,
    )


def _settings_of(settings: TrainSettings) -> dict[str, Any]:
    """What a card says of the settings: no paths."""
    include: dict[str, Any] = {
        "data": {"mpp", "crops", "augment"},
        "distillation": True,
        "optimiser": True,
        "loop": True,
    }
    told: dict[str, Any] = settings.model_dump(mode="json", include=include)
    if only_in_training := settings.model.only_in_training():
        told["model"] = only_in_training
    if settings.data.augment.fourier is not None:
        del told["data"]["augment"]["fourier"]["images"]
    for name in ("views", "group_dro"):
        if (group := getattr(settings, name)) is not None:
            told[name] = group.model_dump(mode="json")
    teaching = settings.mean_teacher
    if teaching is not None:
        told["mean_teacher"] = teaching.model_dump(mode="json", exclude={"images"})
    return told
