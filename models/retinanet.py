"""RetinaNet: torchvision's, with a slot for the classification loss."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchvision.models import detection
from torchvision.models.detection.retinanet import (
    RetinaNetClassificationHead,
    RetinaNetHead,
    RetinaNetRegressionHead,
)
from torchvision.ops import Conv2dNormActivation

from losses import ClassificationLoss
from models.backbones import PyramidBackbone
from models.config import AnchorSettings, DetectorConfig
from models.dense import (
    DenseDetector,
    ExactAnchors,
    FieldTransform,
    HeadOutputs,
    Target,
    matched_labels,
    summed_loss,
)
from models.initialise import set_prior


class LossSlotClassificationHead(RetinaNetClassificationHead):
    """Torchvision's classification head, whose loss is a module of ours."""

    def __init__(self, config: DetectorConfig, num_anchors: int) -> None:
        super().__init__(config.pyramid.channels, num_anchors, len(config.classes))
        self.conv = _tower(config)
        set_prior(self.cls_logits, config.prior_probability)
        self.loss: ClassificationLoss = config.loss.build(len(config.classes))
        self.loss_weight = config.loss.weight

    def compute_loss(
        self, targets: list[Target], head_outputs: HeadOutputs, matched_idxs: list[Tensor]
    ) -> Tensor:
        """Mean over images of the summed loss divided by the image's positives."""
        per_image = [
            summed_loss(self.loss, logits, matched_labels(target, matched))
            / max(1, int((matched >= 0).sum()))
            for target, logits, matched in zip(
                targets, head_outputs["cls_logits"], matched_idxs, strict=True
            )
        ]
        return self.loss_weight * (sum(per_image[1:], per_image[0]) / len(targets))


class RetinaNet(DenseDetector, detection.RetinaNet):
    """RetinaNet (Lin et al., ICCV 2017); matching, towers and box coder are torchvision's."""

    def __init__(self, config: DetectorConfig) -> None:
        anchors = make_anchors(config.pyramid.levels, config.anchors)
        num_anchors = anchors.num_anchors_per_location()[0]
        head = RetinaNetHead(config.pyramid.channels, num_anchors, len(config.classes))
        head.classification_head = LossSlotClassificationHead(config, num_anchors)
        head.regression_head = RetinaNetRegressionHead(config.pyramid.channels, num_anchors)
        head.regression_head.conv = _tower(config)
        detection.RetinaNet.__init__(
            self,
            PyramidBackbone(config),
            num_classes=len(config.classes),
            anchor_generator=anchors,
            head=head,
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
        """Torchvision's matching by IoU (0.5 and 0.4), then the heads' losses."""
        return detection.RetinaNet.compute_loss(self, targets, head_outputs, anchors)

    def scores(self, outputs: HeadOutputs) -> Tensor:
        """Class probabilities."""
        return outputs["cls_logits"].sigmoid()

    def decode_boxes(self, deltas: Tensor, anchors: Tensor) -> Tensor:
        """R-CNN's box coding."""
        return self.box_coder.decode_single(deltas, anchors)


def make_anchors(levels: tuple[int, ...], settings: AnchorSettings) -> ExactAnchors:
    """``octaves`` sizes by ``aspect_ratios`` at each place of each level."""
    sizes = tuple(
        tuple(settings.scale * 2 ** (level + k / settings.octaves) for k in range(settings.octaves))
        for level in levels
    )
    return ExactAnchors(sizes, (settings.aspect_ratios,) * len(levels))


def _tower(config: DetectorConfig) -> nn.Sequential:
    channels = config.pyramid.channels
    convs = [
        Conv2dNormActivation(channels, channels, norm_layer=None) for _ in range(config.head_convs)
    ]
    for conv in convs:
        torch.nn.init.normal_(conv[0].weight, std=0.01)
        torch.nn.init.zeros_(conv[0].bias)
    return nn.Sequential(*convs)
