"""How sharp a stained place is, by ratios of neighbouring scales of one picture.

Blur takes the finer scale first; neither contrast nor the number of cells changes a ratio. Two
ratios are needed: noise, which blur does not take, fills the finest scale of what is blurred most,
and the next coarser pair still tells it.

The limit was settled on 612 squares of 128 µm, four of each of the 155 CRIC training fields that
has stain there; beside it what the 119 of the 30 validation fields say. Blurred by a Gaussian of so
many µm (sigma) the limit tells, of the squares:

    0          0.3%    0.8%    (sharpness 0.22 to 0.93, one in a hundred below 0.38; 0.29 to 0.93)
    0.5        1.3%    4.2%    which the eye hardly sees
    0.75        27%     39%
    1           96%     96%
    2, 4, 8    100%    100%

With noise of three grey levels and JPEG (85) upon the blur it tells the same, within two points.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Density = NDArray[np.float32]

SAMPLE_MPP = 0.5
"""µm per pixel at which sharpness is measured."""

LEAST_SHARP = 0.3
"""Sharpness below which cells can't be judged well."""

LEAST_SIDE = 64
"""Pixels a side that a place has at least."""

LEAST_STAINED = 0.01
"""Share of a place that must be stained before it says anything."""

STAINED = 0.1
"""Optical density (natural logarithm, of grey) above the clearest spot from which on a place is
stained."""

SECOND = 0.85
"""Weight of the second ratio, by which one limit holds for both."""

_DENSITY = -np.log((np.arange(256, dtype=np.float32) + 1) / 256)
"""Optical density of each grey level."""


def sharpness(pixels: NDArray[np.uint8]) -> float | None:
    """Energy of details of 0.5 to 1 µm over that of 1 to 2 µm, in optical density, where stained.

    Or `SECOND` times that of 1 to 2 over 2 to 4 µm, where this is less.

    Args:
        pixels: (H, W, 3) RGB at `SAMPLE_MPP`.

    Returns:
        None of a place that is too small, or has too little stain.
    """
    height, width = pixels.shape[:2]
    if min(height, width) < LEAST_SIDE:
        return None
    density = cv2.LUT(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), _DENSITY)
    # A sigma of 1 px at every other pixel; each octave then doubles both.
    finer: Density = np.asarray(cv2.pyrDown(density), np.float32)
    octaves = []
    for _ in range(3):
        coarser = np.asarray(cv2.GaussianBlur(finer, (5, 5), 0.75**0.5), np.float32)
        octaves.append((finer, coarser))
        half = (finer.shape[1] // 2, finer.shape[0] // 2)
        finer = np.asarray(cv2.resize(coarser, half, interpolation=cv2.INTER_AREA), np.float32)
    stained = (finer > finer.min() + STAINED).view(np.uint8)
    if cv2.countNonZero(stained) < LEAST_STAINED * stained.size:
        return None
    fine, middle, coarse = (max(_energy(*octave, stained), _TINY) for octave in octaves)
    return min(fine / middle, SECOND * middle / coarse)


_TINY = 1e-12
"""Energy that is none."""


def _energy(finer: Density, coarser: Density, stained: NDArray[np.uint8]) -> float:
    """Mean square of what a blur takes, where a coarser mask is set."""
    mask = cv2.resize(stained, finer.shape[::-1], interpolation=cv2.INTER_NEAREST)
    return float(cv2.norm(finer, coarser, cv2.NORM_L2SQR, mask)) / cv2.countNonZero(mask)
