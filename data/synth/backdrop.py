"""What lies behind the cells: glass, uneven light, the stain's film, bacteria and specks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from data.synth.deposit import Deposit
from data.synth.noise import CAMERA, GRANULES, FloatImage, field_over, texture, window
from data.synth.region import Region
from data.synth.stain import Stain

_BAND = 64
_ROD_UM = 2.2
_RODS_PER_UM2 = 0.016


@dataclass(frozen=True)
class Backdrop:
    """The backdrop of a slide.

    Attributes:
        deposit: film and specks lie where it lies.
        stain: of the slide.
        film: strength of the film, 0..1.
        grime: density of bacteria and specks, 0..1.
        seed: of their unevenness.
        mpp: µm per level-0 pixel.
    """

    deposit: Deposit
    stain: Stain
    film: float
    grime: float
    seed: int
    mpp: float

    def paint(self, region: Region, density: FloatImage, grains: FloatImage | None = None) -> None:
        """Fills ``density`` (3, H, W) with the region's backdrop.

        ``grains`` (H, W) are its bacteria and specks as a focal plane shows them; by default sharp.
        """
        x = np.asarray((np.arange(region.x, region.right) + 0.5) * self.mpp, np.float64)
        y = np.asarray((np.arange(region.y, region.bottom) + 0.5) * self.mpp, np.float64)
        deposit = self.deposit.over(x, y)
        light = field_over(self.seed, 1400.0, x, y)
        light *= np.float32(0.035)
        light += np.float32(0.012) * window(texture(CAMERA, self.mpp), *region)
        film = field_over(self.seed + 1, 160.0, x, y)
        film *= deposit
        film *= np.float32(1.6 * self.film)
        grime = field_over(self.seed + 2, 75.0, x, y)
        grime *= grime
        grime *= deposit
        grime *= np.float32(1.7 * self.grime)
        grime *= window(specks(self.mpp), *region) if grains is None else grains
        for channel, plane in enumerate(density):
            np.multiply(film, self.stain.film[channel], out=plane)
            plane += grime * self.stain.grime[channel]
            plane += light
            plane += self.stain.glass[channel]


def bands_of(region: Region) -> Iterator[tuple[slice, Region]]:
    """Cuts a region into strips that stay in the processor's cache: rows, and the strip."""
    for top in range(0, region.height, _BAND):
        height = min(_BAND, region.height - top)
        yield slice(top, top + height), Region(region.x, region.y + top, region.width, height)


@lru_cache(maxsize=4)
def specks(mpp: float) -> FloatImage:
    """A tile of bacilli and fine granules, density about 1 where there is something."""
    grains = np.tile(texture(GRANULES, mpp), (2, 2))
    side = grains.shape[0]
    rng = np.random.default_rng([5, side])
    count = round(_RODS_PER_UM2 * (side * mpp) ** 2)
    start = rng.uniform(0.0, side, (count, 1, 2))
    angle = rng.uniform(0.0, np.pi, (count, 1))
    along = np.linspace(0.0, _ROD_UM, 16) / mpp
    points = start + np.stack([np.cos(angle) * along, np.sin(angle) * along], 2)
    columns, rows = (points.reshape(-1, 2).astype(np.int64) % side).T
    rods = np.zeros((side, side), np.float32)
    rods[rows, columns] = min(0.75, 0.18 / mpp)  # a rod is about 0.3 µm thick
    rods = (rods + np.roll(rods, 1, 0) + np.roll(rods, 1, 1)) / 2.0
    return np.asarray(rods + 0.35 * np.maximum(grains - 0.8, 0.0), np.float32)
