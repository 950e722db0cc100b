"""``cytolibra merge``: the cells of a batch in one file, or a line that says why not."""

import io
import json
import sys

import pytest
from fakes import CLASSES, MODEL, make_cells, make_report
from mergecases import call, refused, rows_of, write
from typer.testing import CliRunner

from pipeline.batch.run_record import RunRecord, SlideRecord, save_record
from pipeline.cells.classes import CellClass
from pipeline.reports.arrow_cells import cell_schema, unit_of, write_parquet
from pipeline.reports.tables import ReportSettings
from pipeline.reports.writers import write_reports
from scripts.cli import build_app, main
from scripts.reference.columns import CELLS

pytest.importorskip("pyarrow", reason="tables of Arrow need cytolibra[parquet]")
pq = pytest.importorskip("pyarrow.parquet")


@pytest.fixture
def batch(tmp_path):
    """Three slides, one of them for Excel, one without a cell."""
    out = tmp_path / "reports"
    write(out, "a/é.svs", 30)
    write(out, "b.svs", 7, csv="excel-comma")
    write(out, "c.svs", 0)
    return out


def told(batch):
    """All that the files say, as text."""
    plain, excel = rows_of(batch / "a/é.svs"), rows_of(batch / "b.svs", ";")
    return [*plain, *excel], ["a/é.svs"] * 30 + ["b.svs"] * 7


def is_same(value, text):
    if isinstance(value, bool):
        return text == str(value).lower()
    return (value is None and not text) or (
        value == (text if isinstance(value, str) else float(text))
    )


def test_parquet_has_the_values_of_the_tables(batch, tmp_path):
    result = call(batch, "--out", tmp_path / "x" / "all.parquet")
    assert result.stdout == f"{tmp_path / 'x' / 'all.parquet'}: 37 cells of 3 slides\n"
    table = pq.read_table(tmp_path / "x" / "all.parquet")
    rows, slides = told(batch)
    assert table.column_names == ["slide", "recipe", *rows[0]]
    assert table["slide"].to_pylist() == slides
    assert set(table["recipe"].to_pylist()) == {"a" * 12}
    for found, row in zip(table.to_pylist(), rows, strict=True):
        assert all(is_same(found[name], text) for name, text in row.items())
    facts = json.loads(table.schema.metadata[b"cytolibra"])
    assert (facts["model"], facts["recipes"]) == ("fake", 1)
    assert table.schema.field("x_um").metadata == {b"unit": "µm".encode()}


def test_units_are_those_of_the_documentation():
    for name, column in CELLS.items():
        if name != "id":
            assert unit_of(name) == column.unit, name


def test_pandas_and_duckdb_open_it(batch, tmp_path):
    pandas, duckdb = pytest.importorskip("pandas"), pytest.importorskip("duckdb")
    call(batch, "--out", tmp_path / "all.parquet")
    frame = pandas.read_parquet(tmp_path / "all.parquet")
    assert frame.groupby("slide").size().to_dict() == {"a/é.svs": 30, "b.svs": 7}
    asked = f"SELECT count(*), sum(score) FROM '{tmp_path / 'all.parquet'}'"
    ((count, total),) = duckdb.sql(asked).fetchall()
    assert count == 37
    assert total == pytest.approx(sum(float(row["score"]) for row in told(batch)[0]))


def test_a_database_has_cells_slides_and_units(batch, tmp_path):
    duckdb = pytest.importorskip("duckdb")
    path = tmp_path / "all.duckdb"
    call(batch, "--to", "duckdb", "--out", path)
    call(batch, "--to", "duckdb", "--out", path)  # in the place of the first
    assert [one.name for one in tmp_path.iterdir() if one.name.startswith(".")] == []
    with duckdb.connect(str(path), read_only=True) as base:
        joined = "SELECT slide, count(c.id), any_value(s.cells) FROM slides s LEFT JOIN cells c "
        counts = base.sql(f"{joined} USING (slide) GROUP BY slide ORDER BY slide").fetchall()
        assert counts == [("a/é.svs", 30, 30), ("b.svs", 7, 7), ("c.svs", 0, 0)]
        found = base.sql('SELECT "score_ASC-US" FROM cells ORDER BY slide, id').fetchall()
        assert [one for (one,) in found] == [float(r["score_ASC-US"]) for r in told(batch)[0]]
        comments = "SELECT comment FROM duckdb_columns() WHERE column_name = 'x_um'"
        assert base.sql(comments).fetchall() == [("µm",)]


def test_coco_is_read_by_its_own_library(batch, tmp_path, capsys):
    from pycocotools.coco import COCO

    path = tmp_path / "all.json"
    call(batch, "--to", "coco", "--out", path)
    coco = COCO(str(path))
    assert [image["file_name"] for image in coco.imgs.values()] == ["a/é.svs", "b.svs", "c.svs"]
    row, cell = rows_of(batch / "a/é.svs")[0], coco.loadAnns(coco.getAnnIds([1]))[0]
    assert coco.cats[cell["category_id"]]["name"] == row["class"]
    assert cell["bbox"][:2] == [float(row["x_min"]), float(row["y_min"])]
    assert cell["bbox"][2] == pytest.approx(float(row["x_max"]) - float(row["x_min"]))
    assert cell["score"] == float(row["score"])
    assert len(coco.anns) == 37


@pytest.mark.parametrize("csv", ["plain", "excel-comma"])
def test_a_slides_own_parquet_has_the_values_of_its_table(tmp_path, csv):
    report = make_report("a.svs", make_cells(20), csv=csv)
    write_reports(report, tmp_path)
    assert not (tmp_path / "cells.parquet").exists()
    report.settings["reports"]["parquet"] = True
    write_reports(report, tmp_path)
    table = pq.read_table(tmp_path / "cells.parquet")
    rows = rows_of(tmp_path, ";" if csv == "excel-comma" else ",")
    assert table.column_names == list(rows[0])
    for found, row in zip(table.to_pylist(), rows, strict=True):
        assert all(is_same(found[name], text) for name, text in row.items())
    assert json.loads(table.schema.metadata[b"cytolibra"])["mpp"] == report.slide.mpp


def test_a_class_that_looks_like_a_formula_has_its_name(tmp_path):
    names = (CellClass(name="=1+1", abnormal=True), CellClass(name='a "b", c', abnormal=False))
    model = MODEL.model_copy(update={"classes": names, "threshold": {n.name: 0.1 for n in names}})
    folder = tmp_path / "r" / "a.svs"
    folder.mkdir(parents=True)
    write_reports(make_report("a.svs", make_cells(20, classes=2), model=model), folder)
    call(tmp_path / "r", "--out", tmp_path / "all.parquet")
    assert set(pq.read_table(tmp_path / "all.parquet")["class"].to_pylist()) == {"=1+1", 'a "b", c'}


def test_different_settings_are_refused_or_told_apart(batch, tmp_path):
    write(batch, "d.svs", 4, recipe="b" * 64)
    text = refused(batch, "--out", tmp_path / "all.parquet")
    assert "1 of 4 slides are of other settings than the rest" in text
    assert str(batch / "d.svs") in text
    assert not (tmp_path / "all.parquet").exists()
    call(batch, "--out", tmp_path / "all.parquet", "--mixed")
    assert set(pq.read_table(tmp_path / "all.parquet")["recipe"].to_pylist()) == {
        "a" * 12,
        "b" * 12,
    }


def test_different_models_are_always_refused(batch, tmp_path):
    write(batch, "d.svs", 4, model=MODEL.model_copy(update={"sha256": "1" * 64}))
    text = refused(batch, "--out", tmp_path / "all.parquet", "--mixed")
    assert "are of models with different weights" in text


def leave_record(folder, *slides, recipe="", command=(), **more):
    """Leaves the record of a run of slides."""
    record = RunRecord(
        command=command,
        shard=None,
        started="",
        software={},
        model=MODEL,
        settings={},
        recipe=recipe,
        **{"slides": {slide.path: slide for slide in slides}} | more,
    )
    save_record(record, folder)


def test_what_has_no_result_is_told(batch, tmp_path):
    states = {"a/é.svs": "complete", "x.svs": "failed", "y.svs": "running"}
    slides = [SlideRecord(path=name, status=state) for name, state in states.items()]
    leave_record(batch, *slides, not_read={"z.kfb": "KFBIO"})
    result = call(batch, "--out", tmp_path / "all.parquet")
    assert "2 slides of the batch are not complete" in result.stderr
    assert "1 files that look like slides were not read" in result.stderr


@pytest.mark.parametrize("several", [False, True])
def test_the_report_of_before_of_what_has_failed_since_is_left_out(batch, tmp_path, several):
    error = "a/é.svs: ends at byte 7"
    leave_record(batch, SlideRecord(path="a/é.svs", status="failed", error=error))
    named = tmp_path if several else batch
    result = call(named, "--out", tmp_path / "all.parquet")
    assert "7 cells of 2 slides" in result.stdout
    assert "1 slides have a report of before, and failed when they were last" in result.stderr
    assert "1 slides of the batch are not complete" in result.stderr


def test_the_report_of_another_slide_of_its_name_stands(batch, tmp_path):
    error = "a/é.svs: is the report of another slide [other-slide]"
    leave_record(batch, SlideRecord(path="a/é.svs", status="failed", error=error))
    assert "37 cells of 3 slides" in call(batch, "--out", tmp_path / "all.parquet").stdout


@pytest.mark.parametrize(
    ("command", "status", "told"),
    [
        ("screen", "pending", "which has not come to them: {}; run its command again, to its end"),
        ("rescore", "failed", "a cytolibra rescore that made none of them: {}; rescore them by "),
    ],
)
def test_reports_of_other_settings_than_the_last_run_are_refused_or_told(
    batch, tmp_path, command, status, told
):
    slides = [SlideRecord(path=name, status=status) for name in ("a/é.svs", "b.svs", "c.svs")]
    words = ("cytolibra", command, "x")
    leave_record(batch, *slides, recipe="b" * 64, command=words)
    text = refused(batch, "--out", tmp_path / "all.parquet")
    assert "3 of 3 slides have reports of other settings than the last run" in text
    assert told.format(f"{batch / 'a/é.svs'} first") in text
    assert text.endswith("or merge them with --mixed\n")
    result = call(batch, "--out", tmp_path / "all.parquet", "--mixed")
    assert "37 cells of 3 slides" in result.stdout
    assert result.stderr == (
        "warning: 3 slides have reports of other settings than the last run: a/é.svs, b.svs, c.svs "
        "[mixed-settings]\n"
    )


def test_what_has_changed_and_was_not_reached_is_left_out_and_what_has_not_stands(batch, tmp_path):
    (tmp_path / "b.svs").touch()  # not the file of the fingerprint, which is of none
    slides = {
        path.name: SlideRecord(path=str(path), status="pending")
        for path in (tmp_path / "b.svs", tmp_path / "c.svs")
    }
    leave_record(batch, recipe="a" * 64, slides=slides)
    result = call(batch, "--out", tmp_path / "all.parquet")
    assert "30 cells of 2 slides" in result.stdout
    changed, missing = result.stderr.splitlines()
    assert "1 slides have changed since their report was made" in changed
    assert changed.endswith(": b.svs; they are left out")
    assert "1 slides of the batch are not complete" in missing


def cut(text):
    return text[: len(text) // 2].rpartition("\n")[0] + "\n"


DAMAGE = {
    "rows missing": (cut, "and report.json beside it counts 30"),
    "broken off": (lambda text: text[:-20], "it was broken off"),
    "empty": (lambda text: "", "it is empty"),
    "a word": (lambda text: text.replace("false", "flase"), "is damaged"),
    "no number": (lambda text: text.replace("0.", "nan.", 9), "is damaged"),
    "a column less": (lambda text: text.replace("x_min", "left"), "there is no column x_min"),
    "a stranger": (lambda text: text.replace("LSIL,", "LSYL,"), "no class of the model is called"),
}


@pytest.mark.parametrize("kind", DAMAGE)
@pytest.mark.parametrize("target", ["parquet", "duckdb", "coco"])
def test_a_damaged_table_is_refused(batch, tmp_path, kind, target):
    if target == "duckdb":
        pytest.importorskip("duckdb")
    change, message = DAMAGE[kind]
    path = batch / "a/é.svs" / "cells.csv"
    path.write_text(change(path.read_text(encoding="utf-8")), encoding="utf-8")
    out = tmp_path / "all"
    text = refused(batch, "--to", target, "--out", out)
    assert str(path) in text
    assert message in text
    assert list(tmp_path.iterdir()) == [batch]


def test_reports_that_can_not_be_read_are_refused(batch, tmp_path):
    path, out = batch / "b.svs" / "report.json", tmp_path / "all"
    said = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(said | {"schema_version": "3.0"}), encoding="utf-8")
    assert f"{path}: is of schema version 3.0, and this version" in refused(batch, "--out", out)
    path.write_text("{", encoding="utf-8")
    assert f"{path}: is damaged; screen its slide again" in refused(batch, "--out", out)
    (batch / "b.svs" / "cells.csv").unlink()
    path.write_text(json.dumps(said), encoding="utf-8")
    assert "cells.csv: can't be read: " in refused(batch, "--out", out)


def test_calls_that_mean_nothing_are_refused(batch, tmp_path):
    assert "no such folder of reports" in refused(tmp_path / "gone", "--out", tmp_path / "all")
    assert "is the report of one slide" in refused(batch / "c.svs", "--out", tmp_path / "all")
    (tmp_path / "none").mkdir()
    assert "has no reports" in refused(tmp_path / "none", "--out", tmp_path / "all")
    assert "is a folder" in refused(batch, "--out", tmp_path / "none")
    (tmp_path / "file").touch()
    assert "can't be written" in refused(batch, "--out", tmp_path / "file" / "all")


def test_an_extra_that_is_missing_is_named(batch, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    text = refused(batch, "--out", tmp_path / "all")
    assert text == "error: merge: pyarrow is not installed: pip install 'cytolibra[parquet]'\n"


def test_earlier_tables_lack_columns(tmp_path):
    folder = write(tmp_path / "r", "a.svs", 5)
    rows = (folder / "cells.csv").read_text().splitlines()
    count = rows[0].split(",").index("score_abnormal")
    shorter = "\n".join(",".join(row.split(",")[:count]) for row in rows) + "\n"
    (folder / "cells.csv").write_text(shorter)
    call(tmp_path / "r", "--out", tmp_path / "all.parquet")
    table = pq.read_table(tmp_path / "all.parquet")
    assert table["score_HSIL"].null_count == table["carries_suggestion"].null_count == 5
    assert table["x_um"].null_count == 0


def test_grades_have_columns_where_a_grader_looked():
    plain, graded = (set(cell_schema(CLASSES, looked).names) for looked in (False, True))
    assert graded - plain == {f"grade_{one.name}" for one in CLASSES} | {"grade_background"}


def test_screening_says_first_that_an_extra_is_missing(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    words = ["screen", str(tmp_path), "--out", str(tmp_path / "out"), "--parquet"]
    result = CliRunner().invoke(build_app("screen"), words)
    assert result.exit_code == 2
    text = "error: reports.parquet: pyarrow is not installed: pip install 'cytolibra[parquet]'\n"
    assert result.stderr == text


def test_results_without_parquet_keep_their_recipe():
    assert ReportSettings().of_slides() == {"csv": "plain"}
    assert ReportSettings(parquet=True).of_slides() == {"csv": "plain", "parquet": True}


@pytest.mark.skipif(sys.platform != "linux", reason="names are text here")
def test_a_slide_whose_name_is_no_text_is_merged_like_any(tmp_path):
    out = tmp_path / "reports"
    folder = write(out, "no\udcfftext.svs", 7)
    assert call(out, "--out", tmp_path / "all.parquet").exit_code == 0
    merged = pq.read_table(tmp_path / "all.parquet")
    assert merged["slide"].to_pylist() == ["no\\udcfftext.svs"] * 7
    report = make_report("no\udcfftext.svs", make_cells(7, seed=7))
    write_parquet(report, folder)
    assert len(pq.read_table(io.BytesIO((folder / "cells.parquet").read_bytes()))) == 7


@pytest.mark.skipif(sys.platform != "linux", reason="names are text here")
def test_a_place_whose_name_is_no_text_is_written_and_told_or_refused(batch, tmp_path, monkeypatch):
    place = tmp_path / "no\udcff.json"
    words = ["cytolibra", "merge", str(batch), "--to", "coco", "--out", str(place)]
    stream = io.TextIOWrapper(io.BytesIO(), "utf-8")
    monkeypatch.setattr("sys.argv", words)
    monkeypatch.setattr("sys.stdout", stream)
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 0
    stream.flush()
    assert b"no\\udcff.json: 37 cells of 3 slides" in stream.buffer.getvalue()
    assert len(json.loads(place.read_text())["annotations"]) == 37
    (tmp_path / "\udcff").mkdir()
    assert "its name is no text" in refused(batch, "--out", tmp_path / "\udcff" / "a.parquet")
