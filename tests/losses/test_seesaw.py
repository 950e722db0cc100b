"""Seesaw loss against its formula written out; the counts that it keeps."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from loss_oracle import cross_entropy, gradient, labels, random_pairs, softmax
from torch import distributed
from torch.autograd import gradcheck
from torch.nn.functional import cross_entropy as softmax_cross_entropy

from losses import SeesawLoss, seesaw_loss

COUNTS = torch.tensor([900, 60, 39, 1])
BATCH = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 0.0]])


def slow_factor(z, counts, i, j, p, q):
    """S_ij by the cases of the paper's text."""
    ratio = max(counts[j], 1) / max(counts[i], 1)
    mitigation = ratio**p if ratio < 1 else 1
    sigma = softmax(z)
    compensation = (sigma[j] / sigma[i]) ** q if sigma[j] > sigma[i] else 1
    return mitigation * compensation


def slow_seesaw(z, counts, i, p=0.8, q=2.0):
    """Loss and gradient of one sample of class i, None on background."""
    if i is None:
        return 0.0, [0.0] * len(z)
    others = [j for j in range(len(z)) if j != i]
    factors = {j: slow_factor(z, counts, i, j, p, q) for j in others}
    total = sum(factors[j] * math.exp(z[j]) for j in others) + math.exp(z[i])
    slope = [factors.get(j, 1) * math.exp(z[j]) / total - (j == i) for j in range(len(z))]
    return -math.log(math.exp(z[i]) / total), slope


def check_against_the_formula(logits, targets, counts, p=0.8, q=2.0):
    rows = zip(logits.tolist(), labels(targets), strict=True)
    losses, slopes = zip(*(slow_seesaw(z, counts.tolist(), i, p, q) for z, i in rows), strict=True)
    found = seesaw_loss(logits, targets, counts, p, q)
    torch.testing.assert_close(found, torch.tensor(losses, dtype=torch.float64)[:, None])
    slope = gradient(lambda z, y: seesaw_loss(z, y, counts, p, q), logits, targets)
    torch.testing.assert_close(slope, torch.tensor(slopes, dtype=torch.float64))


@given(
    st.integers(0, 999),
    st.lists(st.integers(0, 10**6), min_size=1, max_size=5),
    st.floats(0, 2),
    st.floats(0, 3),
)
def test_agrees_with_the_formula_written_out(seed, counts, p, q):
    logits, targets = random_pairs(seed, samples=8, classes=len(counts))
    check_against_the_formula(logits, targets, torch.tensor(counts), p, q)


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_reductions(reduction):
    logits, targets = random_pairs(0)
    expected = getattr(seesaw_loss(logits, targets, COUNTS), reduction)()
    found = seesaw_loss(logits, targets, COUNTS, reduction=reduction)
    torch.testing.assert_close(found, expected)


def test_without_factors_is_softmax_cross_entropy():
    logits, targets = random_pairs(1)
    foreground = targets.any(dim=-1)
    found = seesaw_loss(logits, targets, COUNTS, p=0, q=0)[foreground, 0]
    expected = softmax_cross_entropy(logits[foreground], targets[foreground], reduction="none")
    torch.testing.assert_close(found, expected)


def test_passes_gradcheck_without_the_constant_factor_of_the_logits():
    logits, targets = random_pairs(2, samples=4)
    function = gradcheck(lambda z: seesaw_loss(z, targets, COUNTS, q=0), (logits.requires_grad_(),))
    assert function


def test_a_class_far_behind_is_compensated_without_overflow():
    logits = torch.tensor([[200.0, -200.0, 0.0]])
    targets = torch.tensor([[0.0, 1.0, 0.0]])
    found = seesaw_loss(logits, targets, torch.ones(3))
    assert found.item() == pytest.approx(400 + 2 * 400)  # z_j - z_i, and q times it


def test_objectness_is_on_all_rows_and_the_class_term_on_cells():
    logits, targets = random_pairs(3)
    objectness = 2 * torch.randn(len(logits), 1, dtype=torch.float64)
    loss = SeesawLoss(4).eval()
    loss.counts.copy_(COUNTS)
    cell = [label is not None for label in labels(targets)]
    expected = [
        cross_entropy(z, float(one)) for z, one in zip(objectness[:, 0].tolist(), cell, strict=True)
    ]
    found = loss(torch.cat([logits, objectness], dim=-1), targets)
    torch.testing.assert_close(
        found[:, 0] - seesaw_loss(logits, targets, COUNTS)[:, 0],
        torch.tensor(expected, dtype=torch.float64),
    )


def test_scores_are_the_product_of_class_and_objectness():
    logits, _ = random_pairs(4)
    expected = [
        [p / (1 + math.exp(-row[-1])) for p in softmax(row[:-1])] for row in logits.tolist()
    ]
    torch.testing.assert_close(
        SeesawLoss(3).scores(logits), torch.tensor(expected, dtype=torch.float64)
    )


def step(loss, targets=BATCH):
    return loss(torch.zeros(*targets.shape[:-1], 3), targets)


def test_counts_the_samples_of_each_class_this_step_included():
    loss = SeesawLoss(2)
    logits = torch.tensor([[0.5, 0.1, 0.0], [0.2, -0.3, 0.0], [0.0, 0.1, 0.0], [0.0, 0.0, 0.0]])
    for steps in (1, 2):
        found = loss(logits, BATCH)
        assert loss.counts.tolist() == [2 * steps, steps]
        class_term = seesaw_loss(logits[:, :2], BATCH, torch.tensor([2, 1]))
        expected = class_term + cross_entropy(0.0, 1.0)
        torch.testing.assert_close(found, expected)


def test_counts_any_leading_shape_and_low_precision():
    loss = SeesawLoss(2)
    step(loss, BATCH.reshape(2, 2, 2))
    step(loss, BATCH.repeat(300, 1).bfloat16())  # bfloat16 itself can't count past 256
    assert loss.counts.tolist() == [602, 301]


def test_goes_on_counting_where_float32_would_stop():
    loss = SeesawLoss(2)
    loss.counts += 2**24
    step(loss)
    assert loss.counts.tolist() == [2**24 + 2, 2**24 + 1]


def test_counts_in_training_mode_only():
    loss = SeesawLoss(2).eval()
    step(loss)
    assert loss.counts.tolist() == [0, 0]


def test_the_counts_are_in_the_state():
    loss, other = SeesawLoss(2), SeesawLoss(2)
    step(loss)
    other.load_state_dict(loss.state_dict())
    step(other)
    assert other.counts.tolist() == [4, 2]


@pytest.fixture
def one_process_group(tmp_path):
    store = distributed.FileStore(str(tmp_path / "store"), 1)
    distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


def test_a_process_group_of_one_changes_nothing(one_process_group):
    loss = SeesawLoss(2)
    step(loss)
    step(loss)
    assert loss.counts.tolist() == [4, 2]


def test_counts_are_added_up_over_the_ranks(one_process_group, monkeypatch):
    monkeypatch.setattr(distributed, "all_reduce", lambda tensor: tensor.mul_(4))  # four alike
    loss = SeesawLoss(2)
    step(loss)
    step(loss)
    assert loss.counts.tolist() == [16, 8]


def test_the_prior_of_very_many_classes_is_capped():
    bias = SeesawLoss(200).prior_bias(200, 0.01)
    assert bias[-1].sigmoid().item() == pytest.approx(0.5)
