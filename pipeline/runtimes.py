"""What runs the network: torch anywhere, OpenVINO on a CPU.

A runtime turns tiles into raw outputs; what they mean is decoded the same way for all of them, by
`models.DenseDetector.decode`.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch._dynamo.exc import TorchDynamoException

from configs import ConfigError
from models import DenseDetector, ModelCard
from models.card import GraphKind
from models.export import ExportError, anchors_of, openvino_core, read_openvino, to_openvino

Precision = Literal["fp32", "bf16", "fp16", "int8"]
Tiles = Sequence[NDArray[np.uint8]]

MOST_AP_COST = 0.005
"""AP50 of abnormal cells that the precision which "auto" takes may lose against fp32."""

FIXED_SHAPES = 4
"""Shapes of tiles for which a network is compiled of its own."""

_BF16 = ("avx512_bf16", "amx_bf16")
_INT8 = ("avx512_vnni", "avx_vnni", "amx_int8")
"""Instruction sets, as torch names them, that compute in a precision natively."""

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class RawOutputs(NamedTuple):
    """The network's outputs for one or several tiles: what `DenseDetector.decode` takes."""

    outputs: dict[str, Tensor]
    anchors: list[Tensor]
    sizes: Sequence[tuple[int, int]]


class Runtime(Protocol):
    """Something that runs the network.

    Attributes:
        name: "torch" or "openvino".
        precision: what it computes in.
        sha256: of the weights that it runs; empty for a detector made in memory.
        fallback: why this is not the runtime that would be taken first; None where it is.
    """

    name: str
    precision: Precision
    sha256: str
    fallback: str | None

    def run(self, tiles: Tiles) -> list[RawOutputs]:
        """Raw outputs of (H, W, 3) RGB tiles, in their order."""


class TorchRuntime:
    """The detector's own modules; tiles of a batch together.

    Args:
        detector: on whatever device.
        device: where it is to run.
        precision: "fp32", "bf16" or "fp16".
        fallback: why this is not the runtime that would be taken first.
        compiled: whether by ``torch.compile``, at the first tile of each size.
    """

    name = "torch"

    def __init__(
        self,
        detector: DenseDetector,
        device: torch.device,
        precision: Precision,
        fallback: str | None = None,
        compiled: bool = False,
    ) -> None:
        self.precision = precision
        self.sha256 = detector.card.sha256 if detector.card else ""
        self.fallback = fallback
        self._detector = detector.to(device).to(memory_format=torch.channels_last)
        self._device = device
        if compiled:
            for part in (detector.backbone, detector.head):
                part.compile(dynamic=False)

    def run(self, tiles: Tiles) -> list[RawOutputs]:
        """See `Runtime`.

        Raises:
            ConfigError: the network is to be compiled, and can't be.
        """
        images = [self._load(tile).permute(2, 0, 1).float().div_(255) for tile in tiles]
        batch, _ = self._detector.transform(images)
        reduced = self.precision != "fp32"
        with torch.autocast(self._device.type, _DTYPES[self.precision], enabled=reduced):
            try:
                outputs, anchors, _ = self._detector.run(batch)
            except TorchDynamoException as error:
                reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
                raise ConfigError(
                    f"runtime.compile: torch can't compile the network here: {reason}; leave it out"
                ) from error
        return [RawOutputs(outputs, anchors, batch.image_sizes)]

    def _load(self, tile: NDArray[np.uint8]) -> Tensor:
        """Bytes to the device, a quarter of what floats would be."""
        pixels = torch.from_numpy(tile)
        if self._device.type == "cuda":  # from pinned memory, beside the network of other tiles
            return pixels.pin_memory().to(self._device, non_blocking=True)
        return pixels


class OpenVINORuntime:
    """The network compiled for this CPU; each tile by itself, so that none pads another.

    A network of fixed shape takes a sixth less time than one for any shape. The first few shapes
    that come, which are all that a batch of slides has, get one each.

    Args:
        detector: with its card, on the CPU.
        precision: "fp32", "bf16" or "int8".
        threads: of the CPU; None for one a core.

    Raises:
        ExportError: OpenVINO is missing, or can't run this network in this precision here.
        ModelFileError: an exported network beside the weights is not what the sidecar says.
    """

    name = "openvino"
    fallback: str | None = None

    def __init__(
        self, detector: DenseDetector, precision: Precision, threads: int | None = None
    ) -> None:
        self.precision = precision
        card = detector.card
        self.sha256 = card.sha256 if card else ""
        if card and precision == "int8":
            self.sha256 = card.graphs["openvino-int8"].sha256
        self._detector = detector.cpu()
        self._model = _find_model(detector, precision)
        self._threads = threads
        self._any_shape = compile_openvino(self._model, precision, threads)
        self._of_shape: dict[tuple[int, ...], Any] = {}
        self._names = [port.get_any_name() for port in self._any_shape.outputs]

    def run(self, tiles: Tiles) -> list[RawOutputs]:
        """See `Runtime`."""
        return [self._run_one(tile) for tile in tiles]

    def _run_one(self, tile: NDArray[np.uint8]) -> RawOutputs:
        found = self._network(tile.shape)(np.ascontiguousarray(tile)[None]).values()
        outputs = {
            name: torch.from_numpy(value) for name, value in zip(self._names, found, strict=True)
        }
        size = (tile.shape[0], tile.shape[1])
        return RawOutputs(outputs, anchors_of(self._detector, size), [size])

    def _network(self, shape: tuple[int, ...]) -> Any:
        """The network for tiles of a shape: (H, W, 3)."""
        if shape not in self._of_shape and len(self._of_shape) < FIXED_SHAPES:
            fixed = self._model.clone()
            fixed.reshape([1, *shape])
            self._of_shape[shape] = compile_openvino(fixed, self.precision, self._threads)
        return self._of_shape.get(shape, self._any_shape)


def build_runtime(
    detector: DenseDetector,
    name: Literal["auto", "torch", "openvino"],
    device: torch.device,
    precision: Literal["auto"] | Precision,
    threads: int | None = None,
    compiled: bool = False,
) -> Runtime:
    """The runtime for a device; "auto" is OpenVINO on a CPU, and torch where that can't be had.

    ``threads`` are OpenVINO's, ``compiled`` is torch's; see there.

    Raises:
        ConfigError: the runtime or the precision does not fit the device or the model.
        ModelFileError: see `OpenVINORuntime`.
    """
    fallback = None
    if name == "openvino" and device.type != "cpu":
        raise ConfigError(f"runtime openvino: for CPUs only, not {device}; use torch, or cpu")
    if name != "torch" and device.type == "cpu":
        try:
            chosen = find_precision(precision, device, "openvino", detector.card)
            return OpenVINORuntime(detector, chosen, threads)
        except ExportError as error:
            if name == "openvino" or precision == "int8":
                raise ConfigError(f"runtime openvino: {error}") from error
            fallback = f"the network runs on torch, more slowly: {error}"
    chosen = find_precision(precision, device, "torch", detector.card)
    return TorchRuntime(detector, device, chosen, fallback, compiled)


def find_precision(
    name: Literal["auto"] | Precision,
    device: torch.device,
    runtime: Literal["torch", "openvino"] = "torch",
    card: ModelCard | None = None,
) -> Precision:
    """What "auto" comes to on a device, for a model.

    On a CPU int8 where it has instructions for it and the model a network in it that was measured,
    else bf16 where it computes that natively, else fp32; never one that is known to cost more than
    `MOST_AP_COST`.

    Raises:
        ConfigError: the precision does not fit the device, the runtime or the model.
    """
    if name != "auto":
        _check_precision(name, device, runtime, card)
        return name
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    has_int8 = runtime == "openvino" and card is not None and "openvino-int8" in card.graphs
    if has_int8 and _has_any(_INT8) and _known_cost(card, "int8", unknown=1.0) <= MOST_AP_COST:
        return "int8"
    if computes_bf16() and _known_cost(card, "bf16", unknown=0.0) <= MOST_AP_COST:
        return "bf16"
    return "fp32"


def computes_bf16() -> bool:
    """Whether this CPU computes bf16 natively."""
    return _has_any(_BF16)


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


def compile_openvino(model: Any, precision: Precision, threads: int | None = None) -> Any:
    """Compiles an ``openvino.Model`` for this CPU, or takes it from the cache.

    Raises:
        ExportError: it can't be compiled, or not in this precision.
    """
    core = openvino_core()
    options: dict[str, Any] = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
        # Pinned threads of two processes would share one core.
        "ENABLE_CPU_PINNING": False,
    }
    if threads is not None:
        options["INFERENCE_NUM_THREADS"] = threads
    if folder := cache_folder():
        options["CACHE_DIR"] = str(folder)
    try:
        return core.compile_model(model, "CPU", options)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise ExportError(f"OpenVINO can't compile the network: {reason}") from error


def _find_model(detector: DenseDetector, precision: Precision) -> Any:
    """The exported network where there is one, else one made of the detector."""
    kind: GraphKind = "openvino-int8" if precision == "int8" else "openvino"
    if detector.card and detector.folder and kind in detector.card.graphs:
        return read_openvino(detector.folder, kind, detector.card.graphs[kind])
    return to_openvino(detector)


def _check_precision(
    name: Precision, device: torch.device, runtime: str, card: ModelCard | None
) -> None:
    if name == "fp16" and device.type == "cpu":
        # A CPU computes it slower than fp32 and less exactly than bf16.
        raise ConfigError("precision fp16: for GPUs only; on a CPU use auto, bf16 or fp32")
    if name == "bf16" and runtime == "openvino" and not computes_bf16():
        raise ExportError("this CPU does not compute bf16, and OpenVINO would take fp32 instead")
    if name == "int8" and runtime != "openvino":
        raise ConfigError(
            "precision int8: only OpenVINO computes it, on a CPU; use auto, bf16 or fp32"
        )
    if name == "int8" and (card is None or "openvino-int8" not in card.graphs):
        raise ConfigError(
            f"precision int8: {card.name if card else 'the model'} has no int8 network; make one "
            "with cytolibra export --to openvino --int8"
        )


def _has_any(instructions: Sequence[str]) -> bool:
    native = torch.cpu.get_capabilities()
    return any(native.get(name) for name in instructions)


def _known_cost(card: ModelCard | None, precision: Precision, unknown: float) -> float:
    """AP50 of abnormal cells that a precision was measured to lose with a model."""
    costs = card.ap_cost.get(precision, {}) if card else {}
    return costs.get("ap50/abnormal", unknown)


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
