"""What squamous cells are like: plans in µm and µm², made by the Bethesda criteria.

The criteria are those of Nayar and Wilbur, The Bethesda System for Reporting Cervical Cytology
(2014), with the intermediate cell's nucleus, 35 µm², as the yardstick. How dark nuclei are was
set by the medians of real fields: a higher grade is told by size, contour and chromatin far more
than by darkness.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from data.synth.shapes import Outline, area_of, blob, polygon, spindle, turn
from data.synth.stain import Density, Stain

CLASSES = ("NILM", "ASC-US", "LSIL", "ASC-H", "HSIL", "SCC")
"""Names of the labels 0..5, in the order of severity and of CRIC's categories 1..6."""

INTERMEDIATE_NUCLEUS_UM2 = 35.0


@dataclass(frozen=True)
class Nucleus:
    """One nucleus of a cell.

    Attributes:
        outline: in µm around the cell's centre.
        darkness: multiple of the stain's nuclear density.
        coarseness: 0 for even chromatin, 1 for coarse clumps.
        membrane: how strongly the rim stands out.
        nucleoli: how many, dark and round.
    """

    outline: Outline
    darkness: float
    coarseness: float
    membrane: float = 0.25
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
        core: how much thicker it is around the nucleus.
        granularity: how coarse the cytoplasm's grain is.
        softness: blur of its edge in µm.
        folds: number of fold lines.
        flap: where a turned-over edge begins, as a share of the radius, or None.
        halo: outline of a koilocytic halo, or None.
    """

    cytoplasm: Outline
    nuclei: tuple[Nucleus, ...]
    outer: Density
    inner: Density
    thickness: float
    core: float = 0.3
    granularity: float = 0.09
    softness: float = 0.35
    folds: int = 0
    flap: float | None = None
    halo: Outline | None = None

    @property
    def nuclear_area(self) -> float:
        """Area of the largest nucleus in µm²."""
        return max(area_of(nucleus.outline) for nucleus in self.nuclei)


def plan_cell(label: int, rng: np.random.Generator, stain: Stain) -> CellPlan:
    """Decides what a cell of class ``CLASSES[label]`` looks like."""
    return _PLANNERS[label](rng, stain)


def _plan_normal(rng: np.random.Generator, stain: Stain) -> CellPlan:
    kind = rng.choice(3, p=[0.30, 0.58, 0.12])
    return (_plan_superficial, _plan_intermediate, _plan_parabasal)[kind](rng, stain)


def _plan_superficial(rng: np.random.Generator, stain: Stain) -> CellPlan:
    """A large flat cell, mostly eosinophilic, with a small, structureless (pyknotic) nucleus."""
    outline = blob(rng, rng.uniform(13, 21), rng.uniform(1.0, 1.6), 0.03)
    nucleus = Nucleus(outline, rng.uniform(1.0, 1.6), coarseness=0.05, membrane=0.0)
    return _flat_cell(rng, stain, (nucleus,), rng.uniform(18, 28), eosinophilic=0.78)


def _plan_intermediate(rng: np.random.Generator, stain: Stain) -> CellPlan:
    outline = blob(rng, rng.uniform(28, 44), rng.uniform(1.0, 1.45), 0.025)
    nucleus = Nucleus(outline, rng.uniform(0.55, 1.1), coarseness=rng.uniform(0.3, 0.7))
    return _flat_cell(rng, stain, (nucleus,), rng.uniform(16, 27), eosinophilic=0.5)


def _plan_parabasal(rng: np.random.Generator, stain: Stain) -> CellPlan:
    """A round, dense cell with a bland nucleus; normal, though its N/C ratio is raised."""
    outline = blob(rng, rng.uniform(36, 52), rng.uniform(1.0, 1.3), 0.02)
    nucleus = Nucleus(outline, rng.uniform(0.6, 1.0), coarseness=rng.uniform(0.3, 0.6))
    body = blob(rng, rng.uniform(300, 560), rng.uniform(1.0, 1.4), 0.04)
    outer, inner = _colours(rng, stain, 0.3)
    return CellPlan(body, (nucleus,), outer, inner, rng.uniform(0.7, 1.4), rng.uniform(0, 0.6))


def _plan_ascus(rng: np.random.Generator, stain: Stain) -> CellPlan:
    """Nucleus 2.5 to 3 times an intermediate one's area, only a little darker."""
    area = INTERMEDIATE_NUCLEUS_UM2 * rng.uniform(2.5, 3.0)
    outline = blob(rng, area, rng.uniform(1.0, 1.45), 0.03)
    nucleus = Nucleus(outline, rng.uniform(0.55, 0.95), coarseness=rng.uniform(0.4, 0.8))
    return _flat_cell(rng, stain, (nucleus,), rng.uniform(17, 26), eosinophilic=0.55)


def _plan_lsil(rng: np.random.Generator, stain: Stain) -> CellPlan:
    """A mature cell with a nucleus above three times normal; often two nuclei, or a halo."""
    area = INTERMEDIATE_NUCLEUS_UM2 * rng.uniform(3.1, 5.2)
    nuclei = _pair(rng, 0.75 * area) if rng.random() < 0.3 else (_lsil_nucleus(rng, area),)
    plan = _flat_cell(rng, stain, nuclei, rng.uniform(19, 28), eosinophilic=0.65)
    if rng.random() < 0.35:
        extent = np.abs(np.concatenate([nucleus.outline for nucleus in nuclei])).max()
        halo = blob(rng, np.pi * (extent + rng.uniform(2.0, 4.5)) ** 2, rng.uniform(1, 1.3), 0.05)
        plan = replace(plan, halo=halo, thickness=plan.thickness * 1.25)
    return plan


def _lsil_nucleus(rng: np.random.Generator, area: float) -> Nucleus:
    outline = blob(rng, area, rng.uniform(1.0, 1.55), rng.uniform(0.03, 0.07))
    return Nucleus(outline, rng.uniform(0.65, 1.15), coarseness=rng.uniform(0.6, 1.1), membrane=0.3)


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
    outline = blob(rng, area, rng.uniform(1.05, 1.5), rng.uniform(0.03, 0.06))
    nucleus = Nucleus(outline, rng.uniform(0.75, 1.15), coarseness=rng.uniform(0.6, 1.0))
    return _immature_cell(rng, stain, nucleus, nc_ratio=rng.uniform(0.3, 0.5))


def _plan_hsil(rng: np.random.Generator, stain: Stain) -> CellPlan:
    """Immature: little cytoplasm, dark coarse chromatin, an uneven nuclear contour."""
    outline = blob(rng, rng.uniform(60, 135), rng.uniform(1.0, 1.55), rng.uniform(0.05, 0.09))
    nucleus = Nucleus(outline, rng.uniform(0.75, 1.2), rng.uniform(0.9, 1.4), membrane=0.4)
    return _immature_cell(rng, stain, nucleus, nc_ratio=rng.uniform(0.35, 0.65))


def _plan_scc(rng: np.random.Generator, stain: Stain) -> CellPlan:
    """Half keratinising (spindle, tadpole, orange), half not (round, with macronucleoli)."""
    if rng.random() < 0.5:
        return _plan_keratinising(rng, stain)
    outline = blob(rng, rng.uniform(75, 190), rng.uniform(1.0, 1.5), rng.uniform(0.07, 0.12))
    nucleoli = int(rng.integers(1, 3))
    nucleus = Nucleus(outline, rng.uniform(0.9, 1.35), 1.4, membrane=0.4, nucleoli=nucleoli)
    return _immature_cell(rng, stain, nucleus, nc_ratio=rng.uniform(0.35, 0.6))


def _plan_keratinising(rng: np.random.Generator, stain: Stain) -> CellPlan:
    head = 0.5 if rng.random() < 0.5 else rng.uniform(0.22, 0.3)
    angle = rng.uniform(0.0, 2.0 * np.pi)
    body = spindle(rng, rng.uniform(40, 62), rng.uniform(11, 18), head, rng.uniform(-0.6, 0.6))
    outline = blob(rng, rng.uniform(55, 120), 1.0, rng.uniform(0.07, 0.12)) * (1.45, 1 / 1.45)
    nucleus = Nucleus(turn(outline, angle), rng.uniform(1.1, 1.7), 0.5)
    return CellPlan(
        turn(body, angle), (nucleus,), stain.eosin, stain.eosin, rng.uniform(0.9, 1.7), folds=1
    )


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
    body = polygon(rng, radius, rng.uniform(1.0, 1.9)) + rng.normal(0.0, 0.12 * radius, 2)
    outer, inner = _colours(rng, stain, eosinophilic)
    return CellPlan(
        body, nuclei, outer, inner,
        thickness=float(np.exp(rng.normal(np.log(0.75), 0.5))),
        core=rng.uniform(0.0, 0.7),
        granularity=rng.uniform(0.03, 0.14),
        softness=rng.uniform(0.25, 0.6),
        folds=int(rng.integers(0, 6)),
        flap=rng.uniform(0.45, 0.85) if rng.random() < 0.3 else None,
    )  # fmt: skip


def _immature_cell(
    rng: np.random.Generator, stain: Stain, nucleus: Nucleus, nc_ratio: float
) -> CellPlan:
    """A small dense cell whose nucleus takes up ``nc_ratio`` of its area."""
    area = area_of(nucleus.outline) / nc_ratio
    slack = np.sqrt(area / np.pi) * (1.0 - np.sqrt(nc_ratio))
    body = blob(rng, area, rng.uniform(1.0, 1.4), 0.08) + rng.uniform(-0.45, 0.45, 2) * slack
    outer, inner = _colours(rng, stain, 0.25)
    return CellPlan(
        body, (nucleus,), outer, inner,
        thickness=rng.uniform(0.8, 1.8),
        core=rng.uniform(0.0, 0.4),
        granularity=0.12,
        softness=rng.uniform(0.3, 0.7),
    )  # fmt: skip


def _colours(
    rng: np.random.Generator, stain: Stain, eosinophilic: float
) -> tuple[Density, Density]:
    """Outer and inner colour of a cytoplasm; one in four cells is amphophilic."""
    warm = stain.pink + (stain.eosin - stain.pink) * np.float32(rng.beta(0.8, 0.8))
    outer = warm if rng.random() < eosinophilic + stain.eosinophilia else stain.cyan
    other = stain.cyan if outer is warm else warm
    mix = np.float32(rng.uniform(0.4, 1.0) if rng.random() < 0.25 else rng.uniform(0.0, 0.15))
    return outer, outer + (other - outer) * mix
