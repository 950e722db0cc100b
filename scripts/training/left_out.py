"""What detectors take for cells on fields that they did not learn from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from configs import ConfigError, Doubt, load_config
from data.fields.fieldset import FieldSet
from data.fields.images import ImageError
from models import ModelCard, load_detector
from pipeline.network.detector import RuntimeSettings, TileDetector
from scripts.candidates import (
    LOWEST_SCORE,
    Candidates,
    detect_fields,
    find_candidates,
    nothing_found,
)
from scripts.slides import images_of
from scripts.training.run import TrainSettings
from scripts.training.sources import read_sources


def find_on(
    model: str | Path, fields: FieldSet, floor: float, device: str = "auto"
) -> list[Candidates]:
    """What a model finds on fields, and what of it a grader looks at again.

    In fp32, whatever the model prefers: what is learned from should not depend on the machine. On a
    field that can't be read nothing is found; whoever needs its pixels tells so.

    Args:
        model: name or folder.
        fields: small enough to be taken whole; see `data.fields.regions.cut_fields`.
        floor: least score of what is looked at again.
        device: on which it runs.

    Raises:
        ConfigError: the scale of a field is unknown.
        ModelFileError: there is no such model.
    """
    settings = RuntimeSettings(device=device, precision="fp32")
    detector = TileDetector(load_detector(model), settings, LOWEST_SCORE)
    nothing = nothing_found(len(detector.card.detector.classes))
    return [
        find_candidates(nothing if isinstance(found, ImageError) else found, detector.card, floor)
        for found in detect_fields(detector, images_of(fields), fields)
    ]


def find_out_of_fold(
    runs: Sequence[Path], card: ModelCard, fields: FieldSet, floor: float, device: str = "auto"
) -> list[Candidates]:
    """What is found on each field by the first run that did not learn from it.

    Args:
        runs: folders of ``cytolibra train``, with different fields left out.
        card: of the model for which it is: what its detector and theirs have in common.
        fields: as of `find_on`.
        floor: likewise.
        device: on which they run.

    Raises:
        ConfigError: a folder is no run, its model looks at other scales or classes, or no run left
            one of the fields out.
    """
    run_of: dict[Path, int] = {}
    for number, run in enumerate(runs):
        for image in _left_out(run, card):
            run_of.setdefault(image, number)
    images = [field.image.resolve() for field in fields.fields]
    lacking = [image for image in dict.fromkeys(images) if image not in run_of]
    if lacking:
        raise ConfigError(
            f"candidates: {len(lacking)} of {len(set(images))} training images were left out by "
            f"none of the {len(runs)} runs, such as {lacking[0]}: add the run that validated on "
            "them, or train on fewer fields"
        )
    found: dict[int, Candidates] = {}
    for number, run in enumerate(runs):
        own = [i for i, image in enumerate(images) if run_of[image] == number]
        part = replace(fields, fields=tuple(fields.fields[i] for i in own))
        if own:
            found |= zip(own, find_on(run / "model", part, floor, device), strict=True)
    return [found[i] for i in range(len(images))]


def easy_background(model: str) -> Doubt:
    """What is told where no runs are given."""
    return Doubt(
        code="background-in-fold",
        text=f"what looks like a cell is taken from {model} itself, which may have learned from "
        "these fields; give candidates, runs that left them out",
    )


def _left_out(run: Path, card: ModelCard) -> list[Path]:
    """The images that a run did not learn from."""
    config = run / "config.yaml"
    if not config.is_file():
        raise ConfigError(f"candidates: {run}: no folder of cytolibra train: it has no config.yaml")
    settings = load_config(config, TrainSettings)
    theirs = settings.model.classes, settings.data.mpp
    if theirs != (card.detector.classes, card.mpp):
        raise ConfigError(
            f"candidates: {run} looks at {theirs[1]:g} µm/px for {', '.join(theirs[0])}, "
            f"{card.name} at {card.mpp:g} for {', '.join(card.detector.classes)}"
        )
    fields = read_sources(settings.data, settings.model.classes).val
    return [field.image.resolve() for field in fields.fields]
