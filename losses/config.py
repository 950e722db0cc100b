"""The ``loss:`` part of a configuration.

A loss needs no more than its line in `losses.registry`, or a package of its own: what its class
takes are its settings (`NamedLossSettings`). Those below have a class of settings beside: ranges
are checked, editors complete them, and a model's card is read without torch.
"""

from __future__ import annotations

import functools
import inspect
import operator
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self, get_args

from pydantic import (
    ConfigDict,
    Discriminator,
    Field,
    NonNegativeInt,
    PositiveInt,
    Tag,
    field_validator,
)

import losses
from configs import ConfigError, StrictModel
from configs.plugins import check_name, load_part
from losses.registry import LOSSES

if TYPE_CHECKING:
    from losses import ClassificationLoss


class LossSettings(StrictModel):
    """What every loss has.

    Attributes:
        weight: beside the box losses.
        name: of the loss.
    """

    is_softmax: ClassVar[bool] = False
    weight: float = Field(1.0, gt=0)
    name: str

    @property
    def softmax(self) -> bool:
        """Whether the classes compete, beside an objectness; else each is its own sigmoid."""
        return self.is_softmax

    @abstractmethod
    def build(self, num_classes: int) -> ClassificationLoss:
        """The module for a detector's loss slot, without the weight.

        Raises:
            ConfigError: the settings don't go with this number of classes.
        """

    def with_counts(self, counts: Sequence[int]) -> Self:
        """A copy with the training cells of each class, where the loss needs and lacks them."""
        return self


class CountedLossSettings(LossSettings):
    """What a loss that goes by the classes' frequencies has.

    Attributes:
        class_counts: number of training cells of each class; None where training fills it in.
    """

    class_counts: tuple[NonNegativeInt, ...] | None = None

    def counts(self, num_classes: int) -> tuple[int, ...]:
        """``class_counts``, one a class; raises a `ConfigError` if they are not."""
        return check_counts(self.class_counts, num_classes)

    def with_counts(self, counts: Sequence[int]) -> Self:
        """A copy with these counts, where none are given."""
        if self.class_counts is not None:
            return self
        return self.model_copy(update={"class_counts": tuple(counts)})


def check_counts(counts: Sequence[int] | None, num_classes: int) -> tuple[int, ...]:
    """The training cells of each class.

    Raises:
        ConfigError: there are none, or not one a class.
    """
    found = "is missing" if counts is None else f"= {list(counts)}"
    if counts is None or len(counts) != num_classes:
        raise ConfigError(
            f"loss.class_counts {found}: a loss that goes by the classes' frequencies needs "
            f"{num_classes} numbers, the training cells of each class in the order of the "
            "classes; `cytolibra train` fills them in from its data where there are none"
        )
    return tuple(counts)


class CrossEntropySettings(LossSettings):
    """Sigmoid cross-entropy."""

    name: Literal["cross_entropy"]

    def build(self, num_classes: int) -> ClassificationLoss:
        """See `CrossEntropyLoss`."""
        return losses.CrossEntropyLoss()


class FocalSettings(LossSettings):
    """Focal loss; ``alpha: null`` for none.

    Attributes:
        alpha: weight of positives, 1 - alpha that of negatives.
        gamma: focus on what is hard; 0 is cross-entropy.
    """

    name: Literal["focal"]
    alpha: float | None = Field(0.25, ge=0, le=1)
    gamma: float = Field(2.0, ge=0)

    def build(self, num_classes: int) -> ClassificationLoss:
        """See `FocalLoss`."""
        return losses.FocalLoss(self.alpha, self.gamma)


class GradLibraSettings(LossSettings):
    """Grad-Libra Loss.

    Attributes:
        alpha_pos: alpha of positive pairs, radians.
        alpha_neg: alpha of negative pairs, radians.
        detach: the weight is a constant; false lets the gradient flow through it.
    """

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
        alpha_pos: alpha of positive pairs, radians.
        alpha_neg: alpha of negative pairs, radians.
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
    """Class-balanced cross-entropy.

    Attributes:
        beta: 0 weighs all classes alike, towards 1 by one over their cells.
    """

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
    """Equalization loss v2.

    Attributes:
        gamma: steepness of the weight as a function of the gradient ratio.
        mu: gradient ratio at which that is half of its height.
        alpha: how much positives of a starved class gain.
    """

    name: Literal["eqlv2"]
    gamma: float = Field(12.0, gt=0)
    mu: float = 0.8
    alpha: float = Field(4.0, ge=0)

    def build(self, num_classes: int) -> ClassificationLoss:
        """See `EQLv2Loss`."""
        return losses.EQLv2Loss(num_classes, self.gamma, self.mu, self.alpha)


class GHMSettings(LossSettings):
    """Gradient harmonising, GHM-C.

    Attributes:
        bins: of the histogram of gradients.
    """

    name: Literal["ghm"]
    bins: int = Field(10, ge=1)

    def build(self, num_classes: int) -> ClassificationLoss:
        """See `GHMLoss`."""
        return losses.GHMLoss(self.bins)


class EqualizedFocalSettings(LossSettings):
    """Equalized focal loss.

    Attributes:
        alpha: weight of positives, 1 - alpha that of negatives.
        gamma: focus of a balanced class.
        scale: how much the focus of a starved class grows.
    """

    name: Literal["equalized_focal"]
    alpha: float = Field(0.25, ge=0, le=1)
    gamma: float = Field(2.0, gt=0)
    scale: float = Field(8.0, ge=0)

    def build(self, num_classes: int) -> ClassificationLoss:
        """See `EqualizedFocalLoss`."""
        return losses.EqualizedFocalLoss(num_classes, self.alpha, self.gamma, self.scale)


class SeesawSettings(LossSettings):
    """Seesaw loss.

    Attributes:
        p: exponent of the mitigation.
        q: exponent of the compensation.
    """

    is_softmax: ClassVar[bool] = True
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
        beta: most "others" in a group's loss, in samples of its own.
        background_ratio: most background among the "others", in cells; 0 leaves it out.
    """

    is_softmax: ClassVar[bool] = True
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


class NamedLossSettings(LossSettings):
    """A loss by its line in the registry, import path or entry point; its own settings beside.

    Its class is a `ClassificationLoss` whose arguments, all of them by name, are its settings. It
    is given ``num_classes`` and ``class_counts`` where it takes them.
    """

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra={"properties": {"name": {"type": "string", "not": {"enum": [*LOSSES]}}}},
    )

    @field_validator("name")
    @classmethod
    def _can_be_one(cls, name: str) -> str:
        return check_name("losses", name, tuple(LOSSES))

    @property
    def softmax(self) -> bool:
        """What the loss's class says; see `LossSettings.softmax`."""
        return self._load().softmax

    def build(self, num_classes: int) -> ClassificationLoss:
        """The module, made of its own settings."""
        kind = self._load()
        known = inspect.signature(kind).parameters
        options = dict(self.model_extra or {})
        unknown = sorted(set(options) - set(known))
        if unknown:
            allowed = ", ".join(set_by_people(known)) or "none"
            raise ConfigError(
                f"loss.{unknown[0]}: {self.name} has no such setting; it has {allowed}"
            )
        if "num_classes" in known:
            options["num_classes"] = num_classes
        if "class_counts" in known:
            counts = options.get("class_counts")
            options["class_counts"] = check_counts(counts, num_classes)
        try:
            return kind(**options)
        except (TypeError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise ConfigError(
                f"loss {self.name} can't be made of its settings: {reason}"
            ) from error

    def with_counts(self, counts: Sequence[int]) -> Self:
        """A copy with these counts, where the loss takes some and none are given."""
        takes = "class_counts" in inspect.signature(self._load()).parameters
        if not takes or (self.model_extra or {}).get("class_counts") is not None:
            return self
        return type(self).model_validate(self.model_dump() | {"class_counts": list(counts)})

    def _load(self) -> type[ClassificationLoss]:
        kind = load_part("losses", LOSSES.get(self.name, self.name), "loss.name")
        if not (inspect.isclass(kind) and issubclass(kind, losses.ClassificationLoss)):
            raise ConfigError(
                f"loss.name = {self.name}: is no subclass of losses.ClassificationLoss"
            )
        return kind


def set_by_people(parameters: Iterable[str]) -> list[str]:
    """Of a loss's arguments those that are its settings."""
    return [name for name in parameters if name != "num_classes"]


def _which(value: object) -> str:
    """Which settings a loss has: those of its own class, or by its arguments."""
    name = value.get("name") if isinstance(value, Mapping) else getattr(value, "name", None)
    return name if isinstance(name, str) and name in _TYPED else _NAMED


_NAMED = ""
"""No part of a key: its settings stand beside the name."""

_CLASSES = (
    CrossEntropySettings,
    FocalSettings,
    GradLibraSettings,
    GradedLibraSettings,
    ClassBalancedSettings,
    EQLSettings,
    EQLv2Settings,
    GHMSettings,
    EqualizedFocalSettings,
    SeesawSettings,
    BAGSSettings,
)
_TYPED = {get_args(one.model_fields["name"].annotation)[0]: one for one in _CLASSES}


def any_loss(change: Callable[[type[LossSettings]], type[LossSettings]]) -> Any:
    """The settings of any loss, as a type for settings.

    Args:
        change: gives for the class of a loss's settings the one that is taken.
    """
    kinds = [Annotated[change(one), Tag(name)] for name, one in _TYPED.items()]
    kinds.append(Annotated[change(NamedLossSettings), Tag(_NAMED)])
    return Annotated[functools.reduce(operator.or_, kinds), Discriminator(_which)]


if TYPE_CHECKING:
    LossConfig = LossSettings
else:
    LossConfig = any_loss(lambda kind: kind)
