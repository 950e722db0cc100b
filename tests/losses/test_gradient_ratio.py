"""The ratio's state: what is counted, when, and over which processes."""

import pytest
import torch
from torch import distributed

from losses import GradientRatio

GRADIENT = torch.tensor([[0.5, 0.2], [0.1, 0.3], [0.4, 0.6]])
TARGETS = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])


@pytest.fixture
def one_process_group(tmp_path):
    store = distributed.FileStore(str(tmp_path / "store"), 1)
    distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


def check_sums(ratio, steps):
    torch.testing.assert_close(ratio.positive, steps * torch.tensor([0.5, 0.3]))
    torch.testing.assert_close(ratio.negative, steps * torch.tensor([0.5, 0.8]))
    torch.testing.assert_close(ratio(), torch.tensor([1.0, 0.375]))


def test_sums_the_gradient_of_positives_and_negatives():
    ratio = GradientRatio(2)
    for step in (1, 2):
        ratio.accumulate(GRADIENT, TARGETS)
        check_sums(ratio, step)


def test_a_process_group_of_one_changes_nothing(one_process_group):
    ratio = GradientRatio(2)
    ratio.accumulate(GRADIENT, TARGETS)
    check_sums(ratio, 1)


def test_sums_are_added_up_over_the_ranks(one_process_group, monkeypatch):
    monkeypatch.setattr(distributed, "all_reduce", lambda tensor: tensor.mul_(4))  # four alike
    ratio = GradientRatio(2)
    ratio.accumulate(GRADIENT, TARGETS)
    check_sums(ratio, 4)


def test_counts_in_training_mode_only():
    ratio = GradientRatio(2).eval()
    ratio.accumulate(GRADIENT, TARGETS)
    assert ratio.positive.tolist() == ratio.negative.tolist() == [0, 0]


def test_before_any_gradient_a_class_counts_as_balanced():
    ratio = GradientRatio(2)
    assert ratio().tolist() == [torch.inf, torch.inf]
    ratio.accumulate(GRADIENT, torch.zeros(3, 2))
    assert ratio().tolist() == [0, 0]


def test_a_step_that_overflowed_is_left_out():
    ratio = GradientRatio(2)
    ratio.accumulate(GRADIENT, TARGETS)
    for wrong in (torch.nan, torch.inf):
        ratio.accumulate(torch.full((3, 2), wrong), TARGETS)
    check_sums(ratio, 1)


def test_the_sums_are_in_the_state():
    ratio, other = GradientRatio(2), GradientRatio(2)
    ratio.accumulate(GRADIENT, TARGETS)
    other.load_state_dict(ratio.state_dict())
    check_sums(other, 1)
    assert ratio.positive.requires_grad is False
