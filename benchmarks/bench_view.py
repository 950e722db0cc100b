"""How fast the reading room is: tiles, first view, work list, cells; over HTTP, with its memory.

Writes a folder of reports by itself: one slide (drawn here, or one of yours), with cells at random
places, and many copies of a small report for the work list. Then a server runs as a process of its
own, and a client asks it as a browser does: over two connections at once for tiles. Prints medians
and what the server's memory was at most. `--levels 1` makes a slide without any smaller level.
"""

from __future__ import annotations

import argparse
import gzip
import http.client
import json
import os
import re
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import imagecodecs
import numpy as np
import tifffile
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from pipeline.batch.discovery import SlideJob
from pipeline.batch.fingerprint import Fingerprint, hash_content, save_fingerprint, stamp_files
from pipeline.cells.classes import name_classes
from pipeline.geometry import Detections
from pipeline.reports.adequacy import Specimen
from pipeline.reports.pictures import Overview, Pictures
from pipeline.reports.report import (
    ModelFacts,
    SlideReport,
    build_report,
    describe_slide,
    judge_cells,
    measure_area,
    most_suspicious_first,
)
from pipeline.reports.writers import write_reports
from pipeline.slides.slide import Slide, open_slide

CLASSES = name_classes(("NILM", "ASC-US", "LSIL", "HSIL"), (False, True, True, True))
MODEL = ModelFacts(
    name="bench",
    sha256=None,
    classes=CLASSES,
    mpp=0.25,
    threshold={one.name: 0.3 for one in CLASSES},
)
TILE = 256
SCREEN = (1280, 800)


class Client:
    """A browser that came in by its token."""

    def __init__(self, address: str) -> None:
        found = re.fullmatch(r"http://([^/]+)/\?token=(\S+)", address)
        assert found, address
        self.host = found[1]
        connection = http.client.HTTPConnection(self.host)
        connection.request("GET", f"/?token={found[2]}")
        answer = connection.getresponse()
        self.cookie = answer.headers["Set-Cookie"].partition(";")[0]

    @contextmanager
    def connected(self) -> Iterator[http.client.HTTPConnection]:
        """A connection that stays."""
        connection = http.client.HTTPConnection(self.host)
        try:
            yield connection
        finally:
            connection.close()

    def get(self, connection: http.client.HTTPConnection, path: str) -> tuple[bytes, float]:
        """Content and seconds."""
        start = time.perf_counter()
        connection.request("GET", path, headers={"Cookie": self.cookie, "Accept-Encoding": "gzip"})
        answer = connection.getresponse()
        content = answer.read()
        assert answer.status == 200, (path, answer.status, content[:200])
        return content, time.perf_counter() - start


def main() -> None:
    """Prints one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slide", type=Path, help="a slide of yours in place of a drawn one")
    parser.add_argument("--size", default="8192x6144", help="of the drawn slide, px")
    parser.add_argument("--levels", type=int, default=4, help="of the drawn slide")
    parser.add_argument("--cells", type=int, default=20_000, help="in the slide")
    parser.add_argument("--slides", type=int, default=200, help="in the work list")
    parser.add_argument("--rounds", type=int, default=60, help="tiles a level")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        width, height = map(int, asked.size.split("x"))
        path = asked.slide or draw(folder / "slide.tif", width, height, asked.levels)
        reports = folder / "reports"
        write_folder(reports, path, asked.cells, asked.slides)
        Console().print(measure(reports, asked.rounds))


def measure(reports: Path, rounds: int) -> Table:
    """Asks a server of its own for everything once, and for many tiles."""
    table = Table("what", "median ms", "most ms", title="the reading room")
    with served(reports) as (address, process):
        client = Client(address)
        with client.connected() as connection:
            listed, seconds = client.get(connection, "/api/slides")
            add(table, f"work list, first time ({len(listed) / 1e6:.1f} MB sent)", [seconds])
            again = [client.get(connection, "/api/slides")[1] for _ in range(5)]
            add(table, "work list, again", again)
            slide = first_slide(listed)
            base = f"/api/slides/{slide}"
            facts, seconds = client.get(connection, base)
            start = time.perf_counter()
            count = first_view(client, base, json.loads(unpacked(facts))["image"])
            add(table, f"first view ({count} tiles) behind it", [time.perf_counter() - start])
            add(table, "slide, without tiles", [seconds])
            content, seconds = client.get(connection, f"{base}/cells.bin")
            add(table, f"cells.bin, first time ({len(content) / 1e6:.1f} MB)", [seconds])
            pages = [client.get(connection, f"{base}/gallery?page={p}")[1] for p in range(10)]
            add(table, "gallery, a page of 48", pages)
            add(table, "heat map", [client.get(connection, f"{base}/heat")[1]])
        image = json.loads(unpacked(facts))["image"]
        for level in range(image["max_level"], 7, -1):
            taken = tiles(client, base, image, level, rounds)
            add(table, f"tile, level {image['max_level'] - level} below the finest", taken)
        table.caption = f"peak memory of the server {peak_mb(process.pid):.0f} MB"
    return table


def first_view(client: Client, base: str, image: dict[str, int]) -> int:
    """All tiles that fill a screen with the whole slide, over two connections; how many."""
    level = image["max_level"]
    width, height = image["width"], image["height"]
    while width / 2 > SCREEN[0] or height / 2 > SCREEN[1]:
        width, height, level = (width + 1) // 2, (height + 1) // 2, level - 1
    places = [
        (level, x, y) for y in range(-(-height // TILE)) for x in range(-(-width // TILE))
    ] + [(level - 1, 0, 0), (level - 2, 0, 0)]
    ask(client, base, places)
    return len(places)


def tiles(client: Client, base: str, image: dict[str, int], level: int, rounds: int) -> list[float]:
    """Seconds of tiles of a level at random places."""
    step = 1 << (image["max_level"] - level)
    columns = -(-image["width"] // (step * TILE))
    rows = -(-image["height"] // (step * TILE))
    rng = np.random.default_rng(level)
    chosen = rng.permutation(columns * rows)[:rounds].tolist()
    return ask(client, base, [(level, one % columns, one // columns) for one in chosen])


def ask(client: Client, base: str, places: list[tuple[int, int, int]]) -> list[float]:
    """Asks for tiles over two connections at once."""

    def some(part: list[tuple[int, int, int]]) -> list[float]:
        with client.connected() as connection:
            return [client.get(connection, f"{base}/tiles/{z}/{x}_{y}.jpg")[1] for z, x, y in part]

    with ThreadPoolExecutor(2) as pool:
        return [one for taken in pool.map(some, (places[::2], places[1::2])) for one in taken]


def add(table: Table, what: str, seconds: list[float]) -> None:
    """A row."""
    ms = [one * 1000 for one in seconds]
    table.add_row(what, f"{statistics.median(ms):.1f}", f"{max(ms):.1f}")


def first_slide(listed: bytes) -> str:
    """The id of the one slide that is a slide."""
    rows = json.loads(unpacked(listed))["slides"]
    return next(row["id"] for row in rows if row["name"] == "slide")


def unpacked(content: bytes) -> bytes:
    """Content as it was before it was compressed."""
    return gzip.decompress(content) if content.startswith(b"\x1f\x8b") else content


@contextmanager
def served(reports: Path) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """A server's address, and its process."""
    command = [sys.executable, "-m", "scripts", "view", str(reports), "--no-browser"]
    here = Path(__file__).resolve().parent.parent
    environment = {**os.environ, "PYTHONPATH": str(here)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            yield line.split(" at ")[1].strip(), process
        finally:
            process.send_signal(signal.SIGINT)


def peak_mb(pid: int) -> float:
    """Most memory that a process has had, where /proc tells it; else this one's children's."""
    status = Path(f"/proc/{pid}/status")
    if status.exists():
        found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text())
        return int(found[1]) / 1024 if found else 0.0
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024


def draw(path: Path, width: int, height: int, levels: int) -> Path:
    """A slide of smooth colours under noise, in JPEG tiles, with so many levels."""
    rng = np.random.default_rng(0)
    x, y = np.meshgrid(np.linspace(0, 90, 1024), np.linspace(0, 60, 1024))
    smooth = 190 + 40 * np.stack([np.sin(x), np.cos(y), np.sin(x + y)], axis=-1)
    part = (smooth + rng.normal(0, 4, smooth.shape)).clip(0, 255).astype(np.uint8)
    squares = [
        imagecodecs.jpeg8_encode(part[y : y + TILE, x : x + TILE].copy(), level=85)
        for y in range(0, 1024, TILE)
        for x in range(0, 1024, TILE)
    ]
    with tifffile.TiffWriter(path, bigtiff=True) as file:
        for level in range(levels):
            size = (-(-height // 2**level), -(-width // 2**level))
            rows, columns = -(-size[0] // TILE), -(-size[1] // TILE)
            file.write(
                (squares[y % 4 * 4 + x % 4] for y in range(rows) for x in range(columns)),
                shape=(*size, 3),
                dtype=np.uint8,
                tile=(TILE, TILE),
                compression="jpeg",
                photometric="ycbcr",
                subsampling=(2, 2),
                subfiletype=int(level > 0),
                resolution=(40_000 / 2**level, 40_000 / 2**level),
                resolutionunit="CENTIMETER",
                metadata=None,
            )
    return path


def write_folder(reports: Path, path: Path, cells: int, slides: int) -> None:
    """Reports of a slide, and of many copies of a small one."""
    with open_slide(path, 0.25) as slide:
        report = report_of(slide, random_cells(slide, cells))
    save(reports / "slide", report, path)
    with open_slide(path, 0.25) as slide:
        small = report_of(slide, random_cells(slide, 50), pictures=False)
    save(reports / "small-0000", small, path)
    for number in range(1, slides - 1):
        shutil.copytree(reports / "small-0000", reports / f"small-{number:04}")


def report_of(slide: Slide, cells: Detections, pictures: bool = True) -> SlideReport:
    """A report of made-up cells."""
    area = measure_area(slide.bounds, slide.mpp, slide.size.area, np.zeros((0, 4)))
    specimen = Specimen(area.slide_mm2, area.screened_mm2, area.unread_mm2, slide.mpp)
    cells = most_suspicious_first(cells, CLASSES)
    return build_report(
        slide=describe_slide(slide),
        model=MODEL,
        settings={},
        cells=cells,
        area=area,
        judgement=judge_cells(cells, MODEL, specimen),
        timing={},
        pictures=Pictures(overview_of(slide)) if pictures else None,
    )


def overview_of(slide: Slide) -> Overview:
    """As the report's page has it."""
    from pipeline.reports.pictures import _take_overview

    return _take_overview(slide)


def random_cells(slide: Slide, count: int) -> Detections:
    """Cells at random places with the scores of all classes."""
    rng = np.random.default_rng(0)
    corner = rng.uniform(0, (slide.size.width - 200, slide.size.height - 200), (count, 2))
    scores = rng.uniform(0.0, 1, (count, len(CLASSES))).astype(np.float32)
    labels = rng.integers(0, len(CLASSES), count)
    own: NDArray[np.float32] = scores[np.arange(count), labels]
    boxes = np.hstack([corner, corner + rng.uniform(20, 200, (count, 2))])
    return Detections(boxes, own, labels, scores)


def save(folder: Path, report: SlideReport, path: Path) -> None:
    """Writes a result as screen does; of large ones without what the reading room never reads."""
    folder.mkdir(parents=True)
    write_reports(report, folder)
    (folder / "cells.geojson").unlink()
    job = SlideJob(path, folder.name)
    stamp = Fingerprint(recipe="bench", files=stamp_files(job), sha256=hash_content(job))
    save_fingerprint(stamp, folder)


if __name__ == "__main__":
    main()
