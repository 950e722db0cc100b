"""The slot for a classification loss: the one place where losses and detectors meet."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from configs import ConfigError
from losses import ClassificationLoss
from losses.ranks import mean_over_ranks
from models.config import DetectorConfig
from models.detectors.abnormal import AbnormalHead
from models.detectors.causal import CausalAutoencoder
from models.detectors.history import HistoricalComparison
from models.detectors.places import IGNORED, anchors_a_place, features_at, place_labels

Listener = Callable[[Tensor, Tensor], None]
"""Is shown the logits of a batch, (B, A, channels), and its labels, (B, A)."""

Reducer = Callable[[Tensor, Tensor], Tensor]
"""From the class loss of each image, (B,), and what it is to be divided by, (B,), to a scalar."""

Watcher = Callable[[Tensor, Tensor], None]
"""Is shown, in each backward pass, the gradient in the class logits and their targets."""


class LossSlot(nn.Module):
    """A detector's classification loss, its weight and its normaliser.

    The same for every detector, so that any loss goes with any of them, and so that detectors
    and losses are compared under one rule. A configuration's abnormal head has its place here, too:
    its logit is one more channel behind the loss's; and so has the comparison with former steps.

    Attributes:
        loss: the loss itself; its state, if any, lies in its buffers.
        abnormal: the abnormal head; None without one.
        history: the comparison with background and former steps; None without one.
        causal: the autoencoder of cells; None without one.
        channels: logits that the head gives for each anchor; the first ones are the classes'.
        watchers: see what gradient each class receives of the class loss.
        listeners: see what the losses are computed of.
        reducer: sums up the class loss of the images; None: they count by their normaliser.
    """

    def __init__(self, config: DetectorConfig) -> None:
        super().__init__()
        self.num_classes = len(config.classes)
        self.loss: ClassificationLoss = config.loss.build(self.num_classes)
        self.abnormal: AbnormalHead | None = None
        if config.abnormal_head is not None:
            self.abnormal = AbnormalHead(
                config.abnormal_head, list(config.is_abnormal), config.pyramid.channels
            )
        self.history = None if config.history is None else HistoricalComparison(config)
        self.causal: CausalAutoencoder | None = None
        if config.causal is not None:
            with torch.random.fork_rng(devices=[]):  # the detector starts as it would without
                self.causal = CausalAutoencoder(
                    config.causal, self.num_classes, config.pyramid.channels
                )
        self.channels = self.loss.channels(self.num_classes) + (self.abnormal is not None)
        self.weight = config.loss.weight
        self.normaliser = config.normaliser
        self.prior = config.prior_probability
        self.watchers: list[Watcher] = []
        self.listeners: list[Listener] = []
        self.reducer: Reducer | None = None
        self._layer: tuple[nn.Conv2d, ...] = ()  # not as a module: it is the detector's
        self._features: list[Tensor] = []
        self._targets: Sequence[dict[str, Tensor]] = ()

    @property
    def needs_features(self) -> bool:
        """Whether losses look at the classification tower, beside its logits."""
        contrast = self.abnormal is not None and self.abnormal.contrast is not None
        return contrast or self.history is not None or self.causal is not None

    @property
    def knows_layer(self) -> bool:
        """Whether the detector told which layer gives the logits; see `set_prior`."""
        return bool(self._layer)

    def set_prior(self, layer: nn.Conv2d) -> None:
        """Sets biases so that every class starts at the prior (Lin et al. 2017, sec. 3.3).

        Args:
            layer: gives the logits; what goes into it is what features are.
        """
        assert layer.bias is not None
        bias = self.loss.prior_bias(self.num_classes, self.prior)
        if self.abnormal is not None:
            bias = torch.cat([bias, torch.logit(torch.tensor([self.prior]))])
        with torch.no_grad():
            layer.bias.copy_(bias.repeat(len(layer.bias) // self.channels))
        self._layer = (layer,)

    @contextmanager
    def listening(self, targets: Sequence[dict[str, Tensor]]) -> Iterator[None]:
        """Within it `losses` may be asked for, by a detector that has just run on a batch.

        Args:
            targets: the batch's ``boxes`` and ``labels``, for each image.
        """
        if not self.needs_features:
            yield
            return
        self._targets = targets
        handle = self._layer[0].register_forward_pre_hook(self._keep_features)
        try:
            yield
        finally:
            handle.remove()
            self._features, self._targets = [], ()

    def scores(self, logits: Tensor) -> Tensor:
        """(..., classes) scores from (..., channels) logits; probabilities without a head."""
        classes, of_head = self._split(logits)
        scores = self.loss.scores(classes)
        if self.abnormal is None:
            return scores
        return self.abnormal.scores(scores, of_head)

    def class_scores(self, logits: Tensor) -> Tensor:
        """(..., classes) what the classes alone say of (..., channels) logits; see `scores`."""
        return self.loss.scores(self._split(logits)[0])

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The sum of `losses`, a scalar."""
        losses = list(self.losses(logits, labels).values())
        return sum(losses[1:], losses[0])

    def losses(self, logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """The weighted and normalised losses of a batch, scalars.

        Args:
            logits: (B, A, channels).
            labels: (B, A) class indices, `BACKGROUND` or `IGNORED`.

        Returns:
            ``classification``, as the abnormal head has them ``abnormal``, ``consistency`` and
            ``contrast``, and those of the history and, ``causal_...``, of the autoencoder.
        """
        for listener in self.listeners:
            listener(logits, labels)
        used = labels != IGNORED
        classes, of_head = self._split(logits)
        rows, targets = classes[used], one_hot(labels[used], self.num_classes, logits.dtype)
        if self.watchers and rows.requires_grad:
            self._watch(rows, targets)
        # One call for the whole batch: losses with statistics are to see all of it.
        loss = self.loss(rows, targets)
        normalised = self._normaliser_of(used, labels >= 0)
        if self.reducer is None:
            total = normalised(loss)
        else:
            total = self.reducer(*self._of_images(loss, used, labels >= 0))
        losses = {"classification": self.weight * total}
        if self.abnormal is not None:
            losses |= self._of_abnormal(self.abnormal, classes, of_head, labels, normalised)
        if self.history is not None:
            scores = self.loss.scores(classes.detach())
            losses |= self.history(self._features, self._targets, scores, labels)
        if self.causal is not None:
            cells = labels >= 0
            features = self._features_at(torch.nonzero(cells), labels.shape[1])
            losses |= self.causal(features, labels[cells])
        return losses

    def _normaliser_of(self, used: Tensor, positive: Tensor) -> Callable[[Tensor], Tensor]:
        """From losses of the (N, ...) places that are used to a scalar, as all of them count."""
        if self.normaliser == "image_positives":
            return partial(_mean_over_images, used=used, positive=positive)
        positives = positives_a_process(positive)
        return lambda loss: loss.sum() / positives

    def _of_images(self, loss: Tensor, used: Tensor, positive: Tensor) -> tuple[Tensor, Tensor]:
        """(B,) class loss of each image, and what it adds to its group's divisor."""
        of_row = loss.sum(dim=1)
        image = torch.nonzero(used)[:, 0]
        sums = of_row.new_zeros(len(used)).index_add(0, image, of_row)
        counts = positive.sum(dim=1).to(sums.dtype)
        if self.normaliser == "positives":
            return sums, counts
        return sums / counts.clamp(min=1), torch.ones_like(counts)

    def _of_abnormal(
        self,
        head: AbnormalHead,
        classes: Tensor,
        logits: Tensor,
        labels: Tensor,
        normalised: Callable[[Tensor], Tensor],
    ) -> dict[str, Tensor]:
        """The abnormal head's losses, by the normaliser of the class loss."""
        settings, used = head.settings, labels != IGNORED
        of_used = labels[used]
        binary = head.binary_loss(logits[used], of_used)
        losses = {"abnormal": settings.weight * normalised(binary)}
        if settings.consistency:
            scores = self.loss.scores(classes[used])
            chosen = head.chosen(scores.amax(dim=1), of_used)
            apart = head.divergence(scores[chosen], logits[used][chosen])
            at_all = torch.zeros_like(binary).index_put((chosen,), apart)
            losses["consistency"] = settings.consistency * normalised(at_all)
        if head.contrast is not None:
            losses["contrast"] = settings.contrast * self._contrast(head, classes, labels)
        return losses

    def _contrast(self, head: AbnormalHead, classes: Tensor, labels: Tensor) -> Tensor:
        """The contrast of places: several anchors of one have one feature, so they are one."""
        assert head.contrast is not None
        scores = self.loss.scores(classes.detach())
        sure, here = place_labels(scores, labels, anchors_a_place(self._features, labels.shape[1]))
        used = here != IGNORED
        chosen = head.chosen(sure[used], here[used])
        image, place = torch.nonzero(used)[chosen].T
        return head.contrast(features_at(self._features, image, place), here[used][chosen])

    def _split(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """The loss's channels, and the abnormal logit (...,); without a head nothing is cut off."""
        if self.abnormal is None:
            return logits, logits[..., :0]
        if logits.shape[-1] != self.channels:
            raise ConfigError(
                f"model.abnormal_head: the detector gives {logits.shape[-1]} values a place where "
                f"{self.channels} are needed; it can't carry this head, unless its last layer has "
                "LossSlot.channels"
            )
        return logits[..., :-1], logits[..., -1]

    def _keep_features(self, _: nn.Module, inputs: tuple[Any, ...]) -> None:
        self._features.append(inputs[0])

    def _features_at(self, places: Tensor, anchors: int) -> Tensor:
        """(K, channels) of the tower at (K, 2) images and anchors, of so many anchors an image."""
        image, anchor = places.T
        a_place = anchors_a_place(self._features, anchors)
        return features_at(self._features, image, anchor // a_place)

    def _watch(self, rows: Tensor, targets: Tensor) -> None:
        def show(gradient: Tensor) -> None:
            for watcher in self.watchers:
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
