"""How fast a slide is screened, station by station, and what the journey adds to the network.

Draws one slide, screens it three times with the shipped model, and prints medians. Ratios within
one run are to be trusted, seconds depend on the machine.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from data.synth import NamedSource, Scene, write_slide
from data.synth.criteria import CLASSES
from models import load_detector
from pipeline.detector import TileDetector
from pipeline.foreground import find_foreground
from pipeline.screen import screen_slide
from pipeline.settings import ScreenSettings
from pipeline.slide import open_slide
from pipeline.tiler import plan_tiles
from pipeline.tilereader import read_tile

ROUNDS = 3


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=12_000, help="of the slide in px at 0.25 µm")
    side = parser.parse_args().side
    detector = TileDetector(load_detector())
    with tempfile.TemporaryDirectory() as folder:
        scene = Scene(1, (side, side), 0.25, "conventional", 150.0, 0.05, 4)
        path = write_slide(Path(folder), NamedSource("bench.tif", scene), CLASSES, lambda _: None)
        rounds = [measure(path, detector) for _ in range(ROUNDS)]
    median = {key: statistics.median(row[key] for row in rounds) for key in rounds[0]}
    Console().print(table(median, side, detector))


def measure(path: Path, detector: TileDetector) -> dict[str, float]:
    """Seconds of each station by itself, and of the whole journey."""
    settings = ScreenSettings()
    times: dict[str, float] = {}
    with open_slide(path) as slide:
        start = time.perf_counter()
        foreground = find_foreground(slide, settings.foreground)
        times["foreground"] = time.perf_counter() - start
        model_mpp = detector.card.mpp
        plan = plan_tiles(slide.bounds, slide.mpp, model_mpp, settings.tiler, foreground)
        start = time.perf_counter()
        tiles = [read_tile(slide, plan.grid, index).pixels for index in plan.indices.tolist()]
        times["reading, one thread"] = time.perf_counter() - start
    start = time.perf_counter()
    for first in range(0, len(tiles), detector.batch_size):
        detector.detect(tiles[first : first + detector.batch_size])
    times["network and NMS alone"] = time.perf_counter() - start
    times["tiles"] = len(tiles)
    del tiles
    start = time.perf_counter()
    report = screen_slide(path, detector, settings)
    times["whole journey"] = time.perf_counter() - start
    times["cells"] = len(report.cells)
    return times


def table(median: dict[str, float], side: int, detector: TileDetector) -> Table:
    """The medians, with rates by the slide's level-0 pixels."""
    title = (
        f"{side} x {side} px at 0.25 µm/px, {median['tiles']:.0f} tiles, {median['cells']:.0f} "
        f"cells; {detector.runtime.name} {detector.runtime.precision} on {detector.device}; "
        f"medians of {ROUNDS}"
    )
    result = Table(title=title)
    result.add_column("station")
    result.add_column("seconds", justify="right")
    result.add_column("MPix/s of level 0", justify="right")
    for name in ("foreground", "reading, one thread", "network and NMS alone", "whole journey"):
        seconds = median[name]
        result.add_row(name, f"{seconds:.2f}", f"{side * side / 1e6 / seconds:.0f}")
    overhead = median["whole journey"] / median["network and NMS alone"]
    result.caption = f"whole journey over network alone: {overhead:.2f}; peak memory {peak()} MB"
    return result


def peak() -> int:
    """Largest resident memory of this process so far, in MB."""
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(np.ceil(kilobytes / (1024 if sys.platform != "darwin" else 1024**2)))


if __name__ == "__main__":
    main()
