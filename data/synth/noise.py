"""Randomness that is a function of place: any part of a slide can be asked for alone.

Nothing here keeps a state. A site of a lattice, a point of a field and a pixel of a texture have
the same value whoever asks, in whatever order, which is what makes regions meet without a seam.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import fft

FloatImage = NDArray[np.float32]

TEXTURE_UM = 120.0
"""Side of a texture tile in µm at least: wider than nearly any single thing that is drawn."""


def hash_sites(seed: int, ix: NDArray[np.int64], iy: NDArray[np.int64]) -> NDArray[np.uint64]:
    """One 64-bit hash for each lattice site (SplitMix64 over seed, row and column)."""
    state = _mix(np.uint64(seed & 0xFFFFFFFFFFFFFFFF) + np.zeros(1, np.uint64))
    state = _mix(state + np.asarray(iy).astype(np.uint64))
    return _mix(state + np.asarray(ix).astype(np.uint64))


def uniform(keys: NDArray[np.uint64], stream: int) -> NDArray[np.float64]:
    """A number in [0, 1) for each key; another ``stream`` gives an independent one."""
    return (_mix(keys + np.uint64(stream + 1)) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def generator(key: int) -> np.random.Generator:
    """The generator from which the thing of this key is drawn."""
    return np.random.Generator(np.random.SFC64(int(key)))


def _mix(z: NDArray[np.uint64]) -> NDArray[np.uint64]:
    z = z + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def field_at(seed: int, period: float, x: ArrayLike, y: ArrayLike) -> NDArray[np.float64]:
    """Smooth random field in 0..1 at points, all in µm (value noise on a lattice of ``period``)."""
    u, v = np.asarray(x, float) / period, np.asarray(y, float) / period
    ix, iy = np.floor(u).astype(np.int64), np.floor(v).astype(np.int64)
    fx, fy = _smooth(u - ix), _smooth(v - iy)
    corner = [uniform(hash_sites(seed, ix + dx, iy + dy), 0) for dy in (0, 1) for dx in (0, 1)]
    top = corner[0] + (corner[1] - corner[0]) * fx
    bottom = corner[2] + (corner[3] - corner[2]) * fx
    return np.asarray(top + (bottom - top) * fy)


def field_over(
    seed: int, period: float, x: NDArray[np.float64], y: NDArray[np.float64]
) -> FloatImage:
    """The same field over a grid of columns ``x`` and rows ``y`` in µm: (len(y), len(x)).

    Interpolates along the columns first, on the few lattice rows that the grid meets.
    """
    u, v = x / period, y / period
    ix, iy = np.floor(u).astype(np.int64), np.floor(v).astype(np.int64)
    fx, fy = _smooth(u - ix).astype(np.float32), _smooth(v - iy).astype(np.float32)[:, None]
    columns = np.arange(ix[0], ix[-1] + 2)
    rows = np.arange(iy[0], iy[-1] + 2)
    lattice = uniform(hash_sites(seed, columns[None, :], rows[:, None]), 0).astype(np.float32)
    left, right = lattice[:, ix - ix[0]], lattice[:, ix - ix[0] + 1]
    lines = left + (right - left) * fx
    top: FloatImage = lines[iy - iy[0]]
    field: FloatImage = lines[iy - iy[0] + 1]
    field -= top
    field *= fy
    field += top
    return field


def _smooth(t: NDArray[np.float64]) -> NDArray[np.float64]:
    return t * t * (3.0 - 2.0 * t)


class Band(NamedTuple):
    """Band of detail of a texture: deviations in µm of the Gaussians that bound it."""

    fine: float
    coarse: float


CAMERA = Band(0.10, 0.5)
GRAIN = Band(0.22, 0.6)
CHROMATIN = Band(0.34, 1.3)
GRANULES = Band(0.35, 2.0)
CLOUDS = Band(0.8, 6.0)
PATCHES = Band(1.6, 9.0)


@lru_cache(maxsize=24)
def texture(band: Band, mpp: float) -> FloatImage:
    """A square tile of noise that repeats without a seam: mean 0, deviation 1.

    The deviation is that of unlimited resolution: coarse pixels average fine detail away.
    """
    side = 1 << int(np.ceil(np.log2(TEXTURE_UM / mpp)))
    white = np.random.default_rng(side).standard_normal((side, side), np.float32)
    frequency_x, frequency_y = fft.rfftfreq(side, mpp), fft.fftfreq(side, mpp)[:, None]
    squared = 2.0 * np.pi**2 * (frequency_x**2 + frequency_y**2)
    a, b = band.fine**2, band.coarse**2
    gain = np.exp(-squared * a) - np.exp(-squared * b)
    variance = (0.25 / a + 0.25 / b - 1.0 / (a + b)) / np.pi  # integral of gain² over the plane
    spectrum = fft.rfft2(white) * np.float32(1.0 / mpp / np.sqrt(variance))
    return np.asarray(fft.irfft2(spectrum * gain.astype(np.float32), s=(side, side)))


def window(tile: FloatImage, x: int, y: int, width: int, height: int) -> FloatImage:
    """The part of an endlessly repeated tile that lies at pixel (x, y)."""
    side = tile.shape[0]
    x, y = x % side, y % side
    if x + width <= side and y + height <= side:
        return tile[y : y + height, x : x + width]
    rows = tile[(y + np.arange(height)) % side]
    around = [rows] * (-(-(x + width) // side) - 1)
    return np.concatenate([rows[:, x:], *around], 1)[:, :width]
