"""Mean teacher (Tarvainen and Valpola, NeurIPS 2017) on images that nobody annotated.

The moving average of the weights, which is what a run judges and keeps, is the teacher: it looks at
a crop as it is, and the student, who sees it strongly changed, is to answer alike. For detectors as
in Unbiased Teacher (Liu et al., ICLR 2021); compared are raw answers at every place, as in Dense
Teacher (Zhou et al., ECCV 2022), so that no NMS decides. Losses, thresholds and weights are ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from pydantic import Field
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits
from torchvision.ops import generalized_box_iou_loss

from configs import ConfigError, StrictModel
from losses.elementwise import at_least_float32
from losses.ranks import mean_over_ranks
from models.detectors.dense import DenseDetector, HeadOutputs
from models.detectors.slot import LossSlot, positives_a_process
from models.learning.callbacks import WarmedUpEMA, write_rows

WEAK = "weak"
"""In the target of an unlabelled crop: the same crop as the teacher sees it, (3, H, W)."""

SURE = 1e-6
"""Probabilities are held this far from 0 and 1."""

Targets = list[dict[str, Tensor]]


class TeachingSettings(StrictModel):
    """How a student learns from its own moving average.

    Attributes:
        weight: of what is learned from unlabelled crops, once it has risen to it.
        boxes: weight of boxes, and of centerness, beside the classes'; 0, as Unbiased Teacher has
            it, for none: a score says little of how well its box lies.
        start: share of the run after which it begins. A teacher that finds nothing yet teaches its
            own mistakes, and is taught them in turn.
        warmup: share of the run in which the weight then rises.
        floor: a score below it is background; the least that a class's threshold may be.
        momentum: share of a class's threshold that stays in a step.
        focus: power of the difference between both scores by which a place's cross-entropy counts.
    """

    weight: float = Field(1.0, gt=0)
    boxes: float = Field(0.0, ge=0)
    start: float = Field(0.5, ge=0, lt=1)
    warmup: float = Field(0.25, ge=0, le=1)
    floor: float = Field(0.1, gt=0, lt=1)
    momentum: float = Field(0.9, ge=0, lt=1)
    focus: float = Field(1.0, ge=1)

    def share_at(self, progress: float) -> float:
        """Share of the weight at a share of the run: a straight line up from the start."""
        if progress < self.start:
            return 0.0
        if self.warmup == 0:
            return 1.0
        return min(1.0, (progress - self.start) / self.warmup)


class MeanTeacher(Callback):
    """What is learned from unlabelled crops, and the thresholds by which the teacher is believed.

    A class's threshold is the moving mean of the teacher's own scores at the places that it takes
    for that class, with ``floor`` or more: about half of these are believed, of a rare class, whose
    scores are low, as of a frequent one. Where no class has ``floor`` is background; places between
    are left out. All processes have the same thresholds. Writes ``mean_teacher.csv``: a row a
    class, every so many steps.

    Args:
        path: the file.
        classes: their names.
        settings: how.
        every: steps from row to row.
    """

    def __init__(
        self, path: Path, classes: Sequence[str], settings: TeachingSettings, every: int = 10
    ) -> None:
        self.path, self.classes, self.settings, self.every = path, classes, settings, every
        self._means = torch.full((len(classes),), torch.nan, dtype=torch.float64)
        self._believed = torch.zeros(len(classes), dtype=torch.float64)
        self._crops = 0
        self._rows: list[dict[str, Any]] = []
        self._step = 0
        self._teacher: DenseDetector | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Finds the moving average, and puts it where the student is."""
        callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
        average = next(one for one in callbacks if isinstance(one, WarmedUpEMA))
        detector = average.averaged(pl_module.device).detector
        assert isinstance(detector, DenseDetector)
        self.ask(detector)

    def ask(self, teacher: DenseDetector) -> None:
        """Has the student learn from a detector, which is put in evaluation mode."""
        self._teacher = teacher.eval()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Teaches no more."""
        self._teacher = None

    def __call__(
        self, student: DenseDetector, images: Sequence[Tensor], targets: Targets, progress: float
    ) -> dict[str, Tensor]:
        """Scalar losses by name; none before the start.

        Args:
            student: in training mode.
            images: (3, H, W) in 0..1: unlabelled crops, strongly changed.
            targets: of them; see `WEAK`.
            progress: share of the run that is done.
        """
        share = self.settings.share_at(progress)
        if share == 0:
            return {}
        taught, wanted = self._answers([target[WEAK] for target in targets])
        certainty, label = wanted.max(dim=2)
        positive = certainty >= self._thresholds(certainty, label)[label]
        self._count(label[positive], len(images))
        outputs, anchors, _ = student.run(student.transform(images)[0])
        scores = student.slot.class_scores(outputs["cls_logits"])
        known = positive | (certainty < self.settings.floor)
        apart = agreement(scores, wanted, self.settings.focus)
        losses = {"classification": (known.unsqueeze(2) * apart).sum()}
        if (of_boxes := self.settings.boxes) > 0:
            places = torch.stack(anchors)
            found = box_losses(student, outputs, taught, places, positive, certainty)
            losses |= {name: of_boxes * loss for name, loss in found.items()}
        weight = share * self.settings.weight / positives_a_process(positive)
        return {f"unlabelled_{name}": weight * loss for name, loss in losses.items()}

    @torch.no_grad()
    def _answers(self, images: Sequence[Tensor]) -> tuple[HeadOutputs, Tensor]:
        """The teacher's raw outputs, and its (B, A, C) scores of the classes."""
        teacher = self._teacher
        assert teacher is not None
        outputs, _, _ = teacher.run(teacher.transform(images)[0])
        return outputs, teacher.slot.class_scores(outputs["cls_logits"])

    def _thresholds(self, certainty: Tensor, label: Tensor) -> Tensor:
        """(C,), moved by what the teacher says: at (B, A) places a score and its class."""
        counted = certainty >= self.settings.floor
        rows, scores = label[counted], certainty[counted].double()
        sums = torch.zeros(2, len(self.classes), dtype=torch.float64, device=scores.device)
        sums[0].index_add_(0, rows, scores)
        sums[1].index_add_(0, rows, torch.ones_like(scores))
        total, count = mean_over_ranks(sums).cpu()
        now = total / count  # not a number where no place is of the class
        kept = self.settings.momentum
        moved = torch.where(self._means.isnan(), now, kept * self._means + (1 - kept) * now)
        self._means = torch.where(now.isnan(), self._means, moved)
        # Of a class that the teacher has never seen, no place has so much.
        return self._means.nan_to_num(nan=1.0).to(certainty)

    def _count(self, labels: Tensor, crops: int) -> None:
        """Counts (P,) classes that were believed, for the file."""
        counts = labels.bincount(minlength=len(self.classes))
        self._believed += mean_over_ranks(counts).cpu()
        self._crops += crops

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, *_: Any, **__: Any
    ) -> None:
        """Adds rows, one a class, when it is time."""
        step = trainer.global_step
        if step % self.every or step == self._step or not self._crops:
            return
        self._step = step
        means = self._means.tolist()
        for name, mean, count in zip(self.classes, means, self._believed.tolist(), strict=True):
            threshold = "" if mean != mean else mean
            places = count / self._crops
            row = {"step": step, "class": name, "threshold": threshold, "places_a_crop": places}
            self._rows.append(row)
        self._believed.zero_()
        self._crops = 0

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes the file whole."""
        if trainer.is_global_zero and self._rows:
            write_rows(self.path, self._rows)

    def state_dict(self) -> dict[str, Any]:
        """Thresholds and rows so far, for the checkpoint; the teacher's weights are there."""
        return {
            "means": self._means,
            "believed": self._believed,
            "crops": self._crops,
            "rows": self._rows,
            "step": self._step,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes up what a checkpoint knows."""
        self._means, self._believed = state_dict["means"], state_dict["believed"]
        self._crops, self._rows = state_dict["crops"], state_dict["rows"]
        self._step = state_dict["step"]


def take_apart(
    images: Sequence[Tensor], targets: Targets
) -> tuple[tuple[list[Tensor], Targets], tuple[list[Tensor], Targets]]:
    """The annotated crops of a batch, and the others, each with their targets."""
    parts: tuple[tuple[list[Tensor], Targets], ...] = ([], []), ([], [])
    for image, target in zip(images, targets, strict=True):
        of_images, of_targets = parts[WEAK in target]
        of_images.append(image)
        of_targets.append(target)
    return parts[0], parts[1]


def box_losses(
    student: DenseDetector,
    outputs: HeadOutputs,
    taught: HeadOutputs,
    anchors: Tensor,
    positive: Tensor,
    certainty: Tensor,
) -> dict[str, Tensor]:
    """Sums over the places where the teacher is believed, of what isn't the classes.

    Args:
        student: decodes the boxes of both.
        outputs: its own, (B, A, ...).
        taught: the teacher's.
        anchors: (B, A, 4).
        positive: (B, A) where it is believed.
        certainty: (B, A) scores by which boxes count.
    """
    places = anchors[positive]
    boxes, true = (
        student.decode_boxes(one["bbox_regression"][positive], places) for one in (outputs, taught)
    )
    whole = (true[:, 2:] > true[:, :2]).all(dim=1)  # a box without area teaches nothing
    weights = certainty[positive] * whole
    losses = {"boxes": (weights * generalized_box_iou_loss(boxes, true)).sum()}
    if "bbox_ctrness" in outputs:
        pair = (one["bbox_ctrness"].squeeze(2)[positive] for one in (outputs, taught))
        losses["ctrness"] = divergence(*pair).sum()
    return losses


def agreement(scores: Tensor, wanted: Tensor, focus: float) -> Tensor:
    """|q - p|**focus times the cross-entropy of p towards q, zero where both agree.

    With a focus of 2 the quality focal loss of Li et al., NeurIPS 2020.

    Args:
        scores: p, of the student.
        wanted: q, of the teacher, which is held still; of the same shape.
        focus: the power.

    Returns:
        The loss, shaped as ``scores``; at least float32.
    """
    scores, wanted = at_least_float32(scores), at_least_float32(wanted)
    clamped = scores.clamp(SURE, 1 - SURE)
    apart = (wanted - scores).abs() ** focus
    # Written out: CUDA refuses torch's own of probabilities wherever precision is mixed.
    entropy = -(wanted * clamped.log() + (1 - wanted) * (-clamped).log1p())
    return apart * entropy


def divergence(logits: Tensor, wanted: Tensor) -> Tensor:
    """KL(teacher || student) between Bernoulli distributions, from the logits of both."""
    probability = wanted.sigmoid()
    least = binary_cross_entropy_with_logits(wanted, probability, reduction="none")
    return binary_cross_entropy_with_logits(logits, probability, reduction="none") - least


def check_scores(slot: LossSlot) -> None:
    """Makes sure that a loss's scores are probabilities, which a teacher's are to be.

    Raises:
        ConfigError: they aren't.
    """
    generator = torch.Generator().manual_seed(0)
    scores = slot.class_scores(4 * torch.randn(64, slot.channels, generator=generator))
    if not bool(((scores >= 0) & (scores <= 1)).all()):
        raise ConfigError(
            "mean_teacher: scores of model.loss are no probabilities: some are outside of 0 to 1, "
            "so a teacher's can't be learned; take another loss, or leave mean_teacher out"
        )
