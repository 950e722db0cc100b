"""The ``loss:`` part of a configuration; add a loss by adding its settings class here."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Self

from pydantic import Field, NonNegativeInt, PositiveInt, field_validator

import losses
from configs import ConfigError, StrictModel

if TYPE_CHECKING:
    from losses import ClassificationLoss


class LossSettings(StrictModel):
    """What every loss has: its weight beside the box losses.

    Attributes:
        softmax: whether the classes compete, beside an objectness; else each is its own sigmoid.
    """

    softmax: ClassVar[bool] = False
    weight: float = Field(1.0, gt=0)

    @abstractmethod
    def build(self, num_classes: int) -> ClassificationLoss:
        """The module for a detector's loss slot, without the weight.

        Raises:
            ConfigError: the settings don't go with this number of classes.
        """


class CountedLossSettings(LossSettings):
    """What a loss that goes by the classes' frequencies has.

    Attributes:
        class_counts: number of training cells of each class; None where training fills it in.
    """

    class_counts: tuple[NonNegativeInt, ...] | None = None

    def counts(self, num_classes: int) -> tuple[int, ...]:
        """``class_counts``, one a class; raises a `ConfigError` if they are not."""
        found = "is missing" if self.class_counts is None else f"= {list(self.class_counts)}"
        if self.class_counts is None or len(self.class_counts) != num_classes:
            raise ConfigError(
                f"loss.class_counts {found}: a loss that goes by the classes' frequencies needs "
                f"{num_classes} numbers, the training cells of each class in the order of the "
                "classes; `cytolibra train` fills them in from its data where there are none"
            )
        return self.class_counts

    def with_counts(self, counts: Sequence[int]) -> Self:
        """A copy with these counts, where none are given."""
        if self.class_counts is not None:
            return self
        return self.model_copy(update={"class_counts": tuple(counts)})


class CrossEntropySettings(LossSettings):
    """Sigmoid cross-entropy."""

    name: Literal["cross_entropy"]

    def build(self, num_classes: int) -> ClassificationLoss:
        """See `CrossEntropyLoss`."""
        return losses.CrossEntropyLoss()


class FocalSettings(LossSettings):
    """Focal loss; ``alpha: null`` for none."""

    name: Literal["focal"]
    alpha: float | None = Field(0.25, ge=0, le=1)
    gamma: float = Field(2.0, ge=0)

    def build(self, num_classes: int) -> ClassificationLoss:
        """See `FocalLoss`."""
        return losses.FocalLoss(self.alpha, self.gamma)


class GradLibraSettings(LossSettings):
    """Grad-Libra Loss."""

    name: Literal["grad_libra"]
    alpha_pos: float = Field(0.8, ge=0, le=1)
    alpha_neg: float = Field(0.8, ge=0, le=1)
    detach: bool = True

    def build(self, num_classes: int) -> ClassificationLoss:
        """See `GradLibraLoss`."""
        return losses.GradLibraLoss(self.alpha_pos, self.alpha_neg, self.detach)


class GradedLibraSettings(LossSettings):
    """Graded Libra Loss: Grad-Libra for classes that are grades of one another.

    Attributes:
        grades: where each class lies on the scale of grades; null for the order of the classes.
        tolerance: how far neighbours are forgiven; 0 is Grad-Libra.
    """

    name: Literal["graded_libra"]
    grades: tuple[float, ...] | None = None
    tolerance: float = Field(0.7, ge=0, lt=1)
    alpha_pos: float = Field(0.8, ge=0, le=1)
    alpha_neg: float = Field(0.8, ge=0, le=1)

    def build(self, num_classes: int) -> ClassificationLoss:
        """See `GradedLibraLoss`."""
        grades = tuple(range(num_classes)) if self.grades is None else self.grades
        if len(grades) != num_classes:
            raise ConfigError(
                f"loss.grades = {list(grades)}: expected {num_classes} numbers, one for each class "
                "in the order of the classes"
            )
        return losses.GradedLibraLoss(grades, self.tolerance, self.alpha_pos, self.alpha_neg)


class ClassBalancedSettings(CountedLossSettings):
    """Class-balanced cross-entropy."""

    name: Literal["class_balanced"]
    beta: float = Field(0.9999, ge=0, lt=1)

    def build(self, num_classes: int) -> ClassificationLoss:
        """See `ClassBalancedLoss`."""
        return losses.ClassBalancedLoss(self.counts(num_classes), self.beta)


class EQLSettings(CountedLossSettings):
    """Equalization loss.

    Attributes:
        rare_below: the source's lambda, as a share of all cells. The source's value is for the
            1200 classes of LVIS; 0.05 divides rare from common classes of cervical cells.
    """

    name: Literal["eql"]
    rare_below: float = Field(0.05, gt=0, lt=1)

    def build(self, num_classes: int) -> ClassificationLoss:
        """See `EQLLoss`."""
        return losses.EQLLoss(self.counts(num_classes), self.rare_below)


class EQLv2Settings(LossSettings):
    """Equalization loss v2."""

    name: Literal["eqlv2"]
    gamma: float = Field(12.0, gt=0)
    mu: float = 0.8
    alpha: float = Field(4.0, ge=0)

    def build(self, num_classes: int) -> ClassificationLoss:
        """See `EQLv2Loss`."""
        return losses.EQLv2Loss(num_classes, self.gamma, self.mu, self.alpha)


class GHMSettings(LossSettings):
    """Gradient harmonising, GHM-C."""

    name: Literal["ghm"]
    bins: int = Field(10, ge=1)

    def build(self, num_classes: int) -> ClassificationLoss:
        """See `GHMLoss`."""
        return losses.GHMLoss(self.bins)


class EqualizedFocalSettings(LossSettings):
    """Equalized focal loss."""

    name: Literal["equalized_focal"]
    alpha: float = Field(0.25, ge=0, le=1)
    gamma: float = Field(2.0, gt=0)
    scale: float = Field(8.0, ge=0)

    def build(self, num_classes: int) -> ClassificationLoss:
        """See `EqualizedFocalLoss`."""
        return losses.EqualizedFocalLoss(num_classes, self.alpha, self.gamma, self.scale)


class SeesawSettings(LossSettings):
    """Seesaw loss."""

    softmax: ClassVar[bool] = True
    name: Literal["seesaw"]
    p: float = Field(0.8, ge=0)
    q: float = Field(2.0, ge=0)

    def build(self, num_classes: int) -> ClassificationLoss:
        """See `SeesawLoss`."""
        return losses.SeesawLoss(num_classes, self.p, self.q)


class BAGSSettings(CountedLossSettings):
    """Balanced group softmax.

    Attributes:
        group_bounds: training cells at which the next group begins, by default fewer than 100,
            fewer than 1000, and more: decades as in the source, whose four groups (from 10 on)
            are for the 1200 classes of LVIS.
    """

    softmax: ClassVar[bool] = True
    name: Literal["bags"]
    group_bounds: tuple[PositiveInt, ...] = Field((100, 1000), min_length=1)
    beta: float = Field(8.0, gt=0)
    background_ratio: float = Field(3.0, ge=0)

    @field_validator("group_bounds")
    @classmethod
    def _bounds_increase(cls, bounds: tuple[int, ...]) -> tuple[int, ...]:
        if any(low >= high for low, high in pairwise(bounds)):
            raise ValueError("the counts at which groups begin have to increase, as in [100, 1000]")
        return bounds

    def build(self, num_classes: int) -> ClassificationLoss:
        """See `BAGSLoss`."""
        counts = self.counts(num_classes)
        return losses.BAGSLoss(counts, self.group_bounds, self.beta, self.background_ratio)


LossConfig = Annotated[
    CrossEntropySettings
    | FocalSettings
    | GradLibraSettings
    | GradedLibraSettings
    | ClassBalancedSettings
    | EQLSettings
    | EQLv2Settings
    | GHMSettings
    | EqualizedFocalSettings
    | SeesawSettings
    | BAGSSettings,
    Field(discriminator="name"),
]
