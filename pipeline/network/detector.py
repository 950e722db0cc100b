"""The detector at work: tiles in, detections out, on whatever device and precision there is."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from configs import StrictModel
from models import ModelSource
from models.card import ModelCard, SecondLookFacts
from pipeline.cells.found import KeptSettings, Limits
from pipeline.cells.naming import detection_floors
from pipeline.cells.second_look import LookThresholds, SecondLookSettings
from pipeline.geometry import Detections
from pipeline.network.devices import count_cores, find_device
from pipeline.network.grading import GraderInForce, build_grader, foresee_grader
from pipeline.network.looking import SecondLook
from pipeline.network.runtimes import RuntimeFacts, build_runtime, foresee_runtime
from pipeline.network.scale import ScaleReader, find_reader

if TYPE_CHECKING:
    from models import DenseDetector

MOST_READERS = 16
"""Threads that read for one network: each holds some 50 MB of what it decodes and has read."""


class RuntimeSettings(StrictModel):
    """Where and how the network runs.

    Attributes:
        name: "torch" or "openvino"; "auto" takes OpenVINO on a CPU, torch on a GPU.
        device: "cpu", "cuda", "cuda:1", …; "auto" takes a GPU where there is one.
        precision: of the convolutions. "auto" takes, on a CPU, the fastest of those that model and
            CPU allow, timed once a machine on a tile and kept in the cache folder; on a GPU bf16,
            or fp16 where it has none. Boxes and scores are always float32.
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
    """A detector, and the grader that looks again at what it finds, made ready for many slides.

    Args:
        model: where its weights lie, or a loaded detector with its card.
        settings: where and how it runs.
        threshold: one score for all classes; None for the card's own.
        second_look: whether and at how much the model's grader looks again, where it has one; None
            for the detector alone.
        kept: how much is kept of what it finds; None for what is reported.

    Attributes:
        card: of the model.
        kept: score down to which all is kept; None for what is reported.
        thresholds: (C,) score from which on the detector alone reports a cell, for each class.
        second_look: the grader, made ready; None where nobody looks again.
        device: what "auto" came to.
        runtime: what runs the network, with the precision that "auto" came to.
        batch_size: tiles at once.
        readers: threads that keep it busy with tiles.
        lanes: batches that it takes at once, each from a thread of its own: the runtime's.
        turn: held by whoever screens the tiles of a slide.
        scale: what tells a slide's scale by its cells, or why it can't be run here; None where the
            model has nothing for it.

    Raises:
        ModelFileError: the detector has no card, so that nobody knows its mpp; or the model's
            files are missing or broken.
        ConfigError: the device does not exist here, or runtime or precision do not fit it.
    """

    second_look: SecondLook | None = None
    scale: ScaleReader | str | None = None
    kept: float | None = None

    def __init__(
        self,
        model: ModelSource | DenseDetector,
        settings: RuntimeSettings | None = None,
        threshold: float | None = None,
        second_look: SecondLookSettings | None = None,
        kept: KeptSettings | None = None,
    ) -> None:
        if not isinstance(model, ModelSource):
            model = ModelSource.of(model)
        settings = settings or RuntimeSettings()
        self.card: ModelCard = model.card
        own = own_thresholds(self.card)
        self.thresholds = thresholds_in_force(self.card, threshold)
        abnormal = np.array(self.card.detector.is_abnormal)
        looks = second_look and second_look.enabled and self.card.second_look
        if kept:
            self.kept = _lowest(self.card, looks or None, kept, threshold)
        down_to = self.thresholds if self.kept is None else np.full_like(own, self.kept)
        floors = detection_floors(down_to, own, abnormal)
        if looks:
            limits = LookThresholds.of(self.card, looks, threshold, self.kept)
            floors = limits.floors
        self.device = find_device(settings.device)
        on_gpu = self.device != "cpu"
        self.batch_size = settings.batch_size or (4 if on_gpu else 1)
        self.readers = settings.readers or _readers_for(on_gpu, settings.threads or count_cores())
        self.turn = threading.Lock()
        self.runtime = build_runtime(
            model,
            floors.tolist(),
            settings.name,
            self.device,
            settings.precision,
            settings.threads,
            settings.compile,
        )
        self.lanes = self.runtime.lanes
        if looks:
            assert second_look is not None
            grader = build_grader(
                model.folder,
                looks,
                self.runtime.name,
                self.device,
                self.runtime.precision,
                second_look.batch_size,
                settings.threads,
                self.lanes,
            )
            self.second_look = SecondLook(looks, grader, limits, second_look)
        self.scale = find_reader(model, settings.threads)

    def detect(self, tiles: Sequence[NDArray[np.uint8]]) -> list[Detections]:
        """Finds cells in tiles.

        Args:
            tiles: (H, W, 3) RGB at the model's mpp; one batch.

        Returns:
            For each tile, boxes in its pixels, by falling score; nothing abnormal below what is
            reported or kept, nor anything normal that `pipeline.cells.naming` has no use for.

        Raises:
            MemoryError: the batch is too large for the device.
            NoNumbersError: what the network says is NaN.
        """
        return self.runtime.detect(tiles)


def _readers_for(on_gpu: bool, cores: int) -> int:
    """Of 115 ms of processor time a tile, reading takes 27; a GPU leaves it all cores."""
    return max(2, min(cores, MOST_READERS) if on_gpu else cores // 4 + 1)


@dataclass(frozen=True)
class DetectorFacts:
    """What a `TileDetector` will tell of itself, known before one is made ready; see there."""

    card: ModelCard
    thresholds: NDArray[np.float32]
    second_look: LookInForce | None
    device: str
    runtime: RuntimeFacts
    kept: float | None = None


@dataclass(frozen=True)
class LookInForce:
    """What a `SecondLook` will tell of itself; see there."""

    facts: SecondLookFacts
    grader: GraderInForce
    thresholds: LookThresholds


def foresee(
    card: ModelCard,
    settings: RuntimeSettings,
    threshold: float | None = None,
    second_look: SecondLookSettings | None = None,
    kept: KeptSettings | None = None,
) -> DetectorFacts | None:
    """What will be in force with a model, found out without loading it; None where it has to be.

    Args:
        card: of the model.
        settings: where and how it would run.
        threshold: one score for all classes; None for the card's own.
        second_look: whether the model's grader looks again; None for the detector alone.
        kept: how much is kept of what it finds; None for what is reported.

    Raises:
        ConfigError: the device does not exist here, or precision or runtime do not fit it.
    """
    device = find_device(settings.device)
    runtime = foresee_runtime(card, settings.name, device, settings.precision)
    if runtime is None:
        return None
    looks = second_look.enabled if second_look else False
    grader = card.second_look if looks else None
    in_force = foresee_grader(grader, runtime.precision) if grader else None
    return describe_detector(card, runtime, device, in_force, threshold, kept)


def describe_detector(
    card: ModelCard,
    runtime: RuntimeFacts,
    device: str,
    grader: GraderInForce | None = None,
    threshold: float | None = None,
    kept: KeptSettings | None = None,
) -> DetectorFacts:
    """What a detector tells of itself whose runtime, and grader where one looks again, are known.

    Args:
        card: of the model; it has a second look where ``grader`` is given.
        runtime: what runs the network.
        device: where.
        grader: what runs the grader; None where nobody looks again.
        threshold: one score for all classes; None for the card's own.
        kept: how much is kept of what it finds; None for what is reported.
    """
    facts = card.second_look if grader else None
    lowest = _lowest(card, facts, kept, threshold) if kept else None
    look = None
    if grader and facts:
        look = LookInForce(facts, grader, LookThresholds.of(card, facts, threshold, lowest))
    return DetectorFacts(card, thresholds_in_force(card, threshold), look, device, runtime, lowest)


def _lowest(
    card: ModelCard, look: SecondLookFacts | None, kept: KeptSettings, threshold: float | None
) -> float:
    """Score down to which all is kept: no higher than any at which the model itself reports."""
    own: list[float] = [*card.thresholds.values(), *(look.thresholds.values() if look else ())]
    return min(kept.floor, *own, 1.0 if threshold is None else threshold)


def limits_of(detector: TileDetector | DetectorFacts) -> Limits:
    """Where cells begin to count."""
    look = detector.second_look
    return Limits(
        detector.thresholds,
        own_thresholds(detector.card),
        np.array(detector.card.detector.is_abnormal),
        look.thresholds if look else None,
        look.facts.rule if look else None,
    )


def thresholds_in_force(card: ModelCard, threshold: float | None) -> NDArray[np.float32]:
    """(C,) one score for all classes, or the model's own."""
    own = own_thresholds(card)
    return own if threshold is None else np.full_like(own, threshold)


def own_thresholds(card: ModelCard) -> NDArray[np.float32]:
    """(C,) the scores from which on the model itself would report its classes."""
    return np.array([card.thresholds[name] for name in card.detector.classes], np.float32)
