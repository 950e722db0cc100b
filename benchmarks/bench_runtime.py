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
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from data.synth import draw_field
from models import load_detector
from models.export import (
    ExportError,
    add_graph,
    copy_model,
    quantise,
    save_openvino,
    to_openvino,
)
from pipeline.runtimes import OpenVINORuntime, Runtime, TorchRuntime

CPU = torch.device("cpu")
ROUNDS = 7


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=1536, help="of the tile in px")
    parser.add_argument("--model", default="cric-fcos-mobilenet-v2")
    arguments = parser.parse_args()
    tile, _, _ = draw_field(0, (arguments.side, arguments.side), 0.5)
    with tempfile.TemporaryDirectory() as folder:
        runtimes = build_all(arguments.model, Path(folder), tile)
        Console().print(table(measure(runtimes, tile), arguments.side))


def build_all(model: str, folder: Path, tile: NDArray[np.uint8]) -> dict[str, Runtime]:
    """Every runtime and precision that this machine has the packages for."""
    detector = load_detector(model)
    runtimes: dict[str, Runtime] = {
        "torch fp32": TorchRuntime(detector, CPU, "fp32"),
        "torch bf16": TorchRuntime(detector, CPU, "bf16"),
        "OpenVINO fp32": OpenVINORuntime(detector, "fp32"),
        "OpenVINO bf16": OpenVINORuntime(detector, "bf16"),
    }
    try:
        quantised = quantise(to_openvino(detector), [tile[:512, :512]] * 4)
    except ExportError as error:
        Console().print(f"without int8: {error}")
        return runtimes
    card = copy_model(detector, folder)
    save_openvino(quantised, folder, "openvino-int8")
    add_graph(card, folder, "openvino-int8")
    return runtimes | {"OpenVINO int8": OpenVINORuntime(load_detector(folder), "int8")}


@torch.inference_mode()
def measure(runtimes: Mapping[str, Runtime], tile: NDArray[np.uint8]) -> dict[str, float]:
    """Median seconds a tile; a first round, which isn't counted, warms up."""
    times: dict[str, list[float]] = {name: [] for name in runtimes}
    for _ in range(ROUNDS + 1):
        for name, runtime in runtimes.items():
            start = time.perf_counter()
            runtime.run([tile])
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
