"""Class-balanced loss: samples weighed by the effective number of their class."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from losses.elementwise import (
    ClassificationLoss,
    Reduction,
    at_least_float32,
    cross_entropy,
    is_foreground,
    reduce_loss,
)


def class_balanced_weights(class_counts: Sequence[int], beta: float = 0.9999) -> Tensor:
    r"""Weight of each class by the effective number of its samples; see `class_balanced_loss`.

    .. math:: w_c \propto \frac{1 - \beta}{1 - \beta^{n_c}}, \quad \sum_c w_c = C

    A class of which there is no sample has weight 1 and no part in the scaling: its formula
    is infinite, and would leave nothing to the others.

    Args:
        class_counts: n_c, the number of training samples of each class.
        beta: 0 weighs all classes alike, towards 1 the weights near 1 / n_c.

    Returns:
        (C,) float32.
    """
    counts = torch.tensor(class_counts, dtype=torch.float64)
    present = counts > 0
    raw = 1 / (1 - beta ** counts[present])  # 1 - beta goes in the scaling
    weights = torch.ones_like(counts)
    weights[present] = raw / raw.mean()
    return weights.float()


def class_balanced_loss(
    inputs: Tensor, targets: Tensor, class_weights: Tensor, reduction: Reduction = "none"
) -> Tensor:
    """Class-balanced sigmoid cross-entropy of Cui et al., CVPR 2019, arXiv 1901.05555.

    "Class-balanced loss based on effective number of samples": cross-entropy times one weight a
    sample, that of its class. The paper has no background; it gets the mean weight, 1.

    Args:
        inputs: (..., C) logits; half precisions are computed in float32.
        targets: same shape, 1 for the sample's class and 0 for the others.
        class_weights: (C,), see `class_balanced_weights`.
        reduction: "none", "mean" or "sum".

    Returns:
        The loss, shaped as ``inputs`` for "none", else a scalar; at least float32.

    Raises:
        ValueError: an unknown reduction.
    """
    logits, targets = at_least_float32(inputs), at_least_float32(targets)
    of_class = (targets * class_weights).sum(dim=-1, keepdim=True)
    weight = torch.where(is_foreground(targets), of_class, 1.0)
    return reduce_loss(weight * cross_entropy(logits, targets), reduction)


class ClassBalancedLoss(ClassificationLoss):
    """`class_balanced_loss` as a module for a detector's loss slot.

    Args:
        class_counts: number of training samples of each class.
        beta: see `class_balanced_weights`.
    """

    class_weights: Tensor

    def __init__(self, class_counts: Sequence[int], beta: float = 0.9999) -> None:
        super().__init__()
        weights = class_balanced_weights(class_counts, beta)
        self.register_buffer("class_weights", weights, persistent=False)

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """See `class_balanced_loss`."""
        return class_balanced_loss(logits, targets, self.class_weights)
