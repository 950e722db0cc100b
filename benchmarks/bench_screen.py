"""How fast slides are screened: station by station, by size, and against a plain loop.

Draws slides of growing size and screens them with the shipped model. The plain loop is what one
would write by hand with the same weights: OpenSlide's regions, Pillow's resize, the torch model
eagerly in float32, one ``batched_nms`` over the slide. Rounds are interleaved and medians printed.
Ratios within one run are to be trusted, seconds depend on the machine.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import openslide
import torch
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.table import Table
from torchvision.ops import batched_nms, box_iou

from data.synth import CLASSES, NamedSource, Scene, write_slide
from models import DenseDetector, load_detector
from pipeline.detector import TileDetector
from pipeline.foreground import find_foreground
from pipeline.geometry import Detections
from pipeline.memory import give_back_large_blocks
from pipeline.screen import screen_slide, settle_tiler
from pipeline.settings import ScreenSettings
from pipeline.slide import open_slide
from pipeline.tiler import plan_tiles
from pipeline.tilereader import read_tile

ROUNDS = 3
PLAIN_SIDE, PLAIN_OVERLAP = 1024, 128
"""Of the plain loop's tiles, in px at the model's scale."""


def main() -> None:
    """Prints two tables: stations by size, and the plain loop on the smallest slide."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sides", default="6000,12000", help="of the slides in px at 0.25 µm")
    sides = [int(side) for side in parser.parse_args().sides.split(",")]
    give_back_large_blocks()
    detector = TileDetector(load_detector())
    with tempfile.TemporaryDirectory() as folder:
        paths = [draw(Path(folder), side) for side in sides]
        rounds = [[measure(path, detector) for path in paths] for _ in range(ROUNDS)]
        Console().print(stations(sides, rounds, detector))
        Console().print(against_plain(paths[0], detector))


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
    detector.detect(tiles[:1])
    start = time.perf_counter()
    for tile in tiles:
        detector.detect([tile])
    times["network alone"] = time.perf_counter() - start
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
        for name in ("foreground", "reading, one thread", "network alone", "whole journey"):
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


def against_plain(path: Path, detector: TileDetector) -> Table:
    """The journey and the plain loop in turns, and the cells that both find."""
    model = load_detector()
    model.use_thresholds(detector.thresholds.tolist())
    ways: dict[str, Callable[[], Detections]] = {
        "CytoLibra": lambda: screen_slide(path, detector).cells,
        "plain loop": lambda: screen_plainly(path, model.eval(), detector.card.mpp),
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    cells: dict[str, Detections] = {}
    for _ in range(ROUNDS):
        for name, way in ways.items():
            # The plain loop has all cores, as it would by itself; see `TileDetector`.
            torch.set_num_threads(1 if name == "CytoLibra" else os.cpu_count() or 1)
            start = time.perf_counter()
            cells[name] = way()
            times[name].append(time.perf_counter() - start)
    median = {name: statistics.median(of_one) for name, of_one in times.items()}
    table = Table(title=f"{path.name}: the same weights, medians of {ROUNDS} interleaved")
    for heading in ("way", "seconds", "times CytoLibra's", "cells", "found by CytoLibra too"):
        table.add_column(heading, justify="left" if heading == "way" else "right")
    for name, seconds in median.items():
        table.add_row(
            name,
            f"{seconds:.2f}",
            f"{seconds / median['CytoLibra']:.1f}",
            str(len(cells[name])),
            f"{share_found(cells[name].boxes, cells['CytoLibra'].boxes):.1%}",
        )
    return table


@torch.inference_mode()
def screen_plainly(path: Path, model: DenseDetector, mpp: float) -> Detections:
    """What one would write by hand."""
    slide = openslide.OpenSlide(path)
    downsample = mpp / float(slide.properties[openslide.PROPERTY_NAME_MPP_X])
    width, height = slide.dimensions
    step, side = (PLAIN_SIDE - PLAIN_OVERLAP) * downsample, round(PLAIN_SIDE * downsample)
    found: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []
    for y in np.arange(0, height, step):
        for x in np.arange(0, width, step):
            region = slide.read_region((int(x), int(y)), 0, (side, side)).convert("RGB")
            tile = region.resize((PLAIN_SIDE, PLAIN_SIDE), Image.Resampling.BILINEAR)
            pixels = torch.tensor(np.asarray(tile)).permute(2, 0, 1).float() / 255
            result = model([pixels])[0]
            boxes = result["boxes"] * downsample + torch.tensor([x, y, x, y])
            found.append((boxes, result["scores"], result["labels"]))
    boxes, scores, labels = (torch.cat(parts) for parts in zip(*found, strict=True))
    kept = batched_nms(boxes.float(), scores, torch.zeros_like(labels), 0.5)
    return Detections(boxes[kept].double().numpy(), scores[kept].numpy(), labels[kept].numpy())


def share_found(boxes: NDArray[np.float64], others: NDArray[np.float64]) -> float:
    """Share of boxes that have a partner of IoU 0.5 among others."""
    if not len(boxes) or not len(others):
        return 0.0
    overlaps = box_iou(torch.from_numpy(boxes), torch.from_numpy(others))
    return float((overlaps.amax(dim=1) >= 0.5).float().mean())


def peak() -> int:
    """Largest resident memory of this process so far, in MB, the benchmark's own tiles with it."""
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(np.ceil(kilobytes / (1024 if sys.platform != "darwin" else 1024**2)))


if __name__ == "__main__":
    main()
