"""How light falls through a slide, seen on its overview."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_LUMINANCE = np.array([0.299, 0.587, 0.114])
"""Weights of red, green and blue in brightness (ITU-R BT.601)."""

_ENOUGH = 1_000_000
"""Pixels that are looked at; more change nothing."""


@dataclass(frozen=True)
class Light:
    """Brightness and colour of a picture.

    Attributes:
        bright: brightness that one pixel in twenty exceeds, 0..255: that of the glass, and of what
            is nearly as clear.
        middle: brightness that half of the pixels exceed.
        tint: greatest difference between the mean red, green and blue of the bright pixels.
        colour: difference of red, green and blue that one pixel in ten thousand exceeds.
    """

    bright: float
    middle: float
    tint: float
    colour: float


def measure_light(pixels: NDArray[np.uint8]) -> Light | None:
    """Measures (N, 3) RGB pixels; None where there are none."""
    if not len(pixels):
        return None
    pixels = pixels[:: max(1, len(pixels) // _ENOUGH)]
    brightness = pixels @ _LUMINANCE
    middle, bright = np.percentile(brightness, [50, 95])
    clear = pixels[brightness >= bright].mean(axis=0)
    spread = pixels.max(axis=1).astype(np.int16) - pixels.min(axis=1)
    colour = float(np.percentile(spread, 99.99))
    return Light(float(bright), float(middle), float(clear.max() - clear.min()), colour)
