"""What `losses` offers, by module."""

from .bags import BAGSLoss as BAGSLoss
from .bags import bags_loss as bags_loss
from .bags import class_groups as class_groups
from .baselines import CrossEntropyLoss as CrossEntropyLoss
from .baselines import FocalLoss as FocalLoss
from .class_balanced import ClassBalancedLoss as ClassBalancedLoss
from .class_balanced import class_balanced_loss as class_balanced_loss
from .class_balanced import class_balanced_weights as class_balanced_weights
from .config import LossConfig as LossConfig
from .elementwise import ClassificationLoss as ClassificationLoss
from .eql import EQLLoss as EQLLoss
from .eql import EQLv2Loss as EQLv2Loss
from .eql import eql_loss as eql_loss
from .eql import eqlv2_loss as eqlv2_loss
from .equalized_focal import EqualizedFocalLoss as EqualizedFocalLoss
from .equalized_focal import equalized_focal_loss as equalized_focal_loss
from .ghm import GHMLoss as GHMLoss
from .ghm import ghm_loss as ghm_loss
from .grad_libra import GradLibraLoss as GradLibraLoss
from .grad_libra import grad_libra_loss as grad_libra_loss
from .graded_libra import GradedLibraLoss as GradedLibraLoss
from .graded_libra import grade_weights as grade_weights
from .graded_libra import graded_libra_loss as graded_libra_loss
from .gradient_ratio import GradientRatio as GradientRatio
from .seesaw import SeesawLoss as SeesawLoss
from .seesaw import seesaw_loss as seesaw_loss
