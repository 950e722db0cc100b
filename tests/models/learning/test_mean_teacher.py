"""What a student learns from its moving average, and when the teacher is believed."""

import csv
import math
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch import LightningModule
from lively import CLASSES, lively
from torch.utils._python_dispatch import TorchDispatchMode
from torchvision.ops import generalized_box_iou

from configs import ConfigError
from models import build_detector
from models.detectors.build import DETECTORS
from models.learning.callbacks import WarmedUpEMA
from models.learning.learner import DetectionLearner, OptimiserSettings
from models.learning.mean_teacher import (
    WEAK,
    MeanTeacher,
    TeachingSettings,
    agreement,
    check_scores,
    divergence,
    take_apart,
)

THREE = ("NILM", "LSIL", "HSIL")


class Holder(LightningModule):
    """A learner, as far as a teacher looks at it."""

    def __init__(self, detector):
        super().__init__()
        self.detector = detector


def teaching(student, path="mean_teacher.csv", **settings):
    """A teacher whose weights are the student's as they are now."""
    one = MeanTeacher(path, student.config.classes, TeachingSettings(**settings), every=1)
    average, holder = WarmedUpEMA(0.9), Holder(student)
    average.setup(None, holder, "fit")
    one.on_train_start(SimpleNamespace(callbacks=[average]), holder)
    return one


def thresholds(one, scores):
    """What the teacher's (A, C) scores make of the thresholds."""
    return one._thresholds(*torch.tensor([scores]).max(dim=2)).tolist()


@pytest.fixture
def images():
    torch.manual_seed(1)
    return list(torch.rand(2, 3, 4, 4).repeat_interleave(16, 2).repeat_interleave(16, 3))


def seen(images):
    return [{WEAK: image} for image in images]


@pytest.mark.parametrize("name", DETECTORS)
def test_who_answers_as_its_average_has_nothing_to_learn(name, images):
    student = lively(name)  # in evaluation mode: norms of a batch would tell them apart
    losses = teaching(student, floor=0.01, boxes=1.0)(student, images, seen(images), 1.0)
    with_centre = {"unlabelled_ctrness"} if name in ("fcos", "atss") else set()
    assert set(losses) == {"unlabelled_classification", "unlabelled_boxes"} | with_centre
    for value in losses.values():
        assert float(value.detach()) == pytest.approx(0, abs=1e-5)
    moved = teaching(student, floor=0.01, boxes=1.0)(
        student, images, seen([i / 2 for i in images]), 1.0
    )
    torch.stack(list(moved.values())).sum().backward()
    assert float(moved["unlabelled_boxes"].detach()) > 0
    assert any((p.grad != 0).any() for p in student.backbone.parameters())


def test_losses_are_those_of_the_formulas(images):
    student = lively("fcos", abnormal_head={"weight": 1.0})
    one = teaching(student, floor=0.02, weight=3.0, boxes=0.5, start=0.5, warmup=0.2, focus=1.5)
    with torch.no_grad():
        for parameter in student.parameters():  # the teacher is a copy, and stays as it was
            parameter.mul_(1.02)
    seen_by_teacher = [image * 0.8 for image in images]
    losses = one(student, images, seen(seen_by_teacher), 0.6)
    teacher = one._teacher
    with torch.no_grad():
        (theirs, anchors, _), (ours, _, _) = (
            model.run(model.transform(shown)[0])
            for model, shown in ((teacher, seen_by_teacher), (student, images))
        )
    channels = len(CLASSES)  # the abnormal head's logit is the last one
    q, p = (o["cls_logits"][..., :channels].sigmoid().reshape(-1, channels) for o in (theirs, ours))
    boxes = [
        student.decode_boxes(o["bbox_regression"].reshape(-1, 4), torch.cat(anchors))
        for o in (theirs, ours)
    ]
    centre = [o["bbox_ctrness"].flatten().sigmoid() for o in (theirs, ours)]
    of_class = [[] for _ in CLASSES]
    for row in q.tolist():
        if max(row) >= 0.02:
            of_class[row.index(max(row))].append(max(row))
    limits = [sum(c) / len(c) if c else 1.0 for c in of_class]
    expected, positives = dict.fromkeys(("classification", "boxes", "ctrness"), 0.0), 0
    for place, row in enumerate(q.tolist()):
        limit = limits[row.index(max(row))]
        if limit > max(row) >= 0.02:
            continue  # neither a cell nor background
        for wanted, found in zip(row, p[place].tolist(), strict=True):
            entropy = -wanted * math.log(found) - (1 - wanted) * math.log(1 - found)
            expected["classification"] += abs(wanted - found) ** 1.5 * entropy
        if max(row) < limit:
            continue
        positives += 1
        left, top, right, bottom = boxes[0][place].tolist()
        if right > left and bottom > top:
            overlap = generalized_box_iou(boxes[0][place, None], boxes[1][place, None])
            expected["boxes"] += float(q[place].max() * (1 - overlap))
        t, s = (float(one_of[place]) for one_of in centre)
        expected["ctrness"] += t * math.log(t / s) + (1 - t) * math.log((1 - t) / (1 - s))
    assert positives > 0
    for name, value in expected.items():
        wanted = 3.0 * 0.5 * value / positives * (1.0 if name == "classification" else 0.5)
        assert float(losses[f"unlabelled_{name}"].detach()) == pytest.approx(wanted, rel=2e-3), name
    torch.stack(list(losses.values())).sum().backward()
    assert all(parameter.grad is None for parameter in teacher.parameters())


def test_boxes_are_left_out_unless_they_are_asked_for(images):
    student = lively("fcos")
    losses = teaching(student, floor=0.01)(student, images, seen(images), 1.0)
    assert set(losses) == {"unlabelled_classification"}


def test_a_class_of_low_scores_is_not_shut_out():
    one = MeanTeacher("x.csv", THREE, TeachingSettings(floor=0.1, momentum=0.75))
    scores = [[0.9, 0.0, 0.0], [0.7, 0.3, 0.0], [0.0, 0.12, 0.0], [0.1, 0.14, 0.0], [0.05, 0, 0]]
    # The third class is nowhere: no place has as much as 1.
    assert thresholds(one, scores) == pytest.approx([0.8, 0.13, 1.0])
    moved = thresholds(one, [[0.4, 0.0, 0.0], [0.0, 0.09, 0.0], [0.0, 0.0, 0.5]])
    assert moved == pytest.approx([0.75 * 0.8 + 0.25 * 0.4, 0.13, 0.5])  # 0.09 is below the floor


def test_nothing_is_learned_before_the_start_and_the_weight_rises():
    settings = TeachingSettings(start=0.25, warmup=0.5)
    shares = [settings.share_at(at) for at in (0.0, 0.2, 0.25, 0.5, 0.75, 1.0)]
    assert shares == [0, 0, 0, 0.5, 1, 1]
    at_once = TeachingSettings(start=0.25, warmup=0)
    assert [at_once.share_at(at) for at in (0.2, 0.25)] == [0, 1]
    one = MeanTeacher("x.csv", CLASSES, settings)
    assert one(None, [], [], 0.1) == {}  # nobody is asked


def test_a_place_counts_by_the_square_of_the_difference():
    scores, wanted = torch.tensor([0.2, 0.9, 0.0]), torch.tensor([0.7, 0.9, 0.0])
    expected = 0.5**2 * -(0.7 * math.log(0.2) + 0.3 * math.log(0.8))
    assert agreement(scores, wanted, 2).tolist() == pytest.approx([expected, 0, 0], abs=1e-7)
    assert agreement(scores, wanted, 1).tolist() == pytest.approx([2 * expected, 0, 0], abs=1e-7)
    logits = torch.tensor([0.0, 2.0])
    assert divergence(logits, logits).tolist() == pytest.approx([0, 0], abs=1e-7)


def test_a_batch_is_taken_apart_in_order():
    images = list(torch.arange(4.0))
    targets = [{"boxes": 0}, {WEAK: 1}, {"boxes": 2}, {WEAK: 3}]
    labelled, others = take_apart(images, targets)
    assert labelled == ([images[0], images[2]], [targets[0], targets[2]])
    assert others == ([images[1], images[3]], [targets[1], targets[3]])


def test_a_learner_adds_what_the_teacher_says_of_the_unlabelled_crops(images, monkeypatch):
    asked = []

    def teacher(student, shown, targets, progress):
        asked.append((shown, targets, progress))
        return {"unlabelled_classification": torch.tensor(7.0)}

    settings = OptimiserSettings(freeze=0)
    learner = DetectionLearner(lively().train(), settings, None, 10, mean_teacher=teacher)
    monkeypatch.setattr(DetectionLearner, "tell_losses", lambda self, *told: told)
    cell = {"boxes": torch.tensor([[8.0, 8, 40, 40]]), "labels": torch.tensor([1])}
    batch = ([*images, images[0] / 2], [cell, cell, {WEAK: images[1]}])
    losses, shown, targets = learner.training_step(batch, 0)
    assert asked == [([batch[0][2]], [batch[1][2]], 0.0)]
    assert losses["unlabelled_classification"] == 7
    with_the_first_two = lively().train()(batch[0][:2], batch[1][:2])
    for name, loss in with_the_first_two.items():
        torch.testing.assert_close(losses[name], loss)
    assert (shown, targets) == batch  # all of it is kept, should a loss be no number


def test_a_checkpoint_has_the_thresholds_and_the_rows(images, tmp_path):
    student = lively()
    one = teaching(student, tmp_path / "mean_teacher.csv", floor=0.01, momentum=0.5)
    for step, shade in enumerate((1.0, 0.5), start=1):
        one(student, images, seen([image * shade for image in images]), 1.0)
        one.on_train_batch_end(SimpleNamespace(global_step=step), None)
    one.on_train_epoch_end(SimpleNamespace(is_global_zero=True), None)
    with one.path.open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["step"], row["class"]) for row in rows] == [(s, c) for s in "12" for c in CLASSES]
    assert float(rows[-1]["threshold"] or 1) == pytest.approx(float(one._means.nan_to_num(1)[-1]))
    again = teaching(student, floor=0.01, momentum=0.5)
    again.load_state_dict(one.state_dict())
    seen_next = torch.rand(1, 50, len(CLASSES)).max(dim=2)
    assert again._thresholds(*seen_next).tolist() == one._thresholds(*seen_next).tolist()
    assert again.state_dict()["rows"] == one.state_dict()["rows"]


def test_scores_that_are_no_probabilities_are_refused(monkeypatch):
    small = {"name": "fcos", "classes": CLASSES, "head_convs": 1, "pyramid": {"channels": 32}}
    for loss in ("grad_libra", "seesaw", "cross_entropy"):
        check_scores(build_detector(small | {"loss": {"name": loss}}).slot)
    slot = build_detector(small).slot
    monkeypatch.setattr(slot.loss, "scores", lambda logits: logits.exp())
    with pytest.raises(ConfigError, match=r"mean_teacher: scores of model\.loss are no prob"):
        check_scores(slot)


def refused_by_cuda():
    """Makes torch answer an operator as CUDA's autocast does, in every precision."""
    raises = torch.ops.aten.binary_cross_entropy.default.redispatch
    key = torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastCUDA)

    class Refusing(TorchDispatchMode):
        def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
            if operator is torch.ops.aten.binary_cross_entropy.default:
                raises(key, *args)
            return operator(*args, **kwargs or {})

    return Refusing()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_agreement_needs_nothing_that_mixed_precision_lacks_on_a_gpu(dtype):
    scores = torch.tensor([0.25, 1.0, 0.0], dtype=dtype, requires_grad=True)
    wanted = torch.tensor([0.75, 0.5, 0.5], dtype=dtype)
    with refused_by_cuda(), torch.autocast("cpu", torch.bfloat16):
        loss = agreement(scores, wanted, 1)
    certain = 0.5 * -(0.5 * math.log(1e-6) + 0.5 * math.log(1 - 1e-6))
    expected = 0.5 * -(0.75 * math.log(0.25) + 0.25 * math.log(0.75))
    assert loss.dtype == torch.float32
    assert loss.tolist() == pytest.approx([expected, certain, certain], rel=1e-2)
    loss.sum().backward()
    assert scores.grad.isfinite().all()
