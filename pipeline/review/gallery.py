"""The cells of a slide by groups, a page at a time, with why each is shown."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.cells.classes import ABNORMAL, order_by_severity
from pipeline.reports.expectation import Finding
from pipeline.reports.report import SlideReport
from pipeline.reports.triage import carriers
from pipeline.review.celltable import CellTable
from pipeline.review.store import Reading

Sort = Literal["suspicion", "score", "place"]

ALL, CARRIERS, UNSURE, ADDED = "all", "carriers", "unsure", "added"

_RESERVED = {ALL, CARRIERS, UNSURE, ADDED, ABNORMAL}

MOST_A_PAGE = 500

_BAND_PX = 4096
"""By place: cells go row by row of bands so high, in level-0 px."""


@dataclass(frozen=True)
class Group:
    """Cells that go together: its key for the address, its name, and how many they are."""

    key: str
    name: str
    count: int


@dataclass(frozen=True)
class GalleryCell:
    """A cell of a page.

    Attributes:
        key: its name for decisions.
        number: as in cells.csv, from 1; None of a cell that the reader drew.
        box: level-0 px.
        label: its class.
        score: of that class; None of a drawn cell.
        abnormal_score: that it is abnormal; likewise.
        scores: of every class; None where nobody knows them.
        grades: of every class and "background" by the second look; None where there was none.
        carrier: whether it carries the suggestion.
        why: what speaks for and against it, in words.
    """

    key: str
    number: int | None
    box: tuple[float, float, float, float]
    label: str
    score: float | None
    abnormal_score: float | None
    scores: Mapping[str, float] | None
    grades: Mapping[str, float] | None
    carrier: bool
    why: tuple[str, ...]


@dataclass(frozen=True)
class Page:
    """A page of a group."""

    groups: tuple[Group, ...]
    total: int
    page: int
    pages: int
    size: int
    cells: tuple[GalleryCell, ...]


class Gallery:
    """Groups and pages of the cells of one report.

    Args:
        report: what it says.
        table: its cells.
    """

    def __init__(self, report: SlideReport, table: CellTable) -> None:
        self._report = report
        self._table = table
        self._carriers = np.zeros(len(table), bool)
        self._carriers[carriers(report.suggestion, table.cells, table.classes)] = True
        self._names = [one.name for one in table.classes]
        self._orders: dict[Sort, NDArray[np.intp]] = {}

    @property
    def nbytes(self) -> int:
        """Memory of its arrays, the table's with them."""
        return self._table.nbytes + 25 * len(self._table)

    @property
    def table(self) -> CellTable:
        """Its cells."""
        return self._table

    def groups(self, reading: Reading | None = None) -> Iterator[Group]:
        """Those that carry the suggestion, abnormal ones, each class, the reader's, all."""
        table = self._table
        count = int(self._carriers.sum())
        if count:
            yield Group(CARRIERS, self._report.suggestion.category, count)
        yield Group(ABNORMAL, ABNORMAL, int(table.abnormal.sum()))
        counts = np.bincount(table.cells.labels, minlength=len(self._names)).tolist()
        for index in order_by_severity(table.classes):
            name = self._names[index]
            yield Group(_key_of_class(name), name, counts[index])
        yield Group(UNSURE, UNSURE, len(self._unsure(reading)))
        yield Group(ADDED, ADDED, len(_added(reading)))
        yield Group(ALL, ALL, len(table))

    def page(
        self,
        group: str,
        sort: Sort = "suspicion",
        page: int = 0,
        size: int = 48,
        reading: Reading | None = None,
    ) -> Page:
        """A page of a group; of too high a number the last one.

        Args:
            group: key of one of the `groups`; a class's bare name is taken, too.
            sort: most likely abnormal first; by the score of the class; or by place.
            page: from 0.
            size: cells a page.
            reading: of who looks.

        Raises:
            KeyError: there is no such group.
        """
        groups = tuple(self.groups(reading))
        if group == ADDED:
            return self._page_of_added(groups, page, size, reading)
        rows = self._rows(group, sort, reading)
        pages, page = _pages(len(rows), page, size)
        shown = rows[page * size : (page + 1) * size].tolist()
        cells = tuple(self.cell(row) for row in shown)
        return Page(groups, len(rows), page, pages, size, cells)

    def cell(self, row: int) -> GalleryCell:
        """One cell of the report."""
        table, cells = self._table, self._table.cells
        label = self._names[int(cells.labels[row])]
        scores = grades = None
        if cells.class_scores is not None:
            scores = dict(zip(self._names, _rounded(cells.class_scores[row]), strict=True))
        if cells.grades is not None and not np.isnan(cells.grades[row, 0]):
            names = [*self._names, "background"]
            grades = dict(zip(names, _rounded(cells.grades[row]), strict=True))
        left, top, right, bottom = cells.boxes[row].round(2).tolist()
        carrier = bool(self._carriers[row])
        return GalleryCell(
            key=table.key(row),
            number=row + 1,
            box=(left, top, right, bottom),
            label=label,
            score=round(float(cells.scores[row]), 4),
            abnormal_score=round(float(table.suspicion[row]), 4),
            scores=scores,
            grades=grades,
            carrier=carrier,
            why=tuple(self._why(label, carrier, grades)),
        )

    def _why(self, label: str, carrier: bool, grades: Mapping[str, float] | None) -> Iterator[str]:
        report = self._report
        if carrier:
            yield f"carries the suggestion {report.suggestion.category}"
        finding = report.expectation.groups.get(label) if report.expectation else None
        if finding:
            yield f"{label}: {tell_finding(finding)}"
        if grades:
            best = sorted(grades.items(), key=lambda one: -one[1])[:3]
            yield "second look: " + ", ".join(f"{name} {value:.2f}" for name, value in best)
        elif report.second_look is not None:
            yield "not looked at again: score and threshold are the detector's"

    def _rows(self, group: str, sort: Sort, reading: Reading | None) -> NDArray[np.intp]:
        order = self._order(sort)
        if group == ALL:
            return order
        if group == UNSURE:
            chosen = np.zeros(len(self._table), bool)
            chosen[self._unsure(reading)] = True
        elif group == CARRIERS:
            chosen = self._carriers
        elif group == ABNORMAL:
            chosen = self._table.abnormal
        else:
            label = self._names.index(self._class_of(group))
            chosen = self._table.cells.labels == label
        return order[chosen[order]]

    def _class_of(self, group: str) -> str:
        name = group.removeprefix("class:")
        if name not in self._names:
            raise KeyError(group)
        return name

    def _unsure(self, reading: Reading | None) -> list[int]:
        if reading is None:
            return []
        keys = (key for key, cell in reading.cells.items() if cell.verdict == "unsure")
        rows = {self._table.row(key) for key in keys}
        return sorted(row for row in rows if row is not None)

    def _order(self, sort: Sort) -> NDArray[np.intp]:
        known = self._orders.get(sort)
        if known is None:
            known = self._orders[sort] = self._sorted(sort).astype(np.int32)
        return known

    def _sorted(self, sort: Sort) -> NDArray[np.intp]:
        cells = self._table.cells
        if sort == "suspicion":
            return np.lexsort((-cells.scores, -self._table.suspicion, ~self._table.abnormal))
        if sort == "score":
            return np.argsort(-cells.scores, kind="stable")
        centers = cells.centers
        return np.lexsort((centers[:, 0], np.floor(centers[:, 1] / _BAND_PX)))

    def _page_of_added(
        self, groups: tuple[Group, ...], page: int, size: int, reading: Reading | None
    ) -> Page:
        cells = _added(reading)
        pages, page = _pages(len(cells), page, size)
        return Page(groups, len(cells), page, pages, size, tuple(cells[page * size :][:size]))


def _key_of_class(name: str) -> str:
    """The group of a class: its name, unless a group of another kind is called so."""
    return f"class:{name}" if name in _RESERVED or name.startswith("class:") else name


def tell_finding(finding: Finding) -> str:
    """Found against expected, in words."""
    return (
        f"{finding.found:,} found, {finding.expected:,.1f} expected by chance "
        f"({finding.low:,} to {finding.high:,})"
    )


def _added(reading: Reading | None) -> list[GalleryCell]:
    """Cells that the reader drew and that stand, in the order in which they were drawn."""
    if reading is None:
        return []
    drawn = [
        cell for cell in reading.cells.values() if cell.said is None and cell.verdict != "removed"
    ]
    return [
        GalleryCell(
            key=cell.key,
            number=None,
            box=cell.box,
            label=cell.label or "",
            score=None,
            abnormal_score=None,
            scores=None,
            grades=None,
            carrier=False,
            why=(),
        )
        for cell in sorted(drawn, key=lambda cell: cell.entry)
    ]


def _pages(total: int, page: int, size: int) -> tuple[int, int]:
    pages = max(1, math.ceil(total / size))
    return pages, min(page, pages - 1)


def _rounded(values: NDArray[np.float32]) -> list[float]:
    return [round(value, 4) for value in values.tolist()]
