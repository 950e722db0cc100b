"""What a second look costs: a crop, read and graded, against a tile, read and screened.

Draws a slide, screens its tiles with the shipped model, and looks at as many places as a second
look would, with an untrained MobileNetV2 of 128 px crops at 0.25 µm per pixel. Seconds are of
processor time, of all threads together, so that other work on the machine counts for less; the
last line is what `pipeline.cells.second_look.CROP_COST` stands for.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from data.synth import CLASSES, NamedSource, Scene, write_slide
from models import DEFAULT_MODEL, ModelSource
from models.card import GraderGraphKind, SecondLookFacts
from models.grader import Grader, GraderConfig, GradingNetwork, save_grader
from models.storage.export import grader_to_openvino, quantise
from models.storage.graphs import GRADER_FILES, add_grader_graph, save_openvino
from pipeline.cells.crops import read_crop, reading_order
from pipeline.cells.second_look import SecondLookSettings, count_affordable
from pipeline.flow import in_batches
from pipeline.in_force import settle_tiler
from pipeline.network.detector import TileDetector
from pipeline.network.grading import Grader as Runtime
from pipeline.network.grading import build_grader
from pipeline.settings import ScreenSettings
from pipeline.slides.slide import Slide, open_slide
from pipeline.tiles.foreground import find_foreground
from pipeline.tiles.tiler import TilePlan, plan_tiles, settle_downsample
from pipeline.tiles.tilereader import read_tile

ROUNDS = 3
CALIBRATION = 64
"""Crops from which the int8 graph's ranges come."""


@dataclass(frozen=True)
class Setup:
    """A slide with its tiles, and places on it to look at again."""

    slide: Slide
    plan: TilePlan
    centers: NDArray[np.float64]
    size: int
    downsample: float

    def crops(self) -> NDArray[np.uint8]:
        """(N, S, S, 3) RGB around all places, in the order in which screening reads them."""
        order = reading_order(self.centers, self.size * self.downsample)
        read = [read_crop(self.slide, self.centers[i], self.size, self.downsample) for i in order]
        return np.stack([pixels for pixels in read if pixels is not None])


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=12000, help="of the slide in px at 0.25 µm")
    parser.add_argument("--model", default=DEFAULT_MODEL, help="name or folder")
    arguments = parser.parse_args()
    model = ModelSource.find(arguments.model)
    detector = TileDetector(model)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        scene = Scene(1, (arguments.side, arguments.side), 0.25, "conventional", 150.0, 0.05, 4)
        path = write_slide(folder, NamedSource("slide.tif", scene), CLASSES, lambda _: None)
        with open_slide(path) as slide:
            setup = prepare(slide, detector)
            facts = make_grader(model, folder, setup.crops()[:CALIBRATION])
            graders = {
                precision: build_grader(folder, facts, "openvino", "cpu", precision)
                for precision in ("fp32", "int8")
            }
            rounds = [measure(setup, detector, graders) for _ in range(ROUNDS)]
        seconds = {key: statistics.median(one[key] for one in rounds) for key in rounds[0]}
        Console().print(table(setup, seconds, f"detector {detector.runtime.precision}"))


def prepare(slide: Slide, detector: TileDetector) -> Setup:
    """As many places as a second look is at by default, anywhere in tiles that are screened."""
    settings = ScreenSettings()
    tiler = settle_tiler(settings, detector.card)
    plan = plan_tiles(
        slide.bounds,
        slide.mpp,
        detector.card.mpp,
        tiler,
        find_foreground(slide, settings.foreground),
    )
    size = GraderConfig().size
    count = count_affordable(SecondLookSettings(), len(plan), tiler.size, size)
    rng = np.random.default_rng(0)
    cores = plan.grid.cores(plan.indices)[rng.integers(0, len(plan), count)]
    centers = rng.uniform(cores[:, :2], cores[:, 2:])
    return Setup(slide, plan, centers, size, settle_downsample(GraderConfig().mpp / slide.mpp))


def make_grader(model: ModelSource, folder: Path, crops: NDArray[np.uint8]) -> SecondLookFacts:
    """An untrained grader for a model's classes, with both graphs."""
    config, classes = GraderConfig(), model.card.detector.classes
    grader = Grader(config, len(classes)).eval()
    facts = SecondLookFacts(
        name="untrained",
        backbone=config.backbone,
        classes=classes,
        mean=config.image_mean,
        std=config.image_std,
        thresholds=model.card.thresholds,
        sha256=save_grader(grader, folder),
    )
    card = model.card.model_copy(update={"second_look": facts})
    exact = grader_to_openvino(GradingNetwork(grader, 1.0).eval(), config.size)
    networks: dict[GraderGraphKind, object] = {"openvino": exact}
    networks["openvino-int8"] = quantise(exact, list(crops))
    for kind, network in networks.items():
        save_openvino(network, folder, kind, GRADER_FILES)
        card = add_grader_graph(card, folder, kind)
    assert card.second_look is not None
    return card.second_look


def measure(setup: Setup, detector: TileDetector, graders: dict[str, Runtime]) -> dict[str, float]:
    """Seconds of processor time a tile and a crop."""
    tiles = [read_tile(setup.slide, setup.plan.grid, i).pixels for i in setup.plan.indices[:4]]
    detector.detect(tiles[:1])

    def read_tiles() -> None:
        for index in setup.plan.indices.tolist():
            read_tile(setup.slide, setup.plan.grid, index)

    crops = setup.crops()
    times = {
        "tile, read": clocked(read_tiles) / len(setup.plan),
        "tile, detector": clocked(lambda: [detector.detect([t]) for t in tiles]) / len(tiles),
        "crop, read": clocked(setup.crops) / len(crops),
    }
    for precision, grader in graders.items():
        batches = [
            np.stack(batch)
            for batch in in_batches(list(crops), grader.batch_size)
            if len(batch) == grader.batch_size
        ]
        grader.grade(batches[0])

        def grade_all(grader: Runtime = grader, batches: list[object] = batches) -> None:
            for batch in batches:
                grader.grade(batch)

        times[f"crop, grader {precision}"] = clocked(grade_all) / (len(batches) * grader.batch_size)
    return times


def clocked(work: Callable[[], object]) -> float:
    """Seconds of processor time that a piece of work takes."""
    start = time.process_time()
    work()
    return time.process_time() - start


def table(setup: Setup, seconds: dict[str, float], title: str) -> Table:
    """Milliseconds, and what a pixel of a crop costs against one of a tile."""
    made = Table(title=f"{title}; {len(setup.plan)} tiles, {len(setup.centers)} crops")
    made.add_column("")
    made.add_column("ms of processor time", justify="right")
    for name, value in seconds.items():
        made.add_row(name, f"{1000 * value:.2f}")
    a_tile = (seconds["tile, read"] + seconds["tile, detector"]) / setup.plan.grid.settings.size**2
    for precision in ("fp32", "int8"):
        a_crop = (seconds["crop, read"] + seconds[f"crop, grader {precision}"]) / setup.size**2
        made.add_row(f"a crop's pixel over a tile's, {precision}", f"{a_crop / a_tile:.2f}")
    return made


if __name__ == "__main__":
    main()
