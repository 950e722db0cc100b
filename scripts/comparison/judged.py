"""What the runs of a comparison are judged by, and how figures of several stand in a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from configs import ConfigError
from data.arrays import BROKEN, open_arrays
from data.evaluation import Matches, join, load_cells, match_classes, pool, pooled_classes
from data.evaluation.bootstrap import draw_fields, interval, mean_of_classes, resampled_ap
from pipeline.cells.classes import HIGH_GRADE, LOW_GRADE, group_by_grade, name_classes
from scripts.comparison.comparison import ComparisonSettings, Run, says_weight, tuned_weight

LEVEL = 0.95
"""Of the intervals of differences."""

MEAN = "class mean"
RECALL = "mean recall"

ROUNDS = 1000
"""In which fields are drawn anew."""

CELLS, JUDGED = "validation.npz", "judged.npz"
"""What a run found; and of a record its figures."""


@dataclass(frozen=True)
class Judged:
    """The figures of one run.

    Attributes:
        run: which.
        figures: value by name.
        rounds: for each figure of precision, its (rounds,) values with the fields drawn anew;
            the same draws for all runs of so many fields.
        fields: how many it was judged by.
    """

    run: Run
    figures: Mapping[str, float]
    rounds: Mapping[str, NDArray[np.float64]]
    fields: int

    @property
    def score(self) -> float:
        """What the grid goes by; as in `data.evaluation.field_metrics`."""
        return float(np.nanmean([self.figures[name] for name in ("abnormal", "any", MEAN)]))


def judge(settings: ComparisonSettings, out: Path, run: Run) -> Judged:
    """Average precision at IoU 0.5 by class and by group, and the recall.

    Raises:
        ConfigError: what the run found, or its record, is damaged; or a record lacks a figure.
    """
    folder = out / run.folder
    if not (folder / CELLS).exists() and (folder / JUDGED).exists():
        return _read(settings, run, folder / JUDGED)
    truth, found = load_cells(folder / CELLS)
    classes = settings.base.model.classes
    of_class = dict(zip(classes, match_classes(truth, found, len(classes)), strict=True))
    of_group = {
        name: match_classes(*pool(truth, found, members), 1)[0]
        for name, members in _merged_classes(settings).items()
    }
    parts, means = {**of_class, **of_group}, {MEAN: classes, **settings.averaged}
    once = np.ones((1, len(truth)), np.int64)
    figures = {name: float(value[0]) for name, value in _figures(parts, means, once).items()}
    figures[RECALL] = float(np.nanmean([join(matches).recall for matches in of_class.values()]))
    return Judged(run, figures, _figures(parts, means, draw_fields(len(truth), ROUNDS)), len(truth))


def save_judged(judged: Judged, path: Path) -> None:
    """Keeps the figures of a run; `judge` takes them where what the run found is not at hand."""
    names = list(judged.rounds)
    with path.open("wb") as file:
        np.savez_compressed(
            file,
            names=np.array([*names, RECALL]),
            figures=np.array([judged.figures[name] for name in (*names, RECALL)]),
            # To a thousandth of a point: a third of the bytes.
            rounds=np.array([judged.rounds[name] for name in names]).round(5).astype(np.float32),
            fields=np.array(judged.fields),
        )


def _read(settings: ComparisonSettings, run: Run, path: Path) -> Judged:
    """What `save_judged` kept.

    Raises:
        ConfigError: it is damaged, or lacks a figure that the settings ask for.
    """
    try:
        with open_arrays(path.read_bytes()) as arrays:
            names = [str(name) for name in arrays["names"].tolist()]
            figures = dict(zip(names, arrays["figures"].astype(float).tolist(), strict=True))
            rounds = dict(zip(names[:-1], arrays["rounds"].astype(np.float64), strict=True))
            judged = Judged(run, figures, rounds, int(arrays["fields"].item()))
    except BROKEN as error:
        raise ConfigError(f"{path}: is no record of a run: {error}") from error
    groups = _merged_classes(settings)
    wanted = (*settings.base.model.classes, *groups, MEAN, *settings.averaged)
    if lacking := [name for name in wanted if name not in rounds]:
        raise ConfigError(f"{path}: a record that lacks {', '.join(lacking)}")
    if any(values.shape != (ROUNDS,) for values in rounds.values()):
        raise ConfigError(f"{path}: a record of another number of rounds than {ROUNDS}")
    return judged


def _merged_classes(settings: ComparisonSettings) -> dict[str, NDArray[np.intp]]:
    """Grades by their one definition, what the settings add or name otherwise, and all."""
    model = settings.base.model
    groups = settings.merged.items()
    graded = group_by_grade(name_classes(model.classes, model.is_abnormal))
    grades = {name: np.array(graded[name]) for name in (LOW_GRADE, HIGH_GRADE) if name in graded}
    merged = {name: np.flatnonzero(np.isin(model.classes, group)) for name, group in groups}
    return grades | merged | pooled_classes(model.is_abnormal)


def merged_names(settings: ComparisonSettings) -> list[str]:
    """The grades, and what the settings merge beside them."""
    return [name for name in _merged_classes(settings) if name not in ("abnormal", "any")]


def _figures(
    parts: Mapping[str, Sequence[Matches]],
    means: Mapping[str, Sequence[str]],
    times: NDArray[np.int64],
) -> dict[str, NDArray[np.float64]]:
    """Every figure in every round; means are of the classes that have cells."""
    ap = {name: resampled_ap(by_field, times) for name, by_field in parts.items()}
    judged = {name: any(part.cells for part in by_field) for name, by_field in parts.items()}
    averaged = {
        name: mean_of_classes([ap[c] for c in group], [judged[c] for c in group], len(times))
        for name, group in means.items()
    }
    return {**averaged, **ap}


def paired(runs: Sequence[Judged], other: Sequence[Judged]) -> list[tuple[Judged, Judged]]:
    """Those of the same seed.

    Raises:
        ConfigError: they were judged by other fields.
    """
    by_seed = {one.run.seed: one for one in other}
    pairs = [(one, by_seed[one.run.seed]) for one in runs if one.run.seed in by_seed]
    for one, beside in pairs:
        if one.fields != beside.fields:
            raise ConfigError(
                f"{one.run.folder} was judged by {one.fields} fields, {beside.run.folder} by "
                f"{beside.fields}: they can't be compared in pairs"
            )
    return pairs


def difference(pairs: Sequence[tuple[Judged, Judged]], name: str) -> str:
    """In points, with its interval; of the mean over pairs."""
    point = np.mean([a.figures[name] - b.figures[name] for a, b in pairs])
    rounds = np.mean([a.rounds[name] - b.rounds[name] for a, b in pairs], axis=0)
    low, high = interval(rounds, LEVEL)
    return f"{100 * point:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"


def spread(runs: Sequence[Judged], name: str) -> str:
    """Mean and standard deviation over seeds, in percent."""
    if not runs:
        return "–"
    values = [100 * one.figures[name] for one in runs]
    error = f" ± {np.std(values, ddof=1):.1f}" if len(values) > 1 else ""
    return f"{np.mean(values):.1f}{error}"


def how_drawn(judged: Sequence[Judged]) -> str:
    """How the intervals of differences came about, in words."""
    told = f"{LEVEL:.0%} intervals by drawing fields anew, the same for both"
    for one in judged[:1]:
        rounds = one.rounds[MEAN]
        drew_all = int((~np.isnan(rounds)).sum())
        told += (
            f"; of {len(rounds):,} rounds the class mean has the {drew_all:,} that drew them all"
        )
    return told


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """A table; the first row is its head."""
    head, *body = (f"| {' | '.join(row)} |" for row in rows)
    return "\n".join([head, "|---" * len(rows[0]) + "|", *body])


def schedule(settings: ComparisonSettings, out: Path) -> str:
    """What all runs have in common, in words."""
    loop, tuning = settings.base.loop, settings.tuning
    weights = {name: tuned_weight(settings, out, name) for name in settings.losses}
    found = ", ".join(f"{name} {weight:g}" for name, weight in weights.items() if weight)
    chosen = "as configured"
    if tuning is not None:
        grid = ", ".join(f"{w:g}" for w in tuning.weights)
        chosen = f"the best of {grid} for {tuning.detector} with seed {tuning.seed}"
        given = [name for name in settings.losses if says_weight(settings, name)]
        chosen += f", but as configured for {', '.join(given)}" if given else ""
    return (
        f"{loop.epochs * loop.steps} steps of {loop.batch_size} crops of "
        f"{settings.base.data.crops.size} px at {settings.base.data.mpp} µm/px; the same schedule, "
        f"prior ({settings.base.model.prior_probability}) and normaliser "
        f"({settings.base.model.normaliser}) for all. Weight of each loss, {chosen}: {found}."
    )
