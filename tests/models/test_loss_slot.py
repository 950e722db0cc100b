"""Losses in a detector's slot: the counts that some need, and the state that some keep."""

import pytest
import torch

from configs import ConfigError
from models import DetectorConfig, build_detector, with_class_counts

CLASSES = ("NILM", "HSIL")


def config(loss, detector="fcos"):
    pyramid = {"channels": 32, "levels": (3,)}
    return DetectorConfig(
        name=detector, classes=CLASSES, head_convs=1, pyramid=pyramid, loss={"name": loss}
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


@pytest.mark.parametrize("detector", ["fcos", "retinanet"])
@pytest.mark.parametrize("loss", ["class_balanced", "eql", "eqlv2", "ghm", "equalized_focal"])
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
