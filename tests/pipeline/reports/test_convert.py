"""Folders of reports of earlier schemas, written anew as this one's."""

import json
from pathlib import Path

import jsonschema
import pytest
from fakes import make_older_report

from pipeline.reports.convert import main
from pipeline.reports.report import report_schema


def test_older_reports_are_written_anew_and_newer_ones_left_alone(tmp_path, capsys):
    for version in ("1.0", "1.1"):
        folder = tmp_path / version
        folder.mkdir()
        (folder / "report.json").write_text(
            json.dumps(make_older_report(version)), encoding="utf-8"
        )
    assert main([str(tmp_path)]) == 0
    told = capsys.readouterr().out.splitlines()
    assert told == [str(tmp_path / version / "report.json") for version in ("1.0", "1.1")]
    for path in told:
        report = json.loads(Path(path).read_text(encoding="utf-8"))
        jsonschema.validate(report, report_schema())
        assert report["schema_version"] == "2.0"
        assert report["levels"]["abnormal"] == report["abnormal_cells"]
    assert main([str(tmp_path)]) == 0
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b'{"schema_version": "1.1"}', b"\xff"])
def test_what_is_no_report_is_told_in_one_line(tmp_path, capsys, content):
    (tmp_path / "report.json").write_bytes(content)
    assert main([str(tmp_path)]) == 2
    assert "is no report of cytolibra screen" in capsys.readouterr().err
    assert (tmp_path / "report.json").read_bytes() == content
    assert main([]) == main([str(tmp_path / "none")]) == 2
