"""A grader's training run: settings, data, loop, and the model that comes out of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.pytorch import seed_everything
from rich.console import Console

from configs import ConfigError
from data.crops.augment import notes_of
from data.crops.grades import GradeSamples, Places, gather_samples
from data.evaluation import Calibration
from data.fields.fieldset import FieldSet
from data.fields.regions import cut_fields
from data.fields.splits import check_leaks
from models import ModelCard, ModelSource
from models.card import ParentFacts, SecondLookFacts, SourceFacts, read_card, save_card
from models.detectors.backbones import learning_stages
from models.grader import Grader, GradingNetwork, load_grader, save_grader
from models.learning.callbacks import UnreadableImages
from models.learning.grading import GraderLearner, check_teacher
from models.learning.resuming import Tell
from models.storage.graphs import copy_files
from scripts.candidates import LOWEST_SCORE, Candidates
from scripts.telling import tell_doubts
from scripts.training.failures import explained
from scripts.training.feeding import GradesData
from scripts.training.folds import check_runs_apart, read_fields_of, read_fold
from scripts.training.grader_judge import (
    EVIDENCE,
    GRADE_FIGURES,
    GraderJudge,
    calibrate,
    make_evidence,
    save_evidence,
)
from scripts.training.grader_settings import GraderTrainSettings
from scripts.training.judge import THRESHOLD_RULE, check_judged, check_monitor, thresholds_of
from scripts.training.left_out import (
    Finder,
    assign_finders,
    easy_background,
    find_on,
    recall_of,
    settle_floor,
)
from scripts.training.loop import fit_best, make_trainer
from scripts.training.provenance import (
    describe_parents,
    describe_sources,
    describe_teacher,
    digests_of,
    frozen_doubts,
    in_words,
    provenance_doubts,
)
from scripts.training.run import begin, files_of, tell_machine
from scripts.training.sources import RunFields
from scripts.training.unlabelled import describe_unlabelled, fourier_images

PARENTS: dict[Literal["teacher", "backbone"], str] = {
    "teacher": "teachers",
    "backbone": "grader.backbone_weights",
}
"""Settings that name the weights of a grader's parents, by their role."""


@dataclass(frozen=True)
class GraderFields:
    """What a grader's run is made of, slides cut into parts.

    Attributes:
        train: fields to learn from.
        samples: places on them.
        val: fields to judge by.
        found: what the detector found on these.
        floor: least score of what is looked at again.
        sources: what the fields come from.
        amplitudes: images whose amplitudes crops take.
        finders: sha256 of the candidates' models that found the places.
    """

    train: FieldSet
    samples: GradeSamples
    val: FieldSet
    found: Sequence[Candidates]
    floor: float
    sources: tuple[SourceFacts, ...]
    amplitudes: Sequence[Path] = ()
    finders: Sequence[str] = ()


def run_grader_training(
    settings: GraderTrainSettings, out: Path, checkpoint: Path | None, console: Console
) -> ModelCard:
    """Trains a grader, and writes it with its detector to ``out/model``.

    Beside it: ``config.yaml`` (all settings), ``metrics.csv`` (a row a validation) and
    `EVIDENCE` (what detector and grader say of the validation fields, for
    ``scripts.second_look_rule``).

    Args:
        settings: of the run; written to ``out/config.yaml``.
        out: an existing folder.
        checkpoint: of an earlier run to go on with.
        console: where people look.

    Returns:
        The card of the model in ``out/model``; its ``second_look`` tells the figures.

    Raises:
        ConfigError: data, weights, detector, runs or teachers are missing or don't fit, or are not
            those of the checkpoint's run.
        CytoLibraError: the run failed, for a reason with a remedy.
        KeyboardInterrupt: the run was stopped; ``--resume`` goes on with it.
    """
    source = ModelSource.find(settings.detector)
    check_monitor(source.card.detector, settings.loop.monitor, GRADE_FIGURES)
    seed_everything(settings.loop.seed, verbose=False)
    config = source.card.detector
    grader = Grader(settings.grader, len(config.classes))
    teachers = [_load_teacher(name, source.card, grader) for name in settings.teachers]
    parents = parents_of(settings)
    read = read_fields_of(settings, source.card)
    calibration = calibrate_by(settings.calibration, source.card, read.val)
    tell = partial(console.print, markup=False, highlight=False, soft_wrap=True)
    fields = gather_fields(settings, source.card, read)
    check_judged(config, settings.loop.monitor, fields.val)
    evidence = make_evidence(fields.val, fields.found, settings.data.crops)
    judge = GraderJudge(config, evidence, settings.rule, calibration)
    files = files_of(fields.train)
    learner = GraderLearner(
        grader,
        settings.optimiser,
        judge,
        config.is_abnormal,
        settings.binary,
        settings.loop.optimiser_steps,
        files,
        teachers,
        settings.taught,
    )
    watcher = UnreadableImages(files, files_of(fields.val), settings.loop.max_unreadable, tell)
    with explained(settings.loop, settings.grader.size, "grader.size") as running:
        trainer = running.trainer = make_trainer(
            settings.loop, out, [watcher], settings.card.name, tell
        )
        console.quiet |= not trainer.is_global_zero
        content = _content(settings, source.card, fields, parents)
        begin(settings, out, checkpoint, trainer, tell, content)
        if trainer.is_global_zero:
            tell_machine(trainer, settings.loop.seed, tell)
            _tell_fields(settings, fields, tell)
            told = settings.card
            doubts = provenance_doubts(told.name, told.licence, fields.sources, parents)
            if checkpoint is None and settings.grader.backbone_weights is None:
                stages, key = dict(grader.body.named_children()), "grader.backbone_weights"
                random_stages = learning_stages(grader.body)
                doubts += frozen_doubts(stages, settings.optimiser.freeze, random_stages, key)
            for doubt in doubts:
                tell(f"warning: {doubt}")
        with closing(_make_data(settings, fields)) as data:
            fit_best(trainer, learner, data, out, checkpoint)
    facts = _make_facts(settings, source.card, fields, judge, parents, len(watcher.found))
    card = source.card.model_copy(update={"second_look": facts})
    if not trainer.is_global_zero:
        return card
    save_evidence(out / EVIDENCE, judge.evidence)
    take_in(grader, judge.calibration)
    return _write_model(source, card, grader, out / "model")


def calibrate_by(runs: Sequence[Path], card: ModelCard, judged: FieldSet) -> Calibration | None:
    """What fits the answers of several runs on the fields that each left out; None without runs.

    Args:
        runs: folders of graders' trainings.
        card: of the model whose grader is calibrated.
        judged: the validation fields, which are to serve for nothing but figures.

    Raises:
        ConfigError: a folder is no ended training of a grader, is of other classes, or its
            annotations have changed since; two runs left the same field out, or one left out what
            is judged by.
    """
    if not runs:
        return None
    try:
        folds = [read_fold(run) for run in runs]
        left_out = [fold.fields for fold in folds]
        check_runs_apart(left_out, list(map(str, runs)), card.detector.classes, card.name)
    except ConfigError as error:
        raise ConfigError(f"calibration: {error}") from error
    for run, fields in zip(runs, left_out, strict=True):
        check_leaks(fields, judged, (f"what {run} of calibration left out", "data.val"))
    return calibrate([fold.evidence for fold in folds])


def take_in(grader: Grader, calibration: Calibration) -> None:
    """Gives a grader the biases of its calibration; the temperature is left to the card.

    (logits + temperature * bias) / temperature is logits / temperature + bias.
    """
    shift = torch.from_numpy(calibration.temperature * calibration.bias).to(grader.head.bias)
    with torch.no_grad():
        grader.head.bias.add_(shift)


def gather_fields(settings: GraderTrainSettings, card: ModelCard, read: RunFields) -> GraderFields:
    """The fields of a run with what there is to learn on them, and what was found on them.

    Raises:
        ConfigError: see `scripts.training.unlabelled.fourier_images`,
            `scripts.training.left_out.assign_finders` and `data.crops.grades.gather_samples`.
    """
    data = settings.data
    amplitudes = fourier_images(data.augment, settings.grader.size, read)
    train = cut_fields(read.train, card.mpp)
    device = "cpu" if settings.loop.device == "cpu" else "auto"
    if settings.candidates:
        finders = assign_finders(settings.candidates, card, train)
    else:
        finders = [Finder(settings.detector, range(len(train.fields)))]
        train = replace(train, doubts=(*train.doubts, easy_background(card.name)))
    floor = settings.floor or settle_floor(finders, train, settings.places_a_cell, device)
    learned = min(floor, data.crops.background_from)
    found = find_on(finders, train, learned, device)
    samples = gather_samples(train, [Places(f.places.boxes, f.scores) for f in found], data.crops)
    judge = [Finder(settings.detector, range(len(read.val.fields)))]
    judged = find_on(judge, read.val, floor, device, LOWEST_SCORE)
    sources = (
        *describe_sources("train", data.train, train),
        *describe_sources("val", data.val, read.val),
    )
    runs = finders if settings.candidates else ()
    sums = [ModelSource.find(one.model).card.sha256 for one in runs]
    return GraderFields(train, samples, read.val, judged, floor, sources, amplitudes, sums)


def parents_of(settings: GraderTrainSettings) -> list[ParentFacts]:
    """The weights that a grader starts from, and the graders that it learns from."""
    graders = [ModelSource.find(name).card.second_look for name in settings.teachers]
    teachers = [describe_teacher(one) for one in graders if one is not None]
    return [*teachers, *describe_parents(settings.grader.backbone_weights, None)]


def _content(
    settings: GraderTrainSettings,
    card: ModelCard,
    fields: GraderFields,
    parents: Sequence[ParentFacts],
) -> dict[str, str]:
    """By which data and weights are known again, by setting."""
    told = describe_unlabelled(settings.data.augment, fields.amplitudes)
    images = {key: one["images_sha256"] for key, one in told.items()}
    calibrating = [read_card(run / "model").second_look for run in settings.calibration]
    return (
        digests_of(fields.sources, parents, PARENTS)
        | images
        | {
            "detector": card.sha256,
            "candidates": " ".join(fields.finders),
            "calibration": " ".join(look.sha256 for look in calibrating if look is not None),
        }
    )


def _load_teacher(name: str, card: ModelCard, student: Grader) -> GradingNetwork:
    """A model's grader, to learn from."""
    source = ModelSource.find(name)
    facts = source.card.second_look
    if facts is None or source.folder is None:
        raise ConfigError(f"teachers: {name} has no grader; name models that have one")
    if facts.classes != card.detector.classes:
        raise ConfigError(
            f"teachers: {name} tells {', '.join(facts.classes)} apart, {card.name} "
            f"{', '.join(card.detector.classes)}"
        )
    teacher = load_grader(source.folder, facts)
    check_teacher(teacher, student, name)
    return GradingNetwork(teacher, facts.temperature)


def _make_data(settings: GraderTrainSettings, fields: GraderFields) -> GradesData:
    data = settings.data
    return GradesData(
        fields.train,
        fields.samples,
        fields.val,
        [one.places.centers for one in fields.found],
        settings.grader,
        data.crops,
        data.augment,
        settings.loop,
        data.cache,
    )


def _tell_fields(settings: GraderTrainSettings, fields: GraderFields, tell: Tell) -> None:
    """What is trained on what."""
    names = (*fields.train.classes, "background")
    counts, share = fields.samples.counts(), recall_of(fields.val, fields.found)
    cells = ", ".join(f"{name} {count}" for name, count in zip(names, counts, strict=True))
    tell(
        f"{settings.grader.backbone} on {settings.grader.size} px at {settings.grader.mpp:g} "
        f"µm/px; {len(fields.train.fields)} + {len(fields.val.fields)} fields; places to learn "
        f"from: {cells}; to judge by, from score {fields.floor:g} on: "
        f"{sum(len(one.places) for one in fields.found)}, with {100 * share:.1f}% of the cells"
    )
    notes = notes_of(settings.data.augment, settings.grader.size)
    for note in (*fields.train.notes, *fields.val.notes, *notes):
        tell(note)
    tell_doubts(fields.train, fields.val)


def _make_facts(
    settings: GraderTrainSettings,
    card: ModelCard,
    fields: GraderFields,
    judge: GraderJudge,
    parents: Sequence[ParentFacts],
    unreadable: int,
) -> SecondLookFacts:
    """The grader's part of the card; its hash follows once it is written."""
    told, grader = settings.card, settings.grader
    names = (*fields.train.classes, "background")
    training: dict[str, Any] = {
        "data": told.data or in_words(fields.sources),
        "attribution": told.attribution,
        "sources": [one.model_dump(mode="json") for one in fields.sources],
        "parents": [one.model_dump(mode="json") for one in parents],
        "places": dict(zip(names, fields.samples.counts(), strict=True)),
        "fields": len(fields.train.fields),
        "candidates": "out of fold" if settings.candidates else "of the detector itself",
        "settings": settings.model_dump(
            mode="json",
            include={
                "grader": True,
                "data": {"crops", "augment"},
                "optimiser": True,
                "loop": True,
                "binary": True,
                "taught": True,
            },
            exclude={
                "grader": {"backbone_weights"},
                "data": {"augment": {"fourier": {"images"}}},
            },
        ),
        "teachers": len(settings.teachers),
        "threshold_rule": THRESHOLD_RULE,
        "calibrated": "out of fold" if settings.calibration else "on the validation fields",
        "bias": dict(zip(names, judge.calibration.bias.round(4).tolist(), strict=True)),
    }
    if unreadable:
        training["unreadable"] = unreadable
    if fields.amplitudes:
        training["unlabelled"] = describe_unlabelled(settings.data.augment, fields.amplitudes)
    return SecondLookFacts(
        name=told.name,
        backbone=grader.backbone,
        classes=card.detector.classes,
        mpp=grader.mpp,
        size=grader.size,
        mean=grader.image_mean,
        std=grader.image_std,
        temperature=judge.calibration.temperature,
        floor=fields.floor,
        rule=judge.evened,
        thresholds=thresholds_of(judge.evidence.truth, judge.found(), card.detector),
        sha256="",
        training=training,
        metrics={n: round(v, 4) for n, v in judge.metrics.items() if math.isfinite(v)},
        limits=told.limits,
        licence=told.licence,
    )


def _write_model(source: ModelSource, card: ModelCard, grader: Grader, folder: Path) -> ModelCard:
    """The detector's files, and the grader's beside them."""
    assert source.folder is not None
    copy_files(source.folder, source.card.model_copy(update={"second_look": None}), folder)
    sha256 = save_grader(grader, folder, dtype=torch.float16)
    save_card(card.with_grader(sha256=sha256), folder)
    return read_card(folder)
