"""What the assignments of boxes to places share."""

from __future__ import annotations

import torch
from torch import Tensor

from models.detectors.places import BACKGROUND


def all_background(anchors: Tensor) -> Tensor:
    """(A,) matches of an image without boxes."""
    return torch.full_like(anchors[:, 0], BACKGROUND, dtype=torch.int64)


def settle_claims(quality: Tensor, places: Tensor, count: int) -> Tensor:
    """Gives each place to the box that claims it with the highest quality.

    Args:
        quality: (N, K), N at least 1, of each box's claims; ``-inf`` for a claim that is not made.
        places: (N, K) indices of the claimed places.
        count: the number of places.

    Returns:
        (count,) indices of boxes, `BACKGROUND` where nobody claims.
    """
    claims = quality.new_full((len(quality), count), -torch.inf)
    best, box = claims.scatter(1, places, quality).max(dim=0)
    return torch.where(best > -torch.inf, box, BACKGROUND)
