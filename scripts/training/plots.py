"""Pictures of a training run."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

Balance = Mapping[str, Sequence[tuple[int, float, float]]]
"""For each class, in order, rows of step, ratio r of positive to negative gradient, and share."""


def read_balance(path: Path) -> Balance:
    """The rows of a ``gradients.csv``."""
    classes: dict[str, list[tuple[int, float, float]]] = {}
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            values = int(row["step"]), float(row["ratio"]), float(row["share"])
            classes.setdefault(row["class"], []).append(values)
    return classes


def draw_balance(runs: Mapping[str, Balance], path: Path) -> None:
    """Ratio and share of every class over the steps, a column a run, after the paper's figure 3."""
    figure = Figure(figsize=(1.2 + 3.2 * len(runs), 5.6), layout="constrained")
    axes = figure.subplots(2, len(runs), sharex=True, sharey="row", squeeze=False)
    for (name, balance), (ratio, share) in zip(runs.items(), axes.T, strict=True):
        _draw_run(balance, ratio, share)
        ratio.set_title(name, fontsize=10)
        share.set_xlabel("step")
    axes[0, 0].set_ylabel("gradient ratio r = positive / negative")
    axes[1, 0].set_ylabel("share of all gradient")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", fontsize=9)
    figure.savefig(path, dpi=110)


def _draw_run(balance: Balance, ratio: Axes, share: Axes) -> None:
    # r is 1 where positives and negatives are in balance; classes differ by factors.
    ratio.set_yscale("log")
    ratio.axhline(1.0, color="grey", linewidth=0.8, linestyle=":")
    for name, rows in balance.items():
        steps, ratios, shares = zip(*rows, strict=True)
        ratio.plot(steps, [max(r, 1e-4) for r in ratios], label=name, linewidth=1.2)
        share.plot(steps, shares, linewidth=1.2)
    for axis in (ratio, share):
        axis.grid(alpha=0.25)
