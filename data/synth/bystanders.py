"""What lies among the squamous cells and is not in the truth: leukocytes, blood, debris, mucus."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from data.synth.noise import CHROMATIN, CLOUDS, GRAIN, GRANULES, PATCHES, FloatImage
from data.synth.shapes import Sketch, blob, spindle, turn
from data.synth.stain import Stain, layer_of

Painter = Callable[[np.random.Generator, Stain, Sketch, float], FloatImage]
"""(rng, stain, raster around the thing, defocus in µm) -> density (3, H, W) on the raster."""


def draw_leukocyte(
    rng: np.random.Generator, stain: Stain, sketch: Sketch, defocus: float
) -> FloatImage:
    """A neutrophil: two to four dark lobes in a pale, small cell; some are round lymphocytes."""
    lobes = int(rng.choice([1, 2, 3, 4], p=[0.16, 0.34, 0.34, 0.16]))
    angles = rng.uniform(0.0, 2.0 * np.pi) + np.cumsum(rng.uniform(1.2, 2.4, lobes))
    distance = 0.0 if lobes == 1 else rng.uniform(1.4, 2.2)
    areas = rng.uniform(5, 10, lobes) if lobes > 1 else rng.uniform(14, 26, 1)
    at = distance * np.stack([np.cos(angles), np.sin(angles)], 1)
    outlines = [
        blob(rng, area, rng.uniform(1.0, 1.5), 0.05) + place
        for area, place in zip(areas, at, strict=True)
    ]
    dark = sketch.mask(*outlines, soft=0.25)
    dark *= (1.0 + 0.16 * sketch.noise(rng, CHROMATIN)) * np.float32(rng.uniform(0.6, 1.15))
    density = layer_of(sketch.blur(dark, defocus), stain.leukocyte)
    if rng.random() < 0.6:
        body = sketch.mask(blob(rng, rng.uniform(55, 95), rng.uniform(1.0, 1.5), 0.06), soft=0.5)
        body *= (0.35 + 0.1 * sketch.noise(rng, GRANULES)) * np.float32(rng.uniform(0.2, 1.2))
        density += layer_of(sketch.blur(body, defocus), stain.cyan)
    return density


def draw_erythrocyte(
    rng: np.random.Generator, stain: Stain, sketch: Sketch, defocus: float
) -> FloatImage:
    """A red blood cell: a smooth, even oval of 5 to 9 µm."""
    outline = blob(rng, rng.uniform(18, 38), rng.uniform(1.0, 2.0), 0.04)
    body = sketch.mask(outline, soft=0.3)
    body *= (1.0 - 0.25 * sketch.glow(1.5)) * np.float32(rng.uniform(0.35, 0.9))
    return layer_of(sketch.blur(body, defocus), stain.blood)


def draw_debris(
    rng: np.random.Generator, stain: Stain, sketch: Sketch, defocus: float
) -> FloatImage:
    """A ragged flake, a bare and smudged nucleus, or a dark speck of dirt."""
    kind = rng.choice(3, p=[0.6, 0.25, 0.15])
    area = (rng.uniform(20, 160), rng.uniform(12, 40), rng.uniform(2, 14))[kind]
    outline = blob(rng, area, rng.uniform(1.0, 2.2), (0.25, 0.12, 0.15)[kind])
    body = sketch.mask(np.clip(outline, -12.0, 12.0), soft=(0.8, 0.5, 0.15)[kind])
    body *= np.maximum(0.6 + 0.4 * sketch.noise(rng, GRANULES), 0.0)
    colour = (stain.grime, stain.leukocyte * np.float32(0.4), stain.leukocyte)[kind]
    body *= np.float32(rng.uniform(0.4, 1.2))
    return layer_of(sketch.blur(body, defocus), colour)


def draw_mucus(
    rng: np.random.Generator, stain: Stain, sketch: Sketch, defocus: float
) -> FloatImage:
    """A strand of mucus, drawn out along the smear."""
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
    return layer_of(strand, colour * np.float32(rng.uniform(0.2, 0.6)))


def draw_diathesis(
    rng: np.random.Generator, stain: Stain, sketch: Sketch, defocus: float
) -> FloatImage:
    """A patch of tumour diathesis: granular, bloody necrosis around an invasive cancer."""
    cloud = np.clip(0.45 + 0.5 * sketch.noise(rng, PATCHES), 0.0, None) * sketch.glow(16.0)
    cloud *= np.maximum(1.0 + 0.45 * sketch.noise(rng, CHROMATIN), 0.0)
    cloud = sketch.blur(cloud.astype(np.float32), defocus)
    density = layer_of(cloud, stain.grime)
    density += layer_of(cloud * np.float32(0.35), stain.blood)
    return density


def draw_anucleate(
    rng: np.random.Generator, stain: Stain, sketch: Sketch, defocus: float
) -> FloatImage:
    """A squame or a shred of cytoplasm without a nucleus."""
    if rng.random() < 0.6:
        outline = blob(rng, rng.uniform(120, 700), rng.uniform(1.0, 1.9), 0.1)
    else:
        strip = spindle(rng, rng.uniform(20, 40), rng.uniform(4, 9), 0.4, 0.5)
        outline = turn(strip, rng.uniform(0.0, 2.0 * np.pi))
    body = sketch.mask(np.clip(outline, -28.0, 28.0), soft=0.4)
    body *= 0.8 + 0.15 * sketch.noise(rng, PATCHES) + 0.2 * sketch.noise(rng, GRAIN)
    body *= np.float32(rng.uniform(0.2, 0.8))
    colour = (stain.cyan, stain.eosin, stain.pink)[int(rng.integers(3))]
    return layer_of(sketch.blur(body, defocus), colour)
