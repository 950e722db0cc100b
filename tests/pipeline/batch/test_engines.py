import threading
import time
from concurrent.futures import Future
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from blobs import BlobDetector
from fakes import MODEL, make_report
from PIL import Image

from configs import ConfigError
from models import ModelFileError
from pipeline import conclusion, planning, screen
from pipeline.batch import attempts, engines
from pipeline.batch.batch import screen_batch
from pipeline.batch.discovery import discover
from pipeline.batch.engines import (
    LocalEngine,
    ProcessEngine,
    RayEngine,
    Recipe,
    Told,
    Worker,
    devices_for,
    processes_of,
)
from pipeline.batch.plan import BatchPlan, BatchResult
from pipeline.cells.stitcher import Stitcher
from pipeline.errors import EngineError
from pipeline.network import devices
from pipeline.reports.report import SlideReport
from pipeline.screen import screen_slide
from pipeline.search import StoppedError
from pipeline.settings import ScreenSettings
from pipeline.tiles import planetiles

SETTINGS = ScreenSettings.model_validate({"mpp": 0.5, "tiler": {"size": 512, "overlap": 128}})
NAMES = ("a.png", "b.png", "c.png")
STATIONS = {
    "open": (screen, "open_slide"),
    "foreground": (planning, "find_foreground"),
    "tiler": (planning, "plan_tiles"),
    "read": (planetiles, "read_tile"),
    "detect": (BlobDetector, "detect"),
    "stitch": (Stitcher, "add"),
    "merge": (Stitcher, "merge"),
    "pictures": (conclusion, "take_pictures"),
    "report": (conclusion, "build_report"),
    "hash": (attempts, "hash_content"),
    "write": (attempts, "write_reports"),
    "publish": (attempts, "publish"),
}


class Deaf:
    """Hears nothing."""

    def batch_started(self, *_: object) -> None: ...
    def slide_started(self, *_: object) -> None: ...
    def slide_ended(self, *_: object) -> None: ...


@pytest.fixture
def slides(tmp_path: Path) -> Path:
    """Three slides of several tiles, with dark squares for cells."""
    folder = tmp_path / "slides"
    folder.mkdir()
    for seed, name in enumerate(NAMES):
        pixels = np.full((1200, 1200, 3), 240, np.uint8)
        for x, y in np.random.default_rng(seed).integers(20, 1150, (40, 2)):
            pixels[y : y + 24, x : x + 24] = (120, 60, 140)
        Image.fromarray(pixels).save(folder / name)
    return folder


def screen_all(slides: Path, out: Path, engine: engines.Engine) -> BatchResult:
    """Screens in a thread, so that a deadlock is a failure and no hanging test."""
    jobs = discover([slides], out, with_images=True).jobs
    results: list[BatchResult] = []
    plan = BatchPlan(out=out, model=MODEL, settings={})
    thread = threading.Thread(
        target=lambda: results.append(screen_batch(jobs, engine, plan, Deaf())), daemon=True
    )
    thread.start()
    thread.join(120)
    assert results, "the batch hangs or failed as a whole"
    return results[0]


def blobs_engine(detector: BlobDetector | None = None) -> LocalEngine:
    detector = detector or BlobDetector()
    stop = threading.Event()
    return LocalEngine(lambda path: screen_slide(path, detector, SETTINGS, stop=stop), stop)


@pytest.mark.parametrize("station", STATIONS)
def test_a_station_that_fails_costs_its_slide_only(
    slides: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, station: str
) -> None:
    owner, name = STATIONS[station]
    real, calls = getattr(owner, name), iter([True])

    def fail_once(*args: object, **named: object) -> object:
        if next(calls, False):
            raise RuntimeError("the first cause")
        return real(*args, **named)

    monkeypatch.setattr(owner, name, fail_once)
    result = screen_all(slides, tmp_path / "out", blobs_engine())
    assert (result.screened, len(result.failed), result.pending) == (2, 1, 0)
    assert "RuntimeError: the first cause" in next(iter(result.failed.values()))
    left = [t.name for t in threading.enumerate() if t.name.startswith(("read", "screen"))]
    assert not left


def test_the_next_slide_is_screened_while_the_last_is_written(
    slides: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, met, real = threading.Event(), [], attempts.write_reports

    def report(path: Path) -> object:
        if path.name == "b.png":
            begun.set()
        return make_report(path)

    def write(*args: object) -> None:
        met.append(begun.wait(20))
        real(*args)

    monkeypatch.setattr(attempts, "write_reports", write)
    assert screen_all(slides, tmp_path / "out", LocalEngine(report, slots=1)).screened == 3
    assert met[0]


def test_tiles_of_two_slides_never_mix(slides: Path, tmp_path: Path) -> None:
    order: list[str] = []

    class Watched(BlobDetector):
        def detect(self, tiles: list[np.ndarray]) -> list[object]:
            order.append(threading.current_thread().name)
            time.sleep(0.01)
            return super().detect(tiles)

    assert screen_all(slides, tmp_path / "out", blobs_engine(Watched())).screened == 3
    changes = sum(one != other for one, other in pairwise(order))
    assert len(order) > 6
    assert changes <= 2


def test_an_engine_that_is_gone_ends_the_batch_and_blames_no_slide(
    slides: Path, tmp_path: Path
) -> None:
    class Gone(LocalEngine):
        def submit(self, path: Path, careful: bool = False) -> Future[SlideReport]:
            if path.name == "a.png":
                return super().submit(path)
            future: Future[SlideReport] = Future()
            future.set_exception(EngineError("engine ray: no worker is ready after 300 s"))
            return future

    result = screen_all(slides, tmp_path / "out", Gone(make_report, slots=1))
    assert (result.screened, result.failed, result.pending) == (1, {}, 2)
    assert result.problem == "engine ray: no worker is ready after 300 s"
    assert result.exit_code == 1
    again = screen_all(slides, tmp_path / "out", LocalEngine(make_report))
    assert (again.screened, again.reused, again.exit_code) == (2, 1, 0)


def test_what_ends_at_once_does_not_run_ahead_of_what_is_written(tmp_path: Path) -> None:
    folder = tmp_path / "slides"
    folder.mkdir()
    for number in range(20):
        (folder / f"{number:02}.svs").write_bytes(b"x")
    out = tmp_path / "out"
    ahead: list[int] = []

    class AtOnce(LocalEngine):
        def submit(self, path: Path, careful: bool = False) -> Future[SlideReport]:
            begun = int(path.stem)
            ahead.append(begun - len(list(out.rglob("report.json"))))
            future: Future[SlideReport] = Future()
            future.set_result(make_report(path))
            return future

    result = screen_all(folder, out, AtOnce(make_report, slots=2))
    assert result.screened == 20
    assert max(ahead) <= 3  # a kill loses these alone, however many slides there are


def test_what_is_stopped_ends_at_its_next_tile(slides: Path) -> None:
    stop = threading.Event()
    done: list[int] = []

    def progress(tiles: int, _: int) -> None:
        done.append(tiles)
        stop.set()

    with pytest.raises(StoppedError, match=r"a\.png: stopped"):
        screen_slide(slides / "a.png", BlobDetector(), SETTINGS, progress=progress, stop=stop)
    assert len(done) == 1


def test_all_gpus_are_taken_unless_one_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert devices_for("cpu", None) == ["cpu"]
    assert devices_for("cpu", 2) == ["cpu", "cpu"]
    monkeypatch.setattr(devices, "_GPU_NODES", ("null",))  # which every /dev has
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert devices_for("auto", None) == ["cuda:0", "cuda:1"]
    assert devices_for("cuda", 3) == ["cuda:0", "cuda:1", "cuda:0"]
    assert devices_for("cuda:1", None) == ["cuda:1"]
    assert devices_for("cpu", None) == ["cpu"]


def test_without_ray_a_sentence_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(ConfigError, match=r"pip install 'cytolibra\[ray\]'"):
        RayEngine(Recipe("cric-fcos-mobilenet-v2", SETTINGS))


@pytest.mark.slow
def test_processes_tell_of_their_tiles_and_of_a_model_that_is_not_there(slides: Path) -> None:
    told: list[tuple[Path, int, int]] = []
    engine = two_processes(recipe(), lambda *news: told.append(news))
    try:
        paths = [slides / name for name in NAMES[:2]]
        for future in [engine.submit(path) for path in paths]:
            future.result(120)
    finally:
        engine.close()
    for _ in range(100):
        if not any(thread.name == "hear" for thread in threading.enumerate()):
            break
        time.sleep(0.1)
    for path in paths:
        counts = [(done, tiles) for of, done, tiles in told if of == path]
        assert counts == [(i, len(counts)) for i in range(1, len(counts) + 1)]
        assert counts
    with pytest.raises(ModelFileError, match="no such model"):
        two_processes(Recipe("nowhere", SETTINGS)).describe()


def two_processes(recipe: Recipe, told: Told | None = None) -> ProcessEngine:
    return ProcessEngine(processes_of(recipe, ["cpu", "cpu"]), told)


def recipe() -> Recipe:
    alone = {"mpp": 0.5, "second_look": {"enabled": False}}  # whose steps are no tiles
    return Recipe("cric-fcos-mobilenet-v2", ScreenSettings.model_validate(alone))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["processes", "ray"])
def test_every_engine_finds_the_same(slides: Path, tmp_path: Path, kind: str) -> None:
    if kind == "ray":
        pytest.importorskip("ray")
    (slides / "c.png").write_bytes(b"no image")
    makers = {
        "processes": lambda: two_processes(recipe()),
        "ray": lambda: RayEngine(recipe(), workers=2),
    }
    alone = Worker(recipe().on("cpu", 1))
    other = makers[kind]()
    # The threads are each worker's own; what shapes results is the same.
    facts = [one.describe() for one in (alone, other)]
    assert facts[0].model == facts[1].model
    assert facts[0].settings["runtime"]["precision"] == facts[1].settings["runtime"]["precision"]
    for name, engine in (("local", LocalEngine(alone.screen)), (kind, other)):
        result = screen_all(slides, tmp_path / name, engine)
        assert result.screened == 2
        assert "c.png" in result.failed["c.png"]
        assert "unexpected" not in result.failed["c.png"]
    for name in NAMES[:2]:
        local, other = (tmp_path / one / name / "cells.csv" for one in ("local", kind))
        assert local.read_bytes() == other.read_bytes()
