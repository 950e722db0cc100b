"""What is in a folder of reports, and where its slides are."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from fakes import CLASSES, MODEL
from reviewfolders import SIZE, cells_on, draw_slide, write_result

from configs import ConfigError
from pipeline.batch.journal import Journal
from pipeline.batch.run_record import RunRecord, SlideRecord, save_record
from pipeline.reports.report import encodable
from pipeline.review.catalogue import Catalogue, NotThereError
from pipeline.review.celltable import CellTable
from pipeline.review.store import cell_key


@pytest.fixture
def room(tmp_path: Path) -> Path:
    """A folder with one slide, and its report below it."""
    slide = draw_slide(tmp_path / "slides" / "one.tif")
    write_result(tmp_path / "reports", "one.tif", slide, pictures=True)
    return tmp_path


def test_a_slide_is_found_by_its_path_and_its_cells_by_their_keys(room):
    with Catalogue(room / "reports") as catalogue:
        (result,) = catalogue
        found = catalogue.find_slide(result)
        assert (found.path, found.code) == (room / "slides" / "one.tif", "")
        table = catalogue.cells(result)
        assert len(table) == 40
        for row in range(40):
            assert table.row(table.key(row)) == row
        assert table.row("1.0_2.0_3.0_4.0") is None
        assert table.row("../../etc/passwd") is None
        assert table.row("nan_nan_nan_nan") is None


def test_a_slide_that_was_fetched_is_told_by_its_url(room):
    file, path = room / "reports/one.tif/report.json", room / "slides/one.tif"
    file.write_text(file.read_text().replace(str(path), "s3://bucket/one.tif"))
    with Catalogue(room / "reports") as catalogue:
        (result,) = catalogue
        found = catalogue.find_slide(result)
        assert found.code == "gone"
        assert found.reason.startswith("s3://bucket/one.tif: the slide is not there")


def test_a_slide_whose_name_is_no_text_is_found(room):
    name = os.fsdecode(b"caf\xe9.tif")
    draw_slide(room / "slides/two.tif", 1).rename(room / "slides" / name)
    write_result(room / "reports", name, room / "slides" / name)
    with Catalogue(room / "reports") as catalogue:
        (result,) = (one for one in catalogue if one.name == name)
        found = catalogue.find_slide(result)
        assert (found.path, found.code) == (room / "slides" / name, "")
    shutil.move(room / "slides" / name, room / name)
    with Catalogue(room / "reports", room) as catalogue:
        (result,) = (one for one in catalogue if one.name == name)
        assert catalogue.find_slide(result).path == room / name


def test_keys_by_tenths_are_those_of_the_store():
    sides = np.array([[0.05, 0.25, 0.35, 0.45], [1234.15, 7.05, 99999.95, -0.04]])
    cells = cells_on(2)
    table = CellTable(type(cells)(sides, cells.scores, cells.labels), CLASSES)
    for row in range(2):
        told = "_".join(f"{tenth / 10 + 0.0:.1f}" for tenth in table.tenths[row])
        assert told == cell_key(tuple(sides[row].tolist()))


def test_a_slide_that_has_moved_is_found_by_its_name_and_content(room):
    (room / "elsewhere" / "deep").mkdir(parents=True)
    draw_slide(room / "elsewhere" / "one.tif", seed=5)  # of the same name, another slide
    shutil.move(room / "slides" / "one.tif", room / "elsewhere" / "deep" / "one.tif")
    os.utime(room / "elsewhere" / "deep" / "one.tif", (1, 1))  # as after copying
    with Catalogue(room / "reports") as catalogue:
        (result,) = catalogue
        found = catalogue.find_slide(result)
        assert (found.path, found.code) == (None, "gone")
        assert "--slides" in found.reason
        with pytest.raises(NotThereError, match="is not there"):
            catalogue.tile(result, 0, 0, 0)
        # From the report's own page there still are pictures.
        assert catalogue.close_up(result, 0, 48, 192).startswith(b"\xff\xd8")
    with Catalogue(room / "reports", room / "elsewhere") as catalogue:
        (result,) = catalogue
        assert catalogue.find_slide(result).path == room / "elsewhere" / "deep" / "one.tif"


def test_a_slide_that_has_changed_is_not_shown(room):
    draw_slide(room / "slides" / "one.tif", seed=3)
    with Catalogue(room / "reports") as catalogue:
        (result,) = catalogue
        found = catalogue.find_slide(result)
        assert (found.path, found.code) == (None, "changed")
        with pytest.raises(NotThereError, match="no longer the slide that was screened"):
            catalogue.tile(result, 0, 0, 0)


def test_a_slide_of_a_result_without_fingerprint_is_shown_and_told(room):
    (room / "reports" / "one.tif" / "fingerprint.json").unlink()
    with Catalogue(room / "reports") as catalogue:
        (result,) = catalogue
        found = catalogue.find_slide(result)
        assert (found.path, found.code) == (room / "slides" / "one.tif", "unchecked")
        assert result.key.sha256 == ""
        # Another size would show cells at wrong places.
        write = json.loads((room / "reports/one.tif/report.json").read_text())
        write["slide"]["width"] = SIZE.width + 1
        (room / "reports/one.tif/report.json").write_text(json.dumps(write))
        catalogue.refresh(0)
        (result,) = catalogue
        with pytest.raises(NotThereError, match="1201 x 900"):
            catalogue.tile(result, 0, 0, 0)


def test_a_link_out_of_the_folder_of_slides_is_not_followed(room):
    (room / "linked").mkdir()
    (room / "linked" / "one.tif").symlink_to(room / "slides" / "one.tif")
    moved = room / "slides" / "one.tif"
    report = room / "reports" / "one.tif" / "report.json"
    report.write_text(report.read_text().replace(str(moved), "/nowhere/one.tif"))
    with Catalogue(room / "reports", room / "linked") as catalogue:
        (result,) = catalogue
        assert catalogue.find_slide(result).code == "gone"
    (room / "linked" / "inner").mkdir()
    shutil.copy2(moved, room / "linked" / "inner" / "x.tif")
    (room / "linked" / "one.tif").unlink()
    (room / "linked" / "one.tif").symlink_to("inner/x.tif")
    with Catalogue(room / "reports", room / "linked") as catalogue:
        (result,) = catalogue
        assert catalogue.find_slide(result).path == room / "linked" / "one.tif"


def test_a_path_within_where_screen_was_called_is_found_from_beside_the_reports(
    room, monkeypatch, tmp_path_factory
):
    report = room / "reports" / "one.tif" / "report.json"
    report.write_text(report.read_text().replace(f"{room}/slides/one.tif", "slides/one.tif"))
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    with Catalogue(room / "reports") as catalogue:
        (result,) = catalogue
        assert catalogue.find_slide(result).path == room / "slides" / "one.tif"


def test_files_that_links_lead_out_to_are_not_read(room):
    secret = room / "secret.csv"
    cells = room / "reports" / "one.tif" / "cells.csv"
    shutil.move(cells, secret)
    cells.symlink_to(secret)
    with Catalogue(room / "reports") as catalogue:
        (result,) = catalogue
        with pytest.raises(ConfigError, match=r"cells.csv: is not there"):
            catalogue.cells(result)
    page = room / "reports" / "one.tif" / "report.html"
    shutil.move(page, room / "secret.html")
    page.symlink_to(room / "secret.html")
    with Catalogue(room / "reports") as catalogue:
        (result,) = catalogue
        assert catalogue.pictures(result).overview is None


def test_a_table_of_other_cells_than_the_report_counts_is_refused(room):
    path = room / "reports" / "one.tif" / "cells.csv"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    with Catalogue(room / "reports") as catalogue:
        (result,) = catalogue
        with pytest.raises(ConfigError, match=r"has 39 cells, and report\.json counts 40"):
            catalogue.cells(result)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda folder: None, "no such folder of reports"),
        (lambda folder: folder.mkdir(), "has no reports"),
        (lambda folder: _report(folder, "{}", ""), "is the report of one slide"),
        (lambda folder: _report(folder, '{"schema_version": "3.0"}'), "of schema version 3.0"),
        (lambda folder: _report(folder, '{"schema_version": "2.0"}'), "is damaged"),
        (lambda folder: _report(folder, '{"a": 1}'), "is no report of cytolibra screen"),
        (lambda folder: _report(folder, "[" * 100_000), "is damaged"),
    ],
)
def test_a_folder_without_reports_that_can_be_used_is_refused_in_one_line(tmp_path, make, told):
    make(tmp_path / "reports")
    with pytest.raises(ConfigError, match=told) as caught:
        Catalogue(tmp_path / "reports")
    assert "\n" not in str(caught.value)


def _report(folder: Path, text: str, name: str = "one") -> None:
    (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / name / "report.json").write_text(text)


def test_a_broken_result_stands_in_the_list_beside_a_good_one(room):
    _report(room / "reports", '{"schema_version": "9.9"}', "two.tif")
    with Catalogue(room / "reports") as catalogue:
        assert [result.name for result in catalogue] == ["one.tif"]
        places = {place.row.slide: place for place in catalogue.worklist.places}
        assert places["two.tif"].section == "failed"
        assert "schema version 9.9" in places["two.tif"].row.error


def test_a_slide_whose_name_is_no_text_stands_in_the_list_once(room):
    name = os.fsdecode(b"caf\xe9.tif")
    slide = draw_slide(room / "slides/two.tif", 1)
    write_result(room / "reports", name, slide)
    told = SlideRecord(path=str(slide), status="complete")
    record = RunRecord(
        command=(),
        shard=None,
        started="2026-01-01T00:00:00.000+00:00",
        software={},
        model=MODEL,
        settings={},
        recipe="",
        slides={encodable(name): told},
    )
    save_record(record, room / "reports")
    with Catalogue(room / "reports") as catalogue:
        assert len(catalogue.worklist.places) == 2


def test_results_that_come_and_go_are_seen(room):
    with Catalogue(room / "reports") as catalogue:
        before = catalogue.version
        catalogue.refresh(0)
        assert catalogue.version == before
        write_result(room / "reports", "sub/two.tif", draw_slide(room / "slides" / "two.tif", 1))
        catalogue.refresh(60)
        assert len(catalogue) == 1
        catalogue.refresh(0)
        assert {result.name for result in catalogue} == {"one.tif", "sub/two.tif"}
        shutil.rmtree(room / "reports" / "one.tif")
        catalogue.refresh(0)
        assert [result.name for result in catalogue] == ["sub/two.tif"]


def test_what_a_run_that_goes_on_has_noted_alone_is_seen(room):
    reports = room / "reports"
    running = RunRecord(
        command=("cytolibra", "screen"),
        shard=None,
        started="2026-01-01T00:00:00Z",
        software={},
        model=MODEL,
        settings={},
        recipe="test",
        slides={"lost.tif": SlideRecord(path="lost.tif")},
    )
    save_record(running, reports)
    with Catalogue(reports) as catalogue:

        def section():
            places = {place.row.slide: place for place in catalogue.worklist.places}
            return places["lost.tif"].section

        assert section() == "pending"
        # run.json is written now and then only; until then the journal tells.
        running.slides["lost.tif"] = SlideRecord(
            path="lost.tif", status="failed", attempts=1, error="broken"
        )
        Journal(reports, "run").add(running, "lost.tif")
        catalogue.refresh(0)
        assert section() == "failed"


def test_a_report_of_other_settings_than_the_last_run_is_shown_with_a_warning(room):
    record = RunRecord(
        command=("cytolibra", "screen"),
        shard=None,
        started="2026-01-01T00:00:00Z",
        software={},
        model=MODEL,
        settings={},
        recipe="another",
        slides={"lost.tif": SlideRecord(path="lost.tif", status="failed", error="broken")},
    )
    save_record(record, room / "reports")
    with Catalogue(room / "reports") as catalogue:
        (result,) = catalogue
        assert [doubt.code for doubt in result.report.warnings] == ["mixed-settings"]
        places = {place.row.slide: place for place in catalogue.worklist.places}
        assert "warned" in places["one.tif"].flags
        assert (places["lost.tif"].section, places["lost.tif"].row.error) == ("failed", "broken")
    save_record(record.model_copy(update={"recipe": "test"}), room / "reports")
    with Catalogue(room / "reports") as catalogue:
        assert [result.report.warnings for result in catalogue] == [()]
