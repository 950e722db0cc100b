"""Contrast with prototypes: its value by hand, and that its state is kept."""

import math

import pytest
import torch

from models.config import AbnormalHeadSettings
from models.detectors.contrast import PrototypeContrast


def contrast(classes=2, momentum=0.5):
    """Embeds two values as they are."""
    settings = AbnormalHeadSettings(contrast=1, momentum=momentum, temperature=0.5, embedding=2)
    module = PrototypeContrast(settings, classes, 2)
    module.project = torch.nn.Identity()
    return module


def softmax(values, index):
    return math.exp(values[index]) / sum(math.exp(v) for v in values)


def test_the_first_step_only_lays_prototypes():
    module = contrast()
    features = torch.tensor([[3.0, 0.0], [0.0, 2.0]], requires_grad=True)
    loss = module(features, torch.tensor([0, -1]))
    loss.backward()
    assert loss.item() == 0
    assert features.grad.tolist() == [[0, 0], [0, 0]]  # but all weights have one
    assert module.prototypes.tolist() == [[1, 0], [0, 0]]


def test_the_loss_equals_one_computed_by_hand():
    module = contrast()
    module.prototypes.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    features = torch.tensor([[5.0, 0.0], [0.6, 0.8], [0.0, 1.0], [-1.0, 0.0]])
    labels = torch.tensor([0, 0, 1, -1])
    first = [2.0, 1.2, 0.0, -2.0]  # likeness by temperature to the prototypes, place by place
    second = [0.0, 1.6, 2.0, 0.0]
    of_first = -sum(math.log(softmax(first, i)) for i in (0, 1)) / 2
    of_second = -math.log(softmax(second, 2))
    swapped = -sum(math.log(softmax([first[i], second[i]], 0)) for i in (0, 1)) / 2
    of_other = -math.log(softmax([first[2], second[2]], 1))
    expected = (of_first + of_second) / 2 + (swapped + of_other) / 2
    assert module(features, labels).item() == pytest.approx(expected, rel=1e-5)
    # The first one's prototype goes half of the way to (0.8, 0.4), and has length 1 again.
    moved = torch.tensor([0.9, 0.2])
    torch.testing.assert_close(module.prototypes[0], moved / moved.norm())


def test_the_order_of_places_changes_nothing_and_absent_classes_stay():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(9, 2, generator=generator)
    labels = torch.tensor([0, 0, 2, -1, -1, 2, 0, -1, 0])
    order = torch.randperm(9, generator=generator)
    one, other = contrast(3), contrast(3)
    for module in (one, other):
        module.prototypes.copy_(torch.nn.functional.normalize(torch.ones(3, 2)))
    torch.testing.assert_close(one(features, labels), other(features[order], labels[order]))
    torch.testing.assert_close(one.prototypes, other.prototypes)
    assert one.prototypes[1].tolist() == pytest.approx([0.5**0.5] * 2)


def test_one_class_alone_and_no_place_at_all_are_finite():
    module = contrast(1)
    module.prototypes.copy_(torch.tensor([[1.0, 0.0]]))
    assert module(torch.tensor([[1.0, 0.0]]), torch.tensor([0])).item() == 0
    assert module(torch.zeros(0, 2), torch.zeros(0, dtype=torch.int64)).item() == 0
    assert module(torch.ones(2, 2), torch.tensor([-1, -1])).item() == 0


def test_evaluation_moves_nothing_and_overflow_moves_nothing():
    module = contrast()
    module.eval()(torch.tensor([[3.0, 0.0]]), torch.tensor([0]))
    module.train()(torch.tensor([[torch.nan, 0.0]]), torch.tensor([0]))
    assert not module.prototypes.any()


def test_the_state_survives_a_restart():
    features, labels = torch.tensor([[3.0, 1.0], [0.0, 2.0]]), torch.tensor([0, 1])
    through, before, after = contrast(), contrast(), contrast()
    for module in (through, before):
        module(features, labels)
    after.load_state_dict(before.state_dict())
    assert torch.equal(after(features.flip(1), labels), through(features.flip(1), labels))
    assert torch.equal(after.prototypes, through.prototypes)
