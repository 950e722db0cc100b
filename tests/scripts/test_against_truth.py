"""Screened slides against their truth: what can't be judged is named in a line."""

import json

import pytest
from fakes import make_report

from scripts import against_truth as module


@pytest.fixture
def folders(tmp_path):
    """A slide with one HSIL in its truth, and its report, which has none."""
    slides, reports = tmp_path / "slides", tmp_path / "reports"
    slides.mkdir()
    write_truth(slides / "a[1].truth.json", "HSIL")
    result = reports / "a[1].tif"
    result.mkdir(parents=True)
    (result / "report.json").write_text(make_report().model_dump_json())
    (result / "cells.csv").write_text("class,score,x_min,y_min,x_max,y_max\n")
    return slides, reports


def write_truth(path, name):
    cells = [{"category_id": 1, "bbox": [0, 0, 20, 20]}]
    content = {"categories": [{"id": 1, "name": name}], "annotations": cells}
    path.write_text(json.dumps(content))


def call(folders, monkeypatch):
    monkeypatch.setattr("sys.argv", ["against_truth", *map(str, folders)])
    module.main()


def test_a_slide_is_judged(folders, monkeypatch, capsys):
    call(folders, monkeypatch)
    assert "a[1]" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda slides, _: (slides / "a[1].truth.json").unlink(), "has no NAME.truth.json"),
        (lambda _, reports: (reports / "a[1].tif").rename(reports / "b.tif"), "no report of a[1]"),
        (lambda slides, _: write_truth(slides / "a[1].truth.json", "AGC"), "has AGC; the model"),
    ],
)
def test_what_is_missing_is_named(folders, damage, message, monkeypatch, capsys):
    damage(*folders)
    with pytest.raises(SystemExit) as caught:
        call(folders, monkeypatch)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


def test_of_several_reports_that_of_the_truths_own_file_is_taken(folders, monkeypatch, capsys):
    slides, reports = folders
    (reports / "a[1].ome.tif").mkdir()
    with pytest.raises(SystemExit):
        call(folders, monkeypatch)
    assert "may be of a[1].ome.tif, a[1].tif" in capsys.readouterr().err
    truth = slides / "a[1].truth.json"
    content = json.loads(truth.read_text()) | {"images": [{"id": 1, "file_name": "a[1].tif"}]}
    truth.write_text(json.dumps(content))
    call(folders, monkeypatch)
    assert "a[1]" in capsys.readouterr().out
