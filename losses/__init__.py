"""Classification losses for the long tail: functional, and as modules for a detector's slot."""

from losses.baselines import CrossEntropyLoss, FocalLoss
from losses.config import LossConfig
from losses.elementwise import ClassificationLoss
from losses.grad_libra import GradLibraLoss, grad_libra_loss

__all__ = [
    "ClassificationLoss",
    "CrossEntropyLoss",
    "FocalLoss",
    "GradLibraLoss",
    "LossConfig",
    "grad_libra_loss",
]
