"""The table of a comparison: means and spreads over seeds, and paired differences to a baseline."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from itertools import product
from pathlib import Path

from scripts.comparison.comparison import (
    ComparisonSettings,
    is_done,
    planned,
    table_runs,
)
from scripts.comparison.judged import (
    MEAN,
    RECALL,
    Judged,
    difference,
    how_drawn,
    judge,
    markdown,
    merged_names,
    paired,
    schedule,
    spread,
)
from scripts.comparison.systems_table import systems_sections
from scripts.training.plots import draw_balance, read_balance

Cells = dict[tuple[str, str], list[Judged]]
"""The runs of each detector and loss; of cells that are empty, none."""


def judge_all(settings: ComparisonSettings, out: Path) -> list[Judged]:
    """The figures of the runs that are done, in the order of the plan."""
    return [judge(settings, out, run) for run in planned(settings, out) if is_done(out, run)]


def write_table(settings: ComparisonSettings, out: Path, judged: Sequence[Judged]) -> Path:
    """Writes ``table.md``, ``table.csv`` and ``gradients.png`` from what `judge_all` gives.

    Where the settings have systems, the table is of these (`scripts.comparison.systems_table`).

    Returns:
        The path of ``table.md``.
    """
    _write_csv(judged, out / "table.csv")
    _draw_gradients(settings, out)
    if settings.systems:
        sections = systems_sections(settings, out, judged)
    else:
        cells = _cells(settings, out, judged)
        sections = [
            schedule(settings, out),
            _means(settings, cells),
            _differences(settings, cells),
            _grid_scores(settings, judged),
        ]
    path = out / "table.md"
    path.write_text("\n\n".join(filter(None, sections)) + "\n", encoding="utf-8")
    return path


def _means(settings: ComparisonSettings, cells: Cells) -> str:
    groups = ["abnormal", "any", MEAN, *merged_names(settings), *settings.averaged, RECALL]
    parts = ["AP50 in percent, mean ± standard deviation over seeds"]
    for names in (groups, settings.base.model.classes):
        rows = [["detector", "loss", "seeds", *names]]
        for (detector, loss), runs in cells.items():
            if runs:
                values = (spread(runs, name) for name in names)
                rows.append([detector, loss, str(len(runs)), *values])
        parts.append(markdown(rows))
    return "\n\n".join([*parts, f"Not trained: {_empty(cells)}."])


def _empty(cells: Cells) -> str:
    losses: dict[str, list[str]] = {}
    for (detector, loss), runs in cells.items():
        if not runs:
            losses.setdefault(detector, []).append(loss)
    return "; ".join(f"{name} with {', '.join(of)}" for name, of in losses.items()) or "none"


def _differences(settings: ComparisonSettings, cells: Cells) -> str:
    """Each loss against the baseline with the same detector, seeds that both have, same fields."""
    names = ["abnormal", MEAN, *merged_names(settings)]
    judged = [one for runs in cells.values() for one in runs]
    rows = [["detector", "loss", "seeds", *names]]
    for (detector, loss), runs in cells.items():
        other = cells.get((detector, settings.baseline))
        if loss == settings.baseline or other is None:
            continue
        pairs = paired(runs, other)
        if pairs:
            values = (difference(pairs, name) for name in names)
            rows.append([detector, loss, str(len(pairs)), *values])
    if len(rows) == 1:
        return ""
    return (
        f"Difference to {settings.baseline} in points of AP50, with {how_drawn(judged)}\n\n"
        + markdown(rows)
    )


def _grid_scores(settings: ComparisonSettings, judged: Sequence[Judged]) -> str:
    tuning = settings.tuning
    if tuning is None:
        return ""
    scores = {
        (one.run.loss, one.run.weight): one.score
        for one in judged
        if (one.run.detector, one.run.seed) == (tuning.detector, tuning.seed)
    }
    rows = [["loss", *(f"weight {weight:g}" for weight in tuning.weights)]]
    for loss in dict.fromkeys(loss for loss, _ in scores):
        found = (scores.get((loss, weight)) for weight in tuning.weights)
        rows.append([loss, *("–" if value is None else f"{100 * value:.1f}" for value in found)])
    return "The grid: mean of abnormal, any and class mean\n\n" + markdown(rows)


def _cells(settings: ComparisonSettings, out: Path, judged: Sequence[Judged]) -> Cells:
    of_run = {one.run: one for one in judged}
    asked = {name for group in settings.runs for name in group.detectors}
    detectors = [name for name in settings.detectors if name in asked]
    cells: Cells = {pair: [] for pair in product(detectors, settings.losses)}
    for run in dict.fromkeys(table_runs(settings, out)):
        if run in of_run:
            cells[run.detector, run.loss].append(of_run[run])
    return cells


def _write_csv(judged: Sequence[Judged], path: Path) -> None:
    """Every figure of every run, a row each, for other tables."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["detector", "loss", "system", "weight", "seed", "figure", "value"])
        for one in judged:
            run = one.run
            names = (run.detector, run.loss, run.system, run.weight, run.seed)
            writer.writerows([*names, name, f"{v:.4f}"] for name, v in one.figures.items())


def _draw_gradients(settings: ComparisonSettings, out: Path) -> None:
    """The balance of gradients in one run of each loss, by the grid's detector and seed.

    Records of runs don't have it.
    """
    tuning = settings.tuning
    if tuning is None:
        return
    files = {
        run.loss: out / run.folder / "gradients.csv"
        for run in table_runs(settings, out)
        if (run.detector, run.seed) == (tuning.detector, tuning.seed) and is_done(out, run)
    }
    runs = {loss: read_balance(path) for loss, path in files.items() if path.exists()}
    if runs:
        draw_balance(runs, out / "gradients.png")
