"""What the dense detectors share: images in, detections out, and the slot for a loss.

The calling convention is torchvision's. Beneath it each detector is split in two, so that another
runtime can take the first part: `DenseDetector.run` (the convolutions, and the anchors that
go with their outputs) and `DenseDetector.decode` (thresholds, boxes, NMS).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import batched_nms, clip_boxes_to_image

from models.card import ModelCard, NoNumbersError
from models.config import DetectorConfig
from models.detectors.backbones import PyramidBackbone
from models.detectors.places import ranks_in_class
from models.detectors.slot import LossSlot

Target = dict[str, Tensor]
HeadOutputs = dict[str, Tensor]


class FieldTransform(nn.Module):
    """Normalises images and pads them to one size; never resizes, so that the mpp holds.

    Stands where torchvision puts its `GeneralizedRCNNTransform`, which would.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, config: DetectorConfig) -> None:
        super().__init__()
        self._padded = config.padded
        self.register_buffer("mean", torch.tensor(config.image_mean).view(3, 1, 1), False)
        self.register_buffer("std", torch.tensor(config.image_std).view(3, 1, 1), False)

    def forward(
        self, images: Sequence[Tensor], targets: list[Target] | None = None
    ) -> tuple[ImageList, list[Target] | None]:
        """From (3, H, W) images in 0..1 to one padded (B, 3, H', W') batch and their sizes."""
        sizes = [(image.shape[-2], image.shape[-1]) for image in images]
        height, width = (self._padded(max(side)) for side in zip(*sizes, strict=True))
        batch = torch.stack([self.normalised(image, height, width) for image in images])
        # The convolutions' fast layout, on CPUs and GPUs alike.
        batch = batch.contiguous(memory_format=torch.channels_last)
        return ImageList(batch, sizes), targets

    def normalised(self, images: Tensor, height: int, width: int) -> Tensor:
        """From (..., 3, H, W) in 0..1, normalised and padded, to (..., 3, height, width)."""
        beyond = (0, width - images.shape[-1], 0, height - images.shape[-2])
        return pad((images - self.mean) / self.std, beyond)


class ExactAnchors(AnchorGenerator):
    """Torchvision's anchors, always in float32.

    torchvision gives them the features' type: in bfloat16 a coordinate above 512 is off by pixels.
    """

    def forward(self, image_list: ImageList, feature_maps: list[Tensor]) -> list[Tensor]:
        """One (A, 4) tensor an image, in pixels of the padded batch."""
        return super().forward(image_list, [features.float() for features in feature_maps])


def make_anchors(config: DetectorConfig) -> ExactAnchors:
    """The anchors that a configuration says."""
    sides = config.anchor_sides
    return ExactAnchors(sides, (config.anchor_ratios,) * len(sides))


class DenseDetector(nn.Module):
    """Base of the detectors: a network over a pyramid, one score a class and a box a place.

    Subclasses come with the modules ``transform``, ``backbone``, ``anchor_generator``, ``head``
    (torchvision's names) and implement `compute_loss`, `scores` and `decode_boxes`.

    Attributes:
        config: what the detector was built from.
        card: of a loaded detector, what it was trained on and how it is to be used.
        folder: where it was loaded from.
    """

    config: DetectorConfig
    card: ModelCard | None = None
    folder: Path | None = None
    transform: FieldTransform
    backbone: PyramidBackbone
    anchor_generator: ExactAnchors
    head: nn.Module
    box_coder: Any
    _thresholds: tuple[float, ...] = ()

    def __init__(self, config: DetectorConfig) -> None:
        super().__init__()
        self.config = config
        self.transform = FieldTransform(config)
        self.backbone = PyramidBackbone(config)

    def forward(
        self, images: Sequence[Tensor], targets: list[Target] | None = None
    ) -> dict[str, Tensor] | list[dict[str, Tensor]]:
        """Torchvision's convention: losses in training, detections in evaluation.

        Args:
            images: (3, H, W) float tensors in 0..1, of any sizes.
            targets: in training, for each image ``boxes`` (N, 4) xyxy in pixels and
                ``labels`` (N,), 0-based indices into the classes.

        Returns:
            In training a dict of scalar losses. In evaluation, for each image, a dict of
            ``boxes`` (N, 4), ``labels`` (N,), ``scores`` (N,), by falling score, and
            ``class_scores`` (N, C), those of all classes at the place that gave the box.

        Raises:
            ValueError: training without targets, or a box without area.
        """
        if self.training:
            _check_targets(images, targets)
        batch, targets = self.transform(images, targets)
        if self.training:
            with self.slot.listening(targets or []):
                return self.compute_loss(targets, *self.run(batch))
        outputs, anchors, _ = self.run(batch)
        return self.decode(outputs, anchors, batch.image_sizes)

    @property
    def slot(self) -> LossSlot:
        """The classification loss, wherever in the head it lies."""
        return next(module for module in self.modules() if isinstance(module, LossSlot))

    def use_thresholds(self, thresholds: Sequence[float]) -> None:
        """Returns detections of each class from its own score on, not from the config's."""
        self._thresholds = tuple(thresholds)

    def run(self, batch: ImageList) -> tuple[HeadOutputs, list[Tensor], list[int]]:
        """Raw outputs, anchors an image, and the number of anchors on each level."""
        features = list(self.backbone(batch.tensors).values())
        # Losses and boxes in float32, whatever precision the convolutions ran in.
        outputs = {name: value.float() for name, value in self.head(features).items()}
        per_location = self.anchor_generator.num_anchors_per_location()
        level_sizes = [
            f.shape[-2] * f.shape[-1] * n for f, n in zip(features, per_location, strict=True)
        ]
        return outputs, self.anchor_generator(batch, features), level_sizes

    def decode(
        self, outputs: HeadOutputs, anchors: list[Tensor], sizes: Sequence[tuple[int, int]]
    ) -> list[dict[str, Tensor]]:
        """From raw outputs to detections, clipped to each image's (height, width).

        Raises:
            NoNumbersError: scores are NaN, or the boxes of what is found.
        """
        return [
            self._select(
                self.scores({name: value[i] for name, value in outputs.items()}),
                outputs["bbox_regression"][i],
                anchors[i],
                size,
            )
            for i, size in enumerate(sizes)
        ]

    def compute_loss(
        self,
        targets: list[Target],
        head_outputs: HeadOutputs,
        anchors: list[Tensor],
        num_anchors_per_level: list[int],
    ) -> dict[str, Tensor]:
        """Scalar losses by name, normalised by the number of positives."""
        raise NotImplementedError

    def scores(self, outputs: HeadOutputs) -> Tensor:
        """(A, C) scores in 0..1 of one image's raw outputs."""
        raise NotImplementedError

    def decode_boxes(self, deltas: Tensor, anchors: Tensor) -> Tensor:
        """(N, 4) boxes in pixels from (N, D) raw regressions and their (N, 4) anchors."""
        raise NotImplementedError

    def decoding_parameters(self) -> Iterator[nn.Parameter]:
        """What `decode_boxes` has learned, and raw outputs don't depend on; by default nothing."""
        return iter(())

    def _select(
        self, scores: Tensor, deltas: Tensor, anchors: Tensor, size: tuple[int, int]
    ) -> dict[str, Tensor]:
        thresholds = self._thresholds or (self.config.score_threshold,)
        if scores.max().isnan():  # NaN if one is
            raise NoNumbersError
        place, label = torch.nonzero(scores >= scores.new_tensor(thresholds), as_tuple=True)
        kept = scores[place, label]
        boxes = clip_boxes_to_image(self.decode_boxes(deltas[place], anchors[place]), size)
        if boxes.isnan().any():
            raise NoNumbersError
        order = batched_nms(boxes, kept, label, self.config.nms_iou)
        if (limit := self.config.max_detections) is not None:
            # Of each class: else a lower threshold of one would crowd out another's.
            order = order[ranks_in_class(label[order]) < limit]
        return {
            "boxes": boxes[order],
            "labels": label[order],
            "scores": kept[order],
            "class_scores": scores[place[order]],
        }


def matched_labels(target: Target, matched: Tensor) -> Tensor:
    """(A,) class indices from (A,) box indices; the background and the ignored stay."""
    if len(target["labels"]) == 0:
        return matched
    return torch.where(matched >= 0, target["labels"][matched.clamp(min=0)], matched)


def stacked_labels(targets: list[Target], matched: list[Tensor]) -> Tensor:
    """(B, A) class indices from (A,) box indices an image; see `matched_labels`."""
    return torch.stack([matched_labels(t, m) for t, m in zip(targets, matched, strict=True)])


def matched_boxes(targets: list[Target], matched: list[Tensor]) -> Tensor:
    """(P, 4) boxes of all positive places of the images, in order."""
    return torch.cat([t["boxes"][m[m >= 0]] for t, m in zip(targets, matched, strict=True)])


def box_centres(boxes: Tensor) -> Tensor:
    """(N, 2) centres x, y of (N, 4) boxes."""
    return (boxes[:, :2] + boxes[:, 2:]) / 2


def _check_targets(images: Sequence[Tensor], targets: list[Target] | None) -> None:
    if targets is None or len(targets) != len(images):
        raise ValueError("training needs one target for each image")
    for index, target in enumerate(targets):
        boxes = target["boxes"]
        flat = (boxes[:, 2:] <= boxes[:, :2]).any(dim=1)
        if flat.any():
            raise ValueError(f"image {index}: box {boxes[flat][0].tolist()} has no area")
