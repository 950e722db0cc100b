"""Pictures of the documentation: ``make docs-pictures`` takes them of drawn slides.

Chromium, without a window, takes a report and a summary as they come out; so they can be taken
anew when the pages change.
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


def shrink(image: Image.Image) -> bytes:
    """A picture as PNG of at most `MOST_BYTES`, with as many colours as that allows."""
    for colors in _COLORS:
        stream = io.BytesIO()
        image.quantize(colors).save(stream, "PNG", optimize=True)
        if stream.tell() <= MOST_BYTES:
            break
    return stream.getvalue()


if __name__ == "__main__":
    sys.exit(main())
