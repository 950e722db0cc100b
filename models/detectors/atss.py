"""ATSS: one anchor a place, and positives chosen by the statistics of each cell's overlaps."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits
from torchvision.models.detection._utils import BoxCoder, BoxLinearCoder
from torchvision.ops import box_iou, generalized_box_iou_loss

from losses.ranks import mean_over_ranks
from models.config import DetectorConfig
from models.detectors.assign import all_background, settle_claims
from models.detectors.dense import (
    DenseDetector,
    HeadOutputs,
    Target,
    box_centres,
    make_anchors,
    matched_boxes,
    stacked_labels,
)
from models.detectors.fcos import centerness_targets
from models.detectors.heads import BoxHead, classification_head, refine_towers
from models.detectors.slot import LossSlot, positives_a_process


class ATSSHead(nn.Module):
    """Two towers; one anchor a place, a centerness, and a trained scale of boxes a level."""

    def __init__(self, config: DetectorConfig) -> None:
        super().__init__()
        self.slot = LossSlot(config)
        self.classification_head = classification_head(config, self.slot, 1, config.head_convs)
        self.box_head = BoxHead(config, 1)
        self.level_scales = nn.Parameter(torch.ones(len(config.pyramid.levels)))
        refine_towers(config, self.classification_head.conv, self.box_head.tower)

    def forward(self, features: list[Tensor]) -> HeadOutputs:
        """Raw outputs (B, A, ...) over the places of all levels."""
        deltas, centerness = zip(*(self.box_head(level) for level in features), strict=True)
        scaled = [d * scale for d, scale in zip(deltas, self.level_scales, strict=True)]
        return {
            "cls_logits": self.classification_head(features),
            "bbox_regression": torch.cat(scaled, dim=1),
            "bbox_ctrness": torch.cat(centerness, dim=1),
        }


class ATSS(DenseDetector):
    """ATSS (Zhang et al., CVPR 2020): RetinaNet with one anchor, FCOS's refinements, `assign`."""

    head: ATSSHead

    def __init__(self, config: DetectorConfig) -> None:
        super().__init__(config)
        self.anchor_generator = make_anchors(config)
        self.head = ATSSHead(config)
        self.box_coder = BoxCoder(weights=(10.0, 10.0, 5.0, 5.0))

    def compute_loss(
        self,
        targets: list[Target],
        head_outputs: HeadOutputs,
        anchors: list[Tensor],
        num_anchors_per_level: list[int],
    ) -> dict[str, Tensor]:
        """Classification, centerness, and GIoU weighted by centerness (divided by its sum)."""
        candidates = self.config.atss.candidates
        matched = [
            assign(t["boxes"], a, num_anchors_per_level, candidates)
            for t, a in zip(targets, anchors, strict=True)
        ]
        labels = stacked_labels(targets, matched)
        positive = labels >= 0
        normaliser = positives_a_process(positive)

        boxes, chosen = matched_boxes(targets, matched), torch.stack(anchors)[positive]
        predicted = self.decode_boxes(head_outputs["bbox_regression"][positive], chosen)
        centerness = head_outputs["bbox_ctrness"].squeeze(2)[positive]
        wanted = centerness_targets(BoxLinearCoder().encode(chosen, boxes))
        overlap = (wanted * generalized_box_iou_loss(predicted, boxes)).sum()
        return {
            **self.slot.losses(head_outputs["cls_logits"], labels),
            "bbox_regression": overlap / mean_over_ranks(wanted.sum()).clamp(min=1e-6).float(),
            "bbox_ctrness": binary_cross_entropy_with_logits(centerness, wanted, reduction="sum")
            / normaliser,
        }

    def scores(self, outputs: HeadOutputs) -> Tensor:
        """Geometric mean of class probability and centerness."""
        classes = self.slot.scores(outputs["cls_logits"])
        return torch.sqrt(classes * outputs["bbox_ctrness"].sigmoid())

    def decode_boxes(self, deltas: Tensor, anchors: Tensor) -> Tensor:
        """R-CNN's box coding."""
        return self.box_coder.decode_single(deltas, anchors)


def assign(boxes: Tensor, anchors: Tensor, level_sizes: list[int], candidates: int) -> Tensor:
    """Adaptive training sample selection (Zhang et al. 2020, algorithm 1).

    Of each level the ``candidates`` anchors with the nearest centres are a box's candidates.
    Those whose IoU reaches the mean plus the standard deviation of all the box's candidates, and
    whose centre lies in the box, are its positives. An anchor positive for several boxes goes to
    the one it overlaps most.

    Args:
        boxes: (N, 4) true boxes.
        anchors: (A, 4), level after level.
        level_sizes: the number of anchors on each level.
        candidates: the number of candidates a level.

    Returns:
        (A,) indices of boxes, or `BACKGROUND`.
    """
    if len(boxes) == 0:
        return all_background(anchors)
    places = _nearest_on_each_level(boxes, anchors, level_sizes, candidates)
    overlap = box_iou(boxes, anchors).gather(1, places)
    spread = overlap.std(dim=1, keepdim=True, correction=min(1, places.shape[1] - 1))
    threshold = overlap.mean(dim=1, keepdim=True) + spread
    centres = box_centres(anchors)[places]
    corners = boxes[:, None]
    inside = ((centres > corners[..., :2]) & (centres < corners[..., 2:])).all(dim=2)
    quality = overlap.masked_fill(~inside | (overlap < threshold), -torch.inf)
    return settle_claims(quality, places, len(anchors))


def _nearest_on_each_level(
    boxes: Tensor, anchors: Tensor, level_sizes: list[int], candidates: int
) -> Tensor:
    # Not by a matrix product, which rounds: the order of near anchors would depend on it.
    distance = torch.cdist(
        box_centres(boxes),
        box_centres(anchors),
        compute_mode="donot_use_mm_for_euclid_dist",
    )
    places, first = [], 0
    for level in torch.split(distance, level_sizes, dim=1):
        nearest = level.topk(min(candidates, level.shape[1]), dim=1, largest=False).indices
        places.append(first + nearest)
        first += level.shape[1]
    return torch.cat(places, dim=1)
