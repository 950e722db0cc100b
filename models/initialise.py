"""How a detector's last layer starts."""

from __future__ import annotations

import math

from torch import nn


def set_prior(layer: nn.Conv2d, probability: float) -> None:
    """Sets the biases so that every class starts at ``probability`` (Lin et al. 2017, sec. 3.3)."""
    assert layer.bias is not None
    nn.init.constant_(layer.bias, -math.log((1 - probability) / probability))
