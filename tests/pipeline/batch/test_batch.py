import _thread
import csv
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from checkout import PYTHONPATH
from fakes import MODEL, make_report
from openpyxl import load_workbook

from configs import ConfigError, Doubt
from pipeline.batch.batch import _Batch, screen_batch
from pipeline.batch.discovery import SlideJob, discover
from pipeline.batch.engines import LocalEngine
from pipeline.batch.fingerprint import hash_found, hash_recipe
from pipeline.batch.lock import InUseError
from pipeline.batch.plan import BatchPlan, BatchResult, take_shard
from pipeline.batch.run_record import RunRecord, Shard, SlideRecord, now
from pipeline.cells.domain import DomainFinding
from pipeline.errors import SlideError
from pipeline.reports import writers
from pipeline.reports.report import ModelFacts, SlideReport
from pipeline.reports.tables import ReportSettings
from pipeline.settings import ASIDE, MADE, ScreenSettings
from pipeline.slides.mpp_table import load_mpp_table
from pipeline.slides.unread import NotRead

SETTINGS = {"tiler": {"overlap": 128}}
RESULT = {"report.json", "cells.csv", "cells.geojson", "report.html", "fingerprint.json"}


class Ears:
    """Hears a batch and remembers."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, str]] = []

    def batch_started(self, slides: int) -> None:
        self.heard.append(("batch", str(slides)))

    def slide_started(self, job: SlideJob) -> None:
        self.heard.append(("start", job.name))

    def slide_ended(self, job: SlideJob, record: SlideRecord, report: SlideReport | None) -> None:
        assert (report is None) == (record.status == "failed")
        self.heard.append((record.status, job.name))

    def slide_ended_elsewhere(
        self, job: SlideJob, record: SlideRecord, report: SlideReport | None
    ) -> None:
        self.heard.append((f"{record.status} elsewhere", job.name))


class Screener:
    """Makes reports up, and fails where it is told to."""

    def __init__(self, **problems: BaseException) -> None:
        self.problems = problems
        self.screened: list[str] = []

    def __call__(self, path: Path) -> SlideReport:
        self.screened.append(path.name)
        problem = self.problems.get(path.stem)
        if problem:
            raise problem
        return make_report(path)


@pytest.fixture
def slides(tmp_path: Path) -> Path:
    """A folder of three slides."""
    folder = tmp_path / "slides"
    for name in ("a.svs", "sub/b.svs", "c.tif"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())
    return folder


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def run(
    slides: Path,
    out: Path,
    screen: Callable[[Path], SlideReport] | None = None,
    *,
    ears: Ears | None = None,
    model: ModelFacts = MODEL,
    settings: dict[str, object] | None = None,
    **plan: object,
) -> BatchResult:
    jobs = discover([slides], out, with_images=False).jobs
    what = BatchPlan(out=out, model=model, settings=settings or SETTINGS, **plan)
    return screen_batch(jobs, LocalEngine(screen or Screener(), slots=1), what, ears or Ears())


def summary(out: Path) -> dict[str, dict[str, str]]:
    with (out / "summary.csv").open(encoding="utf-8-sig", newline="") as stream:
        return {row["slide"]: row for row in csv.DictReader(stream)}


def statuses(out: Path) -> dict[str, str]:
    return {name: row["status"] for name, row in summary(out).items()}


def record(out: Path, name: str = "run.json") -> RunRecord:
    return RunRecord.model_validate_json((out / name).read_bytes())


def leftovers(out: Path) -> list[Path]:
    return list(out.rglob(".partial-*"))


def test_a_batch_writes_what_the_contract_names(slides: Path, out: Path) -> None:
    ears = Ears()
    result = run(slides, out, ears=ears, command=("cytolibra", "screen"))
    assert result == BatchResult(3, 0, {}, 0, interrupted=False)
    assert result.exit_code == 0
    assert {p.name for p in out.iterdir()} == {
        *("a.svs", "sub", "c.tif", "summary.csv", "summary.html", "run.json", "run.log"),
        ".results.jsonl",
    }
    for name in ("a.svs", "sub/b.svs", "c.tif"):
        assert {p.name for p in (out / name).iterdir()} == RESULT
    assert statuses(out) == {"a.svs": "complete", "c.tif": "complete", "sub/b.svs": "complete"}
    assert summary(out)["a.svs"]["cells"] == "50"
    assert record(out).command == ("cytolibra", "screen")
    assert record(out).status == "complete"
    assert record(out).model.sha256 == MODEL.sha256
    assert {r.attempts for r in record(out).slides.values()} == {1}
    assert ears.heard[0] == ("batch", "3")
    assert ears.heard[1] == ("start", "a.svs")
    assert [one for one in ears.heard if one[0] == "complete"] == [
        *(("complete", "a.svs"), ("complete", "c.tif"), ("complete", "sub/b.svs"))
    ]


def test_one_bad_slide_never_ends_the_batch(slides: Path, out: Path) -> None:
    screen = Screener(a=SlideError("a.svs: truncated;\ncopy it again"), b=MemoryError())
    result = run(slides, out, screen)
    assert result.exit_code == 1
    assert result.screened == 1
    assert result.failed["a.svs"] == "a.svs: truncated; copy it again"
    assert "unexpected error: MemoryError" in result.failed["sub/b.svs"]
    assert statuses(out) == {"a.svs": "failed", "c.tif": "complete", "sub/b.svs": "failed"}
    assert summary(out)["a.svs"]["error"] == "a.svs: truncated; copy it again"
    assert not (out / "a.svs").exists()
    assert not leftovers(out)


def test_what_was_not_foreseen_is_told_in_full_in_the_log_only(slides: Path, out: Path) -> None:
    result = run(slides, out, Screener(a=ValueError("shapes (3,) and\n(4,)")))
    assert result.failed["a.svs"].endswith("unexpected error: ValueError: shapes (3,) and (4,)")
    log = (out / "run.log").read_text(encoding="utf-8")
    assert "Traceback" in log
    assert "Traceback" not in (out / "summary.csv").read_text(encoding="utf-8")


def test_finished_slides_are_used_again_and_failed_ones_tried_again(
    slides: Path, out: Path
) -> None:
    run(slides, out, Screener(a=SlideError("a.svs: no")))
    screen = Screener()
    result = run(slides, out, screen)
    assert screen.screened == ["a.svs"]
    assert result == BatchResult(1, 2, {}, 0, interrupted=False)
    assert record(out).slides["a.svs"].attempts == 2
    assert record(out).slides["c.tif"].attempts == 1
    assert record(out).slides["c.tif"].reused
    assert set(statuses(out).values()) == {"complete"}
    assert summary(out)["c.tif"]["cells"] == "50"


def screened_again(slides: Path, out: Path, **changes: object) -> list[str]:
    screen = Screener()
    run(slides, out, screen, **changes)
    return screen.screened


def test_nothing_is_screened_again_where_nothing_changed(slides: Path, out: Path) -> None:
    run(slides, out)
    assert screened_again(slides, out) == []


def test_changed_settings_weights_or_thresholds_make_results_stale(slides: Path, out: Path) -> None:
    run(slides, out)
    assert len(screened_again(slides, out, settings={"tiler": {"overlap": 64}})) == 3
    weights = MODEL.model_copy(update={"sha256": "1" * 64})
    assert len(screened_again(slides, out, model=weights)) == 3
    threshold = MODEL.model_copy(update={"threshold": {**MODEL.threshold, "HSIL": 0.9}})
    assert len(screened_again(slides, out, model=threshold)) == 3
    renamed = threshold.model_copy(update={"name": "another name"})
    assert screened_again(slides, out, model=renamed) == []


def test_where_and_how_fast_it_ran_does_not(slides: Path, out: Path) -> None:
    here = {"runtime": {"device": "cpu", "precision": "bf16", "threads": 2, "batch_size": 2}}
    there = {"runtime": {"device": "cuda:0", "precision": "bf16", "threads": 9, "batch_size": 8}}
    run(slides, out, settings=here)
    assert screened_again(slides, out, settings=there) == []
    assert len(screened_again(slides, out, settings={"runtime": {"precision": "fp32"}})) == 3
    other = {"runtime": {"name": "openvino", "precision": "fp32"}}
    assert len(screened_again(slides, out, settings=other)) == 3


def test_what_is_to_be_noted_stands_in_the_log(slides: Path, out: Path) -> None:
    doubt = Doubt(code="runtime-fallback", text="the network runs on torch")
    run(slides, out, doubts=(doubt,))
    assert "WARNING the network runs on torch [runtime-fallback]" in (out / "run.log").read_text()


def test_changed_content_makes_a_result_stale(slides: Path, out: Path) -> None:
    run(slides, out)
    (slides / "a.svs").write_bytes(b"longer than before")
    assert screened_again(slides, out) == ["a.svs"]
    status = (slides / "c.tif").stat()
    (slides / "c.tif").write_bytes(b"C.tif")
    os.utime(slides / "c.tif", ns=(status.st_atime_ns, status.st_mtime_ns + 10**9))
    assert screened_again(slides, out) == ["c.tif"]


def test_the_result_of_another_slide_of_the_same_name_stays(tmp_path: Path, out: Path) -> None:
    for folder, content in (("one", b"one"), ("other", b"two"), ("moved", b"one")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.svs").write_bytes(content)
    run(tmp_path / "one", out)
    made = (out / "x.svs/report.json").read_bytes()

    refused = run(tmp_path / "other", out, screener := Screener())
    assert refused.exit_code == 1
    assert screener.screened == []
    assert (out / "x.svs/report.json").read_bytes() == made
    error = refused.failed["x.svs"]
    assert f"is the report of another slide of this name, {tmp_path / 'one/x.svs'}" in error
    assert error.endswith("[other-slide]")
    assert summary(out)["x.svs"]["error"] == error

    assert run(tmp_path / "moved", out).reused == 1
    (tmp_path / "one/x.svs").write_bytes(b"scanned anew")
    assert run(tmp_path / "one", out).screened == 1
    assert run(tmp_path / "other", out, overwrite=True).screened == 1
    place = json.loads((out / "x.svs/fingerprint.json").read_text())["place"]
    assert place == str(tmp_path / "other/x.svs")


def test_slides_of_earlier_calls_are_told_where_a_call_leaves_them_out(
    slides: Path, out: Path
) -> None:
    assert run(slides, out, Screener(c=SlideError("c is broken"))).doubts == ()
    fewer = run(slides / "sub", out)
    assert [doubt.code for doubt in fewer.doubts] == ["slides-of-before"]
    assert "3 slide(s) of earlier calls" in str(fewer.doubts[0])
    assert "a.svs, c.tif, sub/b.svs;" in str(fewer.doubts[0])
    assert list(summary(out)) == ["b.svs"]
    assert "[slides-of-before]" in (out / "run.log").read_text()
    assert "this one doesn&#39;t name" in (out / "summary.html").read_text()
    shutil.rmtree(out / "a.svs")  # of what is gone nothing is told
    again = run(slides / "sub", out)
    assert "1 slide(s) of earlier calls are here that this one doesn't name: sub/b.svs" in str(
        again.doubts[0]
    )


def test_a_new_time_alone_does_not(slides: Path, out: Path) -> None:
    run(slides, out)
    os.utime(slides / "a.svs", ns=(0, 0))
    assert screened_again(slides, out) == []
    fingerprint = json.loads((out / "a.svs/fingerprint.json").read_text())
    assert fingerprint["files"][0]["mtime_ns"] == 0


def test_companion_files_count_as_content(tmp_path: Path, out: Path) -> None:
    slides = tmp_path / "slides"
    (slides / "m").mkdir(parents=True)
    (slides / "m.mrxs").write_bytes(b"x")
    (slides / "m/Data0000.dat").write_bytes(b"one")
    run(slides, out)
    assert screened_again(slides, out) == []
    (slides / "m/Data0000.dat").write_bytes(b"three")
    assert screened_again(slides, out) == ["m.mrxs"]
    (slides / "m/Data0001.dat").write_bytes(b"")
    assert screened_again(slides, out) == ["m.mrxs"]


@pytest.mark.parametrize("file", ["report.json", "fingerprint.json"])
def test_a_damaged_result_is_made_anew(slides: Path, out: Path, file: str) -> None:
    run(slides, out)
    (out / "a.svs" / file).write_text("{}")
    assert screened_again(slides, out) == ["a.svs"]
    assert statuses(out)["a.svs"] == "complete"


def test_objects_that_are_wanted_lie_with_each_result(slides: Path, out: Path) -> None:
    def screen(path: Path) -> SlideReport:
        report = make_report(path)
        return report.model_copy(update={"settings": {"reports": {"fhir": True}}})

    run(slides, out, screen)
    for name in ("a.svs", "sub/b.svs", "c.tif"):
        written = json.loads((out / name / "report.fhir.json").read_text(encoding="utf-8"))
        assert written["status"] == "preliminary"
    assert not list(out.rglob("*.dcm"))


def test_overwrite_screens_everything_and_leaves_nothing_behind(slides: Path, out: Path) -> None:
    run(slides, out)
    (out / "a.svs/stray.txt").write_text("from the earlier result")
    assert len(screened_again(slides, out, overwrite=True)) == 3
    assert {p.name for p in (out / "a.svs").iterdir()} == RESULT
    assert not leftovers(out)


def test_a_stale_result_is_not_told_as_complete_where_its_slide_now_fails(
    slides: Path, out: Path
) -> None:
    run(slides, out)
    result = run(slides, out, Screener(a=SlideError("no")), settings={"other": 1})
    assert result.exit_code == 1
    assert statuses(out)["a.svs"] == "failed"
    assert summary(out)["a.svs"]["cells"] == ""


def test_fail_fast_stops_at_the_first_failure(slides: Path, out: Path) -> None:
    screen = Screener(a=SlideError("a.svs: no"))
    result = run(slides, out, screen, fail_fast=True)
    assert screen.screened == ["a.svs"]
    assert (result.exit_code, result.pending) == (1, 2)
    assert statuses(out) == {"a.svs": "failed", "c.tif": "pending", "sub/b.svs": "pending"}
    assert record(out).status == "stopped"


def test_ctrl_c_keeps_what_is_finished(slides: Path, out: Path) -> None:
    result = run(slides, out, Screener(c=KeyboardInterrupt()))
    assert result.exit_code == 130
    after = statuses(out)
    last = after.pop("sub/b.svs")  # begun as the signal came: on a busy machine it may be done
    assert after == {"a.svs": "complete", "c.tif": "pending"}
    done = last == "complete"
    assert (result.screened, result.pending) == ((2, 1) if done else (1, 2))
    assert record(out).status == "interrupted"
    assert screened_again(slides, out) == (["c.tif"] if done else ["c.tif", "b.svs"])


def test_ctrl_c_that_wakes_nobody_is_heeded(slides: Path, out: Path) -> None:
    # So it is with a signal that comes as the batch is about to wait, and not yet does.
    ended = threading.Event()
    in_time: list[bool] = []

    def screen(path: Path) -> SlideReport:
        time.sleep(0.2)  # until the batch waits
        _thread.interrupt_main()
        in_time.append(ended.wait(15))
        return make_report(path)

    jobs = discover([slides], out, with_images=False).jobs
    plan = BatchPlan(out=out, model=MODEL, settings=SETTINGS)
    engine = LocalEngine(screen, slots=1)
    try:
        assert screen_batch(jobs, engine, plan, Ears()).exit_code == 130
    finally:
        ended.set()
        engine.close()
    assert in_time == [True]


def test_ctrl_c_as_a_slide_begins_counts_it_among_those_not_reached(
    slides: Path, out: Path
) -> None:
    class Interrupted(Ears):
        def slide_started(self, job: SlideJob) -> None:
            if job.name == "c.tif":
                raise KeyboardInterrupt

    result = run(slides, out, ears=Interrupted())
    assert (result.exit_code, result.screened, result.pending) == (130, 1, 2)
    assert record(out).slides["c.tif"].status == "pending"


def test_a_second_batch_in_one_folder_is_a_wrong_call_and_starts_nothing(
    slides: Path, out: Path
) -> None:
    def screen(path: Path) -> SlideReport:
        second = Screener()
        with pytest.raises(InUseError, match=r"cytolibra screen slides\).*\[out-in-use\]"):
            run(slides, out, second, overwrite=True)
        assert second.screened == []
        return make_report(path)

    command = ("cytolibra", "screen", "slides")
    assert run(slides, out, screen, command=command) == BatchResult(3, 0, {}, 0, interrupted=False)
    hidden = [path.name for path in out.iterdir() if path.name.startswith(".")]
    assert hidden == [".results.jsonl"]  # what is known of the results, for the next run


def test_an_output_folder_without_locks_is_told_in_the_log_and_of_the_batch(
    slides: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("filelock.FileLock.acquire", refuse)
    result = run(slides, out)
    assert result.exit_code == 0
    assert [doubt.code for doubt in result.doubts] == ["no-lock"]
    assert f"WARNING {result.doubts[0]}" in (out / "run.log").read_text()


@pytest.mark.skipif(os.name != "posix", reason="signals are sent otherwise here")
def test_sigterm_ends_a_batch_as_ctrl_c_does(slides: Path, out: Path) -> None:
    def screen(path: Path) -> SlideReport:
        if path.stem == "c":
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(1)
        return make_report(path)

    before = signal.getsignal(signal.SIGTERM)
    assert run(slides, out, screen).exit_code == 130
    assert statuses(out)["a.svs"] == "complete"
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.skipif(os.name != "posix", reason="signals are sent otherwise here")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_that_comes_twice_at_once_is_one(
    slides: Path, out: Path, number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A group that is ended hears it, and from who watches it once more, as it writes its end."""
    keep = _Batch._keep_finished

    def keep_and_hear_again(batch: _Batch) -> None:
        signal.raise_signal(number)
        keep(batch)

    def screen(path: Path) -> SlideReport:
        if path.stem == "c":
            os.kill(os.getpid(), number)
            time.sleep(0.3)
        return make_report(path)

    monkeypatch.setattr(_Batch, "_keep_finished", keep_and_hear_again)
    before = signal.getsignal(number)
    assert run(slides, out, screen).exit_code == 130
    assert record(out).status == "interrupted"
    assert signal.getsignal(number) is before


def test_a_batch_whose_process_died_goes_on_and_does_nothing_twice(slides: Path, out: Path) -> None:
    run(slides, out)
    since, first = now(), Screener(c=SlideError("torn"), b=KeyboardInterrupt())
    assert run(slides, out, first, overwrite=True).interrupted
    ears, second = Ears(), Screener()
    result = run(slides, out, second, ears=ears, overwrite=True, resumed=since)
    assert second.screened == ["b.svs"]  # though all had results, and one has failed
    assert result == BatchResult(2, 0, {"c.tif": "torn"}, 0, interrupted=False)
    assert ears.heard[1:3] == [("complete elsewhere", "a.svs"), ("failed elsewhere", "c.tif")]
    assert record(out).started == since
    third = Screener()
    run(slides, out, third, overwrite=True)
    assert third.screened == ["a.svs", "c.tif", "b.svs"]


def test_a_result_that_is_gone_is_made_again_though_it_was_made(slides: Path, out: Path) -> None:
    since = now()
    run(slides, out)
    shutil.rmtree(out / "a.svs")
    screener = Screener()
    assert run(slides, out, screener, resumed=since).exit_code == 0
    assert screener.screened == ["a.svs"]


def test_a_full_disk_fails_the_slide_and_stops_the_batch(
    slides: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = writers.write_cells

    def write(stream: object, report: SlideReport) -> None:
        if "c.tif" in report.slide.path:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(stream, report)

    monkeypatch.setattr(writers, "write_cells", write)
    screen = Screener()
    result = run(slides, out, screen)
    assert result.exit_code == 1
    assert "no space left" in result.failed["c.tif"]
    assert statuses(out) == {"a.svs": "complete", "c.tif": "failed", "sub/b.svs": "pending"}
    assert not (out / "c.tif").exists()
    assert not leftovers(out)


def test_a_disk_too_full_for_the_record_ends_without_a_traceback(
    slides: Path, out: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(writers, "create", fail)
    result = run(slides, out)
    assert result.exit_code == 1
    assert "no space left" in result.failed["a.svs"]
    assert result.problem is not None
    assert "Traceback" not in capsys.readouterr().err


def test_an_earlier_result_stays_where_its_successor_cannot_be_moved_in(
    slides: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(slides, out)
    replace = os.replace

    def refuse(source: Path, target: Path) -> None:
        if Path(target) == out / "a.svs" and (Path(source) / "new").exists():
            raise PermissionError(13, "Permission denied")
        replace(source, target)

    monkeypatch.setattr(os, "replace", refuse)
    monkeypatch.setattr(
        "pipeline.batch.attempts.write_reports", lambda _, folder: (folder / "new").touch()
    )
    result = run(slides, out, overwrite=True)
    assert "Permission denied" in result.failed["a.svs"]
    assert {p.name for p in (out / "a.svs").iterdir()} == RESULT
    assert not leftovers(out)


def test_a_slide_that_changes_while_it_is_screened_fails(slides: Path, out: Path) -> None:
    def screen(path: Path) -> SlideReport:
        path.write_bytes(b"still being copied")
        return make_report(path)

    result = run(slides, out, screen)
    assert "was changed while it was screened" in result.failed["a.svs"]


def test_a_problem_known_beforehand_is_reported(slides: Path, out: Path) -> None:
    jobs = [SlideJob(slides / "locked", "locked", problem="locked: the folder can't be read")]
    result = screen_batch(jobs, LocalEngine(Screener()), BatchPlan(out, MODEL, SETTINGS), Ears())
    assert result.failed == {"locked": "locked: the folder can't be read"}


NAMES = ["with space.svs", "two\nlines.svs", "😀.svs", "=cmd.svs", "#%?&.svs", "<b>.svs"]


def test_any_name_makes_the_whole_journey(tmp_path: Path, out: Path) -> None:
    slides = tmp_path / "slides"
    slides.mkdir()
    for name in NAMES:
        (slides / name).write_bytes(b"x")
    assert run(slides, out).exit_code == 0
    assert {p.name for p in out.iterdir() if p.is_dir()} == set(NAMES)
    shown = {name if not name.startswith("=") else f"'{name}" for name in NAMES}
    assert set(summary(out)) == shown
    assert screened_again(slides, out) == []


@pytest.mark.skipif(sys.platform != "linux", reason="names are text here")
def test_a_name_that_is_no_text_makes_the_whole_journey(tmp_path: Path, out: Path) -> None:
    slides = tmp_path / "slides"
    slides.mkdir()
    (slides / "bytes\udcff.svs").write_bytes(b"x")
    assert run(slides, out).exit_code == 0
    assert (out / "bytes\udcff.svs/report.json").is_file()
    assert statuses(out) == {"bytes\\udcff.svs": "complete"}
    assert screened_again(slides, out) == []


def test_errors_that_a_spreadsheet_would_run_are_defused(slides: Path, out: Path) -> None:
    run(slides, out, Screener(a=SlideError('=HYPERLINK("http://x")')))
    assert summary(out)["a.svs"]["error"].startswith("'=")


def test_output_that_cannot_be_used_is_a_wrong_call(slides: Path, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("x")
    screen = Screener()
    (tmp_path / "link").symlink_to("nowhere")
    for place in (file, file / "below", tmp_path / "link"):
        with pytest.raises(ConfigError, match="can't be written: a file, or a link to nothing"):
            run(slides, place, screen)
    assert screen.screened == []


def test_strangers_files_are_never_replaced(slides: Path, out: Path) -> None:
    (out / "sub/b.svs").mkdir(parents=True)
    (out / "sub/b.svs/thesis.txt").write_text("the only copy")
    with pytest.raises(ConfigError, match="is not a result of an earlier run"):
        run(slides, out, overwrite=True)
    (out / "a.svs").write_text("a file")
    with pytest.raises(ConfigError, match=r"a\.svs: is not a result"):
        run(slides, out)


def test_shards_part_the_slides_whatever_else_comes() -> None:
    jobs = [SlideJob(Path(str(i)), str(i)) for i in range(400)]
    for index in (1, 2, 3):
        shard = Shard(index=index, count=3)
        before, after = (take_shard(jobs[some:], shard) for some in (7, 0))
        assert [job for job in after if job in jobs[7:]] == before
        assert 100 < len(after) < 170
    parts = [job for i in (1, 2, 3) for job in take_shard(jobs, Shard(index=i, count=3))]
    assert sorted(parts, key=lambda job: int(job.name)) == jobs


def test_what_comes_after_its_shard_has_ended_is_told(slides: Path, out: Path) -> None:
    """Of a.svs, c.tif and sub/b.svs the last alone falls to 2/2."""
    assert run(slides, out, shard=Shard.parse("2/2")).doubts == ()
    late = next(f"{i}.svs" for i in range(99) if Shard(index=2, count=2).takes(f"{i}.svs"))
    (slides / late).write_bytes(b"late")
    first = run(slides, out, shard=Shard.parse("1/2"))
    (doubt,) = first.doubts
    assert doubt.code == "shard-behind"
    assert "1 slide(s) came after --shard 2/2 had listed its own" in doubt.text
    assert f"{late}; run --shard 2/2 once more" in doubt.text
    assert "once more" in (out / "summary.html").read_text()
    assert statuses(out)[late] == "pending"
    again = run(slides, out, second := Screener(), shard=Shard.parse("2/2"))
    assert (second.screened, again.doubts) == ([late], ())
    assert set(statuses(out).values()) == {"complete"}


@pytest.mark.parametrize("text", ["", "2", "0/3", "4/3", "1/0", "a/b", "1/2/3", "-1/3", "1.0/2"])
def test_a_shard_that_is_none_is_a_wrong_call(text: str) -> None:
    with pytest.raises(ConfigError, match="expected i/n"):
        Shard.parse(text)


def test_shards_share_an_output_folder_and_the_last_tells_all(slides: Path, out: Path) -> None:
    first = run(slides, out, Screener(a=SlideError("a.svs: no")), shard=Shard.parse("1/2"))
    assert statuses(out) == {"a.svs": "failed", "c.tif": "complete", "sub/b.svs": "pending"}
    second = run(slides, out, shard=Shard.parse("2/2"))
    assert statuses(out) == {"a.svs": "failed", "c.tif": "complete", "sub/b.svs": "complete"}
    assert (first.exit_code, second.exit_code) == (1, 0)
    assert {p.name for p in out.glob("run*")} == {
        *("run.shard-1-of-2.json", "run.shard-1-of-2.log"),
        *("run.shard-2-of-2.json", "run.shard-2-of-2.log"),
    }
    assert screened_again(slides, out) == ["a.svs"]
    assert record(out).slides["a.svs"].attempts == 2
    assert set(statuses(out).values()) == {"complete"}


def test_half_written_results_of_dead_runs_are_swept_away(slides: Path, out: Path) -> None:
    dead = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True
    )
    out.mkdir()
    gone = out / f".partial-{writers.MACHINE}-{int(dead.stdout)}-abc"
    living = out / f".partial-{writers.MACHINE}-{os.getpid()}-abc"
    elsewhere = out / f".partial-another_machine-{int(dead.stdout)}-abc"
    old = out / ".partial-another_machine-7-def"
    for folder in (gone, living, elsewhere, old):
        folder.mkdir()
        (folder / "report.json").write_text("{")
    os.utime(old, (0, 0))
    run(slides, out)
    assert set(leftovers(out)) == {living, elsewhere}


CHILD = """
import sys, time
from pathlib import Path
from fakes import MODEL, make_report
from openpyxl import load_workbook
from pipeline.batch.batch import screen_batch
from pipeline.batch.plan import BatchPlan
from pipeline.reports import writers
from pipeline.batch.discovery import discover
from pipeline.batch.engines import LocalEngine

slides, out = Path(sys.argv[1]), Path(sys.argv[2])

def screen(path):
    return make_report(path)

real = writers.write_cells

def slowly(stream, report):
    real(stream, report)
    if report.slide.path.endswith("c.tif"):
        print("writing", flush=True)
        time.sleep(60)

writers.write_cells = slowly

class Deaf:
    def batch_started(self, *_): pass
    def slide_started(self, *_): pass
    def slide_ended(self, *_): pass

jobs = discover([slides], out, with_images=False).jobs
plan = BatchPlan(out=out, model=MODEL, settings={"tiler": {"overlap": 128}})
screen_batch(jobs, LocalEngine(screen, slots=1), plan, Deaf())
"""


def kill_while_writing(slides: Path, out: Path, tmp_path: Path) -> None:
    """Starts a batch in another process and kills it while it writes the second slide."""
    script = tmp_path / "child.py"
    script.write_text(textwrap.dedent(CHILD))
    command: Sequence[str] = [sys.executable, str(script), str(slides), str(out)]
    environment = {**os.environ, "PYTHONPATH": PYTHONPATH}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as child:
        assert child.stdout is not None
        assert child.stdout.readline().strip() == b"writing"
        child.kill()


def test_a_killed_batch_leaves_whole_results_and_is_taken_up_again(
    slides: Path, out: Path, tmp_path: Path
) -> None:
    kill_while_writing(slides, out, tmp_path)
    assert {p.name for p in (out / "a.svs").iterdir()} == RESULT
    assert not (out / "c.tif").exists()
    assert len(leftovers(out)) == 1
    assert record(out).slides["c.tif"].status == "running"
    assert screened_again(slides, out) == ["c.tif", "b.svs"]
    assert record(out).slides["c.tif"].attempts == 2
    assert not leftovers(out)
    assert set(statuses(out).values()) == {"complete"}


def with_warnings(path: Path) -> SlideReport:
    return make_report(path, warnings=("Half of it is blurred.",))


def test_warnings_reach_summary_record_log_and_result(slides: Path, out: Path) -> None:
    result = run(slides, out, with_warnings)
    assert (result.warned, result.exit_code) == (3, 0)
    assert summary(out)["a.svs"]["warnings"] == "Half of it is blurred. [uncoded]"
    page = (out / "summary.html").read_text(encoding="utf-8")
    assert page.partition("<script")[0].count("Half of it is blurred.") == 3
    assert record(out).slides["a.svs"].warnings == ("uncoded",)
    log = (out / "run.log").read_text(encoding="utf-8")
    assert f"WARNING {slides / 'a.svs'}: Half of it is blurred. [uncoded]" in log
    again = run(slides, out, with_warnings)
    assert (again.reused, again.warned) == (3, 3)


def test_slides_out_of_domain_are_counted_whether_screened_now_or_before(
    slides: Path, out: Path
) -> None:
    domain = DomainFinding(within=False, reason="their stain lies 9 off", cells=100)

    def screen(path: Path) -> SlideReport:
        return make_report(path, domain=domain if path.stem == "b" else None)

    first = run(slides, out, screen)
    assert (first.outside, first.warned, first.exit_code) == (1, 1, 0)
    assert run(slides, out, screen).outside == 1
    assert {name: row["domain"] for name, row in summary(out).items()} == {
        "a.svs": "",
        "c.tif": "",
        "sub/b.svs": "outside",
    }


def workbook(out: Path) -> list[str | None]:
    """The slides of summary.xlsx, in its order."""
    (sheet, *_) = load_workbook(out / "summary.xlsx").worksheets
    return [row[0] for row in sheet.iter_rows(min_row=2, values_only=True)]


def test_a_workbook_is_written_where_it_is_asked_for_and_kept_up_after_that(
    slides: Path, out: Path
) -> None:
    """A run without the option never leaves one behind that tells of an earlier state."""
    run(slides, out)
    assert not (out / "summary.xlsx").exists()
    asked = run(slides, out, reports=ReportSettings(xlsx=True))
    assert (asked.screened, asked.reused, asked.doubts) == (0, 3, ())  # screens nothing again
    assert sorted(workbook(out)) == ["a.svs", "c.tif", "sub/b.svs"]
    (slides / "d.svs").write_bytes(b"d")
    run(slides, out)
    assert sorted(workbook(out)) == ["a.svs", "c.tif", "d.svs", "sub/b.svs"]
    assert not leftovers(out)


def test_shards_leave_one_summary_the_same_as_of_a_single_run(slides: Path, out: Path) -> None:
    xlsx = ReportSettings(xlsx=True)
    for index in (1, 2, 3):
        run(slides, out, shard=Shard(index=index, count=3), reports=xlsx)
    single = out.parent / "single"
    run(slides, single, reports=xlsx)
    for name in ("summary.csv", "summary.html", "summary.xlsx"):
        assert (out / name).read_bytes() == (single / name).read_bytes(), name


def test_cells_that_are_gone_are_told_of_the_workbook(slides: Path, out: Path) -> None:
    run(slides, out)
    (out / "a.svs" / "cells.csv").unlink()
    table = out / "c.tif" / "cells.csv"
    table.write_text("".join(table.read_text(encoding="utf-8").splitlines(keepends=True)[:5]))
    result = run(slides, out, reports=ReportSettings(xlsx=True))
    (doubt,) = result.doubts
    assert doubt.code == "xlsx-cells-missing"
    assert "cells.csv of 2 slides" in doubt.text
    assert result.exit_code == 0
    assert str(doubt) in (out / "run.log").read_text(encoding="utf-8")
    cells = load_workbook(out / "summary.xlsx")["Cells"]
    assert {row[1] for row in cells.iter_rows(min_row=2, values_only=True)} == {"sub/b.svs"}


def test_a_workbook_that_can_t_be_written_leaves_the_other_summaries_right(
    slides: Path, out: Path
) -> None:
    out.mkdir()
    (out / "summary.xlsx").mkdir()  # as if a spreadsheet held it
    result = run(slides, out, reports=ReportSettings(xlsx=True))
    assert "the summary can't be written" in (result.problem or "")
    assert "summary.xlsx" in (result.problem or "")
    assert result.exit_code == 1
    assert set(statuses(out).values()) == {"complete"}
    assert "a.svs" in (out / "summary.html").read_text(encoding="utf-8")
    assert not leftovers(out)


def test_strict_does_not_take_a_result_with_warnings_for_done(slides: Path, out: Path) -> None:
    run(slides, out, with_warnings)
    refuse = Screener(a=SlideError("a.svs: not screened", "strict"))
    result = run(slides, out, refuse, strict=True)
    assert refuse.screened == ["a.svs", "c.tif", "b.svs"]
    assert list(result.failed) == ["a.svs"]
    assert result.exit_code == 1


def test_what_is_not_read_is_told_everywhere_and_fails_a_strict_batch(
    slides: Path, out: Path
) -> None:
    file = NotRead(slides / "x.kfb", "KFBIO", "export it")
    doubt = Doubt(code="files-not-read", text="1 file looks like a slide and is not read: x.kfb")
    plan = {"not_read": [file], "doubts": [doubt]}
    result = run(slides, out, **plan)
    assert (result.not_read, result.exit_code) == (1, 0)
    assert run(slides, out, strict=True, **plan).exit_code == 1
    row = summary(out)["x.kfb"]
    assert (row["status"], row["error"]) == ("not read", "KFBIO; export it [files-not-read]")
    assert doubt.text in (out / "summary.html").read_text(encoding="utf-8")
    assert record(out).not_read == {str(slides / "x.kfb"): "KFBIO; export it"}
    assert record(out).warnings == (doubt,)
    assert "x.kfb: not read: KFBIO" in (out / "run.log").read_text(encoding="utf-8")


def test_another_scale_in_the_table_screens_that_slide_again(slides: Path, out: Path) -> None:
    table = out.parent / "mpp.csv"

    def screened(*rows: str) -> list[str]:
        table.write_text("\n".join(["slide,mpp", *rows]))
        os.utime(table, ns=(0, next(times)))
        found = discover([slides], out, with_images=False, table=load_mpp_table(table))
        screener = Screener()
        what = BatchPlan(out=out, model=MODEL, settings=SETTINGS)
        screen_batch(found.jobs, LocalEngine(screener, slots=1), what, Ears())
        return screener.screened

    times = iter(range(0, 10**9, 10**8))
    assert len(screened("a.svs,0.25", "c.tif,0.5")) == 3
    assert screened("a.svs,0.25", "c.tif,0.5") == []
    assert screened("a.svs,0.3", "c.tif,0.5") == ["a.svs"]
    assert screened("a.svs,0.3") == ["c.tif"]


def test_every_setting_shapes_what_is_found_or_what_is_made_of_it() -> None:
    made = {"threshold": 0.5, "domain": {"check": False}, "triage": {"min_cells": 9}}
    made |= {"adequacy": {"field_mm": 1}, "reports": {"csv": "excel-comma"}}
    made |= {"quality": {"dark": 0.5}}
    assert set(made) == MADE
    before = {name: name for name in set(ScreenSettings.model_fields) - ASIDE}
    shaped = hash_found(before, MODEL)
    threshold = MODEL.model_copy(update={"threshold": {**MODEL.threshold, "HSIL": 0.9}})
    assert hash_found(before | made, threshold) == shaped
    assert hash_recipe(before | made, MODEL) != hash_recipe(before, MODEL)
    for name in before.keys() - MADE:
        assert hash_found(before | {name: "other"}, MODEL) != shaped, name
    weights = MODEL.model_copy(update={"sha256": "1" * 64})
    assert hash_found(before, weights) != shaped


def test_the_log_as_json_lines_says_slide_attempt_and_code(slides: Path, out: Path) -> None:
    def screen(path: Path) -> SlideReport:
        if path.stem == "a":
            raise SlideError(f"{path}: states no scale", "mpp-missing")
        if path.stem == "c":
            raise ValueError("shapes")
        return with_warnings(path)

    for _ in range(2):
        run(slides, out, screen, log_format="json", doubts=(Doubt(code="no-lock", text="Odd."),))
    assert not (out / "run.log").exists()
    lines = [json.loads(line) for line in (out / "run.log.jsonl").read_text().splitlines()]
    assert {line["pid"] for line in lines} == {os.getpid()}
    of_a = [line for line in lines if line.get("slide") == "a.svs"]
    assert [(line["attempt"], line["status"], line.get("code")) for line in of_a] == [
        *((1, "running", None), (1, "failed", "mpp-missing")),
        *((2, "running", None), (2, "failed", "mpp-missing")),
    ]
    assert of_a[1]["seconds"] >= 0
    assert of_a[1]["level"] == "ERROR"
    (full, told) = [line for line in lines if line.get("slide") == "c.tif"][1:3]
    assert full["traceback"].endswith("ValueError: shapes")
    assert told["message"].endswith("unexpected error: ValueError: shapes")
    (warned,) = [line for line in lines if line.get("code") == "uncoded"]
    assert (warned["slide"], warned["attempt"], warned["status"]) == ("sub/b.svs", 1, "complete")
    assert [line["message"] for line in lines if line.get("code") == "no-lock"] == [
        *["Odd. [no-lock]"] * 2
    ]
    assert [line["message"] for line in lines][-1] == "complete"
