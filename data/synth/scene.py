"""A slide as a function of place: what lies where, and what any region of it looks like.

Each kind of thing sits on a jittered lattice of its own. Whether a site is taken, where in its
cell the thing lies and how it looks follow from a hash of the site, so a region is drawn without
knowledge of the rest, and two regions agree on what reaches across their border.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from data.synth import bystanders
from data.synth.cells import CLASSES, REACH_UM, Stamp, draw_cell, plan_cell, reach_of
from data.synth.noise import (
    CAMERA,
    GRANULES,
    FloatImage,
    field_at,
    field_over,
    generator,
    hash_sites,
    texture,
    uniform,
    window,
)
from data.synth.region import Region
from data.synth.stain import develop, sample_stain

Kind = Literal["liquid", "conventional", "field"]
Points = NDArray[np.float64]
AnyPoints = NDArray[np.floating]
Rate = Callable[[Points, Points], Points]

BOX_UM = 20.5
"""Side of a truth box, as in CRIC: a square around the nucleus centre."""

SITE_UM = 24.0
MAX_CELLS_PER_MM2 = 1000.0
"""Beyond this the lattice of squamous cells, and the eye, is full."""

_MAX_DEFOCUS_UM = 1.1
_BAND = 64
_NUCLEUS_GAP_UM = 9.0
_LEUKOCYTE_GAP_UM = 5.5


@dataclass(frozen=True)
class Cells:
    """Squamous cells as arrays, one row a cell.

    Attributes:
        x: nucleus centres in µm from the slide's left.
        y: likewise from its top.
        labels: 0-based indices into `CLASSES`.
        keys: what each cell is drawn from.
    """

    x: Points
    y: Points
    labels: NDArray[np.int64]
    keys: NDArray[np.uint64]

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, index: NDArray[np.bool_] | NDArray[np.intp]) -> Cells:
        return Cells(self.x[index], self.y[index], self.labels[index], self.keys[index])


@dataclass(frozen=True)
class Layer:
    """Bystanders of one kind: a jittered lattice with a painter.

    Attributes:
        pitch: distance of the sites in µm.
        rate: things per mm² at points in µm.
        paint: draws one.
        reach: µm to every side.
    """

    pitch: float
    rate: Rate
    paint: bystanders.Painter
    reach: float


class Scene:
    """A drawn slide: any region of it, and the truth about its cells.

    Args:
        seed: everything follows from it.
        size: (width, height) in level-0 pixels.
        mpp: µm per level-0 pixel.
        kind: "liquid" (a round, even deposit), "conventional" (a smear with drifts and clumps),
            or "field" (the middle of a smear, without borders).
        cells_per_mm2: squamous cells where the deposit is.
        abnormal: how many of them are abnormal (int), or which share (float in 0..1).
        worst: label of the gravest class present, which most abnormal cells then have;
            None for an even mixture.
    """

    def __init__(
        self,
        seed: int,
        size: tuple[int, int],
        mpp: float,
        kind: Kind = "conventional",
        cells_per_mm2: float = 250.0,
        abnormal: int | float = 0.05,
        worst: int | None = None,
    ) -> None:
        self.seed, self.size, self.mpp, self.kind = seed, size, mpp, kind
        self.cells_per_mm2 = cells_per_mm2
        self.extent = (size[0] * mpp, size[1] * mpp)
        rng = np.random.default_rng([seed, 1])
        self.stain = sample_stain(rng)
        self._clumping = {"liquid": 0.7, "conventional": 1.6, "field": 1.2}[kind]
        self._focus_seed, self._film_seed, self._clump_seed, self._drift_seed = (
            int(s) for s in rng.integers(1, 2**62, 4)
        )
        self._clump_mean = self._mean_of(self._clump)
        self._drift_mean = self._mean_of(self._drift)
        self._film = rng.uniform(0.1, 1.0) * (0.35 if kind == "liquid" else 1.0)
        self._grime = rng.uniform(0.0, 1.0) ** 2 * (0.3 if kind == "liquid" else 1.0)
        self._layers = self._bystanders(rng)
        area = self._deposit_mm2()
        count = round(abnormal * cells_per_mm2 * area) if isinstance(abnormal, float) else abnormal
        self.lesions, self._diathesis = self._place_lesions(rng, count, _mixture(rng, worst))
        self._normal_per_mm2 = max(0.0, cells_per_mm2 - len(self.lesions) / area)

    # --- what lies where ------------------------------------------------------------------------

    def cells(self, region: Region, margin: float = 0.0) -> Cells:
        """Squamous cells whose nucleus centre is in the region grown by ``margin`` µm.

        Normal cells come row by row of their lattice, then abnormal ones in order of placement:
        the same order, whatever the region.
        """
        lesions = self._inside(self.lesions, region, margin + _NUCLEUS_GAP_UM)
        normal = self._inside(self._normal_cells(region, margin), region, margin)
        normal = normal[~_near(normal, lesions, _NUCLEUS_GAP_UM)]
        return _join(normal, self._inside(lesions, region, margin))

    def truth(self, region: Region) -> tuple[Points, Points, NDArray[np.int64]]:
        """Boxes (N, 4) xyxy, nuclei (N, 2) in level-0 pixels and labels of a region's cells."""
        cells = self.cells(region.meet(Region(0, 0, *self.size)))
        nuclei = np.stack([cells.x, cells.y], 1) / self.mpp
        return boxes_around(nuclei, self.size, self.mpp), nuclei, cells.labels

    def _normal_cells(self, region: Region, margin: float) -> Cells:
        x, y, keys = self._sites(region, margin, SITE_UM, 0, self._cell_rate)
        return Cells(x, y, np.zeros(len(keys), np.int64), keys)

    def _cell_rate(self, x: Points, y: Points) -> Points:
        clumps = self._clump(x, y) / self._clump_mean
        return self._normal_per_mm2 * self._deposit(x, y) * clumps

    def _clump(self, x: Points, y: Points) -> Points:
        seed = self._clump_seed
        rough = field_at(seed, 90.0, x, y) + field_at(seed + 1, 260.0, x, y) - 1.0
        return np.exp(2.2 * self._clumping * rough)

    def _drift(self, x: Points, y: Points) -> Points:
        """Leukocytes come in drifts along the smear."""
        seed = self._drift_seed
        rough = field_at(seed, 55.0, x * 0.6, y) + field_at(seed + 1, 240.0, x * 0.5, y) - 1.0
        return np.exp(5.0 * rough)

    def _mean_of(self, field: Rate) -> float:
        """Mean of a density field over the slide, so that densities come out as asked."""
        rng = np.random.default_rng([self.seed, 2])
        x, y = rng.uniform(0.0, 1.0, (2, 4096)) * np.maximum(self.extent, 300.0)[:, None]
        return float(field(x, y).mean())

    def _deposit(self, x: Points, y: Points) -> Points:
        """1 where the specimen lies, 0 on bare glass."""
        if self.kind == "field":
            return np.ones(np.broadcast_shapes(np.shape(x), np.shape(y)))
        return np.asarray(self._edge(x, y, field_at(self._film_seed + 7, 180.0, x, y)), np.float64)

    def _deposit_over(self, x: Points, y: Points) -> FloatImage:
        """The same over a grid of columns and rows: (len(y), len(x)), or (1, 1) where even."""
        if self.kind == "field":
            return np.ones((1, 1), np.float32)
        ragged = field_over(self._film_seed + 7, 180.0, x, y)
        edge = self._edge(x[None, :].astype(np.float32), y[:, None].astype(np.float32), ragged)
        return np.asarray(edge, np.float32)

    def _edge(self, x: AnyPoints, y: AnyPoints, ragged: AnyPoints) -> AnyPoints:
        """The deposit's shape; ``ragged``, 0..1, wobbles its edge."""
        width, height = self.extent
        side = min(width, height)
        if self.kind == "liquid":
            outside = np.hypot(x - width / 2, y - height / 2) - 0.44 * side
            soft, wobble = 0.02 * side, 0.018 * side
        else:
            outside = np.maximum(
                np.abs(x - width / 2) - 0.46 * width, np.abs(y - height / 2) - 0.44 * height
            )
            soft, wobble = 0.04 * side, 0.06 * side
        return np.clip(0.5 - (outside + (ragged - 0.5) * wobble) / soft, 0.0, 1.0)

    def _sites(
        self, region: Region, margin: float, pitch: float, channel: int, rate: Rate
    ) -> tuple[Points, Points, NDArray[np.uint64]]:
        """Taken sites of a lattice around a region: x, y in µm, and keys."""
        left, top = region.x * self.mpp - margin, region.y * self.mpp - margin
        right = (region.x + region.width) * self.mpp + margin
        bottom = (region.y + region.height) * self.mpp + margin
        ix = np.arange(np.floor(left / pitch) - 1, np.ceil(right / pitch) + 1).astype(np.int64)
        iy = np.arange(np.floor(top / pitch) - 1, np.ceil(bottom / pitch) + 1).astype(np.int64)
        keys = hash_sites(self.seed * 64 + channel, ix[None, :], iy[:, None])
        x = (ix[None, :] + 0.5 + 0.8 * (uniform(keys, 1) - 0.5)) * pitch
        y = (iy[:, None] + 0.5 + 0.8 * (uniform(keys, 2) - 0.5)) * pitch
        taken = uniform(keys, 3) < rate(x, y) * (pitch * 1e-3) ** 2
        return x[taken], y[taken], keys[taken]

    def _inside(self, cells: Cells, region: Region, margin: float) -> Cells:
        left, top = region.x * self.mpp - margin, region.y * self.mpp - margin
        right = (region.x + region.width) * self.mpp + margin
        bottom = (region.y + region.height) * self.mpp + margin
        within = (cells.x >= left) & (cells.x < right) & (cells.y >= top) & (cells.y < bottom)
        return cells[within]

    def _bystanders(self, rng: np.random.Generator) -> tuple[Layer, ...]:
        clean = 0.25 if self.kind == "liquid" else 1.0
        leukocytes = clean * float(np.exp(rng.normal(np.log(450.0), 1.0)))
        blood = clean * float(np.exp(rng.normal(np.log(40.0), 1.5)))
        mucus = rng.uniform(0.0, 6.0) * clean
        specks, shreds = rng.uniform(20.0, 120.0), rng.uniform(5.0, 40.0)

        def even(per_mm2: float) -> Rate:
            return lambda x, y: per_mm2 * (0.03 + 0.97 * self._deposit(x, y))

        def drifting(per_mm2: float) -> Rate:
            return lambda x, y: per_mm2 * self._deposit(x, y) * self._drift(x, y) / self._drift_mean

        return (
            Layer(230.0, even(mucus), bystanders.draw_mucus, 75.0),
            Layer(70.0, even(shreds), bystanders.draw_anucleate, 34.0),
            Layer(35.0, even(specks), bystanders.draw_debris, 18.0),
            Layer(8.0, drifting(blood), bystanders.draw_erythrocyte, 12.0),
            Layer(9.0, drifting(leukocytes), bystanders.draw_leukocyte, 12.5),
        )

    def _deposit_mm2(self) -> float:
        width, height = self.extent
        x, y = (np.arange(256) + 0.5) / 256 * width, (np.arange(256) + 0.5) / 256 * height
        return max(float(self._deposit_over(x, y).mean()) * width * height * 1e-6, 1e-6)

    def _place_lesions(
        self, rng: np.random.Generator, count: int, shares: Points
    ) -> tuple[Cells, Points]:
        """At most ``count`` abnormal cells in groups, and the centres of diathesis."""
        cells, groups, centers = _grow_groups(rng, count, self._deposit_box(), shares)
        x, y = cells.x, cells.y
        lies = (x >= 0) & (x < self.extent[0]) & (y >= 0) & (y < self.extent[1])
        lies &= self._deposit(x, y) > 0.5
        kept = np.flatnonzero(lies & ~_crowded(cells, _NUCLEUS_GAP_UM))[:count]
        invasive = np.unique(groups[kept][cells.labels[kept] == len(CLASSES) - 1])
        return cells[kept], centers[invasive]

    def _deposit_box(self) -> Points:
        """((left, top), (right, bottom)) of the deposit in µm."""
        middle = np.array(self.extent) / 2.0
        reach = np.full(2, middle.min()) if self.kind == "liquid" else middle
        return np.stack([middle - reach, middle + reach])

    # --- what it looks like ---------------------------------------------------------------------

    def draw(self, region: Region) -> NDArray[np.uint8]:
        """The region's pixels, (height, width, 3) uint8; regions meet without a seam."""
        density = np.empty((3, region.height, region.width), np.float32)
        for rows, band in _bands(region):
            self._background(band, density[:, rows])
        for stamp in self._stamps(region):
            _add(density, stamp, region)
        pixels = np.empty((region.height, region.width, 3), np.uint8)
        for rows, _ in _bands(region):
            develop(density[:, rows], pixels[rows])
        return pixels

    def _stamps(self, region: Region) -> Iterator[Stamp]:
        *under, blood, leukocytes = self._layers
        cells = self.cells(region, REACH_UM + 4.0)
        yield from self._paint_diathesis(region)
        for layer in under:
            yield from self._paint(layer, region, cells, 0.0)
        for center, blur, label, rng in self._each(cells):
            plan = plan_cell(label, rng, self.stain)
            if region.holds(*center, reach_of(plan, blur) / self.mpp + 4.0):
                yield from draw_cell(plan, rng, self.stain, center, self.mpp, blur)
        for layer in (blood, leukocytes):
            yield from self._paint(layer, region, cells, _LEUKOCYTE_GAP_UM)

    def _paint(self, layer: Layer, region: Region, cells: Cells, gap: float) -> Iterator[Stamp]:
        channel = 1 + self._layers.index(layer)
        x, y, keys = self._sites(region, layer.reach, layer.pitch, channel, layer.rate)
        things = Cells(x, y, np.zeros(len(keys), np.int64), keys)
        things = things[~_near(things, cells, gap)]
        for center, blur, _, rng in self._each(things):
            yield layer.paint(rng, self.stain, center, self.mpp, blur)

    def _paint_diathesis(self, region: Region) -> Iterator[Stamp]:
        for index, (x, y) in enumerate(self._diathesis):
            rng = np.random.default_rng([self.seed, 3, index])
            yield bystanders.draw_diathesis(
                rng, self.stain, (x / self.mpp, y / self.mpp), self.mpp, 0.0
            )

    def _each(
        self, things: Cells
    ) -> Iterator[tuple[tuple[float, float], float, int, np.random.Generator]]:
        """Centre in level-0 pixels, defocus in µm, label and generator of each thing."""
        centers = np.stack([things.x, things.y], 1) / self.mpp
        blur = self._defocus(things)
        for (x, y), sigma, label, key in zip(
            centers, blur, things.labels, things.keys, strict=True
        ):
            yield (float(x), float(y)), float(sigma), int(label), generator(int(key))

    def _defocus(self, things: Cells) -> Points:
        """Blur in µm: whole places lie out of focus, and single things a little."""
        place = field_at(self._focus_seed, 420.0, things.x, things.y)
        blur = np.maximum(0.0, place - 0.72) * 4.0 + 0.2 * uniform(things.keys, 4) ** 2
        return np.minimum(blur, _MAX_DEFOCUS_UM)

    def _background(self, region: Region, density: FloatImage) -> None:
        """Glass, uneven light, film, bacteria and specks, into ``density`` (3, H, W)."""
        x = np.asarray((np.arange(region.x, region.right) + 0.5) * self.mpp, np.float64)
        y = np.asarray((np.arange(region.y, region.bottom) + 0.5) * self.mpp, np.float64)
        seed = self._film_seed
        deposit = self._deposit_over(x, y)
        light = field_over(seed, 1400.0, x, y)
        light *= np.float32(0.05)
        light += np.float32(0.014) * window(texture(CAMERA, self.mpp), *region)
        film = field_over(seed + 1, 160.0, x, y)
        film *= deposit
        film *= np.float32(2.0 * self._film)
        grime = field_over(seed + 2, 75.0, x, y)
        grime *= grime
        grime *= deposit
        grime *= np.float32(1.7 * self._grime)
        grime *= window(specks(self.mpp), *region)
        for channel, plane in enumerate(density):
            np.multiply(film, self.stain.film[channel], out=plane)
            plane += grime * self.stain.grime[channel]
            plane += light
            plane += self.stain.glass[channel]


def draw_field(
    seed: int,
    size: tuple[int, int],
    mpp: float,
    cells_per_mm2: float | None = None,
    abnormal: int | float = 0.4,
) -> tuple[NDArray[np.uint8], NDArray[np.float64], NDArray[np.int64]]:
    """Draws one field, as a microscope's camera would see it, with its truth.

    Args:
        seed: the same seed gives the same field, stain and all.
        size: (width, height) in pixels.
        mpp: µm per pixel.
        cells_per_mm2: squamous cells; by default another density for each seed.
        abnormal: how many cells are abnormal (int), or which share (float).

    Returns:
        The image (H, W, 3) uint8; boxes (N, 4) float64 xyxy in pixels, clipped to the field;
        labels (N,) int64, indices into `CLASSES`.
    """
    rng = np.random.default_rng([seed, 0])
    density = float(np.exp(rng.uniform(np.log(80.0), np.log(550.0))))
    scene = Scene(seed, size, mpp, "field", cells_per_mm2 or density, abnormal)
    whole = Region(0, 0, *size)
    boxes, _, labels = scene.truth(whole)
    return scene.draw(whole), boxes, labels


def boxes_around(centers: Points, size: tuple[int, int], mpp: float) -> NDArray[np.float64]:
    """Truth boxes (N, 4) xyxy of `BOX_UM` around centres (N, 2), clipped to ``size``."""
    half = BOX_UM / mpp / 2.0
    limit = np.array([*size, *size], float)
    return np.asarray(np.clip(np.concatenate([centers - half, centers + half], 1), 0.0, limit))


@lru_cache(maxsize=4)
def specks(mpp: float) -> FloatImage:
    """A tile of bacilli and fine granules, density about 1 where there is something."""
    grains = np.tile(texture(GRANULES, mpp), (2, 2))
    side = grains.shape[0]
    rng = np.random.default_rng([5, side])
    count = round(0.016 * (side * mpp) ** 2)
    start = rng.uniform(0.0, side, (count, 1, 2))
    angle = rng.uniform(0.0, np.pi, (count, 1))
    along = np.linspace(0.0, 2.2, 16) / mpp
    points = start + np.stack([np.cos(angle) * along, np.sin(angle) * along], 2)
    columns, rows = (points.reshape(-1, 2).astype(np.int64) % side).T
    rods = np.zeros((side, side), np.float32)
    rods[rows, columns] = min(0.75, 0.18 / mpp)  # a rod is about 0.3 µm thick
    rods = (rods + np.roll(rods, 1, 0) + np.roll(rods, 1, 1)) / 2.0
    return np.asarray(rods + 0.35 * np.maximum(grains - 0.8, 0.0), np.float32)


def _bands(region: Region) -> Iterator[tuple[slice, Region]]:
    """Cuts a region into strips that stay in the processor's cache."""
    for top in range(0, region.height, _BAND):
        height = min(_BAND, region.height - top)
        yield slice(top, top + height), Region(region.x, region.y + top, region.width, height)


# --- abnormal groups ----------------------------------------------------------------------------

_GROUP_CELLS = np.array([1, 2, 4, 6, 10, 6])
"""Cells in the largest usual group of each class; HSIL comes in syncytia."""

_GROUP_SPACING_UM = np.array([30.0, 30.0, 30.0, 15.0, 13.0, 19.0])


def _mixture(rng: np.random.Generator, worst: int | None) -> Points:
    """Share of each class among the abnormal cells."""
    shares = np.zeros(len(CLASSES))
    if worst is None:
        shares[1:] = 1.0
    else:
        shares[1 : worst + 1] = rng.dirichlet(np.full(worst, 2.0)) * 0.4
        shares[worst] += 0.6
    return np.asarray(shares / shares.sum())


def _grow_groups(
    rng: np.random.Generator, count: int, box: Points, shares: Points
) -> tuple[Cells, NDArray[np.intp], Points]:
    """More than ``count`` cells in groups, each cell's group, and the groups' centres in µm."""
    by_group = shares / ((1 + _GROUP_CELLS) / 2.0)
    groups = 2 * count + 16
    labels = rng.choice(len(CLASSES), groups, p=by_group / by_group.sum())
    centers = rng.uniform(box[0], box[1], (groups, 2))
    sizes = rng.integers(1, _GROUP_CELLS[labels] + 1)
    of = np.repeat(np.arange(groups), sizes)
    rank = np.arange(len(of)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    angle = rank * 2.4 + rng.uniform(0.0, 2 * np.pi, groups)[of] + rng.normal(0.0, 0.15, len(of))
    distance = _GROUP_SPACING_UM[labels[of]] * np.sqrt(rank) * rng.uniform(0.9, 1.15, len(of))
    x, y = centers[of].T + distance * np.stack([np.cos(angle), np.sin(angle)])
    keys = rng.integers(1, 2**63, len(of)).astype(np.uint64)
    return Cells(x, y, labels[of], keys), of, centers


def _crowded(cells: Cells, gap: float) -> NDArray[np.bool_]:
    """Which cells lie within ``gap`` µm of one before them."""
    pairs = cKDTree(np.stack([cells.x, cells.y], 1)).query_pairs(gap, output_type="ndarray")
    crowded = np.zeros(len(cells), bool)
    crowded[pairs.max(1)] = True
    return crowded


def _near(things: Cells, others: Cells, gap: float) -> NDArray[np.bool_]:
    """Which things lie within ``gap`` µm of any of the others."""
    if gap <= 0.0 or not len(things) or not len(others):
        return np.zeros(len(things), bool)
    tree = cKDTree(np.stack([others.x, others.y], 1))
    distance, _ = tree.query(np.stack([things.x, things.y], 1), distance_upper_bound=gap)
    return np.asarray(np.isfinite(distance))


def _join(one: Cells, other: Cells) -> Cells:
    return Cells(
        np.concatenate([one.x, other.x]), np.concatenate([one.y, other.y]),
        np.concatenate([one.labels, other.labels]), np.concatenate([one.keys, other.keys]),
    )  # fmt: skip


def _add(density: FloatImage, stamp: Stamp, region: Region) -> None:
    """Adds the part of a stamp that lies in the region."""
    height, width = stamp.density.shape[1:]
    left, top = max(stamp.x - region.x, 0), max(stamp.y - region.y, 0)
    right = min(stamp.x - region.x + width, region.width)
    bottom = min(stamp.y - region.y + height, region.height)
    if left < right and top < bottom:
        x, y = region.x - stamp.x, region.y - stamp.y
        part = stamp.density[:, top + y : bottom + y, left + x : right + x]
        density[:, top:bottom, left:right] += part
