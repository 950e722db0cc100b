"""Which losses there are, by name: one line a loss, and nothing of torch is loaded for it.

A loss of another package is named by its import path or entry point instead; see
`configs.plugins`. Whatever stands here goes through `losses.contract.LossContract` in the tests.
"""

from __future__ import annotations

from collections.abc import Mapping

LOSSES: Mapping[str, str] = {
    "cross_entropy": "losses.baselines:CrossEntropyLoss",
    "focal": "losses.baselines:FocalLoss",
    "grad_libra": "losses.grad_libra:GradLibraLoss",
    "graded_libra": "losses.graded_libra:GradedLibraLoss",
    "class_balanced": "losses.class_balanced:ClassBalancedLoss",
    "eql": "losses.eql:EQLLoss",
    "eqlv2": "losses.eql:EQLv2Loss",
    "ghm": "losses.ghm:GHMLoss",
    "equalized_focal": "losses.equalized_focal:EqualizedFocalLoss",
    "seesaw": "losses.seesaw:SeesawLoss",
    "bags": "losses.bags:BAGSLoss",
}
"""Import path of each loss's module class."""
