"""What detectors take for cells on fields that they did not learn from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from configs import ConfigError, Doubt, load_config
from data.boxes import box_iou
from data.crops.grades import SAME_CELL
from data.fields.fieldset import FieldSet
from data.fields.images import ImageError
from data.thinning import evenly
from models import ModelCard, load_detector
from pipeline.network.detector import RuntimeSettings, TileDetector
from scripts.candidates import (
    Candidates,
    detect_fields,
    find_candidates,
    nothing_found,
    strongest,
)
from scripts.slides import images_of
from scripts.training.settings import TrainSettings
from scripts.training.sources import read_sources

LEAST_FLOOR = 0.05
"""No place with a lower score is looked at again: torchvision's own limit."""

SAMPLE = 12
"""Fields by which the floor is settled."""


@dataclass(frozen=True)
class Finder:
    """A model, and the fields that it did not learn from, as far as anybody knows.

    Attributes:
        model: its name or folder.
        rows: indices of the fields.
    """

    model: str | Path
    rows: Sequence[int]


def assign_finders(runs: Sequence[Path], card: ModelCard, fields: FieldSet) -> list[Finder]:
    """For each field the first run that did not learn from it.

    Args:
        runs: folders of ``cytolibra train``, with different fields left out.
        card: of the model for which it is: what its detector and theirs have in common.
        fields: small enough to be taken whole; see `data.fields.regions.cut_fields`.

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
    rows = [[i for i, image in enumerate(images) if run_of[image] == k] for k in range(len(runs))]
    return [Finder(run / "model", own) for run, own in zip(runs, rows, strict=True) if own]


def find_on(
    finders: Sequence[Finder],
    fields: FieldSet,
    floor: float,
    device: str = "auto",
    least: float | None = None,
) -> list[Candidates]:
    """What models find on fields, and what of it a grader looks at again.

    In fp32, whatever a model prefers: what is learned from should not depend on the machine. On a
    field that can't be read nothing is found; whoever needs its pixels tells so.

    Args:
        finders: one for each field.
        fields: see `assign_finders`.
        floor: least score of what is looked at again.
        device: on which they run.
        least: least score of what is found at all, where that is lower.

    Raises:
        ConfigError: the scale of a field is unknown.
        ModelFileError: there is no such model.
    """
    found: dict[int, Candidates] = {}
    for finder in finders:
        part = replace(fields, fields=tuple(fields.fields[i] for i in finder.rows))
        detector = _detector(finder.model, min(floor, least or floor), device)
        nothing = nothing_found(len(fields.classes))
        for row, one in zip(
            finder.rows, detect_fields(detector, images_of(part), part), strict=True
        ):
            known = nothing if isinstance(one, ImageError) else strongest(one)
            found[row] = find_candidates(known, detector.card, floor)
    return [found[i] for i in range(len(fields.fields))]


def settle_floor(
    finders: Sequence[Finder], fields: FieldSet, places_a_cell: float, device: str = "auto"
) -> float:
    """The score from which on there are so many places for each annotated cell.

    What a score means differs by the detector's loss: from 0.1 on one finds four places a cell,
    another forty. Some fields tell.

    Args:
        finders: see `find_on`.
        fields: likewise.
        places_a_cell: how many places a cell there are to be.
        device: on which the detector runs.

    Returns:
        A score of two decimals, no lower than `LEAST_FLOOR`.
    """
    finder = finders[0]
    rows = [finder.rows[i] for i in evenly(len(finder.rows), SAMPLE)]
    part = replace(fields, fields=tuple(fields.fields[i] for i in rows))
    everything = range(len(rows))
    found = find_on([Finder(finder.model, everything)], part, LEAST_FLOOR, device)
    scores = np.sort(np.concatenate([one.scores for one in found]))[::-1]
    wanted = int(places_a_cell * sum(part.class_counts()))
    if not wanted or len(scores) <= wanted:
        return LEAST_FLOOR
    return max(LEAST_FLOOR, float(np.floor(100 * scores[wanted]) / 100))


def recall_of(fields: FieldSet, found: Sequence[Candidates]) -> float:
    """Share of the annotated cells that have a place; NaN without cells."""
    hits = [
        box_iou(field.boxes[~field.crowd], one.places.boxes).max(axis=1, initial=0) >= SAME_CELL
        for field, one in zip(fields.fields, found, strict=True)
    ]
    each = np.concatenate(hits)
    return float(each.mean()) if len(each) else float("nan")


def _detector(model: str | Path, least: float, device: str) -> TileDetector:
    settings = RuntimeSettings(device=device, precision="fp32")
    return TileDetector(load_detector(model), settings, least)


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
