"""A backbone of a few thousand weights, for tests of what happens around a network.

It has what the shipped one is made of, batch norms, ReLU6 and a depthwise convolution, and is
built, converted and compiled in a fraction of its time. It goes by its import path, since
processes that tests start have to find it, too.
"""

from itertools import pairwise

from torch import nn
from torchvision.ops import Conv2dNormActivation

from models.detectors.backbones import Stages


class SmallNetwork(nn.Module):
    """Five convolutions of stride 2; that from 16 to 16 channels is depthwise."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            *(
                Conv2dNormActivation(
                    taken,
                    given,
                    stride=2,
                    groups=taken if taken == given else 1,
                    activation_layer=nn.ReLU6,
                )
                for taken, given in pairwise((3, 8, 16, 16, 24, 32))
            )
        )


STAGES = Stages(SmallNetwork, "features", ("2", "3", "4"), (16, 24, 32))
SMALL = {"backbone": "smallbackbone:STAGES"}
"""For the settings of a model."""
