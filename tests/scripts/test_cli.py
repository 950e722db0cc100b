import csv
import importlib.util
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydantic
import pytest
import typer
from fakes import make_report
from openpyxl import load_workbook
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console
from smallbackbone import SMALL
from typer.testing import CliRunner, Result

from pipeline.batch.discovery import SlideJob
from pipeline.batch.plan import BatchResult
from pipeline.batch.run_record import SlideRecord
from pipeline.reports.slide_summary import SlideSummary
from scripts.cli import SUMMARIES, build_app, main
from scripts.progress import BarProgress, show_progress
from scripts.screening.call import tell_result

SLIDE_FILES = {"report.json", "cells.csv", "cells.geojson", "report.html", "fingerprint.json"}
SLIDE_FILES |= {"detections.npz", "thumbnail.jpg"}  # no cells, so no close-ups

Call = Callable[..., Result]


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained model, as small as they get."""
    from models import ModelCard, build_detector, save_detector

    names = ["NILM", "HSIL"]
    pyramid = {"channels": 32, "levels": [3]}
    config = {"name": "fcos", "classes": names, "pyramid": pyramid}
    detector = build_detector(config | SMALL)
    card = ModelCard(
        name="untrained", detector=detector.config, mpp=0.5, thresholds=dict.fromkeys(names, 0.9)
    )
    folder = tmp_path_factory.mktemp("model")
    save_detector(detector, card, folder)
    return folder


@pytest.fixture
def slides(tmp_path: Path) -> Path:
    """A folder with a small plain image, which needs --mpp."""
    folder = tmp_path / "slides"
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(90, 200, (100, 150, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "good.png")
    return folder


@pytest.fixture
def screen(model: Path, slides: Path, tmp_path: Path) -> Call:
    """Calls `cytolibra screen` with a small model, small tiles, and the slides if none is named."""

    def call(*arguments: str | Path, with_mpp: bool = True) -> Result:
        given = [str(a) for a in arguments]
        if not arguments or given[0].startswith("--"):
            given = [str(slides), *given]
        for option, value in {"--out": tmp_path / "out", "--model": model}.items():
            if option not in given:
                given += [option, str(value)]
        if with_mpp and "--mpp" not in given:
            given += ["--mpp", "0.5"]
        small = ["--set", "tiler.size=128", "--set", "tiler.overlap=32", "--device", "cpu"]
        return CliRunner().invoke(build_app("screen"), ["screen", *small, *given])

    return call


def assert_one_line(result: Result, message: str) -> None:
    """One clear line on stderr, and no traceback anywhere."""
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert message in result.stderr
    assert "Traceback" not in result.output


def test_help_names_every_command_and_loads_none_of_them() -> None:
    code = (
        "import sys; sys.argv = ['cytolibra', '--help']\n"
        "from scripts.cli import main\n"
        "try: main()\n"
        "finally: print('LOADED', {'torch', 'numpy', 'pydantic'} & set(sys.modules))"
    )
    command = [sys.executable, "-c", code]
    found = subprocess.run(command, capture_output=True, text=True, check=False, cwd=repo())
    for name, summary in SUMMARIES.items():
        assert name in found.stdout
        assert summary.split()[0] in found.stdout
    assert "LOADED set()" in found.stdout


def repo() -> Path:
    return Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("name", SUMMARIES)
def test_every_command_tells_about_itself(name: str) -> None:
    command = getattr(importlib.import_module(f"scripts.{name}"), name)
    told = command.info.help if isinstance(command, typer.Typer) else command.__doc__
    assert told.splitlines()[0] == SUMMARIES[name]
    result = CliRunner().invoke(build_app(name), [name, "--help"])
    assert result.exit_code == 0
    assert f"cytolibra {name}" in result.stdout


def test_version_is_told() -> None:
    result = CliRunner().invoke(build_app(None), ["--version"])
    assert result.exit_code == 0
    assert result.stdout.startswith("cytolibra ")


def test_a_folder_is_screened_and_screened_no_more(
    screen: Call, slides: Path, tmp_path: Path
) -> None:
    result = screen()
    assert result.exit_code == 0, result.output
    assert "[1/1] good.png: screening" in result.stdout
    assert "1 screened" in result.stdout
    out = tmp_path / "out"
    assert {p.name for p in (out / "good.png").iterdir()} == SLIDE_FILES
    report = json.loads((out / "good.png/report.json").read_text(encoding="utf-8"))
    assert report["slide"]["mpp"] == 0.5
    assert report["slide"]["mpp_source"] == "argument"
    assert report["model"]["name"] == "untrained"
    run = json.loads((out / "run.json").read_text(encoding="utf-8"))
    assert run["command"][0] == "cytolibra"
    assert run["settings"]["tiler"]["size"] == 128
    again = screen()
    assert again.exit_code == 0
    assert "1 done before" in again.stdout
    assert "1 screened" in screen("--overwrite").stdout


def test_flags_reach_the_settings_before_anything_else(screen: Call, tmp_path: Path) -> None:
    config = tmp_path / "settings.yaml"
    config.write_text("threshold: 0.2\nmax_unread: 0.3\n")
    screen("--config", config, "--set", "threshold=0.3", "--threshold", "0.4")
    run = json.loads((tmp_path / "out/run.json").read_text(encoding="utf-8"))
    assert run["settings"]["threshold"] == 0.4
    assert run["settings"]["max_unread"] == 0.3
    assert run["model"]["threshold"] == {"NILM": 0.4, "HSIL": 0.4}


def test_a_workbook_is_asked_for_without_screening_anything_again(
    screen: Call, tmp_path: Path
) -> None:
    assert screen().exit_code == 0
    found = screen("--xlsx")
    assert "done before" in found.output
    names = [sheet.title for sheet in load_workbook(tmp_path / "out/summary.xlsx")]
    assert names == ["Slides", "Cells", "About"]
    run = json.loads((tmp_path / "out/run.json").read_text(encoding="utf-8"))
    assert run["settings"]["reports"] == {"csv": "plain"}  # it shapes no result
    wrong = screen("--set", "reports.xlsx_score=2")
    assert wrong.exit_code == 2
    assert_one_line(wrong, "reports.xlsx_score")


def test_the_last_line_tells_how_many_slides_are_out_of_domain(
    capsys: pytest.CaptureFixture[str],
) -> None:
    result = BatchResult(3, 0, {}, 0, interrupted=False, warned=2, outside=1)
    tell_result(result, Path("out"), "")
    line = capsys.readouterr().out
    assert line == "3 screened, 2 with warnings, 1 out of the model's domain; see " + str(
        Path("out/summary.html\n")
    )


@pytest.mark.parametrize(
    ("overwrites", "told"),
    [
        ((), "the same command goes on from there\n"),
        (("--overwrite",), "the same command does all slides again, for its --overwrite; without "),
    ],
)
def test_an_interruption_tells_truly_what_goes_on(
    screen: Call, monkeypatch: pytest.MonkeyPatch, overwrites: tuple[str, ...], told: str
) -> None:
    assert screen().exit_code == 0
    stopped = BatchResult(0, 0, {}, 1, interrupted=True)
    with monkeypatch.context() as patch:
        patch.setattr("pipeline.batch.batch.screen_batch", lambda *_: stopped)
        cut = screen(*overwrites)
    assert cut.exit_code == 130
    assert f"interrupted: what is done stays; {told}" in cut.stderr
    again = screen(*overwrites)
    assert ("1 screened" if overwrites else "1 done before") in again.stdout


def test_tables_for_excel_are_written_anew_and_told(screen: Call, tmp_path: Path) -> None:
    """Results of two dialects never lie mixed in one folder: the dialect is part of the recipe."""
    out = tmp_path / "out"
    assert screen("--csv", "excel-comma").exit_code == 0
    for table in (out / "summary.csv", next(out.rglob("cells.csv"))):
        assert table.read_bytes().startswith(b"\xef\xbb\xbf")
        header, *rows = table.read_text(encoding="utf-8-sig").splitlines()
        assert header.count(";") > 10
        assert all(row.count(";") >= header.count(";") for row in rows)
    (row, *_) = csv.DictReader(
        (out / "summary.csv").read_text(encoding="utf-8-sig").splitlines(), delimiter=";"
    )
    assert row["mpp"] == "0,5"
    report = json.loads(next(out.rglob("report.json")).read_text(encoding="utf-8"))
    assert report["settings"]["reports"] == {"csv": "excel-comma"}
    plain = screen()
    assert "done before" not in plain.output
    assert (out / "summary.csv").read_text(encoding="utf-8").startswith("slide,path,")
    wrong = screen("--set", "reports.csv=word")
    assert wrong.exit_code == 2
    assert_one_line(wrong, "reports.csv")


def test_the_runtime_is_chosen_told_and_part_of_the_recipe(screen: Call, tmp_path: Path) -> None:
    def in_force() -> dict[str, object]:
        report = json.loads((tmp_path / "out/good.png/report.json").read_text(encoding="utf-8"))
        assert "openvino" in report["software"]
        return report["settings"]["runtime"]

    exact = ("--precision", "fp32")
    assert "1 screened" in screen("--runtime", "openvino", *exact).stdout
    assert in_force()["name"] == "openvino"
    assert "1 done before" in screen(*exact).stdout  # which is what "auto" comes to
    assert "1 screened" in screen("--runtime", "torch", *exact).stdout
    assert in_force()["name"] == "torch"
    assert "1 done before" in screen("--set", "runtime.name=torch", *exact).stdout


def test_a_batch_that_screens_nothing_loads_no_network(
    screen: Call, slides: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline.batch.engines import worker

    def refuse(*_: object) -> None:
        raise AssertionError("a network was loaded")

    exact = ("--precision", "fp32")
    assert screen(*exact).exit_code == 0
    monkeypatch.setattr(worker, "TileDetector", refuse)
    again = screen(*exact)
    assert again.exit_code == 0
    assert "1 done before" in again.stdout
    empty = tmp_path / "nothing"
    empty.mkdir()
    assert_one_line(screen(empty), "no slide found")
    assert_one_line(screen(*exact, "--rule", tmp_path / "none.json"), "none.json")
    (slides / "good.png").write_bytes((slides / "good.png").read_bytes() + b" ")
    assert isinstance(screen(*exact).exception, AssertionError)


def test_without_openvino_torch_screens_and_says_so(
    screen: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    result = screen()
    assert result.exit_code == 0, result.output
    assert result.stderr.startswith("warning: the network runs on torch")
    assert "the network runs on torch" in (tmp_path / "out/run.log").read_text(encoding="utf-8")
    report = json.loads((tmp_path / "out/good.png/report.json").read_text(encoding="utf-8"))
    assert report["settings"]["runtime"]["name"] == "torch"
    refused = screen("--runtime", "openvino")
    assert refused.exit_code == 2
    assert_one_line(refused, "runtime openvino: OpenVINO can't be loaded here")


def test_bad_slides_are_named_and_the_rest_is_done(
    screen: Call, slides: Path, tmp_path: Path
) -> None:
    (slides / "text.svs").write_text("this is no slide")
    (slides / "empty.tif").touch()
    result = screen()
    assert result.exit_code == 1
    assert result.stderr.count("error: ") == 2
    assert "text.svs" in result.stderr
    assert "Traceback" not in result.output
    assert "1 screened, 2 failed" in result.stdout
    assert (tmp_path / "out/good.png/report.json").is_file()
    assert not (tmp_path / "out/text.svs").exists()


def test_a_slide_without_mpp_fails_and_names_the_option(screen: Call, slides: Path) -> None:
    result = screen(slides / "good.png", with_mpp=False)
    assert result.exit_code == 1
    assert_one_line(result, "--mpp")


def test_plain_images_that_are_left_out_are_told(screen: Call, slides: Path) -> None:
    (slides / "text.svs").write_text("this is no slide")
    result = screen(with_mpp=False)
    assert "warning: 1 plain image is left out" in result.stderr
    assert "--mpp" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--mpp", "0"], "--mpp 0"),
        (["--mpp", "-1"], "--mpp -1"),
        (["--mpp", "100"], "0.05 to 5"),
        (["--mpp", "nan"], "--mpp nan"),
        (["--threshold", "1.5"], "threshold = 1.5"),
        (["--set", "tilr.size=64"], "did you mean tiler?"),
        (["--set", "nonsense"], "expected key=value"),
        (["--config", "missing.yaml"], "missing.yaml: no such file or preset"),
        (["--device", "cuda:99"], "cuda:99"),
        (["--precision", "fp17"], "fp17"),
        (["--precision", "fp16"], "for GPUs only"),
        (["--precision", "int8"], "untrained has no int8 network"),
        (["--precision", "int8", "--runtime", "torch"], "only OpenVINO"),
        (["--shard", "3/2"], "expected i/n"),
        (["--model", "no-such-model"], "no-such-model: no such model"),
        (["/no/such/slide.svs"], "no such file or folder"),
    ],
)
def test_a_wrong_call_is_told_in_one_line_and_starts_nothing(
    screen: Call, tmp_path: Path, arguments: list[str], message: str
) -> None:
    result = screen(*arguments)
    assert result.exit_code == 2, result.output
    assert_one_line(result, message)
    assert not (tmp_path / "out").exists()


def test_a_folder_without_slides_is_a_wrong_call(screen: Call, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    result = screen(tmp_path / "empty")
    assert result.exit_code == 2
    assert_one_line(result, "no slide found")


def test_an_output_folder_that_is_a_file_is_a_wrong_call(screen: Call, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = screen("--out", tmp_path / "file")
    assert result.exit_code == 2
    assert_one_line(result, "can't be written")


def test_a_model_of_another_kind_is_a_wrong_call(screen: Call, tmp_path: Path) -> None:
    (tmp_path / "weights.pth").write_bytes(b"PK\x03\x04")
    result = screen("--model", tmp_path / "weights.pth")
    assert result.exit_code == 2
    assert_one_line(result, "not a model of CytoLibra")


def test_a_truncated_model_is_a_wrong_call(screen: Call, model: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "model.json").write_bytes((model / "model.json").read_bytes())
    weights = (model / "model.safetensors").read_bytes()
    (broken / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    result = screen("--model", broken)
    assert result.exit_code == 2
    assert_one_line(result, "truncated")


def test_typer_s_own_errors_are_wrong_calls_too() -> None:
    for arguments in (["screen"], ["screen", "x", "--no-such-option"], ["no-such-command"]):
        called = arguments[0] if arguments[0] in SUMMARIES else None
        assert CliRunner().invoke(build_app(called), arguments).exit_code == 2


def test_ctrl_c_ends_with_130(screen: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("pipeline.batch.engines.worker.screen_slide", interrupt)
    result = screen()
    assert result.exit_code == 130
    assert "1 not reached" in result.stdout
    monkeypatch.setattr("pipeline.batch.discovery.discover", interrupt)
    assert screen().exit_code == 130


def test_doctor_tells_readers_devices_disk_and_models() -> None:
    result = CliRunner().invoke(build_app("doctor"), ["doctor", "--quick"])
    assert result.exit_code == 0
    for expected in ("openslide", "decoders", "instructions", "auto", "GiB", "models", ".svs"):
        assert expected in result.stdout


NO_TORCH = """
import sys
sys.modules["torch"] = None  # as where it is not installed
from importlib import util
find = util.find_spec
util.find_spec = lambda name, *more: None if name == "torch" else find(name, *more)
from cytolibra import main
main()
"""


def without_torch(*words: str) -> subprocess.CompletedProcess[str]:
    call = [sys.executable, "-c", NO_TORCH, *words]
    return subprocess.run(
        call, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False
    )


@pytest.mark.slow
def test_doctor_tells_all_where_torch_is_missing() -> None:
    result = without_torch("doctor")
    assert (result.returncode, result.stderr) == (0, "")
    assert "torch is not installed: there is no training" in result.stdout
    assert "cric-fcos-light" in result.stdout


def test_a_command_that_needs_torch_says_so_where_it_is_missing(tmp_path: Path) -> None:
    result = without_torch("train", "--config", "train/cric", "--out", str(tmp_path / "run"))
    assert result.returncode == 2
    assert result.stderr.startswith("error: torch is not installed here, and cytolibra train needs")
    assert result.stderr.count("\n") == 1


def test_doctor_tells_what_this_cpu_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.network.precision.cpu_instructions", lambda: frozenset({"avx2"}))
    told = CliRunner().invoke(build_app("doctor"), ["doctor", "--quick"]).stdout
    assert "refused: this CPU does not compute it (it has none of amx_bf16, avx512_bf16)" in told
    assert "computed, more slowly: there is no VNNI" in told
    everything = frozenset({"avx512_bf16", "avx512_vnni"})
    monkeypatch.setattr("pipeline.network.precision.cpu_instructions", lambda: everything)
    lines = CliRunner().invoke(build_app("doctor"), ["doctor", "--quick"]).stdout.splitlines()
    told_of = dict(line.split(maxsplit=1) for line in lines if len(line.split()) > 1)
    assert (told_of["bf16"], told_of["int8"]) == ("computed", "computed")


@pytest.mark.parametrize(
    ("version", "safe"),
    [("3.4.1", False), ("4.0.0", False), ("4.0.1", True), ("4.1.0", True), ("10.0", True)],
)
def test_doctor_tells_of_an_openslide_that_a_file_can_attack(
    version: str, safe: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("openslide.__library_version__", version)
    told = CliRunner().invoke(build_app("doctor"), ["doctor", "--quick"]).stdout
    assert f"  openslide         {version}" in told
    assert ("older than 4.0.1" in told) != safe
    assert ("pip install 'openslide-bin>=4.0.1'" in told) != safe


@pytest.mark.parametrize(
    ("forbidden", "reason"),
    [(True, "PYTHONDONTWRITEBYTECODE is set"), (False, "nobody may write it")],
)
def test_doctor_tells_where_bytecode_is_not_kept(
    forbidden: bool, reason: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", forbidden)
    monkeypatch.setattr(sys, "pycache_prefix", str(tmp_path))
    told = CliRunner().invoke(build_app("doctor"), ["doctor", "--quick"]).stdout
    assert f"  bytecode          not kept, since {reason}: " in told
    (tmp_path / Path(pydantic.__file__).parent.relative_to("/")).mkdir(parents=True)
    Path(importlib.util.cache_from_source(pydantic.__file__)).touch()
    told = CliRunner().invoke(build_app("doctor"), ["doctor", "--quick"]).stdout
    assert "  bytecode          kept\n" in told


def test_ctrl_c_while_a_command_is_loaded_gives_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(_: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(sys, "argv", ["cytolibra", "doctor"])
    monkeypatch.setattr("scripts.cli._load", interrupt)
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_models_are_listed_with_their_cards(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from models.card import read_card

    monkeypatch.setattr("models.list_models", lambda: [read_card(model)])
    result = CliRunner().invoke(build_app("models"), ["models"])
    assert result.exit_code == 0
    assert "untrained" in result.stdout
    assert "    counts from: NILM 0.90, HSIL 0.90\n" in result.stdout
    monkeypatch.setattr("models.list_models", list)
    assert "no model" in CliRunner().invoke(build_app("models"), ["models"]).stdout


def test_a_terminal_gets_bars_with_tiles_rate_and_names_as_they_are() -> None:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=120)
    job = SlideJob(Path("a.svs"), "[red]two\nlines.svs")
    with show_progress(console) as progress:
        progress.batch_started(2)
        progress.slide_started(job)
        progress.tiles_done(job.path, 3, 8)
        progress.tiles_done(Path("of another process.svs"), 5, 9)
        time.sleep(0.3)  # bars are drawn ten times a second
        progress.tiles_done(job.path, 8, 8)
        record = SlideRecord(path="a.svs", status="complete", seconds=1.5)
        progress.slide_ended(job, record, SlideSummary.of(make_report()))
        failed = SlideRecord(path="a.svs", status="failed", error="a.svs: [bold]truncated")
        progress.slide_ended(job, failed, None)
    shown = stream.getvalue()
    assert "[1/2] [red]two\\nlines.svs: " in shown
    assert "abnormal of 50 cells; SCC (1.5 s)" in shown
    assert "3/8" in shown
    assert "of another process.svs" in shown
    assert "5/9" in shown
    assert "2/2" in shown
    assert "error: a.svs: [bold]truncated" in shown


def test_tiles_that_are_told_of_after_their_slide_ended_draw_no_bar() -> None:
    console = Console(file=io.StringIO(), force_terminal=True)
    job = SlideJob(Path("a.svs"), "a.svs")
    with show_progress(console) as progress:
        assert isinstance(progress, BarProgress)
        progress.batch_started(1)
        progress.tiles_done(job.path, 3, 8)
        assert len(progress._progress.tasks) == 2
        progress.slide_ended(job, SlideRecord(path="a.svs", status="failed", error="lost"), None)
        progress.tiles_done(job.path, 4, 8)
        assert len(progress._progress.tasks) == 1


@pytest.mark.skipif(os.name != "posix", reason="a console's Ctrl-C is sent otherwise here")
def test_the_installed_command_and_the_module_are_the_same() -> None:
    command = [sys.executable, "-c", "from scripts.cli import main; main()", "--version"]
    found = subprocess.run(command, capture_output=True, text=True, check=True, cwd=repo())
    assert found.stdout.startswith("cytolibra ")


def test_a_run_is_told_to_programs_by_its_log_and_its_metrics(
    screen: Call, slides: Path, tmp_path: Path
) -> None:
    (slides / "text.svs").write_text("this is no slide")
    path = tmp_path / "night.prom"
    result = screen("--log-format", "json", "--metrics", path)
    assert result.exit_code == 1, result.output
    lines = (tmp_path / "out/run.log.jsonl").read_text().splitlines()
    ended = {one["slide"]: one["status"] for one in map(json.loads, lines) if "seconds" in one}
    assert ended == {"good.png": "complete", "text.svs": "failed"}
    told = {
        (sample.name, *(v for k, v in sample.labels.items() if k != "batch")): sample.value
        for family in text_string_to_metric_families(path.read_text())
        for sample in family.samples
    }
    assert told["cytolibra_slides_ended_total", "screened"] == 1
    assert told["cytolibra_slide_failures_total", "other"] == 1
    assert told["cytolibra_run_exit_code",] == 1
    assert told["cytolibra_run_active",] == 0
    assert told["cytolibra_tiles_total",] > 0


def test_metrics_that_cant_be_kept_are_told_before_anything_begins(
    screen: Call, slides: Path, tmp_path: Path
) -> None:
    refused = screen("--metrics", tmp_path / "none/night.prom")
    assert refused.exit_code == 2
    assert_one_line(refused, "none/night.prom: can't be written: No such file or directory")
    refused = screen("--metrics", tmp_path / "night.prom", "--dry-run")
    assert_one_line(refused, "--dry-run: screens nothing that --metrics could tell of")
    assert not (tmp_path / "out").exists()
    refused = screen(tmp_path / "nowhere", "--metrics", tmp_path / "night.prom")
    assert refused.exit_code == 2
    assert 'cytolibra_run_exit_code{batch="night"} 2\n' in (tmp_path / "night.prom").read_text()
