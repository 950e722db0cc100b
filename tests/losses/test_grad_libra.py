"""Grad-Libra against the paper's numbers, an oracle, and autograd's own check."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.autograd import gradcheck

from losses import FocalLoss, GradLibraLoss, grad_libra_loss

LOGITS = [1.06, -3.62, -1.46]
TARGETS = [0.0, 0.0, 1.0]

PAPER = [
    # alphas, loss per class, gradient with G detached, gradient with G not detached
    (
        (0.8, 0.8),
        [0.27377, 0.00014, 0.38593],
        [0.14978, 0.00014, -0.18767],
        [0.25632, 0.00027, -0.30235],
    ),
    (
        (0.2, 0.6),
        [0.45737, 0.00028, 1.11222],
        [0.25023, 0.00027, -0.54086],
        [0.39499, 0.00054, -0.76096],
    ),
]


def slow_loss(logit: float, target: float, alpha_pos: float, alpha_neg: float) -> float:
    """The paper's eq. 2 to 5, written out for one pair."""
    p = 1 / (1 + math.exp(-logit))
    if target == 1:
        return ((1 - p) - alpha_pos * math.sin(1 - p)) * -math.log(p)
    return (p - alpha_neg * math.sin(p)) * -math.log(1 - p)


@pytest.mark.parametrize(("alphas", "losses", "detached", "attached"), PAPER)
def test_gives_the_papers_numbers(alphas, losses, detached, attached):
    for detach, gradient in ((True, detached), (False, attached)):
        logits = torch.tensor(LOGITS, requires_grad=True)
        loss = grad_libra_loss(logits, torch.tensor(TARGETS), *alphas, detach=detach)
        loss.sum().backward()
        torch.testing.assert_close(loss.detach(), torch.tensor(losses), atol=1e-5, rtol=0)
        torch.testing.assert_close(logits.grad, torch.tensor(gradient), atol=1e-5, rtol=0)


@given(
    st.lists(st.tuples(st.floats(-15, 15), st.sampled_from([0.0, 1.0])), min_size=1, max_size=20),
    st.floats(0, 1),
    st.floats(0, 1),
)
def test_agrees_with_the_formula_written_out(pairs, alpha_pos, alpha_neg):
    logits, targets = (torch.tensor(side, dtype=torch.float64) for side in zip(*pairs, strict=True))
    expected = [slow_loss(z, y, alpha_pos, alpha_neg) for z, y in pairs]
    loss = grad_libra_loss(logits, targets, alpha_pos, alpha_neg)
    torch.testing.assert_close(
        loss, torch.tensor(expected, dtype=torch.float64), atol=1e-8, rtol=1e-6
    )


def test_passes_gradcheck_when_the_weight_is_part_of_the_graph():
    torch.manual_seed(0)
    logits = torch.randn(6, 4, dtype=torch.float64, requires_grad=True)
    targets = torch.randint(0, 2, (6, 4), dtype=torch.float64)
    assert gradcheck(lambda z: grad_libra_loss(z, targets, 0.3, 0.9, detach=False), (logits,))


def test_alpha_zero_is_focal_loss_with_gamma_one():
    torch.manual_seed(0)
    logits, targets = torch.randn(50, 6), torch.randint(0, 2, (50, 6)).float()
    focal = FocalLoss(alpha=None, gamma=1.0)(logits, targets)
    torch.testing.assert_close(grad_libra_loss(logits, targets, 0.0, 0.0), focal)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("detach", [True, False])
def test_is_finite_at_extreme_logits(dtype, detach):
    logits = torch.tensor([100.0, -100.0, 100.0, -100.0], dtype=dtype, requires_grad=True)
    targets = torch.tensor([1.0, 0.0, 0.0, 1.0], dtype=dtype)
    loss = grad_libra_loss(logits, targets, detach=detach)
    loss.sum().backward()
    hard = (1 - 0.8 * math.sin(1.0)) * 100
    torch.testing.assert_close(loss.detach().float(), torch.tensor([0.0, 0.0, hard, hard]))
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(dtype):
    logits, targets = torch.randn(1000, 6).to(dtype), torch.zeros(1000, 6, dtype=dtype)
    loss = grad_libra_loss(logits, targets, reduction="sum")
    assert loss.dtype == torch.float32
    torch.testing.assert_close(
        loss, grad_libra_loss(logits.float(), targets.float(), reduction="sum")
    )


def test_reductions():
    logits, targets = torch.randn(5, 3), torch.zeros(5, 3)
    each = grad_libra_loss(logits, targets)
    assert each.shape == logits.shape
    torch.testing.assert_close(grad_libra_loss(logits, targets, reduction="sum"), each.sum())
    torch.testing.assert_close(grad_libra_loss(logits, targets, reduction="mean"), each.mean())
    with pytest.raises(ValueError, match="reduction = 'total'"):
        grad_libra_loss(logits, targets, reduction="total")


def test_no_samples_give_no_loss():
    empty = torch.zeros(0, 6, requires_grad=True)
    loss = grad_libra_loss(empty, torch.zeros(0, 6), reduction="sum")
    loss.backward()
    assert loss.item() == 0


def test_module_is_the_function():
    logits, targets = torch.randn(7, 2), torch.ones(7, 2)
    module = GradLibraLoss(alpha_pos=0.4, alpha_neg=0.1, detach=False)
    torch.testing.assert_close(module(logits, targets), grad_libra_loss(logits, targets, 0.4, 0.1))
