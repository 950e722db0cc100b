"""``cytolibra train``: a detector or a grader from annotated fields, by one configuration file."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import get_console
from rich.console import Console

from configs import ConfigError, Doubt, load_config
from configs.layers import read_layers
from scripts.config import Files, Overrides

if TYPE_CHECKING:
    from scripts.training.settings import TrainSettings


def train(
    out: Annotated[Path, typer.Option(help="Folder for the run; made if missing.")],
    config: Files = None,
    set_: Overrides = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run in --out from its last checkpoint.")
    ] = False,
    find_lr: Annotated[
        bool,
        typer.Option("--find-lr", help="Only look for a learning rate; draws learning_rate.png."),
    ] = False,
) -> None:
    """Trains a detector on annotated fields and slides, or a grader for its second look.

    A configuration with `grader:` in the place of `model:` is a grader's, such as train/grader.
    """
    if find_lr and resume:
        raise ConfigError(
            "--find-lr starts from the settings; it goes on with no run: leave --resume"
        )
    if any("grader" in layer.values for layer in read_layers(config, set_ or [])):
        _train_grader(config, out, set_ or [], resume, find_lr)
        return
    from scripts.training.run import run_training
    from scripts.training.settings import TrainSettings

    settings = load_config(config, TrainSettings, set_ or [])
    console = get_console()  # the progress bar's, so that lines go above it
    _tell_idle(settings)
    if find_lr:
        from scripts.training import lr_finder

        _make_folder(out)
        found = lr_finder.find_lr(settings, out)
        console.print(f"optimiser.lr={found:.2g}; see {out / 'learning_rate.png'}")
        return
    _find_checkpoint(out, resume)  # a wrong call makes no folder
    _make_folder(out)
    with _alone(out, console):
        card = run_training(settings, out, _find_checkpoint(out, resume), console)
        _add_networks(out / "model", console)
    console.print(f"{card.name}: the best epoch is in {out / 'model'}; its figures on data.val:")
    _tell_figures(console, card.metrics)
    for name, facts in card.training.get("validation", {}).items():
        console.print(f"on {name} alone, {facts['fields']} fields of data.val:", highlight=False)
        _tell_figures(console, facts["metrics"])
    if held_out := card.training.get("held_out"):
        told = f"on {held_out['name']}, {held_out['fields']} fields that were held out:"
        console.print(told, highlight=False)
        _tell_figures(console, held_out["metrics"])


def _tell_idle(settings: TrainSettings) -> None:
    """Tells of settings that do nothing. A comparison's base may have those of all detectors."""
    if not _is_first():
        return
    model, texts = settings.model, []
    if idle := model.idle():
        names = ", ".join(f"model.{name}" for name in idle)
        texts.append(f"{names}: of another detector; with {model.name} it does nothing")
    head = model.abnormal_head
    if settings.distillation is not None and head is not None and head.weight != 1:
        texts.append(
            "model.abnormal_head.weight: of the head's own loss, which there is none of with "
            "distillation; it does nothing"
        )
    for text in texts:
        typer.echo(f"warning: {Doubt(code='setting-idle', text=text)}", err=True)


def _add_networks(model: Path, console: Console) -> None:
    """A screen with the model then starts without torch, which takes seconds to load."""
    from models.storage.graphs import ExportError
    from scripts.export import add_networks

    if not _is_first():
        return
    try:
        add_networks(model)
    except ExportError as error:
        console.print(f"the model has no network for OpenVINO: {error}", markup=False)


def _tell_figures(console: Console, figures: Mapping[str, float]) -> None:
    for name, value in figures.items():
        console.print(f"  {name:20} {value:.3f}")


def _train_grader(config: Files, out: Path, set_: list[str], resume: bool, find_lr: bool) -> None:
    from scripts.training.grader_run import run_grader_training
    from scripts.training.grader_settings import GraderTrainSettings

    settings = load_config(config, GraderTrainSettings, set_)
    if find_lr:
        raise ConfigError("--find-lr is for detectors; a grader's recipe is train/grader")
    console = get_console()
    _find_checkpoint(out, resume)
    _make_folder(out)
    with _alone(out, console):
        card = run_grader_training(settings, out, _find_checkpoint(out, resume), console)
        _add_networks(out / "model", console)
    look = card.second_look
    assert look is not None
    console.print(
        f"{look.name}: {card.name} with its second look is in {out / 'model'}; figures on "
        "data.val:",
        soft_wrap=True,
    )
    for name, value in look.metrics.items():
        console.print(f"  {name:20} {value:.3f}")


@contextmanager
def _alone(out: Path, console: Console) -> Iterator[None]:
    """Keeps other trainings out of the run's folder; of one's several processes the first does."""
    from pipeline.batch.lock import hold

    if not _is_first():
        yield
        return
    todo = "wait until it has ended, or name another folder"
    with hold(out, None, ("cytolibra", *sys.argv[1:]), todo) as doubts:
        for doubt in doubts:
            console.print(f"warning: {doubt}", markup=False, highlight=False, soft_wrap=True)
        yield


def _is_first() -> bool:
    """Whether this is the first of a training's processes, which writes for all."""
    from lightning.pytorch.utilities import rank_zero_only

    return not (getattr(rank_zero_only, "rank", 0) or int(os.environ.get("NODE_RANK", 0)))


def _find_checkpoint(out: Path, resume: bool) -> Path | None:
    """The checkpoint to go on from, or None for a fresh start, which overwrites nothing."""
    from models.card import SIDECAR

    checkpoint = out / "checkpoints" / "last.ckpt"
    has_model = (out / "model" / SIDECAR).is_file()
    if resume and not checkpoint.is_file():
        todo = "name another folder" if has_model else "start without --resume"
        raise ConfigError(f"--resume: {checkpoint} is not there; {todo}")
    if not resume and checkpoint.is_file():
        raise ConfigError(f"--out {out}: holds a run already; add --resume, or name another folder")
    if not resume and has_model:
        raise ConfigError(
            f"--out {out}: holds a model already, in {out / 'model'}, which the run would "
            "overwrite; name another folder"
        )
    return checkpoint if resume else None


def _make_folder(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--out {out}: can't be made: {error.strerror}") from error
