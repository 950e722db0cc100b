"""What the elementwise sigmoid losses share: precision, reduction, the module's interface."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

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


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Sigmoid cross-entropy of each (sample, class) pair."""
    return binary_cross_entropy_with_logits(logits, targets, reduction="none")


def hardness(logits: Tensor, targets: Tensor) -> Tensor:
    """Magnitude of cross-entropy's gradient, g = abs(p - y), of each (sample, class) pair.

    As sigmoid(-z) for positives, not 1 - sigmoid(z): it stays exact where p rounds to 1.
    """
    return torch.sigmoid(torch.where(targets > 0.5, -logits, logits))


def is_foreground(targets: Tensor) -> Tensor:
    """(..., 1): whether the sample is of any class."""
    return (targets > 0.5).any(dim=-1, keepdim=True)


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
