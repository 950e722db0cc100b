"""Knowledge distillation (Hinton et al., 2015): a faster network learns to answer as another.

No annotation is looked at: a crop's every place is a lesson, so few fields teach a network of
random weights what they could never teach it by their boxes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import Field
from torch import Tensor

from configs import ConfigError, StrictModel
from models.detectors.backbones import find_backbone
from models.detectors.dense import DenseDetector, HeadOutputs

ELSEWHERE = 0.05
"""Weight of a place where the teacher sees no cell; one where it is sure of one has 1 more."""


class DistillationSettings(StrictModel):
    """Whom to learn from.

    Attributes:
        teacher: a model's name or folder; same detector, classes, pyramid and scale, a loss whose
            logits mean the same, and a backbone with the same channels.
        stem_share: share of the run in which only the backbone's features of stride 8 are
            compared, and nothing above them is computed: a fast start where the networks differ
            below.
    """

    teacher: str
    stem_share: float = Field(0.0, ge=0, le=1)


class Imitation:
    """What a student has yet to learn from its teacher.

    Every term is the share of the teacher's variance, over the batch, that the student does not
    explain: 1 - R², whatever the scale of features and outputs. Outputs count by how much of a
    cell the teacher sees at their place, since most places are background.

    Args:
        teacher: stays as it is.
        stem_share: see `DistillationSettings`.
    """

    def __init__(self, teacher: DenseDetector, stem_share: float) -> None:
        self.teacher = teacher.eval().requires_grad_(False)
        self.stem_share = stem_share

    def __call__(
        self, student: DenseDetector, images: Sequence[Tensor], progress: float
    ) -> dict[str, Tensor]:
        """Scalar losses by name: ``stem``, and after its share of the run all others.

        Args:
            student: in training mode.
            images: (3, H, W) in 0..1, one batch.
            progress: share of the run that is done.
        """
        teacher = self.teacher.to(images[0].device)
        batch, _ = student.transform(images)
        if progress < self.stem_share:
            with torch.no_grad():
                taught = _stem(teacher, batch.tensors)
            return {"stem": unexplained(_stem(student, batch.tensors), taught)}
        with torch.no_grad():
            taught_features, taught_outputs = _answer(teacher, batch.tensors)
            sure = [
                teacher.scores({name: value[i] for name, value in taught_outputs.items()}).amax(1)
                for i in range(len(images))
            ]
            weights = torch.stack(sure) + ELSEWHERE
        features, outputs = _answer(student, batch.tensors)
        pairs = zip(features, taught_features, strict=True)
        stem, *above = (unexplained(own, other) for own, other in pairs)
        return {
            "stem": stem,
            "features": torch.stack(above).sum(),
            **{
                name: unexplained(outputs[name].transpose(1, 2), value.transpose(1, 2), weights)
                for name, value in taught_outputs.items()
            },
        }


def unexplained(student: Tensor, teacher: Tensor, weights: Tensor | None = None) -> Tensor:
    """Share of the teacher's variance that the student does not explain, averaged over channels.

    Args:
        student: (B, C, ...) features or outputs.
        teacher: the same of the teacher.
        weights: (B, ...) of the places; by default all count alike.
    """
    student, teacher = student.float(), teacher.float()
    places = [axis for axis in range(teacher.ndim) if axis != 1]
    share = torch.ones_like(teacher[:, :1]) if weights is None else weights.unsqueeze(1)
    share = share / share.sum()
    mean = (share * teacher).sum(places, keepdim=True)
    variance = (share * (teacher - mean) ** 2).sum(places)
    error = (share * (student - teacher) ** 2).sum(places)
    # A channel that hardly varies in this batch would drown the others.
    return (error / (variance + 0.01 * variance.mean() + 1e-6)).mean()


def start_from(student: DenseDetector, teacher: DenseDetector) -> int:
    """Gives a student the teacher's weights wherever name and shape agree; returns how many.

    What decodes boxes stays so: no lesson reaches it, and points or offsets that are the teacher's
    are its boxes only by the same decoding.
    """
    own = student.state_dict()
    shared = {
        name: value
        for name, value in teacher.state_dict().items()
        if name in own and own[name].shape == value.shape
    }
    student.load_state_dict(own | shared)
    backbone = student.backbone
    backbone.random_stages = [
        stage
        for stage in backbone.random_stages
        if not all(
            f"backbone.body.{stage}.{name}" in shared
            for name in backbone.body.get_submodule(stage).state_dict()
        )
    ]
    for parameter in student.decoding_parameters():
        parameter.requires_grad_(False)
    return len(shared)


def check_pair(student: DenseDetector, teacher: DenseDetector, mpp: float) -> None:
    """Looks whether one can learn from the other.

    Raises:
        ConfigError: they differ in what is compared; names the keys.
    """
    assert teacher.card is not None
    one, other = student.config, teacher.config
    settings = ("pyramid", "anchors", "atss", "reppoints", "yolof", "image_mean", "image_std")
    keys = ("name", "classes", *settings)
    differ = [f"model.{key}" for key in keys if getattr(one, key) != getattr(other, key)]
    if one.classes == other.classes and not _read_alike(student, teacher):
        differ.append(
            "model.loss (the same logits are other scores; take the teacher's loss with all of its "
            "settings, class_counts too where it has them)"
        )
    if _head(student) != _head(teacher):
        differ.append("model.abnormal_head")
    if find_backbone(one.backbone).channels != find_backbone(other.backbone).channels:
        differ.append("model.backbone (channels)")
    if mpp != teacher.card.mpp:
        differ.append("data.mpp")
    if differ:
        raise ConfigError(
            f"distillation.teacher: {teacher.card.name} is another detector than the one to teach; "
            f"they differ in {', '.join(differ)}"
        )


def _read_alike(student: DenseDetector, teacher: DenseDetector) -> bool:
    """Whether the losses make the same scores of the same logits, which are what is copied.

    Asked of the losses themselves: BAGS's groups follow from counts, and losses of other packages
    have ways of their own.
    """
    one, other = (detector.slot.loss for detector in (student, teacher))
    channels = one.channels(student.slot.num_classes)
    if channels != other.channels(teacher.slot.num_classes):
        return False
    logits = 4 * torch.randn(64, channels, generator=torch.Generator().manual_seed(0))
    return torch.allclose(one.scores(logits), other.scores(logits), atol=1e-6)


def _head(detector: DenseDetector) -> object:
    """What decides what an abnormal head says; None without one."""
    config = detector.config
    head = config.abnormal_head
    return None if head is None else (head.pooled, tuple(config.is_abnormal))


def _stem(detector: DenseDetector, images: Tensor) -> Tensor:
    """Features of stride 8."""
    body = detector.backbone.body
    for name, stage in body.named_children():
        images = stage(images)
        if name in body.return_layers:
            break
    return images


def _answer(detector: DenseDetector, images: Tensor) -> tuple[list[Tensor], HeadOutputs]:
    """Features of the backbone and of the pyramid, and raw outputs."""
    features = list(detector.backbone.body(images).values())
    levels = list(detector.backbone.pyramid(features).values())
    outputs = {name: value.float() for name, value in detector.head(levels).items()}
    return features + levels, outputs
