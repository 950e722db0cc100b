"""The losses of a comparison: their settings, with a weight that may be left to a grid."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

from pydantic import PositiveFloat, create_model

from losses.config import LossSettings, any_loss


def _compared(kind: type[LossSettings]) -> type[LossSettings]:
    """A loss's settings whose weight is None where they say none."""
    told = "beside the box losses; None: by the grid of ``tuning``, 1 without one."
    summary = inspect.cleandoc(kind.__doc__ or "").split("\n\n")[0]
    return create_model(
        f"Compared{kind.__name__}",
        __base__=kind,
        __doc__=f"{summary}\n\nAttributes:\n    weight: {told}",
        weight=(PositiveFloat | None, None),
    )


if TYPE_CHECKING:

    class ComparedLossConfig(LossSettings):
        """A loss whose weight may be left to a grid."""

        weight: float | None  # type: ignore[assignment]
else:
    ComparedLossConfig = any_loss(_compared)
