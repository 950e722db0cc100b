"""summary.xlsx, read back by another library than the one that wrote it."""

import zipfile
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from fakes import CLASSES, make_cells, make_report, scored
from openpyxl import load_workbook
from openpyxl.worksheet.worksheet import Worksheet

from configs import ConfigError, Doubt
from pipeline.geometry import Detections
from pipeline.reports import workbook
from pipeline.reports.report import NOTICE, SlideReport, most_suspicious_first
from pipeline.reports.slide_summary import SlideSummary
from pipeline.reports.summary import SummaryRow
from pipeline.reports.summary_columns import summary_table
from pipeline.reports.workbook import CELL_COLUMNS, write_workbook
from pipeline.reports.worklist import Place, order_slides

LINKS = "xl/worksheets/_rels/sheet1.xml.rels"


def cells_of(*labels: int, scores: tuple[float, ...] = ()) -> Detections:
    count = len(labels)
    places = np.arange(count)[:, None] * 100.0 + np.array([0, 0, 40, 40])
    return Detections(places, np.array(scores or [0.9] * count, np.float32), np.array(labels, int))


CELLS: dict[str, Detections] = {}
"""Of the reports that were made last, by slide."""


def complete(name: str, report: SlideReport | None = None) -> SummaryRow:
    report = report or make_report()
    CELLS[name] = report.cells
    return SummaryRow(name, f"in/{name}", "complete", SlideSummary.of(report))


def ridden_cells(place: Place, report: SlideSummary) -> Detections:
    """Those that rode along with a report that was just made."""
    return CELLS[place.row.slide]


def write(
    folder: Path, *rows: SummaryRow, least_score: float = 0.5, read: object = ridden_cells
) -> tuple[Doubt, ...]:
    return write_workbook(folder / "summary.xlsx", order_slides(rows), read, least_score)


def sheets(folder: Path) -> dict[str, Worksheet]:
    book = load_workbook(folder / "summary.xlsx")
    return {sheet.title: sheet for sheet in book.worksheets}


def rows_of(sheet: Worksheet) -> list[tuple[object, ...]]:
    return list(sheet.iter_rows(values_only=True))


def targets(folder: Path) -> list[str]:
    """What the links of the first sheet lead to, as the file has it."""
    with zipfile.ZipFile(folder / "summary.xlsx") as archive:
        if LINKS not in archive.namelist():
            return []
        root = ElementTree.fromstring(archive.read(LINKS))
    assert {link.get("TargetMode") for link in root} == {"External"}
    return [link.get("Target") or "" for link in root]


def test_slides_are_those_of_the_table_in_the_order_of_the_work_list(tmp_path: Path) -> None:
    rows = [
        SummaryRow("z.svs", "in/z.svs", "failed", error="z.svs: truncated"),
        complete("a.svs", make_report(cells=cells_of(0, 0))),
        complete("b.svs", make_report(cells=cells_of(4, 4, 4, 0), warnings=("x",))),
    ]
    assert write(tmp_path, *rows) == ()
    table = list(summary_table(order_slides(rows).places))
    shown = rows_of(sheets(tmp_path)["Slides"])
    assert shown == [tuple(None if v == "" else v for v in row) for row in table]
    assert [row[0] for row in shown] == ["slide", "b.svs", "a.svs", "z.svs"]
    assert type(shown[1][shown[0].index("abnormal_cells")]) is int


def test_header_is_frozen_filtered_and_formats_fit(tmp_path: Path) -> None:
    write(tmp_path, complete("a.svs"))
    found = sheets(tmp_path)
    assert list(found) == ["Slides", "Cells", "About"]
    slides = found["Slides"]
    assert (slides.freeze_panes, found["Cells"].freeze_panes) == ("B2", "D2")
    assert slides.auto_filter.ref.startswith("A1:")
    assert slides["A1"].font.bold
    names = [cell.value for cell in slides[1]]
    formats = {name: slides.cell(2, names.index(name) + 1).number_format for name in names}
    assert formats["abnormal_cells"] == "#,##0"
    assert formats["screened_mm2"] == "#,##0.00"
    assert formats["mpp"] == "0.000"
    about = " ".join(str(v) for row in rows_of(found["About"]) for v in row if v)
    assert NOTICE in about
    assert "most suspicious first" in about
    assert "at least 0.5" in about


@pytest.mark.parametrize("name", ["=1+1.svs", "+1.svs", "-1.svs", "@x.svs", "=HYPERLINK(1)", "1e5"])
def test_names_are_text_whatever_they_begin_with(tmp_path: Path, name: str) -> None:
    write(tmp_path, complete(name), SummaryRow(f"{name}2", name, "failed", error=name))
    slides = sheets(tmp_path)["Slides"]
    for cell, text in ((slides["A2"], name), (slides["A3"], f"{name}2"), (slides["B3"], name)):
        assert (cell.data_type, cell.value) == ("s", text)
        assert bool(cell.quotePrefix) is (name[0] in "=+-@")
    with zipfile.ZipFile(tmp_path / "summary.xlsx") as archive:
        sheet = archive.read("xl/worksheets/sheet1.xml").decode()
    assert "<f>" not in sheet


@pytest.mark.parametrize(
    ("slide", "target"),
    [
        ("a/b.svs", "a/b.svs/report.html"),
        ("Räume & Säle/c d.svs", "Räume & Säle/c d.svs/report.html".replace(" ", "%20")),
        ("a#1%20?.svs", "a%231%2520%3F.svs/report.html"),
        ("two\nlines.svs", "two%0Alines.svs/report.html"),
        ("back\\slash.svs", "back%5Cslash.svs/report.html"),
        ("javascript:alert(1)", "javascript%3Aalert(1)/report.html"),
        ("日本.svs", "日本.svs/report.html"),
    ],
)
def test_links_are_relative_and_lead_to_the_slide_s_page(
    tmp_path: Path, slide: str, target: str
) -> None:
    write(tmp_path, complete(slide))
    assert targets(tmp_path) == [target]
    assert sheets(tmp_path)["Slides"]["A2"].value == slide


def test_what_no_link_can_hold_has_none(tmp_path: Path) -> None:
    rows = [complete("bytes\udcff.svs"), complete("long" * 800), SummaryRow("f", "f", "failed")]
    write(tmp_path, *rows)
    assert targets(tmp_path) == []
    names = [row[0] for row in rows_of(sheets(tmp_path)["Slides"])]
    assert set(names) == {"slide", "bytes\\udcff.svs", "long" * 800, "f"}


def test_texts_of_any_length_and_kind_are_held(tmp_path: Path) -> None:
    error = "x" * 40_000
    write(tmp_path, SummaryRow("a\x01\x07.svs", "a", "failed", error=error))
    header, row = rows_of(sheets(tmp_path)["Slides"])
    told = row[header.index("error")]
    assert len(told) == workbook.MOST_TEXT
    assert told.endswith("x…")


def test_cells_are_those_above_the_limit_and_those_that_carry_the_suggestion(
    tmp_path: Path,
) -> None:
    """HSIL is suggested: its third cell is listed though it is below the limit, the LSIL is not."""
    cells = cells_of(4, 4, 4, 2, 2, 0, scores=(0.9, 0.6, 0.31, 0.8, 0.4, 0.99))
    cells = most_suspicious_first(cells, CLASSES)
    report = make_report(cells=cells)
    assert report.suggestion.category == "HSIL"
    write(tmp_path, complete("a.svs", report), complete("b.svs", make_report(cells=cells_of(0))))
    header, *rows = rows_of(sheets(tmp_path)["Cells"])
    assert header == tuple(name for name, _, _ in CELL_COLUMNS)
    shown = [dict(zip(header, row, strict=True)) for row in rows]
    assert [(c["class"], c["score"], c["carries_suggestion"]) for c in shown] == [
        ("HSIL", 0.9, True),
        ("LSIL", 0.8, False),
        ("HSIL", 0.6, True),
        ("HSIL", 0.31, True),
    ]
    for cell in shown:
        row = cell["id"] - 1  # its place in cells.csv
        x, y = cells.centers[row]
        assert (cell["x_center"], cell["y_center"]) == (x, y)
        assert (cell["x_um"], cell["y_um"]) == (x * 0.25, y * 0.25)
        assert cell["score"] == pytest.approx(float(cells.scores[row]), abs=1e-4)
        assert (cell["slide"], cell["rank"]) == ("a.svs", 1)
        assert cell["grade"] == ("high grade" if cell["class"] == "HSIL" else "low grade")


def test_what_a_sheet_can_t_hold_is_told_there_and_to_the_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workbook, "MOST_ROWS", 4)
    rows = [complete(f"{i}.svs", make_report(cells=cells_of(4, 4))) for i in range(5)]
    doubts = write(tmp_path, *rows)
    assert [doubt.code for doubt in doubts] == ["xlsx-cut", "xlsx-cut"]
    assert "the first 3 of 5 slides" in doubts[0].text
    assert "the first 3 of 10 cells" in doubts[1].text
    found = sheets(tmp_path)
    assert len(rows_of(found["Slides"])) == len(rows_of(found["Cells"])) == 4
    about = [row[1] for row in rows_of(found["About"])]
    assert all(str(doubt) in about for doubt in doubts)


def test_links_end_where_excel_takes_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workbook, "MOST_LINKS", 2)
    write(tmp_path, *(complete(f"{i}.svs") for i in range(4)))
    assert len(targets(tmp_path)) == 2
    assert len(rows_of(sheets(tmp_path)["Slides"])) == 5


def test_slides_whose_cells_can_t_be_read_are_told(tmp_path: Path) -> None:
    def read(place: Place, report: SlideSummary) -> Detections:
        if place.row.slide == "a.svs":
            raise ConfigError("a.svs/cells.csv: is gone")
        return ridden_cells(place, report)

    rows = [complete(name, make_report(cells=cells_of(4))) for name in ("a.svs", "b.svs")]
    (doubt,) = write(tmp_path, *rows, read=read)
    assert doubt.code == "xlsx-cells-missing"
    assert "of 1 slides" in doubt.text
    assert "a.svs" in doubt.text
    assert [row[1] for row in rows_of(sheets(tmp_path)["Cells"])[1:]] == ["b.svs"]


def test_the_same_results_give_the_same_bytes(tmp_path: Path) -> None:
    cells = make_cells(30)
    cells = scored(cells, np.tile(cells.scores[:, None], (1, len(CLASSES))))
    rows = [complete("a.svs", make_report(cells=cells))]
    seen = []
    for _ in range(2):
        write(tmp_path, *rows)
        seen.append((tmp_path / "summary.xlsx").read_bytes())
    assert seen[0] == seen[1]


def test_no_slides_make_a_workbook_too(tmp_path: Path) -> None:
    write(tmp_path)
    assert len(rows_of(sheets(tmp_path)["Slides"])) == 1


def test_a_place_that_can_t_be_written_is_an_error_of_the_system(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="gone"):
        write(tmp_path / "gone", complete("a.svs"))
