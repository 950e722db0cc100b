"""A comparison of detectors and losses: which runs it takes, and making them, each once."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from pydantic import Field, PositiveFloat, field_validator, model_validator
from rich.console import Console

from configs import ConfigError, Doubt, StrictModel, validate
from models.card import ModelCard
from pipeline.batch.lock import InUseError, hold
from scripts.comparison.compared_loss import ComparedLossConfig
from scripts.training.run import run_training
from scripts.training.settings import TrainSettings

RESULT = "result.json"
"""Written last: a run is done when it is there."""


class RunGroup(StrictModel):
    """Every one of ``detectors`` with every one of ``losses`` and ``systems``, once a seed.

    Attributes:
        detectors: by the names of `detectors`.
        losses: by the names of `losses`.
        seeds: a training for each.
        systems: by the names of `systems`; the recipe as it is where there are none.
    """

    detectors: tuple[str, ...] = Field(min_length=1)
    losses: tuple[str, ...] = Field(min_length=1)
    seeds: tuple[int, ...] = Field((0,), min_length=1)
    systems: tuple[str, ...] = ()


class TuningSettings(StrictModel):
    """The grid by which each loss gets its weight beside the box losses.

    Losses differ in scale, so that at one weight they would not be compared but their scales.
    Every loss gets the best of the same ``weights``, by the ``score`` on data.val of ``detector``
    with this ``seed``; the other detectors take the weight that was found there. A loss whose own
    settings say a weight keeps it, and costs no trainings.

    Attributes:
        detector: by whose trainings weights are chosen.
        weights: that are tried.
        seed: of these trainings.
    """

    detector: str
    weights: tuple[PositiveFloat, ...] = Field(min_length=1)
    seed: int = 0

    @field_validator("weights")
    @classmethod
    def _are_apart(cls, weights: tuple[float, ...]) -> tuple[float, ...]:
        name, count = Counter(f"{weight:g}" for weight in weights).most_common(1)[0]
        if count > 1:
            raise ValueError(
                f"{count} of them are {name}, as folders have them to six digits; leave one"
            )
        return weights


class ComparisonSettings(StrictModel):
    """A table of detectors, losses and what else is added to one recipe.

    Attributes:
        base: the recipe; its detector and loss are replaced.
        detectors: for each name of a detector, what differs from ``base.model``, but for its loss.
        losses: the losses, by the names that the table gives them.
        baseline: the loss that the others are measured against.
        systems: for each name of a system, what differs from ``base``, but for detector, loss and
            seed; with `plain`, a table of systems is written.
        plain: the system that the others are measured against.
        tuning: how each loss gets its weight; None: as it stands in ``losses``.
        runs: what to train, in this order.
        merged: groups of classes that are judged as one class, beside low and high grade.
        averaged: groups of classes whose AP50 is averaged.
    """

    base: TrainSettings
    detectors: dict[str, dict[str, Any]]
    losses: dict[str, ComparedLossConfig]
    baseline: str
    systems: dict[str, dict[str, Any]] = Field(default_factory=dict)
    plain: str | None = None
    tuning: TuningSettings | None = None
    runs: tuple[RunGroup, ...] = Field(min_length=1)
    merged: Mapping[str, tuple[str, ...]] = Field(default_factory=dict)
    averaged: Mapping[str, tuple[str, ...]] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _names_are_known(self) -> ComparisonSettings:
        detectors = {d for group in self.runs for d in group.detectors}
        detectors |= {self.tuning.detector} if self.tuning else set()
        _check_known(detectors, self.detectors, "detectors")
        systems = {name for group in self.runs for name in group.systems}
        systems |= {self.plain} if self.plain is not None else set()
        _check_known(systems, self.systems, "systems")
        if self.systems and self.plain is None:
            raise ValueError(
                "plain is missing: name the system that the others are measured against"
            )
        losses = {self.baseline, *(name for group in self.runs for name in group.losses)}
        _check_known(losses, self.losses, "losses")
        groups = {**self.merged, **self.averaged}.values()
        _check_known({c for group in groups for c in group}, self.base.model.classes, "classes")
        return self

    @model_validator(mode="after")
    def _rows_are_what_they_are_called(self) -> ComparisonSettings:
        for what, changes, keys in (
            ("detectors", self.detectors, ("name", "loss")),
            ("systems", self.systems, ("model.name", "model.loss", "loop.seed")),
        ):
            for name, change in changes.items():
                said = [key for key in keys if _says(change, key)]
                if said:
                    raise ValueError(
                        f"{what}.{name}: changes {', '.join(said)}, by which rows are called; "
                        "leave that to the detectors, losses and seeds of runs"
                    )
        return self


@dataclass(frozen=True)
class Run:
    """One training run of the table."""

    detector: str
    loss: str
    weight: float
    seed: int
    system: str = ""

    @property
    def folder(self) -> Path:
        """Where it lies in the comparison's folder."""
        name = f"weight{self.weight:g}-seed{self.seed}"
        return Path(self.detector, self.loss, self.system, name)


def run_comparison(settings: ComparisonSettings, out: Path, console: Console) -> None:
    """Makes the runs that are not yet there; several processes share them.

    Raises:
        ConfigError: a run in ``out`` was made with other settings or on other data, or one can't be
            started.
    """
    _check_startable(settings)
    check_made(settings, out)
    while waiting := [run for run in planned(settings, out) if not is_done(out, run)]:
        made = next((run for run in waiting if _make(settings, run, out, console)), None)
        if made is None:
            time.sleep(2)  # other processes are at the rest
        else:
            check_made(settings, out)  # before more hours go into what can't be compared


def planned(settings: ComparisonSettings, out: Path) -> list[Run]:
    """The runs whose weight is known: of each group the grid's, then those that it has settled."""
    runs = (
        run
        for group in settings.runs
        for part in (tuning_runs(settings, group.losses), _group_runs(settings, group, out))
        for run in part
    )
    return list(dict.fromkeys(runs))


def tuning_runs(settings: ComparisonSettings, losses: Sequence[str]) -> Iterator[Run]:
    """The grid of weights of those losses that don't say theirs; nothing without one."""
    tuning = settings.tuning
    if tuning is None:
        return
    asking = [loss for loss in losses if not says_weight(settings, loss)]
    for loss, weight in product(asking, tuning.weights):
        yield Run(tuning.detector, loss, weight, tuning.seed)


def says_weight(settings: ComparisonSettings, loss: str) -> bool:
    """Whether the settings of a loss say its weight, so that no grid is asked."""
    return settings.losses[loss].weight is not None


def table_runs(settings: ComparisonSettings, out: Path) -> Iterator[Run]:
    """The runs that the table is made of, of the losses whose weight the grid has settled."""
    for group in settings.runs:
        yield from _group_runs(settings, group, out)


def tuned_weight(settings: ComparisonSettings, out: Path, loss: str) -> float | None:
    """The weight with the best score in the grid; None before all of it is there.

    Where the loss says it itself, the one that stands in the settings; 1 without a grid.
    """
    said = settings.losses[loss].weight
    if said is not None or settings.tuning is None:
        return 1.0 if said is None else said
    scores = {
        run.weight: read_result(out, run)["figures"]["score"]
        for run in tuning_runs(settings, [loss])
        if is_done(out, run)
    }
    if len(scores) < len(settings.tuning.weights):
        return None
    return max(scores, key=lambda weight: scores[weight])


def is_done(out: Path, run: Run) -> bool:
    """Whether the run is complete."""
    return (out / run.folder / RESULT).is_file()


def read_result(out: Path, run: Run) -> dict[str, Any]:
    """``figures`` on the validation fields, ``seconds``, ``settings``, ``data`` of a run.

    Raises:
        ConfigError: the file is damaged.
    """
    path = out / run.folder / RESULT
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
        lacking = {"figures", "settings"} - set(result)
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(f"{path}: can't be read ({error}); remove its folder") from error
    if lacking or not isinstance(result["figures"], dict):
        raise ConfigError(f"{path}: is no result of a run; remove its folder")
    return result


def run_settings(settings: ComparisonSettings, run: Run) -> TrainSettings:
    """The whole configuration of one run.

    Raises:
        ConfigError: the detector's changes or the loss don't fit.
    """
    loss = settings.losses[run.loss].model_dump() | {"weight": run.weight}
    values = _merged(settings.base.model_dump(), {"model": settings.detectors[run.detector]})
    values["model"] |= {"name": run.detector, "loss": loss}
    values["loop"]["seed"] = run.seed
    called = f"{run.detector} with {run.loss}"
    if run.system:
        values = _merged(values, settings.systems[run.system])
        called += f", {run.system}"
    return validate(values, TrainSettings, called)


def _group_runs(settings: ComparisonSettings, group: RunGroup, out: Path) -> Iterator[Run]:
    systems = group.systems or ("",)
    for detector, loss, seed, system in product(
        group.detectors, group.losses, group.seeds, systems
    ):
        weight = tuned_weight(settings, out, loss)
        if weight is not None:
            yield Run(detector, loss, weight, seed, system)


def check_made(settings: ComparisonSettings, out: Path) -> tuple[Doubt, ...]:
    """Looks whether all runs that are done were made with these settings, and on the same data.

    What the same settings name may have changed: annotations that were corrected, files of the same
    name elsewhere.

    Returns:
        That runs don't say on which data they were made, if some don't.

    Raises:
        ConfigError: one was made with others, or was made or judged on other data than another, or
            its result is damaged: a table tells of one set.
    """
    first: dict[str, tuple[Path, str]] = {}
    silent = []
    for run in planned(settings, out):
        if not is_done(out, run):
            continue
        result, wanted = read_result(out, run), run_settings(settings, run)
        if result["settings"] != digest(wanted):
            raise ConfigError(_of_other_settings(out / run.folder))
        if (told := result.get("data")) is None:
            silent.append(run)
            continue
        for part, content in told.items():
            named = wanted.data.model_dump_json(include={part})
            folder, known = first.setdefault(named, (run.folder, content))
            if content != known:
                raise ConfigError(
                    f"{out / run.folder}: was made with other content of data.{part} than "
                    f"{folder}: annotations or images have changed between; remove the runs of "
                    "the one or the other"
                )
    if not silent:
        return ()
    text = f"{len(silent)} runs, {silent[0].folder} first, don't say on which data they were made"
    return (Doubt(code="data-unstated", text=text),)


def _of_other_settings(folder: Path) -> str:
    if (folder / "config.yaml").exists():
        return (
            f"{folder}: was made with other settings (its config.yaml has them); remove it, or "
            "name another folder with --out"
        )
    return (
        f"{folder}: was taken from the record of a run with other settings; give those, or leave "
        "--records and name another folder with --out"
    )


def _check_startable(settings: ComparisonSettings) -> None:
    """Tells what is wrong before the first hour has gone."""
    weight = settings.tuning.weights[0] if settings.tuning else 1.0
    wanted = {
        parts
        for group in settings.runs
        for parts in product(group.detectors, group.losses, group.systems or ("",))
    }
    for detector, loss, system in sorted(wanted):
        run_settings(settings, Run(detector, loss, weight, 0, system))


def _make(settings: ComparisonSettings, run: Run, out: Path, console: Console) -> bool:
    """Makes a run; False where another process is at it or has made it."""
    folder = out / run.folder
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with hold(folder, command=("cytolibra", *sys.argv[1:])) as doubts:
            if is_done(out, run):
                return False
            for doubt in doubts:
                console.print(f"warning: {doubt}", markup=False, highlight=False, soft_wrap=True)
            console.print(f"[bold]{run.folder}[/bold]", highlight=False)
            _train(run_settings(settings, run), folder, console)
    except InUseError:
        return False
    return True


def _train(settings: TrainSettings, folder: Path, console: Console) -> None:
    started = time.monotonic()
    card = run_training(settings, folder, None, console)
    shutil.rmtree(folder / "checkpoints")  # the model stays, the optimiser's state is of no use
    result = {
        "figures": card.metrics,
        "seconds": round(time.monotonic() - started, 1),
        "settings": digest(settings),
        "data": _content(card),
    }
    part = folder / f"{RESULT}.part"
    part.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    part.replace(folder / RESULT)


def _content(card: ModelCard) -> dict[str, str]:
    """For ``train`` and ``val`` a digest of annotations and images, whatever they are called."""
    parts: dict[str, list[str]] = {}
    for source in card.training["sources"]:
        sums = [source["annotations_sha256"], source["images_sha256"]]
        parts.setdefault(source["part"], []).extend(sums)
    return {part: _short("\n".join(sums)) for part, sums in parts.items()}


def digest(settings: TrainSettings) -> str:
    """By which it is known whether two runs have the same settings."""
    # Without what is off, so that an option which later versions bring changes no run of before;
    # and of paths the last part alone, so that runs can go on where the files lie elsewhere.
    told = json.dumps(settings.model_dump(exclude_none=True), default=_place_apart)
    return _short(told)


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _place_apart(value: object) -> str:
    if isinstance(value, Path):
        return value.name
    raise TypeError(f"settings of a {type(value).__name__} have no digest")


def _merged(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """``values`` with ``changes``, group by group."""
    result = dict(values)
    for key, change in changes.items():
        inner = result.get(key)
        if isinstance(inner, Mapping) and isinstance(change, Mapping):
            change = _merged(inner, change)
        result[key] = change
    return result


def _says(changes: Any, key: str) -> bool:
    """Whether changes have a dotted key."""
    for part in key.split("."):
        if not isinstance(changes, Mapping) or part not in changes:
            return False
        changes = changes[part]
    return True


def _check_known(names: set[str], known: Any, what: str) -> None:
    unknown = sorted(names - set(known))
    if unknown:
        raise ValueError(f"{', '.join(unknown)}: not among the {what} {', '.join(known)}")
