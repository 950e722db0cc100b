"""How found cells look: few figures a cell of stain, sharpness and structure, from its pixels.

They are meant to tell pictures that a model has not seen, not grades: none counts cells, and none
uses what the detector says of them. All are ratios or logarithms, so that they spread alike.
"""

from __future__ import annotations

from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]

MPP, SIDE = 0.5, 64
"""µm per pixel and side, in pixels, of what is looked at around a cell's centre."""

LOOKS = {
    "nuclear_density": "density of the nuclei",
    "cell_density": "density around the nuclei",
    "nuclear_red": "red part of the nuclei's colour",
    "nuclear_blue": "blue part of the nuclei's colour",
    "cell_red": "red part of the colour around them",
    "cell_blue": "blue part of the colour around them",
    "sharpness": "sharpness",
    "coarseness": "coarse structure against fine",
    "roundness": "one round nucleus in the middle",
    "fibres": "fibres and streaks",
}
"""The figures, in the order of `measure_looks`, and what people call them."""

ASPECTS = {"stain": tuple(LOOKS)[:6], "structure": tuple(LOOKS)[6:]}
"""The looks by what they are of."""

_NUCLEUS_REACH, _NUCLEUS_SHARE = 20, 0.15
"""The nucleus: the densest share of what lies within so many pixels (10 µm) of the centre."""

_FAINT = 0.05
"""Optical density that is added where a logarithm or a share is taken: of glass neither exists."""

_RING = 2
"""Width in pixels of the rings about the centre."""

_WIDEST_RING = 24
"""Radius in pixels within which the rings are looked at."""

_LEAST_ENERGY = 1e-5
"""Of optical density, squared; what is flat has no structure."""

_DENSITY = -np.log10((np.arange(256, dtype=np.float32) + 1) / 256)
"""Optical density of each value of a channel."""

_Y, _X = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
_RADIUS = np.hypot(_Y, _X)
_NEAR = _RADIUS <= _NUCLEUS_REACH
_RINGS = (_RADIUS / _RING).astype(np.intp)
_RING_SIZES = np.bincount(_RINGS.ravel())
_ROUND = _RADIUS <= _WIDEST_RING


def measure_looks(pictures: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Measures cells.

    Args:
        pictures: (N, SIDE, SIDE, 3) RGB at `MPP`, each with a cell's centre in its middle.

    Returns:
        (N, len(LOOKS)).
    """
    looks = [_measure(picture) for picture in pictures]
    return np.array(looks, np.float64).reshape(-1, len(LOOKS))


def _measure(picture: Image) -> list[float]:
    density = _DENSITY[picture]
    total = density.sum(axis=2)
    nucleus, around = _nucleus(density, total), _around(density, total)
    return [
        *(float(np.log(colour.sum() + _FAINT)) for colour in (nucleus, around)),
        *(
            float(colour[channel] / (colour.sum() + _FAINT))
            for colour in (nucleus, around)
            for channel in (0, 2)
        ),
        *_structure(total),
        _roundness(total),
        _fibres(total),
    ]


def _nucleus(density: NDArray[np.float32], total: NDArray[np.float32]) -> NDArray[np.float32]:
    """(3,) mean density of what is densest in the middle."""
    near = total[_NEAR]
    count = int(_NUCLEUS_SHARE * len(near))
    densest = np.argpartition(near, len(near) - count)[-count:]
    return np.asarray(density[_NEAR][densest].mean(axis=0))


def _around(density: NDArray[np.float32], total: NDArray[np.float32]) -> NDArray[np.float32]:
    """(3,) mean density of the middle half of all: neither nuclei nor glass."""
    flat = total[::2, ::2].ravel()  # every fourth pixel says the same
    quarter = len(flat) // 4
    middle = np.argsort(flat)[quarter : 3 * quarter]
    return np.asarray(density[::2, ::2].reshape(-1, 3)[middle].mean(axis=0))


def _structure(total: NDArray[np.float32]) -> tuple[float, float]:
    """Details of 0.5 to 1 µm against those of 1 to 2 µm, and these against those of 2 to 4 µm."""
    blurred = [cv2.GaussianBlur(total, (0, 0), sigma) for sigma in (1, 2, 4, 8)]
    fine, middle, coarse = (
        np.log(float(np.square(a - b).mean()) + _LEAST_ENERGY) for a, b in pairwise(blurred)
    )
    return float(fine - middle), float(middle - coarse)


def _roundness(total: NDArray[np.float32]) -> float:
    """How much of the density's variance the distance from the centre explains, up to 1."""
    rings = np.bincount(_RINGS.ravel(), total.ravel()) / _RING_SIZES
    seen, explained = total[_ROUND], rings[_RINGS][_ROUND]
    left = float(np.square(seen - explained).mean())
    return 1 - left / (float(np.square(seen - seen.mean()).mean()) + _LEAST_ENERGY)


def _fibres(total: NDArray[np.float32]) -> float:
    """How much the edges at a place run one way, 0..1: coherence of the structure tensor.

    Bigün & Granlund, ICCV 1987; over places of 3 µm, weighted by their edges.
    """
    smooth = cv2.GaussianBlur(total, (0, 0), 1)
    dx, dy = cv2.Sobel(smooth, cv2.CV_32F, 1, 0), cv2.Sobel(smooth, cv2.CV_32F, 0, 1)
    xx, yy, xy = (cv2.GaussianBlur(part, (0, 0), 3) for part in (dx * dx, dy * dy, dx * dy))
    return float(np.hypot(xx - yy, 2 * xy).sum() / ((xx + yy).sum() + _LEAST_ENERGY))
