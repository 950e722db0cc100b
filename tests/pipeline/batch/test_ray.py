"""Ray as a user would run it: two machines on this one, of which one dies; real workers."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from deadly import MakesAnywhere
from PIL import Image

from configs import ConfigError
from pipeline.batch.batch import screen_batch
from pipeline.batch.discovery import discover
from pipeline.batch.engines import LocalEngine, RayEngine, Recipe, Worker
from pipeline.batch.engines import ray as ray_module
from pipeline.batch.engines.ray_cluster import load_ray
from pipeline.batch.plan import BatchPlan
from pipeline.errors import EngineError, WorkerLostError
from pipeline.settings import ScreenSettings

pytest.importorskip("ray", reason="needs the extra cytolibra[ray]")
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("ray")]  # one cluster for all

REPO = Path(__file__).resolve().parents[3]
SETTINGS = ScreenSettings.model_validate(
    {"mpp": 0.5, "second_look": {"enabled": False}, "tiler": {"size": 512, "overlap": 128}}
)
RECIPE = Recipe("cric-fcos-light", SETTINGS)
SLIDES = 5


@pytest.fixture(scope="module", autouse=True)
def alone():
    """Ray's machines contact nobody, and find our packages."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_USAGE_STATS_REPORT_URL", "http://127.0.0.1:9/")
        patch.setenv(
            "PYTHONPATH",
            os.pathsep.join(map(str, (REPO, REPO / "tests", REPO / "tests" / "pipeline"))),
        )
        patch.setenv("OMP_NUM_THREADS", "1")
        yield


@pytest.fixture(scope="module")
def cluster(alone):
    """A cluster of two machines with a core each; ``second`` is no head and may be killed."""
    load_ray()
    from ray.cluster_utils import Cluster

    lean = {"num_cpus": 1, "include_dashboard": False, "include_log_monitor": False}
    lean |= {"no_monitor": True, "object_store_memory": 80_000_000}

    def begin():
        made = Cluster(initialize_head=True, head_node_args=lean)
        made.second = made.add_node(**lean)
        made.lean = lean
        return made

    made = patiently(begin)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_ADDRESS", made.address)
        yield made
    made.shutdown()


def patiently(begin):
    """Ray gives up on a machine that is busy; a second time it may be less so."""
    with suppress(Exception):
        return begin()
    return begin()


@pytest.fixture(scope="module")
def slides(tmp_path_factory):
    """Slides that take a second or so each."""
    folder = tmp_path_factory.mktemp("ray") / "slides"
    folder.mkdir()
    for seed in range(SLIDES):
        pixels = np.full((2600, 2600, 3), 235, np.uint8)
        for x, y in np.random.default_rng(seed).integers(20, 2500, (200, 2)):
            pixels[y : y + 30, x : x + 30] = (170, 130, 190)
            pixels[y + 8 : y + 20, x + 8 : x + 20] = (70, 40, 110)
        Image.fromarray(pixels).save(folder / f"{seed}.png", compress_level=1)
    return folder


class Deaf:
    """Hears nothing."""

    def __getattr__(self, _):
        return lambda *_: None


def screen_all(slides, out, engine):
    jobs = discover([slides], out, with_images=True).jobs
    in_force = engine.describe() if hasattr(engine, "describe") else Worker(RECIPE).describe()
    plan = BatchPlan(out=out, model=in_force.model, settings=in_force.settings)
    return screen_batch(jobs, engine, plan, Deaf())


@pytest.fixture(scope="module")
def undisturbed(slides, tmp_path_factory):
    """What a local run gives."""
    out = tmp_path_factory.mktemp("local")
    assert (
        screen_all(slides, out, LocalEngine(Worker(RECIPE.on("cpu", 1)).screen)).screened == SLIDES
    )
    return without_times(out)


def without_times(out):
    """Bytes of all results, but for what is told of time and threads."""
    found = {}
    for path in out.glob("*.png/*"):
        if path.name == "report.json":
            report = json.loads(path.read_bytes()) | {"timing": {}}
            report["settings"]["runtime"].pop("threads")
            found[path.relative_to(out)] = json.dumps(report).encode()
        elif path.name not in ("report.html", "fingerprint.json"):
            found[path.relative_to(out)] = path.read_bytes()
    assert len([path for path in found if path.name == "cells.csv"]) == SLIDES
    return found


def test_a_machine_that_dies_in_mid_run_costs_nothing(cluster, slides, tmp_path, undisturbed):
    told, warned = [], []
    engine = RayEngine(RECIPE, 2, lambda *news: told.append(news), warned.append)
    assert engine.slots == 2

    def kill():
        while not any(h.task and h.node == cluster.second.node_id for h in engine._hands):
            time.sleep(0.01)
        cluster.remove_node(cluster.second, allow_graceful=False)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    result = screen_all(slides, tmp_path, engine)
    killer.join(10)
    cluster.second = patiently(lambda: cluster.add_node(**cluster.lean))
    assert (result.screened, result.failed, result.pending) == (SLIDES, {}, 0)
    assert any("was lost" in text for text in warned)
    attempts = [
        s["attempts"] for s in json.loads((tmp_path / "run.json").read_text())["slides"].values()
    ]
    assert sorted(attempts) == [1] * (SLIDES - 1) + [2]
    assert without_times(tmp_path) == undisturbed
    assert told
    assert all(0 < done <= tiles for _, done, tiles in told)


def test_a_process_that_is_killed_is_followed_by_another(cluster, slides):
    engine = RayEngine(RECIPE, 1)
    try:
        engine.describe()
        lost = engine.submit(slides / "0.png")
        (hand,) = engine._hands
        while hand.task is None:
            time.sleep(0.01)
        os.kill(hand.pid, signal.SIGKILL)
        with pytest.raises(
            WorkerLostError, match=r"0\.png: the worker that screened it was lost: it"
        ):
            lost.result(60)
        assert engine.submit(slides / "1.png").result(60).slide.width == 2600
    finally:
        engine.close()


def test_slides_that_kill_their_worker_cost_a_retry_then_themselves(cluster, tmp_path):
    (tmp_path / "slides").mkdir()
    for name in ("good-1", "segv", "leave", "wrong", "once", "good-2"):
        Image.new("RGB", (8, 8)).save(tmp_path / "slides" / f"{name}.png")
    engine = RayEngine(MakesAnywhere("cric-fcos-light", SETTINGS), 2)
    result = screen_all(tmp_path / "slides", tmp_path / "out", engine)
    assert (result.screened, result.pending) == (3, 0)
    assert sorted(result.failed) == ["leave.png", "segv.png", "wrong.png"]
    assert result.failed["segv.png"].endswith("[process-died]")
    assert "at a second attempt too" in result.failed["leave.png"]
    assert "RuntimeError" in result.failed["wrong.png"]
    assert "1 of 2" in result.failed["wrong.png"]
    record = json.loads((tmp_path / "out" / "run.json").read_text())["slides"]
    assert {name: slide["attempts"] for name, slide in record.items()} == {
        "good-1.png": 1,
        "segv.png": 2,
        "leave.png": 2,
        "wrong.png": 1,
        "once.png": 2,
        "good-2.png": 1,
    }


def test_a_cluster_without_room_and_machines_that_lack_something_are_told(
    cluster, slides, monkeypatch
):
    holder = RayEngine(RECIPE, 2)
    try:
        holder.describe()
        with pytest.raises(
            EngineError, match=r"no worker is ready after 2 s.*the cluster has 0 of"
        ):
            RayEngine(RECIPE, 1, patience_s=2).describe()
    finally:
        holder.close()
    with pytest.raises(ConfigError, match="it doesn't see /nowhere"):
        RayEngine(RECIPE, 1, places=[slides, Path("/nowhere")]).describe()
    monkeypatch.setattr(ray_module, "our_version", lambda: "99.9")
    with pytest.raises(ConfigError, match=r"it has cytolibra [\d.]+, not 99\.9"):
        RayEngine(RECIPE, 1).describe()


def command(slides, out, *more):
    words = ("screen", str(slides), "--out", str(out), "--model", "cric-fcos-light", "--mpp", "0.5")
    return [sys.executable, "-m", "scripts", *words, "--engine", "ray", *more]


def start(slides, out, *more):
    return subprocess.Popen(
        command(slides, out, *more), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def wait_for(what, seconds=90):
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def children(parents, name):
    """Processes that these have started, whose command line begins so."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            parent = int(path.read_text().rsplit(")", 1)[1].split()[1])
            if parent in parents and is_of(path.parent.name, name):
                found.add(int(path.parent.name))
    return found


def is_of(pid, name):
    with suppress(OSError):
        return name in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0]
    return False


def line_of(pid):
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_text()
    return ""


def test_a_driver_that_is_killed_leaves_nobody_and_goes_on_where_it_was(cluster, slides, tmp_path):
    driver = start(slides, tmp_path)
    wait_for(lambda: list(tmp_path.glob("*.png")))
    machines = [node.all_processes["raylet"][0].process.pid for node in cluster.list_all_nodes()]
    at_work = children(machines, b"ray::Host")
    assert at_work
    driver.kill()
    driver.communicate()
    done = len(list(tmp_path.glob("*.png")))
    wait_for(lambda: not any(is_of(pid, b"ray::Host") for pid in at_work), 20)
    told = subprocess.run(command(slides, tmp_path), capture_output=True, text=True, timeout=300)
    assert told.returncode == 0, told.stderr
    assert f"{SLIDES - done} screened, {done} done before" in told.stdout


def test_ctrl_c_ends_a_run_of_this_machine_alone(slides, tmp_path, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    driver = start(slides, tmp_path)
    wait_for(lambda: list(tmp_path.glob("*.png")))
    batch = children([driver.pid], b"python")  # what is called only watches it
    machines = children(batch, b"raylet")
    at_work = children(machines, b"ray::Host")
    assert at_work
    # An HTTP server of Ray's would ask the network which cloud this is.
    assert not [pid for pid in children(batch, b"python") if "dashboard.py" in line_of(pid)]
    began = time.monotonic()
    driver.send_signal(signal.SIGINT)
    said, _ = driver.communicate(timeout=30)
    assert driver.returncode == 130, said
    assert "interrupted: what is done stays" in said
    assert time.monotonic() - began < 10  # 2 s on an idle machine
    wait_for(lambda: not any(is_of(pid, b"ray::Host") for pid in at_work), 20)
