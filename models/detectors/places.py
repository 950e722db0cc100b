"""Places of a batch by what is there: which are compared, and what the tower says of them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

BACKGROUND, IGNORED = -1, -2
"""Values of matched indices that name no box; torchvision's `Matcher` uses the same."""


def ranks_in_class(labels: Tensor) -> Tensor:
    """(N,) how many before it are of the same class, for each of (N,) labels."""
    order = labels.argsort(stable=True)
    counts = labels.bincount()
    firsts = counts.cumsum(0) - counts
    ranks = torch.empty_like(labels)
    ranks[order] = torch.arange(len(labels), device=labels.device) - firsts[labels[order]]
    return ranks


def positives_and_hardest(scores: Tensor, labels: Tensor, count: int) -> Tensor:
    """(K,) places: the positives, and of the background those that look most like a cell.

    Args:
        scores: (N,) the highest class score of each place.
        labels: (N,) class indices, below 0 for the background.
        count: so many of the background, or all that there are.
    """
    positive = labels >= 0
    background = torch.nonzero(~positive).squeeze(1)
    hardest = scores.detach()[background].topk(min(count, len(background))).indices
    return torch.cat([torch.nonzero(positive).squeeze(1), background[hardest]])


def features_at(levels: Sequence[Tensor], image: Tensor, place: Tensor) -> Tensor:
    """(K, channels) of the tower at places.

    Args:
        levels: (B, channels, H, W) maps.
        image: (K,) images of the batch.
        place: (K,) places of the image, level after level and row by row.
    """
    flat = torch.cat([level.flatten(2) for level in levels], dim=2)
    return flat[image, :, place]
