"""Exported networks on disk, beside a model's sidecar, and OpenVINO, which runs them.

Nothing here needs torch: what was exported runs without it.
"""

from __future__ import annotations

import functools
import hashlib
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from configs import ConfigError
from models.card import (
    GRADER,
    SIDECAR,
    WEIGHTS,
    GraderGraphKind,
    GraphFacts,
    GraphKind,
    ModelCard,
    ModelFileError,
    save_card,
)

Files = Mapping[Any, tuple[str, ...]]
"""What each kind of graph consists of, beside the sidecar."""

FILES: Mapping[GraphKind, tuple[str, ...]] = {
    "openvino": ("openvino.xml", "openvino.bin"),
    "openvino-int8": ("openvino-int8.xml", "openvino-int8.bin"),
    "onnx": ("model.onnx",),
    "scale": ("scale.xml", "scale.bin"),
}
"""A detector's."""

GRADER_FILES: Mapping[GraderGraphKind, tuple[str, ...]] = {
    "openvino": ("grader.xml", "grader.bin"),
    "openvino-int8": ("grader-int8.xml", "grader-int8.bin"),
}
"""A grader's."""

LOOK_COST = "int8_cost/"
"""Begins the names of a grader's metrics that say what int8 of both networks loses."""


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


def files_of(card: ModelCard) -> list[str]:
    """What a model's folder holds beside the sidecar, as that says."""
    names = [WEIGHTS, *(name for kind in card.graphs for name in FILES[kind])]
    if card.second_look:
        names += [GRADER]
        names += [name for kind in card.second_look.graphs for name in GRADER_FILES[kind]]
    return names


def copy_files(source: Path, card: ModelCard, folder: Path) -> None:
    """Copies what `files_of` names; the sidecar itself is for who changes it.

    Raises:
        ModelFileError: one of the files is missing.
        OSError: the folder can't be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in files_of(card):
        if not (source / name).is_file():
            raise ModelFileError(f"{source / name}: no such file, though {SIDECAR} names it")
        shutil.copyfile(source / name, folder / name)


def save_openvino(
    model: Any, folder: Path, kind: GraphKind, files: Files = FILES, *, small: bool = False
) -> None:
    """Writes an OpenVINO model's two files, with weights as they are, or ``small``: in half.

    Raises:
        ModelFileError: a weight is NaN; nothing is written.
    """
    openvino, path = load_openvino(), folder / files[kind][0]
    if _holds_nan(model):
        raise ModelFileError(f"{path}: not written: the network holds NaN, and would say nothing")
    openvino.save_model(model, path, compress_to_fp16=small)


def read_openvino(folder: Path, kind: GraphKind, facts: GraphFacts, files: Files = FILES) -> Any:
    """An exported OpenVINO model, a detector's or, by `GRADER_FILES`, a grader's.

    Raises:
        ModelFileError: a file is missing, not the one that the sidecar names, or holds NaN.
        ExportError: OpenVINO is missing.
    """
    core, path = openvino_core(), folder / files[kind][0]
    if hash_graph(folder, kind, files) != facts.sha256:
        raise ModelFileError(f"{path}: not the graph that the sidecar names; export it again")
    model = core.read_model(path)
    if _holds_nan(model):
        remedy = "make it again with cytolibra scale" if kind == "scale" else "export it again"
        raise ModelFileError(f"{path}: holds NaN, and would say nothing; {remedy}")
    return model


def _holds_nan(model: Any) -> bool:
    """Whether a weight of an OpenVINO model is no number.

    A graph may have been exported before weights were checked for it. The look takes 1 to 3 ms for
    each of the shipped graphs on a core of an AMD EPYC, a tenth of what their hash takes.
    """
    real = {"f16", "f32", "f64"}
    return any(
        op.get_element_type().get_type_name() in real and bool(np.isnan(op.data).any())
        for op in model.get_ops()
        if op.get_type_name() == "Constant"
    )


def hash_graph(folder: Path, kind: GraphKind, files: Files = FILES) -> str:
    """SHA-256 of a graph's files, one after the other.

    Raises:
        ModelFileError: one of them can't be read.
    """
    digest = hashlib.sha256()
    for name in files[kind]:
        try:
            digest.update((folder / name).read_bytes())
        except OSError as error:
            raise ModelFileError(
                f"{folder / name}: cannot be read, though the sidecar names it: {error.strerror}"
            ) from error
    return digest.hexdigest()


def add_graph(card: ModelCard, folder: Path, kind: GraphKind, made_of: str = "") -> ModelCard:
    """Names a graph that was written into a model's folder in its sidecar.

    What an int8 graph loses is to be measured anew: the card's cost was another one's.
    """
    facts = GraphFacts(sha256=hash_graph(folder, kind), calibration=made_of)
    if kind == "openvino-int8":
        card = without_int8_cost(card)
    card = card.model_copy(update={"graphs": {**card.graphs, kind: facts}})
    save_card(card, folder)
    return card


def without_int8_cost(card: ModelCard) -> ModelCard:
    """The card without what int8 was measured to lose: with another graph it holds no more."""
    costs = {precision: cost for precision, cost in card.ap_cost.items() if precision != "int8"}
    measured_on = card.ap_cost_data if costs else ""
    return _without_int8_look_cost(
        card.model_copy(update={"ap_cost": costs, "ap_cost_data": measured_on})
    )


def _without_int8_look_cost(card: ModelCard) -> ModelCard:
    """The same of detector and grader together."""
    if card.second_look is None:
        return card
    metrics = card.second_look.metrics.items()
    kept = {name: value for name, value in metrics if not name.startswith(LOOK_COST)}
    return card.with_grader(metrics=kept)


def add_grader_graph(
    card: ModelCard, folder: Path, kind: GraderGraphKind, made_of: str = ""
) -> ModelCard:
    """Names a grader's graph that was written into a model's folder in its sidecar.

    What an int8 graph loses is to be measured anew, as in `add_graph`.

    Raises:
        ModelFileError: the model has no grader.
    """
    look = card.second_look
    if look is None:
        raise ModelFileError(f"{card.name}: has no grader that this graph could be of")
    facts = GraphFacts(sha256=hash_graph(folder, kind, GRADER_FILES), calibration=made_of)
    if kind == "openvino-int8":
        card = _without_int8_look_cost(card)
    card = card.with_grader(graphs={**look.graphs, kind: facts})
    save_card(card, folder)
    return card


def first_line(error: BaseException) -> str:
    """What an error of a library says, in one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
