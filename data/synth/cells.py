"""Squamous cells, drawn from their plans in optical density."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from data.synth.criteria import CellPlan, Nucleus
from data.synth.noise import CHROMATIN, CLOUDS, GRAIN, GRANULES, FloatImage
from data.synth.shapes import Outline, Sketch, area_of
from data.synth.stain import Stain, layer_of

REACH_UM = 62.0
"""No cell, its blur included, reaches further than this from its nucleus."""


class Stamp(NamedTuple):
    """Density (3, H, W) to add to the slide at pixel (x, y)."""

    x: int
    y: int
    density: FloatImage


def reach_of(plan: CellPlan, defocus: float, beyond: float = 0.0) -> float:
    """How far from its nucleus a cell reaches along x or y, its blur included, in µm.

    ``beyond`` is how much further than `REACH_UM` it may.
    """
    outlines = [plan.cytoplasm, *(nucleus.outline for nucleus in plan.nuclei)]
    extent = max(float(np.abs(outline).max()) for outline in outlines)
    return min(extent + 2.0 + 3.0 * defocus, REACH_UM + beyond)


def draw_cell(
    plan: CellPlan,
    rng: np.random.Generator,
    stain: Stain,
    center: tuple[float, float],
    mpp: float,
    defocus: float = 0.0,
    room: float | None = None,
) -> tuple[Stamp, Stamp]:
    """Draws a planned cell: its cytoplasm and its nuclei.

    Args:
        plan: what the cell is like.
        rng: for texture.
        stain: the slide's stain.
        center: nucleus centre in slide pixels.
        mpp: µm per pixel.
        defocus: blur in µm on top of the lens's own.
        room: blur in µm for which there is room, of a cell that is drawn in several focal planes:
            with the same room its texture is the same; by default the blur.
    """
    whole = Sketch.around(center, mpp, reach_of(plan, room or defocus, 3.0 * (room or 0.0)))
    cytoplasm = _draw_cytoplasm(plan, rng, whole, defocus)
    extent = max(float(np.abs(nucleus.outline).max()) for nucleus in plan.nuclei)
    sketch = Sketch.around(center, mpp, extent + 1.5 + 3.0 * (room or defocus))
    density = np.zeros((sketch.height, sketch.width), np.float32)
    for nucleus in plan.nuclei:
        density += _draw_nucleus(nucleus, rng, sketch, defocus)
    return cytoplasm, Stamp(sketch.x, sketch.y, layer_of(density, stain.nucleus))


def _draw_cytoplasm(
    plan: CellPlan, rng: np.random.Generator, sketch: Sketch, defocus: float
) -> Stamp:
    body = sketch.mask(plan.cytoplasm, soft=plan.softness)
    middle = sketch.glow(0.32 * float(np.sqrt(area_of(plan.cytoplasm))))
    relief = _relief(plan, rng, sketch, body, middle)
    body *= relief
    body *= np.float32(plan.thickness)
    thickness = sketch.blur(body, defocus)
    inner = np.asarray(np.clip(1.3 * middle + 0.15 * relief - 0.2, 0.0, 1.0), np.float32)
    density = layer_of(thickness, plan.outer)
    density += layer_of(inner * thickness, plan.inner - plan.outer)
    return Stamp(sketch.x, sketch.y, density)


def _relief(
    plan: CellPlan, rng: np.random.Generator, sketch: Sketch, body: FloatImage, middle: FloatImage
) -> FloatImage:
    """Thickness of the cytoplasm relative to the plan's."""
    relief = np.float32(0.10) * sketch.noise(rng, CLOUDS)
    relief += np.float32(plan.granularity) * sketch.noise(rng, GRAIN)
    relief += np.float32(plan.core) * middle
    relief += 1.0 - np.float32(0.3) * sketch.blur(body, 1.3)  # curls, so is thicker, at the edge
    if plan.folds:
        relief += np.float32(0.35) * _folds(plan, rng, sketch)
    if plan.flap is not None:
        relief += _flap(plan, plan.flap, rng, sketch)
    if plan.halo is not None:
        relief *= _halo(plan.halo, sketch)
    nuclei = sketch.mask(*(nucleus.outline for nucleus in plan.nuclei), soft=0.3)
    relief *= 1.0 - np.float32(0.55) * nuclei  # where they displace it
    return np.maximum(relief, np.float32(0.05))


def _folds(plan: CellPlan, rng: np.random.Generator, sketch: Sketch) -> FloatImage:
    """Fine lines from edge to edge, past the nucleus."""
    ends = rng.integers(0, len(plan.cytoplasm), (plan.folds, 2))
    paths = []
    for first, last in ends:
        a, b = plan.cytoplasm[first], plan.cytoplasm[last]
        bow = rng.normal(0.0, 0.12, 2) * np.linalg.norm(b - a)
        t = np.linspace(0.0, 1.0, 12)[:, None]
        paths.append(a + (b - a) * t + bow * 4.0 * t * (1.0 - t))
    return sketch.lines(paths, rng.uniform(0.3, 0.9), 0.35)


def _flap(plan: CellPlan, start: float, rng: np.random.Generator, sketch: Sketch) -> FloatImage:
    """An edge of the cell turned over onto itself: twice as thick beyond a sharp line."""
    angle = rng.uniform(0.0, 2.0 * np.pi)
    across = np.array([np.cos(angle), np.sin(angle)])
    along = np.array([-across[1], across[0]])
    far = float((plan.cytoplasm @ across).max())
    line = np.array([start * far, -2.0 * far, 2.0 * far])
    corners = [(line[0], line[1]), (line[0] + 0.06 * far, 0.0), (line[0], line[2])]
    corners += [(2.0 * far, line[2]), (2.0 * far, line[1])]
    outline = np.array([a * across + b * along for a, b in corners])
    return np.float32(rng.uniform(0.5, 0.9)) * sketch.mask(outline, soft=0.4)


def _halo(outline: Outline, sketch: Sketch) -> FloatImage:
    """A cleared zone with a sharp, condensed border."""
    inside = sketch.mask(outline, soft=0.3)
    border = sketch.blur(inside, 1.6) * (1.0 - inside)
    return np.asarray(1.0 - 0.72 * inside + 1.4 * border, np.float32)


def _draw_nucleus(
    nucleus: Nucleus, rng: np.random.Generator, sketch: Sketch, defocus: float
) -> FloatImage:
    mask = sketch.mask(nucleus.outline, soft=0.3)
    relief = np.float32(0.2 * nucleus.coarseness) * sketch.noise(rng, CHROMATIN)
    relief += np.float32(0.12 * nucleus.coarseness) * sketch.noise(rng, GRANULES)
    relief += 1.0 + np.float32(2.2 * nucleus.membrane) * (mask - sketch.blur(mask, 0.55))
    if nucleus.nucleoli:
        spread = 0.3 * np.sqrt(area_of(nucleus.outline) / np.pi)
        points = rng.normal(0.0, spread, (nucleus.nucleoli, 2)) + nucleus.outline.mean(0)
        radii = rng.uniform(0.8, 1.4, nucleus.nucleoli)
        relief += np.float32(0.9) * sketch.dots(points, radii, 0.2)
    np.clip(relief, 0.3, 2.2, out=relief)
    mask *= relief
    mask *= np.float32(nucleus.darkness)
    return sketch.blur(mask, defocus)
