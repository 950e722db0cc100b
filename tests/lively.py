"""Untrained detectors whose outputs differ from place to place, as a trained one's do."""

import numpy as np
import torch
from smallbackbone import SMALL
from torch import nn
from torchvision.ops import DeformConv2d

from models import ModelCard, build_detector, load_detector, save_detector

CLASSES = ("NILM", "HSIL")


def lively(name="fcos", seed=0, **settings):
    """A small detector in evaluation mode, with its card; whose head says something."""
    torch.manual_seed(seed)
    small = {"classes": CLASSES, "head_convs": 1, "pyramid": {"channels": 32}}
    small |= SMALL | {"prior_probability": 0.2}
    detector = build_detector({"name": name} | small | settings)
    for module in detector.head.modules():
        if isinstance(module, nn.Conv2d | DeformConv2d):
            nn.init.normal_(module.weight, std=0.1)
    settle(detector)
    thresholds = dict.fromkeys(CLASSES, 0.25)
    detector.card = ModelCard(
        name="lively", detector=detector.config, mpp=0.5, thresholds=thresholds
    )
    return detector


@torch.no_grad()
def settle(detector):
    """Gives batch norms the statistics of a picture, so that signals neither fade nor explode."""
    for module in detector.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
    coarse = torch.rand(2, 3, 8, 8).repeat_interleave(16, 2).repeat_interleave(16, 3)
    detector.train().run(detector.transform(list(coarse))[0])
    detector.eval()


def patchwork(size, seed=0):
    """A tile with patches, not only noise, whose features would all be alike."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 255, (-(-size[0] // 16), -(-size[1] // 16), 3), np.uint8)
    return coarse.repeat(16, axis=0).repeat(16, axis=1)[: size[0], : size[1]]


@torch.no_grad()
def run_torch(detector, tile):
    """Raw outputs and anchors."""
    image = torch.from_numpy(tile.copy()).permute(2, 0, 1) / 255
    outputs, anchors, _ = detector.run(detector.transform([image])[0])
    return outputs, anchors


def saved(folder, name="fcos", seed=0, **settings):
    """The same, saved and loaded."""
    detector = lively(name, seed, **settings)
    save_detector(detector, detector.card, folder)
    return load_detector(folder)
