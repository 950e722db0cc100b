import errno
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from dicomseries import write_image
from fakes import MODEL, make_report
from remoteservers import EXPIRED, Fault, file_server, times

from configs import Doubt
from pipeline.batch import staging as staged
from pipeline.batch.batch import screen_batch
from pipeline.batch.discovery import SlideJob, discover
from pipeline.batch.engines import LocalEngine
from pipeline.batch.plan import BatchPlan, BatchResult
from pipeline.batch.run_record import SlideRecord
from pipeline.batch.staging import Staging, StagingEngine
from pipeline.cloud import fetch as fetching
from pipeline.cloud import store as stores
from pipeline.cloud.scratch import GB, Scratch
from pipeline.cloud.settings import CloudSettings
from pipeline.cloud.store import Stores
from pipeline.cloud.urls import parse_url
from pipeline.errors import SlideError
from pipeline.reports.report import SlideReport

pytest.importorskip("aiohttp", reason="the extra cloud is not installed")
pytest.importorskip("fsspec", reason="the extra cloud is not installed")

SETTINGS = {"tiler": {"overlap": 128}}


@pytest.fixture(autouse=True)
def _small_pieces_and_short_waits(monkeypatch):
    monkeypatch.setattr(fetching, "PIECE", 1000)
    monkeypatch.setattr(stores, "_FIRST_WAIT_S", 0.01)


class Ears:
    """Hears nothing."""

    def batch_started(self, slides: int) -> None: ...
    def slide_started(self, job: SlideJob) -> None: ...
    def slide_ended(self, job: SlideJob, record: SlideRecord, report: object) -> None: ...


class Screener:
    """Looks at what lies there, and makes a report up."""

    def __init__(self) -> None:
        self.seen: dict[str, bytes] = {}
        self.beside: dict[str, list[str]] = {}
        self.room: list[int] = []

    def __call__(self, path: Path) -> SlideReport:
        self.seen[path.name] = path.read_bytes()
        files = [one for one in path.parent.rglob("*") if one.is_file()]
        self.beside[path.name] = sorted(one.name for one in files)
        own = path
        while own.parent.name != "scratch" and not own.name.startswith("cytolibra-"):
            own = own.parent
        self.room.append(size_of(own))
        report = make_report(path)
        doubt = Doubt(code="exif-turned", text=f"{path}: was turned")
        return report.model_copy(update={"warnings": (doubt,)})


def size_of(folder: Path) -> int:
    """Bytes of all files below a folder, from which some may vanish meanwhile."""
    size = 0
    for place, _, files in os.walk(folder):
        for name in files:
            with suppress(FileNotFoundError):
                size += Path(place, name).stat().st_size
    return size


def run(
    places: list[str],
    tmp_path: Path,
    screen: Callable[[Path], SlideReport] | None = None,
    stop: threading.Event | None = None,
    **settings: object,
) -> BatchResult:
    """Screens what is found below URLs, as cytolibra screen does."""
    cloud = CloudSettings(**{"scratch": tmp_path / "scratch", "tries": 2, **settings})
    out = tmp_path / "out"
    with Stores(cloud) as opened:
        own = Scratch(cloud, out)
        given = [parse_url(place) or Path(place) for place in places]
        jobs = discover(given, out, with_images=False, stores=opened, scratch=own.folder).jobs
        with own as scratch:
            inner = LocalEngine(screen or Screener(), stop, slots=1)
            engine = StagingEngine(inner, Staging(scratch, cloud), jobs, cloud.ahead)
            plan = BatchPlan(out=out, model=MODEL, settings=SETTINGS)
            return screen_batch(jobs, engine, plan, Ears())


@pytest.fixture
def web(tmp_path):
    (tmp_path / "web").mkdir()
    for name in "abcd":
        (tmp_path / "web" / f"{name}.svs").write_bytes(name.encode() * 5000)
    with file_server(tmp_path / "web") as server:
        yield server


def urls(web, names: str = "abcd") -> list[str]:
    return [f"{web.url}/{name}.svs?sig=secret" for name in names]


def everything_written(folder: Path) -> str:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return "\n".join(path.read_text(errors="replace") for path in files)


def test_slides_are_fetched_screened_and_cleaned_away(web, tmp_path):
    screen = Screener()
    result = run(urls(web), tmp_path, screen)
    assert (result.screened, dict(result.failed)) == (4, {})
    assert screen.seen == {f"{name}.svs": name.encode() * 5000 for name in "abcd"}
    assert [p.name for p in (tmp_path / "scratch").iterdir()] == [".gate.lock"]
    report = json.loads((tmp_path / "out/a.svs/report.json").read_text())
    assert report["slide"]["path"] == f"{web.url}/a.svs"
    assert report["warnings"][0]["text"] == f"{web.url}/a.svs: was turned".replace(
        f"{web.url}/", "http://127.0.0.1/"
    )
    assert report["timing"]["fetch"] > 0
    record = json.loads((tmp_path / "out/run.json").read_text())
    assert record["slides"]["a.svs"]["path"] == f"{web.url}/a.svs"
    written = everything_written(tmp_path / "out")
    assert "secret" not in written
    assert str(tmp_path / "scratch") not in written


def test_what_is_done_is_not_fetched_again_and_what_has_changed_is(web, tmp_path):
    run(urls(web), tmp_path)
    before = len(web.asked)
    (tmp_path / "web/b.svs").write_bytes(b"B" * 5000)
    screen = Screener()
    result = run(urls(web), tmp_path, screen)
    assert (result.reused, result.screened) == (3, 1)
    assert screen.seen == {"b.svs": b"B" * 5000}
    fetched = {path for _, path, span in web.asked[before:] if span != "bytes=0-0"}
    assert fetched == {"/b.svs?sig=secret"}


def test_a_server_that_tells_no_version_is_never_believed(web, tmp_path):
    web.fault = lambda *_: Fault(headers={"ETag": None, "Last-Modified": None})
    run(urls(web, "a"), tmp_path)
    assert run(urls(web, "a"), tmp_path).screened == 1


def test_each_slide_that_cant_be_had_is_told_and_the_others_go_on(web, tmp_path):
    faults = {
        "/a": Fault(status=403),
        "/b": Fault(cut=10),
    }

    def choose(method: str, path: str, span: str) -> Fault | None:
        if path.startswith("/c") and span == "bytes=1000-1999":
            (tmp_path / "web/c.svs").write_bytes(b"C" * 5000)
        return faults.get(path[:2]) if span == "bytes=1000-1999" else None

    web.fault = choose
    result = run(urls(web), tmp_path)
    assert result.screened == 1
    told = dict(result.failed)
    assert told["a.svs"] == (
        f"{web.url}/a.svs: access is denied (403): ClientResponseError: 403, message='Forbidden', "
        f"url='{web.url}/a.svs'; the signed URL may have expired [remote-denied]"
    )
    assert told["b.svs"].startswith(f"{web.url}/b.svs: can't be fetched: ClientPayloadError")
    assert told["b.svs"].endswith("[remote-cut]")
    assert told["c.svs"] == (
        f"{web.url}/c.svs: was changed since it was listed; start again [remote-changed]"
    )
    assert "secret" not in everything_written(tmp_path / "out")


def test_a_slide_that_was_cut_is_complete_after_another_try(web, tmp_path):
    web.fault = times(1, Fault(cut=10), lambda m, path, span: span == "bytes=2000-2999")
    screen = Screener()
    assert run(urls(web), tmp_path, screen).screened == 4
    assert screen.seen["a.svs"] == b"a" * 5000


def test_no_more_than_the_bound_lies_there(web, tmp_path):
    screen = Screener()
    assert run(urls(web), tmp_path, screen, scratch_gb=10_500 / GB, ahead=4).screened == 4
    assert max(screen.room) <= 10_500


def test_a_slide_that_is_larger_than_the_bound_is_refused(web, tmp_path):
    (tmp_path / "web/b.svs").write_bytes(b"B" * 50_000)
    result = run(urls(web), tmp_path, scratch_gb=20_000 / GB)
    assert result.screened == 3
    assert dict(result.failed) == {
        "b.svs": f"{web.url}/b.svs: has 0.05 MB, more than the 0.02 MB of the scratch folder; set "
        "cloud.scratch_gb, or cloud.scratch to a larger disk [scratch-full]"
    }


def test_a_full_disk_waits_for_the_slides_before_and_is_told_when_there_are_none(
    web, tmp_path, monkeypatch
):
    """A disk that has room for one slide at a time, though the bound allows for more."""
    room = tmp_path / "scratch"
    fetch = fetching.fetch

    def fetch_to_small_disk(store, file, target, settings, stop):
        taken = size_of(room)
        if taken + file.size > limit:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(b"x" * 100)
            raise OSError(errno.ENOSPC, "No space left on device")
        return fetch(store, file, target, settings, stop)

    monkeypatch.setattr(staged, "fetch", fetch_to_small_disk)
    limit = 7000
    assert run(urls(web), tmp_path).screened == 4
    limit = 3000
    (tmp_path / "web/a.svs").write_bytes(b"A" * 5000)
    result = run(urls(web), tmp_path)
    assert (result.reused, result.screened) == (3, 0)
    assert dict(result.failed) == {
        "a.svs": f"{web.url}/a.svs: no space left on the disk of the scratch folder; see "
        "cloud.scratch [scratch-full]"
    }


def test_slides_are_fetched_while_those_before_are_screened(web, tmp_path):
    """With both as slow as each other, neither waits for the other."""
    went: list[tuple[str, float]] = []

    def screen(path: Path) -> SlideReport:
        went.append((f"screen {path.name}", time.monotonic()))
        deadline = time.monotonic() + 10
        while path.name != "d.svs" and time.monotonic() < deadline:
            if any(path.startswith(f"/{chr(ord(went[-1][0][7]) + 1)}") for _, path, _ in web.asked):
                break
            time.sleep(0.01)
        else:
            assert path.name == "d.svs", "the next slide was not asked for meanwhile"
        return make_report(path)

    web.asked.clear()
    result = run(urls(web), tmp_path, screen)
    assert (result.screened, dict(result.failed)) == (4, {})


def test_folders_here_and_files_elsewhere_go_together(web, tmp_path):
    (tmp_path / "here").mkdir()
    (tmp_path / "here/e.svs").write_bytes(b"e" * 10)
    result = run([*urls(web, "ab"), str(tmp_path / "here/e.svs")], tmp_path, make_report)
    assert result.screened == 3
    report = json.loads((tmp_path / "out/e.svs/report.json").read_text())
    assert report["slide"]["path"] == str(tmp_path / "here/e.svs")
    assert (tmp_path / "here/e.svs").exists()


def test_what_goes_wrong_with_a_slide_names_its_url(web, tmp_path):
    def screen(path: Path) -> SlideReport:
        raise SlideError(f"{path}: truncated; copy it again", "mpp-missing")

    result = run(urls(web, "a"), tmp_path, screen)
    assert dict(result.failed) == {
        "a.svs": "http://127.0.0.1/a.svs: truncated; copy it again [mpp-missing]"
    }
    assert [p.name for p in (tmp_path / "scratch").iterdir()] == [".gate.lock"]


def test_a_slide_of_several_files_is_fetched_whole(bucket, tmp_path):
    files = {"m.mrxs": b"m", "m/Slidedat.ini": b"[x]", "m/Data0.dat": b"0" * 5000}
    for key, data in files.items():
        bucket.put(f"x/{key}", data)
    screen = Screener()
    assert run([f"{bucket.url}/x"], tmp_path, screen).screened == 1
    assert screen.beside["m.mrxs"] == ["Data0.dat", "Slidedat.ini", "m.mrxs"]
    again = Screener()
    bucket.put("x/m/Data0.dat", b"1" * 5000)
    assert run([f"{bucket.url}/x"], tmp_path, again).screened == 1


def test_a_series_with_a_part_that_is_broken_off_is_refused(bucket, tmp_path):
    pixels = np.zeros((128, 128, 3), np.uint8)
    write_image(tmp_path / "d/1.dcm", pixels, 0.25, "1.2.3")
    write_image(tmp_path / "d/2.dcm", pixels[::2, ::2], 0.5, "1.2.3")
    whole = (tmp_path / "d/2.dcm").read_bytes()
    bucket.put("1.dcm", tmp_path / "d/1.dcm")
    bucket.put("2.dcm", whole[: whole.index(b"\xe0\x7f\x10\x00") - 50])
    (problem,) = run([bucket.url], tmp_path).failed.values()
    assert problem == (
        f"{bucket.url}/1.dcm: its file 2.dcm is broken off; without it the slide lacks a part: "
        "copy it again"
    )


def test_a_credential_that_expires_fails_the_slides_that_are_left(bucket, tmp_path):
    for name in "abc":
        bucket.put(f"{name}.svs", name.encode() * 3000)
    expired = Fault(status=403, body=EXPIRED, headers={"Content-Type": "application/xml"})
    bucket.server.fault = lambda m, path, span: expired if "/b.svs" in path else None
    result = run([bucket.url], tmp_path)
    assert result.screened == 2
    assert dict(result.failed) == {
        "b.svs": f"{bucket.url}/b.svs: the credential has expired; renew it, and start again "
        "[remote-denied]"
    }
    bucket.server.fault = lambda *_: None
    result = run([bucket.url], tmp_path)
    assert (result.reused, result.screened) == (2, 1)


def test_closing_ends_what_is_being_fetched(web, tmp_path):
    web.fault = lambda m, path, span: None if span == "bytes=0-0" else Fault(wait=5)
    cloud = CloudSettings(scratch=tmp_path / "scratch")
    with Stores(cloud) as opened, Scratch(cloud, tmp_path) as scratch:
        given = [parse_url(url) for url in urls(web)]
        jobs = discover(
            given, tmp_path / "out", with_images=False, stores=opened, scratch=scratch.folder
        ).jobs
        engine = StagingEngine(LocalEngine(Screener()), Staging(scratch, cloud), jobs, 2)
        promises = [engine.submit(job.path) for job in jobs]
        began = time.monotonic()
        threading.Timer(0.3, engine.close).start()
        for promise in promises:
            assert isinstance(promise.exception(timeout=60), SlideError)
        assert time.monotonic() - began < 4  # the server waits for 5
        assert not any(scratch.folder.iterdir())


_RUN = """
    import sys, threading
    sys.path[:0] = {paths}
    from pathlib import Path
    import test_staging as test
    from fakes import make_report
    stop = threading.Event()
    def screen(path):
        print(path, flush=True)
        stop.wait(60)
        return make_report(path)
    result = test.run({urls}, Path({tmp}), screen, stop)
    print("interrupted", result.interrupted, flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("killed", [True, False])
def test_a_run_that_is_killed_or_interrupted_leaves_nothing_behind(web, tmp_path, killed):
    here = Path(__file__).parent
    paths = [str(here), str(here.parents[2]), str(here.parents[1]), str(here.parent)]
    paths.append(str(here.parents[1]))
    code = textwrap.dedent(_RUN).format(paths=paths, urls=urls(web), tmp=repr(str(tmp_path)))
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        path = Path(process.stdout.readline().strip())
        assert path.read_bytes() == b"a" * 5000
        os.kill(process.pid, signal.SIGKILL if killed else signal.SIGINT)
        said = process.stdout.read()
    left = [p.name for p in (tmp_path / "scratch").iterdir()]
    assert path.exists() == killed
    if killed:
        assert len(left) == 3
    else:
        assert "interrupted True" in said
        assert left == [".gate.lock"]
    result = run(urls(web), tmp_path)
    assert result.screened == 4
    assert [p.name for p in (tmp_path / "scratch").iterdir()] == [".gate.lock"]
