"""``cytolibra status`` and ``cytolibra retry``."""

import json
import shutil

import pytest
from slidefiles import write_pyramid
from typer.testing import CliRunner

from data.synth import draw_field
from pipeline.batch.engines import LocalEngine
from pipeline.batch.fingerprint import Fingerprint, save_fingerprint
from scripts import status
from scripts.cli import build_app

OPTIONS = ["--model", "cric-fcos-light", "--set", "tiler.size=512", "--set", "scale.check=false"]
OPTIONS += ["--metrics", "night.prom", "--log-format", "json"]


def call(command, *arguments):
    result = CliRunner().invoke(build_app(command), [command, *map(str, arguments)])
    assert "Traceback" not in result.output
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.fixture(scope="module")
def batch(tmp_path_factory):
    """Two slides, one of which is cut off and one has no scale."""
    folder = tmp_path_factory.mktemp("batch")
    (folder / "slides").mkdir()
    pixels = draw_field(7, (300, 300), 0.25)[0]
    write_pyramid(folder / "slides/a.tif", pixels, levels=1, mpp=0.25)
    write_pyramid(folder / "slides/b.tif", pixels, levels=1, mpp=None)
    whole = (folder / "slides/a.tif").read_bytes()
    (folder / "slides/a.tif").write_bytes(whole[: len(whole) // 3])
    patch = pytest.MonkeyPatch()
    patch.setattr("sys.argv", ["x", "screen", "slides", "--out", "out", *OPTIONS])
    patch.chdir(folder)
    assert call("screen", "slides", "--out", "out", *OPTIONS).exit_code == 1
    patch.undo()
    return folder, whole


def outcomes(folder):
    record = json.loads((folder / "out/run.json").read_text())
    return {name: (s["status"], s["attempts"]) for name, s in record["slides"].items()}


def test_what_failed_is_told_and_done_again(batch, monkeypatch):
    folder, whole = batch
    monkeypatch.chdir(folder)
    told = call("status", "out")
    assert told.exit_code == 1
    assert told.stdout.startswith("2 slides: 2 failed\nrun.json: came to its end, at 20")
    assert "failed, 1: truncated: it ends at byte" in told.stdout
    assert "[mpp-missing] (b.tif)" in told.stdout
    stated = json.loads(call("status", "out", "--json").stdout)
    assert stated["counts"]["failed"] == 2
    assert {one["code"]: one["slides"] for one in stated["failed"]} == {
        None: ["a.tif"],
        "mpp-missing": ["b.tif"],
    }
    assert stated["runs"][0]["command"][:3] == ["cytolibra", "screen", "slides"]

    refused = call("retry", "out", "--only", "nonsense")
    assert refused.exit_code == 2
    assert "--only nonsense: nothing failed for that; there are: " in refused.stderr
    monkeypatch.chdir("/")
    elsewhere = call("retry", folder / "out")
    assert elsewhere.exit_code == 2
    assert "slides: is not here; call retry in the folder" in elsewhere.stderr
    monkeypatch.chdir(folder)
    assert outcomes(folder) == {"a.tif": ("failed", 1), "b.tif": ("failed", 1)}

    assert call("retry", "out", "--only", "mpp-missing").exit_code == 1
    assert outcomes(folder) == {"a.tif": ("failed", 1), "b.tif": ("failed", 2)}
    (folder / "slides/a.tif").write_bytes(whole)
    mended = call("retry", "out", "--only", "TRUNCATED")
    assert mended.exit_code == 0, mended.output
    assert "1 screened" in mended.stdout
    assert outcomes(folder) == {"a.tif": ("complete", 2), "b.tif": ("failed", 2)}
    metrics = (folder / "night.prom").read_text()  # as its command said: of this run
    assert 'cytolibra_slides_ended_total{batch="night",outcome="screened"} 1\n' in metrics
    lines = map(json.loads, (folder / "out/run.log.jsonl").read_text().splitlines())
    ends = [(x["attempt"], x.get("code")) for x in lines if x.get("slide") and "seconds" in x]
    assert ends == [(1, None), (1, "mpp-missing"), (2, "mpp-missing"), (2, None)]
    again = call("retry", "out")
    assert again.exit_code == 1  # b.tif alone: a.tif is done
    assert "1 failed slide(s) once more: cytolibra screen slides --out out" in again.stdout
    assert outcomes(folder) == {"a.tif": ("complete", 2), "b.tif": ("failed", 3)}
    assert "a.tif" in (folder / "out/summary.csv").read_text()
    told = call("status", "out")
    assert told.stdout.startswith("2 slides: 1 done, 1 failed")


def test_nothing_failed_is_told_and_other_commands_are_refused(batch, tmp_path):
    folder, _ = batch
    record = json.loads((folder / "out/run.json").read_text())

    def write(**changes):
        (tmp_path / "run.json").write_text(json.dumps(record | changes))

    failed = {"a.tif": {"path": "a.tif", "status": "failed", "error": "a.tif: torn"}}
    write(slides={"a.tif": {"path": "a.tif", "status": "complete"}})
    none = call("retry", tmp_path)
    assert (none.exit_code, none.stdout) == (0, "1 slides: none has failed\n")
    assert call("status", tmp_path).exit_code == 0
    write(slides={"a.tif": {"path": "a.tif", "status": "pending"}})
    left = call("retry", tmp_path)
    assert left.exit_code == 1
    assert "1 slides were not reached: the run's own command screens them" in left.stderr
    for command, words in (
        (["cytolibra", "rescore", "out"], "was cytolibra rescore"),
        ([], "tells of no cytolibra screen"),
        (["cytolibra", "screen", "slides", "--out", "o", "--warp", "9"], "can't be read: No such"),
        (["cytolibra", "screen", "--help"], "screens nothing"),
    ):
        write(slides=failed, command=command)
        refused = call("retry", tmp_path)
        assert refused.exit_code == 2
        assert words in refused.stderr
    write(slides=failed, given={"warp": 9})
    assert call("retry", tmp_path).exit_code == 2


def test_slides_that_were_not_reached_are_told_by_what_lies_there(batch, tmp_path):
    folder, _ = batch
    record = json.loads((folder / "out/run.json").read_text())
    for name, recipe in (("own", record["recipe"]), ("other", "of another model")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "report.json").touch()
        made = Fingerprint(recipe=recipe, files=(), sha256="")
        save_fingerprint(made, tmp_path / name)
    slides = {name: {"path": name, "status": "pending"} for name in ("own", "other", "none")}
    (tmp_path / "run.json").write_text(json.dumps(record | {"slides": slides}))
    assert call("status", tmp_path).stdout.startswith(
        "3 slides: 1 not reached, 1 not reached with an earlier result, "
        "1 not reached with a result of other settings\n"
    )


def test_bad_folders_give_one_line(tmp_path):
    for command in ("status", "retry"):
        for folder in (tmp_path, tmp_path / "none"):
            refused = call(command, folder)
            assert refused.exit_code == 2
            assert refused.stderr.startswith("error: ")
            assert refused.stderr.count("\n") == 1


def test_watching_ends_with_the_run(batch, tmp_path, monkeypatch):
    folder, _ = batch
    record = json.loads((folder / "out/run.json").read_text())
    running = {"a\x1b[2J": {"path": "a", "status": "running"}}
    path = tmp_path / "run.json"
    path.write_text(json.dumps(record | {"status": "running", "slides": running}))

    def wait(seconds):
        path.write_text(json.dumps(record | {"slides": {"a": {"path": "a", "status": "complete"}}}))

    monkeypatch.setattr(status.time, "sleep", wait)
    told = call("status", tmp_path, "--watch")
    assert told.exit_code == 0
    assert "1 slides: 1 running\n" in told.stdout
    assert "a?[2J: running" in told.stdout  # no name steers a terminal
    assert "1 slides: 1 done\n" in told.stdout


@pytest.mark.parametrize("ended", [{"status": "running", "ended": None}, {"status": "interrupted"}])
def test_a_run_that_was_cut_short_is_told_how_to_go_on(batch, tmp_path, ended):
    folder, _ = batch
    record = json.loads((folder / "out/run.json").read_text()) | ended
    for more, words in (
        ([], "goes on from there\n"),
        (["--overwrite"], "does all slides again, for its --overwrite; without "),
    ):
        command = [*record["command"], *more]
        (tmp_path / "run.json").write_text(json.dumps(record | {"command": command}))
        assert f"; the same command {words}" in call("status", tmp_path).stdout


def test_a_retry_that_was_cut_short_goes_on_from_there(batch, tmp_path, monkeypatch):
    folder, _ = batch
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)

    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(LocalEngine, "submit", stop)
        cut = call("retry", "out", "--only", "mpp-missing")
    assert cut.exit_code == 130
    assert "interrupted: what is done stays; the same command goes on from there" in cut.stderr
    assert "\n1 not reached; see " in cut.stdout
    assert outcomes(tmp_path)["b.tif"][0] == "pending"
    told = call("status", "out")
    assert told.exit_code == 1
    assert "[mpp-missing] (b.tif)" in told.stdout
    assert "b.tif: screening" in call("retry", "out", "--only", "mpp-missing").stdout
    assert outcomes(tmp_path)["b.tif"][0] == "failed"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(59, "59 s"), (61, "1 min"), (12000, "3 h 20 min"), (187200, "2 d 4 h")],
)
def test_spans(seconds, words):
    assert status._span(seconds) == words


def test_the_summary_is_written_from_the_files_at_any_time(batch, monkeypatch):
    folder, _ = batch
    monkeypatch.chdir(folder)
    names = ("summary.csv", "summary.html")
    written = [(folder / "out" / name).read_bytes() for name in names]
    for name in names:
        (folder / "out" / name).unlink()
    told = call("status", "out", "--summary")
    assert told.stdout.startswith("summary: out/summary.html\n2 slides: ")
    assert [(folder / "out" / name).read_bytes() for name in names] == written
    stated = call("status", "out", "--summary", "--json")
    assert json.loads(stated.stdout)["slides"] == 2
