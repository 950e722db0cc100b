"""FCOS: torchvision's, with a slot for the classification loss."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits
from torchvision.models import detection
from torchvision.models.detection.fcos import (
    FCOSHead,
    FCOSRegressionHead,
)
from torchvision.ops import generalized_box_iou_loss

from models.config import DetectorConfig
from models.detectors.backbones import PyramidBackbone
from models.detectors.dense import (
    DenseDetector,
    FieldTransform,
    HeadOutputs,
    Target,
    make_anchors,
    matched_boxes,
    stacked_labels,
)
from models.detectors.heads import NORMS, classification_head, refine_towers
from models.detectors.slot import LossSlot, positives_a_process


class LossSlotFCOSHead(FCOSHead):
    """Torchvision's head, whose classification loss is a module of ours."""

    def __init__(self, config: DetectorConfig) -> None:
        channels, depth = config.pyramid.channels, config.head_convs
        super().__init__(channels, 1, len(config.classes), depth)
        self.slot = LossSlot(config)
        self.classification_head = classification_head(config, self.slot, 1, depth)
        self.regression_head = FCOSRegressionHead(
            channels, 1, depth, norm_layer=NORMS[config.head_norm]
        )
        refine_towers(config, self.classification_head.conv, self.regression_head.conv)

    def compute_loss(
        self,
        targets: list[Target],
        head_outputs: HeadOutputs,
        anchors: list[Tensor],
        matched_idxs: list[Tensor],
    ) -> dict[str, Tensor]:
        """FCOS's three losses; those of boxes are divided by the positives."""
        labels = stacked_labels(targets, matched_idxs)
        positive = labels >= 0
        normaliser = positives_a_process(positive)

        boxes = matched_boxes(targets, matched_idxs)
        points = torch.stack(anchors)[positive]
        predicted = self.box_coder.decode(head_outputs["bbox_regression"][positive], points)
        centerness = head_outputs["bbox_ctrness"].squeeze(2)[positive]
        wanted = centerness_targets(self.box_coder.encode(points, boxes))
        return {
            **self.slot.losses(head_outputs["cls_logits"], labels),
            "bbox_regression": generalized_box_iou_loss(predicted, boxes, reduction="sum")
            / normaliser,
            "bbox_ctrness": binary_cross_entropy_with_logits(centerness, wanted, reduction="sum")
            / normaliser,
        }


def centerness_targets(distances: Tensor) -> Tensor:
    """Centerness (Tian et al., ICCV 2019, eq. 3) of (N, 4) distances to the four sides."""
    horizontal, vertical = distances[:, [0, 2]], distances[:, [1, 3]]
    return torch.sqrt(
        (horizontal.amin(1) / horizontal.amax(1)) * (vertical.amin(1) / vertical.amax(1))
    )


class FCOS(DenseDetector, detection.FCOS):
    """FCOS (Tian et al., ICCV 2019); matching, towers and box coder are torchvision's."""

    def __init__(self, config: DetectorConfig) -> None:
        detection.FCOS.__init__(
            self,
            PyramidBackbone(config),
            num_classes=len(config.classes),
            anchor_generator=make_anchors(config),
            head=LossSlotFCOSHead(config),
            center_sampling_radius=config.center_sampling_radius,
        )
        self.config = config
        self.transform = FieldTransform(config)

    def compute_loss(
        self,
        targets: list[Target],
        head_outputs: HeadOutputs,
        anchors: list[Tensor],
        num_anchors_per_level: list[int],
    ) -> dict[str, Tensor]:
        """Torchvision's matching (centre sampling, scale ranges), then the head's losses."""
        return detection.FCOS.compute_loss(
            self, targets, head_outputs, anchors, num_anchors_per_level
        )

    def scores(self, outputs: HeadOutputs) -> Tensor:
        """Geometric mean of class probability and centerness."""
        classes = self.slot.scores(outputs["cls_logits"])
        return torch.sqrt(classes * outputs["bbox_ctrness"].sigmoid())

    def decode_boxes(self, deltas: Tensor, anchors: Tensor) -> Tensor:
        """Distances to the four sides, in strides."""
        return self.box_coder.decode(deltas, anchors)
