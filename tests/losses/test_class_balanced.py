"""Class-balanced loss against its formula written out."""

import pytest
import torch
from loss_oracle import cross_entropy, cross_entropy_gradient, each_pair, gradient, random_pairs
from torch.autograd import gradcheck

from losses import ClassBalancedLoss, CrossEntropyLoss, class_balanced_loss, class_balanced_weights

COUNTS = (49767, 6648, 1212, 202)


def slow_class_weights(counts, beta):
    raw = [(1 - beta) / (1 - beta**n) for n in counts]
    return [len(counts) * w / sum(raw) for w in raw]


def slow_weight(targets, weights, sample):
    for label, weight in enumerate(weights):
        if targets[sample, label] == 1:
            return weight
    return sum(weights) / len(weights)


@pytest.mark.parametrize("beta", [0.0, 0.9, 0.999, 0.9999])
def test_agrees_with_the_formula_written_out(beta):
    logits, targets = random_pairs(0)
    weights = slow_class_weights(COUNTS, beta)
    loss = ClassBalancedLoss(COUNTS, beta)
    for found, part in (
        (loss(logits, targets), cross_entropy),
        (gradient(loss, logits, targets), cross_entropy_gradient),
    ):
        expected = each_pair(
            lambda i, c, part=part: (
                slow_weight(targets, weights, i) * part(float(logits[i, c]), float(targets[i, c]))
            ),
            logits,
        )
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-9)


def test_passes_gradcheck():
    logits, targets = random_pairs(1, samples=4)
    weights = class_balanced_weights(COUNTS).double()
    assert gradcheck(lambda z: class_balanced_loss(z, targets, weights), (logits.requires_grad_(),))


def test_beta_zero_is_cross_entropy():
    logits, targets = random_pairs(2)
    loss = ClassBalancedLoss(COUNTS, beta=0.0)(logits, targets)
    torch.testing.assert_close(loss, CrossEntropyLoss()(logits, targets))


def test_a_class_without_samples_leaves_the_others_as_they_were():
    weights = class_balanced_weights((5000, 0, 50))
    torch.testing.assert_close(weights[[0, 2]], class_balanced_weights((5000, 50)))
    assert weights[1] == 1
    assert class_balanced_weights((0, 0)).tolist() == [1, 1]


def test_reductions():
    logits, targets = random_pairs(3)
    weights = class_balanced_weights(COUNTS)
    each = class_balanced_loss(logits, targets, weights)
    total = class_balanced_loss(logits, targets, weights, reduction="sum")
    torch.testing.assert_close(total, each.sum())
