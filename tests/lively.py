"""Untrained detectors whose outputs differ from place to place, as a trained one's do."""

import torch
from torch import nn
from torchvision.ops import DeformConv2d

from models import ModelCard, build_detector, load_detector, save_detector

CLASSES = ("NILM", "HSIL")


def lively(name="fcos", seed=0, **settings):
    """A small detector in evaluation mode, with its card; whose head says something."""
    torch.manual_seed(seed)
    small = {"classes": CLASSES, "head_convs": 1, "pyramid": {"channels": 32}}
    detector = build_detector({"name": name} | small | settings).eval()
    for module in detector.head.modules():
        if isinstance(module, nn.Conv2d | DeformConv2d):
            nn.init.normal_(module.weight, std=0.1)
    thresholds = dict.fromkeys(CLASSES, 0.1)
    detector.card = ModelCard(
        name="lively", detector=detector.config, mpp=0.5, thresholds=thresholds
    )
    return detector


def saved(folder, name="fcos", seed=0, **settings):
    """The same, saved and loaded."""
    detector = lively(name, seed, **settings)
    save_detector(detector, detector.card, folder)
    return load_detector(folder)
