"""What the losses share: the module's interface, precision, reduction."""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

Reduction = Literal["none", "mean", "sum"]


class ClassificationLoss(nn.Module):
    """What goes into the loss slot of a detector.

    By default every class is its own sigmoid classifier. A loss with other channels, as a softmax
    with an objectness, says so by `channels`, `scores` and `prior_bias`; the first C channels
    are the classes' in any case.

    Attributes:
        softmax: whether the classes compete, beside an objectness.
    """

    softmax: ClassVar[bool] = False

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The unreduced loss; the detector sums it and divides by its normaliser.

        Args:
            logits: (N, channels) of the samples of a batch.
            targets: (N, C), 1 for the sample's class and 0 for the others; the rows of
                background are all zero.

        Returns:
            One row a sample; of sigmoid losses (N, C), the loss of each (sample, class) pair.
        """
        raise NotImplementedError

    def channels(self, num_classes: int) -> int:
        """How many logits the head gives for each sample."""
        return num_classes

    def scores(self, logits: Tensor) -> Tensor:
        """(..., C) probabilities from (..., channels) logits."""
        return logits.sigmoid()

    def prior_bias(self, num_classes: int, prior: float) -> Tensor:
        """(channels,) biases at which every class's score is ``prior``."""
        return torch.full((num_classes,), -math.log((1 - prior) / prior))


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


def focused(logits: Tensor, targets: Tensor, exponent: Tensor | float) -> Tensor:
    """(1 - p_t)**exponent, by which focal losses weigh a pair; its gradient is finite everywhere.

    An exponent below 1 has none at 0, to which (1 - p_t) falls at last: it stays above.
    """
    tiny = torch.finfo(logits.dtype).tiny
    return hardness(logits, targets).clamp(min=tiny) ** exponent


def side_weight(targets: Tensor, alpha: float) -> Tensor:
    """By which focal losses weigh positives, alpha, and negatives, 1 - alpha."""
    return alpha * targets + (1 - alpha) * (1 - targets)


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
