"""The network on OpenVINO, on CPUs."""

from __future__ import annotations

import os
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models import ModelSource
from models.card import GraphKind
from models.storage.graphs import ExportError, openvino_core, read_openvino
from pipeline.geometry import Detections
from pipeline.network.decoding import find_decoder
from pipeline.network.devices import count_cores
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
        card = model.card
        int8 = precision == "int8"
        self.sha256 = card.graphs["openvino-int8"].sha256 if int8 else card.sha256
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


def cache_folder() -> Path | None:
    """Where compiled networks are kept for the next start; None where nothing can be kept.

    ``CYTOLIBRA_CACHE`` names it; by default it lies in the user's own cache folder.
    """
    try:
        folder = _user_cache() / "openvino"
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except (OSError, RuntimeError):  # not writable, or a user without a home
        return None


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
    if folder := cache_folder():
        options["CACHE_DIR"] = str(folder)
    try:
        return core.compile_model(model, "CPU", options)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise ExportError(f"OpenVINO can't compile the network: {reason}") from error


def _find_model(model: ModelSource, precision: Precision) -> Any:
    """The exported network where there is one, else one made of the detector."""
    kind: GraphKind = "openvino-int8" if precision == "int8" else "openvino"
    if model.folder and kind in model.card.graphs:
        return read_openvino(model.folder, kind, model.card.graphs[kind])
    from models.storage.export import to_openvino

    return to_openvino(model.detector.cpu())


def _user_cache() -> Path:
    if named := os.environ.get("CYTOLIBRA_CACHE"):
        return Path(named)
    if sys.platform == "win32":
        default = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        default = Path.home() / "Library" / "Caches"
    else:
        default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return default / "cytolibra"
