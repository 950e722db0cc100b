"""Pictures of the documentation: ``make docs-pictures`` takes them of drawn slides.

Chromium, without a window, takes a report and a summary as they come out, and the reading room in
use; so they can be taken anew when the pages change.
"""

from __future__ import annotations

import argparse
import io
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

REPO = Path(__file__).resolve().parent.parent.parent

PICTURES = REPO / "docs" / "pictures"
"""Where they lie."""

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")

MOST_BYTES = 200_000
"""Of one picture."""

_WIDTH, _COLORS = 1400, (256, 128, 64, 32)

_ROOM_WIDTH, _ROOM_BYTES = 1100, 450_000
"""Of the reading room, which is full of pictures of cells."""


def main() -> int:
    """Screens drawn slides and takes pictures of what comes out."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--reports", type=Path, help="of `make demo`; default: made anew")
    reports = parser.parse_args().reports
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        print(f"error: no browser is found; install one of {', '.join(BROWSERS)}", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder:
        if reports is None:
            reports = _screen(Path(folder))
        slide = next(iter(sorted(reports.glob("*/report.html"))), None)
        if slide is None:
            print(f"error: {reports}: holds no report of a slide", file=sys.stderr)
            return 2
        _take(browser, slide, PICTURES / "report.png", 1000)
        _take(browser, reports / "summary.html", PICTURES / "summary.png", 500)
        _take_room(browser, reports)
    return 0


def _screen(folder: Path) -> Path:
    """Reports of drawn slides, one of which is broken."""
    here = {"PYTHONPATH": str(REPO)}  # run from there, so that paths on the pictures are short
    call = [sys.executable, "-m", "scripts.demo", "--out", "demo"]
    subprocess.run(call, cwd=folder, env=os.environ | here, check=True)
    return folder / "demo" / "reports"


def _take(browser: str, page: Path, picture: Path, height: int) -> None:
    """Takes the top of a page, in as many colours as the size of the file allows."""
    with tempfile.TemporaryDirectory() as folder:
        taken = Path(folder) / "page.png"
        subprocess.run(
            [
                *(browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"),
                *(f"--user-data-dir={folder}/profile", f"--screenshot={taken}"),
                *(f"--window-size={_WIDTH},{height}", page.resolve().as_uri()),
            ],
            check=True,
            capture_output=True,
            timeout=120,
        )
        with Image.open(taken) as opened:
            picture.write_bytes(shrink(opened.convert("RGB")))


def _take_room(browser: str, reports: Path) -> None:
    """Takes the reading room's work list, and a slide of which some cells are decided."""
    from playwright.sync_api import sync_playwright

    call = [sys.executable, "-m", "scripts", "view", str(reports), "--no-browser"]
    # The slides' paths in the reports are seen from where they were screened.
    with (
        tempfile.TemporaryDirectory() as folder,
        subprocess.Popen(
            [*call, "--slides", str(reports.parent / "slides")],
            stdout=subprocess.PIPE,
            text=True,
            cwd=folder,
            env=os.environ | {"PYTHONPATH": str(REPO)},
        ) as server,
        sync_playwright() as playwright,
    ):
        assert server.stdout is not None
        address = server.stdout.readline().split(" at ")[1].strip()
        chromium = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        page = chromium.new_page(viewport={"width": _WIDTH, "height": 900})
        page.goto(address)
        page.fill("input[name=name]", "Ada")
        page.click("[data-testid=begin]")
        page.wait_for_selector("[data-testid=worklist-row] img")
        page.wait_for_load_state("networkidle")
        _keep(page.screenshot(clip={"x": 0, "y": 0, "width": _WIDTH, "height": 560}), "room-list")
        page.click("[data-testid=worklist-row] a")
        page.wait_for_selector("[data-testid=gallery-card]")
        for key in ("a", "a", "x", "4", "u"):
            page.keyboard.press(key)
        page.wait_for_selector("[data-testid=save-state][data-state=saved]")
        page.wait_for_load_state("networkidle")
        page.wait_for_timeout(1500)  # the flight to the next cell ends, its tiles are there
        _keep(page.screenshot(), "room-slide")
        chromium.close()
        server.terminate()


def _keep(png: bytes, name: str) -> None:
    with Image.open(io.BytesIO(png)) as image:
        image.thumbnail((_ROOM_WIDTH, _ROOM_WIDTH), Image.Resampling.LANCZOS)
        (PICTURES / f"{name}.png").write_bytes(shrink(image.convert("RGB"), _ROOM_BYTES))


def shrink(image: Image.Image, most: int = MOST_BYTES) -> bytes:
    """A picture as PNG of at most so many bytes, with as many colours as that allows."""
    for colors in _COLORS:
        stream = io.BytesIO()
        image.quantize(colors).save(stream, "PNG", optimize=True)
        if stream.tell() <= most:
            break
    return stream.getvalue()


if __name__ == "__main__":
    sys.exit(main())
