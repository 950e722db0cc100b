"""How a grader learns: what its crops are, and whether they are abnormal at all."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn.functional import log_softmax, one_hot

from configs import ConfigError
from models.grader import Grader, GradingNetwork
from models.learning.learner import Learner, OptimiserSettings, Targets, in_turn

BATCH = 64
"""Crops that are judged at once."""

GradeJudge = Callable[[dict[int, Tensor]], dict[str, float]]
"""From the (N, C + 1) logits of each validation field's places, by the field's index, to metrics by
name."""


def grading_losses(
    logits: Tensor, targets: Tensor, abnormal: Tensor, binary: float
) -> dict[str, Tensor]:
    """Cross-entropy of what a crop is, and of whether that is abnormal.

    The second is of sums of the same probabilities: NILM taken for background costs nothing there,
    HSIL taken for NILM does.

    Args:
        logits: (N, C + 1), background last.
        targets: (N, C + 1) probabilities: one-hot, or a teacher's.
        abnormal: (C + 1,) bool, which of them are abnormal.
        binary: weight of the second.

    Returns:
        Scalars ``grade`` and ``abnormal``; the latter only where it weighs anything.
    """
    logs = log_softmax(logits.float(), dim=1)
    losses = {"grade": -(targets * logs).sum(dim=1).mean()}
    if binary and abnormal.any():
        for_it, against = (logs[:, one].logsumexp(dim=1) for one in (abnormal, ~abnormal))
        share = targets[:, abnormal].sum(dim=1)
        losses["abnormal"] = -binary * (share * for_it + (1 - share) * against).mean()
    return losses


class GraderLearner(Learner):
    """Trains a grader and judges it on all places of the validation fields.

    Args:
        grader: in training.
        settings: of the optimiser.
        judge: computes the validation metrics, which are logged under ``val/``.
        abnormal: for each class whether it is abnormal.
        binary: weight of the loss between normal and abnormal.
        steps, files: see `Learner`.
        teachers: graders whose mean probabilities are learned instead of the annotations.
        taught: share of the target that is the teachers'; the rest is the annotation's.
    """

    body = "grader.body"

    def __init__(
        self,
        grader: Grader,
        settings: OptimiserSettings,
        judge: GradeJudge,
        abnormal: Sequence[bool],
        binary: float,
        steps: int,
        files: Sequence[str] = (),
        teachers: Sequence[GradingNetwork] = (),
        taught: float = 1.0,
    ) -> None:
        super().__init__(settings, steps, files)
        self.grader = grader
        self.judge = judge
        self.binary = binary
        # Not modules of this one: neither trained, nor averaged, nor in its checkpoints.
        self.teachers = [teacher.eval().requires_grad_(False) for teacher in teachers]
        self.taught = taught
        self.abnormal = (*abnormal, False)
        self._logits: list[tuple[int, Tensor]] = []
        self.freeze_stages()

    def training_step(self, batch: tuple[Tensor, Targets], _: int) -> Tensor:
        """Sum of the losses."""
        pixels, targets = batch
        labels = torch.stack([target["label"] for target in targets])
        wanted = one_hot(labels, self.grader.classes + 1).float()
        if self.teachers:
            wanted = self.taught * self._ask(pixels) + (1 - self.taught) * wanted
        logits = self.grader(pixels.float())
        abnormal = torch.tensor(self.abnormal, device=logits.device)
        losses = grading_losses(logits, wanted, abnormal, self.binary)
        return self.tell_losses(losses, pixels, targets)

    def validation_step(self, batch: tuple[Tensor, Targets], _: int) -> None:
        """Collects the logits of a field's places; a field that can't be read has none."""
        pixels, (target,) = batch
        if "unreadable" in target:
            return
        logits = [self.grader(part.float()).float().cpu() for part in torch.split(pixels, BATCH)]
        none = torch.zeros(0, self.grader.classes + 1)
        self._logits.append((int(target["index"]), torch.cat([none, *logits])))

    def on_validation_epoch_end(self) -> None:
        """Judges all validation fields together, those of all processes."""
        metrics = self.judge(dict(in_turn(self._logits)))
        self.log_dict({f"val/{name}": value for name, value in metrics.items()})
        self._logits = []

    @torch.no_grad()
    def _ask(self, pixels: Tensor) -> Tensor:
        """Mean probabilities of the teachers."""
        crops = pixels.permute(0, 2, 3, 1)
        answers = [teacher.to(pixels.device)(crops) for teacher in self.teachers]
        return torch.stack(answers).mean(dim=0)


def check_teacher(teacher: Grader, student: Grader, name: str) -> None:
    """Looks whether one can learn from the other.

    Raises:
        ConfigError: they look at other crops.
    """
    keys = [key for key in ("mpp", "size") if _of(teacher, key) != _of(student, key)]
    if keys:
        told = ", ".join(f"grader.{key} {_of(teacher, key):g}" for key in keys)
        raise ConfigError(f"teachers: {name} looks at other crops ({told}); set these alike")


def _of(grader: Grader, key: str) -> float:
    return float(getattr(grader.config, key))
