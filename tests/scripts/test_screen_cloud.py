"""``screen`` with URLs, as it is called."""

import json

import numpy as np
import pytest
from remoteservers import EXPIRED, Fault, file_server
from slidefiles import write_pyramid
from typer.testing import CliRunner

from scripts.cli import build_app

MODEL = ["--model", "cric-fcos-light", "--set", "tiler.size=256", "--set", "cloud.tries=2"]


def call(*arguments, name="screen"):
    return CliRunner().invoke(build_app(name), [name, *map(str, arguments)])


@pytest.fixture
def slides(tmp_path):
    folder = tmp_path / "slides"
    folder.mkdir()
    for seed, name in enumerate(("a b.tif", "c.tif")):
        pixels = np.random.default_rng(seed).integers(90, 200, (500, 700, 3), dtype=np.uint8)
        write_pyramid(folder / name, pixels, mpp=0.5)
    return folder


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["x.svs", "--out", "s3://lab/out"], "is a URL; reports are written to a folder here"),
        (["x.svs", "--out", "s3://lab/out", "--dry-run"], "is a URL; reports are written"),
        (["ftp://host/a.svs", "--out", "out"], "slides are fetched from s3://"),
        (["s3://me:word@lab/a.svs", "--out", "out"], "carries a key or a password"),
        (["https://host/folder/", "--out", "out"], "web servers don't list folders"),
    ],
)
def test_what_is_no_place_of_slides_or_reports_is_refused(arguments, problem, tmp_path):
    result = call(*arguments)
    told = " ".join((result.stderr + str(result.exception)).replace("│", " ").split())
    assert problem in told
    assert "word@" not in told
    assert not (tmp_path / "out").exists()


def test_ray_needs_a_scratch_folder_that_all_machines_see(slides, tmp_path):
    with file_server(slides) as web:
        result = call(f"{web.url}/c.tif", "--out", tmp_path / "out", "--engine", "ray")
    assert "name a folder on a share by --set cloud.scratch=FOLDER" in result.stderr


def test_a_dry_run_tells_what_would_be_fetched_and_fetches_nothing(bucket, slides, tmp_path):
    bucket.put_folder(slides, "x/")
    result = call(f"{bucket.url}/x", "--out", tmp_path / "out", "--dry-run", *MODEL)
    size = sum(path.stat().st_size for path in slides.iterdir())
    assert f"from {bucket.url}/x/a b.tif" in result.stdout
    assert f"2 to fetch and screen ({size / 1e6:.2f} MB), not looked into" in result.stdout
    assert not any(span for _, _, span in bucket.server.asked)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_slides_elsewhere_give_the_cells_of_slides_here(bucket, slides, tmp_path):
    bucket.put_folder(slides, "x/")
    assert call(slides, "--out", tmp_path / "here", *MODEL).exit_code == 0
    assert call(f"{bucket.url}/x", "--out", tmp_path / "there", *MODEL).exit_code == 0
    for name in ("a b.tif", "c.tif"):
        for file in ("cells.csv", "cells.geojson"):
            here = (tmp_path / "here" / name / file).read_bytes()
            assert (tmp_path / "there" / name / file).read_bytes() == here
        report = json.loads((tmp_path / "there" / name / "report.json").read_text())
        assert report["slide"]["path"] == f"{bucket.url}/x/{name}"
        assert "cloud" not in report["settings"]
    assert f"{bucket.url}/x/c.tif" in (tmp_path / "there/summary.csv").read_text()
    assert not (tmp_path / "there/.fetched").exists()
    # Others thresholds: made of what was found, with pictures of the slide, fetched for that.
    other = call(f"{bucket.url}/x", "--out", tmp_path / "there", *MODEL, "--threshold", "0.9")
    assert "2 rescored" in other.stdout
    # Without fetching anything: known by their URLs as before.
    assert call(tmp_path / "there", "--out", tmp_path / "new", name="rescore").exit_code == 0
    assert f"{bucket.url}/x/c.tif" in (tmp_path / "new/summary.csv").read_text()
    report = json.loads((tmp_path / "there/c.tif/report.json").read_text())
    assert report["slide"]["path"] == f"{bucket.url}/x/c.tif"
    assert "slide-not-there" not in [doubt["code"] for doubt in report["warnings"]]


@pytest.mark.slow
def test_what_failed_is_screened_again_by_retry(bucket, slides, tmp_path, monkeypatch):
    bucket.put_folder(slides, "x/")
    expired = Fault(status=403, body=EXPIRED)
    bucket.server.fault = lambda m, path, span: expired if "/c.tif" in path and span else None
    command = [f"{bucket.url}/x", "--out", str(tmp_path / "out"), *MODEL]
    monkeypatch.setattr("sys.argv", ["cytolibra", "screen", *command])
    result = call(*command)
    assert result.exit_code == 1
    assert "c.tif: the credential has expired; renew it, and start again" in result.stderr
    bucket.server.fault = lambda *_: None
    again = call(tmp_path / "out", name="retry")
    assert again.exit_code == 0, again.output
    assert "1 screened" in again.stdout


@pytest.mark.slow
def test_a_signature_is_in_nothing_that_is_written_or_told(slides, tmp_path, monkeypatch):
    out = tmp_path / "out"
    with file_server(slides) as web:
        url = f"{web.url}/c.tif?X-Amz-Signature=geheim"
        monkeypatch.setattr("sys.argv", ["cytolibra", "screen", url, "--out", str(out)])
        result = call(url, f"{web.url}/gone.tif?sig=geheim", "--out", out, *MODEL)
    assert result.exit_code == 1
    assert "geheim" not in result.output
    for path in out.rglob("*"):
        assert path.is_dir() or b"geheim" not in path.read_bytes(), path
    record = json.loads((out / "run.json").read_text())
    assert record["command"] == ["cytolibra", "screen", f"{web.url}/c.tif", "--out", str(out)]
