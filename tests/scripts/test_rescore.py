"""``cytolibra rescore``, and ``screen`` where only what comes after the network changed."""

import csv
import json
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path

import pytest
from slidefiles import write_pyramid
from typer.testing import CliRunner

from data.synth import draw_field
from pipeline.batch import batch
from pipeline.batch.engines import worker
from pipeline.reports.detections import FILE, load_kept, save_kept
from scripts.cli import build_app

MODELS = {"alone": "cric-fcos-light", "looking": "cric-fcos-mobilenet-v2"}
SMALL = ["--set", "tiler.size=512", "--set", "scale.check=false", "--precision", "fp32"]


def call(command, *arguments):
    result = CliRunner().invoke(build_app(command), [command, *map(str, arguments)])
    assert "Traceback" not in result.output
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.fixture(scope="module", params=MODELS)
def screened(request, tmp_path_factory):
    """Two slides, screened as they come, and the options."""
    folder = tmp_path_factory.mktemp(request.param)
    (folder / "slides").mkdir()
    for seed in (7, 8):
        pixels = draw_field(seed, (700, 600), 0.25)[0]
        write_pyramid(folder / "slides" / f"{seed}.tif", pixels, levels=1, mpp=0.25)
    options = ["--model", MODELS[request.param], *SMALL]
    result = call("screen", folder / "slides", "--out", folder / "out", *options)
    assert "2 screened" in result.stdout, result.output
    return folder, options


looking = pytest.mark.parametrize("screened", ["looking"], indirect=True)
"""One model is enough."""


@pytest.fixture
def work(screened, tmp_path):
    """The same in a folder of its own, to change."""
    folder, options = screened
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    for path in (folder / "slides").iterdir():
        shutil.copystat(path, tmp_path / "slides" / path.name)
    report = json.loads((tmp_path / "out/7.tif/report.json").read_text())
    for name in ("7.tif", "8.tif"):  # reports name their slides by their paths
        file = tmp_path / "out" / name / "report.json"
        file.write_text(file.read_text().replace(str(folder), str(tmp_path)))
    assert report["detections"]["kept"] > 0
    return tmp_path, options


def without_times(folder):
    """All files of all results but what is told of time, which no two runs have alike."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or path.parent == folder:
            continue
        content = path.read_bytes()
        if path.name == "report.json":
            content = json.dumps(json.loads(content) | {"timing": {}}).encode()
        elif path.name == "report.html":
            timing = json.loads(path.with_name("report.json").read_text())["timing"]
            for stage in timing:
                content = re.sub(rb"<dt>%s</dt><dd>[0-9.]+</dd>\n?" % stage.encode(), b"", content)
        found[str(path.relative_to(folder))] = content
    return found


def kinds(out):
    """The threshold of each report."""
    return {
        path.parent.name: json.loads(path.read_text())["settings"]["threshold"]
        for path in out.glob("[!.]*/report.json")
    }


def summary(out):
    with (out / "summary.csv").open(encoding="utf-8-sig", newline="") as stream:
        return {row["slide"]: row for row in csv.DictReader(stream)}


def no_network(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("a network was loaded")

    monkeypatch.setattr(worker, "TileDetector", refuse)


@pytest.mark.parametrize("threshold", ["0.15", pytest.param("0.55", marks=pytest.mark.slow)])
def test_rescored_is_what_screening_gives_byte_for_byte(work, threshold, monkeypatch):
    folder, options = work
    slides, out = folder / "slides", folder / "out"
    changes = ["--threshold", threshold, "--set", "quality.least_sharp=0.9"]
    fresh = call("screen", slides, "--out", folder / "fresh", *changes, *options)
    assert "2 screened" in fresh.stdout
    assert "[out-of-focus-areas]" in fresh.output
    expected = without_times(folder / "fresh")
    assert any(b"\n2," in content for name, content in expected.items() if "cells.csv" in name)

    no_network(monkeypatch)
    other = folder / "other"
    told = call("rescore", out, *changes, "--out", other)
    assert "2 rescored" in told.stdout
    assert without_times(other) == expected
    assert kinds(out) == {"7.tif": None, "8.tif": None}

    screened = json.loads((out / "7.tif/report.json").read_text())["timing"]
    assert "2 rescored" in call("rescore", out, *changes).stdout
    assert without_times(out) == expected
    timing = json.loads((out / "7.tif/report.json").read_text())["timing"]
    assert timing["total"] == screened["total"]
    assert timing["rescore"] > 0
    assert "2 done before" in call("rescore", out).stdout  # which stays what it is
    back = call("rescore", out, "--set", "threshold=null")
    assert "2 rescored" in back.stdout
    assert kinds(out) == {"7.tif": None, "8.tif": None}


@looking
def test_screen_itself_rescores_where_only_what_comes_after_changed(work, monkeypatch):
    folder, options = work
    slides, out = folder / "slides", folder / "out"
    with monkeypatch.context() as patch:
        no_network(patch)
        told = call("screen", slides, "--out", out, *options, "--threshold", "0.5", "--dry-run")
        assert "7.tif: to be rescored" in told.stdout
        assert "0 to screen (0.0 mm²), 2 with nothing to do" in told.stdout
        again = call("screen", slides, "--out", out, *options, "--threshold", "0.5")
        assert "2 rescored" in again.stdout
        assert (
            "2 done before"
            in call("screen", slides, "--out", out, *options, "--threshold", "0.5").stdout
        )
    record = json.loads((out / "run.json").read_text())
    assert record["slides"]["7.tif"]["attempts"] == 1
    # What shapes what is found, and a threshold below what was kept, need the network.
    assert (
        "2 screened"
        in call("screen", slides, "--out", out, *options, "--set", "stitcher.nms_iou=0.4").stdout
    )
    low = call("screen", slides, "--out", out, *options, "--threshold", "0.06")
    assert "2 screened" in low.stdout
    report = json.loads((out / "7.tif/report.json").read_text())
    assert report["settings"]["kept"]["floor"] == 0.06
    assert min(report["detections"]["complete_from"].values()) <= 0.06


@looking
def test_what_was_not_screened_stays_told_in_the_new_summary(work):
    folder, options = work
    out = folder / "out"
    (folder / "slides/6.tif").write_bytes(b"no slide")
    (folder / "slides/5.czi").write_bytes(b"x")
    (folder / "slides/4.lif").write_bytes(b"x")
    assert call("screen", folder / "slides", "--out", out, *options).exit_code == 1
    before = summary(out)
    record = json.loads((out / "run.json").read_text())
    record["slides"]["9.tif"] = {"path": str(folder / "slides/9.tif"), "status": "pending"}
    (out / "run.json").write_text(json.dumps(record))  # of a run that was cut short
    for place in (out, folder / "other", out):
        told = call("rescore", out, "--threshold", "0.5", "--out", place)
        assert told.exit_code == 1  # two could not be made
        rows = summary(place)
        assert list(rows) == ["5.czi", "6.tif", "7.tif", "8.tif", "9.tif", "4.lif"]
        for name in ("5.czi", "6.tif", "4.lif"):
            assert rows[name]["status"] == before[name]["status"] != "complete"
            assert rows[name]["error"] == before[name]["error"]
        assert rows["9.tif"]["status"] == "pending"
        state = call("status", place).stdout
        assert "5 slides: 2 done, 2 failed" in state


@looking
def test_slides_that_were_fetched_keep_their_urls(work):
    folder, _ = work
    out, other, url = folder / "out", folder / "other", "s3://bucket/a"
    report = out / "7.tif/report.json"
    report.write_text(report.read_text().replace(str(folder / "slides"), url))
    kept = load_kept(out / "7.tif")
    slide = kept.slide.model_copy(update={"path": f"{url}/7.tif"})
    save_kept(replace(kept, slide=slide), out / "7.tif")
    record = json.loads((out / "run.json").read_text())
    record["not_read"] = {f"{url}/4.lif": "Leica LIF; export it"}
    for name in ("5.tif", "6.tif"):
        error = f"{url}/{name}: was refused"
        record["slides"][name] = {"path": f"{url}/{name}", "status": "failed", "error": error}
    (out / "run.json").write_text(json.dumps(record))

    assert call("rescore", out, "--threshold", "0.5", "--out", other).exit_code == 1
    rows = summary(other)
    for name in ("4.lif", "5.tif", "6.tif", "7.tif"):
        assert rows[name]["path"] == f"{url}/{name}"
    assert rows["8.tif"]["path"] == str(folder / "slides/8.tif")
    assert json.loads((other / "7.tif/report.json").read_text())["slide"]["path"] == f"{url}/7.tif"
    again = json.loads((other / "run.json").read_text())
    assert again["slides"]["7.tif"]["path"] == f"{url}/7.tif"
    assert "failed, 2: was refused (5.tif, 6.tif)" in call("status", other).stdout
    strict = call("rescore", out, "--threshold", "0.4", "--out", other, "--set", "strict=true")
    assert f"{url}/7.tif: not screened with --strict: the slide was not there" in strict.stderr
    assert "s3:/bucket" not in (other / "run.log").read_text()


@looking
def test_new_reports_never_lie_among_the_old_ones(work):
    folder, _ = work
    out = folder / "out"
    inside = call("rescore", out, "--out", out / "other")
    assert inside.exit_code == 2
    assert "whose slides would be there twice; name a folder beside it" in inside.stderr
    assert not (out / "other").exists()
    for words in ([], ["--out", folder / "new"], ["--dry-run"]):  # whose failures would be lost
        several = call("rescore", folder, *words)
        assert several.exit_code == 2
        assert several.stderr.count("\n") == 1
        assert "holds the outputs of runs, each with settings, slides" in several.stderr
        assert f"rescore each by itself, {out} first" in several.stderr
        assert not (folder / "new").exists()
    shutil.copytree(out, out / "other")  # as a screen to there would leave it
    told = call("rescore", out, "--threshold", "0.5")
    assert "2 rescored" in told.stdout
    assert "[outputs-left-out]" in told.stderr
    assert kinds(out / "other") == {"7.tif": None, "8.tif": None}


@looking
@pytest.mark.parametrize("gone", [False, True])
def test_reports_of_other_slides_of_these_names_stay(work, gone):
    folder, _ = work
    out, other = folder / "out", folder / "other"
    shutil.copytree(out, other)
    file = other / "7.tif/fingerprint.json"
    values = json.loads(file.read_text())
    values |= {"place": "/b/7.tif", "sha256": "0" * 64}  # as of a batch with names like these
    values["files"][0]["size"] += 1
    file.write_text(json.dumps(values))
    if gone:
        (folder / "slides").rename(folder / "away")
    told = "another slide of this name, /b/7.tif; give another --out, or --overwrite"
    for more, left in ([], "1 done before"), (["--threshold", "0.5"], "1 rescored"):
        ahead = call("rescore", out, "--out", other, "--dry-run", *more)
        assert ahead.exit_code == 1
        assert f"7.tif: can't be rescored: {folder}" in ahead.stdout
        assert told in ahead.stdout
        refused = call("rescore", out, "--out", other, *more)
        assert refused.exit_code == 1
        assert f"{left}, 1 failed" in refused.stdout
        assert summary(other)["7.tif"]["error"].endswith("[other-slide]")
        assert "mixed-settings" not in refused.output  # running it again would mend nothing
        assert kinds(other)["7.tif"] is None
    anew = call("rescore", out, "--out", other, "--threshold", "0.5", "--overwrite")
    assert "2 rescored" in anew.stdout
    assert json.loads(file.read_text())["place"].endswith("slides/7.tif")


@looking
def test_what_can_t_be_rescored_is_told_and_screened_by_screen(work):
    folder, options = work
    slides, out = folder / "slides", folder / "out"
    low = call("rescore", out, "--threshold", "0.05")
    assert low.exit_code == 1
    assert low.stderr.count("cells of so low a score were not kept; all are from 0.1 of ") == 2
    assert kinds(out) == {"7.tif": None, "8.tif": None}

    sound = (out / "7.tif" / FILE).read_bytes()
    middle = len(sound) // 2
    (out / "7.tif" / FILE).write_bytes(sound[:middle] + bytes(100) + sound[middle + 100 :])
    told = call("rescore", out, "--threshold", "0.5")
    assert told.exit_code == 1
    assert "1 rescored, 1 failed" in told.stdout
    assert "detections.npz: is damaged; screen it again" in told.stderr
    assert "mixed: 1 of 2 slides have reports of other settings" in told.stderr
    assert kinds(out) == {"7.tif": None, "8.tif": 0.5}
    assert summary(out)["7.tif"]["status"] == "failed"
    state = call("rescore", out, "--dry-run", "--threshold", "0.5").stdout
    assert "1 of 2 reports: threshold None" in state
    assert "1 of 2 reports: threshold 0.5" in state

    again = call("screen", slides, "--out", out, *options, "--threshold", "0.5")
    assert again.exit_code == 0
    assert "1 screened, 1 done before" in again.stdout
    assert kinds(out) == {"7.tif": 0.5, "8.tif": 0.5}


@looking
def test_reports_of_before_another_model_and_what_shapes_are_refused(work, tmp_path):
    folder, _ = work
    out = folder / "out"
    for key in ("tiler.size=256", "kept.floor=0.05", "runtime.precision=int8"):
        refused = call("rescore", out, "--set", key)
        assert refused.exit_code == 2
        assert "shapes what the network finds" in refused.stderr
    given = json.loads((out / "run.json").read_text())["model_given"]
    other = next(name for name in MODELS.values() if name != given)
    refused = call("rescore", out, "--model", other)
    assert refused.exit_code == 2
    assert "is not the model that found these cells" in refused.stderr
    assert call("rescore", tmp_path / "none").exit_code == 2
    one = call("rescore", out / "7.tif")
    assert "is the report of one slide; name the folder above it" in one.stderr
    (out / "8.tif" / FILE).unlink()
    told = call("rescore", out, "--threshold", "0.5")
    assert told.exit_code == 1
    assert "of a version that kept nothing" in told.stderr
    for name in ("7.tif", "8.tif"):
        file = out / name / "fingerprint.json"
        values = json.loads(file.read_text())
        del values["found"]
        file.write_text(json.dumps(values))
    older = call("rescore", out, "--threshold", "0.5")
    assert older.exit_code == 2
    assert older.stderr.count("\n") == 1
    assert "screen the slides again" in older.stderr


@looking
def test_what_would_do_nothing_is_refused_unless_it_is_as_it_was(work, monkeypatch):
    folder, options = work
    slides, out, ahead = folder / "slides", folder / "out", ["--dry-run", "--threshold", "0.5"]
    (folder / "scales.csv").write_text("slide,mpp\n7.tif,0.5\n")
    for key, why in {
        "mpp_override=0.5": "mpp_override: shapes what the network finds",
        f"mpp_table={folder / 'scales.csv'}": "mpp_table: shapes what the network finds",
        "mpp_table=none.csv": "mpp_table: shapes what the network finds",
        "cloud.ahead=7": "cloud: shapes how slides are fetched",
    }.items():
        refused = call("rescore", out, *ahead, "--set", key)
        assert refused.exit_code == 2
        assert why in refused.stderr
        assert refused.stderr.count("\n") == 1
    for key in ("isolate=always", "limits.seconds=60"):  # say how a slide is read for its pictures
        assert "2 to rescore" in call("rescore", out, *ahead, "--set", key).stdout

    monkeypatch.chdir(folder)
    whole = folder / "whole.yaml"
    whole.write_text("mpp_table: scales.csv\ncloud: {ahead: 7, scratch: fetched}\nisolate: always")
    screened = call("screen", slides, "--out", out, *options, "--config", whole)
    assert "1 screened, 1 done before" in screened.stdout
    (folder / "scales.csv").unlink()  # what it said is known of each slide
    assert "2 to rescore" in call("rescore", out, *ahead, "--config", whole).stdout


@looking
def test_a_strict_rescore_refuses_reports_with_warnings(work):
    folder, _ = work
    out, strict = folder / "out", ["--set", "strict=true"]
    warned = ["--set", "quality.least_sharp=0.9"]
    told = call("rescore", out, *warned, *strict, "--out", folder / "other")
    assert told.exit_code == 1
    assert "2 failed" in told.stdout
    assert told.stderr.count("[out-of-focus-areas] [strict]") == 2
    assert not kinds(folder / "other")

    assert "2 rescored" in call("rescore", out, *warned).stdout
    for where in (out, folder / "other"):  # of the same settings, each would have them again
        for more in ([], ["--overwrite"]):
            ahead = call("rescore", out, *strict, "--out", where, "--dry-run", *more)
            assert ahead.exit_code == 1
            assert ahead.stdout.count("[out-of-focus-areas]") == 2
            assert "0 to rescore, 0 with nothing to do, 2 that can't be" in ahead.stdout
    assert call("rescore", out, *strict).exit_code == 1
    assert "2 done before" in call("rescore", out).stdout  # strict no more: it isn't said


@looking
def test_a_warning_that_the_slide_was_away_is_no_reason_where_it_is_back(work):
    folder, options = work
    slides, out = folder / "slides", folder / "out"
    strict = ["--set", "strict=true"]
    call("screen", slides, "--out", out, "--overwrite", *options)  # so that it was found here
    for name in ("7.tif", "8.tif"):
        (slides / name).rename(folder / name)
    assert "2 rescored" in call("rescore", out, "--threshold", "0.3").stdout
    away = call("rescore", out, *strict, "--dry-run").stdout
    assert away.count("[slide-not-there] [strict]") == 2
    for name in ("7.tif", "8.tif"):
        (folder / name).rename(slides / name)
    assert "2 to rescore" in call("rescore", out, *strict, "--dry-run").stdout
    assert "2 rescored" in call("rescore", out, *strict).stdout


@looking
def test_looking_ahead_finds_places_that_are_taken(work):
    folder, _ = work
    notes = folder / "other/7.tif/notes.txt"
    notes.parent.mkdir(parents=True)
    notes.touch()
    for words in (["--dry-run"], []):
        refused = call("rescore", folder / "out", "--out", folder / "other", *words)
        assert refused.exit_code == 2
        assert "7.tif: is not a result of an earlier run" in refused.stderr


@looking
def test_slides_that_are_gone_leave_pictures_out_and_changed_ones_are_not_shown(work):
    folder, _ = work
    slides, out = folder / "slides", folder / "out"
    before = json.loads((out / "7.tif/report.json").read_text())
    (slides / "7.tif").rename(folder / "moved.tif")
    (slides / "8.tif").write_bytes((slides / "8.tif").read_bytes() + b" ")
    told = call("rescore", out, "--threshold", "0.3")
    assert told.exit_code == 1
    assert "8.tif: is another file than when it was screened, or moved" in told.stderr
    report = json.loads((out / "7.tif/report.json").read_text())
    assert report["warnings"][-1]["code"] == "slide-not-there"
    assert report["domain"] == before["domain"]
    page = (out / "7.tif/report.html").read_text()
    assert "data:image/jpeg" not in page
    assert "slide-not-there" in page
    assert "2 reports" in call("rescore", out, "--dry-run").stdout
    assert summary(out)["7.tif"]["status"] == "complete"

    (folder / "moved.tif").rename(slides / "7.tif")
    call("rescore", out, "--overwrite")
    report = json.loads((out / "7.tif/report.json").read_text())
    assert "slide-not-there" not in [one["code"] for one in report["warnings"]]
    assert "data:image/jpeg" in (out / "7.tif/report.html").read_text()


SLOWLY = """
    import sys, time
    from pipeline.batch import attempts
    from scripts.cli import main

    write, written = attempts.write_reports, []

    def slowly(report, folder):
        write(report, folder)
        written.append(folder)
        if len(written) == 2:
            print("here", flush=True)
            time.sleep(60)

    attempts.write_reports = slowly
    main()
"""


@looking
def test_a_rescore_that_is_killed_leaves_each_slide_old_or_new_and_says_so(work):
    folder, _ = work
    out = folder / "out"
    code = [sys.executable, "-c", textwrap.dedent(SLOWLY)]
    with subprocess.Popen(
        [*code, "rescore", str(out), "--threshold", "0.5"],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(batch.__file__).parents[2],
    ) as process:
        assert process.stdout
        assert any(line.startswith("here") for line in process.stdout)
        process.kill()
        process.stdout.read()  # until the process that worked is gone, too
    assert sorted(map(str, kinds(out).values())) == ["0.5", "None"]
    assert {row["status"] for row in summary(out).values()} == {"pending"}  # marked as it began
    assert "mixed-settings" in (out / "summary.html").read_text()
    done = call("rescore", out, "--threshold", "0.5")
    assert "1 rescored, 1 done before" in done.stdout
    assert set(kinds(out).values()) == {0.5}
    assert "mixed-settings" not in (out / "summary.html").read_text()
    assert {row["status"] for row in summary(out).values()} == {"complete"}


@looking
def test_reports_and_records_that_can_t_be_read_are_told(work):
    folder, _ = work
    out = folder / "out"
    (out / "8.tif/report.json").write_text("{}")
    (out / "run.json").write_text("{")
    state = call("rescore", out, "--dry-run", "--threshold", "0.5")
    assert state.exit_code == 1
    assert "8.tif: can't be rescored: " in state.stdout
    told = call("rescore", out, "--threshold", "0.5")
    assert told.exit_code == 1
    assert "report.json: can't be read; screen its slide again" in told.stderr
    assert "[settings-unknown]" in told.stderr
    assert kinds_of(out / "7.tif") == 0.5
    assert (out / "8.tif/report.json").read_text() == "{}"


def kinds_of(result):
    return json.loads((result / "report.json").read_text())["settings"]["threshold"]


HANGING = """
    import time
    from pathlib import Path
    from pipeline.batch import engines
    from scripts.cli import main

    def hang(self, path):
        print("here", flush=True)
        time.sleep(60)

    engines.Worker.screen = hang
    main()
"""


@looking
def test_ctrl_c_ends_at_once_and_says_how_to_go_on(work):
    folder, options = work
    code = [sys.executable, "-c", textwrap.dedent(HANGING), "screen", str(folder / "slides")]
    with subprocess.Popen(
        [*code, "--out", str(folder / "new"), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(batch.__file__).parents[2],
    ) as process:
        assert process.stdout
        assert process.stderr
        assert any("here" in line for line in process.stdout)
        started = time.monotonic()
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
        assert time.monotonic() - started < 20  # not the minute that the slides would take
        assert "the same command goes on from there" in process.stderr.read()
    record = json.loads((folder / "new/run.json").read_text())
    assert record["status"] == "interrupted"
    assert {slide["status"] for slide in record["slides"].values()} == {"pending"}
