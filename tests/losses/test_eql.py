"""Equalization losses against their formulas written out."""

import math

import pytest
import torch
from loss_oracle import (
    cross_entropy,
    cross_entropy_gradient,
    each_pair,
    gradient,
    random_pairs,
    sigmoid,
)
from torch.autograd import gradcheck

from losses import CrossEntropyLoss, EQLLoss, EQLv2Loss, eql_loss, eqlv2_loss

COUNTS = (900, 60, 39, 1)
PARTS = [cross_entropy, cross_entropy_gradient]


def weighted(part, weight, logits, targets):
    """``weight(sample, class)`` times ``part`` of each pair."""
    return each_pair(
        lambda i, c: weight(i, c) * part(float(logits[i, c]), float(targets[i, c])), logits
    )


def slow_eql_weight(targets, rare, i, c):
    on_foreground = 1 if max(targets[i].tolist()) == 1 else 0
    return 1 - on_foreground * (1 if rare[c] else 0) * (1 - float(targets[i, c]))


def slow_eqlv2_weight(target, ratio):
    f = 1 / (1 + math.exp(-12 * (ratio - 0.8)))
    return 1 + 4 * (1 - f) if target == 1 else f


def slow_ratios(steps):
    """The ratios after some steps, by the loops of the paper's text."""
    classes = steps[0][0].shape[1]
    positive, negative, ratio = [0.0] * classes, [0.0] * classes, [math.inf] * classes
    for logits, targets in steps:
        weights = {
            (i, c): slow_eqlv2_weight(float(targets[i, c]), min(ratio[c], 50))
            for i in range(len(logits))
            for c in range(classes)
        }
        for (i, c), weight in weights.items():
            magnitude = weight * abs(sigmoid(float(logits[i, c])) - float(targets[i, c]))
            if targets[i, c] == 1:
                positive[c] += magnitude
            else:
                negative[c] += magnitude
        ratio = [p / (n + 1e-10) for p, n in zip(positive, negative, strict=True)]
    return ratio


@pytest.mark.parametrize("index", [0, 1], ids=["loss", "gradient"])
def test_eql_agrees_with_the_formula_written_out(index):
    logits, targets = random_pairs(0)
    loss = EQLLoss(COUNTS, rare_below=0.05)
    found = gradient(loss, logits, targets) if index else loss(logits, targets)
    rare = [False, False, True, True]
    expected = weighted(
        PARTS[index], lambda i, c: slow_eql_weight(targets, rare, i, c), logits, targets
    )
    torch.testing.assert_close(found, expected)


def test_eql_without_rare_classes_is_cross_entropy():
    logits, targets = random_pairs(1)
    loss = eql_loss(logits, targets, torch.zeros(4, dtype=torch.bool), reduction="sum")
    torch.testing.assert_close(loss, CrossEntropyLoss()(logits, targets).sum())


def test_eql_passes_gradcheck():
    logits, targets = random_pairs(2, samples=4)
    rare = torch.tensor([False, True, False, True])
    assert gradcheck(lambda z: eql_loss(z, targets, rare), (logits.requires_grad_(),))


def test_eqlv2_agrees_with_the_formula_written_out():
    logits, targets = random_pairs(3)
    ratio = torch.tensor([0.05, 0.6, 0.8, 2.0], dtype=torch.float64)

    def loss(z, y):
        return eqlv2_loss(z, y, ratio)

    def weight(i, c):
        return slow_eqlv2_weight(float(targets[i, c]), float(ratio[c]))

    for part, found in zip(
        PARTS, (loss(logits, targets), gradient(loss, logits, targets)), strict=True
    ):
        torch.testing.assert_close(found, weighted(part, weight, logits, targets))
    few = logits[:4].requires_grad_()
    assert gradcheck(lambda z: loss(z, targets[:4]), (few,))


@pytest.mark.parametrize("ratio", [100.0, math.inf])
def test_eqlv2_of_a_large_ratio_is_cross_entropy(ratio):
    logits, targets = random_pairs(4)
    loss = eqlv2_loss(logits, targets, torch.full((4,), ratio))
    torch.testing.assert_close(loss, CrossEntropyLoss()(logits, targets))


def test_eqlv2_weighs_by_the_steps_before():
    steps = [random_pairs(seed) for seed in range(3)]
    logits, targets = random_pairs(9)
    module = EQLv2Loss(4)
    torch.testing.assert_close(module(*steps[0]), CrossEntropyLoss()(*steps[0]))
    for step in steps[1:]:
        module(*step)
    ratio = torch.tensor(slow_ratios(steps), dtype=torch.float64)
    torch.testing.assert_close(module.ratio().double(), ratio, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(
        module(logits, targets), eqlv2_loss(logits, targets, ratio), rtol=1e-3, atol=1e-6
    )
