"""Which cells a page of the gallery has, in which order, and why."""

from dataclasses import replace
from types import MappingProxyType

import numpy as np
import pytest
from fakes import CLASSES, make_report
from reviewfolders import cells_on

from pipeline.geometry import Detections
from pipeline.reports.report import most_suspicious_first
from pipeline.review.celltable import CellTable
from pipeline.review.gallery import Gallery
from pipeline.review.heat import heat_map
from pipeline.review.store import CellDecision, Reader, Reading, SlideKey

NAMES = [one.name for one in CLASSES]


def gallery_of(cells: Detections) -> Gallery:
    cells = most_suspicious_first(cells, CLASSES)
    return Gallery(make_report(cells=cells), CellTable(cells, CLASSES))


def reading_of(*decisions: CellDecision) -> Reading:
    cells = MappingProxyType({one.key: one for one in decisions})
    return Reading(SlideKey("a" * 64, "a"), Reader(1, "Ann"), cells=cells)


def decision(key: str, verdict: str, said: object = None, entry: int = 1) -> CellDecision:
    box = (10.0, 10.0, 20.0, 20.0)
    return CellDecision(key, box, verdict, "HSIL", "", said, "", 0.0, entry)  # type: ignore[arg-type]


def test_groups_count_their_cells_and_a_page_has_those_of_its_group():
    cells = cells_on(100)
    gallery = gallery_of(cells)
    page = gallery.page("HSIL")
    counts = {group.key: group.count for group in page.groups}
    assert counts["all"] == 100
    assert counts["HSIL"] == (cells.labels == NAMES.index("HSIL")).sum()
    assert counts["abnormal"] == (cells.labels != 0).sum()
    assert sum(counts[name] for name in NAMES) == 100
    assert page.total == counts["HSIL"]
    assert {cell.label for cell in page.cells} == {"HSIL"}
    assert [group.key for group in page.groups if group.key in NAMES] == [
        *("SCC", "HSIL", "ASC-H", "LSIL", "ASC-US", "NILM")
    ]


def test_the_most_suspicious_come_first_and_pages_part_them():
    gallery = gallery_of(cells_on(100))
    first, second, last = (gallery.page("all", page=page) for page in (0, 1, 99))
    assert (first.total, first.pages, last.page) == (100, 3, 2)
    shown = [cell for page in (first, second, last) for cell in page.cells]
    assert [len(page.cells) for page in (first, second, last)] == [48, 48, 4]
    assert len({cell.number for cell in shown}) == 100
    abnormal = [cell.label != "NILM" for cell in shown]
    assert abnormal == sorted(abnormal, reverse=True)
    scores = [cell.abnormal_score for cell in shown if cell.label != "NILM"]
    assert scores == sorted(scores, reverse=True)
    by_score = [cell.score for cell in gallery.page("all", "score", size=100).cells]
    assert by_score == sorted(by_score, reverse=True)
    by_place = gallery.page("all", "place", size=100).cells
    middles = [cell.box[0] + cell.box[2] for cell in by_place]
    assert np.allclose(middles, sorted(middles))  # one band


def test_a_cell_tells_what_speaks_for_it():
    cells = replace(cells_on(4), labels=np.full(4, NAMES.index("HSIL")))
    grades = np.full((4, 7), np.nan, np.float32)
    grades[0] = (0.1, 0, 0, 0.2, 0.6, 0, 0.1)
    gallery = gallery_of(replace(cells, grades=grades))
    shown = {cell.number: cell for cell in gallery.page("carriers").cells}
    assert len(shown) == 4, "they carry the suggestion of HSIL"
    assert all(cell.carrier for cell in shown.values())
    graded = next(cell for cell in shown.values() if cell.grades)
    assert graded.grades["HSIL"] == pytest.approx(0.6)
    assert graded.grades["background"] == pytest.approx(0.1)
    assert "carries the suggestion HSIL" in graded.why
    assert "second look: HSIL 0.60, ASC-H 0.20, NILM 0.10" in graded.why
    (expected,) = (text for text in graded.why if text.startswith("HSIL: "))
    assert expected.startswith("HSIL: 4 found, ")
    assert list(graded.scores) == NAMES


def test_unsure_and_drawn_cells_are_the_readers_own():
    gallery = gallery_of(cells_on(20))
    key = gallery.table.key(3)
    drawn, gone = "a" + "1" * 32, "a" + "2" * 32
    reading = reading_of(
        decision(key, "unsure", said=object()),
        decision(drawn, "added"),
        decision(gone, "removed"),
    )
    assert [cell.number for cell in gallery.page("unsure", reading=reading).cells] == [4]
    (cell,) = gallery.page("added", reading=reading).cells
    assert (cell.key, cell.number, cell.box, cell.label) == (drawn, None, (10, 10, 20, 20), "HSIL")
    assert gallery.page("added").total == 0
    with pytest.raises(KeyError):
        gallery.page("nonsense")


def test_a_slide_without_cells_has_pages_without_cells():
    page = gallery_of(Detections.empty()).page("all")
    assert (page.total, page.pages, page.cells) == (0, 1, ())


def test_a_million_cells_stay_fluent():
    import time

    cells = cells_on(1_000_000)
    table = CellTable(cells, CLASSES)
    gallery = Gallery(make_report(cells=cells_on(10)), CellTable(cells_on(10), CLASSES))
    gallery = Gallery(gallery._report, table)
    start = time.process_time()
    gallery.page("abnormal")
    assert time.process_time() - start < 3
    start = time.process_time()
    for page in range(20):
        gallery.page("abnormal", page=page)
    assert time.process_time() - start < 1.5


def test_the_heat_map_counts_abnormal_cells_by_area():
    boxes = np.array([[0, 0, 10, 10], [5, 5, 15, 15], [3990, 2990, 4000, 3000], [0, 0, 9, 9.0]])
    cells = Detections(boxes, np.full(4, 0.9, np.float32), np.array([1, 4, 5, 0]))
    report = make_report(cells=cells)
    heat = heat_map(CellTable(cells, CLASSES), report.slide)
    assert (heat.um, heat.step, heat.x, heat.y) == (500.0, 2000.0, 0, 0)
    assert heat.per_mm2.tolist() == [[8.0, 0.0], [0.0, 4.0]]  # of 0.25 mm2 each
    scanned = report.slide.model_copy(update={"bounds": (3000, 2000, 1000, 1000)})
    inside = heat_map(CellTable(cells, CLASSES), scanned)
    assert inside.per_mm2.shape == (1, 1)
