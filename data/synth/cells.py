"""Squamous cells, planned by their Bethesda criteria and drawn in optical density.

A plan says what a cell is like, in µm and µm²; drawing turns it into two stamps, the cytoplasm
and the nuclei. The criteria are those of Nayar and Wilbur, The Bethesda System for Reporting
Cervical Cytology (2014), with the intermediate cell's nucleus, 35 µm², as the yardstick.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from data.synth.noise import CHROMATIN, CLOUDS, GRAIN, GRANULES, FloatImage
from data.synth.shapes import Outline, Sketch, area_of, blob, polygon, spindle, turn
from data.synth.stain import Density, Stain, layer_of

CLASSES = ("NILM", "ASC-US", "LSIL", "ASC-H", "HSIL", "SCC")
"""Names of the labels 0..5, in the order of severity and of CRIC's categories 1..6."""

INTERMEDIATE_NUCLEUS_UM2 = 35.0

REACH_UM = 62.0
"""No cell, its blur included, reaches further than this from its nucleus."""


class Stamp(NamedTuple):
    """Density (3, H, W) to add to the slide at pixel (x, y)."""

    x: int
    y: int
    density: FloatImage


@dataclass(frozen=True)
class Nucleus:
    """One nucleus of a cell.

    Attributes:
        outline: in µm around the cell's centre.
        darkness: multiple of the stain's nuclear density.
        coarseness: 0 for fine, even chromatin; 1 for coarse clumps.
        membrane: how strongly the rim stands out.
        nucleoli: how many, dark and round.
    """

    outline: Outline
    darkness: float
    coarseness: float
    membrane: float = 0.2
    nucleoli: int = 0


@dataclass(frozen=True)
class CellPlan:
    """All that is decided about a cell before it is drawn.

    Attributes:
        cytoplasm: outline in µm around the nucleus centre.
        nuclei: one or more.
        outer: colour of the cytoplasm towards its edge.
        inner: colour around the nucleus.
        thickness: multiple of the colours' density.
        granularity: how coarse the cytoplasm's grain is.
        folds: number of fold lines.
        halo: outline of a koilocytic halo, or None.
    """

    cytoplasm: Outline
    nuclei: tuple[Nucleus, ...]
    outer: Density
    inner: Density
    thickness: float
    granularity: float = 0.12
    folds: int = 0
    halo: Outline | None = None

    @property
    def nuclear_area(self) -> float:
        """Area of the largest nucleus in µm²."""
        return max(area_of(nucleus.outline) for nucleus in self.nuclei)


def plan_cell(label: int, rng: np.random.Generator, stain: Stain) -> CellPlan:
    """Decides what a cell of class ``CLASSES[label]`` looks like."""
    return _PLANNERS[label](rng, stain)


def draw_cell(
    plan: CellPlan,
    rng: np.random.Generator,
    stain: Stain,
    center: tuple[float, float],
    mpp: float,
    defocus: float = 0.0,
) -> list[Stamp]:
    """Draws a planned cell.

    Args:
        plan: what the cell is like.
        rng: for texture.
        stain: the slide's stain.
        center: nucleus centre in slide pixels.
        mpp: µm per pixel.
        defocus: blur in µm on top of the lens's own.
    """
    whole = Sketch.around(center, mpp, reach_of(plan, defocus))
    stamps = [_draw_cytoplasm(plan, rng, whole, defocus)]
    nuclei = np.abs(np.concatenate([nucleus.outline for nucleus in plan.nuclei]))
    sketch = Sketch.around(center, mpp, float(nuclei.max()) + 1.5 + 3.0 * defocus)
    density = np.zeros((sketch.height, sketch.width), np.float32)
    for nucleus in plan.nuclei:
        density += _draw_nucleus(nucleus, rng, sketch, defocus)
    stamps.append(Stamp(sketch.x, sketch.y, layer_of(density, stain.nucleus)))
    return stamps


def reach_of(plan: CellPlan, defocus: float) -> float:
    """How far from its nucleus a cell reaches along x or y, its blur included, in µm."""
    outlines = [plan.cytoplasm, *(nucleus.outline for nucleus in plan.nuclei)]
    extent = max(float(np.abs(outline).max()) for outline in outlines)
    return min(extent + 1.5 + 3.0 * defocus, REACH_UM)


# --- the criteria, class by class ---------------------------------------------------------------


def _plan_normal(rng: np.random.Generator, stain: Stain) -> CellPlan:
    kind = rng.choice(3, p=[0.32, 0.56, 0.12])
    return (_plan_superficial, _plan_intermediate, _plan_parabasal)[kind](rng, stain)


def _plan_superficial(rng: np.random.Generator, stain: Stain) -> CellPlan:
    """A large flat cell, mostly eosinophilic, with a small, structureless (pyknotic) nucleus."""
    nucleus = Nucleus(
        blob(rng, rng.uniform(13, 21), rng.uniform(1.0, 1.6), 0.03), rng.uniform(1.1, 1.6), 0.05, 0
    )
    return _flat_cell(rng, stain, (nucleus,), radius=rng.uniform(19, 29), eosinophilic=0.75)


def _plan_intermediate(rng: np.random.Generator, stain: Stain) -> CellPlan:
    nucleus = Nucleus(
        blob(rng, rng.uniform(28, 44), rng.uniform(1.0, 1.45), 0.02),
        rng.uniform(0.55, 1.05), rng.uniform(0.3, 0.7), 0.25,
    )  # fmt: skip
    return _flat_cell(rng, stain, (nucleus,), radius=rng.uniform(17, 28), eosinophilic=0.42)


def _plan_parabasal(rng: np.random.Generator, stain: Stain) -> CellPlan:
    """A round, dense cell with a bland nucleus; normal, though its N/C ratio is raised."""
    nucleus = Nucleus(
        blob(rng, rng.uniform(36, 52), rng.uniform(1.0, 1.3), 0.02),
        rng.uniform(0.6, 1.0), rng.uniform(0.3, 0.6), 0.25,
    )  # fmt: skip
    body = blob(rng, rng.uniform(300, 560), rng.uniform(1.0, 1.35), 0.03)
    outer, inner = _colours(rng, stain, 0.25)
    return CellPlan(body, (nucleus,), outer, inner, rng.uniform(0.7, 1.3))


def _plan_ascus(rng: np.random.Generator, stain: Stain) -> CellPlan:
    """Nucleus 2.5 to 3 times an intermediate one's area, only a little darker."""
    area = INTERMEDIATE_NUCLEUS_UM2 * rng.uniform(2.5, 3.0)
    nucleus = Nucleus(
        blob(rng, area, rng.uniform(1.0, 1.4), 0.025),
        rng.uniform(0.6, 1.0), rng.uniform(0.4, 0.8), 0.25,
    )  # fmt: skip
    return _flat_cell(rng, stain, (nucleus,), radius=rng.uniform(18, 27), eosinophilic=0.5)


def _plan_lsil(rng: np.random.Generator, stain: Stain) -> CellPlan:
    """A mature cell with a nucleus above three times normal; often two nuclei, or a halo."""
    area = INTERMEDIATE_NUCLEUS_UM2 * rng.uniform(3.1, 5.2)
    pair = rng.random() < 0.3
    nuclei = _pair(rng, area * 0.75) if pair else (_lsil_nucleus(rng, area),)
    plan = _flat_cell(rng, stain, nuclei, radius=rng.uniform(20, 29), eosinophilic=0.6)
    if rng.random() < 0.45:
        extent = np.abs(np.concatenate([nucleus.outline for nucleus in nuclei])).max()
        halo = blob(rng, np.pi * (extent + rng.uniform(2.5, 5.0)) ** 2, rng.uniform(1, 1.3), 0.05)
        plan = replace(plan, halo=halo, thickness=plan.thickness * 1.25)
    return plan


def _lsil_nucleus(rng: np.random.Generator, area: float) -> Nucleus:
    outline = blob(rng, area, rng.uniform(1.0, 1.5), rng.uniform(0.025, 0.06))
    return Nucleus(outline, rng.uniform(0.65, 1.1), rng.uniform(0.6, 1.1), 0.3)


def _pair(rng: np.random.Generator, area: float) -> tuple[Nucleus, Nucleus]:
    """Two nuclei side by side, their common centre at the origin."""
    area = max(area, INTERMEDIATE_NUCLEUS_UM2 * 3.05)
    angle = rng.uniform(0.0, 2.0 * np.pi)
    apart = np.sqrt(area / np.pi) * rng.uniform(0.9, 1.1)
    step = apart * np.array([np.cos(angle), np.sin(angle)])
    one, other = _lsil_nucleus(rng, area), _lsil_nucleus(rng, area * rng.uniform(1.0, 1.1))
    return replace(one, outline=one.outline + step), replace(other, outline=other.outline - step)


def _plan_asch(rng: np.random.Generator, stain: Stain) -> CellPlan:
    """A small cell with a high N/C ratio; its nucleus 1.5 to 2.5 times normal."""
    area = INTERMEDIATE_NUCLEUS_UM2 * rng.uniform(1.5, 2.5)
    nucleus = Nucleus(
        blob(rng, area, rng.uniform(1.05, 1.5), rng.uniform(0.03, 0.06)),
        rng.uniform(0.75, 1.15), rng.uniform(0.6, 1.0), 0.3,
    )  # fmt: skip
    return _immature_cell(rng, stain, nucleus, nc_ratio=rng.uniform(0.42, 0.62))


def _plan_hsil(rng: np.random.Generator, stain: Stain) -> CellPlan:
    """Immature: little cytoplasm, dark coarse chromatin, an uneven nuclear contour."""
    area = rng.uniform(60, 135)
    nucleus = Nucleus(
        blob(rng, area, rng.uniform(1.0, 1.55), rng.uniform(0.05, 0.09)),
        rng.uniform(0.8, 1.25), rng.uniform(0.8, 1.2), 0.35,
    )  # fmt: skip
    return _immature_cell(rng, stain, nucleus, nc_ratio=rng.uniform(0.5, 0.75))


def _plan_scc(rng: np.random.Generator, stain: Stain) -> CellPlan:
    """Half keratinising (spindle, tadpole, orange), half not (round, with macronucleoli)."""
    if rng.random() < 0.5:
        return _keratinising(rng, stain)
    nucleus = Nucleus(
        blob(rng, rng.uniform(75, 190), rng.uniform(1.0, 1.5), rng.uniform(0.07, 0.12)),
        rng.uniform(0.95, 1.4), 1.2, 0.4, nucleoli=int(rng.integers(1, 3)),
    )  # fmt: skip
    plan = _immature_cell(rng, stain, nucleus, nc_ratio=rng.uniform(0.4, 0.65))
    return replace(plan, thickness=plan.thickness * 1.2)


def _keratinising(rng: np.random.Generator, stain: Stain) -> CellPlan:
    head = rng.choice([0.5, rng.uniform(0.22, 0.3)])
    body = spindle(rng, rng.uniform(40, 62), rng.uniform(11, 18), head, rng.uniform(-0.6, 0.6))
    along = np.arctan2(*(body[20] - body[0])[::-1])
    long_nucleus = blob(rng, rng.uniform(55, 120), 1.0, rng.uniform(0.07, 0.12))
    long_nucleus = turn(long_nucleus * np.array([1.45, 1 / 1.45]), along)
    nucleus = Nucleus(long_nucleus, rng.uniform(1.2, 1.8), 0.5, 0.2)
    return CellPlan(body, (nucleus,), stain.eosin, stain.eosin, rng.uniform(1.0, 1.7), folds=1)


_PLANNERS: tuple[Callable[[np.random.Generator, Stain], CellPlan], ...] = (
    _plan_normal, _plan_ascus, _plan_lsil, _plan_asch, _plan_hsil, _plan_scc,
)  # fmt: skip


def _flat_cell(
    rng: np.random.Generator,
    stain: Stain,
    nuclei: tuple[Nucleus, ...],
    radius: float,
    eosinophilic: float,
) -> CellPlan:
    """A mature, polygonal, translucent cell around its nuclei."""
    body = polygon(rng, radius, rng.uniform(1.0, 1.5)) + rng.normal(0.0, 0.12 * radius, 2)
    outer, inner = _colours(rng, stain, eosinophilic)
    thickness = float(np.exp(rng.normal(np.log(0.55), 0.4)))
    return CellPlan(
        body, nuclei, outer, inner, thickness, rng.uniform(0.03, 0.13), int(rng.integers(0, 5))
    )


def _immature_cell(
    rng: np.random.Generator, stain: Stain, nucleus: Nucleus, nc_ratio: float
) -> CellPlan:
    """A small dense cell whose nucleus takes up ``nc_ratio`` of its area."""
    area = area_of(nucleus.outline) / nc_ratio
    body = blob(rng, area, rng.uniform(1.0, 1.3), 0.05)
    slack = np.sqrt(area / np.pi) * (1.0 - np.sqrt(nc_ratio))
    body = body + rng.uniform(-0.45, 0.45, 2) * slack
    outer, inner = _colours(rng, stain, 0.22)
    return CellPlan(body, (nucleus,), outer, inner, rng.uniform(0.6, 1.3), 0.1)


def _colours(
    rng: np.random.Generator, stain: Stain, eosinophilic: float
) -> tuple[Density, Density]:
    """Outer and inner colour of a cytoplasm; one in five cells is amphophilic."""
    warm = stain.pink + (stain.eosin - stain.pink) * np.float32(rng.beta(0.7, 0.7))
    outer = warm if rng.random() < eosinophilic + stain.eosinophilia else stain.cyan
    other = stain.cyan if outer is warm else warm
    mix = np.float32(rng.uniform(0.4, 1.0) if rng.random() < 0.2 else rng.uniform(0.0, 0.15))
    return outer, outer + (other - outer) * mix


# --- drawing ------------------------------------------------------------------------------------


def _draw_cytoplasm(
    plan: CellPlan, rng: np.random.Generator, sketch: Sketch, defocus: float
) -> Stamp:
    body = sketch.mask(plan.cytoplasm, 0.35)
    middle = sketch.glow(0.35 * float(np.sqrt(area_of(plan.cytoplasm))))
    relief = 0.10 * sketch.noise(rng, CLOUDS)
    relief += plan.granularity * sketch.noise(rng, GRAIN)
    relief += 0.25 * middle
    relief += 1.0 - 0.3 * sketch.blur(body, 1.3)  # thicker again at the edge, where it curls
    if plan.folds:
        relief += 0.35 * _folds(plan, rng, sketch)
    if plan.halo is not None:
        relief *= _halo(plan.halo, sketch)
    relief *= 1.0 - 0.55 * _union(plan.nuclei, sketch)  # a nucleus displaces the cytoplasm
    np.maximum(relief, 0.05, out=relief)
    body *= relief
    body *= np.float32(plan.thickness)
    thickness = sketch.blur(body, defocus)
    share = np.asarray(np.clip(1.3 * middle + 0.15 * relief - 0.2, 0.0, 1.0), np.float32)
    density = layer_of(thickness, plan.outer)
    density += layer_of(share * thickness, plan.inner - plan.outer)
    return Stamp(sketch.x, sketch.y, density)


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


def _halo(outline: Outline, sketch: Sketch) -> FloatImage:
    """A cleared zone with a sharp, condensed border."""
    inside = sketch.mask(outline, 0.3)
    border = sketch.blur(inside, 1.6) * (1.0 - inside)
    return np.asarray(1.0 - 0.75 * inside + 1.4 * border, np.float32)


def _union(nuclei: tuple[Nucleus, ...], sketch: Sketch) -> FloatImage:
    first, *rest = (sketch.mask(nucleus.outline, 0.3) for nucleus in nuclei)
    for mask in rest:
        np.maximum(first, mask, out=first)
    return first


def _draw_nucleus(
    nucleus: Nucleus, rng: np.random.Generator, sketch: Sketch, defocus: float
) -> FloatImage:
    mask = sketch.mask(nucleus.outline, 0.22)
    clumps = sketch.noise(rng, CHROMATIN)
    relief: FloatImage = 1.0 + np.float32(nucleus.coarseness * 0.24) * clumps
    relief += nucleus.coarseness * 0.12 * sketch.noise(rng, GRANULES)
    relief += nucleus.membrane * 2.2 * (mask - sketch.blur(mask, 0.55))
    if nucleus.nucleoli:
        spread = 0.3 * np.sqrt(area_of(nucleus.outline) / np.pi)
        points = rng.normal(0.0, spread, (nucleus.nucleoli, 2)) + nucleus.outline.mean(0)
        relief += 0.9 * sketch.dots(points, rng.uniform(0.8, 1.4, nucleus.nucleoli), 0.2)
    np.clip(relief, 0.25, 2.2, out=relief)
    mask *= relief
    mask *= np.float32(nucleus.darkness)
    return sketch.blur(mask, defocus)
