"""``cells.csv``: its columns, its dialects, and what is read back from them."""

import csv
from pathlib import Path

import numpy as np
import pytest
from fakes import CLASSES, MODEL, make_alarms, make_cells, make_report, scored

from configs import ConfigError
from pipeline.cells.classes import CellClass, abnormal_scores
from pipeline.geometry import Detections
from pipeline.reports import cells_reading, cells_table
from pipeline.reports.cells_table import (
    CELL_COLUMNS,
    LEVEL_COLUMNS,
    grade_columns,
    read_cells,
    score_columns,
    write_cells,
)

HEAD = (
    "id,class,abnormal,score,x_min,y_min,x_max,y_max,x_center,y_center,x_um,y_um,score_abnormal,"
    "score_NILM,score_ASC-US,score_LSIL,score_ASC-H,score_HSIL,score_SCC,"
    "grade,score_low_grade,score_high_grade,carries_suggestion\n"
)

PAIR = scored(
    Detections(
        np.array([[10, 20, 30, 50.5], [1, 2, 3, 4]]), np.float32([0.5, 0.9]), np.array([4, 0])
    ),
    np.float32([[0.4, 0.1, 0.2, 0.3, 0.5, 0], [0.9, 0.05, 0.15, 0, 0.125, 0.01]]),
)


def written(folder: Path, cells: Detections | None = None, **settings) -> Path:
    path = folder / "cells.csv"
    settings = {"alarms": make_alarms(per_mm2=0.001)} | settings
    with path.open("w", encoding="utf-8", newline="") as stream:
        write_cells(stream, make_report(cells=cells, **settings))
    return path


def rows_of(path: Path, delimiter: str = ",") -> list[dict[str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as stream:
        return list(csv.DictReader(stream, delimiter=delimiter))


def model_of(*names: str):
    classes = tuple(CellClass(name=name, abnormal=name != "NILM") for name in names)
    return MODEL.model_copy(update={"classes": classes, "threshold": dict.fromkeys(names, 0.5)})


def test_the_contract_s_columns_then_the_scores_with_fixed_decimals(tmp_path: Path) -> None:
    assert written(tmp_path, PAIR).read_bytes().decode("utf-8") == HEAD + (
        "1,HSIL,true,0.5000,10.00,20.00,30.00,50.50,20.00,35.25,5.00,8.81,0.5000,"
        "0.4000,0.1000,0.2000,0.3000,0.5000,0.0000,high grade,0.2000,0.5000,true\n"
        "2,NILM,false,0.9000,1.00,2.00,3.00,4.00,2.00,3.00,0.50,0.75,0.1500,"
        "0.9000,0.0500,0.1500,0.0000,0.1250,0.0100,,0.1500,0.1250,false\n"
    )


def test_scores_that_nobody_knows_are_empty(tmp_path: Path) -> None:
    path = written(tmp_path, Detections(PAIR.boxes, PAIR.scores, PAIR.labels))
    assert (
        path.read_text(encoding="utf-8")
        .splitlines()[1]
        .endswith(",5.00,8.81" + "," * 8 + "high grade,,,true")
    )
    back = read_cells(path, CLASSES)
    assert back.class_scores is None
    np.testing.assert_array_equal(back.labels, PAIR.labels)


def test_rows_of_many_cells_are_numbered_through(tmp_path: Path) -> None:
    rows = rows_of(written(tmp_path, make_cells(10_003)))
    assert [int(row["id"]) for row in rows] == list(range(1, 10_004))
    assert tuple(rows[0]) == (*CELL_COLUMNS, *score_columns(CLASSES), *LEVEL_COLUMNS)


@pytest.mark.parametrize(
    ("kind", "first", "row"),
    [
        ("plain", "id,class,", "1,HSIL,true,0.5000,10.00,"),
        ("excel-point", "\ufeffid,class,", "1,HSIL,true,0.5000,10.00,"),
        ("excel-comma", "\ufeffid;class;", "1;HSIL;true;0,5000;10,00;"),
    ],
)
def test_each_dialect_is_read_back_as_the_same_cells(
    tmp_path: Path, kind: str, first: str, row: str
) -> None:
    path = written(tmp_path, PAIR, csv=kind)
    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith(first)
    assert lines[1].startswith(row)
    back = read_cells(path, CLASSES)
    np.testing.assert_array_equal(back.boxes, PAIR.boxes)
    np.testing.assert_allclose(back.scores, PAIR.scores)
    np.testing.assert_array_equal(back.labels, PAIR.labels)
    np.testing.assert_allclose(back.class_scores, PAIR.class_scores)
    assert abnormal_scores(back, CLASSES).tolist() == pytest.approx([0.5, 0.15])
    for found in rows_of(path, lines[0].removeprefix("\ufeff")[2]):
        assert float(found["y_max"].replace(",", ".")) in PAIR.boxes[:, 3]


@pytest.mark.parametrize("start", list("=+-@\t\r\n＝"))
def test_a_class_that_a_spreadsheet_would_run_is_defused(tmp_path: Path, start: str) -> None:
    name = f'{start}cmd|"/c calc",x'
    path = written(tmp_path, make_cells(2, classes=1), model=model_of(name))
    rows = rows_of(path)
    assert [row["class"] for row in rows] == [f"'{name}"] * 2
    assert read_cells(path, model_of(name).classes).labels.tolist() == [0, 0]
    assert tuple(rows[0]) == (*CELL_COLUMNS, f"score_{name}", *LEVEL_COLUMNS)


def test_a_class_of_that_name_does_not_hide_the_column_of_all(tmp_path: Path) -> None:
    model = model_of("NILM", "abnormal", "SCC")
    cells = scored(PAIR[:1], np.float32([[0.1, 0.2, 0.7]]))
    cells = Detections(cells.boxes, cells.scores, np.array([2]), cells.class_scores)
    (row,) = rows_of(written(tmp_path, cells, model=model))
    assert (row["score_abnormal"], row["score_class_abnormal"]) == ("0.7000", "0.2000")


def test_a_class_of_a_level_s_name_does_not_hide_the_level(tmp_path: Path) -> None:
    model = model_of("NILM", "low_grade", "LSIL")
    cells = Detections(PAIR.boxes[:1], PAIR.scores[:1], np.array([2]))
    (row,) = rows_of(written(tmp_path, scored(cells, np.float32([[0.1, 0.2, 0.7]])), model=model))
    assert (row["score_low_grade"], row["score_class_low_grade"]) == ("0.7000", "0.2000")
    assert (row["grade"], row["score_high_grade"]) == ("low grade", "0.0000")


def test_a_cell_of_no_grade_has_none(tmp_path: Path) -> None:
    model = model_of("NILM", "AGC", "HSIL")
    cells = Detections(np.repeat(PAIR.boxes, [2, 1], axis=0), np.float32([0.5] * 3), np.arange(3))
    rows = rows_of(written(tmp_path, cells, model=model))
    assert {row["class"]: row["grade"] for row in rows} == {
        "NILM": "",
        "AGC": "",
        "HSIL": "high grade",
    }


def test_names_that_are_not_ascii_come_with_the_mark_that_excel_needs(tmp_path: Path) -> None:
    model = model_of("NILM", "Läsion")
    text = written(tmp_path, make_cells(2, classes=2), model=model).read_text(encoding="utf-8")
    assert text.startswith("\ufeffid,class")


def test_negative_numbers_stay_numbers(tmp_path: Path) -> None:
    cells = Detections(np.array([[-5, -5, 5, 5.0]]), np.float32([0.5]), np.array([1]))
    assert rows_of(written(tmp_path, cells))[0]["x_min"] == "-5.00"


def test_a_model_without_abnormal_classes_has_no_abnormal_cells() -> None:
    classes = [CellClass(name="NILM", abnormal=False)] * 6
    assert abnormal_scores(PAIR, classes).tolist() == [0, 0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "can't be read: is empty"),
        (b"id,class\n1,HSIL\n", "is no cells.csv of this model: there is no column x_min"),
        (HEAD.encode() + b"1,HPV,true,0.5,1,2,3,4\n", "this model: no class is called HPV"),
        (HEAD.encode() + b"1,HSIL,true,0.5,1,2\n", "this model: '' is no number"),
        (HEAD.encode() + b"1,HSIL,true,nan,1,2,3,4\n", "not all numbers are finite"),
        (HEAD.encode() + b"1,HSIL,\0\1", "can't be read: not text"),
    ],
)
def test_what_is_no_table_of_cells_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "cells.csv"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        read_cells(path, CLASSES)


def test_a_table_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    path = tmp_path / "cells.csv"
    path.write_text("id,class,abnormal,score,x_min,y_min,x_max,y_max\n1,HSIL,true,0.5,1,2,3,4\n")
    back = read_cells(path, CLASSES)
    assert (back.boxes.tolist(), back.class_scores) == ([[1, 2, 3, 4]], None)


@pytest.mark.parametrize("csv", ["plain", "excel-point", "excel-comma"])
def test_a_plain_table_is_read_as_any_other_is(tmp_path, monkeypatch, csv):
    cells = scored(make_cells(300), np.random.default_rng(1).random((300, 6), np.float32))
    path = tmp_path / "cells.csv"
    with path.open("w", encoding="utf-8", newline="") as stream:
        write_cells(stream, make_report(cells=cells, csv=csv))
    fast = [read_cells(path, CLASSES, most) for most in (None, 7, 0)]
    monkeypatch.setattr(cells_table, "read_plain", lambda *_: None)
    for quick, most in zip(fast, (None, 7, 0), strict=True):
        slow = read_cells(path, CLASSES, most)
        assert (quick.boxes == slow.boxes).all()
        assert (quick.scores == slow.scores).all()
        assert (quick.labels == slow.labels).all()
        assert quick.grades is slow.grades is None
        assert len(quick) == (300 if most is None else most)
        if len(quick):
            assert (quick.class_scores == slow.class_scores).all()


def test_a_plain_table_is_read_in_parts_and_grades_where_there_are_any(tmp_path, monkeypatch):
    monkeypatch.setattr(cells_reading, "_ROWS", 64)
    columns = [*CELL_COLUMNS, *score_columns(CLASSES), *grade_columns(CLASSES)]
    rows = []
    for number in range(200):
        row = [str(number + 1), "HSIL", "true", "0.5", *map(str, range(number, number + 4))]
        graded = [f"{number / 1000:.3f}"] * 7 if number % 3 == 0 else [""] * 7
        rows.append(",".join([*row, *["1"] * 5, *["0.25"] * 6, *graded]))
    path = tmp_path / "cells.csv"
    path.write_text("\n".join([",".join(columns), *rows]) + "\n")
    monkeypatch.setattr(cells_table, "read_sheet", None)  # the fast way alone
    cells = read_cells(path, CLASSES)
    assert cells.boxes[:, 0].tolist() == list(range(200))
    assert cells.graded.tolist() == [number % 3 == 0 for number in range(200)]
    assert cells.grades[198].tolist() == pytest.approx([0.198] * 7)
    assert (cells.class_scores == 0.25).all()
