"""A detector on disk: safetensors, and beside it a sidecar that a person can read.

A model is a folder ``NAME/`` with ``model.safetensors`` and ``model.json``. Nothing is ever
unpickled: a checkpoint from elsewhere can't run code.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load

from models.card import (
    DEFAULT_MODEL,
    SIDECAR,
    WEIGHTS,
    ModelCard,
    ModelFileError,
    find_model,
    read_card,
    read_file,
    save_card,
)
from models.detectors.build import build_detector
from models.detectors.dense import DenseDetector
from models.detectors.training_only import lasting_state
from models.detectors.weights import check_weights, pack_weights


def save_detector(
    detector: DenseDetector,
    card: ModelCard,
    folder: Path,
    dtype: torch.dtype = torch.float32,
) -> ModelCard:
    """Writes ``model.safetensors`` and ``model.json`` into ``folder``.

    Args:
        detector: its weights are written, but for those that only training needs.
        card: its ``sha256`` is filled in; exports of other weights and a grader that looked at what
            they find are dropped from it, and so is what only training needs from its detector.
        folder: made if missing.
        dtype: of the learned weights on disk; ``torch.float16`` halves the file.

    Returns:
        The card as written.

    Raises:
        ModelFileError: a weight is no number, or none in ``dtype``; nothing is written.
    """
    content = pack_weights(detector, lasting_state(detector), folder / WEIGHTS, dtype)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / WEIGHTS).write_bytes(content)
    of_other_weights: dict[str, object] = {"graphs": {}, "ap_cost": {}, "ap_cost_data": ""}
    sha256 = hashlib.sha256(content).hexdigest()
    made = {"sha256": sha256, "second_look": None, "detector": card.detector.at_inference}
    card = card.model_copy(update=made | of_other_weights)
    save_card(card, folder)
    return card


def load_detector(name_or_path: str | Path = DEFAULT_MODEL) -> DenseDetector:
    """Loads a model, in evaluation mode, in float32, on the CPU.

    Args:
        name_or_path: a shipped model's name, a model's folder, or one of its two files.

    Returns:
        The detector; its ``card`` is the `ModelCard`, its ``folder`` the model's.

    Raises:
        ModelFileError: no such model, a file is missing or truncated, or the weights are not those
            that the card names, or no numbers.
    """
    folder = find_model(name_or_path)
    card = read_card(folder)
    content = read_file(folder / WEIGHTS)
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
    check_weights(detector, folder / WEIGHTS)
    detector.card = card
    detector.folder = folder
    detector = detector.to(memory_format=torch.channels_last)
    return detector.eval()
