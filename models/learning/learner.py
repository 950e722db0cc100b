"""How a network learns: one Lightning module, everything else is a callback of the trainer."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any, Literal, cast

import torch
from lightning.pytorch import LightningModule
from pydantic import Field
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm  # of several processes, too
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR

from configs import CytoLibraError, StrictModel
from losses.ranks import mean_over_ranks, of_all_ranks
from models.card import NoNumbersError
from models.detectors.dense import DenseDetector
from models.learning.callbacks import loss_scale
from models.learning.distillation import Imitation
from models.learning.group_dro import GroupDRO
from models.learning.mean_teacher import MeanTeacher, take_apart
from models.learning.views import StainViews

Targets = list[dict[str, Tensor]]
Judge = Callable[[Targets, Targets], dict[str, float]]
"""From the truth and the detections of all validation fields to metrics by name."""


class OptimiserSettings(StrictModel):
    """The optimiser and its schedule; the defaults need little tuning on a new data set.

    Attributes:
        name: "adamw", or "sgd" with a momentum of 0.9.
        lr: peak learning rate.
        schedule: how it falls after the warm-up: "one_cycle" and "cosine" to nothing, "step" by a
            tenth at each of ``milestones``, "constant" not at all.
        milestones: shares of the run at which "step" falls.
        warmup: share of the steps that rise to the peak.
        backbone_lr: factor on the rate for the backbone, which starts from trained weights.
        layer_decay: factor on the rate for each stage of the backbone, from the one above it.
        weight_decay: of weights; biases and norms have none.
        clip: largest norm of the gradient; None for no limit.
        freeze: how many of the backbone's first stages keep their starting weights.
        backbone_norm: whether the backbone's batch norms go on learning.
    """

    name: Literal["adamw", "sgd"] = "adamw"
    lr: float = Field(1e-3, gt=0)
    schedule: Literal["one_cycle", "cosine", "step", "constant"] = "one_cycle"
    milestones: tuple[float, ...] = (2 / 3, 8 / 9)
    warmup: float = Field(0.15, ge=0, lt=1)
    backbone_lr: float = Field(1.0, gt=0)
    layer_decay: float = Field(1.0, gt=0, le=1)
    weight_decay: float = Field(0.05, ge=0)
    clip: float | None = Field(10.0, gt=0)
    freeze: int = Field(2, ge=0)
    backbone_norm: Literal["trained", "frozen"] = "trained"


class NotFiniteError(CytoLibraError):
    """The loss of a step, or what is found on a validation field, is no number."""


class Learner(LightningModule):
    """How any network of ours learns; a subclass has the network and its losses.

    Args:
        settings: of the optimiser.
        steps: of the optimiser in the whole run. Lightning's own estimate would set up the loader
            before a checkpoint has told it where the epoch goes on.
        files: of the fields to learn from, by the index that a target's "field" tells.

    Attributes:
        body: the backbone's name in this module; its children are its stages, from below.
    """

    body: str

    def __init__(self, settings: OptimiserSettings, steps: int, files: Sequence[str] = ()) -> None:
        super().__init__()
        self.settings = settings
        self.lr = settings.lr
        self.steps = steps
        self.files = files

    def freeze_stages(self) -> None:
        """Keeps the starting weights of the backbone's first stages, as the settings say."""
        for stage in self._frozen_stages():
            stage.requires_grad_(False)

    def on_train_start(self) -> None:
        """Keeps the statistics of frozen norms.

        Not as an epoch starts: a run that goes on in the middle of one would miss it.
        """
        for module in self._frozen_norms():
            module.eval()

    def tell_losses(
        self, losses: dict[str, Tensor], images: Sequence[Tensor] | Tensor, targets: Targets
    ) -> Tensor:
        """Logs a step's losses, and gives their sum.

        Raises:
            NotFiniteError: one is no number, in any process.
        """
        values = torch.stack(list(losses.values()))
        means = mean_over_ranks(values).float()
        if not torch.isfinite(means).all():  # in any process: all end, none waits for the others
            self._tell_not_finite(losses, images, targets)
        parts = {f"train/{name}": mean for name, mean in zip(losses, means, strict=True)}
        # The sum first: which parts there are may change in the run.
        self.log("train/loss", means.sum(), on_step=True, prog_bar=True, batch_size=len(images))
        self.log_dict(parts, on_step=True, batch_size=len(images))
        return values.sum()

    def configure_optimizers(self) -> Any:
        """The optimiser, in groups by learning rate and decay, and its schedule by step."""
        groups, lr = self._parameter_groups(), self.lr
        optimizer: Optimizer = (
            AdamW(groups, lr=lr)
            if self.settings.name == "adamw"
            else SGD(groups, lr=lr, momentum=0.9)
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {
                "scheduler": build_schedule(optimizer, self.settings, self.steps),
                "interval": "step",
            },
        }

    def configure_gradient_clipping(self, optimizer: Optimizer, *_: Any, **__: Any) -> None:
        """Clips by the gradient's norm."""
        if self.settings.clip is not None:
            self.clip_gradients(optimizer, self.settings.clip, "norm")

    def _parameter_groups(self) -> list[dict[str, Any]]:
        stages = [name for name, _ in self._body.named_children()]
        groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
        for name, parameter in self.named_parameters():
            if parameter.requires_grad:
                key = (self._lr_factor(name, stages), parameter.ndim > 1)
                groups.setdefault(key, []).append(parameter)
        return [
            {
                "params": parameters,
                "lr": self.lr * factor,
                "weight_decay": self.settings.weight_decay if decays else 0.0,
            }
            for (factor, decays), parameters in groups.items()
        ]

    def _lr_factor(self, name: str, stages: Sequence[str]) -> float:
        """What a parameter's learning rate is multiplied by."""
        if not name.startswith(f"{self.body}."):
            return 1.0
        below_top = len(stages) - 1 - stages.index(name.removeprefix(f"{self.body}.").split(".")[0])
        return self.settings.backbone_lr * self.settings.layer_decay**below_top

    def _tell_not_finite(
        self, losses: dict[str, Tensor], images: Sequence[Tensor] | Tensor, targets: Targets
    ) -> None:
        """Keeps the batch, and ends the run.

        Raises:
            NotFiniteError: always.
        """
        bad = [f"{name} {value:g}" for name, value in losses.items() if not torch.isfinite(value)]
        rank = self.trainer.global_rank
        name = f"not_finite-{rank}.pt" if self.trainer.world_size > 1 else "not_finite.pt"
        place = Path(self.trainer.default_root_dir) / name
        files = [self._file(target) for target in targets]
        kept = {"images": [image.cpu() for image in images], "targets": list(map(_on_cpu, targets))}
        kept |= {"files": files, "step": self.trainer.global_step, "losses": _on_cpu(losses)}
        torch.save(kept, place)
        raise NotFiniteError(
            f"the loss is no number at step {self.trainer.global_step} "
            f"({', '.join(bad) or 'in another process'}); the batch is in {place}, of "
            f"{', '.join(dict.fromkeys(files))}. Turn down optimiser.lr ({self.lr:g}) or "
            "optimiser.clip, or compute in 32-true; --resume goes on from the last checkpoint"
        )

    def _file(self, target: dict[str, Tensor]) -> str:
        return self.files[int(target["field"])] if "field" in target else "a drawn crop"

    @property
    def _body(self) -> nn.Module:
        return self.get_submodule(self.body)

    def _frozen_stages(self) -> list[nn.Module]:
        return first_stages(self._body, self.settings.freeze)

    def _frozen_norms(self) -> list[nn.Module]:
        everywhere = self.settings.backbone_norm == "frozen"
        roots = [self._body] if everywhere else self._frozen_stages()
        return [m for root in roots for m in root.modules() if isinstance(m, _BatchNorm)]


def first_stages(body: nn.Module, count: int) -> list[nn.Module]:
    """Those of a backbone, from below, that `OptimiserSettings.freeze` keeps."""
    return list(body.children())[:count]


class DetectionLearner(Learner):
    """Trains a detector and judges it on whole fields.

    Args:
        detector: with the loss in its slot.
        settings: of the optimiser.
        judge: computes the validation metrics, which are logged under ``val/``.
        steps, files: see `Learner`.
        imitation: of a teacher, instead of the detector's own losses.
        mean_teacher: of the unlabelled crops of each batch, beside them; a callback of the trainer,
            too.
        views: holds two stains of each crop consistent; None where there is one.
        groups: weighs the sources; None where all crops count alike.
    """

    body = "detector.backbone.body"

    def __init__(
        self,
        detector: DenseDetector,
        settings: OptimiserSettings,
        judge: Judge,
        steps: int,
        files: Sequence[str] = (),
        imitation: Imitation | None = None,
        mean_teacher: MeanTeacher | None = None,
        views: StainViews | None = None,
        groups: GroupDRO | None = None,
    ) -> None:
        super().__init__(settings, steps, files)
        self.detector = detector
        self.judge = judge
        self.imitation = imitation
        self.mean_teacher = mean_teacher
        self.views = views
        self.groups = groups
        self._truth: Targets = []
        self._found: Targets = []
        self.freeze_stages()

    @property
    def in_parts(self) -> bool:
        """Whether there are steps in which some weights learn nothing."""
        return self.imitation is not None and self.imitation.stem_share > 0

    def training_step(self, batch: tuple[Sequence[Tensor], Targets], _: int) -> Tensor:
        """Sum of the losses, the detector's or the imitation's."""
        images, targets = batch
        if self.mean_teacher is not None:
            (images, targets), unlabelled = take_apart(images, targets)
        progress = self.global_step / self.steps
        if self.imitation is not None:
            losses = self.imitation(self.detector, images, progress)
        elif self.groups is None:
            losses = self._own_losses(images, targets, progress)
        else:
            with self.groups.weighing(self.detector.slot, targets):
                losses = self._own_losses(images, targets, progress)
            weights = zip(self.groups.names, self.groups.weights, strict=True)
            self.log_dict({f"train/weight/{name}": value for name, value in weights})
        if self.mean_teacher is not None:
            losses = losses | self.mean_teacher(self.detector, *unlabelled, progress)
        return self.tell_losses(losses, *batch)

    def on_before_backward(self, loss: Tensor) -> None:
        """Tells the autoencoder of cells, which shortens a gradient, by what that is scaled."""
        causal = self.detector.slot.causal
        if causal is not None:
            causal.loss_scale = loss_scale(self.trainer)

    def _own_losses(
        self, images: Sequence[Tensor], targets: Targets, progress: float
    ) -> dict[str, Tensor]:
        if self.views is None:
            return cast(dict[str, Tensor], self.detector(images, targets))
        return self.views(self.detector, images, targets, progress)

    def validation_step(self, batch: tuple[Sequence[Tensor], Targets], _: int) -> None:
        """Collects truth and detections.

        Raises:
            NotFiniteError: the network gives no numbers.
        """
        images, targets = batch
        if any("unreadable" in target for target in targets):
            return
        self._truth += [_on_cpu(target) for target in targets]
        try:
            self._found += [_on_cpu(found) for found in self.detector(images)]
        except NoNumbersError as error:
            raise NotFiniteError(
                f"the network gives no numbers for a validation field after step "
                f"{self.trainer.global_step}; turn down optimiser.lr ({self.lr:g}), or compute in "
                "32-true; --resume goes on from the last checkpoint"
            ) from error

    def on_validation_epoch_end(self) -> None:
        """Judges all validation fields together, those of all processes."""
        metrics = self.judge(in_turn(self._truth), in_turn(self._found))
        self.log_dict({f"val/{name}": value for name, value in metrics.items()})
        self._truth, self._found = [], []


def build_schedule(optimizer: Optimizer, settings: OptimiserSettings, total: int) -> LRScheduler:
    """The learning rate's way over ``total`` steps."""
    if settings.schedule == "one_cycle":
        # A warm-up of exactly one step would divide by zero in torch.
        warmup = 0.0 if math.isclose(settings.warmup * total, 1) else settings.warmup
        return OneCycleLR(
            optimizer,
            max_lr=[group["lr"] for group in optimizer.param_groups],
            total_steps=total,
            pct_start=warmup,
            cycle_momentum=False,
        )
    return LambdaLR(optimizer, lambda step: lr_share(settings, (step + 1) / max(total, 1)))


def lr_share(settings: OptimiserSettings, at: float) -> float:
    """Share of the peak learning rate at a share of the run, for all but "one_cycle"."""
    if at < settings.warmup:
        return at / settings.warmup
    if settings.schedule == "cosine":
        done = (at - settings.warmup) / (1 - settings.warmup)
        return 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))
    if settings.schedule == "step":
        return float(0.1 ** sum(at > milestone for milestone in settings.milestones))
    return 1.0


def in_turn(own: list[Any]) -> list[Any]:
    """What all processes have, in the order in which they dealt it out among themselves."""
    rounds = zip_longest(*of_all_ranks(own), fillvalue=None)
    return [one for of_round in rounds for one in of_round if one is not None]


def _on_cpu(values: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().cpu() for name, value in values.items()}
