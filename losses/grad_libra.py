"""Grad-Libra Loss: samples weighed by how hard their gradient says they are."""

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


def grad_libra_loss(
    inputs: Tensor,
    targets: Tensor,
    alpha_pos: float = 0.8,
    alpha_neg: float = 0.8,
    reduction: Reduction = "none",
    detach: bool = True,
) -> Tensor:
    r"""Grad-Libra Loss of Liu et al., MICCAI 2022, arXiv 2208.03779.

    "Sample hardness based gradient loss for long-tailed cervical cell detection". With
    p = sigmoid(z), the gradient of cross-entropy has the magnitude g = 1 - p for the positive
    class and g = p for a negative one: the hardness of the pair. Easy pairs are damped by

    .. math:: F(g) = g - \alpha \sin(g) \qquad\text{(eq. 2)}

    .. math:: G^+ = (1-p) - \alpha^+ \sin(1-p), \quad G^- = p - \alpha^- \sin(p)
        \qquad\text{(eq. 4)}

    and the loss is G times cross-entropy (eq. 3, 5; the minus printed in eq. 5 is a typo).
    With alpha 0 this is focal loss with gamma 1 and no alpha. At 0.8 the whole loss shrinks
    (F(1) = 0.327): rescale it where it is summed with a box loss.

    Args:
        inputs: logits z, any shape; half precisions are computed in float32.
        targets: same shape, 1 for the positive class and 0 for the others.
        alpha_pos: alpha of positive pairs, in [0, 1], radians.
        alpha_neg: alpha of negative pairs, in [0, 1], radians.
        reduction: "none", "mean" or "sum".
        detach: G is a constant weight (the paper's reading of it as a weight, inferred);
            False lets the gradient flow through it.

    Returns:
        The loss, shaped as ``inputs`` for "none", else a scalar; at least float32.

    Raises:
        ValueError: an unknown reduction.
    """
    logits, targets = at_least_float32(inputs), at_least_float32(targets)
    gradient = hardness(logits, targets)
    alpha = alpha_neg + (alpha_pos - alpha_neg) * targets
    weight = gradient - alpha * torch.sin(gradient)
    if detach:
        weight = weight.detach()
    return reduce_loss(weight * cross_entropy(logits, targets), reduction)


class GradLibraLoss(ClassificationLoss):
    """`grad_libra_loss` as a module for a detector's loss slot; same arguments."""

    def __init__(self, alpha_pos: float = 0.8, alpha_neg: float = 0.8, detach: bool = True) -> None:
        super().__init__()
        self.alpha_pos, self.alpha_neg, self.detach = alpha_pos, alpha_neg, detach

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """See `grad_libra_loss`."""
        return grad_libra_loss(logits, targets, self.alpha_pos, self.alpha_neg, detach=self.detach)
