"""What the elementwise sigmoid losses share: precision, reduction, the module's interface."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

Reduction = Literal["none", "mean", "sum"]


class ClassificationLoss(nn.Module):
    """The loss slot of a detector: one sigmoid classifier a class, background rows all zero.

    Subclasses implement ``forward(logits, targets)`` with logits and targets of shape (..., C)
    and return the loss of each (sample, class) pair in the same shape; the detector sums it and
    divides by its normaliser.
    """

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Returns the unreduced loss, shaped as ``logits``."""
        raise NotImplementedError


def at_least_float32(tensor: Tensor) -> Tensor:
    """Half precisions as float32: the log in BCE and sums over 1e5 anchors need its range."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def reduce_loss(loss: Tensor, reduction: Reduction) -> Tensor:
    """Applies torchvision's ``reduction`` argument.

    Raises:
        ValueError: ``reduction`` is none of "none", "mean", "sum".
    """
    match reduction:
        case "none":
            return loss
        case "mean":
            return loss.mean()
        case "sum":
            return loss.sum()
    raise ValueError(f"reduction = {reduction!r}: expected 'none', 'mean' or 'sum'")
