"""The ``model:`` part of a configuration: which detector, on which backbone, for which classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from configs import StrictModel
from losses import LossConfig
from losses.config import GradLibraSettings

NORMAL_NAMES = frozenset({"nilm", "normal", "negative"})
"""Class names that are not abnormal unless a configuration says otherwise."""


def _unique(names: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(names)) != len(names):
        raise ValueError("class names must differ from one another")
    return names


def _consecutive(levels: tuple[int, ...]) -> tuple[int, ...]:
    if levels != tuple(range(levels[0], levels[0] + len(levels))):
        raise ValueError("levels must be consecutive, such as [3, 4, 5]")
    return levels


class PyramidSettings(StrictModel):
    """The feature pyramid.

    Level l has stride 2**l. Levels 3 to 5 are always built, top down, for context;
    the head runs on ``levels`` only.
    """

    channels: int = Field(128, ge=8)
    levels: Annotated[
        tuple[Annotated[int, Field(ge=3, le=7)], ...],
        Field(min_length=1),
        AfterValidator(_consecutive),
    ] = (3, 4, 5, 6)


class AnchorSettings(StrictModel):
    """RetinaNet's anchors: sides of ``scale * stride * 2**(k / octaves)`` px.

    With the defaults on levels 3 to 6 they span 20 to 254 px, the cells of this field.
    """

    scale: float = Field(2.5, gt=0)
    octaves: int = Field(3, ge=1)
    aspect_ratios: tuple[float, ...] = (0.5, 1.0, 2.0)


class DetectorConfig(StrictModel):
    """Everything that `build_detector` needs; all but ``name`` and ``classes`` have defaults.

    Attributes:
        name: the detector.
        classes: names of the foreground classes; label i is ``classes[i]``, the background has
            no label.
        abnormal: names of the abnormal ones; by default all but NILM, normal, negative.
        backbone: the network below the pyramid.
        backbone_weights: a ``.pth`` or ``.safetensors`` file of torchvision's ImageNet weights
            to start from; None for random weights.
        pyramid: the feature pyramid.
        anchors: RetinaNet's anchors.
        head_convs: convolutions in each tower of the head.
        head_norm: FCOS: "batch" norms keep what is found at one place from depending on the rest of
            the tile; "group" norms, torchvision's, take their statistics from the whole tile, so
            that a moved tile grid finds other cells near the threshold.
        center_sampling_radius: FCOS: how far from a box's centre, in strides, a point is positive.
        prior_probability: initial score of every class.
        image_mean, image_std: normalisation of images in 0..1.
        score_threshold: detections below it are not returned.
        nms_iou: overlap above which the weaker of two boxes of one class goes.
        max_detections: the most detections an image may have; None for no limit.
        loss: the classification loss.
    """

    name: Literal["fcos", "retinanet"]
    classes: Annotated[tuple[str, ...], Field(min_length=1), AfterValidator(_unique)]
    abnormal: tuple[str, ...] | None = None
    backbone: Literal["mobilenet_v2", "mobilenet_v3_large", "resnet18", "resnet50"] = "mobilenet_v2"
    backbone_weights: str | None = None
    pyramid: PyramidSettings = PyramidSettings()
    anchors: AnchorSettings = AnchorSettings()
    head_convs: int = Field(4, ge=1)
    head_norm: Literal["batch", "group"] = "batch"
    center_sampling_radius: float = Field(1.5, gt=0)
    prior_probability: float = Field(0.01, gt=0, lt=1)
    image_mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    image_std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    score_threshold: float = Field(0.05, ge=0, lt=1)
    nms_iou: float = Field(0.6, gt=0, le=1)
    max_detections: int | None = Field(None, ge=1)
    loss: LossConfig = GradLibraSettings(name="grad_libra")

    @model_validator(mode="after")
    def _abnormal_are_classes(self) -> DetectorConfig:
        unknown = sorted(set(self.abnormal or ()) - set(self.classes))
        if unknown:
            raise ValueError(f"abnormal names {', '.join(unknown)}, which are no classes")
        return self

    @property
    def is_abnormal(self) -> Sequence[bool]:
        """For each class, in order, whether it is abnormal."""
        if self.abnormal is None:
            return [name.lower() not in NORMAL_NAMES for name in self.classes]
        return [name in self.abnormal for name in self.classes]
