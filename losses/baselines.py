"""The losses that need nothing but the sample itself: cross-entropy and focal loss."""

from __future__ import annotations

from torch import Tensor
from torchvision.ops import sigmoid_focal_loss

from losses.elementwise import ClassificationLoss, at_least_float32, cross_entropy


class CrossEntropyLoss(ClassificationLoss):
    """Sigmoid cross-entropy of each (sample, class) pair."""

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Returns the unreduced loss, shaped as ``logits``."""
        return cross_entropy(at_least_float32(logits), at_least_float32(targets))


class FocalLoss(ClassificationLoss):
    """Focal loss (Lin et al., ICCV 2017), by torchvision.

    Args:
        alpha: weight of positives, 1 - alpha that of negatives; None for no weighting.
        gamma: exponent of (1 - p_t).
    """

    def __init__(self, alpha: float | None = 0.25, gamma: float = 2.0) -> None:
        super().__init__()
        self.alpha, self.gamma = alpha, gamma

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Returns the unreduced loss, shaped as ``logits``."""
        loss: Tensor = sigmoid_focal_loss(
            at_least_float32(logits),
            at_least_float32(targets),
            alpha=-1.0 if self.alpha is None else self.alpha,  # torchvision's "no alpha"
            gamma=self.gamma,
        )
        return loss
