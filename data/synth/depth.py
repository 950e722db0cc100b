"""Focal planes of a drawn slide: where they lie, and how deep each thing lies among them.

A specimen lies askew and uneven, and is thicker than what is in focus at once: a smooth surface,
and each thing's own depth about it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from data.synth.backdrop import specks
from data.synth.deposit import Points
from data.synth.noise import FloatImage, field_at, field_over, uniform, window
from data.synth.region import Region

BLUR_PER_UM = 0.3
"""Deviation of the blur, in µm, per µm out of focus. A lens of aperture 0.75 sees a point beneath
mounting medium (1.5) as a disk of tan(asin(0.75 / 1.5)) = 0.58 of the distance in radius, whose
deviation along an axis is half of that."""

ASKEW = 0.6
"""Part of the depth between the first and the last plane that the surface takes; the rest is each
thing's own."""

_SURFACE_UM = 1800.0
"""Period of the surface's unevenness."""

_BLURS = 6
"""Steps in which what lies behind the cells is blurred; between them pixels are mixed."""

_STREAM = 5
"""Of a thing's hash, from which its own depth comes."""


@dataclass(frozen=True)
class Stack:
    """Focal planes at equal distances, the middle one at 0.

    Attributes:
        count: two or more.
        step: µm between two.
        seed: of the surface.
    """

    count: int
    step: float
    seed: int

    @property
    def span(self) -> float:
        """µm from the first to the last plane, between which everything lies."""
        return (self.count - 1) * self.step

    @property
    def places(self) -> tuple[float, ...]:
        """Where the planes lie, in µm."""
        return tuple((n - (self.count - 1) / 2) * self.step for n in range(self.count))

    @property
    def most_blur(self) -> float:
        """Deviation in µm of what lies farthest from a plane."""
        return BLUR_PER_UM * self.span

    def depths(self, x: Points, y: Points, keys: NDArray[np.uint64]) -> Points:
        """(N,) depth in µm of things at places in µm."""
        surface = ASKEW * (field_at(self.seed, _SURFACE_UM, x, y) - 0.5)
        own = (1 - ASKEW) * (uniform(keys, _STREAM) - 0.5)
        return np.asarray(self.span * (surface + own))

    def specks_in(self, region: Region, mpp: float, place: float) -> FloatImage:
        """Bacteria and granules of a region, (height, width), as the plane at a place shows them.

        They lie on the surface.
        """
        x = np.asarray((np.arange(region.x, region.right) + 0.5) * mpp, np.float64)
        y = np.asarray((np.arange(region.y, region.bottom) + 0.5) * mpp, np.float64)
        surface = self.span * ASKEW * (field_over(self.seed, _SURFACE_UM, x, y) - 0.5)
        steps = np.abs(surface - place) * BLUR_PER_UM / (self.most_blur / _BLURS)
        shown = np.zeros((region.height, region.width), np.float32)
        for step in range(_BLURS + 1):
            weight = np.maximum(0.0, 1.0 - np.abs(steps - step)).astype(np.float32)
            if weight.any():
                blurred = _blurred_specks(mpp, step * self.most_blur / _BLURS)
                shown += weight * window(blurred, *region)
        return shown


@lru_cache(maxsize=2 * (_BLURS + 1))
def _blurred_specks(mpp: float, sigma: float) -> FloatImage:
    """The tile of specks, which repeats without a seam, blurred by ``sigma`` µm."""
    tile = specks(mpp)
    return np.asarray(gaussian_filter(tile, sigma / mpp, mode="wrap") if sigma else tile)
