"""Balanced group softmax against its text written out, and its groups."""

import math
from itertools import combinations
from statistics import fmean

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from loss_oracle import cross_entropy, gradient, labels, random_pairs, softmax
from torch.autograd import gradcheck
from torch.nn.functional import cross_entropy as softmax_cross_entropy

from losses import BAGSLoss, bags_loss, class_groups

COUNTS = (3007, 231, 353, 58)
GROUPS = [[3], [1, 2], [0]]


def random_case(seed, samples=30, counts=COUNTS, bounds=(100, 1000)):
    """float64 logits of classes and others, targets, groups; every other row is background."""
    groups = class_groups(counts, bounds)
    _, targets = random_pairs(seed, samples, len(counts))
    generator = torch.Generator().manual_seed(seed)
    channels = len(counts) + len(groups)
    logits = 3 * torch.randn(samples, channels, generator=generator, dtype=torch.float64)
    return logits, targets, groups


def slow_group_probabilities(z, groups, n):
    """Slot to probability in group n; the key "others" for that slot."""
    classes = sum(len(group) for group in groups)
    keys = [*groups[n], "others"]
    return dict(zip(keys, softmax([z[c] for c in groups[n]] + [z[classes + n]]), strict=True))


def slow_others_weight(of, group, row, beta, ratio):
    """The weight of a row as "others" of a group, from the labels of the batch."""
    cells = sum(label is not None for label in of)
    backgrounds = len(of) - cells
    worth = [1 if label is not None else min(1, ratio * cells / backgrounds) for label in of]
    others = sum(w for w, label in zip(worth, of, strict=True) if label not in group)
    own = sum(label in group for label in of)
    return worth[row] * min(1, beta * own / others) if others else 0


def slow_bags(logits, targets, groups, beta=8.0, ratio=3.0):
    of = labels(targets)
    losses = []
    for row, z in enumerate(logits.tolist()):
        loss = 0.0
        for n, group in enumerate(groups):
            p = slow_group_probabilities(z, groups, n)
            if of[row] in group:
                loss -= math.log(p[of[row]])
            else:
                loss -= slow_others_weight(of, group, row, beta, ratio) * math.log(p["others"])
        losses.append(loss)
    return torch.tensor(losses, dtype=torch.float64)[:, None]


@given(
    st.integers(0, 999),
    st.integers(1, 20),
    st.lists(st.sampled_from([0, 5, 99, 100, 500, 1000, 7000]), min_size=1, max_size=6),
    st.floats(0.1, 20),
    st.floats(0, 5),
)
def test_agrees_with_the_text_written_out(seed, samples, counts, beta, ratio):
    logits, targets, groups = random_case(seed, samples, counts)
    found = bags_loss(logits, targets, groups, beta, ratio)
    torch.testing.assert_close(found, slow_bags(logits, targets, groups, beta, ratio))


def test_the_weights_are_what_sampling_gives_on_average():
    """All ways to draw 2 "others" for the one sample of the group, beta 2, by turns."""
    logits, _, groups = random_case(0, samples=6)
    targets = torch.zeros(6, 4, dtype=torch.float64)
    for row, label in enumerate([3, 0, 0, 0, 1, 2]):
        targets[row, label] = 1
    p = [slow_group_probabilities(z, groups, 0) for z in logits.tolist()]
    drawn = [-sum(math.log(p[i]["others"]) for i in two) for two in combinations(range(1, 6), 2)]
    expected = fmean(drawn) - math.log(p[0][3])
    # The other groups' slots are all so likely that only the first group has a loss.
    for n, group in enumerate(groups[1:], start=1):
        for row, label in enumerate(labels(targets)):
            logits[row, label if label in group else 4 + n] = 1e3
    assert bags_loss(logits, targets, groups, beta=2).sum().item() == pytest.approx(expected)


def test_all_background_together_counts_as_three_a_cell():
    """However much background there is, cells of other groups keep their part of "others"."""
    targets = torch.zeros(1000, 4, dtype=torch.float64)
    targets[0, 3] = targets[1, 0] = targets[2, 0] = 1
    few = torch.cat([targets[:3], targets[-9:]])
    groups = class_groups(COUNTS, (100, 1000))
    row = torch.randn(1, 7, dtype=torch.float64)
    many = bags_loss(row.expand(1000, -1), targets, groups)
    assert many.sum().item() == pytest.approx(
        bags_loss(row.expand(12, -1), few, groups).sum().item()
    )


def test_a_group_without_samples_in_the_batch_is_left_alone():
    logits, targets, groups = random_case(1)
    targets[:, 3] = 0  # the only class of group 0
    slope = gradient(lambda z, y: bags_loss(z, y, groups), logits, targets)
    assert (slope[:, [3, 4]] == 0).all()
    assert (slope[:, [0, 1, 2, 5, 6]] != 0).any(dim=0).all()


def test_one_group_of_cells_alone_is_softmax_cross_entropy_with_an_others_slot():
    logits, targets, groups = random_case(2, counts=(5, 6, 7))
    assert groups == [[0, 1, 2]]
    cells = targets.any(dim=-1)
    found = bags_loss(logits, targets, groups, background_ratio=0)
    expected = softmax_cross_entropy(logits[cells], targets[cells].argmax(-1), reduction="none")
    torch.testing.assert_close(found[cells, 0], expected)
    assert (found[~cells] == 0).all()


def test_without_limits_on_others_it_is_softmax_cross_entropy_in_every_group():
    logits, targets, groups = random_case(3)
    found = bags_loss(logits, targets, groups, beta=1e9, background_ratio=1e9)
    expected = torch.zeros(len(logits), dtype=torch.float64)
    for n, group in enumerate(groups):
        own = targets[:, group]
        slot = torch.where(own.any(-1), own.argmax(-1), len(group))
        expected += softmax_cross_entropy(logits[:, [*group, 4 + n]], slot, reduction="none")
    torch.testing.assert_close(found[:, 0], expected)


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_reductions(reduction):
    logits, targets, groups = random_case(4)
    expected = getattr(bags_loss(logits, targets, groups), reduction)()
    torch.testing.assert_close(bags_loss(logits, targets, groups, reduction=reduction), expected)


def test_passes_gradcheck():
    logits, targets, groups = random_case(5, samples=5)
    function = gradcheck(lambda z: bags_loss(z, targets, groups), (logits.requires_grad_(),))
    assert function


def test_any_leading_shape():
    logits, targets, groups = random_case(6)
    found = bags_loss(logits.reshape(5, 6, 7), targets.reshape(5, 6, 4), groups)
    torch.testing.assert_close(found.flatten(), bags_loss(logits, targets, groups).flatten())


def test_foreground_is_on_all_rows():
    logits, targets, groups = random_case(7)
    foreground = 2 * torch.randn(len(logits), 1, dtype=torch.float64)
    found = BAGSLoss(COUNTS)(torch.cat([logits, foreground], dim=-1), targets)
    cells = [float(label is not None) for label in labels(targets)]
    expected = [cross_entropy(z, y) for z, y in zip(foreground[:, 0].tolist(), cells, strict=True)]
    torch.testing.assert_close(
        (found - bags_loss(logits, targets, groups))[:, 0],
        torch.tensor(expected, dtype=torch.float64),
    )


def test_scores_are_probabilities_in_the_group_times_foreground():
    loss = BAGSLoss(COUNTS)
    logits = 3 * torch.randn(20, loss.channels(4), dtype=torch.float64)
    expected = torch.zeros(20, 4, dtype=torch.float64)
    for row, z in enumerate(logits.tolist()):
        for n, group in enumerate(loss.groups):
            p = slow_group_probabilities(z, loss.groups, n)
            for c in group:
                expected[row, c] = p[c] / (1 + math.exp(-z[-1]))
    torch.testing.assert_close(loss.scores(logits), expected)


@pytest.mark.parametrize(
    ("counts", "bounds", "expected"),
    [
        (COUNTS, (100, 1000), GROUPS),
        ((99, 100, 999, 1000), (100, 1000), [[0], [1, 2], [3]]),
        ((0, 5000), (100, 1000), [[0], [1]]),
        ((1, 2), (100, 1000), [[0, 1]]),
        ((300, 1, 200), (100,), [[1], [0, 2]]),
    ],
)
def test_groups_by_counts(counts, bounds, expected):
    assert class_groups(counts, bounds) == expected
    loss = BAGSLoss(counts, bounds)
    assert loss.channels(len(counts)) == len(counts) + len(expected) + 1
    assert len(loss.prior_bias(len(counts), 0.01)) == loss.channels(len(counts))


def test_others_start_as_likely_as_the_classes_that_they_stand_for():
    loss = BAGSLoss(COUNTS)
    for n, others in enumerate([4 / 5, 3 / 5, 4 / 5]):
        p = slow_group_probabilities(loss.prior_bias(4, 0.01).tolist(), loss.groups, n)
        assert p["others"] == pytest.approx(others)


def test_the_prior_of_very_many_classes_is_capped():
    bias = BAGSLoss([1] * 200).prior_bias(200, 0.01)
    assert bias[-1].sigmoid().item() == pytest.approx(0.5)
