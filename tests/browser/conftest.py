"""The reading room as a person meets it: a real server, real reports of drawn slides, Chromium."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

REPO = Path(__file__).resolve().parent.parent.parent
ASSETS = REPO / "pipeline" / "review" / "assets"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

WAIT_MS = 15_000
"""How long anything may take to show up; on two busy cores, not a measure of speed."""


def pytest_collection_modifyitems(items):
    here = Path(__file__).parent
    for item in items:
        if here in Path(item.fspath).parents:
            item.add_marker(pytest.mark.browser)


class Room:
    """A running ``cytolibra view``.

    Args:
        reports: folder of reports; decisions go there.
        slides: folder of the slides.
        more: further arguments.
    """

    def __init__(self, reports: Path, slides: Path, *more: str) -> None:
        self.reports = reports
        self.slides = slides
        self._more = more
        self._process: subprocess.Popen[str] | None = None
        self.address = ""
        self.token = ""

    def start(self) -> None:
        """Starts it and waits until it has said where it is."""
        command = [sys.executable, "-m", "scripts", "view", str(self.reports), "--no-browser"]
        command += ["--slides", str(self.slides), *self._more]
        self._process = subprocess.Popen(
            command, cwd=REPO, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        told = ""
        while match := self._process.stdout.readline():
            told += match
            found = re.search(r"(http://\S+?)/\?token=(\S+)", told)
            if found:
                self.address, self.token = found.groups()
                return
        raise AssertionError(f"the reading room did not start: {told}")

    @property
    def url(self) -> str:
        """What it has printed."""
        return f"{self.address}/?token={self.token}"

    def kill(self) -> None:
        """Ends it as a power cut would."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """Ends it as Ctrl-C does."""
        self._end(signal.SIGINT)

    def _end(self, how: signal.Signals) -> None:
        if self._process is None:
            return
        self._process.send_signal(how)
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._process = None

    @contextmanager
    def ask(self, name: str) -> Iterator[httpx.Client]:
        """A reader without a browser, who is already in."""
        with httpx.Client(base_url=self.address, headers={"Origin": self.address}) as client:
            client.get(self.url, follow_redirects=True)
            client.post("/api/session", json={"name": name}).raise_for_status()
            yield client


@pytest.fixture(scope="session")
def drawn(tmp_path_factory) -> tuple[Path, Path]:
    """Three drawn slides and their reports; nobody writes there."""
    folder = tmp_path_factory.mktemp("drawn")
    for command in (
        ["synth", "--out", "slides", "--slides", "3", "--size", "2560x2560", "--seed", "7"],
        ["screen", "slides", "--out", "reports"],
    ):
        done = subprocess.run(
            [sys.executable, "-m", "scripts", *command],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(REPO), "OMP_NUM_THREADS": "2"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
    return folder / "reports", folder / "slides"


@pytest.fixture
def make_room(drawn, tmp_path) -> Iterator:
    """Starts reading rooms on a copy of the reports of one test; they end with it."""
    if not (ASSETS / "index.html").is_file():
        pytest.fail("the page is not built: make view-assets")
    reports = tmp_path / "reports"
    shutil.copytree(drawn[0], reports)
    rooms: list[Room] = []

    def make(*more: str, folder: Path = reports) -> Room:
        room = Room(folder, drawn[1], *more)
        rooms.append(room)
        room.start()
        return room

    yield make
    for room in rooms:
        room.stop()


@pytest.fixture
def room(make_room) -> Room:
    """A reading room on three drawn slides."""
    return make_room()


@pytest.fixture(scope="session")
def chromium():
    """The browser that Debian ships."""
    if CHROMIUM is None:
        pytest.fail("Chromium is not here: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # Without a sandbox of its own: CI runs as root in a container.
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


class Watch:
    """What must not happen while a page is open: errors, and requests to another host."""

    def __init__(self) -> None:
        self.faults: list[str] = []
        self.away = False
        """Whether the server is meant to be gone: requests that fail are no fault then."""

    def follow(self, page, address: str) -> None:
        """Watches a page."""
        page.on("pageerror", lambda error: self.faults.append(f"error: {error}"))
        page.on("console", self._console)

        def request(asked) -> None:
            at = urlsplit(asked.url)
            if (
                at.scheme in ("http", "https", "ws", "wss")
                and at.netloc != urlsplit(address).netloc
            ):
                self.faults.append(f"request to another host: {asked.url}")

        page.on("request", request)

    def _console(self, message) -> None:
        if message.type not in ("error", "warning"):
            return
        # The browser itself writes a line for each answer that is no success.
        failed = "failed to load" in message.text.lower()
        if failed and (self.away or "409" in message.text):
            return
        # OpenSeadragon's word for a tile that came when its slide had been left.
        if not message.text.startswith("Ignoring tile"):
            self.faults.append(f"{message.type}: {message.text}")


@pytest.fixture
def watch() -> Iterator[Watch]:
    """Fails the test on whatever must not happen on any of its pages."""
    found = Watch()
    yield found
    assert found.faults == []


@pytest.fixture
def enter(chromium, watch, make_room) -> Iterator:
    """Opens a reading room in a browser of its own, and says a name; it closes before the room."""
    contexts = []

    def open_page(
        room: Room, name: str | None = "Ada", *, width: int = 1400, height: int = 900, **more
    ):
        context = chromium.new_context(
            viewport={"width": width, "height": height}, reduced_motion="reduce", **more
        )
        contexts.append(context)
        context.set_default_timeout(WAIT_MS)
        page = context.new_page()
        watch.follow(page, room.address)
        page.goto(room.url)
        if name is not None:
            page.get_by_test_id("name-dialog").locator("input[name=name]").fill(name)
            page.get_by_test_id("begin").click()
            page.get_by_test_id("worklist-row").first.wait_for()
        return page

    yield open_page
    for context in contexts:
        context.close()


def open_slide(page, name: str) -> None:
    """Opens a slide of the work list and waits until its cells are there."""
    page.locator("[data-testid=worklist-row]", has_text=name).locator("a").first.click()
    page.get_by_test_id("gallery-card").first.wait_for()
    ready(page)


def ready(page) -> None:
    """Waits until the cells of the slide are drawn."""
    page.locator("[data-testid=overlay][data-cells]").wait_for(state="attached")


def saved(page) -> None:
    """Waits until all that was decided is with the server."""
    page.locator("[data-testid=save-state][data-state=saved]").wait_for()


def card(page, place: int):
    """A cell of the gallery."""
    return page.get_by_test_id("gallery-card").nth(place)


def verdicts(page) -> list[str]:
    """What is said of the cells of the gallery's page."""
    cards = page.get_by_test_id("gallery-card")
    return cards.evaluate_all("all => all.map(one => one.dataset.verdict)")


def until(what, seconds: float = WAIT_MS / 1000) -> None:
    """Waits until something holds."""
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it did not come to hold"
        time.sleep(0.05)
