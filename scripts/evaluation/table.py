"""The figures on a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich import box
from rich.table import Table

Figures = dict[str, Any]


def figures_table(figures: Figures, name: str) -> Table:
    """AP, sensitivity and precision at the thresholds, by class, group, and merged."""
    headings = ("", "cells", "AP50", "interval", "AP75", "AP", "AR", "sens.", "prec.")
    table = _table(f"{name} on {figures['fields']} fields", *headings)
    for group, entry in figures["pooled"].items():
        told = f"{group}, merged", str(entry["cells"])
        table.add_row(*told, *_ap50(entry), "", "", "", *_rates(entry))
    mean = {"ap50": figures["map50"], "ap50_interval": figures["map50_interval"]}
    rest = (figures["map75"], figures["map"], figures["mar"])
    table.add_row("mean of classes", "", *_ap50(mean), *map(show, rest), "", "", end_section=True)
    for group, entry in figures["groups"].items():
        table.add_row(f"{group}, mean", str(entry["cells"]), *_ap50(entry), *_ap(entry), "", "")
    table.add_section()
    for name, entry in figures["classes"].items():
        table.add_row(name, str(entry["cells"]), *_ap50(entry), *_ap(entry), *_rates(entry))
    table.caption = _caption(figures)
    return table


def _table(title: str, *headings: str) -> Table:
    """A table whose first column is text; narrow, for terminals of 80 columns."""
    table = Table(title=title, box=box.SIMPLE_HEAD, padding=0, caption_justify="left")
    for place, heading in enumerate(headings):
        table.add_column(heading, justify="right" if place else "left", no_wrap=True)
    return table


def level_table(levels: Figures) -> Table:
    """What cells of each level are called, in shares; matched whatever the names."""
    matrix = levels["grade"]
    table = _table("Called, by grade", "", "cells", *matrix["columns"])
    for name, counts, part in zip(matrix["rows"], matrix["counts"], matrix["shares"], strict=True):
        row = [f"{share:.0%}" if sum(counts) else "–" for share in part]
        table.add_row(name, str(sum(counts)), *row)
    return table


def false_alarm_table(alarms: Figures) -> Table:
    """How often what is no abnormal cell is reported as one."""
    area = f"in {alarms['in_mm2']:g} mm²"
    table = _table("False alarms at the thresholds", "", "found", "a mm²", area, "confused")
    for name, entry in alarms["groups"].items():
        low, high = entry["expected"]
        told = str(entry["found"]), show(entry["per_mm2"], 1), f"{low} to {high}"
        table.add_row(name, *told, show(entry["confused"]))
    table.caption = (
        f"{area}: expected of another {alarms['unit']} of that area, 95%. confused: share of the "
        "other abnormal cells that is called so"
    )
    return table


def operating_table(operating: Figures) -> Table:
    """Thresholds that were asked for, and what they give."""
    headings = ("", "wanted", "score", "sens.", "interval", "prec.", "interval")
    table = _table("Operating thresholds", *headings)
    for name, entry in operating["classes"].items():
        wanted = ", ".join(f"{kind[:4]}. {value:g}" for kind, value in entry["wanted"].items())
        told = name if entry["chosen_on"] == name else f"{name} (merged)"
        table.add_row(told, wanted, show(entry["threshold"], 4), *_both(entry))
    table.add_section()
    for name, entry in operating["pooled"].items():
        table.add_row(f"{name}, reported", "", "", *_both(entry))
    table.caption = (
        "(merged): the threshold of all abnormal classes as one. reported: what a screening "
        "reports with these thresholds. Chosen on these fields: on others they give a little less"
    )
    return table


def look_table(look: Figures, level: float) -> Table:
    """AP50 with the second look and without, and whether the grader's probabilities hold."""
    table = against_table(look | {"model": "the detector alone"}, level)
    table.title = "With the second look against the detector alone, AP50"
    grades = look["grades"]
    table.caption = (
        f"{table.caption}. The grader alone: right among the classes for {show(grades['right'])} "
        f"of {grades['cells']} cells that were found; calibration error "
        f"{show(grades['named']['ece'])} of its likeliest answer, "
        f"{show(grades['abnormal']['ece'])} of abnormal, at {grades['places']} places"
    )
    return table


def against_table(against: Figures, level: float) -> Table:
    """AP50 of two models and the difference."""
    table = _table(
        f"Against {against['model']}, AP50", "", "this", "other", "difference", "interval"
    )
    for name, entry in against_rows(against):
        bounds = spread(entry["difference_interval"], "+")
        figures = (show(entry["ap50"]), show(entry["other"]), show(entry["difference"], sign="+"))
        table.add_row(name, *figures, bounds)
    table.caption = f"{percent(level)} intervals of the difference, by the same draws for both"
    return table


def against_rows(against: Figures) -> list[tuple[str, Figures]]:
    """A line each: merged, means, classes."""
    suffix = {"pooled": ", merged", "means": ", mean", "classes": ""}
    return [
        (f"{name}{suffix[kind]}", entry)
        for kind, entries in against["ap50"].items()
        for name, entry in entries.items()
    ]


def show(value: float | None, digits: int = 3, sign: str = "") -> str:
    """A figure for people."""
    return "–" if value is None else f"{value:{sign}.{digits}f}"


def spread(bounds: Sequence[float | None], sign: str = "") -> str:
    """An interval for people; nothing where it is not known."""
    low, high = bounds
    if low is None or high is None:
        return ""
    return f"{low:{sign}.3f} to {high:{sign}.3f}"


def percent(level: float) -> str:
    """A level for people: 95%, 99.9%."""
    return f"{100 * level:g}%"


def how_drawn(drawn: Figures) -> str:
    """How the intervals came about, or why there are none."""
    if drawn["drawn"] < 2:
        return f"none, as all fields are of one {drawn['by']}"
    return f"{percent(drawn['level'])}, by drawing {drawn['drawn']} {drawn['by']}s anew"


def _ap50(entry: Figures) -> list[str]:
    return [show(entry["ap50"]), spread(entry["ap50_interval"])]


def _ap(entry: Figures) -> list[str]:
    return [show(entry[figure]) for figure in ("ap75", "ap", "ar")]


def _rates(entry: Figures) -> list[str]:
    return [show(entry[figure], 2) for figure in ("sensitivity", "precision")]


def _both(entry: Figures) -> list[str]:
    names = ("sensitivity", "precision")
    return [
        told for name in names for told in (show(entry[name]), spread(entry[f"{name}_interval"]))
    ]


def _caption(figures: Figures) -> str:
    drawn = figures["intervals"]
    froc = figures["pooled"]["abnormal"]["froc"]
    rates = ", ".join(f"{show(value, 2)} at {rate}" for rate, value in froc.items())
    return (
        f"interval: {how_drawn(drawn)}. "
        "sens., prec.: sensitivity and precision at the model's own thresholds. "
        f"FROC, abnormal: sensitivity {rates} false positives a field"
    )
