"""Slides that crash, hang or eat memory: each costs itself alone, and is told in plain words."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest
from deadly import Deadly, Makes
from fakes import MODEL, make_report

from configs import ConfigError
from configs.loading import validate
from pipeline import limits
from pipeline.batch.batch import screen_batch
from pipeline.batch.discovery import discover
from pipeline.batch.engines import LocalEngine, ProcessEngine
from pipeline.batch.engines.supervised import Child, Seat
from pipeline.batch.plan import BatchPlan, BatchResult
from pipeline.batch.run_record import load_records
from pipeline.errors import SlideError, WorkerLostError
from pipeline.limits import LimitSettings, memory_of
from pipeline.search import StoppedError
from pipeline.settings import ScreenSettings
from pipeline.slides.doubtful import why_in_doubt

REPO = Path(__file__).resolve().parents[3]
linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux tells of memory")


class Deaf:
    """Hears nothing."""

    def batch_started(self, *_: object) -> None: ...
    def slide_started(self, *_: object) -> None: ...
    def slide_ended(self, *_: object) -> None: ...


def screen(names: list[str], folder: Path, engine, out: str = "out", **plan) -> BatchResult:
    """Screens slides of these names."""
    slides = folder / "slides"
    slides.mkdir(exist_ok=True)
    for name in names:
        (slides / name).write_bytes(name.encode())
    jobs = discover([slides], folder / out, with_images=True).jobs
    what = BatchPlan(out=folder / out, model=MODEL, settings={}, **plan)
    return screen_batch(jobs, engine, what, Deaf())


def isolated(**given: float) -> ProcessEngine:
    return ProcessEngine([Makes()], limits=LimitSettings(**given))


def here() -> LocalEngine:
    return LocalEngine(Deadly(lambda *_: None).screen)


def is_alive(pid: int) -> bool:
    """Whether a process is there, and no zombie."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


def await_pids(path: Path) -> list[int]:
    for _ in range(600):  # a busy machine takes long to start one
        if path.exists() and (pids := path.read_text().split()):
            return [int(pid) for pid in pids]
        time.sleep(0.1)
    raise AssertionError("nothing was started")


ENDS = {
    "segv": "segmentation fault",
    "abort": "it aborted itself",
    "leave": "it ended with code 3",
    "killed": "killed, perhaps for want of memory",
}


@pytest.mark.parametrize("bad", [["segv"], pytest.param(list(ENDS), marks=pytest.mark.slow)])
def test_what_crashes_costs_itself_alone(tmp_path: Path, bad: list[str]) -> None:
    good = ["good-1.png", "good-2.png", "good-3.png"]
    result = screen([*good, *(f"{name}.png" for name in bad)], tmp_path, isolated())
    place = tmp_path / "slides"
    assert result.failed == {
        f"{name}.png": f"{place / name}.png: the process that screened it died: {ENDS[name]}, "
        "at a second attempt too [process-died]"
        for name in bad
    }
    assert (result.screened, result.exit_code) == (3, 1)
    (record,) = load_records(tmp_path / "out")
    attempts = {name: slide.attempts for name, slide in record.slides.items()}
    assert attempts == dict.fromkeys(good, 1) | dict.fromkeys((f"{name}.png" for name in bad), 2)
    log = (tmp_path / "out" / "run.log").read_text()
    assert log.count("died: segmentation fault [process-died]; tried once more") == 1
    assert "in segv" in log  # where it was when it died
    for name in bad:
        (place / f"{name}.png").unlink()
    assert screen(good, tmp_path, here(), "beside").screened == 3
    for name in good:
        for file in ("report.json", "cells.csv", "cells.geojson", "report.html"):
            one, other = ((tmp_path / out / name / file).read_bytes() for out in ("out", "beside"))
            assert one == other, (name, file)


def test_one_that_passes_the_second_time_is_complete_and_told(tmp_path: Path) -> None:
    result = screen(["good.png", "once.png"], tmp_path, isolated())
    assert (result.screened, result.failed) == (2, {})
    (doubt,) = result.doubts
    assert doubt.code == "screened-again"
    assert "1 slide(s) died, and they were screened again: once.png" in doubt.text
    (record,) = load_records(tmp_path / "out")
    assert record.slides["once.png"].attempts == 2
    assert record.slides["once.png"].warnings == ()


@pytest.mark.slow
def test_a_batch_that_is_to_fail_fast_ends_at_a_second_death(tmp_path: Path) -> None:
    result = screen(["abort.png", "good.png"], tmp_path, isolated(), fail_fast=True)
    assert list(result.failed) == ["abort.png"]
    assert result.pending == 1


def test_time_is_limited_and_not_tried_again(tmp_path: Path) -> None:
    result = screen(["good.png", "hangs.png"], tmp_path, isolated(seconds=4))
    path = tmp_path / "slides" / "hangs.png"
    assert result.failed == {
        "hangs.png": f"{path}: took longer than 4 s (limits.seconds) [over-limit]"
    }
    assert result.screened == 1
    (record,) = load_records(tmp_path / "out")
    assert record.slides["hangs.png"].attempts == 1
    assert not any(map(is_alive, await_pids(path.with_suffix(".pids"))))


def room_for(gigabytes: float) -> float:
    """A limit that leaves a slide so much."""
    engine = isolated()
    engine.describe()
    child = engine._seats[0]._child
    assert child is not None
    idle = child.memory / limits.GB
    engine.close()
    return round(idle + gigabytes, 3)


@linux
@pytest.mark.slow
def test_memory_is_limited_with_that_of_what_a_process_starts(tmp_path: Path) -> None:
    limit = room_for(0.1)
    result = screen(["eats.png", "good.png"], tmp_path, isolated(memory_gb=limit))
    text = f"used more than {limit:g} GB of memory (limits.memory_gb) [over-limit]"
    assert result.failed["eats.png"].endswith(text)
    assert result.screened == 1
    (record,) = load_records(tmp_path / "out")
    assert record.slides["eats.png"].attempts == 1  # by a process of its own already


@linux
@pytest.mark.slow
def test_memory_that_slides_before_have_left_is_not_the_slide_s_fault(tmp_path: Path) -> None:
    limit = room_for(0.16)  # one leaves 40 MB behind, the next one needs 140
    result = screen(["keeps.png", "large.png"], tmp_path, isolated(memory_gb=limit))
    assert result.failed == {}
    assert [doubt.code for doubt in result.doubts] == ["screened-again"]


@linux
def test_a_limit_below_what_the_network_takes_is_told_at_once() -> None:
    engine = isolated(memory_gb=0.001)
    with pytest.raises(ConfigError, match=r"limits.memory_gb = 0.001: .* before it has read a sl"):
        engine.describe()


@linux
def test_mapped_files_and_address_space_are_no_memory(tmp_path: Path) -> None:
    code = "import mmap, sys; m = mmap.mmap(-1, 10**10); print(flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        process.stdout.readline()
        assert 1e6 < memory_of(process.pid) < 1e8
        process.stdin.close()
    assert memory_of(process.pid) == 0


def test_where_memory_can_not_be_told_a_limit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits.sys, "platform", "darwin")
    with pytest.raises(ConfigError, match=r"limits.memory_gb: only Linux tells"):
        isolated(memory_gb=4)
    isolated(seconds=4).close()


def test_limits_without_processes_are_a_contradiction() -> None:
    given = {"isolate": "never", "limits": {"seconds": 3}}
    with pytest.raises(ConfigError, match=r"limits hold for slides in processes of their own"):
        validate(given, ScreenSettings, "settings")
    assert validate({"limits": {"seconds": 3}}, ScreenSettings, "settings").isolates_all
    assert not ScreenSettings().isolates_all


def test_errors_arrive_as_they_are_or_in_words(tmp_path: Path) -> None:
    engine = isolated()
    with pytest.raises(RuntimeError, match=r"Odd: 1 of 2"):
        engine.submit(tmp_path / "wrong.png").result(60)
    with pytest.raises(AttributeError, match="nothing_of_that_name") as told:
        engine.submit(tmp_path / "nothing_of_that_name.png").result(60)
    assert "deadly.py" in told.value.__notes__[0]  # where it came from
    os.kill(engine._seats[0]._child._process.pid, signal.SIGKILL)  # between two slides
    assert engine.submit(tmp_path / "good.png").result(60).slide.width == 4000
    engine.close()
    assert not [t for t in threading.enumerate() if t.name.startswith(("supervise", "hear"))]


def test_an_answer_that_nobody_has_heard_is_no_later_slide_s(tmp_path: Path) -> None:
    heard = []

    def told(path: Path, *_: int) -> None:
        heard.append(path.stem)
        if path.stem == "good-a":
            raise ValueError("on this side")

    seat = Seat(Makes(), LimitSettings(), told)
    with pytest.raises(ValueError, match="on this side"):
        seat.screen(tmp_path / "good-a.png")
    reports = [seat.screen(tmp_path / f"good-{name}.png") for name in "bc"]
    seat.close()
    assert [Path(report.slide.path).stem for report in reports] == ["good-b", "good-c"]
    assert heard == ["good-a", "good-b", "good-c"]


def test_an_answer_to_an_earlier_question_is_passed_over(tmp_path: Path) -> None:
    child = Child(Makes(), None)
    child.ask(None, LimitSettings())
    child._send((1, tmp_path / "good-a.png"))
    assert child.screen(tmp_path / "good-b.png", LimitSettings()).slide.path.endswith("good-b.png")
    child.end()


def test_a_report_of_another_slide_is_not_kept(tmp_path: Path) -> None:
    engine = LocalEngine(lambda path: make_report(tmp_path / "slides/a.png"))
    result = screen(["a.png", "b.png"], tmp_path, engine)
    assert list(result.failed) == ["b.png"]
    assert "the report that came for it is that of" in result.failed["b.png"]
    assert not (tmp_path / "out/b.png/report.json").exists()


@linux
def test_memory_is_told_though_processes_end_meanwhile_or_have_odd_names(tmp_path: Path) -> None:
    odd = tmp_path / "врвчитатель"  # which the system cuts amid a letter
    odd.symlink_to("/bin/sleep")
    with subprocess.Popen([odd, "60"]) as process:
        try:
            stop = threading.Event()

            def come_and_go() -> None:
                while not stop.is_set():
                    subprocess.run(["/bin/true"], check=True)

            others = threading.Thread(target=come_and_go)
            others.start()
            try:
                assert all(memory_of(os.getpid()) > 1e6 for _ in range(500))
                assert memory_of(process.pid) > 1e4
            finally:
                stop.set()
                others.join()
        finally:
            process.kill()


def test_whoever_is_in_a_hurry_ends_what_is_in_work(tmp_path: Path) -> None:
    engine = isolated()
    promise = engine.submit(tmp_path / "hangs.png")
    pids = await_pids(tmp_path / "hangs.pids")
    began = time.monotonic()
    engine.close(wait=False)
    with pytest.raises(StoppedError, match=r"hangs\.png: stopped"):
        promise.result(60)
    assert time.monotonic() - began < 20  # it hangs for longer
    assert not any(map(is_alive, pids))


BATCH = """
    import sys
    from pathlib import Path
    sys.path[:0] = ["tests", "tests/pipeline"]
    from pipeline.batch.batch import screen_batch
    from pipeline.batch.plan import BatchPlan
    from pipeline.batch.discovery import discover
    from pipeline.batch.engines import ProcessEngine
    from deadly import Makes
    from fakes import MODEL
    from batch.test_supervised import Deaf

    if __name__ == "__main__":
        slides, out = map(Path, sys.argv[1:])
        jobs = discover([slides], out, with_images=True).jobs
        engine = ProcessEngine([Makes()])
        print(screen_batch(jobs, engine, BatchPlan(out=out, model=MODEL, settings={}), Deaf()))
"""


@pytest.mark.parametrize(
    "how", [pytest.param(signal.SIGINT, marks=pytest.mark.slow), signal.SIGKILL]
)
@linux
def test_nothing_outlives_the_batch(tmp_path: Path, how: signal.Signals) -> None:
    """Not even what hangs in C beside what it has started, whether one asks or kills."""
    slides = tmp_path / "slides"
    slides.mkdir()
    (slides / "hangs.png").touch()
    batch = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(BATCH), str(slides), str(tmp_path / "out")],
        cwd=REPO,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    pids = await_pids(slides / "hangs.pids")
    began = time.monotonic()
    os.kill(batch.pid, how) if how == signal.SIGKILL else os.killpg(batch.pid, how)
    said, _ = batch.communicate(timeout=30)
    assert time.monotonic() - began < 20  # it hangs for longer
    time.sleep(0.3)
    assert not is_alive(pids[0])
    status = json.loads((tmp_path / "out" / "run.json").read_text())["status"]
    if how == signal.SIGKILL:
        assert status == "running"
    else:
        assert status == "interrupted"
        assert "interrupted=True" in said
        assert not is_alive(pids[1])


class Recording:
    """An engine that says which slides it was to be careful with."""

    slots = 1

    def __init__(self) -> None:
        self.careful: list[str] = []

    def submit(self, path: Path, careful: bool = False):
        if careful:
            self.careful.append(path.name)
        return LocalEngine(make_report).submit(path)

    def close(self, wait: bool = True) -> None: ...


def test_slides_that_a_killed_run_was_at_are_taken_with_care(tmp_path: Path) -> None:
    names = ["a.png", "b.png"]
    screen(names, tmp_path, LocalEngine(make_report))
    path = tmp_path / "out" / "run.json"
    record = json.loads(path.read_text())
    record["slides"]["b.png"]["status"] = record["status"] = "running"
    path.write_text(json.dumps(record))
    engine = Recording()
    assert screen(names, tmp_path, engine, overwrite=True).screened == 2
    assert engine.careful == ["b.png"]


def test_slides_whose_process_died_are_taken_with_care_the_next_time(tmp_path: Path) -> None:
    def die(path: Path):
        raise (WorkerLostError if path.stem == "b" else SlideError)(str(path), codes[path.stem])

    codes, names, again = {"a": "strict", "b": "process-died"}, ["a.png", "b.png"], Recording()
    assert len(screen(names, tmp_path, LocalEngine(die)).failed) == 2
    assert screen(names, tmp_path, again).screened == 2
    assert again.careful == ["b.png"]


def test_what_fails_a_check_never_enters_the_process(tmp_path: Path) -> None:
    from slidefiles import picture, write_pyramid

    sound, odd = tmp_path / "sound.tif", tmp_path / "odd.tif"
    write_pyramid(sound, picture(600, 400))
    odd.write_bytes(sound.read_bytes()[:4] + (2**31).to_bytes(4, "little"))
    entered, aside = [], Recording()
    aside.screen = lambda path, careful=False: aside.submit(path, True).result()
    engine = LocalEngine(lambda path: entered.append(path.name) or make_report(path), aside=aside)
    for path, careful in ((sound, False), (odd, False), (sound, True)):
        engine.submit(path, careful).result(60)
    engine.close()
    assert entered == ["sound.tif"]
    assert aside.careful == ["odd.tif", "sound.tif"]
    assert why_in_doubt(odd) == "no directory of it can be read"
