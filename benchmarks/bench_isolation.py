"""What it costs that a reader of another package runs in a process of its own.

python benchmarks/bench_isolation.py: seconds to open a slide, and milliseconds to read a tile, in
this process and behind another, of an array on the disk, which costs least to decode of all.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.geometry import Rect, Size
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
