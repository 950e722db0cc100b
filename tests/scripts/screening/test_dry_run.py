"""``screen --dry-run``: what would be done, and that nothing is."""

import json

import numpy as np
import pytest
from slidefiles import write_pyramid
from typer.testing import CliRunner

from scripts.cli import build_app
from scripts.screening.dry_run import _duration

MODEL = ["--model", "cric-fcos-light", "--set", "tiler.size=256"]


@pytest.fixture
def slides(tmp_path):
    folder = tmp_path / "slides"
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(90, 200, (500, 700, 3), dtype=np.uint8)
    write_pyramid(folder / "a.tif", pixels, mpp=0.5)
    write_pyramid(folder / "none.tif", pixels, mpp=None)
    (folder / "broken.svs").write_bytes(b"no slide")
    return folder


def call(slides, out, *options):
    arguments = ["screen", str(slides), "--out", str(out), *MODEL, *options]
    return CliRunner().invoke(build_app("screen"), arguments)


def test_tells_what_would_be_done_and_does_nothing(slides, tmp_path):
    result = call(slides, tmp_path / "out", "--dry-run")
    assert result.exit_code == 1  # as a run would end
    lines = {line.partition(":")[0]: line for line in result.stdout.splitlines()}
    assert lines["a.tif"].startswith("a.tif: to screen")
    assert lines["a.tif"].endswith("; 0.1 mm², 15 tiles")
    assert "none.tif: refused: " in lines["none.tif"]
    assert "--mpp" in lines["none.tif"]
    assert lines["broken.svs"].startswith("broken.svs: refused: ")
    assert "1 to screen (0.1 mm²), 0 with nothing to do, 2 refused" in result.stdout
    assert "15 tiles at the pace of a few of a.tif (cric-fcos-light on " in result.stdout
    assert not (tmp_path / "out").exists()


def test_area_and_tiles_are_those_of_the_run_and_what_is_done_stays_done(slides, tmp_path):
    out = tmp_path / "out"
    (slides / "broken.svs").unlink()
    (slides / "none.tif").unlink()
    told = call(slides, out, "--dry-run")
    assert told.exit_code == 0
    assert call(slides, out).exit_code == 0
    report = json.loads((out / "a.tif" / "report.json").read_text())
    assert f"{report['area']['screened_mm2']:.1f} mm²" in told.stdout
    before = sorted(path.name for path in out.rglob("*"))
    again = call(slides, out, "--dry-run")
    assert "a.tif: done before\n0 to screen (0.0 mm²), 1 with nothing to do" in again.stdout
    assert sorted(path.name for path in out.rglob("*")) == before
    assert "a.tif: to screen" in call(slides, out, "--dry-run", "--overwrite").stdout
    other = call(slides, out, "--dry-run", "--set", "stitcher.nms_iou=0.4")
    assert "a.tif: to screen" in other.stdout


def test_a_strict_batch_tells_what_it_would_refuse(slides, tmp_path):
    result = call(slides, tmp_path / "out", "--dry-run", "--mpp", "0.3", "--strict")
    told = next(line for line in result.stdout.splitlines() if line.startswith("a.tif"))
    assert told.startswith("a.tif: refused: ")
    assert "not screened with --strict" in told
    assert "[mpp-argument-unused]" in told


def test_a_result_that_a_strict_batch_would_refuse_is_not_done(slides, tmp_path):
    out, options = tmp_path / "out", ["--mpp", "0.3"]
    (slides / "broken.svs").unlink()
    assert "2 screened" in call(slides, out, *options).stdout  # of which a.tif has its own scale
    before = sorted(path.stat().st_mtime_ns for path in out.rglob("*"))
    ahead = call(slides, out, *options, "--strict", "--dry-run")
    assert ahead.exit_code == 1
    told = next(line for line in ahead.stdout.splitlines() if line.startswith("a.tif"))
    assert "[mpp-argument-unused]" in told
    assert sorted(path.stat().st_mtime_ns for path in out.rglob("*")) == before
    lenient = call(slides, out, *options, "--dry-run")
    assert "0 to screen (0.0 mm²), 2 with nothing to do, 0 refused" in lenient.stdout

    run = call(slides, out, *options, "--strict")
    assert run.exit_code == 1
    assert told.partition("refused: ")[2] in run.stderr  # word for word
    refused = len(json.loads((out / "run.json").read_text())["slides"])
    refused -= run.stdout.count("(done before)")
    assert f"{2 - refused} with nothing to do, {refused} refused" in ahead.stdout


@pytest.mark.parametrize("place", ["out", "out/deeper/still", "link", "link/deeper"])
def test_a_folder_that_cant_be_written_is_a_wrong_call_as_in_a_run(slides, tmp_path, place):
    (tmp_path / "out").touch()
    (tmp_path / "link").symlink_to("nowhere")
    ahead, run = (call(slides, tmp_path / place, *words) for words in (["--dry-run"], []))
    assert ahead.exit_code == run.exit_code == 2
    assert "is in the way" in ahead.stderr
    assert ahead.stderr == run.stderr


def test_a_place_that_is_taken_is_a_wrong_call_as_in_a_run(slides, tmp_path):
    notes = tmp_path / "out/a.tif/notes.txt"
    notes.parent.mkdir(parents=True)
    notes.touch()
    ahead, run = (call(slides, tmp_path / "out", *words) for words in (["--dry-run"], []))
    assert ahead.exit_code == run.exit_code == 2
    assert "a.tif: is not a result of an earlier run" in ahead.stderr
    assert ahead.stderr == run.stderr
    assert notes.exists()


def test_the_report_of_another_slide_of_the_name_is_refused_as_in_a_run(slides, tmp_path):
    out = tmp_path / "out"
    assert call(slides / "a.tif", out).exit_code == 0
    (tmp_path / "other").mkdir()
    write_pyramid(tmp_path / "other/a.tif", np.full((600, 700, 3), 180, np.uint8), mpp=0.5)
    told = call(tmp_path / "other", out, "--dry-run")
    assert told.exit_code == 1
    assert "is the report of another slide of this name" in " ".join(told.stdout.split())
    assert call(tmp_path / "other", out, "--dry-run", "--overwrite").exit_code == 0


def test_it_looks_from_here_alone(slides, tmp_path):
    result = call(slides, tmp_path / "out", "--dry-run", "--workers", "2")
    assert result.exit_code == 2
    assert result.stderr.startswith("error: --dry-run: looks from this process alone")


@pytest.mark.parametrize(
    ("seconds", "told"), [(0.1, "1 s"), (89, "89 s"), (600, "10 min"), (9000, "2.5 h")]
)
def test_times_are_told_roughly(seconds, told):
    assert _duration(seconds) == told
