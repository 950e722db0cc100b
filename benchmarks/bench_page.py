"""How fast the reading room's page is, in Chromium: 48 cells read, frames, the work list.

The reader is a script: it opens a slide, decides 48 cells by one key each, and signs off. What is
measured is what it waits for server and page: opening until all is loaded, then each key, in the
page itself, until the next cell is chosen and the decision is on the server's disk. How long the
flight to the next cell and its tiles take besides is told, too; a person looks at the close-up
meanwhile. The sum takes 2 s a cell for the person. Frames are times between two drawings while the
slide is dragged. Headless Chromium draws by the processor: with a GPU it is faster.
"""

from __future__ import annotations

import argparse
import itertools
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench_view import draw, served, write_folder
from rich.console import Console
from rich.table import Table

ASSETS = Path(__file__).resolve().parent.parent / "pipeline" / "review" / "assets"
READ = 48
A_CELL_S = 2.0
SETTLED_S = 0.02
"""So long no request may be under way until all counts as loaded."""


def main() -> None:
    """Prints one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", default="8192x6144", help="of the drawn slide, px")
    parser.add_argument("--cells", type=int, default=10_000, help="in the slide")
    parser.add_argument("--slides", type=int, default=200, help="in the work list")
    parser.add_argument("--drags", type=int, default=100, help="moves of the pointer")
    asked = parser.parse_args()
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None or not (ASSETS / "index.html").is_file():
        print("bench_page: left out; it needs Chromium and the built page (make view-assets)")
        return
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        width, height = map(int, asked.size.split("x"))
        reports = folder / "reports"
        write_folder(
            reports, draw(folder / "slide.tif", width, height, 5), asked.cells, asked.slides
        )
        with served(reports) as (address, _):
            Console().print(measure(address, chromium, asked.drags))


def measure(address: str, chromium: str, drags: int) -> Table:
    """One reader at one browser."""
    from playwright.sync_api import sync_playwright

    table = Table("what", "value", title="the reading room's page")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1400, "height": 900})
        page.set_default_timeout(300_000)
        loading = Loading(page)
        work_list(page, address, table)
        start = time.perf_counter()
        page.locator("[data-testid=search]").fill("")
        page.locator("[data-testid=worklist-row][data-place='0'] a").click()
        page.locator("[data-testid=gallery-card]").nth(READ - 1).wait_for()
        loading.settle()
        opened = time.perf_counter() - start
        table.add_row("slide opened, gallery and tiles there", f"{opened:.2f} s")
        page.locator("[data-testid=overlay][data-cells]").wait_for(state="attached")
        frames(page, table, drags)
        decide(page, table, loading, opened)
        browser.close()
    return table


class Loading:
    """Which requests of a page are under way."""

    def __init__(self, page: Any) -> None:
        self._page = page
        self._open = 0
        page.on("request", lambda _: self._add(1))
        page.on("requestfinished", lambda _: self._add(-1))
        page.on("requestfailed", lambda _: self._add(-1))

    def _add(self, number: int) -> None:
        self._open += number

    def settle(self) -> None:
        """Waits until none has been for a moment."""
        quiet = time.perf_counter()
        while time.perf_counter() - quiet < SETTLED_S:
            self._page.wait_for_timeout(5)
            if self._open > 0:
                quiet = time.perf_counter()


def work_list(page: Any, address: str, table: Table) -> None:
    """Comes in; rows are there, sorted, searched."""
    page.goto(address)
    page.locator("input[name=name]").fill("Script")
    rows = page.locator("[data-testid=worklist-row]")

    def timed(what: str, act: Callable[[], object], shown: Any) -> None:
        start = time.perf_counter()
        act()
        shown.wait_for()
        table.add_row(what, f"{1000 * (time.perf_counter() - start):.0f} ms")

    begin = page.locator("[data-testid=begin]")
    timed("work list: first rows after the name", begin.click, rows.first)
    count = page.locator("[data-testid=shown]").inner_text()
    sort = page.locator("[data-testid=sort]")
    timed(f"sorted by name ({count})", lambda: sort.select_option("name"), rows.first)
    search = page.locator("[data-testid=search]")
    one = page.locator("[data-testid=shown]", has_text="1 of")
    timed("searched", lambda: search.fill("small-0001"), one)
    sort.select_option("suspicion")


def frames(page: Any, table: Table, drags: int) -> None:
    """Times between two drawings while the whole slide is dragged."""
    page.locator("[data-testid=tool-whole]").click()
    page.wait_for_timeout(1500)
    box = page.locator("[data-testid=overlay]").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.evaluate(
        """() => {
          window.times = []; window.ran = true;
          const next = at => {
            window.times.push(at);
            if (window.ran) requestAnimationFrame(next);
          };
          requestAnimationFrame(next);
        }"""
    )
    page.mouse.move(x, y)
    page.mouse.down()
    for i in range(drags):
        page.mouse.move(x + 6 * (i % 20 - 10), y + 3 * (i % 10))
        page.wait_for_timeout(16)
    page.mouse.up()
    times = page.evaluate("() => { window.ran = false; return window.times; }")
    overlay = page.locator("[data-testid=overlay]")
    drawn, mode = overlay.get_attribute("data-cells"), overlay.get_attribute("data-mode")
    passed = [b - a for a, b in itertools.pairwise(times)]
    table.add_row(
        f"frame, {drawn} {mode} drawn: median, 95 %",
        f"{statistics.median(passed):.1f}, {statistics.quantiles(passed, n=20)[-1]:.1f} ms",
    )


def decide(page: Any, table: Table, loading: Loading, opened: float) -> None:
    """48 cells and the signature; what is waited for."""
    page.locator("[data-testid=gallery-card]").first.click()
    loading.settle()
    flights = []
    page.evaluate(
        """() => {
          window.waits = [];
          let pressed = 0;
          addEventListener('keydown', () => { pressed = performance.now(); }, true);
          new MutationObserver(changes => {
            if (pressed && changes.at(-1).target.dataset.state === 'saved') {
              window.waits.push(performance.now() - pressed);
              pressed = 0;
            }
          }).observe(document.body, { subtree: true, attributeFilter: ['data-state'] });
        }"""
    )
    saved = page.locator("[data-testid=save-state][data-state=saved]")
    for number in range(READ):
        start = time.perf_counter()
        page.keyboard.press("axu"[number % 3])
        done = f"[data-testid=gallery-card]:not([data-verdict=none]) >> nth={number}"
        if number + 1 < READ:
            page.locator(done).wait_for()
        saved.wait_for()
        loading.settle()
        flights.append(time.perf_counter() - start - SETTLED_S)
    waits = [one / 1000 for one in page.evaluate("() => window.waits")]
    assert len(waits) == READ, waits
    start = time.perf_counter()
    page.locator("[data-testid=category]").select_option("LSIL")
    page.locator("[data-testid=sign-off]").click()
    page.locator("[data-testid=signed]").wait_for()
    saved.wait_for()
    signed = time.perf_counter() - start
    for what, of in (
        ("a key until the next cell is chosen and all is saved", waits),
        ("a key until the slide is there and loaded, too", flights),
    ):
        told = f"{1000 * statistics.median(of):.0f}, {1000 * max(of):.0f} ms"
        table.add_row(f"{what}: median, most", told)
    share = opened + sum(waits) + signed
    table.add_row(f"server and page for {READ} cells and the signature", f"{share:.1f} s")
    table.add_row(
        f"all, by a reader who takes {A_CELL_S:g} s a cell", f"{share + READ * A_CELL_S:.0f} s"
    )


if __name__ == "__main__":
    main()
