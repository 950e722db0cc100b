"""Equalized focal loss against its formula written out."""

import math

import pytest
import torch
from loss_oracle import each_pair, gradient, random_pairs, sigmoid
from torch.autograd import gradcheck

from losses import EqualizedFocalLoss, FocalLoss, equalized_focal_loss

RATIO = torch.tensor([0.02, 0.5, 1.0, 3.0], dtype=torch.float64)


def slow_loss(logit, target, ratio):
    gamma = 2 + 8 * (1 - min(max(ratio, 0), 1))
    p = sigmoid(logit)
    p_t, alpha_t = (p, 0.25) if target == 1 else (1 - p, 0.75)
    return alpha_t * gamma / 2 * (1 - p_t) ** gamma * -math.log(p_t)


def test_agrees_with_the_formula_written_out():
    logits, targets = random_pairs(0)
    expected = each_pair(
        lambda i, c: slow_loss(float(logits[i, c]), float(targets[i, c]), float(RATIO[c])), logits
    )
    torch.testing.assert_close(equalized_focal_loss(logits, targets, RATIO), expected)


def test_passes_gradcheck():
    logits, targets = random_pairs(1, samples=4)
    assert gradcheck(lambda z: equalized_focal_loss(z, targets, RATIO), (logits.requires_grad_(),))


@pytest.mark.parametrize("ratio", [1.0, 7.0, math.inf])
def test_of_a_balanced_class_is_focal_loss(ratio):
    logits, targets = random_pairs(2)
    loss = equalized_focal_loss(logits, targets, torch.full((4,), ratio))
    torch.testing.assert_close(loss, FocalLoss(alpha=0.25, gamma=2.0)(logits, targets))


def test_goes_by_autograds_own_gradient_of_the_steps_before():
    module = EqualizedFocalLoss(4)
    positive, negative = torch.zeros(2, 4, dtype=torch.float64)
    ratio = torch.ones(4, dtype=torch.float64)
    for seed in range(3):
        logits, targets = random_pairs(seed)

        def loss(z, y, ratio=ratio):
            return equalized_focal_loss(z, y, ratio)

        torch.testing.assert_close(
            module(logits, targets), loss(logits, targets), rtol=1e-4, atol=1e-7
        )
        slope = gradient(loss, logits, targets).abs()
        positive += (slope * targets).sum(0)
        negative += (slope * (1 - targets)).sum(0)
        ratio = positive / (negative + 1e-10)
    torch.testing.assert_close(module.ratio().double(), ratio, rtol=1e-4, atol=1e-6)
