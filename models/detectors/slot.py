"""The slot for a classification loss: the one place where losses and detectors meet."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from losses import ClassificationLoss
from losses.ranks import mean_over_ranks
from models.config import DetectorConfig

BACKGROUND, IGNORED = -1, -2
"""Values of matched indices that name no box; torchvision's `Matcher` uses the same."""

Watcher = Callable[[Tensor, Tensor], None]
"""Is shown, in each backward pass, the gradient in the class logits and their targets."""


class LossSlot(nn.Module):
    """A detector's classification loss, its weight and its normaliser.

    The same for every detector, so that any loss goes with any of them, and so that detectors
    and losses are compared under one rule.

    Attributes:
        loss: the loss itself; its state, if any, lies in its buffers.
        channels: logits that the head gives for each anchor; the first ones are the classes'.
        watcher: sees what gradient each class receives; None for nobody.
    """

    def __init__(self, config: DetectorConfig) -> None:
        super().__init__()
        self.num_classes = len(config.classes)
        self.loss: ClassificationLoss = config.loss.build(self.num_classes)
        self.channels = self.loss.channels(self.num_classes)
        self.weight = config.loss.weight
        self.normaliser = config.normaliser
        self.prior = config.prior_probability
        self.watcher: Watcher | None = None

    def set_prior(self, layer: nn.Conv2d) -> None:
        """Sets biases so that every class starts at the prior (Lin et al. 2017, sec. 3.3)."""
        assert layer.bias is not None
        bias = self.loss.prior_bias(self.num_classes, self.prior)
        with torch.no_grad():
            layer.bias.copy_(bias.repeat(len(layer.bias) // self.channels))

    def scores(self, logits: Tensor) -> Tensor:
        """(..., classes) probabilities from (..., channels) logits."""
        return self.loss.scores(logits)

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The weighted and normalised loss of a batch, a scalar.

        Args:
            logits: (B, A, channels).
            labels: (B, A) class indices, `BACKGROUND` or `IGNORED`.
        """
        used = labels != IGNORED
        rows, targets = logits[used], one_hot(labels[used], self.num_classes, logits.dtype)
        if self.watcher is not None and rows.requires_grad:
            self._watch(rows, targets, self.watcher)
        # One call for the whole batch: losses with statistics are to see all of it.
        loss = self.loss(rows, targets)
        if self.normaliser == "positives":
            total = loss.sum() / positives_a_process(labels >= 0)
        else:
            total = _mean_over_images(loss, used, labels >= 0)
        return self.weight * total

    def _watch(self, rows: Tensor, targets: Tensor, watcher: Watcher) -> None:
        def show(gradient: Tensor) -> None:
            watcher(gradient[:, : self.num_classes].detach(), targets)

        rows.register_hook(show)  # type: ignore[no-untyped-call]


def positives_a_process(positive: Tensor) -> float:
    """What losses are divided by: positives, at least 1; their mean over processes.

    With it several processes learn what one would with all of their batches.
    """
    return max(1.0, float(mean_over_ranks(positive.sum())))


def one_hot(labels: Tensor, num_classes: int, dtype: torch.dtype) -> Tensor:
    """(N, C) targets from (N,) labels; a row of zeros for the background."""
    targets = torch.zeros(len(labels), num_classes, dtype=dtype, device=labels.device)
    positive = labels >= 0
    targets[positive, labels[positive]] = 1.0
    return targets


def _mean_over_images(loss: Tensor, used: Tensor, positive: Tensor) -> Tensor:
    """Each image's sum divided by its positives, in torchvision's order of summing."""
    of_image = torch.split(loss, used.sum(dim=1).tolist())
    positives = positive.sum(dim=1).tolist()
    parts = [part.sum() / max(1, count) for part, count in zip(of_image, positives, strict=True)]
    return sum(parts[1:], parts[0]) / len(parts)
