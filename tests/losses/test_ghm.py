"""GHM-C against its formula written out."""

from functools import partial

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

from losses import CrossEntropyLoss, GHMLoss, ghm_loss


def slow_weights(logits, targets, bins):
    """Total / (count in the pair's bin * bins that are not empty), pair by pair."""

    def bin_of(i, c):
        hardness = abs(sigmoid(float(logits[i, c])) - float(targets[i, c]))
        return min(int(hardness * bins), bins - 1)

    samples, classes = logits.shape
    counts = [0] * bins
    for i in range(samples):
        for c in range(classes):
            counts[bin_of(i, c)] += 1
    filled = sum(1 for count in counts if count > 0)
    return each_pair(lambda i, c: samples * classes / (counts[bin_of(i, c)] * filled), logits)


@pytest.mark.parametrize("bins", [1, 3, 10, 1000])
def test_agrees_with_the_formula_written_out(bins):
    logits, targets = random_pairs(0)
    weights = slow_weights(logits, targets, bins)
    loss = partial(ghm_loss, bins=bins)
    for found, part in (
        (loss(logits, targets), cross_entropy),
        (gradient(loss, logits, targets), cross_entropy_gradient),  # the weight is a constant
    ):
        plain = each_pair(
            lambda i, c, part=part: part(float(logits[i, c]), float(targets[i, c])), logits
        )
        torch.testing.assert_close(found, weights * plain)


def test_in_the_slot_it_is_the_mean_over_all_pairs():
    """Not a sum for each positive: a dense head has hundreds of pairs for each."""
    logits, targets = random_pairs(0)
    in_slot = GHMLoss()(logits, targets).sum() / targets.sum()
    torch.testing.assert_close(in_slot, ghm_loss(logits, targets, reduction="mean"))
    background = torch.zeros_like(targets)  # the slot divides by one where there are none
    torch.testing.assert_close(
        GHMLoss()(logits, background).sum(), ghm_loss(logits, background, reduction="mean")
    )


def test_one_bin_is_cross_entropy():
    logits, targets = random_pairs(1)
    loss = ghm_loss(logits, targets, bins=1, reduction="mean")
    torch.testing.assert_close(loss, CrossEntropyLoss()(logits, targets).mean())


def test_a_crowd_of_easy_pairs_weighs_no_more_than_one_hard_pair():
    logits = torch.tensor([[-9.0]] * 999 + [[9.0]])
    slope = gradient(ghm_loss, logits, torch.zeros_like(logits))
    easy, hard = torch.sigmoid(torch.tensor([-9.0, 9.0]))
    torch.testing.assert_close(slope[-1, 0], 500 * hard)
    torch.testing.assert_close(slope[:-1].sum(), 500 * easy, rtol=1e-5, atol=0)
