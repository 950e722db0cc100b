"""Exported networks on disk, beside a model's sidecar, and OpenVINO, which runs them.

Nothing here needs torch: what was exported runs without it.
"""

from __future__ import annotations

import functools
import hashlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from configs import ConfigError
from models.card import GraphFacts, GraphKind, ModelCard, ModelFileError, save_card

FILES: Mapping[GraphKind, tuple[str, ...]] = {
    "openvino": ("openvino.xml", "openvino.bin"),
    "openvino-int8": ("openvino-int8.xml", "openvino-int8.bin"),
    "onnx": ("model.onnx",),
    "scale": ("scale.xml", "scale.bin"),
}
"""What each kind of graph consists of, beside the sidecar."""


class ExportError(ConfigError):
    """The network can't be had for another runtime here; the message is one line that says why."""


def load_openvino() -> Any:
    """OpenVINO's module, without its telemetry.

    On import it would write a client's number into the home folder and tell a server that it was
    imported. Nobody is told what is screened here.

    Raises:
        ExportError: OpenVINO is not installed, or does not load.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # blocks its import
    try:
        import openvino
    except (ImportError, OSError) as error:
        raise ExportError(f"OpenVINO can't be loaded here: {first_line(error)}") from error
    _fill_type_tables(openvino)
    return openvino


@functools.cache
def _fill_type_tables(openvino: Any) -> None:
    """Has OpenVINO's Python side make its tables of types, which it does when it first needs them.

    Two threads whose first inference falls together would wait there for each other for ever: one
    fills the table and needs Python's lock, the other holds that and waits for the table.
    """
    openvino.Type.u8.to_dtype()
    openvino.Tensor(np.zeros(1, np.uint8))


def openvino_core() -> Any:
    """The one ``openvino.Core`` of this process, which stays until its end.

    OpenVINO's plugin for CPUs gives the thread that loads it a stack for signals, and takes it away
    with the core: of two cores the second would leave the first one's, freed, in place, and the
    next Ctrl-C would crash the process.

    Raises:
        ExportError: OpenVINO is missing.
    """
    return _core_of(load_openvino())


@functools.cache
def _core_of(openvino: Any) -> Any:
    return openvino.Core()


def save_openvino(model: Any, folder: Path, kind: GraphKind, *, small: bool = False) -> None:
    """Writes an OpenVINO model's two files, with weights as they are, or ``small``: in half."""
    load_openvino().save_model(model, folder / FILES[kind][0], compress_to_fp16=small)


def read_openvino(folder: Path, kind: GraphKind, facts: GraphFacts) -> Any:
    """An exported OpenVINO model.

    Raises:
        ModelFileError: a file is missing, or not the one that the sidecar names.
        ExportError: OpenVINO is missing.
    """
    core = openvino_core()
    if hash_graph(folder, kind) != facts.sha256:
        raise ModelFileError(
            f"{folder / FILES[kind][0]}: not the graph that the sidecar names; export it again"
        )
    return core.read_model(folder / FILES[kind][0])


def hash_graph(folder: Path, kind: GraphKind) -> str:
    """SHA-256 of a graph's files, one after the other.

    Raises:
        ModelFileError: one of them can't be read.
    """
    digest = hashlib.sha256()
    for name in FILES[kind]:
        try:
            digest.update((folder / name).read_bytes())
        except OSError as error:
            raise ModelFileError(
                f"{folder / name}: cannot be read, though the sidecar names it: {error.strerror}"
            ) from error
    return digest.hexdigest()


def add_graph(card: ModelCard, folder: Path, kind: GraphKind, made_of: str = "") -> ModelCard:
    """Names a graph that was written into a model's folder in its sidecar."""
    facts = GraphFacts(sha256=hash_graph(folder, kind), calibration=made_of)
    card = card.model_copy(update={"graphs": {**card.graphs, kind: facts}})
    save_card(card, folder)
    return card


def first_line(error: BaseException) -> str:
    """What an error of a library says, in one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
