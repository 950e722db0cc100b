"""The causal autoencoder: acyclicity and losses by hand, its schedule, and who carries it."""

import math

import pytest
import torch
from smallbackbone import SMALL
from torch import nn

from configs import ConfigError
from models import ModelCard, build_detector, load_detector, save_detector
from models.config import CausalSettings
from models.detectors.causal import (
    GAIN,
    CausalAutoencoder,
    Lagrangian,
    _at_most_one,
    acyclicity,
    standardised,
)
from models.detectors.fcos import FCOS

CLASSES = ("NILM", "LSIL", "HSIL")
DETECTORS = ("atss", "fcos", "reppoints", "retinanet", "yolof")
NAMES = {"causal_graph", "causal_reconstruction", "causal_classes"}


def autoencoder(**settings):
    """Of two classes, encodes two values as they are."""
    module = CausalAutoencoder(CausalSettings(code=2, **settings), 2, 2)
    module.encode, module.decode = nn.Identity(), nn.Identity()
    return module


def set_edges(module, edges):
    with torch.no_grad():
        module.parameter.copy_(torch.tensor(edges) / GAIN)


def test_acyclicity_is_zero_without_cycles_and_by_hand_with_one():
    triangle = torch.tensor([[0, 2.0, -3.0], [0, 0, 0.5], [0, 0, 0]])
    assert acyclicity(triangle).item() == pytest.approx(0, abs=1e-12)
    order = [2, 0, 1]
    assert acyclicity(triangle[order][:, order]).item() == pytest.approx(0, abs=1e-12)
    # Two values that foretell each other: eigenvalues of the squares are ab and -ab.
    pair = torch.tensor([[0, 0.5], [-0.8, 0]])
    assert acyclicity(pair).item() == pytest.approx(2 * math.cosh(0.4) - 2, rel=1e-6)
    faint = torch.tensor([[0, 1e-2], [1e-2, 0]])  # what float32 could not see beside d
    assert acyclicity(faint).item() == pytest.approx(1e-8, rel=1e-4)


def test_what_a_cycle_costs_rises_until_it_falls():
    settings = CausalSettings(interval=2, fall=0.5, max_penalty=4)
    price = Lagrangian(settings)
    seen = []
    for h in (0.5, 0.4, 0.3, 0.3, 0.1, 0.1, 0.09, 0.09, 0.08, 0.08):
        price(torch.tensor(h, dtype=torch.float64))
        seen.append((price.multiplier.item(), price.penalty.item()))
    # Steps at the 2nd, 4th ... batch: by 0.4, 0.3, 0.1, 0.09, 0.08 times the penalty before. That
    # doubles where more than half is left, and not above its limit.
    assert [penalty for _, penalty in seen] == [1, 2, 2, 4, 4, 4, 4, 4, 4, 4]
    multipliers = [0, 0.4, 0.4, 1.0, 1.0, 1.4, 1.4, 1.76, 1.76, 2.08]
    assert [multiplier for multiplier, _ in seen] == pytest.approx(multipliers)
    h = torch.tensor(0.5, dtype=torch.float64)
    assert price.eval()(h).item() == pytest.approx(2.08 * 0.5 + 4 / 2 * 0.25)
    assert price.batches == 10  # evaluation is no batch


def test_no_cycle_and_no_number_raise_no_price():
    price = Lagrangian(CausalSettings(interval=1))
    for h in (0.0, 1e-9, torch.nan):
        price(torch.tensor(h, dtype=torch.float64))
    assert price.penalty == 1
    assert price.multiplier.item() == pytest.approx(1e-9)


def test_losses_equal_ones_computed_by_hand():
    module = autoencoder(reconstruction=0.5, graph=0.1, classes=2.0, sparsity=0.25, edge=0.4)
    # Code 0 foretells code 1 and, weakly, class 1; nothing makes a cycle.
    edges = [[0, 0.5, 0, 0.2], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    set_edges(module, edges)
    with torch.no_grad():
        module.classify.weight.copy_(torch.eye(2))
        module.classify.bias.zero_()
    features, labels = torch.tensor([[1.0, 4.0], [3.0, 8.0]]), torch.tensor([0, 1])
    losses = module(features, labels)
    # Of two cells every value becomes -1 and 1, but for what keeps variances from zero.
    u, v = (math.sqrt(s / (s + 1e-5)) for s in (1.0, 4.0))
    c = math.sqrt(0.25 / (0.25 + 1e-5))
    missed = 2 * (u**2 + (v - 0.5 * u) ** 2 + c**2 + (c - 0.2 * u) ** 2) / 2
    graph = 0.1 * (missed + 0.25 * 0.7)
    assert losses["causal_graph"].item() == pytest.approx(graph, rel=1e-5)
    error = ((1 + u) ** 2 + (4 + v) ** 2 + (3 - u) ** 2 + (8 - v) ** 2) / 4
    scale = (1 + 16 + 9 + 64) / 4
    assert losses["causal_reconstruction"].item() == pytest.approx(0.5 * error / scale, rel=1e-5)
    # Code 0 counts by half of the edge that would count in full, code 1 not at all.
    first = math.log(1 + math.exp(0.5 * u)) * 2 / 2  # logits (-u/2, 0) of class 0, (u/2, 0) of 1
    assert losses["causal_classes"].item() == pytest.approx(2.0 * first, rel=1e-5)
    assert set(losses) == NAMES


def test_the_mask_goes_by_edges_to_and_from_classes():
    module = autoencoder(edge=0.5)
    edges = [[0, 0.9, 0, 0], [0, 0, -0.25, 0.1], [2.0, 0, 0, 0], [0, 0, 0, 0]]
    set_edges(module, edges)
    mask = module.mask(module.edges)
    assert mask.tolist() == pytest.approx([1, 0.5])
    assert not mask.requires_grad


def test_no_value_foretells_itself():
    module = autoencoder()
    nn.init.ones_(module.parameter)
    assert module.edges.diagonal().tolist() == [0, 0, 0, 0]


def test_codes_have_a_variance_of_one_whatever_their_scale():
    raw = torch.tensor([[1e-1, 50.0, 7.0], [3e-1, 70.0, 7.0]])
    found = standardised(raw)
    torch.testing.assert_close(found, torch.tensor([[-1.0, -1, 0], [1, 1, 0]]), rtol=1e-3, atol=0)
    assert standardised(raw[:1]).tolist() == [[0, 0, 0]]
    assert standardised(raw[:0]).shape == (0, 3)


def test_a_batch_without_cells_learns_of_the_graph_alone():
    module = CausalAutoencoder(CausalSettings(code=4, graph=1.0, sparsity=0.5), 2, 8)
    with torch.no_grad():
        module.parameter[0, 1] = 0.2 / GAIN
    losses = module(torch.zeros(0, 8, requires_grad=True), torch.zeros(0, dtype=torch.int64))
    sum(losses.values()).backward()
    assert {name: loss.item() for name, loss in losses.items()} == {
        "causal_graph": pytest.approx(0.1),
        "causal_reconstruction": 0,
        "causal_classes": 0,
    }
    gradients = {name: parameter.grad for name, parameter in module.named_parameters()}
    assert all(gradient is not None for gradient in gradients.values())  # processes wait for all
    assert gradients.pop("parameter")[0, 1].item() == pytest.approx(0.5 * GAIN)
    assert not any(gradient.any() for gradient in gradients.values())


@pytest.mark.parametrize("graph", [1e-3, 1e6])
def test_a_scaled_loss_gives_the_edges_the_scaled_gradient(graph):
    features, labels = torch.randn(5, 2), torch.tensor([0, 1, 1, 0, 1])
    found = []
    for scale in (1.0, 65536.0):
        module = autoencoder(graph=graph, sparsity=1.0)
        set_edges(module, torch.full((4, 4), 0.1).tolist())
        module.loss_scale = scale
        (scale * sum(module(features, labels).values())).backward()
        found.append(module.parameter.grad / scale)
    assert found[0].any()
    torch.testing.assert_close(*found)


def test_the_edges_gradient_is_at_most_one_long():
    assert _at_most_one(torch.tensor([3.0, 4.0])).tolist() == pytest.approx([0.6, 0.8])
    assert _at_most_one(torch.tensor([0.3, 0.4])).tolist() == pytest.approx([0.3, 0.4])
    module = autoencoder(graph=1e6, sparsity=1.0)
    sum(module(torch.randn(5, 2), torch.tensor([0, 1, 1, 0, 1])).values()).backward()
    assert GAIN / 2 < module.parameter.grad.norm().item() <= GAIN * 1.0001


def test_it_finds_which_value_foretells_which_and_the_cycle_goes():
    """The first value foretells the second, and the classes."""
    torch.manual_seed(0)
    module = autoencoder(graph=1.0, reconstruction=0, classes=0, interval=5)
    optimiser = torch.optim.Adam([module.parameter], 4e-3)
    generator = torch.Generator().manual_seed(0)
    for _ in range(150):
        first = torch.randn(64, 1, generator=generator)
        second = first + 0.5 * torch.randn(64, 1, generator=generator)
        labels = (first.squeeze(1) > 0).long()
        optimiser.zero_grad()
        module(torch.cat([first, second], dim=1), labels)["causal_graph"].backward()
        optimiser.step()
    edges = module.edges.detach()
    assert acyclicity(edges) < 1e-3
    assert edges[:2, :2].abs().amax() > 0.5
    assert module.mask(edges)[0] == 1


def cells():
    boxes = torch.tensor([[10.0, 10, 40, 40], [30, 30, 60, 62]])
    nothing = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
    return [{"boxes": boxes, "labels": torch.tensor([1, 0])}, nothing]


def built(detector="fcos", causal=None, **settings):
    torch.manual_seed(0)
    small = {"name": detector, "classes": CLASSES, "head_convs": 1}
    small |= SMALL | {"pyramid": {"channels": 32, "levels": (3,)}, "causal": causal}
    return build_detector(small | settings)


@pytest.mark.parametrize("name", DETECTORS)
def test_every_detector_carries_it(name):
    """Its gradient reaches the tower; all else starts, and says, what it does without it."""
    model, plain = built(name, {}), built(name)
    state = model.state_dict()
    assert all(torch.equal(state[key], value) for key, value in plain.state_dict().items())
    images = [torch.rand(3, 64, 64) for _ in range(2)]
    expected, losses = plain(images, cells()), model(images, cells())
    assert set(losses) - set(expected) == NAMES
    assert all(torch.equal(losses[key], value) for key, value in expected.items())
    sum(losses[key] for key in NAMES).backward()
    layer = model.slot._layer[0]
    assert layer.weight.grad is None
    learning = {key for key, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    assert any(key.startswith("head.") and ".causal." not in key for key in learning)
    assert {"encode", "decode", "classify", "parameter"} >= {
        key.split(".causal.")[1].split(".")[0] for key in learning if ".causal." in key
    }
    assert (model.slot.causal.encode[0].weight.grad != 0).any()
    assert not model.slot._features


def test_off_leaves_nothing():
    model = built()
    assert model.slot.causal is None
    assert not model.slot.needs_features
    assert not any("causal" in key for key in model.state_dict())


def test_nothing_of_it_is_saved(tmp_path):
    model = built(causal={})
    card = ModelCard(
        name="small", detector=model.config, mpp=0.5, thresholds=dict.fromkeys(CLASSES, 0.3)
    )
    card = save_detector(model, card, tmp_path)
    assert card.detector.causal is None
    loaded = load_detector(tmp_path)
    assert loaded.slot.causal is None
    assert loaded.state_dict().keys() == built().state_dict().keys()


def test_the_state_survives_a_restart():
    features, labels = torch.randn(6, 8), torch.tensor([0, 1, 1, 0, 1, 0])
    settings = CausalSettings(code=3, interval=1)
    through, before, after = (CausalAutoencoder(settings, 2, 8) for _ in range(3))
    before.load_state_dict(through.state_dict())
    for module in (through, before):
        nn.init.constant_(module.parameter, 0.05)
        module(features, labels)
    assert through.lagrangian.multiplier > 0
    after.load_state_dict(before.state_dict())
    expected, found = through(features, labels), after(features, labels)
    assert all(torch.equal(found[name], loss) for name, loss in expected.items())
    assert after.lagrangian.multiplier == through.lagrangian.multiplier
    assert after.lagrangian.batches == 2


class _OwnLayer(FCOS):
    """Does not tell its layer."""

    def __init__(self, config):
        super().__init__(config)
        self.head.slot._layer = ()


def test_a_detector_that_cannot_carry_it_is_told(monkeypatch):
    monkeypatch.setattr("models.detectors.build.find_detector", lambda _: _OwnLayer)
    with pytest.raises(ConfigError, match=r"model\.causal: fcos doesn't tell which layer.*leave"):
        built(causal={})
