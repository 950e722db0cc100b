"""Places of a batch by what is there: which are compared, and what the tower says of them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

BACKGROUND, IGNORED = -1, -2
"""Values of matched indices that name no box; torchvision's `Matcher` uses the same."""


def place_labels(scores: Tensor, labels: Tensor, anchors: int) -> tuple[Tensor, Tensor]:
    """What is at each place, of which a detector may have several anchors.

    A cell's, if one of its anchors is: of the class of the surest such anchor. Otherwise it is
    ignored if one of them is, since its features are the same for all of them.

    Args:
        scores: (B, P * anchors, C) in 0..1.
        labels: (B, P * anchors) class indices, `BACKGROUND` or `IGNORED`.
        anchors: of a place.

    Returns:
        (B, P) scores, of a cell's own class and of the background's highest, and (B, P) labels.
    """
    by_place = labels.reshape(len(labels), -1, anchors)
    own = scores.gather(2, labels.clamp(min=0)[..., None]).squeeze(2)
    own = own.masked_fill(labels < 0, -1.0).reshape(by_place.shape)
    surest = own.argmax(dim=2, keepdim=True)
    is_cell = (by_place >= 0).any(dim=2)
    elsewhere = by_place.amin(dim=2)  # the ignored is below the background
    here = torch.where(is_cell, by_place.gather(2, surest).squeeze(2), elsewhere)
    highest = scores.amax(dim=2).reshape(by_place.shape).amax(dim=2)
    return torch.where(is_cell, own.amax(dim=2), highest), here


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


def anchors_a_place(levels: Sequence[Tensor], anchors: int) -> int:
    """Of so many anchors an image, on (B, channels, H, W) maps."""
    return anchors // sum(level[0, 0].numel() for level in levels)


def features_at(levels: Sequence[Tensor], image: Tensor, place: Tensor) -> Tensor:
    """(K, channels) of the tower at places.

    Args:
        levels: (B, channels, H, W) maps.
        image: (K,) images of the batch.
        place: (K,) places of the image, level after level and row by row.
    """
    flat = torch.cat([level.flatten(2) for level in levels], dim=2)
    return flat[image, :, place]
