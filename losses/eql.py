"""Equalization losses: rare classes are spared the negative gradient of the others."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from losses.elementwise import (
    ClassificationLoss,
    Reduction,
    at_least_float32,
    cross_entropy,
    hardness,
    is_foreground,
    reduce_loss,
)
from losses.gradient_ratio import GradientRatio


def eql_loss(
    inputs: Tensor, targets: Tensor, rare: Tensor, reduction: Reduction = "none"
) -> Tensor:
    r"""Equalization loss of Tan et al., CVPR 2020, arXiv 2003.05176.

    "Equalization loss for long-tailed object recognition": cross-entropy times

    .. math:: w_c = 1 - E \, T_c \, (1 - y_c)

    where E is 1 on samples of any class and 0 on background, T_c is 1 for rare classes: a rare
    class is a negative on the background only.

    Args:
        inputs: (..., C) logits; half precisions are computed in float32.
        targets: same shape, 1 for the sample's class and 0 for the others.
        rare: (C,) bool, T.
        reduction: "none", "mean" or "sum".

    Returns:
        The loss, shaped as ``inputs`` for "none", else a scalar; at least float32.

    Raises:
        ValueError: an unknown reduction.
    """
    logits, targets = at_least_float32(inputs), at_least_float32(targets)
    ignored = is_foreground(targets) & rare & (targets < 0.5)
    return reduce_loss(cross_entropy(logits, targets).masked_fill(ignored, 0.0), reduction)


class EQLLoss(ClassificationLoss):
    """`eql_loss` as a module for a detector's loss slot.

    Args:
        class_counts: number of training samples of each class.
        rare_below: a class with a smaller share of all samples is rare; the source's lambda.
    """

    rare: Tensor

    def __init__(self, class_counts: Sequence[int], rare_below: float = 0.05) -> None:
        super().__init__()
        rare = torch.tensor([count < rare_below * sum(class_counts) for count in class_counts])
        self.register_buffer("rare", rare, persistent=False)

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """See `eql_loss`."""
        return eql_loss(logits, targets, self.rare)


def eqlv2_weights(
    targets: Tensor, ratio: Tensor, gamma: float = 12.0, mu: float = 0.8, alpha: float = 4.0
) -> Tensor:
    """Weight of each (sample, class) pair; see `eqlv2_loss`."""
    balanced = torch.sigmoid(gamma * (ratio - mu))
    return torch.where(targets > 0.5, 1 + alpha * (1 - balanced), balanced)


def eqlv2_loss(
    inputs: Tensor,
    targets: Tensor,
    ratio: Tensor,
    gamma: float = 12.0,
    mu: float = 0.8,
    alpha: float = 4.0,
    reduction: Reduction = "none",
) -> Tensor:
    r"""Equalization loss v2 of Tan et al., CVPR 2021, arXiv 2012.08548.

    "Equalization loss v2: a new gradient balance approach for long-tailed object detection".
    With r the ratio of positive to negative gradient that a class has had so far,

    .. math:: f(r) = \frac{1}{1 + e^{-\gamma (r - \mu)}}, \quad
        w^+ = 1 + \alpha (1 - f(r)), \quad w^- = f(r)

    weigh the cross-entropy of its positives and negatives. Balanced classes (r large) keep
    plain cross-entropy.

    Args:
        inputs: (..., C) logits; half precisions are computed in float32.
        targets: same shape, 1 for the sample's class and 0 for the others.
        ratio: (C,) r; `GradientRatio` keeps it.
        gamma: steepness of f.
        mu: ratio at which f is a half.
        alpha: how much more the positives of a starved class weigh.
        reduction: "none", "mean" or "sum".

    Returns:
        The loss, shaped as ``inputs`` for "none", else a scalar; at least float32.

    Raises:
        ValueError: an unknown reduction.
    """
    logits, targets = at_least_float32(inputs), at_least_float32(targets)
    weight = eqlv2_weights(targets, ratio, gamma, mu, alpha)
    return reduce_loss(weight * cross_entropy(logits, targets), reduction)


class EQLv2Loss(ClassificationLoss):
    """`eqlv2_loss` as a module for a detector's loss slot, with the ratios of the steps before.

    Args:
        num_classes: C.
        gamma: see `eqlv2_loss`, as the others.
        mu: see there.
        alpha: see there.
    """

    def __init__(
        self, num_classes: int, gamma: float = 12.0, mu: float = 0.8, alpha: float = 4.0
    ) -> None:
        super().__init__()
        self.gamma, self.mu, self.alpha = gamma, mu, alpha
        self.ratio = GradientRatio(num_classes)

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """See `eqlv2_loss`; in training mode, adds this step's gradient to the ratios."""
        logits, targets = at_least_float32(logits), at_least_float32(targets)
        arguments = targets, self.ratio(), self.gamma, self.mu, self.alpha
        self.ratio.accumulate(eqlv2_weights(*arguments) * hardness(logits, targets), targets)
        return eqlv2_loss(logits, *arguments)
