"""Where on the glass the specimen lies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from data.synth.noise import FloatImage, field_at, field_over

Kind = Literal["liquid", "conventional", "field"]
"""A round, even deposit; a smear with drifts and clumps; the middle of a smear, borderless."""

Points = NDArray[np.float64]

_RAGGED_UM = 180.0
"""Period of the wobble of the deposit's edge."""


@dataclass(frozen=True)
class Deposit:
    """The deposit on a slide; all lengths in µm.

    Attributes:
        kind: of preparation.
        extent: (width, height) of the slide.
        seed: of the edge's wobble.
    """

    kind: Kind
    extent: tuple[float, float]
    seed: int

    def at(self, x: Points, y: Points) -> Points:
        """1 where the specimen lies, 0 on bare glass, at points."""
        if self.kind == "field":
            return np.ones(np.broadcast_shapes(np.shape(x), np.shape(y)))
        return np.asarray(self._cover(x, y, field_at(self.seed, _RAGGED_UM, x, y)), np.float64)

    def over(self, x: Points, y: Points) -> FloatImage:
        """The same over a grid of columns and rows: (len(y), len(x)), or (1, 1) where even."""
        if self.kind == "field":
            return np.ones((1, 1), np.float32)
        ragged = field_over(self.seed, _RAGGED_UM, x, y)
        cover = self._cover(x[None, :].astype(np.float32), y[:, None].astype(np.float32), ragged)
        return np.asarray(cover, np.float32)

    def area_mm2(self) -> float:
        """Area of the deposit."""
        width, height = self.extent
        across, down = (np.arange(256) + 0.5) / 256 * width, (np.arange(256) + 0.5) / 256 * height
        return max(float(self.over(across, down).mean()) * width * height * 1e-6, 1e-6)

    def box(self) -> Points:
        """((left, top), (right, bottom)): the deposit lies within."""
        middle = np.array(self.extent) / 2.0
        reach = np.full(2, middle.min()) if self.kind == "liquid" else middle
        return np.stack([middle - reach, middle + reach])

    def _cover(
        self, x: NDArray[np.floating], y: NDArray[np.floating], ragged: NDArray[np.floating]
    ) -> NDArray[np.floating]:
        """The shape; ``ragged``, 0..1, wobbles its edge."""
        width, height = self.extent
        side = min(width, height)
        if self.kind == "liquid":
            outside = np.hypot(x - width / 2, y - height / 2) - 0.44 * side
            soft, wobble = 0.02 * side, 0.018 * side
        else:
            outside = np.maximum(
                np.abs(x - width / 2) - 0.46 * width, np.abs(y - height / 2) - 0.44 * height
            )
            soft, wobble = 0.04 * side, 0.06 * side
        return np.clip(0.5 - (outside + (ragged - 0.5) * wobble) / soft, 0.0, 1.0)
