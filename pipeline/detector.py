"""The detector at work: tiles in, detections out, on whatever device and precision there is."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from configs import ConfigError, StrictModel
from models import DenseDetector, ModelCard, ModelFileError
from pipeline.geometry import Detections
from pipeline.runtimes import build_runtime

MOST_READERS = 16
"""Threads that read for one network: each holds some 50 MB of what it decodes and has read."""


class RuntimeSettings(StrictModel):
    """Where and how the network runs.

    Attributes:
        name: "torch" or "openvino"; "auto" takes OpenVINO on a CPU, torch on a GPU.
        device: "cpu", "cuda", "cuda:1", …; "auto" takes a GPU where there is one.
        precision: of the convolutions; "auto" takes bf16 where the hardware computes it natively;
            see `pipeline.runtimes.find_precision`. Boxes and scores are always float32.
        batch_size: tiles at once; None for 1 on a CPU, which gains nothing by more, and 4 on a GPU.
        threads: CPU threads of the network; None for one a core.
        readers: threads that read tiles ahead of the network; None for as many as keep it busy:
            one for every four cores beside a network on the CPU, one a core beside a GPU.
        compile: whether ``torch.compile`` makes torch's network faster, for half a minute at the
            first tiles; it needs a C++ compiler. OpenVINO compiles without being asked.
    """

    name: Literal["auto", "torch", "openvino"] = "auto"
    device: str = "auto"
    precision: Literal["auto", "fp32", "bf16", "fp16", "int8"] = "auto"
    batch_size: int | None = Field(None, ge=1)
    threads: int | None = Field(None, ge=1)
    readers: int | None = Field(None, ge=1)
    compile: bool = False


class TileDetector:
    """A detector made ready for the tiles of many slides.

    Args:
        detector: with its card, as `models.load_detector` gives it.
        settings: where and how it runs.
        threshold: one score for all classes; None for the card's own.

    Attributes:
        card: of the model.
        thresholds: (C,) score from which on a cell is reported, for each class.
        device: what "auto" came to.
        runtime: what runs the network, with the precision that "auto" came to.
        batch_size: tiles at once.
        readers: threads that keep it busy with tiles.
        lanes: batches that it takes at once, each from a thread of its own. Two on a GPU: while the
            cells of one are fetched the other is in the network.
        turn: held by whoever screens the tiles of a slide.

    Raises:
        ModelFileError: the detector has no card, so that nobody knows its mpp.
        ConfigError: the device does not exist here, or runtime or precision do not fit it.
    """

    def __init__(
        self,
        detector: DenseDetector,
        settings: RuntimeSettings | None = None,
        threshold: float | None = None,
    ) -> None:
        if detector.card is None:
            raise ModelFileError("the detector has no card; load it with models.load_detector")
        settings = settings or RuntimeSettings()
        self.card: ModelCard = detector.card
        self.thresholds = _thresholds(self.card, threshold)
        self.device = find_device(settings.device)
        on_gpu = self.device.type == "cuda"
        self.batch_size = settings.batch_size or (4 if on_gpu else 1)
        self.readers = settings.readers or _readers_for(on_gpu, settings.threads or count_cores())
        self.lanes = 2 if on_gpu else 1
        self._streams = threading.local()
        self.turn = threading.Lock()
        if settings.threads is not None:
            torch.set_num_threads(settings.threads)
        self._detector = detector.eval()
        self._detector.use_thresholds(self.thresholds.tolist())
        self.runtime = build_runtime(
            detector,
            settings.name,
            self.device,
            settings.precision,
            settings.threads,
            settings.compile,
        )
        if self.runtime.name == "openvino":
            # What is left to torch, resampling and decoding, runs beside the network: threads of
            # its own in each of the readers' would only be in the way.
            torch.set_num_threads(1)

    @torch.inference_mode()
    def detect(self, tiles: Sequence[NDArray[np.uint8]]) -> list[Detections]:
        """Finds cells in tiles.

        Args:
            tiles: (H, W, 3) RGB at the model's mpp; one batch.

        Returns:
            For each tile, boxes in its pixels, by falling score; nothing below the thresholds.
        """
        with self._lane():
            found = [one for raw in self.runtime.run(tiles) for one in self._detector.decode(*raw)]
            return [_to_detections(one) for one in found]

    def _lane(self) -> AbstractContextManager[object]:
        """Each thread's own stream of a GPU: in one stream for all, they would wait in turn."""
        if self.device.type != "cuda":
            return nullcontext()
        if not hasattr(self._streams, "own"):
            self._streams.own = torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]
        return torch.cuda.stream(self._streams.own)


def find_device(name: str) -> torch.device:
    """The device of a name such as "auto", "cpu", "cuda", "cuda:1".

    Raises:
        ConfigError: there is no such device here; the message names those that there are.
    """
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        return torch.device("cuda" if gpus else "cpu")
    available = ["cpu", *(f"cuda:{i}" for i in range(gpus))]
    if name not in available and not (name == "cuda" and gpus):
        raise ConfigError(f"device {name}: not on this machine, which has {', '.join(available)}")
    return torch.device(name)


def count_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _readers_for(on_gpu: bool, cores: int) -> int:
    """Of 115 ms of processor time a tile, reading takes 27; a GPU leaves it all cores."""
    return max(2, min(cores, MOST_READERS) if on_gpu else cores // 4 + 1)


def _thresholds(card: ModelCard, threshold: float | None) -> NDArray[np.float32]:
    classes = card.detector.classes
    if threshold is not None:
        return np.full(len(classes), threshold, np.float32)
    return np.array([card.thresholds[name] for name in classes], np.float32)


def _to_detections(found: dict[str, torch.Tensor]) -> Detections:
    return Detections(
        found["boxes"].double().cpu().numpy(),
        found["scores"].float().cpu().numpy(),
        found["labels"].cpu().numpy(),
    )
