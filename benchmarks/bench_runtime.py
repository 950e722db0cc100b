"""How fast the network alone runs on a CPU: torch and OpenVINO, in each precision.

The shipped model on one tile, decoding and NMS left out; rounds are interleaved, and medians
printed. Ratios within one run are to be trusted, seconds depend on the machine. int8 needs the
packages of ``cytolibra[export]``; what it is calibrated on does not matter for its speed.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from data.synth import draw_field
from models import DenseDetector, ModelSource, load_detector
from models.storage.export import copy_model, quantise, to_openvino
from models.storage.graphs import ExportError, add_graph, save_openvino
from pipeline.network.openvino_runtime import OpenVINORuntime
from pipeline.network.precision import Precision
from pipeline.network.torch_runtime import TorchRuntime

Tile = NDArray[np.uint8]
Network = Callable[[Tile], object]

ROUNDS = 7


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=1536, help="of the tile in px")
    parser.add_argument("--model", default="cric-fcos-mobilenet-v2")
    arguments = parser.parse_args()
    tile, _, _ = draw_field(0, (arguments.side, arguments.side), 0.5)
    with tempfile.TemporaryDirectory() as folder:
        networks = build_all(arguments.model, Path(folder), tile)
        Console().print(table(measure(networks, tile), arguments.side))


def build_all(model: str, folder: Path, tile: Tile) -> dict[str, Network]:
    """Every runtime and precision that this machine has the packages for."""
    detector = load_detector(model)
    networks = {
        "torch fp32": on_torch(detector, "fp32"),
        "torch bf16": on_torch(detector, "bf16"),
        "OpenVINO fp32": on_openvino(ModelSource.of(detector), "fp32"),
        "OpenVINO bf16": on_openvino(ModelSource.of(detector), "bf16"),
    }
    try:
        quantised = quantise(to_openvino(detector), [tile[:512, :512]] * 4)
    except ExportError as error:
        Console().print(f"without int8: {error}")
        return networks
    card = copy_model(detector, folder)
    save_openvino(quantised, folder, "openvino-int8")
    add_graph(card, folder, "openvino-int8")
    return networks | {"OpenVINO int8": on_openvino(ModelSource.find(folder), "int8")}


def on_torch(detector: DenseDetector, precision: Precision) -> Network:
    """The network on torch."""
    runtime = TorchRuntime(detector, "cpu", precision)
    return lambda tile: runtime.run([tile])


def on_openvino(model: ModelSource, precision: Precision) -> Network:
    """The network on OpenVINO."""
    return OpenVINORuntime(model, list(model.card.thresholds.values()), precision).run


@torch.inference_mode()
def measure(networks: Mapping[str, Network], tile: Tile) -> dict[str, float]:
    """Median seconds a tile; a first round, which isn't counted, warms up."""
    times: dict[str, list[float]] = {name: [] for name in networks}
    for _ in range(ROUNDS + 1):
        for name, network in networks.items():
            start = time.perf_counter()
            network(tile)
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(of_one[1:]) for name, of_one in times.items()}


def table(median: Mapping[str, float], side: int) -> Table:
    """The medians, and how many times faster than torch's fp32 each is."""
    title = f"{side} x {side} px, {torch.get_num_threads()} threads; medians of {ROUNDS}"
    result = Table(title=title)
    for heading in ("runtime", "ms a tile", "times torch fp32"):
        result.add_column(heading, justify="left" if heading == "runtime" else "right")
    for name, seconds in median.items():
        ratio = median["torch fp32"] / seconds
        result.add_row(name, f"{1000 * seconds:.0f}", f"{ratio:.1f}")
    return result


if __name__ == "__main__":
    main()
