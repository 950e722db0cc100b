"""Losses in a detector's slot: the counts that some need, and the state that some keep."""

import math
from itertools import product

import pytest
import torch
from smallbackbone import SMALL

from configs import ConfigError
from models import DetectorConfig, build_detector, with_class_counts
from models.detectors.places import BACKGROUND, IGNORED
from models.detectors.slot import LossSlot, one_hot

CLASSES = ("NILM", "HSIL")
SIGMOID_LOSSES = [
    "cross_entropy",
    "focal",
    "grad_libra",
    "class_balanced",
    "eql",
    "eqlv2",
    "ghm",
    "equalized_focal",
    "graded_libra",
]
SOFTMAX_LOSSES = ["seesaw", "bags"]


def config(loss, detector="fcos", **settings):
    pyramid = {"channels": 32, "levels": (3,)}
    return DetectorConfig(
        name=detector,
        **SMALL,
        classes=CLASSES,
        head_convs=1,
        pyramid=pyramid,
        loss={"name": loss},
        **settings,
    )


@pytest.mark.parametrize("loss", ["class_balanced", "eql"])
def test_the_counts_are_given_to_the_losses_that_lack_them(loss):
    with pytest.raises(ConfigError, match=r"loss.class_counts is missing"):
        build_detector(config(loss))
    filled = with_class_counts(config(loss), [5, 2])
    assert filled.loss.class_counts == (5, 2)
    assert with_class_counts(filled, [1, 1]) == filled
    assert DetectorConfig.model_validate_json(filled.model_dump_json()) == filled


def test_a_loss_without_counts_is_left_as_it_is():
    assert with_class_counts(config("eqlv2"), [5, 2]) == config("eqlv2")


@pytest.mark.parametrize("loss", SOFTMAX_LOSSES)
def test_a_loss_with_its_own_objectness_is_refused_where_there_is_one(loss):
    with pytest.raises(ValueError, match="brings an objectness of its own"):
        config(loss, "yolof")


@pytest.mark.parametrize(
    ("detector", "loss"),
    [
        *product(["atss", "fcos", "reppoints", "retinanet", "yolof"], SIGMOID_LOSSES),
        *product(["atss", "fcos", "reppoints", "retinanet"], SOFTMAX_LOSSES),
    ],
)
def test_every_loss_trains_every_detector(detector, loss):
    torch.manual_seed(0)
    model = build_detector(with_class_counts(config(loss, detector), [5, 2]))
    boxes = torch.tensor([[10.0, 10, 40, 40]])
    targets = [{"boxes": boxes, "labels": torch.tensor([1])}]
    for _ in range(2):
        losses = model([torch.rand(3, 64, 64)], targets)
        torch.stack(list(losses.values())).sum().backward()
        assert all(value.isfinite() for value in losses.values())
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
    with torch.no_grad():
        assert set(model.eval()([torch.rand(3, 64, 64)])[0]) == {
            "boxes",
            "labels",
            "scores",
            "class_scores",
        }


def batch():
    """Logits of two images, their labels, and how many positives each has."""
    torch.manual_seed(0)
    labels = torch.tensor(
        [[0, 1, 1, BACKGROUND, IGNORED], [BACKGROUND, IGNORED, IGNORED, 0, BACKGROUND]]
    )
    return torch.randn(2, 5, 2, requires_grad=True), labels, [3, 1]


def expected_sum(logits, labels):
    """Cross-entropy of one image, pair by pair."""
    total = 0.0
    for row, label in zip(logits, labels.tolist(), strict=True):
        if label != IGNORED:
            for c, p in enumerate(row.sigmoid().tolist()):
                total -= math.log(p if c == label else 1 - p)
    return total


def test_the_normaliser_is_that_of_the_configuration():
    logits, labels, positives = batch()
    sums = [expected_sum(*image) for image in zip(logits, labels, strict=True)]
    by_batch = LossSlot(config("cross_entropy"))
    by_image = LossSlot(config("cross_entropy", normaliser="image_positives"))
    assert by_batch(logits, labels).item() == pytest.approx(sum(sums) / sum(positives))
    means = [one / count for one, count in zip(sums, positives, strict=True)]
    assert by_image(logits, labels).item() == pytest.approx(sum(means) / 2)


@pytest.mark.parametrize("normaliser", ["positives", "image_positives"])
def test_a_batch_without_positives_or_without_samples_has_a_finite_loss(normaliser):
    slot = LossSlot(config("cross_entropy", normaliser=normaliser))
    logits = torch.zeros(2, 3, 2)
    background = torch.full((2, 3), BACKGROUND)
    assert slot(logits, background).item() == pytest.approx(
        math.log(2) * (12 if normaliser == "positives" else 6)
    )
    assert slot(logits, torch.full((2, 3), IGNORED)).item() == 0


def test_a_loss_with_statistics_sees_the_whole_batch():
    """GHM weighs a pair by how many others of the batch are as hard."""
    slot = LossSlot(config("ghm", "retinanet", normaliser="image_positives"))
    logits, labels, _ = batch()
    used = labels != IGNORED
    targets = one_hot(labels[used], 2, logits.dtype)
    loss = slot.loss(logits[used], targets)
    assert slot(logits, labels).item() == pytest.approx(
        (loss[:4].sum() / 3 + loss[4:].sum() / 1).item() / 2
    )


def test_the_watcher_sees_the_gradient_of_every_class_logit():
    slot = LossSlot(config("grad_libra"))
    logits, labels, _ = batch()
    seen = []
    slot.watchers.append(lambda gradient, targets: seen.append((gradient, targets)))
    slot(logits, labels).backward()
    [(gradient, targets)] = seen
    torch.testing.assert_close(gradient, logits.grad[labels != IGNORED])
    assert targets.sum(dim=0).tolist() == [2, 2]
