"""A small network that tells how large cells are shown, for checking a slide's µm per pixel.

The first stages of a detector's backbone, as they are, pooled over a place to the mean and the
spread of every channel; a linear map of those gives the magnification, taught in closed form (ridge
regression) on places of fields that were shown larger and smaller by known factors. What the
features are like on such places is kept as well: a place that is like none of them is not judged.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torchvision.models._utils import IntermediateLayerGetter

from configs import ConfigError
from models.detectors.backbones import find_backbone
from models.detectors.dense import DenseDetector

Floats = NDArray[np.float64]

PENALTIES = (0.3, 3.0, 30.0, 300.0)
"""Of the ridge, in samples; cross-validation takes one."""

FOLDS = 5

LEAST_GROUPS = 2 * FOLDS
"""Slides (or fields, where nobody says which belong together) that are needed to know the error."""

NEAR = 0.4
"""Magnification, as a logarithm, up to which errors count: an estimate is taken where things are
shown in nearly their size."""

KNOWN = 0.99
"""Share of places of slides that were left out which count as known."""


class PooledFeatures(nn.Module):
    """Mean and spread over a picture of every channel of a detector's features of strides 8 and 16.

    Args:
        detector: whose backbone it is; it stays as it is.
    """

    OUTPUTS = ("features",)
    image_mean: Tensor
    image_std: Tensor

    def __init__(self, detector: DenseDetector) -> None:
        super().__init__()
        taps = find_backbone(detector.config.backbone).taps[:2]
        body = copy.deepcopy(detector.backbone.body).cpu().float()
        self.trunk = IntermediateLayerGetter(body, {tap: tap for tap in taps}).eval()
        for name in ("image_mean", "image_std"):
            values = torch.tensor(getattr(detector.config, name)).reshape(1, 3, 1, 1)
            self.register_buffer(name, values)

    def forward(self, pixels: Tensor) -> Tensor:
        """(1, D) float32 of (1, H, W, 3) uint8 pixels."""
        images = pixels.permute(0, 3, 1, 2).float().div(255)
        stages = self.trunk((images - self.image_mean) / self.image_std).values()
        pooled = [f(stage) for stage in stages for f in (_mean, _spread)]
        return torch.cat(pooled, dim=1)


@dataclass(frozen=True)
class ScaleHead:
    """What is learned over the pooled features.

    Attributes:
        centre, spread: (D,) of the features.
        weights: (D,) of the features, centred and in units of their spread.
        bias: what is added.
        whitening: (D, D); the mean square of what it makes of such features is the novelty, 1 on
            the average of what was learned from.
    """

    centre: Floats
    spread: Floats
    weights: Floats
    bias: float
    whitening: Floats

    def magnification(self, features: Floats) -> Floats:
        """(N,) natural logarithms of (N, D) features."""
        return np.asarray(self._units(features) @ self.weights + self.bias)

    def novelty(self, features: Floats) -> Floats:
        """(N,) of (N, D) features."""
        return np.asarray(np.square(self._units(features) @ self.whitening).mean(axis=1))

    def _units(self, features: Floats) -> Floats:
        return np.asarray((features - self.centre) / self.spread)


@dataclass(frozen=True)
class Lesson:
    """What came of teaching, with what cross-validation says of it.

    Attributes:
        head: of all samples.
        penalty: that was taken.
        within: standard deviation of the error between places of one slide, as a logarithm.
        between: the same between slides.
        known: novelty up to which a place is like what was learned from.
        groups: slides that were left out in turn.
    """

    head: ScaleHead
    penalty: float
    within: float
    between: float
    known: float
    groups: int


class ScaleNetwork(nn.Module):
    """Pooled features and a head, as one network that can be exported."""

    OUTPUTS = ("magnification", "novelty")
    centre: Tensor
    spread: Tensor
    weights: Tensor
    whitening: Tensor
    bias: Tensor

    def __init__(self, features: PooledFeatures, head: ScaleHead) -> None:
        super().__init__()
        self.features = features
        for name in ("centre", "spread", "weights", "whitening"):
            values = torch.from_numpy(getattr(head, name)).float()
            self.register_buffer(name, values)
        self.register_buffer("bias", torch.tensor([head.bias], dtype=torch.float32))

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Magnification (1,) and novelty (1,) of (1, H, W, 3) uint8 pixels."""
        units = (self.features(pixels) - self.centre) / self.spread
        return units @ self.weights + self.bias, (units @ self.whitening).square().mean(dim=1)


def teach_scale(features: Floats, magnifications: Floats, groups: Sequence[str]) -> Lesson:
    """Learns the magnification from features, and how far that errs on slides that were left out.

    Args:
        features: (N, D) of places.
        magnifications: (N,) natural logarithms of how much larger things are shown than they are.
        groups: (N,) the slide of each place.

    Raises:
        ConfigError: there are too few slides to know the error.
    """
    names, members = np.unique(np.asarray(groups), return_inverse=True)
    if len(names) < LEAST_GROUPS:
        raise ConfigError(
            f"the error of a scale can't be known from {len(names)} slides (or fields, where "
            f"nobody says which belong together); give {LEAST_GROUPS} or more"
        )
    folds = np.random.default_rng(0).permutation(len(names))[members] % FOLDS
    tried = [_left_out(features, magnifications, folds, penalty) for penalty in PENALTIES]
    best = int(np.argmin([np.square(errors).mean() for errors, _ in tried]))
    errors, novelty = tried[best]
    near = np.abs(magnifications) <= NEAR
    within, between = spread_of_errors(errors[near], members[near])
    head = fit_head(features, magnifications, PENALTIES[best])
    known = float(np.quantile(novelty, KNOWN))
    return Lesson(head, PENALTIES[best], within, between, known, len(names))


def fit_head(features: Floats, magnifications: Floats, penalty: float) -> ScaleHead:
    """Ridge regression on standardised features, and the whitening of their covariance."""
    centre, spread = features.mean(axis=0), features.std(axis=0) + 1e-6
    units = (features - centre) / spread
    count = len(units)
    values, axes = np.linalg.eigh(units.T @ units / count + penalty / count * np.eye(len(centre)))
    bias = float(magnifications.mean())
    weights = axes @ ((axes.T @ (units.T @ (magnifications - bias) / count)) / values)
    return ScaleHead(centre, spread, weights, bias, axes / np.sqrt(values))


def spread_of_errors(errors: Floats, members: NDArray[np.intp]) -> tuple[float, float]:
    """Standard deviations of errors within groups and between them, by analysis of variance.

    The mean error counts as one between slides.

    Args:
        errors: (N,).
        members: (N,) index of each one's group.
    """
    counts = np.bincount(members)
    present = counts > 0
    means = np.bincount(members, errors)[present] / counts[present]
    counts = counts[present]
    total = float(np.square(errors).sum() - (counts * np.square(means)).sum())
    within = total / max(1, len(errors) - len(means))
    between = float(np.square(means).mean() - (within / counts).mean())
    return float(np.sqrt(max(within, 0.0))), float(np.sqrt(max(between, 0.0)))


def _left_out(
    features: Floats, magnifications: Floats, folds: NDArray[np.intp], penalty: float
) -> tuple[Floats, Floats]:
    """Error and novelty of each sample by a head that saw none of its fold."""
    errors, novelty = np.zeros(len(features)), np.zeros(len(features))
    for fold in range(FOLDS):
        out = folds == fold
        head = fit_head(features[~out], magnifications[~out], penalty)
        errors[out] = head.magnification(features[out]) - magnifications[out]
        novelty[out] = head.novelty(features[out])
    return errors, novelty


def _mean(stage: Tensor) -> Tensor:
    return stage.mean(dim=(2, 3))


def _spread(stage: Tensor) -> Tensor:
    """Standard deviation; by sums, which every runtime knows."""
    variance = (stage - stage.mean(dim=(2, 3), keepdim=True)).square().mean(dim=(2, 3))
    return variance.clamp(min=1e-8).sqrt()
