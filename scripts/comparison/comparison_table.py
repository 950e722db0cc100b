"""The table of a comparison: means and spreads over seeds, and paired differences to a baseline."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data.evaluation import Matches, load_cells, match_classes, pool, pooled_classes
from data.evaluation.bootstrap import draw_fields, interval, resampled_ap
from pipeline.cells.classes import HIGH_GRADE, LOW_GRADE, group_by_grade, name_classes
from scripts.comparison.comparison import (
    ComparisonSettings,
    Run,
    is_done,
    planned,
    table_runs,
    tuned_weight,
)
from scripts.training.plots import draw_balance, read_balance

LEVEL = 0.95
"""Of the intervals of differences."""

MEAN = "class mean"
RECALL = "mean recall"


@dataclass(frozen=True)
class Judged:
    """The figures of one run.

    Attributes:
        run: which.
        figures: value by name.
        rounds: for each figure of precision, its (rounds,) values with the fields drawn anew.
    """

    run: Run
    figures: Mapping[str, float]
    rounds: Mapping[str, NDArray[np.float64]]

    @property
    def score(self) -> float:
        """What the grid goes by; as in `data.evaluation.field_metrics`."""
        return float(np.nanmean([self.figures[name] for name in ("abnormal", "any", MEAN)]))


Cells = dict[tuple[str, str], list[Judged]]
"""The runs of each detector and loss; of cells that are empty, none."""


def write_table(settings: ComparisonSettings, out: Path) -> Path:
    """Writes ``table.md``, ``table.csv`` and ``gradients.png`` from the runs that are done.

    Returns:
        The path of ``table.md``.
    """
    runs = [run for run in planned(settings, out) if is_done(out, run)]
    judged = [judge(settings, out, run) for run in runs]
    _write_csv(judged, out / "table.csv")
    _draw_gradients(settings, out)
    cells = _cells(settings, out, judged)
    sections = [
        _schedule(settings, out),
        _means(settings, cells),
        _differences(settings, cells),
        _grid_scores(settings, judged),
    ]
    path = out / "table.md"
    path.write_text("\n\n".join(filter(None, sections)) + "\n", encoding="utf-8")
    return path


def judge(settings: ComparisonSettings, out: Path, run: Run) -> Judged:
    """Average precision at IoU 0.5 by class and by group, and the recall."""
    truth, found = load_cells(out / run.folder / "validation.npz")
    classes = settings.base.model.classes
    of_class = dict(zip(classes, match_classes(truth, found, len(classes)), strict=True))
    of_group = {
        name: match_classes(*pool(truth, found, members), 1)[0]
        for name, members in _merged_classes(settings).items()
    }
    parts, means = {**of_class, **of_group}, {MEAN: classes, **settings.averaged}
    once = np.ones((1, len(truth)), np.int64)
    figures = {name: float(value[0]) for name, value in _figures(parts, means, once).items()}
    figures[RECALL] = float(np.nanmean([_recall(matches) for matches in of_class.values()]))
    return Judged(run, figures, _figures(parts, means, draw_fields(len(truth))))


def _merged_classes(settings: ComparisonSettings) -> dict[str, NDArray[np.intp]]:
    """Grades by their one definition, what the settings add or name otherwise, and all."""
    model = settings.base.model
    groups = settings.merged.items()
    graded = group_by_grade(name_classes(model.classes, model.is_abnormal))
    grades = {name: np.array(graded[name]) for name in (LOW_GRADE, HIGH_GRADE) if name in graded}
    merged = {name: np.flatnonzero(np.isin(model.classes, group)) for name, group in groups}
    return grades | merged | pooled_classes(model.is_abnormal)


def _merged_names(settings: ComparisonSettings) -> list[str]:
    return [name for name in _merged_classes(settings) if name not in ("abnormal", "any")]


def _figures(
    parts: Mapping[str, Sequence[Matches]],
    means: Mapping[str, Sequence[str]],
    times: NDArray[np.int64],
) -> dict[str, NDArray[np.float64]]:
    """Every figure in every round; classes that a round did not draw are left out of its means."""
    ap = {name: resampled_ap(by_field, times) for name, by_field in parts.items()}
    averaged = {name: _mean([ap[member] for member in group]) for name, group in means.items()}
    return {**averaged, **ap}


def _mean(values: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Over the classes that are there; NaN in rounds that drew none of them."""
    stacked = np.stack(values)
    there = ~np.isnan(stacked)
    total = np.where(there, stacked, 0).sum(axis=0)
    return np.divide(total, there.sum(axis=0), out=np.full(len(total), np.nan), where=there.any(0))


def _recall(by_field: Sequence[Matches]) -> float:
    cells = sum(part.cells for part in by_field)
    return sum(int(part.hits.sum()) for part in by_field) / cells if cells else float("nan")


def _schedule(settings: ComparisonSettings, out: Path) -> str:
    loop, tuning = settings.base.loop, settings.tuning
    weights = {name: tuned_weight(settings, out, name) for name in settings.losses}
    found = ", ".join(f"{name} {weight:g}" for name, weight in weights.items() if weight)
    return (
        f"{loop.epochs * loop.steps} steps of {loop.batch_size} crops of "
        f"{settings.base.data.crops.size} px at {settings.base.data.mpp} µm/px; the same schedule, "
        f"prior ({settings.base.model.prior_probability}) and normaliser "
        f"({settings.base.model.normaliser}) for all. Weight of each loss, the best of "
        f"{', '.join(f'{w:g}' for w in tuning.weights)} for {tuning.detector} with seed "
        f"{tuning.seed}: {found}."
    )


def _means(settings: ComparisonSettings, cells: Cells) -> str:
    groups = ["abnormal", "any", MEAN, *_merged_names(settings), *settings.averaged, RECALL]
    parts = ["AP50 in percent, mean ± standard deviation over seeds"]
    for names in (groups, settings.base.model.classes):
        rows = [["detector", "loss", "seeds", *names]]
        for (detector, loss), runs in cells.items():
            if runs:
                values = (_spread(runs, name) for name in names)
                rows.append([detector, loss, str(len(runs)), *values])
        parts.append(_markdown(rows))
    return "\n\n".join([*parts, f"Not trained: {_empty(cells)}."])


def _empty(cells: Cells) -> str:
    losses: dict[str, list[str]] = {}
    for (detector, loss), runs in cells.items():
        if not runs:
            losses.setdefault(detector, []).append(loss)
    return "; ".join(f"{name} with {', '.join(of)}" for name, of in losses.items()) or "none"


def _differences(settings: ComparisonSettings, cells: Cells) -> str:
    """Each loss against the baseline with the same detector, seeds that both have, same fields."""
    names = ["abnormal", MEAN, *_merged_names(settings)]
    rows = [["detector", "loss", "seeds", *names]]
    for (detector, loss), runs in cells.items():
        other = cells.get((detector, settings.baseline))
        if loss == settings.baseline or other is None:
            continue
        pairs = _pairs(runs, other)
        if pairs:
            values = (_difference(pairs, name) for name in names)
            rows.append([detector, loss, str(len(pairs)), *values])
    if len(rows) == 1:
        return ""
    return (
        f"Difference to {settings.baseline} in points of AP50, with {LEVEL:.0%} intervals by "
        "drawing fields anew, the same for both\n\n" + _markdown(rows)
    )


def _pairs(runs: Sequence[Judged], other: Sequence[Judged]) -> list[tuple[Judged, Judged]]:
    by_seed = {one.run.seed: one for one in other}
    return [(one, by_seed[one.run.seed]) for one in runs if one.run.seed in by_seed]


def _difference(pairs: Sequence[tuple[Judged, Judged]], name: str) -> str:
    point = np.mean([a.figures[name] - b.figures[name] for a, b in pairs])
    rounds = np.mean([a.rounds[name] - b.rounds[name] for a, b in pairs], axis=0)
    low, high = interval(rounds, LEVEL)
    return f"{100 * point:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"


def _grid_scores(settings: ComparisonSettings, judged: Sequence[Judged]) -> str:
    tuning = settings.tuning
    scores = {
        (one.run.loss, one.run.weight): one.score
        for one in judged
        if (one.run.detector, one.run.seed) == (tuning.detector, tuning.seed)
    }
    rows = [["loss", *(f"weight {weight:g}" for weight in tuning.weights)]]
    for loss in dict.fromkeys(loss for loss, _ in scores):
        found = (scores.get((loss, weight)) for weight in tuning.weights)
        rows.append([loss, *("–" if value is None else f"{100 * value:.1f}" for value in found)])
    return "The grid: mean of abnormal, any and class mean\n\n" + _markdown(rows)


def _cells(settings: ComparisonSettings, out: Path, judged: Sequence[Judged]) -> Cells:
    of_run = {one.run: one for one in judged}
    cells: Cells = {pair: [] for pair in product(settings.detectors, settings.losses)}
    for run in dict.fromkeys(table_runs(settings, out)):
        if run in of_run:
            cells[run.detector, run.loss].append(of_run[run])
    return cells


def _spread(runs: Sequence[Judged], name: str) -> str:
    if not runs:
        return "–"
    values = [100 * one.figures[name] for one in runs]
    spread = f" ± {np.std(values, ddof=1):.1f}" if len(values) > 1 else ""
    return f"{np.mean(values):.1f}{spread}"


def _markdown(rows: Sequence[Sequence[str]]) -> str:
    head, *body = (f"| {' | '.join(row)} |" for row in rows)
    return "\n".join([head, "|---" * len(rows[0]) + "|", *body])


def _write_csv(judged: Sequence[Judged], path: Path) -> None:
    """Every figure of every run, a row each, for other tables."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["detector", "loss", "weight", "seed", "figure", "value"])
        for one in judged:
            run = (one.run.detector, one.run.loss, one.run.weight, one.run.seed)
            writer.writerows([*run, name, f"{v:.4f}"] for name, v in one.figures.items())


def _draw_gradients(settings: ComparisonSettings, out: Path) -> None:
    """The balance of gradients in one run of each loss, by the grid's detector and seed."""
    tuning = settings.tuning
    runs = {
        run.loss: read_balance(out / run.folder / "gradients.csv")
        for run in table_runs(settings, out)
        if (run.detector, run.seed) == (tuning.detector, tuning.seed) and is_done(out, run)
    }
    if runs:
        draw_balance(runs, out / "gradients.png")
