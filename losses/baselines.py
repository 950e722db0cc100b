"""The losses that need nothing but the sample itself: cross-entropy and focal loss."""

from __future__ import annotations

from torch import Tensor

from losses.elementwise import ClassificationLoss, at_least_float32, cross_entropy, focused


class CrossEntropyLoss(ClassificationLoss):
    """Sigmoid cross-entropy of each (sample, class) pair."""

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Returns the unreduced loss, shaped as ``logits``."""
        return cross_entropy(at_least_float32(logits), at_least_float32(targets))


class FocalLoss(ClassificationLoss):
    """Focal loss (Lin et al., ICCV 2017).

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
        loss = focused(logits, targets, self.gamma) * cross_entropy(logits, targets)
        if self.alpha is None:
            return loss
        return (self.alpha * targets + (1 - self.alpha) * (1 - targets)) * loss
