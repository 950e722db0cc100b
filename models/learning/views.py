"""Two stains of one crop are to get one answer; only in training.

Pan et al. 2023 seek features that no stain changes by a causal autoencoder. This is a plainer way
to the same end, and ours: no annotation, and no name of a laboratory, is needed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import cast

import torch
from pydantic import Field
from torch import Tensor

from configs import StrictModel
from models.detectors.dense import DenseDetector, Target
from models.detectors.places import IGNORED, positives_and_hardest
from models.detectors.slot import LossSlot, positives_a_process

SURE = 1e-6
"""Probabilities are kept so far from 0, where a logarithm has no end."""


class ViewSettings(StrictModel):
    """How two stains of one crop are held consistent.

    Attributes:
        weight: of the divergence between both answers.
        warmup: share of the run over which the weight rises from nothing.
        hard_background: for each positive place so many of the background that look most like a
            cell are compared, too.
    """

    weight: float = Field(10.0, gt=0)
    warmup: float = Field(0.2, ge=0, le=1)
    hard_background: int = Field(1, ge=0)


class StainViews:
    """A detector's own losses, and the divergence of what it says of two stains of each crop.

    The second view is only looked at, without a gradient: a third of a step's work instead of all
    of it. Both are drawn alike, so the gradient has half of the symmetric one's mean.

    Args:
        settings: weight, warm-up and places.
    """

    def __init__(self, settings: ViewSettings) -> None:
        self.settings = settings

    def __call__(
        self,
        detector: DenseDetector,
        images: Sequence[Tensor],
        targets: list[Target],
        progress: float,
    ) -> dict[str, Tensor]:
        """Scalar losses by name: those of the detector, and ``views``.

        Args:
            detector: in training mode.
            images: (3, H, W) in 0..1, one batch.
            targets: of the images; "view" is the crop in another stain.
            progress: share of the run that is done.
        """
        with _shown(detector.slot) as seen:
            losses = cast(dict[str, Tensor], detector(images, targets))
        logits, labels = seen
        with torch.no_grad():
            batch, _ = detector.transform([target["view"] for target in targets])
            others = detector.run(batch)[0]["cls_logits"]
        warmed = min(1.0, progress / self.settings.warmup) if self.settings.warmup else 1.0
        apart = self.divergence(detector.slot, logits, others, labels)
        return losses | {"views": self.settings.weight * warmed * apart}

    def divergence(self, slot: LossSlot, logits: Tensor, others: Tensor, labels: Tensor) -> Tensor:
        """The divergence of two answers at the places that count, by the positives of the batch.

        Args:
            slot: says what the logits mean.
            logits: (B, A, channels) of one view.
            others: likewise of the other.
            labels: (B, A) class indices, `BACKGROUND` or `IGNORED`.

        Returns:
            A scalar.
        """
        used = labels != IGNORED
        one, other = slot.class_scores(logits[used]), slot.class_scores(others[used])
        positives = int((labels >= 0).sum())
        hard = self.settings.hard_background * positives
        chosen = positives_and_hardest(one.amax(dim=1), labels[used], hard)
        ways = [distributions(scores[chosen], slot.loss.softmax) for scores in (one, other)]
        return jensen_shannon(*ways).sum() / positives_a_process(labels >= 0)


def distributions(scores: Tensor, softmax: bool) -> Tensor:
    """What (N, C) probabilities of classes are distributions of.

    Args:
        scores: of the classes.
        softmax: whether these compete.

    Returns:
        (N, C, 2), there or not, of each class by itself; of classes that compete (N, 1, C + 1),
        each of them or none. Where those of several softmaxes add up to more than 1, there is no
        room for none, and all are scaled to 1.
    """
    if not softmax:
        return torch.stack([scores, 1 - scores], dim=-1)
    none = (1 - scores.sum(dim=-1, keepdim=True)).clamp(min=0)
    every = torch.cat([scores, none], dim=-1)
    return (every / every.sum(dim=-1, keepdim=True)).unsqueeze(-2)


def jensen_shannon(one: Tensor, other: Tensor) -> Tensor:
    """(N,) sums over K of the Jensen-Shannon divergence in nats of (N, K, n) distributions."""
    one, other = one.clamp(min=SURE), other.clamp(min=SURE)
    middle = ((one + other) / 2).log()
    halves = one * (one.log() - middle) + other * (other.log() - middle)
    return halves.sum(dim=(-2, -1)) / 2


@contextmanager
def _shown(slot: LossSlot) -> Iterator[list[Tensor]]:
    """A list that has the logits and labels of the batch once its losses are computed."""
    seen: list[Tensor] = []

    def keep(logits: Tensor, labels: Tensor) -> None:
        seen[:] = [logits, labels]

    slot.listeners.append(keep)
    try:
        yield seen
    finally:
        slot.listeners.remove(keep)
