"""Parts that the heads of several detectors are made of."""

from __future__ import annotations

from torch import Tensor, nn
from torchvision.ops import Conv2dNormActivation, DeformConv2d


def tower(channels: int, depth: int) -> nn.Sequential:
    """``depth`` convolutions with GroupNorm and ReLU, as in torchvision's FCOS head."""
    layers = [
        Conv2dNormActivation(
            channels, channels, norm_layer=lambda width: nn.GroupNorm(32, width), bias=True
        )
        for _ in range(depth)
    ]
    for layer in layers:
        start_small(layer[0])
    return nn.Sequential(*layers)


def output_conv(channels: int, values: int, kernel_size: int = 3) -> nn.Conv2d:
    """The last layer of a branch, whose outputs start near zero."""
    layer = nn.Conv2d(channels, values, kernel_size, padding=kernel_size // 2)
    start_small(layer)
    return layer


def start_small(layer: nn.Conv2d | DeformConv2d) -> None:
    """Gives a convolution weights of standard deviation 0.01 and a bias of zero."""
    assert layer.bias is not None
    nn.init.normal_(layer.weight, std=0.01)
    nn.init.zeros_(layer.bias)


def per_place(maps: Tensor, values: int) -> Tensor:
    """From (B, A * values, H, W) maps to (B, H * W * A, values), in the anchors' order."""
    return maps.permute(0, 2, 3, 1).reshape(len(maps), -1, values)


class BoxHead(nn.Module):
    """For each anchor of one level, four box deltas and one more logit, from one tower."""

    def __init__(self, channels: int, num_anchors: int, depth: int) -> None:
        super().__init__()
        self.tower = tower(channels, depth)
        self.deltas = output_conv(channels, 4 * num_anchors)
        self.logit = output_conv(channels, num_anchors)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """(B, A, 4) deltas and (B, A, 1) logits of (B, channels, H, W) features."""
        features = self.tower(features)
        return per_place(self.deltas(features), 4), per_place(self.logit(features), 1)
