"""The grader: a small network that looks once more at single cells, and says what each is.

A detector at 0.5 µm per pixel finds cells well and confuses their grades. The grader sees a crop
of one cell at 0.25 µm per pixel, with its surroundings, and tells the detector's classes and
background apart. Its file lies beside the detector's, in the same folder;
`models.card.SecondLookFacts` is its part of the card.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import torch
from pydantic import Field, PositiveFloat
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor, nn

from configs import StrictModel
from models.card import GRADER, SIDECAR, ModelFileError, SecondLookFacts, read_file
from models.detectors.backbones import BACKBONES, load_weights
from models.detectors.weights import check_weights, pack_weights

GraderBackbone = Literal["mobilenet_v2", "mobilenet_v3_large", "resnet18", "resnet50"]

FEATURES: Mapping[GraderBackbone, int] = {
    "mobilenet_v2": 1280,
    "mobilenet_v3_large": 960,
    "resnet18": 512,
    "resnet50": 2048,
}
"""Channels of a backbone's last features, which are averaged over the crop."""


class GraderConfig(StrictModel):
    """The ``grader:`` part of a configuration; classes are the detector's.

    Attributes:
        backbone: torchvision's network below the head.
        backbone_weights: a ``.pth`` or ``.safetensors`` file of torchvision's ImageNet weights to
            start from; None for random weights.
        mpp: µm per pixel of the crops.
        size: side of a crop in pixels.
        dropout: share of the averaged features that is left out in training.
        image_mean, image_std: normalisation of images in 0..1.
    """

    backbone: GraderBackbone = "mobilenet_v2"
    backbone_weights: str | None = None
    mpp: float = Field(0.25, gt=0.05, lt=5)
    size: int = Field(128, ge=32, multiple_of=32)
    dropout: float = Field(0.3, ge=0, lt=1)
    image_mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    image_std: tuple[PositiveFloat, PositiveFloat, PositiveFloat] = (0.229, 0.224, 0.225)


class Grader(nn.Module):
    """From crops of cells to logits.

    Args:
        config: of the network.
        classes: how many the detector has; background is one more, the last.

    Raises:
        ConfigError: the starting weights can't be read, or are of another network.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, config: GraderConfig, classes: int) -> None:
        super().__init__()
        self.config = config
        self.classes = classes
        self.body = _build_body(config)
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Linear(FEATURES[config.backbone], classes + 1)
        nn.init.normal_(self.head.weight, std=0.01)
        nn.init.zeros_(self.head.bias)
        for name, values in (("mean", config.image_mean), ("std", config.image_std)):
            self.register_buffer(name, torch.tensor(values).view(3, 1, 1), persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        """(N, C + 1) logits, background last, of (N, 3, S, S) float RGB in 0..255."""
        images = (pixels / 255 - self.mean) / self.std
        images = images.contiguous(memory_format=torch.channels_last)
        logits: Tensor = self.head(self.dropout(self.body(images).mean((2, 3))))
        return logits


class GradingNetwork(nn.Module):
    """What screening takes of a grader: from pixels to probabilities.

    Args:
        grader: in evaluation mode.
        temperature: by which its logits are divided (Guo et al., "On calibration of modern neural
            networks", ICML 2017, section 4.2).
    """

    def __init__(self, grader: Grader, temperature: float) -> None:
        super().__init__()
        self.grader = grader
        self.temperature = temperature

    def forward(self, pixels: Tensor) -> Tensor:
        """(N, C + 1) float32 probabilities, background last, of (N, S, S, 3) uint8 RGB."""
        logits = self.grader(pixels.permute(0, 3, 1, 2).float())
        return (logits.float() / self.temperature).softmax(dim=1)


def save_grader(grader: Grader, folder: Path, dtype: torch.dtype = torch.float32) -> str:
    """Writes ``grader.safetensors`` into a model's folder.

    Args:
        grader: its weights are written.
        folder: of the model.
        dtype: of the learned weights on disk; ``torch.float16`` halves the file.

    Returns:
        The file's SHA-256, for the card.

    Raises:
        ModelFileError: a weight is no number, or none in ``dtype``; nothing is written.
    """
    content = pack_weights(grader, grader.state_dict(), folder / GRADER, dtype)
    (folder / GRADER).write_bytes(content)
    return hashlib.sha256(content).hexdigest()


def load_grader(folder: Path, facts: SecondLookFacts) -> Grader:
    """The grader of a model, in evaluation mode, in float32, on the CPU.

    Args:
        folder: of the model.
        facts: of its card.

    Raises:
        ModelFileError: the file is missing, is not the one that the card names, or holds another
            network, or no numbers.
    """
    content = read_file(folder / GRADER)
    if hashlib.sha256(content).hexdigest() != facts.sha256:
        raise ModelFileError(
            f"{folder / GRADER}: truncated or changed: its sha256 is not the one in {SIDECAR}; "
            "copy the model again"
        )
    if facts.backbone not in FEATURES:
        raise ModelFileError(
            f"{folder / SIDECAR}: second_look.backbone {facts.backbone}: this version knows "
            f"{', '.join(FEATURES)}"
        )
    config = GraderConfig(
        backbone=facts.backbone,
        mpp=facts.mpp,
        size=facts.size,
        image_mean=facts.mean,
        image_std=facts.std,
    )
    grader = Grader(config, len(facts.classes))
    try:
        grader.load_state_dict(load(content))
    except (SafetensorError, RuntimeError) as error:
        reason = str(error).strip().split("\n")[0]
        raise ModelFileError(
            f"{folder / GRADER}: does not fit the grader in {SIDECAR}: {reason}"
        ) from error
    check_weights(grader, folder / GRADER)
    return grader.to(memory_format=torch.channels_last).eval()


def _build_body(config: GraderConfig) -> nn.Sequential:
    """The convolutional stages of torchvision's network, in order, under its names."""
    stages = BACKBONES[config.backbone]
    network = stages.build()
    if config.backbone_weights is not None:
        load_weights(
            network,
            Path(config.backbone_weights),
            config.backbone,
            stages,
            key="grader.backbone_weights",
        )
    trunk = network if stages.trunk is None else getattr(network, stages.trunk)
    above = {"avgpool", "fc"}  # ResNet's head, which has no trunk of its own
    return nn.Sequential(
        OrderedDict((name, stage) for name, stage in trunk.named_children() if name not in above)
    )
