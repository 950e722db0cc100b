"""Equalized focal loss: focal loss whose focus grows as a class is starved of gradient."""

from __future__ import annotations

from torch import Tensor

from losses.elementwise import (
    ClassificationLoss,
    Reduction,
    at_least_float32,
    cross_entropy,
    focused,
    hardness,
    reduce_loss,
    side_weight,
)
from losses.gradient_ratio import GradientRatio


def equalized_focal_loss(
    inputs: Tensor,
    targets: Tensor,
    ratio: Tensor,
    alpha: float = 0.25,
    gamma: float = 2.0,
    scale: float = 8.0,
    reduction: Reduction = "none",
) -> Tensor:
    r"""Equalized focal loss of Li et al., CVPR 2022, arXiv 2201.02593.

    "Equalized focal loss for dense long-tailed object detection". With r the ratio of positive
    to negative gradient that a class has had so far, clamped to [0, 1],

    .. math:: \gamma_c = \gamma + s (1 - r_c), \quad
        L = \alpha_t \frac{\gamma_c}{\gamma} (1 - p_t)^{\gamma_c} \, \mathrm{BCE}

    Balanced classes (r = 1) keep focal loss.

    Args:
        inputs: (..., C) logits; half precisions are computed in float32.
        targets: same shape, 1 for the sample's class and 0 for the others.
        ratio: (C,) r; `GradientRatio` keeps it.
        alpha: weight of positives, 1 - alpha that of negatives.
        gamma: focus of a balanced class.
        scale: s, how much the focus of a starved class grows.
        reduction: "none", "mean" or "sum".

    Returns:
        The loss, shaped as ``inputs`` for "none", else a scalar; at least float32.

    Raises:
        ValueError: an unknown reduction.
    """
    logits, targets = at_least_float32(inputs), at_least_float32(targets)
    focus = _focus(ratio, gamma, scale)
    weight = side_weight(targets, alpha) * focus / gamma * focused(logits, targets, focus)
    return reduce_loss(weight * cross_entropy(logits, targets), reduction)


class EqualizedFocalLoss(ClassificationLoss):
    """`equalized_focal_loss` as a module for a detector's loss slot, with the ratios so far.

    Args:
        num_classes: C.
        alpha: see `equalized_focal_loss`, as the others.
        gamma: see there.
        scale: see there.
    """

    def __init__(
        self, num_classes: int, alpha: float = 0.25, gamma: float = 2.0, scale: float = 8.0
    ) -> None:
        super().__init__()
        self.alpha, self.gamma, self.scale = alpha, gamma, scale
        self.ratio = GradientRatio(num_classes)

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """See `equalized_focal_loss`; in training mode, adds this step's gradient to the ratios."""
        logits, targets = at_least_float32(logits), at_least_float32(targets)
        arguments = targets, self.ratio(), self.alpha, self.gamma, self.scale
        self.ratio.accumulate(equalized_focal_gradient(logits.detach(), *arguments), targets)
        return equalized_focal_loss(logits, *arguments)


def equalized_focal_gradient(
    logits: Tensor, targets: Tensor, ratio: Tensor, alpha: float, gamma: float, scale: float
) -> Tensor:
    r"""Magnitude of the gradient of `equalized_focal_loss` in each logit.

    .. math:: \alpha_t \frac{\gamma_c}{\gamma} (1 - p_t)^{\gamma_c}
        (1 - p_t + \gamma_c p_t \, \mathrm{BCE})
    """
    focus, hard = _focus(ratio, gamma, scale), hardness(logits, targets)
    weight = side_weight(targets, alpha) * focus / gamma * hard**focus
    return weight * (hard + focus * (1 - hard) * cross_entropy(logits, targets))


def _focus(ratio: Tensor, gamma: float, scale: float) -> Tensor:
    return gamma + scale * (1 - ratio.clamp(0, 1))
