"""Networks for other runtimes: OpenVINO's graphs in fp32 and int8, and a detector as ONNX.

A detector's graph takes (1, H, W, 3) uint8 RGB of any size and gives the raw outputs of
`DenseDetector.run` by name. Scaling, normalisation and padding lie inside it; decoding and NMS stay
outside, where quantisation can't spoil them. A grader's takes crops and gives probabilities.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torchvision.models.detection.image_list import ImageList

from configs import ConfigError
from models.card import SIDECAR, ModelCard, ModelFileError, read_card, save_card
from models.detectors.dense import DenseDetector
from models.storage.graphs import (
    LOOK_COST,
    ExportError,
    copy_files,
    first_line,
    load_openvino,
    without_int8_cost,
)

PIXELS = "pixels"
"""Name of a graph's input."""

PROBABILITIES = "probabilities"
"""Name of the output of a grader's graph."""


class PixelNetwork(nn.Module):
    """What another runtime takes of a detector: from pixels to raw outputs."""

    def __init__(self, detector: DenseDetector) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """The raw outputs, (1, A, ...) float32 each, of (1, H, W, 3) uint8 pixels."""
        transform = self.detector.transform
        height, width = pixels.shape[1:3]
        # The batch as it is: taken apart and stacked again, as images of any sizes are, it would be
        # laid out anew twice, a fifteenth of the network's time.
        images = transform.normalised(
            pixels.permute(0, 3, 1, 2).float().div(255),
            self.detector.config.padded(height),
            self.detector.config.padded(width),
        )
        batch = ImageList(images, [(height, width)])
        outputs, _, _ = self.detector.run(batch)
        return tuple(outputs.values())


def anchors_of(detector: DenseDetector, size: tuple[int, int]) -> list[Tensor]:
    """The anchors that go with a graph's outputs for one tile of (height, width) pixels."""
    height, width = (detector.config.padded(side) for side in size)
    nothing = torch.empty(1)
    maps = [
        nothing.expand(1, 1, height >> level, width >> level)
        for level in detector.config.pyramid.levels
    ]
    batch = ImageList(nothing.expand(1, 3, height, width), [size])
    anchors: list[Tensor] = detector.anchor_generator(batch, maps)
    return anchors


def to_openvino(detector: DenseDetector) -> Any:
    """The detector's network as an ``openvino.Model`` for tiles of any size, in float32.

    Raises:
        ExportError: OpenVINO is missing, or can't express one of the network's operations.
    """
    load_openvino()  # before the work of the rest
    network, example, names = _prepare(detector)
    return network_to_openvino(network, example, names, detector.config.name)


def grader_to_openvino(network: nn.Module, size: int) -> Any:
    """A grader's network as an ``openvino.Model`` for any number of crops, in float32.

    Args:
        network: from (N, S, S, 3) uint8 pixels to (N, C + 1) probabilities, in evaluation mode;
            see `models.grader.GradingNetwork`.
        size: side of a crop in pixels.

    Raises:
        ExportError: OpenVINO is missing, or can't express one of the network's operations.
    """
    example = torch.zeros((2, size, size, 3), dtype=torch.uint8)
    sizes = [-1, size, size, 3]
    return network_to_openvino(network, example, [PROBABILITIES], "the grader", sizes)


def network_to_openvino(
    network: nn.Module,
    example: Tensor,
    names: Sequence[str],
    called: str,
    sizes: Sequence[int] = (1, -1, -1, 3),
) -> Any:
    """A network that takes pixels as an ``openvino.Model``, in float32.

    Args:
        network: takes (N, H, W, 3) uint8.
        example: pixels to trace it with.
        names: of its outputs.
        called: the network's name in an error.
        sizes: of what it takes; -1 for any.

    Raises:
        ExportError: OpenVINO is missing, or can't express one of the network's operations.
    """
    openvino = load_openvino()
    shape = openvino.PartialShape(list(sizes))
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of tracing: Python values that are constants here
            # Not checked by a second trace, which would take a third of the time.
            traced = torch.jit.trace(  # type: ignore[no-untyped-call, unused-ignore]
                network, example, strict=False, check_trace=False
            )
            model = openvino.convert_model(traced, example_input=example, input=[shape])
    except Exception as error:  # OpenVINO's frontends raise many types
        raise ExportError(
            f"{called} can't be converted to OpenVINO: {first_line(error)}"
        ) from error
    for port, name in zip((*model.inputs, *model.outputs), (PIXELS, *names), strict=True):
        port.get_tensor().set_names({name})
    return model


def quantise(model: Any, tiles: Sequence[NDArray[np.uint8]]) -> Any:
    """An int8 twin of an OpenVINO model by NNCF's post-training quantisation.

    With its "performance" preset: a zero of their own for activations that may be negative, as by
    the "mixed" one, costs a tenth of the network's time, and won nothing measurable.

    Args:
        model: from `to_openvino` or `grader_to_openvino`; stays as it is.
        tiles: (H, W, 3) RGB at the model's mpp, or crops of a grader's size; what activations
            look like is learned from them.

    Raises:
        ExportError: NNCF is not installed.
    """
    load_openvino()
    try:
        import nncf
    except ImportError as error:
        raise ExportError(
            "int8 needs NNCF, which is not here: pip install 'cytolibra[export]'"
        ) from error
    nncf.set_log_level(logging.ERROR)
    return nncf.quantize(
        model.clone(),
        nncf.Dataset([tile[None] for tile in tiles]),
        preset=nncf.QuantizationPreset.PERFORMANCE,
        subset_size=len(tiles),
    )


def save_onnx(detector: DenseDetector, path: Path) -> None:
    """Writes the detector's network as one ONNX file.

    Raises:
        ExportError: the exporter's packages are not installed, or ONNX can't express the network.
    """
    tower = detector.config.tower
    if detector.config.name == "reppoints" or (tower is not None and tower.deformable):
        raise ExportError(
            f"{detector.config.name} can't be exported to ONNX: its deformable convolutions don't "
            "survive; use --to openvino"
        )
    network, example, names = _prepare(detector)
    any_size = {1: torch.export.Dim.DYNAMIC, 2: torch.export.Dim.DYNAMIC}
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of operators that are not in this network
            torch.onnx.export(
                network,
                (example,),
                path,
                input_names=[PIXELS],
                output_names=names,
                dynamic_shapes=[any_size],
                external_data=False,
                verbose=False,
            )
    except ImportError as error:
        raise ExportError(
            f"ONNX needs packages that are not here ({first_line(error)}): "
            "pip install 'cytolibra[export]'"
        ) from error
    except torch.onnx.OnnxExporterError as error:
        raise ExportError(
            f"{detector.config.name} can't be exported to ONNX: {first_line(error)}"
        ) from error


def copy_model(detector: DenseDetector, folder: Path) -> ModelCard:
    """Copies a loaded model's weights and sidecar, so that an export is a model of its own.

    Without the graphs that it may have had, but for the one that tells the scale of slides, and
    without what int8 of them loses, unless it stays in its own folder or lies in this one already;
    a grader comes along.

    Raises:
        ModelFileError: the detector was not loaded from a folder.
        ConfigError: the folder can't be written, or holds another model.
    """
    card = check_folder(detector, folder)
    if card is not None:
        return card
    assert detector.card is not None
    assert detector.folder is not None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        kept = {kind: facts for kind, facts in detector.card.graphs.items() if kind == "scale"}
        card = without_int8_cost(detector.card).model_copy(update={"graphs": kept})
        copy_files(detector.folder, card, folder)
        save_card(card, folder)
    except OSError as error:
        raise ConfigError(f"--out {folder}: can't be written: {error.strerror}") from error
    return card


def check_folder(detector: DenseDetector, folder: Path) -> ModelCard | None:
    """The card of a model that lies where a loaded one is to be exported to; None where none does.

    It has graphs and costs of its own, and is the same model else.

    Raises:
        ModelFileError: the detector was not loaded from a folder, or the card there is damaged.
        ConfigError: it is another model's, which would be lost.
    """
    if detector.card is None or detector.folder is None:
        raise ModelFileError("only a model that was loaded from its folder can be exported")
    if folder.resolve() == detector.folder.resolve():
        return detector.card
    if not (folder / SIDECAR).is_file():
        return None
    card = read_card(folder)
    here, wanted = _without_exports(card), _without_exports(detector.card)
    if other := [key for key in wanted if here[key] != wanted[key]]:
        raise ConfigError(
            f"--out {folder}: holds another model, {card.name}, which would be overwritten "
            f"(its {SIDECAR} differs in {', '.join(other)}); name another folder"
        )
    return card


def _without_exports(card: ModelCard) -> dict[str, Any]:
    """What a card says of the model itself, not of networks that were exported of it."""
    values = card.model_dump(mode="json", exclude={"ap_cost", "ap_cost_data"})
    values["graphs"] = values["graphs"].get("scale")
    if look := values["second_look"]:
        del look["graphs"]
        metrics = look["metrics"].items()
        look["metrics"] = {n: value for n, value in metrics if not n.startswith(LOOK_COST)}
    return values


def _prepare(detector: DenseDetector) -> tuple[PixelNetwork, Tensor, list[str]]:
    """The network, pixels to trace it with, and the names of its outputs."""
    network = PixelNetwork(detector).eval()
    # More than one place on every level: a level of one place hides how sizes depend on the input.
    side = 2 * detector.config.divisor
    example = torch.zeros((1, side - 1, side + 1, 3), dtype=torch.uint8)
    with torch.no_grad():
        batch, _ = detector.transform([example[0].permute(2, 0, 1).float()])
        outputs, _, _ = detector.run(batch)
    return network, example, list(outputs)
