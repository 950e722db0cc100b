"""The network on torch, on GPUs and CPUs, and what else of a detector only torch can do."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch._dynamo.exc import TorchDynamoException

from configs import ConfigError
from models import DenseDetector
from models.storage.export import anchors_of
from models.storage.graphs import first_line
from pipeline.geometry import Detections
from pipeline.network.precision import Precision

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class RawOutputs(NamedTuple):
    """The network's outputs for a batch of tiles: what `DenseDetector.decode` takes."""

    outputs: dict[str, Tensor]
    anchors: list[Tensor]
    sizes: Sequence[tuple[int, int]]


class TorchRuntime:
    """The detector's own modules; tiles of a batch together. See `runtimes.Runtime`.

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
        device: str,
        precision: Precision,
        fallback: str | None = None,
        compiled: bool = False,
    ) -> None:
        self.precision = precision
        self.sha256 = detector.card.sha256 if detector.card else ""
        self.fallback = fallback
        self._device = torch.device(device)
        # On a GPU, while the cells of one batch are fetched, the other is in the network; on a CPU
        # torch's own threads share each tile.
        self.lanes = 2 if self._device.type == "cuda" else 1
        self._detector = detector.to(self._device).to(memory_format=torch.channels_last).eval()
        self._streams = threading.local()
        if compiled:
            for part in (detector.backbone, detector.head):
                part.compile(dynamic=False)

    @torch.inference_mode()
    def detect(self, tiles: Sequence[NDArray[np.uint8]]) -> list[Detections]:
        """See `Runtime`.

        Raises:
            ConfigError: the network is to be compiled, and can't be.
            MemoryError: the device's memory does not hold the batch.
        """
        try:
            with self._lane():
                return [_to_detections(one) for one in self._detector.decode(*self.run(tiles))]
        except torch.OutOfMemoryError as error:
            raise MemoryError(str(error)) from error

    def run(self, tiles: Sequence[NDArray[np.uint8]]) -> RawOutputs:
        """The network's raw outputs; see `detect` for the errors."""
        images = [self._load(tile).permute(2, 0, 1).float().div_(255) for tile in tiles]
        batch, _ = self._detector.transform(images)
        reduced = self.precision != "fp32"
        with torch.autocast(self._device.type, DTYPES[self.precision], enabled=reduced):
            try:
                outputs, anchors, _ = self._detector.run(batch)
            except TorchDynamoException as error:
                raise ConfigError(
                    "runtime.compile: torch can't compile the network here: "
                    f"{first_line(error)}; leave it out"
                ) from error
        return RawOutputs(outputs, anchors, batch.image_sizes)

    def _load(self, tile: NDArray[np.uint8]) -> Tensor:
        """Bytes to the device, a quarter of what floats would be."""
        pixels = torch.from_numpy(tile if tile.flags.writeable else tile.copy())  # else it warns
        if self._device.type == "cuda":  # from pinned memory, beside the network of other tiles
            return pixels.pin_memory().to(self._device, non_blocking=True)
        return pixels

    def _lane(self) -> AbstractContextManager[object]:
        """Each thread's own stream of a GPU: in one stream for all, they would wait in turn."""
        if self._device.type != "cuda":
            return nullcontext()
        if not hasattr(self._streams, "own"):
            self._streams.own = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
        return torch.cuda.stream(self._streams.own)


@torch.inference_mode()
def decode_by_detector(
    detector: DenseDetector, outputs: Mapping[str, NDArray[np.float32]], size: tuple[int, int]
) -> Detections:
    """What `pipeline.network.decoding` does, for any detector.

    Args:
        detector: with the thresholds that it is to heed.
        outputs: an exported network's, by name, of one tile.
        size: (height, width) of the tile.
    """
    tensors = {name: torch.from_numpy(values) for name, values in outputs.items()}
    return _to_detections(detector.decode(tensors, anchors_of(detector, size), [size])[0])


def _to_detections(found: dict[str, Tensor]) -> Detections:
    return Detections(
        found["boxes"].double().cpu().numpy(),
        found["scores"].float().cpu().numpy(),
        found["labels"].cpu().numpy(),
        found["class_scores"].float().cpu().numpy(),
    )
