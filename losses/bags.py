"""Balanced group softmax: classes compete with those that are about as frequent."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence

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

Groups = Sequence[Sequence[int]]
"""Indices of the classes in each group; every class is in one."""


def class_groups(class_counts: Sequence[int], bounds: Sequence[int]) -> list[list[int]]:
    """Classes in groups of similar counts, the rarest first; groups without classes are dropped.

    Args:
        class_counts: number of training samples of each class.
        bounds: increasing; a class is in the group after the last bound that its count reaches.
    """
    of_class = [bisect_right(bounds, count) for count in class_counts]
    return [
        [c for c, group in enumerate(of_class) if group == one] for one in sorted(set(of_class))
    ]


def bags_loss(
    inputs: Tensor,
    targets: Tensor,
    groups: Groups,
    beta: float = 8.0,
    background_ratio: float = 3.0,
    reduction: Reduction = "none",
) -> Tensor:
    r"""Balanced group softmax (BAGS) of Li et al., CVPR 2020, arXiv 2006.10408, without its G0.

    "Overcoming classifier imbalance for long-tail object detection with balanced group softmax":
    a softmax over the classes of each group and an "others" slot, which stands for all samples
    of no class in the group; the loss of a sample is the sum of its groups' cross-entropies,

    .. math:: L = -\sum_n w_n \log p_n, \quad p_n = \frac{e^{z_t}}{\sum_{i \in G_n} e^{z_i}}

    where t is the sample's class, or "others". Of the "others" the paper samples
    beta times as many as the batch has samples of the group's classes, none where it has none.
    Here each gets the probability of being drawn as its weight,

    .. math:: w_n = \min(1, \beta \, |G_n| / |\mathrm{others}_n|)

    which gives the expected value of the sampled loss without its noise, largest for rare groups,
    whose few "others" would be drawn anew from 1e5 anchors each step. The samples of the
    group's own classes weigh 1.

    Background is among the "others", but not as it comes. The paper's samples are proposals,
    of which R-CNN's sampler takes some three of background for a cell. Of a dense head's samples
    nearly all are background: drawn evenly, they would leave no place for cells of other groups,
    and no group would learn to tell its cells from those. So in the "others" all background
    together counts for ``background_ratio`` times the batch's cells at most.

    The authors train the last layer alone, on top of a trained detector, and average each group
    over its own samples. Here the whole detector learns, and one normaliser, the detector's,
    holds for all groups, so that rare ones don't pull the backbone as hard as frequent ones.

    Args:
        inputs: (..., C + G) logits of the classes, then of each group's "others"; half
            precisions are computed in float32.
        targets: (..., C), 1 for the sample's class and 0 for the others.
        groups: G groups; see `class_groups`.
        beta: most "others" in a group's loss, in samples of its own.
        background_ratio: most background among the "others", in cells; 0 leaves it out.
        reduction: "none", "mean" (over all samples) or "sum".

    Returns:
        The loss, (..., 1) for "none", else a scalar; at least float32.

    Raises:
        ValueError: an unknown reduction.
    """
    logits, targets = at_least_float32(inputs), at_least_float32(targets)
    log_p = _in_groups(torch.log_softmax, logits, groups)
    weights = torch.cat([targets, others_weights(targets, groups, beta, background_ratio)], dim=-1)
    return reduce_loss(-(weights * log_p).sum(dim=-1, keepdim=True), reduction)


def others_weights(targets: Tensor, groups: Groups, beta: float, background_ratio: float) -> Tensor:
    """(..., G): how much each sample of a batch counts as "others" of each group.

    See `bags_loss` for the arguments.
    """
    own = torch.stack([targets[..., list(group)].sum(dim=-1) for group in groups], dim=-1)
    cell = own.sum(dim=-1, keepdim=True)
    background = 1 - cell
    cells, backgrounds = _total(torch.cat([cell, background], dim=-1))
    weight = cell + background * _share(background_ratio * cells, backgrounds)
    others = (1 - own) * weight
    return others * _share(beta * _total(own), _total(others))


class BAGSLoss(ClassificationLoss):
    """`bags_loss` as a module for a detector's loss slot, with the foreground's channel.

    The paper's group G0 tells foreground from background by a softmax over two logits, for all
    samples. That is the sigmoid of their difference, so here it is one channel, the last.

    Args:
        class_counts: number of training samples of each class.
        bounds: see `class_groups`.
        beta: see `bags_loss`, as background_ratio.
        background_ratio: see there.

    Attributes:
        groups: indices of the classes in each group.
    """

    softmax = True

    def __init__(
        self,
        class_counts: Sequence[int],
        bounds: Sequence[int] = (100, 1000),
        beta: float = 8.0,
        background_ratio: float = 3.0,
    ) -> None:
        super().__init__()
        self.groups = class_groups(class_counts, bounds)
        self.beta, self.background_ratio = beta, background_ratio

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """(..., 1) loss of each row.

        Args:
            logits: (..., C + G + 1): the classes, each group's "others", foreground.
            targets: (..., C).
        """
        logits, targets = at_least_float32(logits), at_least_float32(targets)
        found = cross_entropy(logits[..., -1:], is_foreground(targets).to(logits.dtype))
        arguments = self.groups, self.beta, self.background_ratio
        return found + bags_loss(logits[..., :-1], targets, *arguments)

    def channels(self, num_classes: int) -> int:
        """The classes, an "others" for each group, and foreground."""
        return num_classes + len(self.groups) + 1

    def scores(self, logits: Tensor) -> Tensor:
        """(..., C) probability in the class's group times that of foreground."""
        logits = at_least_float32(logits)
        p = _in_groups(torch.softmax, logits[..., :-1], self.groups)
        return p[..., : -len(self.groups)] * logits[..., -1:].sigmoid()

    def prior_bias(self, num_classes: int, prior: float) -> Tensor:
        """(channels,) biases at which every class's score is the prior.

        "Others" start as probable as the classes and the background that they stand for, all
        equally; foreground then at C + 1 times the prior, at most a half.
        """
        others = [math.log(num_classes + 1 - len(group)) for group in self.groups]
        foreground = min((num_classes + 1) * prior, 0.5)
        odds = foreground / (1 - foreground)
        return torch.tensor([0.0] * num_classes + others + [math.log(odds)])


def _in_groups(function: Callable[..., Tensor], logits: Tensor, groups: Groups) -> Tensor:
    """``function``, a softmax, of each group's channels, put back into the channels' places."""
    classes = sum(len(group) for group in groups)
    members = [[*group, classes + n] for n, group in enumerate(groups)]
    found = torch.cat([function(logits[..., one], dim=-1) for one in members], dim=-1)
    channel = [c for one in members for c in one]
    return found[..., sorted(range(len(channel)), key=channel.__getitem__)]


def _total(values: Tensor) -> Tensor:
    """(G,) sums over (..., G) samples, those of all processes."""
    return sum_over_ranks(values.flatten(0, -2).sum(dim=0))


def _share(wanted: Tensor, there: Tensor) -> Tensor:
    """The share of what is there to take for what is wanted, at most all."""
    return (wanted / there.clamp(min=1e-9)).clamp(max=1)
