"""RetinaNet: torchvision's, with a slot for the classification loss."""

from __future__ import annotations

from torch import Tensor
from torchvision.models import detection
from torchvision.models.detection.retinanet import (
    RetinaNetClassificationHead,
    RetinaNetHead,
    RetinaNetRegressionHead,
)

from models.config import DetectorConfig
from models.detectors.backbones import PyramidBackbone
from models.detectors.dense import (
    DenseDetector,
    FieldTransform,
    HeadOutputs,
    Target,
    make_anchors,
    stacked_labels,
)
from models.detectors.heads import refine_towers, tower
from models.detectors.slot import LossSlot


class LossSlotClassificationHead(RetinaNetClassificationHead):
    """Torchvision's classification head, whose loss is a module of ours."""

    def __init__(self, config: DetectorConfig, num_anchors: int) -> None:
        slot = LossSlot(config)
        super().__init__(config.pyramid.channels, num_anchors, slot.channels)
        self.slot = slot
        self.conv = tower(config)
        slot.set_prior(self.cls_logits)

    def compute_loss(
        self, targets: list[Target], head_outputs: HeadOutputs, matched_idxs: list[Tensor]
    ) -> dict[str, Tensor]:
        """The losses in the slot, by name; torchvision's head has but one."""
        return self.slot.losses(head_outputs["cls_logits"], stacked_labels(targets, matched_idxs))


class RetinaNet(DenseDetector, detection.RetinaNet):
    """RetinaNet (Lin et al., ICCV 2017); matching, towers and box coder are torchvision's."""

    def __init__(self, config: DetectorConfig) -> None:
        anchors = make_anchors(config)
        num_anchors = anchors.num_anchors_per_location()[0]
        head = RetinaNetHead(config.pyramid.channels, num_anchors, len(config.classes))
        head.classification_head = LossSlotClassificationHead(config, num_anchors)
        head.regression_head = RetinaNetRegressionHead(config.pyramid.channels, num_anchors)
        head.regression_head.conv = tower(config)
        detection.RetinaNet.__init__(
            self,
            PyramidBackbone(config),
            num_classes=len(config.classes),
            anchor_generator=anchors,
            head=head,
        )
        self.config = config
        self.transform = FieldTransform(config)
        refine_towers(config, head.classification_head.conv, head.regression_head.conv)

    def compute_loss(
        self,
        targets: list[Target],
        head_outputs: HeadOutputs,
        anchors: list[Tensor],
        num_anchors_per_level: list[int],
    ) -> dict[str, Tensor]:
        """Torchvision's matching by IoU (0.5 and 0.4), then the heads' losses."""
        losses = detection.RetinaNet.compute_loss(self, targets, head_outputs, anchors)
        return {**losses.pop("classification"), **losses}

    def scores(self, outputs: HeadOutputs) -> Tensor:
        """Class probabilities."""
        return self.slot.scores(outputs["cls_logits"])

    def decode_boxes(self, deltas: Tensor, anchors: Tensor) -> Tensor:
        """R-CNN's box coding."""
        return self.box_coder.decode_single(deltas, anchors)
