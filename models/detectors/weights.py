"""A network's weights as the bytes of a file, and whether they are numbers at all."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor, nn

from models.card import ModelFileError


def pack_weights(
    network: nn.Module, state: Mapping[str, Tensor], path: Path, dtype: torch.dtype
) -> bytes:
    """The content of a safetensors file.

    Args:
        network: whose parameters are written in ``dtype``. Buffers stay as they are: a loss's sums
            over training overflow half precision.
        state: what is written of it, by name.
        path: of the file, for the error.
        dtype: of the learned weights.

    Raises:
        ModelFileError: something in it is no number, or none in ``dtype``.
    """
    learned = dict(network.named_parameters())
    packed = {
        name: (tensor.to(dtype) if name in learned else tensor).contiguous()
        for name, tensor in state.items()
    }
    if name := _not_finite(packed):
        kind = str(packed[name].dtype).removeprefix("torch.")
        raise ModelFileError(
            f"{path}: not written: {name} is not all numbers in {kind} (NaN or infinite), and "
            "would find nothing; take an earlier checkpoint, or train again with a lower "
            "optimiser.lr"
        )
    return save(packed, metadata={"format": "pt"})


def check_weights(network: nn.Module, path: Path) -> None:
    """Makes sure that what a file held are numbers: some runtimes take NaN for nothing found.

    Raises:
        ModelFileError: it holds others.
    """
    if name := _not_finite(network.state_dict()):
        raise ModelFileError(
            f"{path}: {name} is not all numbers (NaN or infinite): the training went wrong; take "
            "another model"
        )


def _not_finite(state: Mapping[str, Tensor]) -> str | None:
    """The name of the first tensor that holds what is no number; None where there is none."""
    return next((name for name, tensor in state.items() if not tensor.isfinite().all()), None)
