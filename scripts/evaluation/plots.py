"""The figures of an evaluation as pictures; each function gives an SVG element."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import ParamSpec

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from data.evaluation import FROC_RATES, Curve, join, trace
from pipeline.cells.classes import HIGH_GRADE, LOW_GRADE, class_colors, name_classes
from scripts.evaluation.evidence import Evidence
from scripts.evaluation.figures import NAMED, Figures
from scripts.evaluation.svg import ACCENT, INK, LINE, MUTED, PAPER, STYLE, to_svg

P = ParamSpec("P")

POOLED = {"abnormal": ACCENT, LOW_GRADE: "#c26a00", HIGH_GRADE: "#b3202a", "any": MUTED}
TITLES = {
    "abnormal": "abnormal, merged",
    LOW_GRADE: "low grade",
    HIGH_GRADE: "high grade",
    "any": "any cell",
    NAMED: "under its own name",
}
CALIBRATED = (NAMED, "abnormal", "any")


def _drawn(draw: Callable[P, tuple[Figure, str]]) -> Callable[P, str]:
    """Draws in the page's style."""

    @wraps(draw)
    def call(*arguments: P.args, **options: P.kwargs) -> str:
        with matplotlib.rc_context(STYLE):
            return to_svg(*draw(*arguments, **options))

    return call


def colors_of(evidence: Evidence) -> dict[str, str]:
    """The colour of each class, as in every report."""
    classes = name_classes(evidence.classes, evidence.abnormal)
    pairs = zip(evidence.classes, class_colors(classes), strict=True)
    return {name: "#{:02x}{:02x}{:02x}".format(*color) for name, color in pairs}


@_drawn
def draw_froc(evidence: Evidence, figures: Figures) -> tuple[Figure, str]:
    """Sensitivity by false positives, a field and a mm², with intervals."""
    panels = {"froc": (np.ones(len(evidence.truth)), "false positives a field")}
    if evidence.mm2 is not None:
        panels["froc_mm2"] = (evidence.mm2, "false positives a mm²")
    figure = Figure(figsize=(0.8 + 2.9 * len(panels), 2.9), layout="constrained")
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for (key, (sizes, label)), axis in zip(panels.items(), axes, strict=True):
        for group in figures["pooled"]:
            _draw_froc_curve(axis, evidence, figures, group, key, float(sizes.sum()))
        axis.set_xscale("log", base=2)
        axis.set_xlim(0.09, 11)
        axis.set_xticks(FROC_RATES, ["⅛", "¼", "½", "1", "2", "4", "8"])
        axis.minorticks_off()
        axis.set_xlabel(label)
        _percent(axis, "y")
    axes[0].set_ylabel("sensitivity")
    axes[0].legend(loc="lower right")
    return figure, "Free-response ROC: sensitivity by false positives"


def _draw_froc_curve(
    axis: Axes, evidence: Evidence, figures: Figures, group: str, key: str, size: float
) -> None:
    color, entry = POOLED[group], figures["pooled"][group]
    curve = trace(join(evidence.pooled[group]))
    bounds = np.array(list(entry[f"{key}_interval"].values()), np.float64)
    axis.fill_between(FROC_RATES, *bounds.T, color=color, alpha=0.13, linewidth=0)
    alarms = curve.false_alarms / size
    axis.plot(alarms, curve.sensitivity, color=color, drawstyle="steps-post", label=TITLES[group])
    axis.plot(FROC_RATES, list(entry[key].values()), "o", color=color, ms=3.5)
    at = join(evidence.reported_pooled[group])
    _mark(axis, (~at.hits).sum() / size, at.hits.sum() / max(at.cells, 1), color)


@_drawn
def draw_precision_recall(evidence: Evidence, figures: Figures) -> tuple[Figure, str]:
    """Precision by sensitivity, of the merged groups and of each class."""
    figure = Figure(figsize=(6.9, 2.9), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    for group, by_field in evidence.pooled.items():
        entry = figures["pooled"][group]
        _draw_pr_curve(left, trace(join(by_field)), entry, POOLED[group], TITLES[group])
    colors = colors_of(evidence)
    for name, by_field in zip(evidence.classes, evidence.by_class, strict=True):
        entry = figures["classes"][name]
        if entry["cells"]:
            label = f"{name} ({entry['cells']})"
            _draw_pr_curve(right, trace(join(by_field)), entry, colors[name], label)
    for axis in (left, right):
        axis.set_xlabel("sensitivity")
        _percent(axis, "x")
        _percent(axis, "y")
    left.set_ylabel("precision")
    left.legend(loc="lower left")
    if right.lines:
        right.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure, "Precision by sensitivity"


def _draw_pr_curve(axis: Axes, curve: Curve, entry: Figures, color: str, label: str) -> None:
    """Precision made monotone, as AP counts it; the dot is the model at its own threshold."""
    best = np.maximum.accumulate(curve.precision[::-1])[::-1]
    sensitivity = np.concatenate([[0.0], curve.sensitivity])
    precision = np.concatenate([best[:1] if len(best) else [0.0], best])
    axis.plot(sensitivity, precision, color=color, label=label, drawstyle="steps-pre")
    if entry["sensitivity"] is not None and entry["precision"] is not None:
        _mark(axis, entry["sensitivity"], entry["precision"], color)


@_drawn
def draw_confusion(confusion: Figures) -> tuple[Figure, str]:
    """A row a class of the truth, in shares of its cells, and counts."""
    counts, part = np.array(confusion["counts"]), np.array(confusion["shares"])
    rows, columns = counts.shape
    figure = Figure(figsize=(1.7 + 0.66 * columns, 0.7 + 0.42 * rows), layout="constrained")
    axis = figure.subplots()
    for row, column in np.ndindex(rows, columns):
        cell = int(counts[row, column]), float(part[row, column])
        _draw_cell(axis, row, column, *cell, corner=(row + 1, column + 1) == (rows, columns))
    axis.set_xlim(0, columns)
    axis.set_ylim(rows, 0)
    axis.set_xticks(np.arange(columns) + 0.5, confusion["columns"])
    axis.set_yticks(
        np.arange(rows) + 0.5,
        [f"{name}  {n:,}" for name, n in zip(confusion["rows"], counts.sum(axis=1), strict=True)],
    )
    axis.xaxis.tick_top()
    axis.xaxis.set_label_position("top")
    axis.set_xlabel("reported as")
    axis.set_ylabel("marked as")
    axis.spines[:].set_visible(False)
    axis.plot([columns - 1] * 2, [0, rows], color=LINE, linewidth=1.2)
    axis.plot([0, columns], [rows - 1] * 2, color=LINE, linewidth=1.2)
    return figure, "Confusion matrix"


def _draw_cell(axis: Axes, row: int, column: int, count: int, share: float, corner: bool) -> None:
    if corner:  # nothing marked and nothing reported can't be counted
        return
    tile = Rectangle((column + 0.03, row + 0.04), 0.94, 0.92, facecolor=ACCENT, linewidth=0)
    tile.set_alpha(0.03 + 0.97 * share)
    axis.add_patch(tile)
    color = PAPER if share > 0.55 else INK if count else MUTED
    text = f"{share:.0%}" if count else "·"
    axis.text(column + 0.5, row + 0.42, text, ha="center", va="center", color=color)
    if count:
        axis.text(
            column + 0.5, row + 0.75, f"{count:,}", ha="center", va="center", color=color, size=6.5
        )


@_drawn
def draw_calibration(
    calibration: Figures, names: Sequence[str] = CALIBRATED, right: str = "hits"
) -> tuple[Figure, str]:
    """Reliability diagrams: the share of what is said that is right by its score."""
    figure = Figure(figsize=(2.3 * len(names), 2.7), layout="constrained")
    for name, axis in zip(names, figure.subplots(1, len(names), sharey=True), strict=True):
        entry = calibration[name]
        score, hits = np.array(entry["bins"]["score"]), np.array(entry["bins"]["hits"])
        axis.plot([0, 1], [0, 1], color=MUTED, linewidth=0.9, linestyle=(0, (3, 3)))
        axis.vlines(score, score, hits, color=ACCENT, linewidth=1.0, alpha=0.5)
        axis.plot(score, hits, "o-", color=ACCENT, ms=4)
        axis.set_title(TITLES[name])
        axis.set_xlabel("score")
        axis.set_aspect("equal")
        _percent(axis, "y")
        axis.set_xlim(-0.02, 1.02)
        axis.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "0.25", "0.5", "0.75", "1"])
        axis.grid(visible=True)
        ece = "–" if entry["ece"] is None else f"{entry['ece']:.3f}"
        axis.text(0.0, 0.97, f"ECE {ece}", va="top")
    figure.axes[0].set_ylabel(f"share that are {right}")
    return figure, "Reliability diagrams"


@_drawn
def draw_differences(rows: Sequence[tuple[str, Figures]]) -> tuple[Figure, str]:
    """Differences of AP50 with their intervals, a line each."""
    figure = Figure(figsize=(7.0, 0.9 + 0.27 * len(rows)), layout="constrained")
    axis = figure.subplots()
    axis.axvline(0, color=MUTED, linewidth=0.9)
    for place, (_, entry) in enumerate(rows):
        value = entry["difference"]
        bounds = np.array(entry["difference_interval"], np.float64)  # None becomes NaN
        if value is None:
            continue
        clear = (bounds > 0).all() or (bounds < 0).all()
        color = ACCENT if clear else INK
        axis.hlines(place, *bounds, color=color, linewidth=1.4)
        axis.plot(value, place, "o", color=color, ms=5)
    axis.set_yticks(range(len(rows)), [name for name, _ in rows])
    axis.set_ylim(len(rows) - 0.4, -0.6)
    axis.set_xlabel("difference of AP50")
    axis.xaxis.set_major_formatter("{x:+.2f}")
    axis.grid(visible=True, axis="x")
    axis.spines["left"].set_visible(False)
    return figure, "Differences of AP50 with their intervals"


def _mark(axis: Axes, x: float, y: float, color: str) -> None:
    """An open dot: the model at its own thresholds."""
    axis.plot(x, y, "o", ms=6.5, mfc=PAPER, mec=color, mew=1.6, zorder=5)


def _percent(axis: Axes, which: str) -> None:
    """An axis from 0 to 1."""
    ticks = [0, 0.2, 0.4, 0.6, 0.8, 1.0]
    getattr(axis, f"set_{which}lim")(-0.02, 1.02)
    getattr(axis, f"set_{which}ticks")(ticks, [f"{tick:.1f}" for tick in ticks])
    axis.grid(visible=True)
