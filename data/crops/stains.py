"""What changes from one stain to another, as steps of an augmentation."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import albumentations as A
import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]

_DENSITY = -np.log((np.arange(256, dtype=np.float32) + 1) / 256)


class StainStep(A.ImageOnlyTransform):
    """A step that stands for another stain: a second view of a crop gets another draw of it.

    Attributes:
        other: seed of the second view's draw; None in the first view.
    """

    other: tuple[int, int] | None = None

    def get_params(self) -> dict[str, Any]:
        """Draws the stain."""
        drawn = self.draw(self.random_generator)
        # The first view's draw is made anyway: so all that is drawn after it is the same in both.
        return drawn if self.other is None else self.draw(np.random.default_rng(self.other))

    @abstractmethod
    def draw(self, rng: np.random.Generator) -> dict[str, Any]:
        """A stain: what ``apply`` takes beside the image."""


class StainJitter(StainStep):
    """Mixes optical densities by a random matrix near the identity, as another stain would.

    By Beer-Lambert's law dyes add up in optical density, -log(I / I_0), not in intensity.
    """

    def __init__(self, spread: float, p: float = 0.9) -> None:
        super().__init__(p=p)
        self.spread = spread

    def draw(self, rng: np.random.Generator) -> dict[str, Any]:
        """Draws the matrix: a gain a channel, and a smaller leak between channels."""
        matrix = np.diag(np.exp(rng.normal(0, self.spread, 3)))
        return {"matrix": (matrix + rng.normal(0, self.spread / 3, (3, 3))).astype(np.float32)}

    def apply(self, img: Pixels, matrix: NDArray[np.float32], **_: Any) -> Pixels:
        """Applies the matrix to (H, W, 3) uint8."""
        density = cv2.transform(_DENSITY[img], matrix)
        return (256 * np.exp(-np.maximum(density, 0)) - 1).clip(0, 255).astype(np.uint8)


@contextmanager
def another_stain(pipeline: A.Compose, seed: int) -> Iterator[None]:
    """Within it every `StainStep` of a pipeline draws another stain, by a seed; else all stays."""
    steps = [step for step in pipeline.transforms if isinstance(step, StainStep)]
    for number, step in enumerate(steps):
        step.other = (seed, number)
    try:
        yield
    finally:
        for step in steps:
            step.other = None
