"""Two stains of one crop: their divergence by hand, and where it is looked at."""

import math

import numpy as np
import pytest
import torch
from lively import lively

from models import build_detector
from models.learning.views import (
    StainViews,
    ViewSettings,
    distributions,
    jensen_shannon,
)


def bernoulli(p, q):
    m = (p + q) / 2

    def kl(a, b):
        return a * math.log(a / b) + (1 - a) * math.log((1 - a) / (1 - b))

    return (kl(p, m) + kl(q, m)) / 2


def test_classes_of_their_own_are_compared_one_by_one():
    one, other = torch.tensor([[0.9, 0.2]]), torch.tensor([[0.6, 0.3]])
    found = jensen_shannon(distributions(one, False), distributions(other, False))
    assert found.tolist() == pytest.approx([bernoulli(0.9, 0.6) + bernoulli(0.2, 0.3)], rel=1e-5)


def test_classes_that_compete_are_one_distribution_with_none_of_them():
    one, other = torch.tensor([[0.5, 0.2]]), torch.tensor([[0.1, 0.6]])
    p, q = np.array([0.5, 0.2, 0.3]), np.array([0.1, 0.6, 0.3])
    m = (p + q) / 2
    expected = ((p * np.log(p / m)).sum() + (q * np.log(q / m)).sum()) / 2
    found = jensen_shannon(distributions(one, True), distributions(other, True))
    assert found.tolist() == pytest.approx([expected], rel=1e-5)
    # Of two softmaxes that are both sure there is nothing left for none.
    both = distributions(torch.tensor([[0.9, 0.9]]), True)
    assert both[0, 0].tolist() == pytest.approx([0.5, 0.5, 0])


def test_it_is_nothing_for_equal_views_ln_2_at_most_and_has_an_end_everywhere():
    sure, other = torch.tensor([[1.0, 0.0]], requires_grad=True), torch.tensor([[0.0, 0.0]])
    ways = [distributions(scores, False) for scores in (sure, other)]
    assert jensen_shannon(ways[0], ways[0]).item() == pytest.approx(0, abs=1e-6)
    found = jensen_shannon(*ways)
    assert found.item() == pytest.approx(math.log(2), rel=1e-3)
    found.sum().backward()
    assert sure.grad.isfinite().all()


DETECTORS = ("atss", "fcos", "reppoints", "retinanet", "yolof")


def batch(same=False):
    generator = torch.Generator().manual_seed(0)
    images = [torch.rand(3, 64, 64, generator=generator) for _ in range(2)]
    cell = {"boxes": torch.tensor([[10.0, 10, 50, 50]]), "labels": torch.tensor([1])}
    none = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.long)}
    views = images if same else [image.flip(0) for image in images]
    pairs = zip((cell, none), views, strict=True)
    return images, [target | {"view": view} for target, view in pairs]


@pytest.mark.parametrize("name", DETECTORS)
def test_every_detector_takes_it_and_its_own_losses_stay(name):
    pyramid = {"channels": 32, "levels": [4]}
    config = {"name": name, "classes": ["NILM", "HSIL"], "head_convs": 1, "pyramid": pyramid}
    torch.manual_seed(0)
    detector = build_detector(config)
    own = detector(*batch())
    views = StainViews(ViewSettings(weight=2.0, warmup=0.5))
    losses = views(detector, *batch(), progress=1.0)
    assert set(losses) == {*own, "views"}
    assert losses["views"] > 0
    for part in own:
        torch.testing.assert_close(losses[part], own[part])
    if name == "fcos":  # the same for all of them
        same = views(detector, *batch(same=True), progress=1.0)["views"]
        assert same.item() == pytest.approx(0, abs=1e-6)
        half = views(detector, *batch(), progress=0.25)["views"]
        assert half.item() == pytest.approx(losses["views"].item() / 2, rel=1e-4)
    losses["views"].backward()
    assert detector.head.get_parameter(_class_layer(detector)).grad.abs().sum() > 0
    assert detector.slot.listeners == []


def _class_layer(detector):
    return next(n for n, _ in detector.head.named_parameters() if n.endswith("cls_logits.weight"))


def test_it_draws_the_views_together():
    detector, views = lively(backbone="mobilenet_v2"), StainViews(ViewSettings(warmup=0))
    detector.training = True  # but for its norms
    optimiser = torch.optim.SGD(detector.parameters(), lr=0.05)
    found = []
    for _ in range(4):
        apart = views(detector, *batch(), progress=0.0)["views"]
        found.append(apart.item())
        optimiser.zero_grad()
        apart.backward()
        optimiser.step()
    assert found == sorted(found, reverse=True)
    assert found[-1] < 0.9 * found[0]


def test_a_softmax_loss_and_a_batch_without_a_cell_give_numbers():
    detector = lively(loss={"name": "seesaw"}).train()
    views = StainViews(ViewSettings(warmup=0))
    assert 0 < views(detector, *batch(), progress=0.0)["views"].item() < 10
    images, targets = batch()
    bare = [targets[1], targets[1] | {"view": targets[0]["view"]}]
    losses = views(detector, images, bare, progress=0.0)
    assert losses["views"].item() == 0
    losses["views"].backward()
