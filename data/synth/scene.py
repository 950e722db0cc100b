"""A slide as a function of place: what lies where, and what any region of it looks like.

Each kind of thing sits on a jittered lattice of its own. Whether a site is taken, where in its
cell the thing lies and how it looks follow from a hash of the site, so a region is drawn without
knowledge of the rest, and two regions agree on what reaches across their border.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from copy import copy
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data.synth import bystanders
from data.synth.backdrop import Backdrop, bands_of
from data.synth.cells import REACH_UM, Stamp, draw_cell, reach_of
from data.synth.criteria import plan_cell
from data.synth.deposit import Deposit, Kind, Points
from data.synth.depth import BLUR_PER_UM, Stack
from data.synth.noise import FloatImage, field_at, generator, uniform
from data.synth.placement import NUCLEUS_GAP_UM, Cells, Rate, on_lattice, place_lesions
from data.synth.region import Region
from data.synth.shapes import Sketch
from data.synth.stain import develop, sample_stain

BOX_UM = 20.5
"""Side of a truth box, as in CRIC: a square around the nucleus centre."""

MAX_CELLS_PER_MM2 = 1000.0
"""Beyond this the lattice of squamous cells, and the eye, is full."""

_CELL_PITCH_UM = 24.0
_LEUKOCYTE_GAP_UM = 5.5
_MAX_DEFOCUS_UM = 1.1
_CHANNELS = 64
"""Lattices that one seed has room for."""


@dataclass(frozen=True)
class Layer:
    """Bystanders of one kind.

    Attributes:
        channel: which of the scene's lattices they sit on.
        paint: draws one.
        pitch: distance of the lattice's sites in µm.
        reach: how far one reaches when sharp, in µm.
        per_mm2: how many there are.
        drifts: they come in drifts along the smear; else evenly, a few on the bare glass too.
    """

    channel: int
    paint: bystanders.Painter
    pitch: float
    reach: float
    per_mm2: float
    drifts: bool = False


_DIATHESIS = Layer(0, bystanders.draw_diathesis, 0.0, 48.0, 0.0)
"""Laid around SCC groups, on no lattice."""


class Scene:
    """A drawn slide: any region of it, and the truth about its cells.

    Args:
        seed: everything follows from it.
        size: (width, height) in level-0 pixels.
        mpp: µm per level-0 pixel.
        kind: how the specimen was prepared.
        cells_per_mm2: squamous cells, of all classes, where the deposit is.
        abnormal: how many of them are abnormal (int), or which share (float in 0..1).
        worst: label of the gravest class present, which most abnormal cells then have;
            None for an even mixture.
        planes: focal planes, and µm between two; one, in which all is as sharp as it gets.
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
        planes: tuple[int, float] = (1, 0.0),
    ) -> None:
        rng = np.random.default_rng([seed, 1])
        self.seed, self.size, self.mpp = seed, size, mpp
        self.stain = sample_stain(rng)
        self._focus, self._clumps, self._drifts, glass = rng.integers(1, 2**62, 4).tolist()
        self._deposit = Deposit(kind, (size[0] * mpp, size[1] * mpp), glass + 7)
        clean = 0.3 if kind == "liquid" else 1.0
        film, grime = rng.uniform(0.1, 1.0) * clean, rng.uniform(0.0, 1.0) ** 2 * clean
        self._backdrop = Backdrop(self._deposit, self.stain, film, grime, glass, mpp)
        self._lens_blur = float(np.hypot(rng.uniform(0.05, 0.35), _aperture_blur(mpp)))
        self._layers = _sample_layers(rng, clean)
        self._clumping = {"liquid": 1.5, "conventional": 3.5, "field": 2.6}[kind]
        self._stroke = rng.uniform(0.0, np.pi)
        self._clump_mean, self._drift_mean = self._mean_of(self._clump), self._mean_of(self._drift)
        area = self._deposit.area_mm2()
        many = round(abnormal * cells_per_mm2 * area) if isinstance(abnormal, float) else abnormal
        self.lesions, self._diathesis = place_lesions(rng, many, self._deposit, worst)
        count, step = planes
        self.stack = Stack(count, step, glass + 11) if count > 1 else None
        self._place: float | None = None
        self._most_blur = _MAX_DEFOCUS_UM
        if self.stack:
            self._place = self.stack.places[count // 2]
            self._most_blur = math.hypot(_MAX_DEFOCUS_UM, self.stack.most_blur)
        self._normal_per_mm2 = max(0.0, cells_per_mm2 - len(self.lesions) / area)

    # What lies where.

    @property
    def deposit_mm2(self) -> float:
        """Area of the deposit."""
        return self._deposit.area_mm2()

    def cells(self, region: Region, margin: float = 0.0) -> Cells:
        """Squamous cells whose nucleus centre is in the region grown by ``margin`` µm.

        Normal cells come row by row of their lattice, then abnormal ones in order of placement:
        the same order, whatever the region.
        """
        box = self._box(region, margin)
        normal = on_lattice(self.seed * _CHANNELS, _CELL_PITCH_UM, self._normal_rate, box)
        near = self.lesions.within(self._box(region, margin + NUCLEUS_GAP_UM))
        return normal.clear_of(near, NUCLEUS_GAP_UM).followed_by(near.within(box))

    def truth(self, region: Region) -> tuple[Points, Points, NDArray[np.int64]]:
        """Boxes (N, 4) xyxy, nuclei (N, 2) in level-0 pixels and labels of a region's cells."""
        cells = self.cells(region.meet(Region(0, 0, *self.size)))
        nuclei = cells.centers() / self.mpp
        return boxes_around(nuclei, self.size, self.mpp), nuclei, cells.labels

    def depths(self, region: Region) -> Points | None:
        """Depth (N,) of the cells of `truth`, in µm; None where there is one focal plane."""
        if self.stack is None:
            return None
        cells = self.cells(region.meet(Region(0, 0, *self.size)))
        return self.stack.depths(cells.x, cells.y, cells.keys)

    @property
    def plane_places(self) -> tuple[float, ...]:
        """Where its focal planes lie, in µm, from the lowest on; (0,) for one."""
        return self.stack.places if self.stack else (0.0,)

    def in_planes(self) -> tuple[Scene, ...]:
        """The same slide seen in each of its focal planes."""
        return tuple(map(self._seen_at, self.plane_places)) if self.stack else (self,)

    def _seen_at(self, place: float) -> Scene:
        scene = copy(self)
        scene._place = place
        return scene

    def _box(self, region: Region, margin: float) -> Points:
        corners = np.array([[region.x, region.y], [region.right, region.bottom]]) * self.mpp
        return np.asarray(corners + np.array([[-margin], [margin]]))

    def _normal_rate(self, x: Points, y: Points) -> Points:
        clumps = self._clump(x, y) / self._clump_mean
        return self._normal_per_mm2 * self._deposit.at(x, y) * clumps

    def _clump(self, x: Points, y: Points) -> Points:
        """Cells cling together; without this, nothing would ever overlap."""
        seed = self._clumps
        x, y = self._along_smear(x, y)
        rough = field_at(seed, 90.0, x, y) + field_at(seed + 1, 260.0, x, y) - 1.0
        return np.exp(self._clumping * rough)

    def _drift(self, x: Points, y: Points) -> Points:
        """Leukocytes lie in drifts, drawn out along the smear."""
        seed = self._drifts
        x, y = self._along_smear(x, y)
        rough = field_at(seed, 55.0, x * 0.6, y) + field_at(seed + 1, 240.0, x * 0.5, y) - 1.0
        return np.exp(5.0 * rough)

    def _along_smear(self, x: Points, y: Points) -> tuple[Points, Points]:
        """Coordinates along and across the stroke of the smear."""
        cosine, sine = np.cos(self._stroke), np.sin(self._stroke)
        return x * cosine + y * sine, y * cosine - x * sine

    def _mean_of(self, field: Rate) -> float:
        """Mean of a density field over the slide, so that densities come out as asked."""
        rng = np.random.default_rng([self.seed, 2])
        span = np.maximum(self._deposit.extent, 300.0)
        x, y = rng.uniform(0.0, 1.0, (2, 4096)) * span[:, None]
        return float(field(x, y).mean())

    def _things(self, layer: Layer, region: Region) -> Cells:
        def rate(x: Points, y: Points) -> Points:
            deposit = self._deposit.at(x, y)
            if layer.drifts:
                return layer.per_mm2 * deposit * self._drift(x, y) / self._drift_mean
            return layer.per_mm2 * (0.03 + 0.97 * deposit)

        seed = self.seed * _CHANNELS + layer.channel
        return on_lattice(seed, layer.pitch, rate, self._box(region, self._margin(layer.reach)))

    def _margin(self, reach: float) -> float:
        """How far from a region things of this reach may lie and still show in it, in µm."""
        return reach + 3.0 * self._most_blur + 4.0 * self.mpp

    # What it looks like.

    def draw(self, region: Region) -> NDArray[np.uint8]:
        """The region's pixels, (height, width, 3) uint8; regions meet without a seam."""
        density = np.empty((3, region.height, region.width), np.float32)
        for rows, band in bands_of(region):
            grains = None
            if self.stack and self._place is not None:
                grains = self.stack.specks_in(band, self.mpp, self._place)
            self._backdrop.paint(band, density[:, rows], grains)
        for stamp in self._stamps(region):
            _add(density, stamp, region)
        pixels = np.empty((region.height, region.width, 3), np.uint8)
        for rows, _ in bands_of(region):
            develop(density[:, rows], pixels[rows])
        return pixels

    def _stamps(self, region: Region) -> Iterator[Stamp]:
        """From the glass up: diathesis, what lies beneath the cells, the cells, what floats."""
        cells = self.cells(region, self._margin(REACH_UM))
        patches = self._diathesis.within(self._box(region, self._margin(_DIATHESIS.reach)))
        yield from self._paint_things(_DIATHESIS, patches)
        for layer in self._layers:
            if not layer.drifts:
                yield from self._paint_things(layer, self._things(layer, region))
        yield from self._paint_cells(cells, region)
        for layer in self._layers:
            if layer.drifts:
                things = self._things(layer, region).clear_of(cells, _LEUKOCYTE_GAP_UM)
                yield from self._paint_things(layer, things)

    def _paint_cells(self, cells: Cells, region: Region) -> Iterator[Stamp]:
        for center, blur, label, rng in self._each(cells):
            plan = plan_cell(label, rng, self.stain)
            room = self._most_blur if self.stack else None
            reach = reach_of(plan, room or blur, 3.0 * (room or 0.0))
            if region.holds(*center, reach / self.mpp + 4.0):
                yield from draw_cell(plan, rng, self.stain, center, self.mpp, blur, room)

    def _paint_things(self, layer: Layer, things: Cells) -> Iterator[Stamp]:
        for center, blur, _, rng in self._each(things):
            room = self._most_blur if self.stack else blur
            sketch = Sketch.around(center, self.mpp, layer.reach + 3.0 * room)
            yield Stamp(sketch.x, sketch.y, layer.paint(rng, self.stain, sketch, blur))

    def _each(
        self, things: Cells
    ) -> Iterator[tuple[tuple[float, float], float, int, np.random.Generator]]:
        """Centre in level-0 pixels, defocus in µm, label and generator of each thing."""
        blur = self._defocus(things)
        rows = zip(things.centers() / self.mpp, blur, things.labels, things.keys, strict=True)
        for (x, y), sigma, label, key in rows:
            yield (float(x), float(y)), float(sigma), int(label), generator(int(key))

    def _defocus(self, things: Cells) -> Points:
        """Blur in µm: the lens's, that of places out of focus, and a little of each thing's."""
        place = np.maximum(0.0, field_at(self._focus, 420.0, things.x, things.y) - 0.72) * 4.0
        own = 0.2 * uniform(things.keys, 4) ** 2
        if self.stack is None or self._place is None:
            return np.minimum(self._lens_blur + place + own, _MAX_DEFOCUS_UM)
        blur = self._lens_blur + own  # what is out of focus lies elsewhere than the plane
        away = self.stack.depths(things.x, things.y, things.keys) - self._place
        return np.asarray(np.hypot(blur, BLUR_PER_UM * away))


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
    density = float(np.exp(rng.uniform(np.log(80.0), np.log(800.0))))
    scene = Scene(seed, size, mpp, "field", cells_per_mm2 or density, abnormal)
    whole = Region(0, 0, *size)
    boxes, _, labels = scene.truth(whole)
    return scene.draw(whole), boxes, labels


def boxes_around(centers: Points, size: tuple[int, int], mpp: float) -> NDArray[np.float64]:
    """Truth boxes (N, 4) xyxy of `BOX_UM` around centres (N, 2), clipped to ``size``."""
    half = BOX_UM / mpp / 2.0
    limit = np.array([*size, *size], float)
    return np.asarray(np.clip(np.concatenate([centers - half, centers + half], 1), 0.0, limit))


def _aperture_blur(mpp: float) -> float:
    """Blur in µm that makes a scene drawn coarsely look like one resampled from 0.25 µm/px.

    It is the deviation of `data.resample`'s triangle, 0.41 output pixels.
    """
    return 0.41 * math.sqrt(max(0.0, mpp**2 - 0.25**2))


def _sample_layers(rng: np.random.Generator, clean: float) -> tuple[Layer, ...]:
    """Bystanders of one slide; ``clean`` is the share that the preparation leaves."""
    mucus = clean * rng.uniform(0.0, 6.0)
    shreds, debris = rng.uniform(5.0, 40.0), rng.uniform(20.0, 120.0)
    blood = clean * float(np.exp(rng.normal(np.log(40.0), 1.8)))
    leukocytes = clean * float(np.exp(rng.normal(np.log(600.0), 1.1)))
    return (
        Layer(1, bystanders.draw_mucus, 230.0, 68.0, mucus),
        Layer(2, bystanders.draw_anucleate, 70.0, 30.0, shreds),
        Layer(3, bystanders.draw_debris, 35.0, 14.0, debris),
        Layer(4, bystanders.draw_erythrocyte, 8.0, 8.0, blood, drifts=True),
        Layer(5, bystanders.draw_leukocyte, 9.0, 8.5, leukocytes, drifts=True),
    )


def _add(density: FloatImage, stamp: Stamp, region: Region) -> None:
    """Adds the part of a stamp that lies in the region."""
    height, width = stamp.density.shape[1:]
    part = Region(stamp.x, stamp.y, width, height).meet(region)
    rows = slice(part.y - region.y, part.bottom - region.y)
    columns = slice(part.x - region.x, part.right - region.x)
    x, y = part.x - stamp.x, part.y - stamp.y
    if part.width and part.height:
        density[:, rows, columns] += stamp.density[:, y : y + part.height, x : x + part.width]
