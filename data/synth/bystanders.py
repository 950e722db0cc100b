"""What lies among the squamous cells and is not in the truth: leukocytes, blood, debris, mucus."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from data.synth.cells import Stamp
from data.synth.noise import CHROMATIN, CLOUDS, GRAIN, GRANULES, PATCHES
from data.synth.shapes import Sketch, blob, spindle, turn
from data.synth.stain import Stain, layer_of

Painter = Callable[[np.random.Generator, Stain, tuple[float, float], float, float], Stamp]
"""(rng, stain, centre in slide pixels, mpp, defocus in µm) -> stamp."""


def draw_leukocyte(
    rng: np.random.Generator, stain: Stain, center: tuple[float, float], mpp: float, defocus: float
) -> Stamp:
    """A neutrophil: two to four dark lobes in a pale, small cell; some are round lymphocytes."""
    sketch = Sketch.around(center, mpp, 8.5 + 3.0 * defocus)
    lobes = int(rng.choice([1, 2, 3, 4], p=[0.16, 0.34, 0.34, 0.16]))
    angles = rng.uniform(0.0, 2.0 * np.pi) + np.cumsum(rng.uniform(1.2, 2.4, lobes))
    distance = 0.0 if lobes == 1 else rng.uniform(1.4, 2.2)
    dark = np.zeros((sketch.height, sketch.width), np.float32)
    for angle in angles:
        area = rng.uniform(14, 26) if lobes == 1 else rng.uniform(5, 10)
        outline = blob(rng, area, rng.uniform(1.0, 1.5), 0.05)
        at = distance * np.array([np.cos(angle), np.sin(angle)])
        np.maximum(dark, sketch.mask(outline + at, 0.25), out=dark)
    dark *= (1.0 + 0.16 * sketch.noise(rng, CHROMATIN)) * np.float32(rng.uniform(0.6, 1.15))
    density = layer_of(sketch.blur(dark, defocus), stain.leukocyte)
    if rng.random() < 0.6:
        body = sketch.mask(blob(rng, rng.uniform(55, 95), rng.uniform(1.0, 1.5), 0.06), 0.5)
        body *= (0.35 + 0.1 * sketch.noise(rng, GRANULES)) * np.float32(rng.uniform(0.2, 1.2))
        density += layer_of(sketch.blur(body, defocus), stain.cyan)
    return Stamp(sketch.x, sketch.y, density)


def draw_erythrocyte(
    rng: np.random.Generator, stain: Stain, center: tuple[float, float], mpp: float, defocus: float
) -> Stamp:
    """A red blood cell: a smooth, even oval of 5 to 9 µm."""
    sketch = Sketch.around(center, mpp, 8.0 + 3.0 * defocus)
    outline = blob(rng, rng.uniform(18, 38), rng.uniform(1.0, 2.0), 0.04)
    body = sketch.mask(outline, 0.3)
    body *= (1.0 - 0.25 * sketch.glow(1.5)) * np.float32(rng.uniform(0.35, 0.9))
    return Stamp(sketch.x, sketch.y, layer_of(sketch.blur(body, defocus), stain.blood))


def draw_debris(
    rng: np.random.Generator, stain: Stain, center: tuple[float, float], mpp: float, defocus: float
) -> Stamp:
    """A ragged flake, a bare and smudged nucleus, or a dark speck of dirt."""
    kind = rng.choice(3, p=[0.6, 0.25, 0.15])
    sketch = Sketch.around(center, mpp, 14.0 + 3.0 * defocus)
    area = (rng.uniform(20, 160), rng.uniform(12, 40), rng.uniform(2, 14))[kind]
    outline = blob(rng, area, rng.uniform(1.0, 2.2), (0.25, 0.12, 0.15)[kind])
    body = sketch.mask(np.clip(outline, -12.0, 12.0), (0.8, 0.5, 0.15)[kind])
    body *= np.maximum(0.6 + 0.4 * sketch.noise(rng, GRANULES), 0.0)
    colour = (stain.grime, stain.leukocyte * np.float32(0.4), stain.leukocyte)[kind]
    body *= np.float32(rng.uniform(0.4, 1.2))
    return Stamp(sketch.x, sketch.y, layer_of(sketch.blur(body, defocus), colour))


def draw_mucus(
    rng: np.random.Generator, stain: Stain, center: tuple[float, float], mpp: float, defocus: float
) -> Stamp:
    """A strand of mucus, drawn out along the smear."""
    sketch = Sketch.around(center, mpp, 68.0 + 3.0 * defocus)
    count = int(rng.integers(1, 5))
    lean = rng.normal(0.0, 0.35)
    paths = []
    for _ in range(count):
        t = np.linspace(-1.0, 1.0, 24)
        wave = rng.normal(0.0, 4.0) * np.sin(t * rng.uniform(1.0, 4.0) + rng.uniform(0.0, 6.0))
        path = np.stack([t * rng.uniform(35.0, 58.0), wave + rng.normal(0.0, 3.0)], 1)
        paths.append(turn(path, lean))
    strand = sketch.lines(paths, rng.uniform(0.3, 1.6), rng.uniform(0.3, 1.2) + defocus)
    strand *= sketch.glow(26.0) * np.maximum(0.7 + 0.3 * sketch.noise(rng, CLOUDS), 0.0)
    colour = stain.leukocyte if rng.random() < 0.5 else stain.cyan
    return Stamp(sketch.x, sketch.y, layer_of(strand, colour * np.float32(rng.uniform(0.2, 0.6))))


def draw_diathesis(
    rng: np.random.Generator, stain: Stain, center: tuple[float, float], mpp: float, defocus: float
) -> Stamp:
    """A patch of tumour diathesis: granular, bloody necrosis around an invasive cancer."""
    sketch = Sketch.around(center, mpp, 48.0 + 3.0 * defocus)
    cloud = np.clip(0.45 + 0.5 * sketch.noise(rng, PATCHES), 0.0, None) * sketch.glow(16.0)
    cloud *= np.maximum(1.0 + 0.45 * sketch.noise(rng, CHROMATIN), 0.0)
    cloud = sketch.blur(cloud.astype(np.float32), defocus)
    density = layer_of(cloud, stain.grime)
    density += layer_of(cloud * np.float32(0.35), stain.blood)
    return Stamp(sketch.x, sketch.y, density)


def draw_anucleate(
    rng: np.random.Generator, stain: Stain, center: tuple[float, float], mpp: float, defocus: float
) -> Stamp:
    """A squame or a shred of cytoplasm without a nucleus."""
    sketch = Sketch.around(center, mpp, 30.0 + 3.0 * defocus)
    if rng.random() < 0.6:
        outline = blob(rng, rng.uniform(120, 700), rng.uniform(1.0, 1.9), 0.1)
    else:
        outline = spindle(rng, rng.uniform(20, 40), rng.uniform(4, 9), 0.4, 0.5)
    body = sketch.mask(np.clip(outline, -28.0, 28.0), 0.4)
    body *= 0.8 + 0.15 * sketch.noise(rng, PATCHES) + 0.2 * sketch.noise(rng, GRAIN)
    body *= np.float32(rng.uniform(0.2, 0.8))
    colour = (stain.cyan, stain.eosin, stain.pink)[int(rng.integers(3))]
    return Stamp(sketch.x, sketch.y, layer_of(sketch.blur(body, defocus), colour))
