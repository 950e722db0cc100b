"""Several processes on one output folder: they are one run, whatever becomes of some of them."""

import errno
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from checkout import PYTHONPATH, REPO
from fakes import MODEL, make_report

from pipeline.batch import batch, claims, presence
from pipeline.batch.batch import screen_batch
from pipeline.batch.discovery import SlideJob, discover
from pipeline.batch.engines import LocalEngine
from pipeline.batch.lock import InUseError
from pipeline.batch.plan import BatchPlan, BatchResult
from pipeline.batch.presence import Pace
from pipeline.batch.run_record import RunRecord, Shard, SlideRecord
from pipeline.batch.state import read_state
from pipeline.errors import SlideError
from pipeline.reports.report import SlideReport

QUICK = Pace(beat_s=0.05, stale_s=3600, watch_s=0.1, look_s=0.02)
NAMES = [f"{index}.svs" for index in range(8)]
LONG_S = 30.0

Screen = Callable[[Path], SlideReport]


class Ears:
    """Hears a batch and remembers."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.ended: list[str] = []
        self.elsewhere: dict[str, str] = {}
        self.awaited: list[str] = []
        self.joins: list[str] = []

    def batch_started(self, slides: int) -> None: ...

    def slide_started(self, job: SlideJob) -> None:
        self.begun.append(job.name)

    def slide_ended(self, job: SlideJob, record: SlideRecord, report: object) -> None:
        self.ended.append(job.name)

    def slide_ended_elsewhere(self, job: SlideJob, record: SlideRecord, report: object) -> None:
        assert (report is None) == (record.status == "failed")
        self.elsewhere[job.name] = record.status

    def joined(self, whom: str) -> None:
        self.joins.append(whom)

    def waiting(self, slides: int, whom: str) -> None:
        self.awaited.append(f"{slides}: {whom}")


@pytest.fixture
def slides(tmp_path: Path) -> Path:
    folder = tmp_path / "slides"
    folder.mkdir()
    for name in NAMES:
        (folder / name).write_bytes(name.encode())
    return folder


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def run(slides: Path, out: Path, screen: Screen, ears: Ears, **plan: object) -> BatchResult:
    jobs = discover([slides], out, with_images=False).jobs
    values = {"model": MODEL, "settings": {"tiler": 1}, "pace": QUICK} | plan
    what = BatchPlan(out=out, **values)  # type: ignore[arg-type]
    return screen_batch(jobs, LocalEngine(screen, slots=1), what, ears)


class Held:
    """Screens slides, the first of them only once it is told to go on."""

    def __init__(self, screen: Screen = make_report) -> None:
        self.begun, self.goes_on = threading.Event(), threading.Event()
        self._screen = screen

    def __call__(self, path: Path) -> SlideReport:
        self.begun.set()
        assert self.goes_on.wait(LONG_S)
        return self._screen(path)


@contextmanager
def another(
    slides: Path, out: Path, screen: Held, ears: Ears, **plan: object
) -> Iterator[Future[BatchResult]]:
    """Another process of the run, which is at its first slide."""
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(run, slides, out, screen, ears, **plan)
        while not screen.begun.wait(0.05):
            if future.done():
                future.result()
                raise AssertionError
        try:
            yield future
        finally:
            screen.goes_on.set()


def until(true: Callable[[], object]) -> None:
    end = time.monotonic() + LONG_S
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def record(out: Path) -> RunRecord:
    return RunRecord.model_validate_json((out / "run.json").read_bytes())


def hidden(out: Path) -> list[str]:
    """What a run leaves that nobody should see: all but what is known of the results."""
    return [path.name for path in out.glob(".*") if path.name != ".results.jsonl"]


def test_a_result_whose_process_has_yet_to_say_so_is_not_told_as_done_before(
    slides: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two, held = Ears(), Ears(), Held()
    published, says_so = threading.Event(), threading.Event()
    real = claims.Board.end

    def end(board: claims.Board, name: str, done: SlideRecord) -> None:
        if name == "0.svs" and not published.is_set():
            published.set()
            assert says_so.wait(LONG_S)
        real(board, name, done)

    def from_own_place(jobs: Sequence[SlideJob], by: claims.Claims) -> Iterator[SlideJob]:
        return iter(jobs if by.first else [*jobs[2:], *jobs[:2]])

    def wait_for_it() -> None:
        until(lambda: two.awaited)
        says_so.set()

    monkeypatch.setattr(claims.Board, "end", end)
    monkeypatch.setattr(batch, "_from_own_place", from_own_place)
    with another(slides, out, held, one) as first:

        def screen(path: Path) -> SlideReport:
            held.goes_on.set()
            assert published.wait(LONG_S)
            return make_report(path)

        threading.Thread(target=wait_for_it, daemon=True).start()
        second = run(slides, out, screen, two)
        assert first.result() == second == BatchResult(8, 0, {}, 0, interrupted=False)
    assert "0.svs" not in two.ended
    assert two.elsewhere["0.svs"] == "complete"


def test_two_share_the_slides_and_each_tells_of_all(slides: Path, out: Path) -> None:
    one, two, held = Ears(), Ears(), Held()
    with another(slides, out, held, one) as first:

        def screen(path: Path) -> SlideReport:
            if len(two.begun) == len(NAMES) - 1:  # all but the one that the other has
                held.goes_on.set()
            return make_report(path)

        second = run(slides, out, screen, two)
        assert first.result() == second == BatchResult(8, 0, {}, 0, interrupted=False)
    assert one.joins == []
    assert [f"process {os.getpid()} on " in whom for whom in two.joins] == [True]
    assert one.begun == ["0.svs"]
    assert sorted(one.begun + two.begun) == NAMES
    assert sorted(two.elsewhere) == one.begun
    assert sorted(one.elsewhere) == sorted(two.begun)
    written = record(out)
    assert written.status == "complete"
    assert {(s.status, s.attempts, s.reused) for s in written.slides.values()} == {
        ("complete", 1, False)
    }
    assert hidden(out) == []
    assert len(list(out.glob("run*.log"))) == 2
    assert "0.svs: started" in (out / "run.log").read_text()
    assert (out / "summary.csv").read_text().count("complete") == 8


def test_who_has_just_come_is_noticed_before_what_they_made(slides: Path, out: Path) -> None:
    one, two, held = Ears(), Ears(), Held()
    seldom = Pace(beat_s=3600, stale_s=7200, watch_s=0.1, look_s=0.02)
    with another(slides, out, held, one, pace=seldom) as first:

        def screen(path: Path) -> SlideReport:
            if len(two.begun) == len(NAMES) - 1:
                held.goes_on.set()
            return make_report(path)

        run(slides, out, screen, two)
        first.result()
    assert one.ended == ["0.svs"]
    assert sorted(one.elsewhere) == sorted(two.begun)


def test_what_was_done_before_others_came_is_told_by_them_too(slides: Path, out: Path) -> None:
    one, two, held = Ears(), Ears(), Held()
    begun: list[str] = []

    def screen(path: Path) -> SlideReport:
        begun.append(path.name)
        return held(path) if path.name == "3.svs" else make_report(path)

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(run, slides, out, screen, one)
        until(lambda: "3.svs" in begun)
        second = pool.submit(run, slides, out, make_report, two)
        until(lambda: two.awaited)
        held.goes_on.set()
        assert first.result() == second.result() == BatchResult(8, 0, {}, 0, interrupted=False)
    assert begun == ["0.svs", "1.svs", "2.svs", "3.svs"]
    assert sorted(two.begun) == ["4.svs", "5.svs", "6.svs", "7.svs"]
    assert not any(slide.reused for slide in record(out).slides.values())


def test_who_has_nothing_left_to_do_says_for_whom_it_waits(slides: Path, out: Path) -> None:
    one, two, held = Ears(), Ears(), Held()
    with another(slides, out, held, one), ThreadPoolExecutor(1) as pool:
        second = pool.submit(run, slides, out, make_report, two)
        until(lambda: two.awaited)
        assert two.awaited[0] == f"1: process {os.getpid()} on {os.uname().nodename} (1)"
        assert not second.done()
        held.goes_on.set()
        assert second.result().exit_code == 0


def test_a_slide_that_fails_is_tried_by_one_and_told_by_all(slides: Path, out: Path) -> None:
    one, two, held = Ears(), Ears(), Held()
    tried: list[str] = []

    def screen(path: Path) -> SlideReport:
        tried.append(path.name)
        raise SlideError(f"{path.name}: is torn")

    held = Held(screen)
    with another(slides, out, held, one) as first, ThreadPoolExecutor(1) as pool:
        second = pool.submit(run, slides, out, screen, two)
        until(lambda: two.awaited)
        held.goes_on.set()
        results = [first.result(), second.result()]
    assert Counter(tried) == dict.fromkeys(NAMES, 1)
    for result in results:
        assert result.exit_code == 1
        assert result.failed == {name: f"{name}: is torn" for name in NAMES}
    assert {s.attempts for s in record(out).slides.values()} == {1}
    third = Ears()
    assert run(slides, out, make_report, third).exit_code == 0  # the same command later
    assert sorted(third.begun) == NAMES
    assert {s.attempts for s in record(out).slides.values()} == {2}


def test_with_overwrite_too_each_slide_is_done_once(slides: Path, out: Path) -> None:
    run(slides, out, make_report, Ears())
    one, two, held = Ears(), Ears(), Held()
    with another(slides, out, held, one, overwrite=True) as first, ThreadPoolExecutor(1) as pool:
        second = pool.submit(run, slides, out, make_report, two, overwrite=True)
        until(lambda: two.awaited)
        held.goes_on.set()
        assert first.result() == second.result() == BatchResult(8, 0, {}, 0, interrupted=False)
    assert sorted(one.begun + two.begun) == NAMES


@pytest.mark.parametrize("locks", [True, False])
@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"settings": {"tiler": 2}}, "other settings or another model"),
        ({"strict": True}, r"other options \(--strict\)"),
        ({"only": frozenset({"0.svs"})}, r"other options \(--only\)"),
        ({"shard": Shard(index=1, count=2)}, ""),
        ({"screens": False}, ""),
    ],
)
def test_another_run_is_refused_as_ever(
    changes: dict[str, object],
    why: str,
    locks: bool,
    slides: Path,
    out: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if not locks:
        if not why:
            pytest.skip("those that share with nobody go by locks alone")
        refuse_locks(monkeypatch)
    held = Held()
    with another(slides, out, held, Ears(), command=("cytolibra", "screen", "x")) as first:
        with pytest.raises(InUseError, match=rf"cytolibra screen x\).*{why}.*\[out-in-use\]"):
            run(slides, out, make_report, Ears(), **changes)
        held.goes_on.set()
        assert first.result().exit_code == 0


def test_other_slides_are_another_run(slides: Path, out: Path) -> None:
    held = Held()
    with another(slides, out, held, Ears()):
        (slides / "9.svs").write_bytes(b"9")
        with pytest.raises(InUseError, match="it has other slides"):
            run(slides, out, make_report, Ears())


def refuse_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("filelock.FileLock.acquire", refuse)


def test_without_locks_slides_are_shared_all_the_same(
    slides: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_locks(monkeypatch)
    one, two, held = Ears(), Ears(), Held()
    with another(slides, out, held, one) as first, ThreadPoolExecutor(1) as pool:
        second = pool.submit(run, slides, out, make_report, two)
        until(lambda: two.awaited)
        held.goes_on.set()
        results = [first.result(), second.result()]
    assert [r.screened for r in results] == [8, 8]
    assert [d.code for d in results[1].doubts] == ["no-lock"]
    assert sorted(one.begun + two.begun) == NAMES
    assert hidden(out) == []


def test_who_is_interrupted_gives_back_what_it_has_at_once(slides: Path, out: Path) -> None:
    def interrupt(path: Path) -> SlideReport:
        raise KeyboardInterrupt

    one, two, held = Ears(), Ears(), Held(interrupt)
    with another(slides, out, held, one) as first, ThreadPoolExecutor(1) as pool:
        second = pool.submit(run, slides, out, make_report, two)
        until(lambda: two.awaited)
        held.goes_on.set()
        assert first.result().exit_code == 130
        assert second.result() == BatchResult(8, 0, {}, 0, interrupted=False)
    assert sorted(two.begun) == NAMES
    written = record(out)
    assert written.status == "complete"
    assert written.slides["0.svs"].attempts == 2  # who kept the record has gone: it is known
    assert hidden(out) == []


def test_fail_fast_stops_all(slides: Path, out: Path) -> None:
    def fail(path: Path) -> SlideReport:
        raise SlideError(f"{path.name}: is torn")

    one, two, held = Ears(), Ears(), Held(fail)
    slow = Held()
    with (
        another(slides, out, held, one, fail_fast=True) as first,
        another(slides, out, slow, two, fail_fast=True) as second,
    ):
        held.goes_on.set()
        assert first.result().exit_code == 1
        slow.goes_on.set()
        result = second.result()
    assert result.exit_code == 1
    assert len(two.begun) == 1
    assert result.problem == "another process of this run has stopped it, by --fail-fast"
    assert record(out).status == "stopped"
    assert {s.status for s in record(out).slides.values()} == {"failed", "complete", "pending"}
    assert hidden(out) == []


def test_who_wakes_up_too_late_drops_what_it_has_made(
    slides: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first shows no more that it lives; the second, of another machine, takes over."""
    monkeypatch.setattr("pipeline.batch.lock.is_running", lambda _: True)
    real, silent = presence.Presence._beat_on, []

    def beat_on(one: presence.Presence) -> None:
        if silent:
            real(one)
        silent.append(one)

    monkeypatch.setattr(presence.Presence, "_beat_on", beat_on)
    pace = Pace(beat_s=0.05, stale_s=1.0, watch_s=0.3, look_s=0.02)
    one, two, held = Ears(), Ears(), Held()
    with another(slides, out, held, one, pace=pace) as first:
        second = run(slides, out, make_report, two, pace=pace)
        assert second == BatchResult(8, 0, {}, 0, interrupted=False)
        made = (out / "0.svs" / "report.json").stat().st_mtime_ns
        held.goes_on.set()
        assert first.result() == second
    assert sorted(two.begun) == NAMES
    assert one.elsewhere["0.svs"] == "complete"
    assert (out / "0.svs" / "report.json").stat().st_mtime_ns == made
    logs = "".join(path.read_text() for path in out.glob("run*.log"))
    assert "0.svs: taken over from process" in logs
    assert "0.svs: dropped: this process had not shown for long that it lives" in logs


def test_where_nothing_can_be_claimed_any_more_the_batch_ends_with_a_word(
    slides: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill(path: Path) -> SlideReport:
        def full(*_: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr("pipeline.batch.claims.create", full)
        return make_report(path)

    result = run(slides, out, fill, Ears())
    assert result.exit_code == 1
    assert result.problem == f"{out}: a claim can't be written: No space left on device"
    assert (result.screened, result.pending) == (1, 7)
    assert record(out).status == "stopped"


def test_a_result_that_is_told_and_not_there_is_made_again(slides: Path, out: Path) -> None:
    one, two, held = Ears(), Ears(), Held()
    pace = Pace(beat_s=0.05, stale_s=0.5, watch_s=0.1, look_s=0.02)
    with another(slides, out, held, one, pace=pace) as first, ThreadPoolExecutor(1) as pool:
        second = pool.submit(run, slides, out, make_report, two, pace=pace, overwrite=False)
        until(lambda: two.awaited)
        (out / "5.svs").rename(out.parent / "away")
        held.goes_on.set()
        assert first.result().exit_code == 0
        assert second.result().exit_code == 0
    assert (out / "5.svs" / "report.json").exists() or "5.svs" in two.ended


def test_status_names_all_who_are_at_work(slides: Path, out: Path) -> None:
    one, two, held, slow = Ears(), Ears(), Held(), Held()
    with another(slides, out, held, one), another(slides, out, slow, two):
        state = read_state(out)
        (going_on,) = state.runs
        assert going_on.alive
        assert len(state.slides) == 8
        assert [holder.pid for holder in going_on.holders] == [os.getpid()] * 2
        assert sorted(r.slide for r in going_on.running) == sorted(one.begun + two.begun)
        held.goes_on.set()
    assert not read_state(out).runs[0].alive


CHILD = """
import sys, time
from pathlib import Path
from fakes import MODEL, make_report
from pipeline.batch.batch import screen_batch
from pipeline.batch.plan import BatchPlan
from pipeline.batch.discovery import discover
from pipeline.batch.engines import LocalEngine
from pipeline.batch.presence import Pace

slides, out, seconds, stale = Path(sys.argv[1]), Path(sys.argv[2]), *map(float, sys.argv[3:])

def screen(path):
    print(path.name, flush=True)
    time.sleep(seconds)
    return make_report(path)

class Deaf:
    def __getattr__(self, name):
        return lambda *_: None

jobs = discover([slides], out, with_images=False).jobs
pace = Pace(beat_s=0.05, stale_s=stale, watch_s=0.3, look_s=0.02)
plan = BatchPlan(out=out, model=MODEL, settings={"tiler": 1}, pace=pace)
sys.exit(screen_batch(jobs, LocalEngine(screen, slots=1), plan, Deaf()).exit_code)
"""


@contextmanager
def child(
    slides: Path, out: Path, tmp_path: Path, seconds: float, stale: float
) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """Another process of the run, and the slide that it has begun."""
    script = tmp_path / "child.py"
    script.write_text(textwrap.dedent(CHILD))
    command = [sys.executable, str(script), str(slides), str(out), str(seconds), str(stale)]
    environment = {**os.environ, "PYTHONPATH": PYTHONPATH}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None
        try:
            yield process, process.stdout.readline().decode().strip()
        finally:
            process.kill()


@pytest.mark.skipif(os.name != "posix", reason="signals are sent otherwise here")
def test_the_slide_of_a_killed_process_is_taken_over_at_once(
    slides: Path, out: Path, tmp_path: Path
) -> None:
    two = Ears()
    with child(slides, out, tmp_path, 60, 3600) as (process, name), ThreadPoolExecutor(1) as pool:
        second = pool.submit(run, slides, out, make_report, two)
        until(lambda: two.awaited)
        process.kill()
        process.wait()
        assert second.result() == BatchResult(8, 0, {}, 0, interrupted=False)
    assert sorted(two.begun) == NAMES
    assert {n: s.attempts for n, s in record(out).slides.items() if s.attempts > 1} == {name: 2}
    assert hidden(out) == []


@pytest.mark.skipif(os.name != "posix", reason="signals are sent otherwise here")
def test_a_process_that_is_suspended_loses_its_slide_and_notices(
    slides: Path, out: Path, tmp_path: Path
) -> None:
    two = Ears()
    pace = Pace(beat_s=0.05, stale_s=1, watch_s=0.3, look_s=0.02)
    with child(slides, out, tmp_path, 0.5, 1) as (process, name):
        process.send_signal(signal.SIGSTOP)
        assert run(slides, out, make_report, two, pace=pace).exit_code == 0
        assert name in two.begun
        made = (out / name / "report.json").stat().st_mtime_ns
        process.send_signal(signal.SIGCONT)
        assert process.wait(LONG_S) == 0
    assert (out / name / "report.json").stat().st_mtime_ns == made
    assert f"{name}: dropped" in "".join(path.read_text() for path in out.glob("run*.log"))


@pytest.mark.slow
def test_six_processes_three_of_them_killed_thirty_times(tmp_path: Path) -> None:
    """All are done, with the bytes of an undisturbed run; none twice but after a takeover."""
    script = REPO / "tests" / "six_processes.py"
    played = subprocess.run(
        [sys.executable, str(script), "30", str(tmp_path / "rounds")],
        env={**os.environ, "PYTHONPATH": PYTHONPATH},
        stdout=subprocess.PIPE,
        check=True,
    )
    rounds = [json.loads(line) for line in played.stdout.splitlines()]
    assert len(rounds) == 30
    assert [told for told in rounds if told["wrong"]] == []
    assert sum(told["killed"] for told in rounds) > 60
    assert sum(told["taken over"] for told in rounds) > 10
