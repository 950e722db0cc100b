"""The losses that need nothing but the sample itself: cross-entropy and focal loss."""

from __future__ import annotations

from torch import Tensor
from torchvision.ops import sigmoid_focal_loss

from losses.elementwise import (
    ClassificationLoss,
    at_least_float32,
    cross_entropy,
    focused,
    side_weight,
)


class CrossEntropyLoss(ClassificationLoss):
    """Sigmoid cross-entropy of each (sample, class) pair."""

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Returns the unreduced loss, shaped as ``logits``."""
        return cross_entropy(at_least_float32(logits), at_least_float32(targets))


class FocalLoss(ClassificationLoss):
    """Focal loss (Lin et al., ICCV 2017), by torchvision, but for a gamma between 0 and 1.

    Args:
        alpha: weight of positives, 1 - alpha that of negatives; None for no weighting.
        gamma: exponent of (1 - p_t).
    """

    def __init__(self, alpha: float | None = 0.25, gamma: float = 2.0) -> None:
        super().__init__()
        self.alpha, self.gamma = alpha, gamma

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Returns the unreduced loss, shaped as ``logits``."""
        logits, targets = at_least_float32(logits), at_least_float32(targets)
        if 0 < self.gamma < 1:  # torchvision's has no gradient where p_t rounds to 1
            plain = focused(logits, targets, self.gamma) * cross_entropy(logits, targets)
            return plain if self.alpha is None else side_weight(targets, self.alpha) * plain
        alpha = -1.0 if self.alpha is None else self.alpha  # torchvision's "no alpha"
        loss: Tensor = sigmoid_focal_loss(logits, targets, alpha=alpha, gamma=self.gamma)
        return loss
