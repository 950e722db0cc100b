"""Two processes learn what one learns from the batches of both: every loss of every detector."""

import os
import subprocess
import sys

import pytest
import torch
from checkout import PYTHONPATH
from torch import distributed

from losses import BAGSLoss, GHMLoss
from losses.ranks import (
    gathered,
    mean_over_ranks,
    of_all_ranks,
    sum_over_ranks,
    sum_over_ranks_and_back,
)

COMPARE = """
import sys
import torch
from torch import distributed
from models import build_detector, with_class_counts
from models.config import DetectorConfig
from models.learning.group_dro import GroupDRO, GroupDROSettings
from models.learning.views import StainViews, ViewSettings

distributed.init_process_group("gloo", init_method=f"file://{sys.argv[1]}", rank=int(sys.argv[2]),
                               world_size=2)
rank = distributed.get_rank()
LOSSES = ("cross_entropy", "focal", "grad_libra", "class_balanced", "eql", "eqlv2", "ghm",
          "equalized_focal", "graded_libra", "seesaw", "bags")
DETECTORS = {"fcos": [3], "retinanet": [3], "atss": [3], "reppoints": [3], "yolof": [4]}

def build(name, loss):
    torch.manual_seed(0)
    pyramid = {"channels": 32, "levels": DETECTORS[name]}
    config = DetectorConfig(name=name, classes=("NILM", "HSIL"), head_convs=1, pyramid=pyramid,
                            head_norm="none", loss={"name": loss},
                            backbone="smallbackbone:STAGES",
                            causal={} if loss == "focal" else None)
    detector = build_detector(with_class_counts(config, [500, 20]))
    for module in detector.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()
    return detector

def gradients(detector, images, targets, losses=None):
    losses = losses or detector
    for _ in range(2):  # the second step goes by what losses remember of the first
        detector.zero_grad()
        torch.stack(list(losses(images, targets).values())).sum().backward()
    return {n: p.grad for n, p in detector.named_parameters() if p.grad is not None}

def viewed_and_weighed(images, targets):
    detector = build("fcos", "eqlv2")
    views = StainViews(ViewSettings(warmup=0, hard_background=0))
    groups = GroupDRO(GroupDROSettings(step=0.5), ["a", "b"], [0, 1, 1, 0])
    def losses(images, targets):
        with groups.weighing(detector.slot, targets):
            return views(detector, images, targets, 1.0)
    return gradients(detector, images, targets, losses) | {"weights": groups.weights}

def compare(name, shared, learn):
    for gradient in shared.values():
        distributed.all_reduce(gradient)
        gradient /= 2
    if rank:
        return
    distributed.is_initialized = lambda: False  # the first process alone, with both batches
    alone = learn()
    distributed.is_initialized = ready
    assert shared.keys() == alone.keys()
    for key, gradient in alone.items():
        if ".causal.encode." in key and key.endswith("bias"):
            continue  # codes are brought to mean 0, so that rounding is all there is
        scale = gradient.abs().max() + 1e-6
        assert ((shared[key] - gradient).abs().max() / scale) < 2e-3, (name, key)

torch.manual_seed(1)
images = [torch.rand(3, 64, 64) for _ in range(4)]
boxes = [[[5., 5, 40, 40], [20, 20, 60, 60]], [[10., 10, 50, 45]], [], [[8., 20, 30, 50]]]
labels = [[0, 1], [0], [], [1]]
targets = [{"boxes": torch.tensor(b).reshape(-1, 4), "labels": torch.tensor(l).long(),
            "field": torch.tensor(i), "view": image.flip(0)}
           for i, (b, l, image) in enumerate(zip(boxes, labels, images))]
ready = distributed.is_initialized
own = slice(2 * rank, 2 * rank + 2)
for name in DETECTORS:
    for loss in LOSSES:
        if name == "yolof" and loss in ("seesaw", "bags"):
            continue
        compare((name, loss), gradients(build(name, loss), images[own], targets[own]),
                lambda: gradients(build(name, loss), images, targets))
compare("views and groups", viewed_and_weighed(images[own], targets[own]),
        lambda: viewed_and_weighed(images, targets))
print("all alike")
"""


REMEMBER = """
import sys
import torch
from torch import distributed
from models import build_detector
from models.config import DetectorConfig

torch.manual_seed(0)
config = DetectorConfig(name="fcos", classes=("NILM", "HSIL"), head_convs=1, head_norm="none",
                        pyramid={"channels": 32, "levels": [3]}, loss={"name": "cross_entropy"},
                        backbone="smallbackbone:STAGES",
                        history={"warm_up": 1, "longest": 64, "jitter": {}, "top_share": 0.5})

def remembered(images, targets):
    torch.manual_seed(0)
    detector = build_detector(config)
    for module in detector.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()
    for _ in range(3):
        torch.stack(list(detector(images, targets).values())).sum().backward()
    return detector.slot.history.memory.state_dict()

images = [torch.rand(3, 64, 64) for _ in range(4)]
boxes = [[[5., 5, 40, 40], [20, 20, 60, 60]], [[10., 10, 50, 45]], [], []]
labels = [[0, 1], [0], [], []]
targets = [{"boxes": torch.tensor(b).reshape(-1, 4), "labels": torch.tensor(l).long()}
           for b, l in zip(boxes, labels)]
alone = remembered(images, targets)
rank = int(sys.argv[2])
distributed.init_process_group("gloo", init_method=f"file://{sys.argv[1]}", rank=rank, world_size=2)
own = slice(2 * rank, 2 * rank + 2)  # the second one has no cell at all
shared = remembered(images[own], targets[own])
assert alone["held"].tolist() == [8, 8], alone["held"]
for name, value in alone.items():
    torch.testing.assert_close(shared[name], value, msg=name)
print("all alike")
"""


def in_two_processes(script, folder):
    environment = os.environ | {"PYTHONPATH": PYTHONPATH, "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(folder / "store"), str(rank)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        for process in processes:
            out, errors = process.communicate(timeout=240)
            assert "all alike" in out, errors
    finally:  # one may wait for the other for ever
        for process in processes:
            process.kill()


@pytest.mark.slow
def test_every_process_remembers_the_cells_of_all(tmp_path):
    in_two_processes(REMEMBER, tmp_path)


@pytest.mark.slow
def test_every_loss_of_every_detector_sees_the_batches_of_all_processes(tmp_path):
    in_two_processes(COMPARE, tmp_path)


@pytest.fixture
def four_alike(tmp_path, monkeypatch):
    """A group of one process, of which there seem to be four."""
    store = distributed.FileStore(str(tmp_path / "store"), 1)
    distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    monkeypatch.setattr(distributed, "all_reduce", lambda tensor: tensor.mul_(4))
    monkeypatch.setattr(distributed, "get_world_size", lambda: 4)
    yield
    distributed.destroy_process_group()


def test_one_process_has_its_own(tmp_path):
    assert sum_over_ranks(torch.tensor([3])).tolist() == [3]
    assert mean_over_ranks(torch.tensor([3])).tolist() == [3]
    assert of_all_ranks("own") == ["own"]
    assert gathered(torch.tensor([3])).tolist() == [[3]]


def test_a_mean_leaves_its_values_as_they_are(four_alike):
    values = torch.tensor([2.0, 4.0], dtype=torch.float64)
    assert mean_over_ranks(values).tolist() == [2, 4]
    assert values.tolist() == [2, 4]


def test_a_sum_goes_back_to_all_and_leaves_its_values_as_they_are(four_alike):
    values = torch.tensor([2.0, 3.0], requires_grad=True)
    summed = sum_over_ranks_and_back(values)
    assert summed.tolist() == [8, 12]
    (summed * torch.tensor([1.0, 5.0])).sum().backward()
    assert values.grad.tolist() == [4, 20]
    assert values.tolist() == [2, 3]


@pytest.mark.parametrize(
    "loss", [GHMLoss(), BAGSLoss([500, 20], bounds=[100])], ids=["ghm", "bags"]
)
def test_losses_that_count_the_batch_count_that_of_all_processes(loss, request):
    torch.manual_seed(0)
    targets = torch.zeros(40, 2)
    targets[:4, 0], targets[4:5, 1] = 1, 1
    logits = torch.randn(40, loss.channels(2))
    repeated = loss(logits.repeat(4, 1), targets.repeat(4, 1))[:40]
    request.getfixturevalue("four_alike")
    torch.testing.assert_close(loss(logits, targets), repeated)
