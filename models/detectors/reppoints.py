"""RepPoints: a cell is nine points, first guessed, then refined where the guess looked."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.functional import smooth_l1_loss
from torchvision.ops import DeformConv2d, box_iou

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
from models.detectors.heads import output_conv, per_place, tower
from models.detectors.places import BACKGROUND, IGNORED
from models.detectors.slot import LossSlot, positives_a_process

POINTS = 9
"""Points of a cell: the 3 x 3 taps of a deformable convolution."""

INITIAL_WEIGHT = 0.5
"""Weight of the initial stage's boxes in the loss (section 4.2)."""


class PointConv(nn.Module):
    """A 3 x 3 convolution whose taps lie on given points.

    Not under autocast: in bfloat16 a point 16 places away is off by a sixteenth of a place.
    """

    grid: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = DeformConv2d(channels, channels, 3, padding=1)
        # No norm follows: weights of 0.01, as in the towers, would starve the layer behind it.
        nn.init.kaiming_normal_(self.conv.weight, nonlinearity="relu")
        nn.init.zeros_(self.conv.bias)
        self.register_buffer("grid", unit_grid().view(1, 2 * POINTS, 1, 1), False)

    def forward(self, features: Tensor, points: Tensor) -> Tensor:
        """(B, channels, H, W) from features and (B, 18, H, W) points; y before x, in places."""
        with torch.autocast(features.device.type, enabled=False):
            kind = self.conv.weight.dtype
            sampled: Tensor = self.conv(features.to(kind), points.to(kind) - self.grid)
        return sampled


class RepPointsHead(nn.Module):
    """The paper's figure 3: points from one tower; both towers are then read at the points."""

    def __init__(self, config: DetectorConfig) -> None:
        super().__init__()
        channels = config.pyramid.channels
        self.slot = LossSlot(config)
        self.classification_tower = tower(config)
        self.point_tower = tower(config)
        points = output_conv(channels, 2 * POINTS, 1)
        start_on_grid(points, config.reppoints.initial_spacing)
        self.initial = nn.Sequential(output_conv(channels, channels), nn.ReLU(), points)
        self.classification_at = PointConv(channels)
        self.cls_logits = output_conv(channels, self.slot.channels, 1)
        self.refinement_at = PointConv(channels)
        self.refinement = output_conv(channels, 2 * POINTS, 1)
        self.points_to_box = PointsToBox(config.reppoints.points_to_box)
        self.slot.set_prior(self.cls_logits)

    def forward(self, features: list[Tensor]) -> HeadOutputs:
        """Raw outputs (B, A, ...) over the places of all levels; points as in `place_points`."""
        levels = [self._level(level) for level in features]
        return {name: torch.cat([level[name] for level in levels], dim=1) for name in levels[0]}

    def _level(self, features: Tensor) -> HeadOutputs:
        of_points = self.point_tower(features)
        initial = self.initial(of_points)
        # The later stage moves the first one's points, but with a tenth of its gradient.
        points = damped(initial, 0.1)
        classes = self.classification_at(self.classification_tower(features), points)
        moved = self.refinement(self.refinement_at(of_points, points).relu())
        return {
            "cls_logits": per_place(self.cls_logits(classes.relu()), self.cls_logits.out_channels),
            "initial_points": per_place(initial, 2 * POINTS),
            "bbox_regression": per_place(moved + initial.detach(), 2 * POINTS),
        }


def start_on_grid(layer: nn.Conv2d, spacing: float) -> None:
    """Lets the points of every place begin on a 3 x 3 grid around it.

    The paper's begin in one point: boxes without area, which no cell overlaps enough to teach the
    second stage, for thousands of steps.
    """
    assert layer.bias is not None
    with torch.no_grad():
        layer.bias.copy_(spacing * unit_grid().flatten())


def unit_grid() -> Tensor:
    """(9, 2) the taps of a 3 x 3 convolution, y before x, row by row."""
    taps = torch.tensor([-1.0, 0.0, 1.0])
    return torch.stack(torch.meshgrid(taps, taps, indexing="ij"), dim=-1).view(POINTS, 2)


class PointsToBox(nn.Module):
    """The box that a set of points stands for (Yang et al. 2019, section 3.2).

    Args:
        way: ``minmax``: the box around all points; ``moment``: centred on their mean, its half
            sides their standard deviations times two learned factors, one for x and one for y.
    """

    def __init__(self, way: str) -> None:
        super().__init__()
        self.log_factors = nn.Parameter(torch.zeros(2)) if way == "moment" else None

    def forward(self, points: Tensor) -> Tensor:
        """(N, 4) boxes xyxy from (N, 9, 2) points x, y."""
        if self.log_factors is None:
            return torch.cat([points.amin(dim=1), points.amax(dim=1)], dim=1)
        # All places train the two factors, so that they learn a hundred times slower.
        factors = damped(self.log_factors, 0.01).exp()
        centre = points.mean(dim=1)
        # As a norm, whose gradient is zero, not infinite, where all points are one.
        spread = torch.linalg.vector_norm(points - centre[:, None], dim=1)
        half = spread / (POINTS - 1) ** 0.5 * factors
        return torch.cat([centre - half, centre + half], dim=1)


class RepPoints(DenseDetector):
    """RepPoints (Yang et al., ICCV 2019), with boxes as its only supervision."""

    head: RepPointsHead

    def __init__(self, config: DetectorConfig) -> None:
        super().__init__(config)
        # A square of one stride: its centre is the place, its side the unit of the points.
        self.anchor_generator = make_anchors(config)
        self.head = RepPointsHead(config)

    def compute_loss(
        self,
        targets: list[Target],
        head_outputs: HeadOutputs,
        anchors: list[Tensor],
        num_anchors_per_level: list[int],
    ) -> dict[str, Tensor]:
        """Classification, and the boxes of both stages, divided by their own positives."""
        initial, refined = head_outputs["initial_points"], head_outputs["bbox_regression"]
        by_centre = [assign_centres(t["boxes"], a) for t, a in zip(targets, anchors, strict=True)]
        by_overlap = self._match_guesses(targets, initial, anchors)
        labels = stacked_labels(targets, by_overlap)
        return {
            **self.slot.losses(head_outputs["cls_logits"], labels),
            "bbox_initial": INITIAL_WEIGHT * self._box_loss(targets, initial, anchors, by_centre),
            "bbox_regression": self._box_loss(targets, refined, anchors, by_overlap),
        }

    def scores(self, outputs: HeadOutputs) -> Tensor:
        """Class probabilities."""
        return self.slot.scores(outputs["cls_logits"])

    def decode_boxes(self, deltas: Tensor, anchors: Tensor) -> Tensor:
        """Boxes of (N, 18) points, in strides from their places."""
        boxes: Tensor = self.head.points_to_box(place_points(deltas, anchors))
        return boxes

    def decoding_parameters(self) -> Iterator[nn.Parameter]:
        """The two factors of ``moment``."""
        return self.head.points_to_box.parameters()

    @torch.no_grad()
    def _match_guesses(
        self, targets: list[Target], initial: Tensor, anchors: list[Tensor]
    ) -> list[Tensor]:
        return [
            assign_overlaps(t["boxes"], self.decode_boxes(points, a))
            for t, points, a in zip(targets, initial, anchors, strict=True)
        ]

    def _box_loss(
        self,
        targets: list[Target],
        points: Tensor,
        anchors: list[Tensor],
        matched: list[Tensor],
    ) -> Tensor:
        """Smooth L1 of the corners, in units of four strides."""
        positive = torch.stack(matched) >= 0
        chosen = torch.stack(anchors)[positive]
        unit = 4 * (chosen[:, 2:3] - chosen[:, 0:1])
        predicted = self.decode_boxes(points[positive], chosen) / unit
        wanted = matched_boxes(targets, matched) / unit
        total = smooth_l1_loss(predicted, wanted, reduction="sum", beta=1 / 9)
        return total / positives_a_process(positive)


def damped(value: Tensor, share: float) -> Tensor:
    """The value itself, of whose gradient only a share goes back."""
    return share * value + (1 - share) * value.detach()


def place_points(offsets: Tensor, anchors: Tensor) -> Tensor:
    """(N, 9, 2) points x, y in pixels of (N, 18) offsets from places, y before x, in strides."""
    stride = anchors[:, 2:3] - anchors[:, 0:1]
    offsets_xy = offsets.reshape(-1, POINTS, 2).flip(2)
    return box_centres(anchors)[:, None] + offsets_xy * stride[:, None]


def assign_centres(boxes: Tensor, anchors: Tensor) -> Tensor:
    """The initial stage's positives: for each box the place of its centre, on its level.

    A box's level is floor(log2(sqrt(w h) / 4)), within the levels that there are. A place that
    is nearest to several boxes' centres goes to the nearest of them.

    Args:
        boxes: (N, 4) true boxes.
        anchors: (A, 4) squares of one stride around the places.

    Returns:
        (A,) indices of boxes, or `BACKGROUND`.
    """
    if len(boxes) == 0:
        return all_background(anchors)
    sides = boxes[:, 2:] - boxes[:, :2]
    levels = torch.log2(anchors[:, 2] - anchors[:, 0]).round()
    wanted = torch.floor(torch.log2(sides.prod(dim=1).sqrt() / 4))
    wanted = torch.clamp(wanted, levels.min(), levels.max())
    distance = torch.linalg.vector_norm(
        box_centres(boxes)[:, None] - box_centres(anchors), dim=2
    ).masked_fill(levels != wanted[:, None], torch.inf)
    nearest, place = distance.min(dim=1, keepdim=True)
    return settle_claims(-nearest, place, len(anchors))


def assign_overlaps(boxes: Tensor, guessed: Tensor) -> Tensor:
    """The refined stage's and the classes' positives: initial boxes of IoU 0.5 or more.

    Below 0.4 is background, between the two ignored. As in RetinaNet's matching here, each box
    keeps at least the guess that overlaps it most, if any does.

    Args:
        boxes: (N, 4) true boxes.
        guessed: (A, 4) boxes of the initial stage.

    Returns:
        (A,) indices of boxes, `BACKGROUND` or `IGNORED`.
    """
    if len(boxes) == 0:
        return all_background(guessed)
    overlap = box_iou(boxes, guessed).nan_to_num(0.0)  # 0 / 0 where a guess has no area
    best, box = overlap.max(dim=0)
    best_of_box = overlap.amax(dim=1, keepdim=True)
    favourite = ((overlap == best_of_box) & (overlap > 0)).any(dim=0)
    matched = torch.where(best >= 0.4, IGNORED, BACKGROUND)
    return torch.where((best >= 0.5) | favourite, box, matched)
