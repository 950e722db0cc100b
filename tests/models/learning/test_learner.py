"""Learning rates: who learns how fast, and when; and what ends a run."""

from types import SimpleNamespace

import pytest
import torch
from lively import lively

from models import build_detector
from models.learning.learner import (
    DetectionLearner,
    NotFiniteError,
    OptimiserSettings,
    build_schedule,
    in_turn,
    lr_share,
)


def groups(**settings):
    detector = lively(backbone="mobilenet_v2")
    learner = DetectionLearner(detector, OptimiserSettings(freeze=0, **settings), lambda *_: {}, 1)
    names = {id(p): name for name, p in detector.named_parameters()}
    return {
        names[id(p)]: (group["lr"], group["weight_decay"])
        for group in learner._parameter_groups()
        for p in group["params"]
    }


def test_each_stage_of_the_backbone_learns_slower_than_the_one_above():
    rates = groups(lr=1.0, backbone_lr=0.5, layer_decay=0.5)
    body = {name.split(".")[2]: rate for name, (rate, _) in rates.items() if ".body." in name}
    assert body["17"] == 0.5
    assert body["16"] == 0.25
    assert body["0"] == pytest.approx(0.5 * 0.5**17)
    assert {rate for name, (rate, _) in rates.items() if ".body." not in name} == {1.0}


def test_biases_and_norms_do_not_decay():
    decays = {name: decay for name, (_, decay) in groups(weight_decay=0.1).items()}
    assert decays["backbone.body.0.0.weight"] == 0.1
    assert decays["backbone.body.0.1.weight"] == 0.0
    assert decays["head.classification_head.cls_logits.bias"] == 0.0


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("constant", [0.5, 1, 1, 1, 1]),
        ("step", [0.5, 1, 1, 0.1, 0.01]),
        ("cosine", [0.5, 1, 0.5, 0.1464, 0]),
    ],
)
def test_the_rate_warms_up_and_falls(schedule, expected):
    settings = OptimiserSettings(schedule=schedule, warmup=0.2, milestones=(0.65, 0.85))
    points = (0.1, 0.2, 0.6, 0.8, 1.0)
    shares = [lr_share(settings, at) for at in points]
    assert shares == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("schedule", ["one_cycle", "cosine", "step", "constant"])
@pytest.mark.parametrize("total", [1, 2, 10])
def test_every_schedule_lasts_the_run(schedule, total):
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=0.1)
    settings = OptimiserSettings(schedule=schedule, warmup=0.5)
    scheduler = build_schedule(optimizer, settings, total)
    for _ in range(total - 1):
        optimizer.step()
        scheduler.step()
        assert 0 <= optimizer.param_groups[0]["lr"] <= 0.1 + 1e-6


def test_one_process_keeps_its_order():
    assert in_turn([3, 1, 2]) == [3, 1, 2]


@pytest.mark.parametrize("sync", [False, True])
def test_frozen_norms_keep_their_statistics_in_one_process_and_in_several(sync):
    settings = OptimiserSettings(freeze=2, backbone_norm="trained")
    learner = DetectionLearner(lively(backbone="mobilenet_v2"), settings, lambda *_: {}, 1)
    if sync:  # what Lightning makes of batch norms, where several GPUs train them
        torch.nn.SyncBatchNorm.convert_sync_batchnorm(learner)
    learner.train().on_train_start()
    training = {name: m.training for name, m in learner.named_modules() if hasattr(m, "momentum")}
    assert not training["detector.backbone.body.0.1"]
    assert not training["detector.backbone.body.1.conv.0.1"]
    assert training["detector.backbone.body.2.conv.0.1"]


@pytest.mark.parametrize(
    ("name", "levels"),
    [("fcos", (3,)), ("retinanet", (3, 4)), ("atss", (5, 6)), ("reppoints", (4,)), ("yolof", (4,))],
)
def test_every_weight_that_learns_gets_a_gradient(name, levels):
    """Else several processes would wait for it; also where a batch has no cell."""
    pyramid = {"channels": 32, "levels": levels}
    config = {"name": name, "classes": ["NILM", "HSIL"], "head_convs": 1, "pyramid": pyramid}
    detector = build_detector(config)
    targets = [{"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.long)}] * 2
    losses = detector([torch.rand(3, 128, 128)] * 2, targets)
    torch.stack(list(losses.values())).sum().backward()
    lacking = [n for n, p in detector.named_parameters() if p.requires_grad and p.grad is None]
    assert lacking == []


def test_a_network_that_gives_no_numbers_for_a_validation_field_ends_the_run():
    detector = lively()
    torch.nn.init.constant_(detector.head.classification_head.cls_logits.bias, float("nan"))
    learner = DetectionLearner(detector, OptimiserSettings(lr=0.25), lambda *_: {}, 1)
    learner._trainer = SimpleNamespace(global_step=7)
    with pytest.raises(NotFiniteError, match=r"after step 7; turn down optimiser\.lr \(0\.25\)"):
        learner.validation_step(([torch.rand(3, 64, 64)], [{}]), 0)
