"""Towers that move their taps and attend: where they look, how they start, who carries them."""

from typing import ClassVar

import pytest
import torch
from pydantic import ValidationError
from smallbackbone import SMALL
from torch import nn

from configs import ConfigError
from models import DetectorConfig, build_detector
from models.config import TowerSettings
from models.detectors.contract import DetectorContract
from models.detectors.tower import DeformableConv, LargeKernelAttention, SpatialAttention, refine

CARRIERS = ("atss", "fcos", "retinanet")
WHOLE = {"deformable": 1, "attention": "large_kernel", "boxes": True}


class TestFCOSWithATower(DetectorContract):
    config: ClassVar = {
        "name": "fcos",
        "pyramid": {"channels": 32, "levels": (3,)},
        "tower": {"deformable": 1, "attention": "spatial"},
    }


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def config(detector="fcos", tower=None, **settings):
    small = {"classes": ("NILM", "HSIL"), "head_convs": 2} | SMALL
    small |= {"pyramid": {"channels": 32, "levels": (3,)}, "tower": tower}
    return DetectorConfig(name=detector, **{**small, **settings})


def identity(reach=2.0, modulated=True):
    """One channel, whose tap in the middle alone counts."""
    conv = nn.Conv2d(1, 1, 3, padding=1)
    nn.init.zeros_(conv.weight)
    nn.init.zeros_(conv.bias)
    with torch.no_grad():
        conv.weight[0, 0, 1, 1] = 1
    return DeformableConv(conv, reach, modulated)


MIDDLE = 2 * 4  # of nine taps, y before x


def test_a_tap_reads_where_its_offset_says_and_never_further_than_its_reach():
    features = torch.arange(49.0).view(1, 1, 7, 7)
    layer = identity(reach=2.0, modulated=False)
    with torch.no_grad():
        layer.offsets.bias[MIDDLE] = 1e9  # downwards, as far as may be
        assert layer(features)[0, 0, 3, 3].item() == features[0, 0, 5, 3].item()
        layer.offsets.bias[MIDDLE] = 0
        layer.offsets.bias[MIDDLE + 1] = -1e9
        assert layer(features)[0, 0, 3, 3].item() == features[0, 0, 3, 1].item()
        layer.offsets.bias[MIDDLE + 1] = 0.01  # small moves are not shortened
    assert layer(features)[0, 0, 3, 3].item() == pytest.approx(24.01, abs=1e-4)


def test_a_modulated_tap_weighs_between_nothing_and_twice():
    layer, features = identity(), torch.full((1, 1, 5, 5), 3.0)
    found = []
    for bias in (-1e9, 0.0, 1e9):
        with torch.no_grad():
            layer.offsets.bias[18 + 4] = bias
            found.append(layer(features)[0, 0, 2, 2].item())
    assert found == [0, 3, 6]


@pytest.mark.parametrize("modulated", [True, False])
def test_offsets_and_weights_learn(modulated):
    conv = nn.Conv2d(4, 4, 3, padding=1)
    layer = DeformableConv(conv, 2.0, modulated)
    assert layer.offsets.out_channels == (27 if modulated else 18)
    layer(torch.randn(1, 4, 6, 6, generator=seeded())).square().sum().backward()
    assert (layer.offsets.weight.grad != 0).any(dim=3).any(dim=2).any(dim=1).all()
    assert (layer.weight.grad != 0).any()


def test_under_autocast_it_computes_in_float32():
    torch.manual_seed(0)
    layer = DeformableConv(nn.Conv2d(4, 4, 3, padding=1), 2.0, True)
    features = torch.randn(1, 4, 6, 6, generator=seeded())
    with torch.autocast("cpu", torch.bfloat16):
        found = layer(features)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, layer(features))


@pytest.mark.parametrize(
    ("attention", "window"), [(SpatialAttention(8), 7), (LargeKernelAttention(8), 23)]
)
def test_attention_starts_at_one_and_looks_no_further_than_its_window(attention, window):
    features = torch.randn(1, 8, 31, 31, generator=seeded())
    torch.testing.assert_close(attention(features), features)
    for parameter in attention.parameters():
        nn.init.normal_(parameter, generator=seeded())
    features.requires_grad_()
    attention(features)[0, 0, 15, 15].backward()
    rows = torch.nonzero(features.grad[0].abs().amax(dim=(0, 2))).flatten().tolist()
    assert rows == list(range(15 - window // 2, 15 + window // 2 + 1))


def test_only_the_last_convolutions_are_deformable():
    tower = nn.Sequential(*(nn.Sequential(nn.Conv2d(4, 4, 3), nn.ReLU()) for _ in range(3)))
    refine(tower, TowerSettings(deformable=2, attention="spatial"))
    kinds = [type(one[0]) for one in tower[:3]]
    assert kinds == [nn.Conv2d, DeformableConv, DeformableConv]
    assert isinstance(tower[3], SpatialAttention)


@pytest.mark.parametrize("name", CARRIERS)
def test_a_detector_starts_as_with_plain_towers(name):
    """All that is not new has the same weights by the same seed, and says the same."""
    models = []
    for tower in (None, WHOLE):
        torch.manual_seed(0)
        models.append(build_detector(config(name, tower)).eval())
    plain, refined = models
    kinds = (DeformableConv, LargeKernelAttention)
    assert sum(isinstance(module, kinds) for module in refined.head.modules()) == 4
    state = refined.state_dict()
    for key, value in plain.state_dict().items():
        assert torch.equal(state[key], value), key
    batch = plain.transform([torch.rand(3, 64, 96, generator=seeded())])[0]
    with torch.no_grad():
        expected, found = plain.run(batch)[0], refined.run(batch)[0]
    torch.testing.assert_close(found, expected)


def test_the_tower_of_the_boxes_stays_plain_where_that_is_wanted():
    model = build_detector(config("fcos", {"deformable": 2}))
    layers = {name for name, m in model.named_modules() if isinstance(m, DeformableConv)}
    assert layers == {f"head.classification_head.conv.{index}" for index in (0, 3)}


@pytest.mark.parametrize("name", ["reppoints", "yolof"])
def test_a_detector_without_such_towers_is_told(name):
    settings = {"levels": (3,)} if name == "reppoints" else {"levels": (4,)}
    with pytest.raises(ConfigError, match=rf"model\.tower: {name} has no tower for it, as atss"):
        build_detector(config(name, {"deformable": 1}, pyramid={"channels": 32} | settings))


def test_a_tower_that_is_none_is_refused():
    with pytest.raises(ValidationError, match="set deformable to 1 or more, or attention"):
        config(tower={"boxes": True})
    with pytest.raises(ValidationError, match="deformable is 3, and a tower has 2 convolutions"):
        config(tower={"deformable": 3})
