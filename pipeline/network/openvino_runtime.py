"""The network on OpenVINO, on CPUs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models import ModelSource
from models.card import GraphKind, ModelCard
from models.storage.graphs import ExportError, openvino_core, read_openvino
from pipeline.geometry import Detections
from pipeline.network.decoding import find_decoder
from pipeline.network.devices import count_cores
from pipeline.network.fastest import SIDE
from pipeline.network.kept import cache_folder, convert_once
from pipeline.network.precision import Precision

FIXED_SHAPES = 4
"""Shapes of tiles for which a network is compiled of its own."""


class OpenVINORuntime:
    """The network compiled for this CPU; each tile by itself, so that none pads another.

    A network of fixed shape takes a sixth less time than one for any shape. The first few shapes
    that come, which are all that a batch of slides has, get one each. Several threads may call at
    once: up to ``lanes`` of them are served side by side, each by its share of the cores, so that a
    tile that waits for a core which reads keeps no other core waiting.

    See `pipeline.network.runtimes.Runtime`.

    Args:
        model: whose exported network runs, or one made of its detector where there is none.
        thresholds: (C,) least score of each class.
        precision: "fp32", "bf16" or "int8".
        threads: of the CPU; None for one a core.
        lanes: tiles side by side; each needs some 0.1 GB.

    Raises:
        ExportError: OpenVINO is missing, or can't run this network in this precision here.
        ModelFileError: an exported network beside the weights is not what the sidecar says.
    """

    name = "openvino"
    fallback: str | None = None

    def __init__(
        self,
        model: ModelSource,
        thresholds: Sequence[float],
        precision: Precision,
        threads: int | None = None,
        lanes: int = 1,
    ) -> None:
        self.precision = precision
        self.sha256 = weights_in_force(model.card, precision)
        self._model = _find_model(model, precision)
        self._decode = find_decoder(model, thresholds)
        self._threads = threads
        self.lanes = lanes
        self._any_shape = self._compile(self._model)
        self._of_shape: dict[tuple[int, ...], CompiledNetwork] = {}
        self._compiling = threading.Lock()
        self._names = [port.get_any_name() for port in self._model.outputs]

    def detect(self, tiles: Sequence[NDArray[np.uint8]]) -> list[Detections]:
        """See `Runtime`."""
        return [self._decode(self.run(tile), tile.shape[:2]) for tile in tiles]

    def run(self, tile: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        """The network's raw outputs for one tile, by name."""
        found = self._network(tile.shape).infer(np.ascontiguousarray(tile)[None])
        return dict(zip(self._names, found, strict=True))

    def _network(self, shape: tuple[int, ...]) -> CompiledNetwork:
        """The network for tiles of a shape: (H, W, 3)."""
        with self._compiling:
            if shape not in self._of_shape and len(self._of_shape) < FIXED_SHAPES:
                fixed = self._model.clone()
                fixed.reshape([1, *shape])
                self._of_shape[shape] = self._compile(fixed)
            return self._of_shape.get(shape, self._any_shape)

    def _compile(self, model: Any) -> CompiledNetwork:
        return CompiledNetwork(compile_openvino(model, self.precision, self._threads, self.lanes))


class CompiledNetwork:
    """A compiled network, with a request for each thread that calls at the same time."""

    def __init__(self, compiled: Any) -> None:
        self.compiled = compiled
        self._idle: list[Any] = []

    def infer(self, pixels: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        """All outputs, as copies."""
        try:
            request = self._idle.pop()
        except IndexError:
            request = self.compiled.create_infer_request()
        found = list(request.infer([pixels], share_inputs=True).values())
        self._idle.append(request)
        return found


def weights_in_force(card: ModelCard, precision: Precision) -> str:
    """SHA-256 of what is run: of the weights, or of the int8 network that was made of them."""
    return card.graphs["openvino-int8"].sha256 if precision == "int8" else card.sha256


def compile_tile(
    model: ModelSource, threads: int | None, lanes: int, precision: Precision
) -> Callable[[NDArray[np.uint8]], object]:
    """A model's network for one tile of `SIDE` pixels, to be timed; errors as of the runtime."""
    network = _find_model(model, precision).clone()
    network.reshape([1, SIDE, SIDE, 3])
    compiled = compile_openvino(network, precision, threads, lanes)
    return lambda pixels: compiled([pixels])


def compile_openvino(
    model: Any, precision: Precision, threads: int | None = None, lanes: int = 1
) -> Any:
    """Compiles an ``openvino.Model`` for this CPU, or takes it from the cache.

    ``threads`` and ``lanes`` as of `OpenVINORuntime`.

    Raises:
        ExportError: it can't be compiled, or not in this precision.
    """
    core = openvino_core()
    options: dict[str, Any] = {
        "NUM_STREAMS": lanes,
        "INFERENCE_NUM_THREADS": threads or count_cores(),
        "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
        # Pinned threads of two processes would share one core.
        "ENABLE_CPU_PINNING": False,
    }
    if folder := cache_folder("openvino"):
        options["CACHE_DIR"] = str(folder)
    try:
        return core.compile_model(model, "CPU", options)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise ExportError(f"OpenVINO can't compile the network: {reason}") from error


def _find_model(model: ModelSource, precision: Precision) -> Any:
    """The exported network where there is one, else one that was made of the detector."""
    kind: GraphKind = "openvino-int8" if precision == "int8" else "openvino"
    if model.folder and kind in model.card.graphs:
        return read_openvino(model.folder, kind, model.card.graphs[kind])
    return convert_once(model)
