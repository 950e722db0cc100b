"""Graded Libra against a slow computation from its definition, and its limits."""

import math

import pytest
import torch
from loss_oracle import cross_entropy, each_pair, gradient, random_pairs, sigmoid
from pydantic import TypeAdapter

from configs import ConfigError
from losses import LossConfig, grad_libra_loss, grade_weights, graded_libra_loss

GRADES = [0.0, 2.0, 3.0, 3.0]


def oracle(logits, targets, grades, tolerance, alpha):
    def pair(i, c):
        z, y = logits[i, c].item(), targets[i, c].item()
        g = 1 - sigmoid(z) if y else sigmoid(z)
        weight = 1.0
        if targets[i].any() and not y:
            distance = abs(grades[int(targets[i].argmax())] - grades[c]) or 1.0
            weight = 1 - tolerance**distance
        return weight * (g - alpha * math.sin(g)) * cross_entropy(z, y)

    return each_pair(pair, logits)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("tolerance", [0.0, 0.5, 0.9])
def test_agrees_with_the_definition(seed, tolerance):
    logits, targets = random_pairs(seed)
    weights = grade_weights(GRADES, tolerance)
    found = graded_libra_loss(logits, targets, weights, 0.6, 0.6)
    torch.testing.assert_close(found, oracle(logits, targets, GRADES, tolerance, 0.6), rtol=1e-5,
                               atol=1e-7)  # fmt: skip


def test_without_tolerance_it_is_grad_libra():
    logits, targets = random_pairs(0)
    found = graded_libra_loss(logits, targets, grade_weights(GRADES, 0.0))
    torch.testing.assert_close(found, grad_libra_loss(logits, targets))


def test_the_gradient_is_that_of_the_loss():
    logits, targets = random_pairs(1, samples=6)
    weights = grade_weights(GRADES, 0.5).double()

    def loss(z):
        return graded_libra_loss(z, targets, weights, detach=False)

    assert torch.autograd.gradcheck(loss, logits.requires_grad_())


def test_neighbours_are_forgiven_more_than_far_grades_and_background_not_at_all():
    logits = torch.zeros(2, 4)
    targets = torch.tensor([[0.0, 1, 0, 0], [0, 0, 0, 0]])
    plain = gradient(lambda *pair: grad_libra_loss(*pair), logits, targets)
    ours = gradient(
        lambda *pair: graded_libra_loss(*pair, grade_weights(GRADES, 0.7)), logits, targets
    )
    relief = ours / plain
    assert relief[0, 1] == pytest.approx(1)
    assert relief[0, 0] == pytest.approx(1 - 0.7**2)
    assert relief[0, 2] == relief[0, 3] == pytest.approx(1 - 0.7)
    torch.testing.assert_close(relief[1], torch.ones(4))


def test_grades_are_one_a_class_and_by_default_their_order():
    adapter = TypeAdapter(LossConfig)
    loss = adapter.validate_python({"name": "graded_libra"}).build(3)
    torch.testing.assert_close(loss.weights, grade_weights([0, 1, 2]))
    with pytest.raises(ConfigError, match=r"loss.grades = \[0.0, 1.0\]: expected 3 numbers"):
        adapter.validate_python({"name": "graded_libra", "grades": [0, 1]}).build(3)
