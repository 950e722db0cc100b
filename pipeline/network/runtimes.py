"""What runs the network: torch anywhere, OpenVINO on a CPU."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from configs import ConfigError
from models import ModelSource
from models.card import ModelCard
from models.storage.graphs import ExportError
from pipeline.geometry import Detections
from pipeline.network.devices import count_cores, leave_cores_to_network
from pipeline.network.fastest import find_fastest, known_fastest
from pipeline.network.openvino_runtime import OpenVINORuntime, compile_tile, weights_in_force
from pipeline.network.precision import Precision, candidates, find_precision

MOST_LANES = 4
"""Tiles in OpenVINO's network at once: each needs some 0.1 GB."""


class Runtime(Protocol):
    """Something that runs the network and decodes what it says.

    Attributes:
        name: "torch" or "openvino".
        precision: what it computes in.
        sha256: of the weights that it runs; empty for a detector made in memory.
        fallback: why this is not the runtime that would be taken first; None where it is.
        lanes: batches that it takes at once, each from a thread of its own.
    """

    name: str
    precision: Precision
    sha256: str
    fallback: str | None
    lanes: int

    def detect(self, tiles: Sequence[NDArray[np.uint8]]) -> list[Detections]:
        """Cells of (H, W, 3) RGB tiles, in their pixels, by falling score.

        Raises:
            MemoryError: the batch is too large for the device.
            NoNumbersError: what the network says is NaN.
        """


def build_runtime(
    model: ModelSource,
    thresholds: Sequence[float],
    name: Literal["auto", "torch", "openvino"],
    device: str,
    precision: Literal["auto"] | Precision,
    threads: int | None = None,
    compiled: bool = False,
) -> Runtime:
    """The runtime for a device; "auto" is OpenVINO on a CPU, and torch where that can't be had.

    ``thresholds`` are each class's least score; ``threads`` the CPU's for the network, of which
    OpenVINO has a lane for each, up to `MOST_LANES`; ``compiled`` is torch's, see there.

    Raises:
        ConfigError: the runtime or the precision does not fit the device or the model.
        ModelFileError: weights or network are missing, or not what the sidecar says.
    """
    fallback = None
    if name == "openvino" and device != "cpu":
        raise ConfigError(f"runtime openvino: for CPUs only, not {device}; use torch, or cpu")
    if name != "torch" and device == "cpu":
        try:
            lanes = min(threads or count_cores(), MOST_LANES)
            chosen = _find_precision(precision, model, threads, lanes)
            runtime = OpenVINORuntime(model, thresholds, chosen, threads, lanes)
        except ExportError as error:
            if name == "openvino" or precision == "int8":
                raise ConfigError(f"runtime openvino: {error}") from error
            fallback = f"the network runs on torch, more slowly: {error}"
        else:
            leave_cores_to_network()
            return runtime
    chosen = find_precision(precision, device, "torch", model.card)
    import torch

    from pipeline.network.torch_runtime import TorchRuntime

    if threads is not None:
        torch.set_num_threads(threads)
    model.detector.use_thresholds(thresholds)
    return TorchRuntime(model.detector, device, chosen, fallback, compiled)


@dataclass(frozen=True)
class RuntimeFacts:
    """What a report and a record tell of a runtime; see `Runtime`."""

    name: str
    precision: Precision
    sha256: str
    fallback: str | None = None


def foresee_runtime(
    card: ModelCard,
    name: Literal["auto", "torch", "openvino"],
    device: str,
    precision: Literal["auto"] | Precision,
) -> RuntimeFacts | None:
    """What `build_runtime` will come to, found out in no time, and without loading anything.

    Only if nothing fails: OpenVINO may be there and not load. None where it has to be tried.

    Raises:
        ConfigError: the precision does not fit the device or the model.
    """
    if name == "torch" or device != "cpu":
        return None
    chosen: Precision | None = find_precision(precision, device, "openvino", card)
    if precision == "auto":
        chosen = known_fastest(card, candidates(device, "openvino", card))
    if chosen is None:
        return None
    return RuntimeFacts("openvino", chosen, weights_in_force(card, chosen))


def _find_precision(
    name: Literal["auto"] | Precision, model: ModelSource, threads: int | None, lanes: int
) -> Precision:
    """For OpenVINO on this CPU."""
    chosen = find_precision(name, "cpu", "openvino", model.card)
    if name != "auto":
        return chosen
    among = candidates("cpu", "openvino", model.card)
    return find_fastest(model.card, among, partial(compile_tile, model, threads, lanes))
