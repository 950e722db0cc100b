"""What it costs that a reader, or all of the screening, runs in a process of its own.

python benchmarks/bench_isolation.py: of a reader of another package seconds to open a slide, and
milliseconds to read a tile, in this process and behind another, of an array on the disk, which
costs least to decode of all. Of screening, by the default model, seconds until the network is
loaded and seconds of drawn slides one after the other, and how large a report is that comes from
another process. Rounds are interleaved and medians printed; processor time is that of all
processes together, and depends less on what else the machine does.
"""

from __future__ import annotations

import argparse
import pickle
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from data.synth import CLASSES, NamedSource, Scene, write_slide
from models import DEFAULT_MODEL
from pipeline.batch.engines import Engine, LocalEngine, ProcessEngine, Recipe
from pipeline.geometry import Rect, Size
from pipeline.reports.report import SlideReport
from pipeline.settings import ScreenSettings
from pipeline.slides.checked import CheckedReader
from pipeline.slides.isolated import IsolatedReader, Worker
from pipeline.slides.plugins import ReaderPlugin
from pipeline.slides.readers.base import Header, Reader, levels_of

TILE = 1536
"""Side of a tile of the shipped model, in px."""


class ArrayReader(Reader):
    """An array on the disk, mapped into memory."""

    library = "numpy"

    def __init__(self, path: Path) -> None:
        self._pixels = np.load(path, mmap_mode="r")
        height, width, _ = self._pixels.shape
        self.header = Header("array", levels_of((Size(width, height),)))

    def read(self, level: int, region: Rect, shrink: int = 1) -> NDArray[np.uint8]:
        """See `Reader.read`."""
        return np.array(self._pixels[region.y : region.bottom, region.x : region.right])

    def close(self) -> None:
        """See `Reader.close`."""
        self._pixels = None


class Arrays(ReaderPlugin):
    """Opens arrays."""

    name = "array"

    def open(self, path: Path) -> Reader:
        """See `ReaderPlugin.open`."""
        return ArrayReader(path)


def main() -> None:
    """Measures and tells."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=4 * TILE, help="of the slide, in px")
    parser.add_argument("--rounds", type=int, default=20, help="how often each tile is read")
    parser.add_argument("--slides", type=int, default=4, help="that are screened; 0 for none")
    parser.add_argument("--slide-side", type=int, default=6000, help="of each, in px at 0.25 µm")
    parser.add_argument("--batches", type=int, default=3, help="how often they are screened")
    given = parser.parse_args()
    sys.path.insert(0, str(Path(__file__).parent))  # where the other process finds this module
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "slide.npy"
        np.save(path, np.zeros((given.side, given.side, 3), np.uint8))
        plugin = "bench_isolation:Arrays"
        ways: dict[str, Callable[[], Reader]] = {
            "in this process": lambda: CheckedReader(ArrayReader(path), path, "array"),
            "in a process": lambda: IsolatedReader(Worker(plugin, path), plugin, path, "array"),
        }
        for name, open_it in ways.items():
            opened, read = measure(open_it, given.rounds)
            print(f"{name}: opened in {opened:.3f} s, a tile of {TILE} px in {1000 * read:.1f} ms")
    if given.slides:
        tell_batches(given.slides, given.slide_side, given.batches)


class Took(NamedTuple):
    """Seconds of a batch.

    Attributes:
        start: until the network is loaded.
        slides: all slides, from then on.
        processor: of all processes, from beginning to end.
    """

    start: float
    slides: float
    processor: float


def tell_batches(count: int, side: int, rounds: int) -> None:
    """Screens drawn slides here and in a process of its own, and tells what that took."""
    recipe = Recipe(DEFAULT_MODEL, ScreenSettings())
    with tempfile.TemporaryDirectory() as folder:
        paths = [draw(Path(folder), number, side) for number in range(count)]
        report = recipe.worker().screen(paths[0])  # what is loaded once is loaded now
        start = time.perf_counter()
        size = len(pickle.dumps(pickle.loads(pickle.dumps(report))))
        seconds = (time.perf_counter() - start) / 3
        print(f"a report is handed over as {size / 1e6:.1f} MB, in {1000 * seconds:.0f} ms")
        took: dict[str, list[Took]] = {"here": [], "isolated": []}
        for _ in range(rounds):
            took["here"].append(screen(paths, lambda: in_threads(recipe)))
            took["isolated"].append(screen(paths, lambda: in_a_process(recipe)))
    for name, times in took.items():
        start_s, slides_s, processor = (
            statistics.median(values) for values in zip(*times, strict=True)
        )
        print(
            f"screened {name}: network loaded in {start_s:.1f} s, {count} slides of {side} px in "
            f"{slides_s:.1f} s, {slides_s / count:.2f} s each; processor time {processor:.1f} s"
        )


def draw(folder: Path, seed: int, side: int) -> Path:
    """A drawn slide of ``side`` px a side."""
    scene = Scene(seed, (side, side), 0.25, "conventional", 150.0, 0.05, 4)
    return write_slide(folder, NamedSource(f"{seed}.tif", scene), CLASSES, lambda _: None)


def in_threads(recipe: Recipe) -> Engine:
    """As by default."""
    worker = recipe.worker()
    worker.describe()
    return LocalEngine(worker.screen)


def in_a_process(recipe: Recipe) -> Engine:
    """As with ``--isolate``."""
    engine = ProcessEngine([recipe])
    engine.describe()
    return engine


def screen(paths: Sequence[Path], start: Callable[[], Engine]) -> Took:
    """Screens slides as a batch feeds them to an engine."""
    before, began = processor_time(), time.perf_counter()
    engine = start()
    ready = time.perf_counter()
    left, running = list(paths), set[Future[SlideReport]]()
    while left or running:
        while left and len(running) < engine.slots:
            running.add(engine.submit(left.pop()))
        done, running = wait(running, return_when=FIRST_COMPLETED)
        for future in done:
            future.result()
    end = time.perf_counter()
    engine.close()
    return Took(ready - began, end - ready, processor_time() - before)


def processor_time() -> float:
    """Of this process and those that it has waited for, in seconds."""
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def measure(open_it: Callable[[], Reader], rounds: int) -> tuple[float, float]:
    """Median seconds to open, of three, and to read a tile."""
    openings, reads = [], []
    for _ in range(3):
        start = time.perf_counter()
        reader = open_it()
        openings.append(time.perf_counter() - start)
        side = min(TILE, reader.header.levels[0].size.width)
        for _ in range(rounds):
            start = time.perf_counter()
            reader.read(0, Rect(0, 0, side, side))
            reads.append(time.perf_counter() - start)
        reader.close()
    return statistics.median(openings), statistics.median(reads)


if __name__ == "__main__":
    main()
