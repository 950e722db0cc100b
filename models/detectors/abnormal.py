"""One more output a place, "abnormal", and what keeps it and the classes of one mind.

The idea is that of JRCL (Guan et al., Image and Vision Computing 2023): a binary classifier beside
the one of many classes, held consistent with it, and a contrast with prototypes. Its abstract names
these three terms and no formula; the formulas here are ours.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, logsigmoid

from models.config import AbnormalHeadSettings
from models.detectors.contrast import PrototypeContrast
from models.detectors.places import positives_and_hardest

SURE = 1e-6
"""Probabilities are kept so far from 0 and 1, where a divergence has no end."""


class AbnormalHead(nn.Module):
    """The abnormal output's losses, and the scores that come of it and the classes.

    Args:
        settings: weights of the losses.
        is_abnormal: for each class, whether it is.
        channels: of the classification tower.

    Attributes:
        contrast: compares cells with prototypes; None where that is off.
    """

    flags: Tensor

    def __init__(
        self, settings: AbnormalHeadSettings, is_abnormal: list[bool], channels: int
    ) -> None:
        super().__init__()
        self.settings = settings
        # Numbers, since a moving average of all buffers can't be taken of truths.
        self.register_buffer("flags", torch.tensor(is_abnormal).float(), persistent=False)
        self.contrast = (
            PrototypeContrast(settings, len(is_abnormal), channels) if settings.contrast else None
        )

    def scores(self, classes: Tensor, logit: Tensor) -> Tensor:
        """(..., C) scores from (..., C) class probabilities and (...,) logits of "abnormal".

        Those of the abnormal classes are scaled so that the highest of them is the geometric mean
        of both answers, sqrt(p q): what is pooled by the highest score, as reports and evaluation
        do, is that mean, the order of the classes stays, and where both agree all scores do. Those
        of normal classes stay.
        """
        pooled = self.pooled(classes)
        highest = (classes * self.flags).amax(dim=-1)
        wanted = (pooled * logit.sigmoid()).sqrt()
        factor = wanted / highest.clamp(min=torch.finfo(classes.dtype).tiny)
        scaled = (classes * factor.unsqueeze(-1)).clamp(max=1)
        return torch.where(self.flags > 0, scaled, classes)

    def pooled(self, classes: Tensor) -> Tensor:
        """(...,) how likely (..., C) class probabilities make an abnormal cell."""
        of_abnormal = classes * self.flags
        if self.settings.pooled == "max":
            return of_abnormal.amax(dim=-1)
        return 1 - (1 - of_abnormal).prod(dim=-1)

    def binary_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """(N,) binary cross-entropy of (N,) logits at places of (N,) labels, background below 0."""
        wanted = self.flags[labels.clamp(min=0)] * (labels >= 0)
        return binary_cross_entropy_with_logits(logits, wanted.to(logits.dtype), reduction="none")

    def divergence(self, classes: Tensor, logits: Tensor) -> Tensor:
        """(N,) symmetric divergence of what (N, C) classes and (N,) logits say.

        Half of KL(p || q) and half of KL(q || p), between Bernoulli distributions; in each term
        the second one is held still, so that either is drawn towards the other.
        """
        pooled = self.pooled(classes).clamp(SURE, 1 - SURE)
        of_classes = torch.stack([pooled.log(), torch.log1p(-pooled)])
        of_head = torch.stack([logsigmoid(logits), logsigmoid(-logits)]).clamp(min=_log(SURE))
        return (_divergence(of_classes, of_head) + _divergence(of_head, of_classes)) / 2

    def chosen(self, scores: Tensor, labels: Tensor) -> Tensor:
        """(K,) of what consistency and contrast look at: positives, and hard background.

        Args:
            scores: (N,) the likeliest class's probability.
            labels: (N,) class indices, below 0 for the background.
        """
        hard = self.settings.hard_background * int((labels >= 0).sum())
        return positives_and_hardest(scores, labels, hard)


def _divergence(one: Tensor, other: Tensor) -> Tensor:
    """(N,) KL(one || other), without gradient in the other, of (2, N) logarithms."""
    return (one.exp() * (one - other.detach())).sum(dim=0)


def _log(value: float) -> float:
    return float(torch.tensor(value).log())
