"""GroupDRO: weights by hand, and that its state is kept."""

import math

import pytest
import torch
from lively import lively

from models.learning.group_dro import GroupDRO, GroupDROSettings


def three(step=0.5):
    """Sources a, b and c of five fields."""
    return GroupDRO(GroupDROSettings(step=step), ["a", "b", "c"], [0, 0, 1, 2, 1])


def test_weights_and_loss_are_those_of_the_formula():
    one = three()
    groups = torch.tensor([0, 1, 1, 0])
    losses = torch.tensor([2.0, 3.0, 6.0, 4.0], requires_grad=True)
    total = one.total(groups, losses, torch.tensor([1.0, 2, 1, 3]))
    means = [6 / 4, 9 / 3, 0]  # c has no crop in the batch
    raised = [math.exp(0.5 * mean) for mean in means]
    weights = [value / sum(raised) for value in raised]
    assert one.weights.tolist() == pytest.approx(weights)
    expected = sum(weight * mean for weight, mean in zip(weights, means, strict=True))
    assert total.item() == pytest.approx(expected)
    total.backward()
    a, b = weights[0] / 4, weights[1] / 3
    assert losses.grad.tolist() == pytest.approx([a, b, b, a])


def test_a_source_without_a_positive_is_divided_by_one():
    one = three()
    one.eval()
    losses, none = torch.tensor([5.0, 1.0]), torch.zeros(2)
    assert one.total(torch.tensor([0, 1]), losses, none).item() == pytest.approx(2)


def test_weights_hold_through_hard_times_and_evaluation_moves_none():
    one = three(step=1.0)
    arguments = torch.tensor([0, 1, 2]), torch.tensor([900.0, 0, 0]), torch.ones(3)
    for _ in range(3):
        one.total(*arguments)
    assert one.weights.tolist() == pytest.approx([1, 0, 0])
    before = one.weights.clone()
    one.total(arguments[0], torch.tensor([torch.nan, 1, 1]), arguments[2])
    one.eval().total(*arguments)
    assert torch.equal(one.weights, before)
    one.train()
    for _ in range(400):  # out of nothing comes what is hard now
        one.total(arguments[0], torch.tensor([0.0, 0, 9]), arguments[2])
    assert one.weights.tolist() == pytest.approx([0, 0, 1])


def test_the_state_survives_a_restart():
    arguments = torch.tensor([0, 1, 2]), torch.tensor([1.0, 2, 3]), torch.ones(3)
    through, before, after = three(), three(), three()
    for one in (through, before):
        one.total(*arguments)
    after.load_state_dict(before.state_dict())
    assert set(before.state_dict()) == {"weights"}
    assert torch.equal(after.total(*arguments), through.total(*arguments))
    assert torch.equal(after.weights, through.weights)


@pytest.mark.parametrize("normaliser", ["positives", "image_positives"])
def test_it_weighs_the_class_loss_of_a_detector_and_no_other(normaliser):
    """By the classes' loss of each source's own crops, which a batch of them alone would have."""
    detector = lively(normaliser=normaliser).train()
    for module in detector.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()  # so that crops don't depend on each other
    generator = torch.Generator().manual_seed(0)
    images = [torch.rand(3, 64, 64, generator=generator) for _ in range(3)]
    box = {"boxes": torch.tensor([[8.0, 8, 50, 50]]), "labels": torch.tensor([1])}
    small = {"boxes": torch.tensor([[8.0, 8, 20, 20]]), "labels": torch.tensor([0])}
    pairs = zip((box, small, box), (0, 2, 1), strict=True)
    targets = [target | {"field": torch.tensor(field)} for target, field in pairs]
    plain = detector(images, targets)
    of_a = detector([images[0], images[2]], [targets[0], targets[2]])["classification"].item()
    of_b = detector(images[1:2], targets[1:2])["classification"].item()
    one = three(step=0.1)
    with one.weighing(detector.slot, targets):
        found = detector(images, targets)
    raised = [math.exp(0.1 * value) for value in (of_a, of_b, 0)]
    expected = (raised[0] * of_a + raised[1] * of_b) / sum(raised)
    assert found["classification"].item() == pytest.approx(expected, rel=1e-4)
    for part in plain.keys() - {"classification"}:
        assert torch.equal(found[part], plain[part])
    assert detector.slot.reducer is None
    assert torch.equal(detector(images, targets)["classification"], plain["classification"])
