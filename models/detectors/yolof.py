"""YOLOF: one level, an encoder that sees all scales on it, as many positives for every cell."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torchvision.models.detection._utils import BoxCoder
from torchvision.ops import Conv2dNormActivation, box_convert, box_iou, generalized_box_iou_loss

from models.config import DetectorConfig, YOLOFSettings
from models.detectors.assign import all_background, settle_claims
from models.detectors.dense import (
    DenseDetector,
    HeadOutputs,
    Target,
    make_anchors,
    matched_boxes,
    stacked_labels,
)
from models.detectors.heads import NORMS, BoxHead, classification_head
from models.detectors.places import BACKGROUND, IGNORED
from models.detectors.slot import LossSlot, positives_a_process

Norm = Callable[[int], nn.Module]


class DilatedEncoder(nn.Module):
    """The paper's section 4.1: a projector, then residual blocks of growing dilation."""

    def __init__(self, config: DetectorConfig) -> None:
        super().__init__()
        channels, norm = config.pyramid.channels, NORMS[config.head_norm]
        self.project = nn.Sequential(
            _conv(channels, channels, 1, norm, activation=None),
            _conv(channels, channels, 3, norm, activation=None),
        )
        self.blocks = nn.ModuleList(
            _dilated_block(channels, dilation, norm) for dilation in config.yolof.dilations
        )

    def forward(self, features: Tensor) -> Tensor:
        """(B, channels, H, W) features whose receptive fields cover small and large cells."""
        features = self.project(features)
        for block in self.blocks:
            features = features + block(features)
        return features


class YOLOFHead(nn.Module):
    """Encoder and decoder; an implicit objectness tempers the scores of all classes."""

    def __init__(self, config: DetectorConfig) -> None:
        super().__init__()
        num_anchors = len(config.yolof.anchor_sides)
        self.slot = LossSlot(config)
        self.encoder = DilatedEncoder(config)
        # The paper's decoder has half as many convolutions for the classes as for the boxes.
        depth = max(1, config.head_convs // 2)
        self.classification_head = classification_head(config, self.slot, num_anchors, depth)
        self.box_head = BoxHead(config, num_anchors)

    def forward(self, features: list[Tensor]) -> HeadOutputs:
        """Raw outputs (B, A, ...) of the one level."""
        encoded = self.encoder(features[0])
        deltas, objectness = self.box_head(encoded)
        classes = self.classification_head([encoded])
        logits = logit_of_product(classes.float(), objectness.float())
        return {"cls_logits": logits, "bbox_regression": deltas}


class YOLOF(DenseDetector):
    """YOLOF (Chen et al., CVPR 2021), on one level of the pyramid."""

    head: YOLOFHead

    def __init__(self, config: DetectorConfig) -> None:
        super().__init__(config)
        self.anchor_generator = make_anchors(config)
        self.head = YOLOFHead(config)
        self.box_coder = BoxCoder(weights=(1.0, 1.0, 1.0, 1.0))

    def compute_loss(
        self,
        targets: list[Target],
        head_outputs: HeadOutputs,
        anchors: list[Tensor],
        num_anchors_per_level: list[int],
    ) -> dict[str, Tensor]:
        """Classification, and GIoU divided by the positives."""
        deltas = head_outputs["bbox_regression"]
        matched = [
            match(t["boxes"], a, self.decode_boxes(d.detach(), a), self.config.yolof)
            for t, a, d in zip(targets, anchors, deltas, strict=True)
        ]
        labels = stacked_labels(targets, matched)
        positive = labels >= 0
        normaliser = positives_a_process(positive)
        predicted = self.decode_boxes(deltas[positive], torch.stack(anchors)[positive])
        boxes = matched_boxes(targets, matched)
        return {
            **self.slot.losses(head_outputs["cls_logits"], labels),
            "bbox_regression": generalized_box_iou_loss(predicted, boxes, reduction="sum")
            / normaliser,
        }

    def scores(self, outputs: HeadOutputs) -> Tensor:
        """Class probabilities times objectness, which the logits hold already."""
        return self.slot.scores(outputs["cls_logits"])

    def decode_boxes(self, deltas: Tensor, anchors: Tensor) -> Tensor:
        """R-CNN's box coding; a box's centre stays within ``max_shift`` px of its anchor's."""
        furthest = self.config.yolof.max_shift / (anchors[:, 2:] - anchors[:, :2])
        shift = torch.clamp(deltas[:, :2], -furthest, furthest)
        return self.box_coder.decode_single(torch.cat([shift, deltas[:, 2:]], dim=1), anchors)


def logit_of_product(logits: Tensor, objectness: Tensor) -> Tensor:
    """The logit of sigmoid(logits) * sigmoid(objectness), without overflow.

    With a = exp(logits), b = exp(objectness): p = ab / (1 + a)(1 + b), so p / (1 - p) =
    ab / (1 + a + b).
    """
    objectness = objectness.expand_as(logits)
    terms = torch.stack([torch.zeros_like(logits), logits, objectness])
    return logits + objectness - torch.logsumexp(terms, dim=0)


def match(boxes: Tensor, anchors: Tensor, predicted: Tensor, settings: YOLOFSettings) -> Tensor:
    """Uniform matching (Chen et al. 2021, section 4.2).

    The ``matches`` nearest anchors of each box are its positives, and so are the anchors of its
    ``matches`` nearest predictions, whatever the box's size; nearest in the L1 distance of
    centre and size. A positive whose anchor hardly overlaps the box is ignored, and so is a
    negative whose prediction overlaps any box well. An anchor that several boxes claim goes to
    the one it overlaps most.

    Args:
        boxes: (N, 4) true boxes.
        anchors: (A, 4).
        predicted: (A, 4) boxes predicted from the anchors.
        settings: number of matches and the two IoUs.

    Returns:
        (A,) indices of boxes, `BACKGROUND` or `IGNORED`.
    """
    if len(boxes) == 0:
        return all_background(anchors)
    nearest = [_nearest(boxes, others, settings.matches) for others in (predicted, anchors)]
    places = torch.cat(nearest, dim=1)
    overlap = box_iou(boxes, anchors)
    matched = settle_claims(overlap.gather(1, places), places, len(anchors))
    own_overlap = overlap.gather(0, matched.clamp(min=0)[None])[0]
    poor = (matched >= 0) & (own_overlap < settings.ignore_positives_below)
    best_prediction = box_iou(boxes, predicted).amax(dim=0)
    good = (matched == BACKGROUND) & (best_prediction > settings.ignore_negatives_above)
    return matched.masked_fill(poor | good, IGNORED)


def _nearest(boxes: Tensor, others: Tensor, count: int) -> Tensor:
    distance = torch.cdist(
        box_convert(boxes, "xyxy", "cxcywh"), box_convert(others, "xyxy", "cxcywh"), p=1.0
    )
    return distance.topk(min(count, len(others)), dim=1, largest=False).indices


def _dilated_block(channels: int, dilation: int, norm: Norm) -> nn.Sequential:
    narrow = channels // 4
    return nn.Sequential(
        _conv(channels, narrow, 1, norm),
        _conv(narrow, narrow, 3, norm, dilation=dilation),
        _conv(narrow, channels, 1, norm),
    )


def _conv(
    channels: int,
    out_channels: int,
    kernel_size: int,
    norm: Norm,
    dilation: int = 1,
    activation: type[nn.Module] | None = nn.ReLU,
) -> Conv2dNormActivation:
    return Conv2dNormActivation(
        channels,
        out_channels,
        kernel_size,
        dilation=dilation,
        norm_layer=norm,
        activation_layer=activation,
        bias=True,
    )
