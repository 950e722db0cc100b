"""How fast slides are screened, station by station and by size.

Draws slides of growing size and screens them with the shipped model. Rounds are interleaved and
medians printed. Ratios within one run are to be trusted, seconds depend on the machine.

On a CPU reading and the network need the same cores. "Both, on all cores" is what they take
together if none ever waits: the network's time, and that of reading and of sharpness on one thread,
divided by the cores.
The whole journey over that is what the pipeline itself costs.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import sys
import tempfile
import time
from collections import deque
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from data.synth import CLASSES, NamedSource, Scene, write_slide
from models import DEFAULT_MODEL, ModelSource
from pipeline.flow import work_ahead
from pipeline.in_force import settle_tiler
from pipeline.memory import give_back_large_blocks
from pipeline.network.detector import TileDetector
from pipeline.network.devices import count_cores
from pipeline.screen import screen_slide
from pipeline.settings import ScreenSettings
from pipeline.slides.slide import open_slide
from pipeline.tiles.deposit import square_side
from pipeline.tiles.focus import SIDE, FocusSquares
from pipeline.tiles.foreground import find_foreground
from pipeline.tiles.tiler import plan_tiles
from pipeline.tiles.tilereader import read_tile

ROUNDS = 3
STATIONS = (
    "foreground",
    "reading, one thread",
    "sharpness, one thread",
    "network alone",
    "both, on all cores",
    "whole journey",
)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--sides", default="6000,12000,24000", help="of the slides in px at 0.25 µm"
    )
    parser.add_argument("--model", default=DEFAULT_MODEL, help="name or folder")
    arguments = parser.parse_args()
    sides = [int(side) for side in arguments.sides.split(",")]
    give_back_large_blocks()
    detector = TileDetector(ModelSource.find(arguments.model))
    with tempfile.TemporaryDirectory() as folder:
        paths = [draw(Path(folder), side) for side in sides]
        rounds = [[measure(path, detector) for path in paths] for _ in range(ROUNDS)]
        Console().print(stations(sides, rounds, detector))


def draw(folder: Path, side: int) -> Path:
    """A drawn slide of ``side`` px a side."""
    scene = Scene(1, (side, side), 0.25, "conventional", 150.0, 0.05, 4)
    return write_slide(folder, NamedSource(f"{side}.tif", scene), CLASSES, lambda _: None)


def measure(path: Path, detector: TileDetector) -> dict[str, float]:
    """Seconds of each station by itself, and of the whole journey; each after a warm-up."""
    settings = ScreenSettings()
    times: dict[str, float] = {}
    with open_slide(path) as slide:
        start = time.perf_counter()
        foreground = find_foreground(slide, settings.foreground)
        times["foreground"] = time.perf_counter() - start
        tiler = settle_tiler(settings, detector.card)
        plan = plan_tiles(slide.bounds, slide.mpp, detector.card.mpp, tiler, foreground)
        start = time.perf_counter()
        tiles = [read_tile(slide, plan.grid, index).pixels for index in plan.indices.tolist()]
        times["reading, one thread"] = time.perf_counter() - start
        side = SIDE * square_side(foreground.downsample, slide.mpp)
        squares = FocusSquares(plan.grid, foreground, side, slide.mpp)
        start = time.perf_counter()
        for index, pixels in zip(plan.indices.tolist(), tiles, strict=True):
            squares.measure(index, pixels, np.zeros((0, 4)))
        times["sharpness, one thread"] = time.perf_counter() - start
    detector.detect(tiles[:1])
    start = time.perf_counter()
    lanes = detector.lanes
    with work_ahead(lambda tile: detector.detect([tile]), tiles, lanes, lanes) as found:
        deque(found, maxlen=0)
    times["network alone"] = time.perf_counter() - start
    beside = times["reading, one thread"] + times["sharpness, one thread"]
    times["both, on all cores"] = times["network alone"] + beside / count_cores()
    times["tiles"] = len(tiles)
    del tiles
    start = time.perf_counter()
    report = screen_slide(path, detector, settings)
    times["whole journey"] = time.perf_counter() - start
    times["cells"] = len(report.cells)
    return times


def stations(
    sides: list[int], rounds: list[list[dict[str, float]]], detector: TileDetector
) -> Table:
    """Medians by size, with rates by the slide's level-0 pixels."""
    runtime = f"{detector.runtime.name} {detector.runtime.precision} on {detector.device}"
    table = Table(title=f"{runtime}; medians of {ROUNDS}; peak memory {peak()} MB")
    for heading in ("slide", "tiles", "cells", "station", "seconds", "MPix/s", "over network"):
        table.add_column(heading, justify="left" if heading in ("slide", "station") else "right")
    for number, side in enumerate(sides):
        of_size = [one[number] for one in rounds]
        median = {key: statistics.median(row[key] for row in of_size) for key in of_size[0]}
        for name in STATIONS:
            seconds = median[name]
            table.add_row(
                f"{side} px",
                f"{median['tiles']:.0f}",
                f"{median['cells']:.0f}",
                name,
                f"{seconds:.2f}",
                f"{side * side / 1e6 / seconds:.0f}",
                f"{seconds / median['network alone']:.2f}",
            )
    return table


def peak() -> int:
    """Largest resident memory of this process so far, in MB, the benchmark's own tiles with it."""
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(np.ceil(kilobytes / (1024 if sys.platform != "darwin" else 1024**2)))


if __name__ == "__main__":
    main()
