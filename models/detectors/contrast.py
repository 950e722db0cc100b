"""Cells compared with a prototype of each class, and how they are embedded; only in training.

One against all, as the abstract of JRCL (Guan et al. 2023) calls its contrast; the formula is ours.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from losses.ranks import sum_over_ranks
from models.config import AbnormalHeadSettings
from models.detectors.training_only import TrainingOnly


def projection(channels: int, size: int) -> nn.Sequential:
    """From a place of the tower to what is compared."""
    return nn.Sequential(nn.Linear(channels, size), nn.ReLU(), nn.Linear(size, size))


def embed(project: nn.Module, features: Tensor) -> Tensor:
    """(N, D) of length 1 from (N, channels) features, in float32 whatever they come in."""
    with torch.autocast(features.device.type, enabled=False):
        return normalize(project(features.float()), dim=1)


class PrototypeContrast(TrainingOnly):
    """Embeds places of the classification tower, and keeps a moving mean of each class.

    Every class that was ever seen has a prototype in every step, so that a rare one is compared
    with even where the batch has none of it. Prototypes lie in buffers: they are in checkpoints,
    and a resumed run goes on with them. The saved model has none of it.

    Args:
        settings: momentum, temperature, and size of an embedding.
        num_classes: C.
        channels: of the classification tower.

    Attributes:
        prototypes: (C, D) of length 1; zeros for a class that no step has seen yet.
    """

    prototypes: Tensor

    def __init__(self, settings: AbnormalHeadSettings, num_classes: int, channels: int) -> None:
        super().__init__()
        size = settings.embedding
        self.momentum, self.temperature = settings.momentum, settings.temperature
        self.project = projection(channels, size)
        self.register_buffer("prototypes", torch.zeros(num_classes, size))

    def forward(self, features: Tensor, labels: Tensor) -> Tensor:
        """A scalar; then moves the prototypes towards this step's cells.

        The mean over the classes that the batch has and a former step has seen of two terms: how
        well a prototype picks its cells out of all places, and how well each of its cells picks
        the prototype out of all. Several processes compare each its own places, with prototypes of
        the cells of all; each must call it equally often.

        Args:
            features: (N, channels) of places.
            labels: (N,) class indices, below 0 for the background.
        """
        embedded = embed(self.project, features)
        with torch.autocast(features.device.type, enabled=False):
            loss = self._compare(embedded, labels)
        if self.training:
            self._move(embedded.detach(), labels)
        return loss

    def _compare(self, embedded: Tensor, labels: Tensor) -> Tensor:
        seen = self.prototypes.any(dim=1)
        # A copy: the buffer moves before the gradient comes back.
        likeness = embedded @ self.prototypes[seen].T / self.temperature  # (N, S)
        rank = seen.cumsum(0) - 1
        known = (labels >= 0) & seen[labels.clamp(min=0)]
        own = rank[labels[known]]  # (K,)
        if not len(own):
            return embedded.sum() * 0.0  # all processes wait for a gradient of every weight
        of_all = likeness.log_softmax(dim=0)[known].gather(1, own[:, None]).squeeze(1)
        of_prototypes = cross_entropy(likeness[known], own, reduction="none")
        counts = own.bincount(minlength=int(seen.sum()))
        weights = 1 / (counts[own] * (counts > 0).sum())
        return ((of_prototypes - of_all) * weights).sum()

    def _move(self, embedded: Tensor, labels: Tensor) -> None:
        count = len(self.prototypes)
        sums = embedded.new_zeros(count, embedded.shape[1] + 1)
        positive = labels >= 0
        rows = torch.cat([embedded, torch.ones_like(embedded[:, :1])], dim=1)
        sums.index_add_(0, labels[positive], rows[positive])
        sums = sum_over_ranks(sums)
        # A step that overflowed half precision moves nothing, as it moves no weight.
        here = (sums[:, -1] > 0) & sums.isfinite().all(dim=1)
        means = sums[:, :-1] / sums[:, -1:].clamp(min=1)
        unseen = ~self.prototypes.any(dim=1, keepdim=True)
        kept = torch.where(unseen, 0.0, self.momentum)
        moved = normalize(kept * self.prototypes + (1 - kept) * means, dim=1)
        self.prototypes.copy_(torch.where(here[:, None], moved, self.prototypes))
