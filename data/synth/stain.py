"""Papanicolaou stain as optical density: layers add, light multiplies (Beer-Lambert).

Densities are natural logarithms for red, green and blue, so a pixel is
``255 * exp(-density)``. The anchors were set by eye and by the medians of real fields.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data.synth.noise import FloatImage

Density = NDArray[np.float32]
"""(3,) optical density of red, green and blue at unit thickness."""

# One row a component, in the order of `Stain`'s fields: glass, film, grime, eosin, pink, cyan,
# nucleus, leukocyte, blood.
_ANCHORS = np.array(
    [
        [  # strong Papanicolaou: orange and blue-green, violet-black nuclei
            [0.03, 0.010, 0.005], [0.10, 0.03, 0.02], [0.45, 0.30, 0.28], [0.03, 0.46, 1.05],
            [0.05, 0.34, 0.42], [0.80, 0.28, 0.34], [1.05, 1.50, 0.95], [2.00, 2.10, 1.20],
            [0.10, 0.65, 1.50],
        ],
        [  # pale, lilac and salmon
            [0.05, 0.025, 0.010], [0.05, 0.04, 0.01], [0.42, 0.42, 0.18], [0.06, 0.40, 0.58],
            [0.08, 0.32, 0.28], [0.28, 0.30, 0.16], [0.80, 1.20, 0.62], [1.40, 1.70, 0.80],
            [0.10, 0.16, 0.12],
        ],
        [  # cold: nearly all cells blue-green, nuclei deep blue
            [0.03, 0.015, 0.010], [0.13, 0.05, 0.04], [0.55, 0.30, 0.25], [0.05, 0.40, 0.70],
            [0.20, 0.32, 0.30], [0.75, 0.32, 0.26], [1.40, 1.55, 0.85], [2.10, 2.05, 1.10],
            [0.12, 0.50, 1.20],
        ],
        [  # warm and dense: pink to brown
            [0.04, 0.035, 0.040], [0.04, 0.05, 0.06], [0.35, 0.42, 0.32], [0.08, 0.60, 1.00],
            [0.10, 0.48, 0.52], [0.50, 0.34, 0.34], [0.95, 1.40, 0.95], [1.60, 2.00, 1.30],
            [0.15, 0.75, 1.30],
        ],
    ],
    np.float32,
)  # fmt: skip


@dataclass(frozen=True)
class Stain:
    """How one slide took its stain: density of each component at unit thickness.

    ``eosinophilia``, -0.3..0.3, shifts the balance of orange and blue-green cells.
    """

    eosinophilia: float
    glass: Density
    film: Density
    grime: Density
    eosin: Density
    pink: Density
    cyan: Density
    nucleus: Density
    leukocyte: Density
    blood: Density


def sample_stain(rng: np.random.Generator) -> Stain:
    """A stain between the anchors: no two slides come out of the bath alike."""
    weights = rng.dirichlet([0.8, 0.45, 0.45, 0.35])
    components = np.tensordot(weights, _ANCHORS, 1)
    strength = np.exp(rng.normal(0.0, 0.12, (len(components), 1)))
    hue = np.exp(rng.normal(0.0, 0.08, components.shape))
    components = (components * strength * hue).astype(np.float32)
    eosinophilia = float(rng.uniform(-0.3, 0.3))
    return Stain(eosinophilia, *components)


def layer_of(thickness: FloatImage, component: Density) -> FloatImage:
    """Density (3, H, W) of a layer of one component, ``thickness`` (H, W)."""
    return np.multiply.outer(component, thickness)


def develop(density: FloatImage, pixels: NDArray[np.uint8]) -> None:
    """Turns density (3, H, W) into ``pixels`` (H, W, 3), what the camera sees.

    Overwrites ``density``.
    """
    np.negative(density, out=density)
    np.exp(density, out=density)
    density *= np.float32(255.0)
    density += np.float32(0.5)
    np.clip(density, 0.0, 255.0, out=density)
    pixels[:] = density.transpose(1, 2, 0)
