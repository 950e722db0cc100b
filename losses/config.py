"""The ``loss:`` part of a configuration; add a loss by adding its settings class here."""

from __future__ import annotations

from abc import abstractmethod
from typing import Annotated, Literal

from pydantic import Field

from configs import StrictModel
from losses.baselines import CrossEntropyLoss, FocalLoss
from losses.elementwise import ClassificationLoss
from losses.grad_libra import GradLibraLoss


class LossSettings(StrictModel):
    """What every loss has: its weight beside the box losses."""

    weight: float = Field(1.0, gt=0)

    @abstractmethod
    def build(self) -> ClassificationLoss:
        """The module for a detector's loss slot, without the weight."""


class CrossEntropySettings(LossSettings):
    """Sigmoid cross-entropy."""

    name: Literal["cross_entropy"]

    def build(self) -> ClassificationLoss:
        """See `CrossEntropyLoss`."""
        return CrossEntropyLoss()


class FocalSettings(LossSettings):
    """Focal loss; ``alpha: null`` for none."""

    name: Literal["focal"]
    alpha: float | None = Field(0.25, ge=0, le=1)
    gamma: float = Field(2.0, ge=0)

    def build(self) -> ClassificationLoss:
        """See `FocalLoss`."""
        return FocalLoss(self.alpha, self.gamma)


class GradLibraSettings(LossSettings):
    """Grad-Libra Loss."""

    name: Literal["grad_libra"]
    alpha_pos: float = Field(0.8, ge=0, le=1)
    alpha_neg: float = Field(0.8, ge=0, le=1)
    detach: bool = True

    def build(self) -> ClassificationLoss:
        """See `GradLibraLoss`."""
        return GradLibraLoss(self.alpha_pos, self.alpha_neg, self.detach)


LossConfig = Annotated[
    CrossEntropySettings | FocalSettings | GradLibraSettings, Field(discriminator="name")
]
