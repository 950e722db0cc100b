"""Readers of other packages: found by their metadata, kept apart, and believed only what can be."""

import importlib
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from distributions import READING, install
from slidefiles import picture

from pipeline.errors import ReadError, SlideError, WorkerLostError
from pipeline.geometry import Rect
from pipeline.slides import containers, isolated, offers
from pipeline.slides.contract import ReaderContract
from pipeline.slides.isolated import IsolatedReader
from pipeline.slides.mpp import GivenMpp
from pipeline.slides.offers import installed_offers, offers_of, open_offered, tell_offers
from pipeline.slides.slide import open_slide

REPO = Path(__file__).resolve().parents[3]
IMAGE = picture(530, 390)
SOME = Rect(100, 50, 64, 32)


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A folder of installed packages."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    installed_offers.cache_clear()
    monkeypatch.setattr(offers, "_IN_PROCESS", set())
    yield folder
    installed_offers.cache_clear()


@pytest.fixture
def slide(tmp_path):
    path = tmp_path / "a.raw"
    with path.open("wb") as file:
        np.save(file, IMAGE)
    return path


def plugin(body, isolate=True):
    """A module whose plug-in `Odd` differs from `Raw` in what is given."""
    lines = "\n    ".join([f"isolate = {isolate}", *body.splitlines()])
    return f"{READING}\n\nclass Odd(Raw):\n    {lines}\n"


def reading(body, isolate=True):
    """A module whose plug-in's reader differs from `RawReader` in what is given."""
    lines = "\n    ".join(body.splitlines())
    reader = f"class OddReader(RawReader):\n    {lines}\n"
    opening = f"isolate = {isolate}\n    def open(self, path):\n        return OddReader(path)"
    return f"{READING}\n\n{reader}\n\nclass Odd(Raw):\n    {opening}\n"


def here(monkeypatch):
    """Lets the plug-ins of `odd-slides` run in this process, without asking them: it's faster."""
    monkeypatch.setattr(offers, "_IN_PROCESS", {"odd_slides:Odd"})


def header(change):
    """A module whose plug-in says something odd of its slides."""
    return reading(
        "def __init__(self, path):\n"
        "    super().__init__(path)\n"
        "    import dataclasses\n"
        f"    self.header = dataclasses.replace(self.header, {change})"
    )


def refusal(path):
    with pytest.raises(SlideError) as told:
        open_offered(path)
    text = str(told.value)
    assert text.startswith(f"{path}: ")
    assert "\n" not in text
    return told.value


@pytest.mark.parametrize("isolate", [True, False])
def test_pixels_and_header_are_the_packages(site, slide, isolate):
    install(site, "raw-slides", plugin("", isolate), {"raw": "Odd"})
    reader = open_offered(slide)
    assert isinstance(reader, IsolatedReader) is isolate
    assert reader.library == "raw (raw-slides 1.2)"
    assert reader.header.mpp == (0.25, 0.25)
    assert [level.size.width for level in reader.header.levels] == [530, 265]
    np.testing.assert_array_equal(reader.read(0, SOME), IMAGE[50:82, 100:164])
    reader.close()
    with pytest.raises(SlideError):
        reader.read(0, SOME)


def test_nothing_is_imported_to_know_the_endings(site):
    install(site, "loud-slides", "raise SystemExit(7)", {"LOUD": "Odd"})
    (offer,) = offers_of(".loud")
    assert (str(offer), offer.value) == ("loud-slides 1.2", "loud_slides:Odd")
    assert "loud_slides" not in sys.modules


def test_what_we_read_stays_ours(site):
    install(site, "raw-slides", READING, {"svs": "Raw", "raw": "Raw", "a.b": "Raw"})
    told = tell_offers(containers._OURS)
    assert ".raw by raw-slides 1.2," in told
    assert ".svs by raw-slides 1.2 (not used: CytoLibra reads these itself)" in told
    assert ".a.b by raw-slides 1.2 (not used: an ending has one dot)" in told
    assert ".raw" in offers.endings_offered() - containers._OURS


def test_packages_are_asked_in_the_order_of_their_names(site, slide, monkeypatch):
    monkeypatch.setattr(offers, "_IN_PROCESS", {"a_slides:Odd", "b_slides:Odd"})
    no = plugin("def opens(self, path):\n    return False")
    install(site, "b-slides", plugin("name = 'second'"), {"raw": "Odd"})
    install(site, "a-slides", plugin("name = 'first'"), {"raw": "Odd"})
    first = open_offered(slide)
    first.close()
    install(site, "a-slides", no, {"raw": "Odd"})
    importlib.invalidate_caches()
    second = open_offered(slide)
    second.close()
    assert first.library == "first (a-slides 1.2)"
    assert second.library == "second (b-slides 1.2)"
    install(site, "b-slides", no, {"raw": "Odd"})
    importlib.invalidate_caches()
    assert "is no .raw slide to a-slides 1.2, b-slides 1.2; " in refusal(slide).text


CAN_NOT_OPEN = {
    "crash": (
        plugin("def open(self, path):\n    os.kill(os.getpid(), 11)"),
        "its process died: segmentation fault",
    ),
    "exit": (
        plugin("def open(self, path):\n    print('no licence', flush=True); os._exit(3)"),
        "its process died: it ended with code 3 (no licence)",
    ),
    "crash at import": ("import os; os.abort()", "its process died: it aborted itself"),
    "no module": ("import nowhere_at_all", "there is no module nowhere_at_all"),
    "no name": (READING, "has no attribute 'Odd'"),
    "no plug-in": ("Odd = 3", "is neither a ReaderPlugin nor a function"),
    "raises": (
        plugin("def open(self, path):\n    raise KeyError('two\\nlines')"),
        "KeyError: 'two\\nlines'",
    ),
    "no reader": (plugin("def open(self, path):\n    return 3"), "gives int, not a Reader"),
    "no bool": (plugin("def opens(self, path):\n    return 'no'"), "gives str, not a bool"),
    "no name of its own": (plugin("name = 'two words'"), "name is 'two words'; it has to be one"),
    "no limit": (plugin("timeout_s = float('nan')"), "timeout_s is nan; it has to be 0 to 3600"),
    "no levels": (header("levels=()"), "its header has no levels"),
    "no header": (header("levels=3"), "its header is none"),
    "downsample": (header("levels=self.header.levels[1:]"), "1 comes first, then more"),
    "side": (
        header("levels=levels_of((Size(2**22, 5),))"),
        "its level 0 has 4194304 x 5 px",
    ),
    "mpp": (header("mpp=('a', 1)"), "its header is none: mpp.0: "),
    "background": (header("background=(256, 0, 0)"), "its background is (256, 0, 0)"),
    "shrinks": (reading("def shrinks(self, level):\n    return (0,)"), "its shrinks() gives [0]"),
}


@pytest.mark.parametrize("name", CAN_NOT_OPEN)
def test_what_can_not_be_opened_is_told_in_one_line(site, slide, monkeypatch, name):
    text, message = CAN_NOT_OPEN[name]
    if name not in ("crash", "exit", "crash at import", "raises"):
        here(monkeypatch)
    install(site, "odd-slides", text, {"raw": "Odd"})
    error = refusal(slide)
    assert error.code == "reader-failed"
    assert "its reader, of odd-slides 1.2, can't open it: " in error.text
    assert message in error.text


@pytest.mark.parametrize("isolate", [True, False])
def test_a_refusal_of_the_package_is_told_as_it_is(site, slide, isolate):
    install(site, "raw-slides", plugin("", isolate), {"raw": "Odd"})
    slide.write_bytes(slide.read_bytes()[:5000])
    assert refusal(slide).text == f"{slide}: broken off"


def test_a_hang_is_ended(site, slide, monkeypatch):
    install(site, "odd-slides", plugin("def open(self, path):\n    time.sleep(60)"), {"raw": "Odd"})
    monkeypatch.setattr(isolated, "OPEN_S", 2.0)
    assert refusal(slide).text.endswith("can't open it: took longer than 2 s")


CAN_NOT_READ = {
    "crash": ("os.kill(os.getpid(), 11)", WorkerLostError, "its process died: segmentation fault"),
    "hang": ("time.sleep(60)", SlideError, "took longer than 0.5 s"),
    "shape": ("return self.images[0]", SlideError, "gives uint8 of (390, 530, 3), not uint8 of"),
    "kind": ("return self.images[0] / 2", SlideError, "gives float64 of"),
    "none": ("return None", SlideError, "gives NoneType, not an array"),
    "error": ("raise OSError('gone')", ReadError, "OSError: gone"),
    "unread": ("raise ReadError('damaged')", ReadError, "damaged"),
}


@pytest.mark.parametrize("name", CAN_NOT_READ)
def test_what_can_not_be_read_is_unread_or_fails_the_slide(site, slide, monkeypatch, name):
    body, kind, message = CAN_NOT_READ[name]
    if name in ("kind", "none", "error"):
        here(monkeypatch)
    text = reading(f"def read(self, level, region, shrink=1):\n    {body}")
    install(site, "odd-slides", f"{text}    timeout_s = 0.5\n", {"raw": "Odd"})
    reader = open_offered(slide)
    for _ in range(2):  # what failed once fails again, at once
        with pytest.raises(SlideError) as told:
            reader.read(0, SOME)
        assert type(told.value) is kind
        assert message in str(told.value)
    reader.close()


@pytest.mark.parametrize(
    ("mpp", "code"),
    [
        ("None", "mpp-missing"),
        ("(0.0, 0.0)", "mpp-missing"),
        ("(1e6, 1e6)", "mpp-missing"),
        ("(float('nan'), float('nan'))", "mpp-missing"),
        ("(0.25, 0.5)", "mpp-oblong"),
    ],
)
def test_an_absurd_scale_is_refused_by_our_rules(site, slide, monkeypatch, mpp, code):
    install(site, "odd-slides", header(f"mpp={mpp}"), {"raw": "Odd"})
    if "nan" not in mpp:
        here(monkeypatch)
    monkeypatch.setattr(containers, "_OTHERS", frozenset({".raw"}))
    with pytest.raises(SlideError) as told:
        open_slide(slide)
    assert told.value.code == code
    with open_slide(slide, GivenMpp(override=0.5)) as ruled:
        assert ruled.mpp == 0.5


def test_threads_have_a_process_each(site, slide, monkeypatch):
    text = reading("def read(self, level, region, shrink=1):\n    time.sleep(0.3)\n"
                   "    return super().read(level, region) * 0 + os.getpid() % 251")  # fmt: skip
    install(site, "slow-slides", text, {"raw": "Odd"})
    monkeypatch.setattr(isolated.os, "cpu_count", lambda: 2)
    reader = open_offered(slide)
    with ThreadPoolExecutor(3) as pool:
        pixels = list(pool.map(lambda _: reader.read(0, SOME), range(6)))
    assert len({int(one[0, 0, 0]) for one in pixels}) == 2
    processes = [worker._process for worker in reader._all]
    assert len(processes) == 2
    reader.close()
    assert [process.returncode for process in processes] == [0, 0]


def test_after_an_interruption_no_region_gets_the_pixels_of_another(site, slide, monkeypatch):
    class Interrupted:
        def readline(self):
            raise KeyboardInterrupt

    install(site, "raw-slides", READING, {"raw": "Raw"})
    reader = open_offered(slide)
    with monkeypatch.context() as patch:
        patch.setattr(reader._all[0]._process, "stdout", Interrupted())
        with pytest.raises(KeyboardInterrupt):
            reader.read(0, SOME)
    with pytest.raises(SlideError, match="was interrupted amid a region; open the slide again"):
        reader.read(0, Rect(200, 50, 64, 32))
    reader.close()


def test_a_reader_that_says_something_else_the_second_time_is_refused(site, slide, monkeypatch):
    text = header("background=(os.getpid() % 251, 0, 0)")
    install(site, "odd-slides", text + "\n", {"raw": "Odd"})
    monkeypatch.setattr(isolated.os, "cpu_count", lambda: 2)
    reader = open_offered(slide)
    with reader._worker(), pytest.raises(SlideError, match="something else of the slide"):
        reader.read(0, SOME)
    reader.close()


def test_a_process_keeps_to_itself(site, slide):
    """What is printed and read there, an interruption of the run, and that it ends."""
    text = plugin("def open(self, path):\n    print('hello'); sys.stdin.read()\n"
                  "    return RawReader(path)")  # fmt: skip
    install(site, "odd-slides", text, {"raw": "Odd"})
    before = threading.active_count()
    reader = open_offered(slide)
    process = reader._all[0]._process
    os.kill(process.pid, signal.SIGINT)
    np.testing.assert_array_equal(reader.read(0, SOME), IMAGE[50:82, 100:164])
    del reader  # never closed
    assert process.returncode == 0
    for thread in threading.enumerate():
        if isinstance(thread, threading.Timer):
            thread.join(5)
    assert threading.active_count() == before


@pytest.fixture(scope="class")
def installed_raw(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    install(folder, "raw-slides", READING, {"raw": "Raw"})
    sys.path.insert(0, str(folder))
    installed_offers.cache_clear()
    yield
    sys.path.remove(str(folder))
    installed_offers.cache_clear()


@pytest.mark.usefixtures("installed_raw")
class TestIsolated(ReaderContract):
    """A reader behind a process keeps to what readers keep to."""

    mpp = (0.25, 0.25)

    def open(self, folder):
        path = folder / "a.raw"
        with path.open("wb") as file:
            np.save(file, IMAGE)
        return open_offered(path)

    def oracle(self):
        return IMAGE

    def open_damaged(self, folder):
        path = folder / "b.raw"
        self.open(folder).close()
        path.write_bytes((folder / "a.raw").read_bytes()[:-1000])
        return open_offered(path)


@pytest.mark.slow
def test_a_batch_goes_on_when_a_reader_crashes(site, slide, tmp_path):
    text = plugin(
        "def open(self, path):\n"
        "    if path.stem == 'bad': os.kill(os.getpid(), 11)\n"
        "    return RawReader(path)"
    )
    install(site, "odd-slides", text, {"raw": "Odd"})
    folder, out = tmp_path / "slides", tmp_path / "out"
    folder.mkdir()
    for name in "bad.raw", "good.RAW":
        (folder / name).write_bytes(slide.read_bytes())
    surroundings = os.environ | {"PYTHONPATH": f"{site}{os.pathsep}{REPO}"}

    def call(*words):
        words = (sys.executable, "-m", "cytolibra", *map(str, words))
        return subprocess.run(
            words, env=surroundings, cwd=tmp_path, capture_output=True, encoding="utf-8"
        )

    assert ".raw by odd-slides 1.2" in call("doctor").stdout
    screen = ("screen", folder, "--out", out, "--model", "cric-fcos-light")
    done = call(*screen)
    assert done.returncode == 1, done.stderr
    assert "bad.raw: its reader, of odd-slides 1.2, can't open it: its process died" in done.stderr
    report = (out / "good.RAW" / "report.json").read_text()
    assert '"reader": "raw (odd-slides 1.2)"' in report
    before = (out / "good.RAW" / "fingerprint.json").stat().st_mtime_ns
    call(*screen)
    assert (out / "good.RAW" / "fingerprint.json").stat().st_mtime_ns == before
    (site / "odd_slides-1.2.dist-info").rename(site / "odd_slides-1.3.dist-info")
    metadata = site / "odd_slides-1.3.dist-info" / "METADATA"
    metadata.write_text(metadata.read_text().replace("1.2", "1.3"))
    call(*screen)
    report = (out / "good.RAW" / "report.json").read_text()
    assert '"reader": "raw (odd-slides 1.3)"' in report
