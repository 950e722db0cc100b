"""How fast the shipped detector would be on other backbones: OpenVINO on a CPU, each precision.

Its settings on fresh networks of random weights, one thread, one tile, decoding and NMS left out;
rounds are interleaved. Medians of the CPU's time are printed, which other work on the machine
lengthens less than what a clock on the wall tells. int8 needs the packages of
``cytolibra[export]``; what it is calibrated on does not matter for its speed.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from data.synth import draw_field
from models import ModelCard, ModelSource, build_detector, load_detector, save_detector
from models.config import BACKBONES
from models.storage.export import copy_model, quantise, to_openvino
from models.storage.graphs import ExportError, add_graph, save_openvino
from pipeline.network.openvino_runtime import OpenVINORuntime
from pipeline.network.precision import Precision
from scripts.comparison.costs import processor

LITE = [name for name in BACKBONES if name.startswith("efficientnet_lite")]

Tile = NDArray[np.uint8]
Networks = Mapping[tuple[str, Precision], Callable[[Tile], object]]


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=1024, help="of the tile in px")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--backbones", nargs="+", default=["mobilenet_v2", *LITE])
    arguments = parser.parse_args()
    tile, _, _ = draw_field(0, (arguments.side, arguments.side), 0.5)
    networks: dict[tuple[str, Precision], Callable[[Tile], object]] = {}
    for name in arguments.backbones:
        with tempfile.TemporaryDirectory() as folder:
            networks |= networks_of(name, Path(folder), tile)
    medians = measure(networks, tile, arguments.rounds)
    title = f"{arguments.side} px, one thread of {processor()}; medians of {arguments.rounds}"
    Console(width=120).print(table(arguments.backbones, medians, title))


def networks_of(name: str, folder: Path, tile: Tile) -> Networks:
    """A backbone's networks in the precisions that this machine has."""
    shipped = load_detector()
    assert shipped.card is not None
    config = shipped.config.model_dump(exclude={"image_mean", "image_std"})
    fresh = build_detector(config | {"backbone": name})
    thresholds = shipped.card.thresholds
    card = ModelCard(name=name, detector=fresh.config, mpp=shipped.card.mpp, thresholds=thresholds)
    save_detector(fresh, card, folder / "trained")
    detector = load_detector(folder / "trained")
    source = ModelSource.of(detector)
    networks: dict[tuple[str, Precision], Callable[[Tile], object]] = {}
    for precision in ("fp32", "bf16"):
        try:
            networks[name, precision] = on_one_thread(source, precision)
        except ExportError as error:
            Console().print(f"without {precision}: {error}")
    try:
        quantised = quantise(to_openvino(detector), [tile[:512, :512]] * 4)
    except ExportError as error:
        Console().print(f"without int8: {error}")
        return networks
    exported = folder / "exported"
    card = copy_model(detector, exported)
    save_openvino(quantised, exported, "openvino-int8")
    add_graph(card, exported, "openvino-int8")
    networks[name, "int8"] = on_one_thread(ModelSource.find(exported), "int8")
    return networks


def on_one_thread(model: ModelSource, precision: Precision) -> Callable[[Tile], object]:
    """The network on OpenVINO."""
    thresholds = list(model.card.thresholds.values())
    return OpenVINORuntime(model, thresholds, precision, threads=1).run


def measure(networks: Networks, tile: Tile, rounds: int) -> dict[tuple[str, Precision], float]:
    """Median seconds of the CPU a tile; a first round, which isn't counted, warms up."""
    times: dict[tuple[str, Precision], list[float]] = {key: [] for key in networks}
    for _ in range(rounds + 1):
        for key, network in networks.items():
            start = time.process_time()
            network(tile)
            times[key].append(time.process_time() - start)
    return {key: statistics.median(of_one[1:]) for key, of_one in times.items()}


def table(
    names: Sequence[str], medians: Mapping[tuple[str, Precision], float], title: str
) -> Table:
    """The medians in ms, and how many times as long as the first backbone's each is."""
    result = Table(title=title)
    result.add_column("backbone")
    precisions: tuple[Precision, ...] = ("fp32", "bf16", "int8")
    there = [one for one in precisions if (names[0], one) in medians]
    for precision in there:
        result.add_column(f"{precision}, ms (times {names[0]})", justify="right")
    for name in names:
        pairs = [(medians[name, one], medians[names[0], one]) for one in there]
        result.add_row(name, *(f"{1000 * own:.0f} ({own / base:.2f})" for own, base in pairs))
    return result


if __name__ == "__main__":
    main()
