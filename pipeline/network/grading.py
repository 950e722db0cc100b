"""The grader at work: crops in, probabilities out, on whatever runs the detector."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from models.card import GRADER, SIDECAR, GraderGraphKind, ModelFileError, SecondLookFacts
from models.storage.graphs import GRADER_FILES, read_openvino
from pipeline.network.openvino_runtime import CompiledNetwork, compile_openvino
from pipeline.network.precision import Precision

BATCH_ON_CPU, BATCH_ON_GPU = 16, 128
"""Crops at once. With 16 OpenVINO's network is as fast a crop as with 64."""

MOST_OFF_ONE = 0.02
"""By how much probabilities may miss one in sum: in bf16 they have three digits."""

_NO_GRAPH = "the grader has no exported network: one was made of its weights"

GREY = 235
"""Of crops by which a network shows, when it is loaded, that it gives probabilities."""


class Grader(Protocol):
    """Something that runs a grader's network.

    Attributes:
        precision: what it computes in.
        sha256: of the weights or the graph that it runs.
        fallback: why it is not run the way that would be taken first; None where it is.
        batch_size: crops that it takes at once.
    """

    precision: Precision
    sha256: str
    fallback: str | None
    batch_size: int

    def grade(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(B, C + 1) probabilities, background last, of (B, S, S, 3) RGB; B is ``batch_size``.

        Always as many, so that what is said of a crop does not depend on how many others there are.
        Several threads may call at once.

        Raises:
            MemoryError: the batch is too large for the device.
        """


def build_grader(
    folder: Path | None,
    facts: SecondLookFacts,
    runtime: str,
    device: str,
    precision: Precision,
    batch_size: int | None = None,
    threads: int | None = None,
    lanes: int = 1,
) -> Grader:
    """The grader of a model, run as its detector is.

    On OpenVINO in int8 where the detector is and the grader has a graph for it, else in fp32;
    without a graph one is made of the weights, which needs torch, and is told.

    Args:
        folder: of the model.
        facts: of its card.
        runtime: the detector's, "openvino" or "torch".
        device: the detector's.
        precision: likewise.
        batch_size: crops at once; None for what suits the device.
        threads: of OpenVINO; see `pipeline.network.openvino_runtime`.
        lanes: likewise.

    Raises:
        ModelFileError: weights or graph are missing, or not what the card says, or don't give
            probabilities of its classes.
        ConfigError: the network can't be had for this runtime.
    """
    if folder is None:
        raise ModelFileError("the model has a second look, whose grader lies in no folder")
    grader: Grader
    if runtime == "openvino":
        size = batch_size or BATCH_ON_CPU
        grader = OpenVINOGrader(folder, facts, precision, size, threads, lanes)
    else:
        from pipeline.network.torch_grader import TorchGrader

        size = batch_size or (BATCH_ON_CPU if device == "cpu" else BATCH_ON_GPU)
        grader = TorchGrader(folder, facts, device, precision, size)
    _check(grader, folder, facts)
    return grader


@dataclass(frozen=True)
class GraderInForce:
    """What a report tells of a grader; see `Grader`."""

    precision: Precision
    sha256: str
    fallback: str | None


def foresee_grader(facts: SecondLookFacts, precision: Precision) -> GraderInForce:
    """What OpenVINO will run beside a detector in some precision, found out without loading it."""
    as_int8 = precision == "int8" and "openvino-int8" in facts.graphs
    own: Precision = "fp32" if precision == "int8" and not as_int8 else precision
    kind: GraderGraphKind = "openvino-int8" if as_int8 else "openvino"
    fallback = None if kind in facts.graphs else _NO_GRAPH
    return GraderInForce(own, facts.graphs[kind].sha256 if as_int8 else facts.sha256, fallback)


class OpenVINOGrader:
    """The grader compiled for this CPU, for one number of crops; see `Grader`.

    Args:
        folder, facts, precision, batch_size, threads, lanes: as of `build_grader`.
    """

    def __init__(
        self,
        folder: Path,
        facts: SecondLookFacts,
        precision: Precision,
        batch_size: int,
        threads: int | None = None,
        lanes: int = 1,
    ) -> None:
        self.batch_size = batch_size
        in_force = foresee_grader(facts, precision)
        self.precision, self.sha256 = in_force.precision, in_force.sha256
        self.fallback = in_force.fallback
        kind: GraderGraphKind = "openvino-int8" if self.precision == "int8" else "openvino"
        if kind in facts.graphs:
            model = read_openvino(folder, kind, facts.graphs[kind], GRADER_FILES)
        else:
            model = _export(folder, facts)
        _check_input(model, folder, facts)
        model.reshape([batch_size, facts.size, facts.size, 3])
        self._network = CompiledNetwork(compile_openvino(model, self.precision, threads, lanes))

    def grade(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        """See `Grader`."""
        (found,) = self._network.infer(np.ascontiguousarray(crops))
        return np.asarray(found, np.float32)


def _export(folder: Path, facts: SecondLookFacts) -> Any:
    """The network as OpenVINO's, made of the weights.

    Raises:
        ModelFileError: the weights are missing or others.
        ConfigError: it can't be converted.
    """
    if not (folder / GRADER).is_file():
        raise ModelFileError(
            f"{folder / SIDECAR}: second_look has neither weights ({GRADER}) nor an exported "
            "network here; copy the model again"
        )
    from models.grader import GradingNetwork, load_grader
    from models.storage.export import grader_to_openvino

    network = GradingNetwork(load_grader(folder, facts), facts.temperature).eval()
    return grader_to_openvino(network, facts.size)


def _check_input(model: Any, folder: Path, facts: SecondLookFacts) -> None:
    """Makes sure that a graph takes any number of the card's crops."""
    shape = model.inputs[0].partial_shape
    wanted = type(shape)([-1, facts.size, facts.size, 3])
    if not wanted.compatible(shape) or shape[0].is_static:
        raise ModelFileError(
            f"{folder}: the grader's graph takes pixels of shape {shape}, its card says any number "
            f"of crops of {facts.size} px; export it again"
        )


def _check(grader: Grader, folder: Path, facts: SecondLookFacts) -> None:
    """Makes sure that a network gives probabilities of the card's classes and of background."""
    grey = np.full((grader.batch_size, facts.size, facts.size, 3), GREY, np.uint8)
    found = grader.grade(grey)
    if found.shape != (grader.batch_size, len(facts.classes) + 1):
        raise ModelFileError(
            f"{folder}: the grader gives {found.shape[-1]} numbers a crop, and its card names "
            f"{len(facts.classes)} classes beside the background"
        )
    check_probabilities(found, f"{folder}: the grader")


def check_probabilities(found: NDArray[np.float32], who: str) -> None:
    """Makes sure that rows are probabilities.

    Raises:
        ModelFileError: they are none: the network is broken, or not in its right precision.
    """
    sums = found.sum(axis=1)
    if not (np.abs(sums - 1) <= MOST_OFF_ONE).all() or (found < 0).any():  # NaN is no number
        raise ModelFileError(f"{who} gives no probabilities: their sum is {sums[0]:g}, not 1")
