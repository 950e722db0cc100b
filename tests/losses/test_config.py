"""Each loss by its settings, and what is refused."""

import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from torchvision.ops import sigmoid_focal_loss

from configs import ConfigError, StrictModel, validate
from losses import LossConfig

CONFIG = TypeAdapter(LossConfig)


@pytest.fixture
def pairs():
    torch.manual_seed(0)
    return torch.randn(40, 6), torch.randint(0, 2, (40, 6)).float()


def build(**settings):
    return CONFIG.validate_python(settings).build(6)


def test_cross_entropy(pairs):
    logits, targets = pairs
    p = logits.sigmoid()
    expected = -(targets * p.log() + (1 - targets) * (1 - p).log())
    torch.testing.assert_close(build(name="cross_entropy")(*pairs), expected)


def test_focal_is_torchvisions(pairs):
    torch.testing.assert_close(build(name="focal")(*pairs), sigmoid_focal_loss(*pairs))


def test_focal_without_alpha_weighs_both_sides_alike(pairs):
    logits, targets = pairs
    loss = build(name="focal", alpha=None)
    torch.testing.assert_close(loss(logits, targets), loss(-logits, 1 - targets))


@pytest.mark.parametrize("name", ["focal", "equalized_focal"])
@pytest.mark.parametrize("gamma", [0.1, 0.5, 1.0, 2.0])
def test_the_gradient_of_a_focus_is_finite_where_a_pair_is_surely_right(name, gamma):
    loss = build(name=name, gamma=gamma, **({"scale": 0} if name == "equalized_focal" else {}))
    right = torch.tensor([-18.0, -60.0, -88.0, -104.0, -1000.0, -1e30]).unsqueeze(0)
    for logits, targets in ((right, torch.zeros(1, 6)), (-right, torch.ones(1, 6))):
        pairs = logits.clone().requires_grad_()
        found = loss(pairs, targets)
        found.sum().backward()
        assert found.isfinite().all()
        assert pairs.grad.isfinite().all()
        assert pairs.grad.abs().max() < 1e-4


@pytest.mark.parametrize(
    "settings",
    [
        {"name": "no_such_loss"},
        {"name": "grad_libra", "alpha_pos": 1.5},
        {"name": "grad_libra", "alpha": 0.5},
        {"name": "focal", "gamma": -1},
        {"name": "focal", "weight": 0},
        {"name": "class_balanced", "beta": 1},
        {"name": "class_balanced", "class_counts": [1, -1]},
        {"name": "eql", "rare_below": 0},
        {"name": "eqlv2", "class_counts": [1, 2]},
        {"name": "ghm", "bins": 0},
        {"name": "equalized_focal", "gamma": 0},
        {"name": "seesaw", "p": -1},
        {"name": "seesaw", "q": -1},
        {"name": "bags", "beta": 0},
        {"name": "bags", "background_ratio": -1},
        {"name": "bags", "group_bounds": []},
        {"name": "bags", "group_bounds": [0, 100]},
        {"name": "bags", "group_bounds": [100, 100]},
        {"name": "bags", "group_bounds": [1000, 100]},
    ],
)
def test_refuses_what_is_not_allowed(settings):
    with pytest.raises(ValidationError):
        CONFIG.validate_python(settings)


@pytest.mark.parametrize("name", ["class_balanced", "eql", "bags"])
def test_a_loss_that_lacks_the_counts_says_how_to_give_them(name):
    with pytest.raises(ConfigError, match=r"loss.class_counts is missing: .* needs 6 numbers"):
        build(name=name)
    with pytest.raises(ConfigError, match=r"loss.class_counts = \[3, 4\]: .* needs 6 numbers"):
        build(name=name, class_counts=[3, 4])


@pytest.mark.parametrize("name", ["class_balanced", "eql", "bags"])
def test_counts_are_filled_in_where_there_are_none(name):
    bare = CONFIG.validate_python({"name": name, "weight": 2})
    filled = bare.with_counts([3, 4])
    assert filled == CONFIG.validate_python({"name": name, "weight": 2, "class_counts": [3, 4]})
    assert filled.with_counts([5, 6]) == filled


class Settings(StrictModel):
    loss: LossConfig


@pytest.mark.parametrize(
    ("bounds", "message"),
    [([], "at least 1 item"), ([100, 10], r"have to increase, as in \[100, 1000\]")],
)
def test_odd_groups_are_refused_by_name(bounds, message):
    with pytest.raises(ConfigError, match=rf"mine: loss\.bags\.group_bounds = .*{message}"):
        validate({"loss": {"name": "bags", "group_bounds": bounds}}, Settings, "mine")


def test_settings_reach_the_softmax_losses():
    seesaw = build(name="seesaw", p=0.5, q=1)
    assert (seesaw.p, seesaw.q) == (0.5, 1)
    counts = [9, 90, 9, 90, 9, 90]
    bags = build(name="bags", class_counts=counts, group_bounds=[50], beta=2, background_ratio=1)
    assert bags.groups == [[0, 2, 4], [1, 3, 5]]
    assert (bags.beta, bags.background_ratio) == (2, 1)


def test_softmax_losses_say_so():
    names = {"cross_entropy": False, "focal": False, "seesaw": True, "bags": True}
    for name, softmax in names.items():
        assert CONFIG.validate_python({"name": name}).softmax is softmax
