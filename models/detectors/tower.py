"""Towers for cells of any shape: convolutions whose taps move, and attention to what lies around.

Pan et al. (2023) are told to have both in the feature extractor of a detector of cells; of which
kind could not be read. Here each keeps within a window, so that what is found at one place doesn't
depend on the rest of the tile, and each starts as if it were not there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import skip_init
from torchvision.ops import deform_conv2d

from models.config import TowerSettings

SPATIAL_WINDOW = 7
"""Side in places of what the spatial attention looks at, as in its paper."""


class DeformableConv(nn.Module):
    """A convolution whose taps move by up to ``reach`` places, each by what the features say.

    It takes over a plain one's weights, and gives what that gave until its offsets have learned.

    Args:
        conv: square, of stride 1 that keeps the size.
        reach: in places of the features.
        modulated: whether each tap is also multiplied by a learned factor between 0 and 2.
    """

    def __init__(self, conv: nn.Conv2d, reach: float, modulated: bool) -> None:
        super().__init__()
        self.weight, self.bias = conv.weight, conv.bias
        self.reach = reach
        self.taps = conv.kernel_size[0] * conv.kernel_size[1]
        self.padding = conv.kernel_size[0] // 2
        values = self.taps * (3 if modulated else 2)
        self.offsets = _zero_conv(conv.in_channels, values, 3, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        """(B, channels, H, W), as the plain convolution."""
        said = self.offsets(features)
        moves, factors = said[:, : 2 * self.taps], said[:, 2 * self.taps :]
        # In bfloat16 a tap would be off by a hundredth of its move, and a sum by more.
        with torch.autocast(features.device.type, enabled=False):
            kind = self.weight.dtype
            moves = self.reach * torch.tanh(moves.to(kind) / self.reach)
            weights = 2 * factors.to(kind).sigmoid() if factors.shape[1] else None
            return deform_conv2d(
                features.to(kind),
                moves,
                self.weight,
                self.bias,
                padding=(self.padding, self.padding),
                mask=weights,
            )


class SpatialAttention(nn.Module):
    """One factor a place between 0 and 2, from the mean and the highest channel around it.

    That of CBAM (Woo et al., ECCV 2018), times two, so that it starts at 1. CBAM's other half goes
    by means over the whole tile, which no detector here does.
    """

    def __init__(self, _: int) -> None:
        super().__init__()
        side = SPATIAL_WINDOW
        self.factor = _zero_conv(2, 1, side, padding=side // 2, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        """(B, channels, H, W), multiplied."""
        pooled = [features.mean(dim=1, keepdim=True), features.amax(dim=1, keepdim=True)]
        return features * (2 * self.factor(torch.cat(pooled, dim=1)).sigmoid())


class LargeKernelAttention(nn.Module):
    """One factor a place and channel from 23 x 23 places, by three small convolutions.

    That of VAN (Guo et al. 2022): depthwise, depthwise and dilated, then across channels, with
    biases that start at 1 and all else of the last at 0.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.near = nn.Conv2d(channels, channels, 5, padding=2, groups=channels)
        self.far = nn.Conv2d(channels, channels, 7, padding=9, dilation=3, groups=channels)
        self.across = _zero_conv(channels, channels, 1)
        assert self.across.bias is not None
        nn.init.ones_(self.across.bias)

    def forward(self, features: Tensor) -> Tensor:
        """(B, channels, H, W), multiplied."""
        return features * self.across(self.far(self.near(features)))


ATTENTIONS: Mapping[str, Callable[[int], nn.Module]] = {
    "spatial": SpatialAttention,
    "large_kernel": LargeKernelAttention,
}
"""The choices of ``tower.attention``."""


def refine(tower: nn.Sequential, settings: TowerSettings) -> None:
    """Makes the last convolutions of a tower deformable, and puts the attention behind all.

    Args:
        tower: of convolutions with norms and activations, in whatever nesting.
        settings: say how many, and which attention.
    """
    places = [
        (parent, name, layer)
        for parent in tower.modules()
        for name, layer in parent.named_children()
        if isinstance(layer, nn.Conv2d)
    ]
    channels = places[-1][2].out_channels
    for parent, name, layer in places[len(places) - settings.deformable :]:
        setattr(parent, name, DeformableConv(layer, settings.reach, settings.modulated))
    if settings.attention is not None:
        tower.append(ATTENTIONS[settings.attention](channels))


def is_refined(network: nn.Module) -> bool:
    """Whether any tower in it went through `refine`."""
    kinds = (DeformableConv, SpatialAttention, LargeKernelAttention)
    return any(isinstance(module, kinds) for module in network.modules())


def _zero_conv(channels: int, values: int, side: int, **settings: Any) -> nn.Conv2d:
    """A convolution of zeros, for which no random numbers are drawn."""
    layer: nn.Conv2d = skip_init(nn.Conv2d, channels, values, side, **settings)  # type: ignore[no-untyped-call]
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer
