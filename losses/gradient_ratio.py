"""The balance of positive to negative gradient of each class, kept over training."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from losses.ranks import sum_over_ranks


class GradientRatio(nn.Module):
    """What EQL v2 and equalized focal loss go by (Tan et al., CVPR 2021, arXiv 2012.08548).

    The sums lie in buffers: they are in checkpoints, and a resumed run goes on with them.

    Attributes:
        positive: (C,) gradient magnitude summed over the positive pairs of each class so far.
        negative: (C,) that of its negative pairs.
    """

    positive: Tensor
    negative: Tensor

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.register_buffer("positive", torch.zeros(num_classes))
        self.register_buffer("negative", torch.zeros(num_classes))

    def forward(self) -> Tensor:
        """(C,) ratios r = positive / negative; infinite, so balanced, before any gradient."""
        seen = self.positive + self.negative > 0
        return torch.where(seen, self.positive / (self.negative + 1e-10), torch.inf)

    def accumulate(self, gradient: Tensor, targets: Tensor) -> None:
        """Adds a step, summed over all ranks; in evaluation mode nothing.

        Every rank must call it equally often. A step that overflowed half precision adds
        nothing, as the gradient scaler leaves it out of the weights too.

        Args:
            gradient: (..., C) magnitudes of the loss's gradient, before the normaliser.
            targets: same shape, 1 for the sample's class and 0 for the others.
        """
        if not self.training:
            return
        sums = gradient_sums(gradient.detach(), targets).to(self.positive.dtype)
        sums = sum_over_ranks(sums).nan_to_num(nan=0.0, posinf=0.0)
        self.positive += sums[0]
        self.negative += sums[1]


def gradient_sums(gradient: Tensor, targets: Tensor) -> Tensor:
    """(2, C) magnitude on positive and on negative pairs, summed over (..., C) samples."""
    gradient, targets = gradient.flatten(0, -2), targets.flatten(0, -2)
    positive = (gradient * targets).sum(dim=0)
    return torch.stack([positive, gradient.sum(dim=0) - positive])
