"""What every detector and backbone keeps to, as tests: ours run them, and so should yours.

from models.detectors.contract import DetectorContract

class TestMine(DetectorContract):
    config = {"name": "my_package:MyDetector", "backbone": "mobilenet_v2"}
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn

from models.detectors.backbones import Stages
from models.detectors.build import build_detector
from models.detectors.dense import DenseDetector

CLASSES = ("NILM", "LSIL", "HSIL")


class DetectorContract:
    """Torchvision's convention: no hidden resizing, boxes inside the image.

    Attributes:
        config: the ``model:`` part of a configuration, without classes.
    """

    config: ClassVar[Mapping[str, Any]]

    def build(self) -> DenseDetector:
        """A small one, with weights drawn from one seed, in training mode."""
        torch.manual_seed(0)
        small = {"classes": CLASSES, "head_convs": 1, "pyramid": {"channels": 32}}
        return build_detector(small | dict(self.config))

    def test_trains_on_images_of_odd_sizes(self) -> None:
        """Finite losses by name, and gradients; an image may have no cell."""
        model = self.build()
        losses = cast(dict[str, Tensor], model(_images(), _targets()))
        assert "classification" in losses
        total = torch.stack(list(losses.values())).sum()
        total.backward()  # type: ignore[no-untyped-call]
        assert total.isfinite()
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        assert all(gradient.isfinite().all() for gradient in gradients)
        assert any((gradient != 0).any() for gradient in gradients)

    def test_detects_inside_of_each_image(self) -> None:
        """Boxes in the image's own pixels, with the scores of all classes."""
        model = self.build().eval()
        model.use_thresholds((0.0,) * len(CLASSES))
        with torch.no_grad():
            found = cast(list[dict[str, Tensor]], model(_images()))
        for one, image in zip(found, _images(), strict=True):
            assert set(one) == {"boxes", "labels", "scores", "class_scores"}
            assert len(one["labels"]) > 0
            rows = torch.arange(len(one["labels"]))
            torch.testing.assert_close(one["class_scores"][rows, one["labels"]], one["scores"])
            height, width = image.shape[1:]
            assert (one["boxes"] >= 0).all()
            assert (one["boxes"] <= torch.tensor([width, height] * 2)).all()
            assert ((one["labels"] >= 0) & (one["labels"] < len(CLASSES))).all()

    def test_a_batch_gives_what_single_images_give(self) -> None:
        """Raw outputs of an image don't depend on its neighbours."""
        model = self.build().eval()
        images = [torch.rand(3, 128, 128, generator=_seeded()) for _ in range(2)]
        with torch.no_grad():
            together, _, _ = model.run(model.transform(images)[0])
            alone, _, _ = model.run(model.transform(images[1:])[0])
        for name, value in alone.items():
            torch.testing.assert_close(together[name][1:], value, rtol=1e-3, atol=1e-4)

    def test_has_one_slot_whose_classes_start_at_the_prior(self) -> None:
        """By which any loss goes with it."""
        model = self.build()
        assert model.slot.num_classes == len(CLASSES)
        model.eval()
        with torch.no_grad():
            outputs, _, _ = model.run(model.transform(_images())[0])
        scores = model.slot.scores(outputs["cls_logits"])
        assert scores.shape[-1] == len(CLASSES)
        assert 0.001 < float(scores.median()) < 0.1


class BackboneContract:
    """A network that gives features of strides 8, 16 and 32.

    Attributes:
        stages: of the backbone.
    """

    stages: ClassVar[Stages]

    def test_gives_features_of_three_strides(self) -> None:
        """With the channels that it says."""
        from torchvision.models._utils import IntermediateLayerGetter

        network = self.stages.build()
        name = self.stages.trunk
        trunk = network if name is None else cast(nn.Module, getattr(network, name))
        body = IntermediateLayerGetter(trunk, {tap: tap for tap in self.stages.taps}).eval()
        with torch.no_grad():
            features = list(body(torch.zeros(1, 3, 64, 96)).values())
        shapes = [tuple(one.shape[1:]) for one in features]
        assert shapes == [
            (channels, 64 // stride, 96 // stride)
            for channels, stride in zip(self.stages.channels, (8, 16, 32), strict=True)
        ]


def _images() -> list[Tensor]:
    generator = _seeded()
    return [torch.rand(3, 97, 130, generator=generator), torch.rand(3, 64, 33, generator=generator)]


def _targets() -> list[dict[str, Tensor]]:
    cell = {"boxes": torch.tensor([[10.0, 10, 60, 50]]), "labels": torch.tensor([2])}
    return [cell, {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}]


def _seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)
