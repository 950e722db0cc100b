"""How faults of a picture are shown: rows of a table, and areas on the overview."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.reports.quality import Fault, FaultName
from pipeline.reports.report import SlideReport

_SHOWN: Mapping[FaultName, tuple[str, str]] = {
    "out_of_focus": ("Out of focus", "of what could be measured"),
    "dark": ("Too thick or overstained", "of the specimen"),
    "ink": ("Under a pen", "of specimen and marks"),
    "bubbles": ("Bubbles, edges", "of specimen and bubbles"),
}
"""What people call a fault, and of what its share is."""


@dataclass(frozen=True)
class FaultView:
    """A fault in the table and on the overview.

    Attributes:
        name: in report.json; also of its pattern.
        title: for people.
        mm2: its area.
        of: what its share is of.
        facts: share, limit and cells.
        path: of an SVG in pixels of the overview; empty without one, and where there is none.
    """

    name: str
    title: str
    mm2: float
    of: str
    facts: Fault
    path: str


def view_faults(report: SlideReport) -> list[FaultView]:
    """Those that were looked for, in the order of the report."""
    overview = report.pictures.overview
    views = []
    for name, (title, of) in _SHOWN.items():
        facts = getattr(report.quality, name, None)
        if facts is None:
            continue
        where = report.faults.get(name)
        path = ""
        if where and overview:
            size = (overview.size.width, overview.size.height)
            path = squares_path(where.mask, where.side / overview.downsample, size)
        views.append(FaultView(name, title, getattr(report.area, f"{name}_mm2"), of, facts, path))
    return views


def squares_path(mask: NDArray[np.bool_], side: float, size: tuple[int, int]) -> str:
    """An SVG path over all squares that are set, cut at the border of a picture.

    Args:
        mask: (H, W); square (row, column) starts at (column, row) * ``side``.
        side: in pixels of the picture.
        size: width and height of the picture.
    """
    width, height = size
    parts = []
    for top, bottom, left, right in _rectangles(mask):
        x0, x1 = (round(min(width, edge * side), 1) for edge in (left, right))
        y0, y1 = (round(min(height, edge * side), 1) for edge in (top, bottom))
        parts.append(f"M{x0:g} {y0:g}H{x1:g}V{y1:g}H{x0:g}z")
    return "".join(parts)


def _rectangles(mask: NDArray[np.bool_]) -> Iterator[tuple[int, int, int, int]]:
    """(top, bottom, left, right) of rectangles that cover a mask: runs, and equal ones below."""
    growing: dict[tuple[int, int], int] = {}
    for row in range(len(mask) + 1):
        runs = _runs(mask[row]) if row < len(mask) else set()
        for run in [run for run in growing if run not in runs]:
            yield growing.pop(run), row, *run
        for run in sorted(runs):
            growing.setdefault(run, row)


def _runs(line: NDArray[np.bool_]) -> set[tuple[int, int]]:
    steps = np.flatnonzero(np.diff(np.pad(line.view(np.int8), 1)))
    return set(zip(steps[::2].tolist(), steps[1::2].tolist(), strict=True))
