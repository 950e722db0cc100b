"""A detector on disk: safetensors, and beside it a sidecar that a person can read.

A model is a folder ``NAME/`` with ``model.safetensors`` and ``model.json``. Nothing is ever
unpickled: a checkpoint from elsewhere can't run code.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load, save

from configs import CytoLibraError
from models.build import build_detector
from models.card import ModelCard
from models.dense import DenseDetector

WEIGHTS, SIDECAR = "model.safetensors", "model.json"
ZOO = Path(__file__).parent / "zoo"
DEFAULT_MODEL = "cric-fcos-mobilenet-v2"


class ModelFileError(CytoLibraError):
    """A model file is missing, broken, or of another kind."""

    exit_code = 2


def save_detector(
    detector: DenseDetector,
    card: ModelCard,
    folder: Path,
    dtype: torch.dtype = torch.float32,
) -> ModelCard:
    """Writes ``model.safetensors`` and ``model.json`` into ``folder``.

    Args:
        detector: its weights are written.
        card: its ``sha256`` is filled in; exports of other weights are dropped from it.
        folder: made if missing.
        dtype: of the learned weights on disk; ``torch.float16`` halves the file.

    Returns:
        The card as written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # Buffers stay as they are: a loss's sums over training overflow half precision.
    weights = dict(detector.named_parameters())
    state = {
        name: (tensor.to(dtype) if name in weights else tensor).contiguous()
        for name, tensor in detector.state_dict().items()
    }
    content = save(state, metadata={"format": "pt"})
    (folder / WEIGHTS).write_bytes(content)
    of_other_weights = {"graphs": {}, "ap_cost": {}, "ap_cost_data": ""}
    sha256 = hashlib.sha256(content).hexdigest()
    card = card.model_copy(update={"sha256": sha256} | of_other_weights)
    save_card(card, folder)
    return card


def save_card(card: ModelCard, folder: Path) -> None:
    """Writes a model's sidecar, whole or not at all."""
    text = card.model_dump_json(indent=2, exclude_none=True)
    unfinished = folder / f"{SIDECAR}.part"
    unfinished.write_text(text + "\n", encoding="utf-8")
    os.replace(unfinished, folder / SIDECAR)


def load_detector(name_or_path: str | Path = DEFAULT_MODEL) -> DenseDetector:
    """Loads a model, in evaluation mode, in float32, on the CPU.

    Args:
        name_or_path: a shipped model's name, a model's folder, or one of its two files.

    Returns:
        The detector; its ``card`` is the `ModelCard`, its ``folder`` the model's.

    Raises:
        ModelFileError: no such model, a file is missing or truncated, or the weights are not those
            that the card names.
    """
    folder = find_model(name_or_path)
    card = read_card(folder)
    content = _read(folder / WEIGHTS)
    if hashlib.sha256(content).hexdigest() != card.sha256:
        raise ModelFileError(
            f"{folder / WEIGHTS}: truncated or changed: its sha256 is not the one in {SIDECAR}; "
            "copy the model again"
        )
    detector = build_detector(card.detector.model_copy(update={"backbone_weights": None}))
    try:
        state: Mapping[str, torch.Tensor] = load(content)
        detector.load_state_dict(state)
    except (SafetensorError, RuntimeError) as error:
        reason = str(error).strip().split("\n")[0]
        raise ModelFileError(
            f"{folder / WEIGHTS}: does not fit the detector in {SIDECAR}: {reason}"
        ) from error
    detector.card = card
    detector.folder = folder
    detector = detector.to(memory_format=torch.channels_last)
    return detector.eval()


def find_model(name_or_path: str | Path) -> Path:
    """The folder of a shipped model, or of one on disk; see `load_detector`."""
    path = Path(name_or_path)
    if path.name in (WEIGHTS, SIDECAR) and path.is_file():
        return path.parent
    if path.is_dir():
        return path
    if (ZOO / str(name_or_path) / SIDECAR).is_file():
        return ZOO / str(name_or_path)
    if path.is_file():
        raise ModelFileError(
            f"{path}: not a model of CytoLibra; expected a folder with {WEIGHTS} and {SIDECAR}"
        )
    shipped = ", ".join(card.name for card in list_models()) or "none"
    raise ModelFileError(f"{name_or_path}: no such model; shipped models: {shipped}")


def read_card(folder: Path) -> ModelCard:
    """Reads a model's sidecar; see `load_detector` for the errors."""
    text = _read(folder / SIDECAR)
    try:
        return ModelCard.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise ModelFileError(
            f"{folder / SIDECAR}: not a model's sidecar: {key} {first['msg']}".replace("  ", " ")
        ) from error


def list_models() -> list[ModelCard]:
    """The cards of the shipped models, by name."""
    return [read_card(path.parent) for path in sorted(ZOO.glob(f"*/{SIDECAR}"))]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise ModelFileError(f"{path}: no such file, though a model needs it") from error
    except OSError as error:
        raise ModelFileError(f"{path}: cannot be read: {error.strerror}") from error
