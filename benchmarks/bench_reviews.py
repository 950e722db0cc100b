"""Writing decisions: milliseconds a change, each on the disk, beside how many there are already.

One reader decides cells of one slide. Prints the clock's time, as the disk's share counts. What the
disk alone takes stands beside it: the time to append 4 KB to a file and have it on the disk.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
import uuid
from pathlib import Path

import numpy as np

from pipeline.review.store import ReviewStore, SlideKey, cell_key, parse_change
from pipeline.review.store.changes import AnyChange

SLIDE = SlideKey("0" * 64, "slide")


def change(number: int) -> AnyChange:
    """The decision about one more cell."""
    box = (number % 300 * 50.0, number // 300 * 50.0, number % 300 * 50 + 40.0, 1e6)
    said = {"label": "HSIL", "score": 0.5, "box": box}
    whole = {"kind": "cell", "id": uuid.uuid4().hex, "version": number, "seconds": 2.0}
    return parse_change({**whole, "key": cell_key(box), "verdict": "agree", "said": said})


def write(store: ReviewStore, count: int, start: int) -> np.ndarray:
    """Seconds of each of ``count`` changes behind ``start`` others."""
    reader = store.reader("reader")
    seconds = []
    for number in range(start, start + count):
        wanted = change(number)
        before = time.perf_counter()
        store.apply(SLIDE, reader, wanted)
        seconds.append(time.perf_counter() - before)
    return np.array(seconds)


def disk(folder: Path, rounds: int = 200) -> float:
    """Median seconds to append 4 KB and have it on the disk."""
    seconds = []
    with (folder / "disk").open("wb", buffering=0) as file:
        for _ in range(rounds):
            before = time.perf_counter()
            file.write(bytes(4096))
            os.fdatasync(file.fileno())
            seconds.append(time.perf_counter() - before)
    return float(np.median(seconds))


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--entries", type=int, default=5_000, help="how many there are at most")
    parser.add_argument("--folder", type=Path, help="where to write; default: the temporary one")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=asked.folder) as name:
        folder = Path(name)
        print(f"the disk alone: {disk(folder) * 1e3:.2f} ms")
        print("entries  median ms  95% below  opened s  first reading s")
        start = 0
        for entries in (asked.entries // 10, asked.entries):
            with ReviewStore.open(folder) as store:
                seconds = write(store, entries - start, start)[-500:] * 1e3
            before = time.perf_counter()
            with ReviewStore.open(folder) as store:
                opened = time.perf_counter()
                assert store.reading(SLIDE, store.reader("reader")).version == entries
                read = time.perf_counter() - opened
            print(
                f"{entries:7,}  {np.median(seconds):9.2f}  {np.quantile(seconds, 0.95):9.2f}  "
                f"{opened - before:8.2f}  {read:15.2f}"
            )
            start = entries


if __name__ == "__main__":
    main()
