"""The configuration of a detector's training run, and what in it doesn't go together."""

from __future__ import annotations

from pydantic import model_validator

from configs import StrictModel
from data.crops.sampling import imbalance
from models import DetectorConfig
from models.config import HistorySettings
from models.learning.distillation import DistillationSettings
from models.learning.group_dro import GroupDROSettings
from models.learning.learner import OptimiserSettings
from models.learning.views import ViewSettings
from scripts.training.loop import LoopSettings
from scripts.training.provenance import CardSettings
from scripts.training.sources import DataSettings, FieldSource
from scripts.training.unlabelled import MeanTeacherSettings


class TrainSettings(StrictModel):
    """A whole training run.

    Attributes:
        distillation: whom to learn from instead of the annotations; these then only judge.
        mean_teacher: images without annotations, from which the model learns by its own moving
            average, beside the annotations; None for none.
        views: holds what is said of two stains of every crop consistent; None: there is one.
        group_dro: weighs sources by how hard they are; None: their crops count alike.
    """

    model: DetectorConfig
    distillation: DistillationSettings | None = None
    mean_teacher: MeanTeacherSettings | None = None
    views: ViewSettings | None = None
    group_dro: GroupDROSettings | None = None
    data: DataSettings
    optimiser: OptimiserSettings = OptimiserSettings()
    loop: LoopSettings = LoopSettings()
    card: CardSettings = CardSettings()

    @model_validator(mode="after")
    def _teacher_stands_alone(self) -> TrainSettings:
        head = self.model.abnormal_head
        others = (
            (
                head is not None and head.contrast > 0,
                "model.abnormal_head.contrast learns from annotations, and with distillation "
                "nothing does; set contrast to 0",
            ),
            (
                head is not None and head.consistency > 0,
                "model.abnormal_head.consistency is one of the detector's own losses, and with "
                "distillation there is none; set consistency to 0",
            ),
            (
                self.model.history is not None,
                "model.history learns from annotations, and with distillation nothing does; leave "
                "history out",
            ),
            (
                self.mean_teacher is not None,
                "mean_teacher and distillation are two teachers; with distillation nothing is "
                "learned from annotations, so leave one of them out",
            ),
            (
                self.model.causal is not None,
                "model.causal learns from annotations, and with distillation nothing does; leave "
                "it out",
            ),
            (
                self.data.crops.gradient is not None,
                "data.crops.gradient goes by the class loss, and with distillation there is none; "
                "leave it out",
            ),
            (
                self.views is not None,
                "views compares places by the annotations, and with distillation nothing learns "
                "from these; leave it out",
            ),
            (
                self.group_dro is not None,
                "group_dro goes by the class loss, and with distillation there is none; leave it "
                "out",
            ),
        )
        wrong = [problem for is_there, problem in others if is_there]
        if self.distillation is not None and wrong:
            raise ValueError(wrong[0])
        return self

    @model_validator(mode="after")
    def _contrast_has_what_to_compare(self) -> TrainSettings:
        head = self.model.abnormal_head
        if head is not None and head.contrast:
            self._check_comparison("abnormal_head.contrast", "set contrast to 0")
        if self.model.history is not None:
            self._check_comparison("history", "leave history out")
            self._check_warm_up(self.model.history)
        return self

    def _check_comparison(self, key: str, remedy: str) -> None:
        if self.loop.batch_size < 2:
            raise ValueError(
                f"model.{key} compares the cells of a batch, and loop.batch_size is 1; take 2 or "
                f"more (loop.accumulate doesn't do), or {remedy}"
            )

    def _check_warm_up(self, history: HistorySettings) -> None:
        batches = self.loop.epochs * self.loop.steps
        if history.classes and history.warm_up >= batches:
            raise ValueError(
                f"model.history.warm_up is {history.warm_up}, and the run has {batches} batches "
                "(loop.epochs times loop.steps), so classes would never be compared; take fewer, "
                "or set model.history.classes to 0"
            )

    @model_validator(mode="after")
    def _mean_teacher_can_teach(self) -> TrainSettings:
        if self.mean_teacher is None:
            return self
        if not self.loop.ema:
            raise ValueError(
                "mean_teacher is the moving average of the weights, and loop.ema is 0, which is "
                "none; take some 0.99"
            )
        return self

    @model_validator(mode="after")
    def _gradient_can_steer(self) -> TrainSettings:
        gradient, workers = self.data.crops.gradient, self.loop.workers
        if gradient is None:
            return self
        if gradient.interval < (least := 2 * workers + 2):
            raise ValueError(
                f"data.crops.gradient.interval is {gradient.interval}, and {workers} workers "
                f"prepare crops further ahead; take {least} or more, or fewer loop.workers"
            )
        return self

    @model_validator(mode="after")
    def _views_differ(self) -> TrainSettings:
        if self.views is None:
            return self
        if not self.data.augment.changes_stain:
            raise ValueError(
                "views: no step of data.augment changes the stain, so both views would be the "
                "same; set data.augment.stain above 0, or add data.augment.templates"
            )
        return self

    @model_validator(mode="after")
    def _batches_can_be_balanced(self) -> TrainSettings:
        if self.data.crops.batches is None:
            return self
        weights = [one.weight for one in self._sources_to_learn_from]
        if problem := imbalance(weights):
            raise ValueError(problem)
        if self.loop.batch_size < len(weights):
            raise ValueError(
                f"data.crops.batches: balanced has a crop of each of {len(weights)} sources in "
                f"every batch, and loop.batch_size is {self.loop.batch_size}; raise it"
            )
        return self

    @model_validator(mode="after")
    def _sources_can_be_weighed(self) -> TrainSettings:
        if self.group_dro is None:
            return self
        if len(self._sources_to_learn_from) < 2:
            raise ValueError(
                "group_dro weighs several sources against each other, and there is one in "
                "data.train; give it a list of sources, or leave group_dro out"
            )
        if self.data.crops.drawn:
            raise ValueError(
                "group_dro: drawn crops are of no source; set data.crops.drawn to 0, or leave "
                "group_dro out"
            )
        return self

    @property
    def _sources_to_learn_from(self) -> list[FieldSource]:
        return [one for one in self.data.train if one.called != self.data.hold_out]
