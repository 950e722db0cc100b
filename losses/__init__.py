"""Classification losses for the long tail: functional, and as modules for a detector's slot."""

from losses.bags import BAGSLoss, bags_loss, class_groups
from losses.baselines import CrossEntropyLoss, FocalLoss
from losses.class_balanced import ClassBalancedLoss, class_balanced_loss, class_balanced_weights
from losses.config import LossConfig
from losses.elementwise import ClassificationLoss
from losses.eql import EQLLoss, EQLv2Loss, eql_loss, eqlv2_loss
from losses.equalized_focal import EqualizedFocalLoss, equalized_focal_loss
from losses.ghm import GHMLoss, ghm_loss
from losses.grad_libra import GradLibraLoss, grad_libra_loss
from losses.graded_libra import GradedLibraLoss, grade_weights, graded_libra_loss
from losses.gradient_ratio import GradientRatio
from losses.seesaw import SeesawLoss, seesaw_loss

__all__ = [
    "BAGSLoss",
    "ClassBalancedLoss",
    "ClassificationLoss",
    "CrossEntropyLoss",
    "EQLLoss",
    "EQLv2Loss",
    "EqualizedFocalLoss",
    "FocalLoss",
    "GHMLoss",
    "GradLibraLoss",
    "GradedLibraLoss",
    "GradientRatio",
    "LossConfig",
    "SeesawLoss",
    "bags_loss",
    "class_balanced_loss",
    "class_balanced_weights",
    "class_groups",
    "eql_loss",
    "eqlv2_loss",
    "equalized_focal_loss",
    "ghm_loss",
    "grad_libra_loss",
    "grade_weights",
    "graded_libra_loss",
    "seesaw_loss",
]
