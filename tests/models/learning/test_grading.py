"""What a grader learns by."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from configs import ConfigError
from models.grader import Grader, GraderConfig
from models.learning.grading import GraderLearner, check_teacher, grading_losses
from models.learning.learner import OptimiserSettings

ABNORMAL = torch.tensor([False, True, True, False])  # NILM, LSIL, HSIL, background


def losses_of(probabilities, target, binary=0.5):
    logits = torch.log(torch.tensor([probabilities])) + 7.0  # a constant changes nothing
    wanted = torch.eye(4)[[target]] if isinstance(target, int) else torch.tensor([target])
    found = grading_losses(logits, wanted, ABNORMAL, binary)
    return {name: float(value) for name, value in found.items()}


def test_losses_by_hand():
    found = losses_of([0.1, 0.2, 0.3, 0.4], 2)  # an HSIL: 0.3 for it, 0.5 for abnormal
    assert found["grade"] == pytest.approx(-np.log(0.3), rel=1e-5)
    assert found["abnormal"] == pytest.approx(-0.5 * np.log(0.5), rel=1e-5)


def test_normal_taken_for_background_costs_nothing_between_normal_and_abnormal():
    one, other = (losses_of(p, 0) for p in ([0.5, 0.1, 0.1, 0.3], [0.1, 0.1, 0.1, 0.7]))
    assert one["abnormal"] == pytest.approx(other["abnormal"], rel=1e-5)
    assert one["grade"] < other["grade"]


def test_a_soft_target_is_weighed():
    found = losses_of([0.25, 0.25, 0.25, 0.25], [0.0, 0.5, 0.5, 0.0])
    assert found["grade"] == pytest.approx(np.log(4), rel=1e-5)
    assert found["abnormal"] == pytest.approx(0.5 * np.log(2), rel=1e-5)


def test_without_weight_there_is_one_loss():
    assert set(losses_of([0.25] * 4, 1, binary=0)) == {"grade"}


class Known(nn.Module):
    """A teacher that is sure of one answer."""

    def __init__(self, answer):
        super().__init__()
        self.answer = torch.tensor(answer)

    def forward(self, crops):
        assert crops.dtype == torch.uint8
        assert crops.shape[1:] == (32, 32, 3)
        return self.answer.expand(len(crops), -1)


def learner(teachers=(), taught=1.0, **settings):
    torch.manual_seed(0)
    grader = Grader(GraderConfig(size=32, dropout=0), 3)
    own = GraderLearner(
        grader,
        OptimiserSettings(**settings),
        lambda _: {},
        [False, True, True],
        0.5,
        10,
        (),
        teachers,
        taught,
    )
    own.log = own.log_dict = lambda *_, **__: None
    own._trainer = SimpleNamespace(global_step=0)
    return own


def batch(labels=(0, 2)):
    pixels = torch.randint(0, 256, (len(labels), 3, 32, 32), dtype=torch.uint8)
    return pixels, [{"label": torch.tensor(label)} for label in labels]


def test_teachers_are_averaged_and_mixed_with_the_annotation(monkeypatch):
    seen = []

    def spy(logits, targets, abnormal, binary):
        seen.append(targets)
        return {"grade": logits.sum()}

    monkeypatch.setattr("models.learning.grading.grading_losses", spy)
    teachers = [Known([1.0, 0, 0, 0]), Known([0, 0, 0.5, 0.5])]
    learner(teachers, taught=0.8).training_step(batch((1, 1)), 0)
    np.testing.assert_allclose(seen[0], [[0.4, 0.2, 0.2, 0.2]] * 2, atol=1e-6)


def test_teachers_are_no_part_of_what_is_trained_or_kept():
    alone, taught = learner(), learner([Known([1.0, 0, 0, 0])])
    assert list(alone.state_dict()) == list(taught.state_dict())


def test_frozen_stages_stay_and_the_head_learns_faster():
    own = learner(freeze=4, lr=0.3, backbone_lr=0.1)
    own.on_train_start()
    optimiser = own.configure_optimizers()["optimizer"]
    rates = {}
    for group in optimiser.param_groups:
        for parameter in group["params"]:
            rates[id(parameter)] = group["initial_lr"]
    head, body = own.grader.head.weight, own.grader.body[5]
    assert rates[id(head)] == pytest.approx(10 * rates[id(next(body.parameters()))])
    before = {name: value.clone() for name, value in own.grader.state_dict().items()}
    own.training_step(batch(), 0).backward()
    optimiser.step()
    for name, value in own.grader.state_dict().items():
        frozen = name.startswith(("body.0.", "body.1.", "body.2.", "body.3."))
        if frozen or name.endswith(("running_mean", "conv.0.0.weight", "head.weight")):
            assert torch.equal(before[name], value) == frozen, name


def test_a_teacher_of_other_crops_is_refused():
    one, other = (Grader(GraderConfig(size=size), 2) for size in (64, 32))
    with pytest.raises(ConfigError, match=r"teachers: mine looks at other crops \(grader.size 64"):
        check_teacher(one, other, "mine")
