"""Parts that the heads of several detectors are made of."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from torch import Tensor, nn
from torchvision.models.detection.fcos import FCOSClassificationHead
from torchvision.ops import Conv2dNormActivation

from models.config import DetectorConfig
from models.detectors.slot import LossSlot
from models.detectors.tower import refine


def group_norm(channels: int) -> nn.GroupNorm:
    """Of 32 groups, as everywhere in detection, or of as many as divide the channels."""
    return nn.GroupNorm(math.gcd(32, channels), channels)


NORMS: Mapping[str, Callable[[int], nn.Module]] = {
    "batch": nn.BatchNorm2d,
    "group": group_norm,
    "none": nn.Identity,
}
"""The choices of ``head_norm``."""


def tower(config: DetectorConfig) -> nn.Sequential:
    """``head_convs`` convolutions with norm and ReLU, as in torchvision's FCOS head."""
    channels, norm = config.pyramid.channels, NORMS[config.head_norm]
    layers = [
        Conv2dNormActivation(channels, channels, norm_layer=norm, bias=True)
        for _ in range(config.head_convs)
    ]
    for layer in layers:
        start_small(layer[0])
    return nn.Sequential(*layers)


def refine_towers(
    config: DetectorConfig, of_classes: nn.Sequential, of_boxes: nn.Sequential
) -> None:
    """Gives a detector's towers what ``model.tower`` says.

    Behind all else that is built, so that this starts as beside plain towers.
    """
    if config.tower is None:
        return
    refine(of_classes, config.tower)
    if config.tower.boxes:
        refine(of_boxes, config.tower)


def classification_head(
    config: DetectorConfig, slot: LossSlot, num_anchors: int, depth: int
) -> FCOSClassificationHead:
    """Torchvision's, with the channels and the prior of the loss in the slot."""
    head = FCOSClassificationHead(
        config.pyramid.channels,
        num_anchors,
        slot.channels,
        depth,
        norm_layer=NORMS[config.head_norm],
    )
    slot.set_prior(head.cls_logits)
    return head


def output_conv(channels: int, values: int, kernel_size: int = 3) -> nn.Conv2d:
    """The last layer of a branch, whose outputs start near zero."""
    layer = nn.Conv2d(channels, values, kernel_size, padding=kernel_size // 2)
    start_small(layer)
    return layer


def start_small(layer: nn.Conv2d) -> None:
    """Gives a convolution weights of standard deviation 0.01 and a bias of zero."""
    assert layer.bias is not None
    nn.init.normal_(layer.weight, std=0.01)
    nn.init.zeros_(layer.bias)


def per_place(maps: Tensor, values: int) -> Tensor:
    """From (B, A * values, H, W) maps to (B, H * W * A, values), in the anchors' order."""
    return maps.permute(0, 2, 3, 1).reshape(len(maps), -1, values)


class BoxHead(nn.Module):
    """For each anchor of one level, four box deltas and one more logit, from one tower."""

    def __init__(self, config: DetectorConfig, num_anchors: int) -> None:
        super().__init__()
        channels = config.pyramid.channels
        self.tower = tower(config)
        self.deltas = output_conv(channels, 4 * num_anchors)
        self.logit = output_conv(channels, num_anchors)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """(B, A, 4) deltas and (B, A, 1) logits of (B, channels, H, W) features."""
        features = self.tower(features)
        return per_place(self.deltas(features), 4), per_place(self.logit(features), 1)
