"""Augmentation of crops: what may differ between two slides of the same cells."""

from __future__ import annotations

import os
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from configs import StrictModel

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # else importing it asks the network
import albumentations as A

MIN_VISIBILITY = 0.4
"""A cell of which a crop shows less is no longer called a cell."""

_DENSITY = -np.log((np.arange(256, dtype=np.float32) + 1) / 256)


class AugmentSettings(StrictModel):
    """How far crops are changed.

    Attributes:
        flips: flips and right-angle rotations.
        stain: spread of the random 3 x 3 matrix that mixes optical densities; each slide's stain
            has its own strength and hue.
        brightness, contrast: largest relative change of either.
        blur: probability of a slight defocus.
        jpeg: probability of a second JPEG compression.
        noise: probability of sensor noise.
    """

    flips: bool = True
    stain: float = Field(0.15, ge=0, le=1)
    brightness: float = Field(0.15, ge=0, le=1)
    contrast: float = Field(0.15, ge=0, le=1)
    blur: float = Field(0.2, ge=0, le=1)
    jpeg: float = Field(0.2, ge=0, le=1)
    noise: float = Field(0.1, ge=0, le=1)


class StainJitter(A.ImageOnlyTransform):
    """Mixes optical densities by a random matrix near the identity, as another stain would.

    By Beer-Lambert's law dyes add up in optical density, -log(I / I_0), not in intensity.
    """

    def __init__(self, spread: float, p: float = 0.9) -> None:
        super().__init__(p=p)
        self.spread = spread

    def get_params(self) -> dict[str, Any]:
        """Draws the matrix: a gain a channel, and a smaller leak between channels."""
        draw = self.random_generator.normal
        matrix = np.diag(np.exp(draw(0, self.spread, 3))) + draw(0, self.spread / 3, (3, 3))
        return {"matrix": matrix.astype(np.float32)}

    def apply(
        self, img: NDArray[np.uint8], matrix: NDArray[np.float32], **_: Any
    ) -> NDArray[np.uint8]:
        """Applies the matrix to (H, W, 3) uint8."""
        density = cv2.transform(_DENSITY[img], matrix)
        return (256 * np.exp(-np.maximum(density, 0)) - 1).clip(0, 255).astype(np.uint8)


def build_augmentation(settings: AugmentSettings, seed: int | None = None) -> A.Compose:
    """An albumentations pipeline over ``image``, ``bboxes`` (xyxy pixels) and ``labels``."""
    steps = [
        A.D4(p=1.0 if settings.flips else 0.0),
        StainJitter(settings.stain, p=0.9 if settings.stain else 0.0),
        A.RandomBrightnessContrast(settings.brightness, settings.contrast, p=0.5),
        A.GaussianBlur(blur_limit=(3, 5), p=settings.blur),
        A.ImageCompression(quality_range=(50, 90), p=settings.jpeg),
        A.GaussNoise(std_range=(0.01, 0.04), p=settings.noise),
    ]
    boxes = A.BboxParams("pascal_voc", label_fields=["labels"], clip=True)
    return A.Compose(steps, bbox_params=boxes, seed=seed)
