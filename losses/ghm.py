"""Gradient harmonising: pairs weighed by how few others are as hard."""

from __future__ import annotations

import torch
from torch import Tensor

from losses.elementwise import (
    ClassificationLoss,
    Reduction,
    at_least_float32,
    cross_entropy,
    hardness,
    reduce_loss,
)
from losses.ranks import sum_over_ranks


def ghm_loss(
    inputs: Tensor, targets: Tensor, bins: int = 10, reduction: Reduction = "none"
) -> Tensor:
    r"""GHM-C of Li et al., AAAI 2019, arXiv 1811.05181.

    "Gradient harmonized single-stage detector": the hardness g = abs(p - y) of all pairs is
    counted in ``bins`` equal bins of [0, 1], and each pair's cross-entropy is weighed by

    .. math:: \beta_i = \frac{N}{R_{\mathrm{bin}(i)} \, M}

    with N pairs in all, R in the pair's own bin and M bins that are not empty: each bin weighs
    alike, and the mean weight is 1. The weight is a constant to the gradient. No average over
    steps is kept (the paper's optional momentum).

    Args:
        inputs: (..., C) logits of one batch; half precisions are computed in float32.
        targets: same shape, 1 for the sample's class and 0 for the others.
        bins: number of bins.
        reduction: "none", "mean" or "sum".

    Returns:
        The loss, shaped as ``inputs`` for "none", else a scalar; at least float32.

    Raises:
        ValueError: an unknown reduction.
    """
    logits, targets = at_least_float32(inputs), at_least_float32(targets)
    gradient = hardness(logits.detach(), targets)
    bin_of = (gradient * bins).long().clamp(0, bins - 1)  # g may round to 1
    counts = sum_over_ranks(torch.bincount(bin_of.flatten(), minlength=bins))
    weights = counts.sum() / (counts * counts.count_nonzero()).to(logits.dtype)
    return reduce_loss(weights[bin_of] * cross_entropy(logits, targets), reduction)


class GHMLoss(ClassificationLoss):
    """`ghm_loss` as a module for a detector's loss slot, averaged over all pairs as in the paper.

    The slot divides by the positives, of which a pair's weight knows nothing. A dense head has
    hundreds of pairs for each of them: so much more would the loss weigh beside the boxes' ones
    than the paper's mean over all pairs. So a pair's loss here is its share of that mean times the
    positives.

    Args:
        bins: see `ghm_loss`.
    """

    def __init__(self, bins: int = 10) -> None:
        super().__init__()
        self.bins = bins

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """(..., C) loss of each pair; its sum over a batch, divided by positives, is a mean."""
        positives = at_least_float32(targets).sum()
        found, pairs = sum_over_ranks(
            torch.stack([positives, positives.new_tensor(targets.numel())])
        )
        share: Tensor = found.clamp(min=1) / pairs
        return share * ghm_loss(logits, targets, self.bins)
