"""Samples as files store them, made RGB of 8 bits on white."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[Any]
"""(H, W, samples): grey or RGB, with an alpha behind them or without."""

Pixels = NDArray[np.uint8]


def to_8_bit(samples: Samples, white: int) -> Pixels:
    """Samples of any unsigned kind scaled so that ``white`` becomes 255; what is above it, too.

    Args:
        samples: of any shape, uint8 or uint16.
        white: the value of white.
    """
    if white == 255:
        return samples if samples.dtype == np.uint8 else np.minimum(samples, 255).astype(np.uint8)
    if samples.dtype == np.uint16:
        return _table(white)[samples]
    scaled = np.minimum(samples, white).astype(np.uint32) * 255 + white // 2
    return (scaled // white).astype(np.uint8)


@lru_cache(maxsize=8)
def _table(white: int) -> Pixels:
    values = np.minimum(np.arange(65536, dtype=np.uint32), white)
    return ((values * 255 + white // 2) // white).astype(np.uint8)


def lay_on_white(colors: Pixels, alpha: Pixels, multiplied: bool = False) -> Pixels:
    """Shows what lies under transparent pixels, glass, as white.

    Args:
        colors: (H, W, C).
        alpha: (H, W, 1), 255 is opaque.
        multiplied: whether alpha is multiplied into the colours already.

    Returns:
        (H, W, C), rounded to the nearest level.
    """
    if (alpha == 255).all():
        return colors
    clear = 255 - alpha.astype(np.uint16)
    if multiplied:
        return np.minimum(colors + clear, 255).astype(np.uint8)
    # at most 255 * 255 + 127, so 16 bits do
    return ((colors * (255 - clear) + clear * 255 + 127) // 255).astype(np.uint8)


def as_rgb(colors: Pixels) -> Pixels:
    """(H, W, 3) of grey (H, W, 1) or RGB."""
    if colors.shape[2] == 1:
        colors = np.broadcast_to(colors, (*colors.shape[:2], 3))
    return np.ascontiguousarray(colors)
