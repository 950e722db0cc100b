"""Seesaw loss: a softmax in which frequent classes press less on rare ones."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from losses.elementwise import (
    ClassificationLoss,
    Reduction,
    at_least_float32,
    cross_entropy,
    is_foreground,
    reduce_loss,
)
from losses.ranks import sum_over_ranks


def seesaw_loss(
    inputs: Tensor,
    targets: Tensor,
    counts: Tensor,
    p: float = 0.8,
    q: float = 2.0,
    reduction: Reduction = "none",
) -> Tensor:
    r"""Seesaw loss of Wang et al., CVPR 2021, arXiv 2008.10032.

    "Seesaw loss for long-tailed instance segmentation": softmax cross-entropy in which the other
    classes j of a sample of class i are weighed,

    .. math:: L = -\log \frac{e^{z_i}}{\sum_{j \ne i} S_{ij} e^{z_j} + e^{z_i}}, \quad
        S_{ij} = M_{ij} C_{ij}

    .. math:: M_{ij} = \min(1, N_j / N_i)^p, \quad C_{ij} = \max(1, \sigma_j / \sigma_i)^q

    M mitigates what samples of a frequent class do to a rare one, C compensates where the sample
    is taken for class j; N counts the samples of each class so far, sigma is the plain softmax.
    S is a constant to the gradient. It is computed as a logarithm, in which
    log(sigma_j / sigma_i) = z_j - z_i: no softmax that rounds to 0 is divided by, and the floor of
    0.01 under sigma_i in the authors' code is not needed. A count of 0 is taken as 1, as there.
    With p = q = 0 this is softmax cross-entropy.

    Args:
        inputs: (..., C) class logits, without objectness; half precisions are computed in float32.
        targets: same shape, 1 for the sample's class and 0 for the others.
        counts: (C,) N.
        p: exponent of the mitigation.
        q: exponent of the compensation.
        reduction: "none", "mean" (over all samples) or "sum".

    Returns:
        The loss, (..., 1) for "none", 0 on background; else a scalar; at least float32.

    Raises:
        ValueError: an unknown reduction.
    """
    logits, targets = at_least_float32(inputs), at_least_float32(targets)
    weighed = logits + seesaw_log_weights(logits.detach(), targets, counts, p, q)
    loss = -(targets * weighed.log_softmax(dim=-1)).sum(dim=-1, keepdim=True)
    return reduce_loss(loss, reduction)


def seesaw_log_weights(
    logits: Tensor, targets: Tensor, counts: Tensor, p: float, q: float
) -> Tensor:
    """(..., C) log S of each row's own class i and every class j, 0 for j = i; see `seesaw_loss`.

    Rows of background have no class i: what they get means nothing.
    """
    log_counts = counts.clamp(min=1).to(logits.dtype).log()
    mitigation = (log_counts - _of_own_class(log_counts, targets)).clamp(max=0)
    compensation = (logits - _of_own_class(logits, targets)).clamp(min=0)
    return p * mitigation + q * compensation


class SeesawLoss(ClassificationLoss):
    """`seesaw_loss` as a module for a detector's loss slot, with an objectness and the counts.

    Background is no class of Seesaw. As in the paper, an objectness tells cells from background
    by cross-entropy over all samples, the class term is on cells only, and the score is the
    product of both. Objectness is one channel, the last: the paper's softmax over two logits is
    the sigmoid of their difference. The paper's cosine classifier belongs to the head, not to the
    loss, and is left out.

    Args:
        num_classes: C.
        p: see `seesaw_loss`, as q.
        q: see there.

    Attributes:
        counts: (C,) samples of each class in training so far, this step's included, over all
            ranks; they are in checkpoints, and a resumed run goes on with them.
    """

    counts: Tensor

    softmax = True

    def __init__(self, num_classes: int, p: float = 0.8, q: float = 2.0) -> None:
        super().__init__()
        self.p, self.q = p, q
        # Whole numbers: float32 would stop counting at 16.8 million.
        self.register_buffer("counts", torch.zeros(num_classes, dtype=torch.long))

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """(..., 1) loss of each row; in training mode, adds this step's samples to the counts.

        Args:
            logits: (..., C + 1), objectness last.
            targets: (..., C).
        """
        logits, targets = at_least_float32(logits), at_least_float32(targets)
        if self.training:
            self.counts += sum_over_ranks((targets > 0.5).flatten(0, -2).sum(dim=0))
        found = cross_entropy(logits[..., -1:], is_foreground(targets).to(logits.dtype))
        return found + seesaw_loss(logits[..., :-1], targets, self.counts, self.p, self.q)

    def channels(self, num_classes: int) -> int:
        """The classes and objectness."""
        return num_classes + 1

    def scores(self, logits: Tensor) -> Tensor:
        """(..., C) softmax times objectness, from (..., C + 1) logits."""
        logits = at_least_float32(logits)
        return logits[..., :-1].softmax(dim=-1) * logits[..., -1:].sigmoid()

    def prior_bias(self, num_classes: int, prior: float) -> Tensor:
        """(C + 1,) biases: all classes alike, objectness C times the prior, at most a half.

        So every class's score starts at the prior, as in sigmoid losses, unless the classes are
        so many that objectness would start by calling everything a cell.
        """
        objectness = min(num_classes * prior, 0.5)
        return torch.tensor([0.0] * num_classes + [math.log(objectness / (1 - objectness))])


def _of_own_class(values: Tensor, targets: Tensor) -> Tensor:
    """(..., 1): of (..., C) values that of the row's own class."""
    return (targets * values).sum(dim=-1, keepdim=True)
