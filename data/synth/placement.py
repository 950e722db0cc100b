"""Where things lie: jittered lattices for the many, groups for abnormal cells; all in µm."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from data.synth.criteria import CLASSES
from data.synth.deposit import Deposit, Points
from data.synth.noise import hash_sites, uniform

Rate = Callable[[Points, Points], Points]
"""Things per mm² at points."""

NUCLEUS_GAP_UM = 9.0
"""Abnormal nuclei keep this distance from all others, so that the truth is never in doubt."""

_GROUP_CELLS = np.array([1, 2, 4, 6, 12, 6])
"""Cells in the largest usual group of each class; HSIL comes in syncytia."""

_GROUP_SPACING_UM = np.array([30.0, 28.0, 28.0, 14.0, 12.5, 17.0])


@dataclass(frozen=True)
class Cells:
    """Cells, or other things, as arrays, one row each.

    Attributes:
        x: centres in µm from the slide's left; of a cell, its nucleus centre.
        y: likewise from its top.
        labels: 0-based indices into `CLASSES`; 0 for things that are no cells.
        keys: what each is drawn from.
    """

    x: Points
    y: Points
    labels: NDArray[np.int64]
    keys: NDArray[np.uint64]

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, index: NDArray[np.bool_] | NDArray[np.intp]) -> Cells:
        return Cells(self.x[index], self.y[index], self.labels[index], self.keys[index])

    def centers(self) -> Points:
        """(N, 2) array of x, y."""
        return np.stack([self.x, self.y], 1)

    def within(self, box: Points) -> Cells:
        """Those in ((left, top), (right, bottom)), half-open."""
        inside = (self.x >= box[0, 0]) & (self.x < box[1, 0])
        return self[inside & (self.y >= box[0, 1]) & (self.y < box[1, 1])]

    def clear_of(self, others: Cells, gap: float) -> Cells:
        """Those further than ``gap`` from each of the others."""
        if gap <= 0.0 or not len(self) or not len(others):
            return self
        tree = cKDTree(others.centers())
        distance, _ = tree.query(self.centers(), distance_upper_bound=gap)
        return self[~np.isfinite(distance)]

    def followed_by(self, others: Cells) -> Cells:
        """These, then the others."""
        return Cells(
            np.concatenate([self.x, others.x]),
            np.concatenate([self.y, others.y]),
            np.concatenate([self.labels, others.labels]),
            np.concatenate([self.keys, others.keys]),
        )


def on_lattice(seed: int, pitch: float, rate: Rate, box: Points) -> Cells:
    """Things on a jittered lattice, row by row: whatever the box, in the same order.

    Args:
        seed: of the lattice.
        pitch: distance of its sites; at most one thing lies at each.
        rate: things per mm².
        box: ((left, top), (right, bottom)) to be filled.
    """
    first = np.floor(box[0] / pitch).astype(np.int64) - 1
    last = np.ceil(box[1] / pitch).astype(np.int64) + 1
    ix, iy = np.arange(first[0], last[0])[None, :], np.arange(first[1], last[1])[:, None]
    keys = hash_sites(seed, ix, iy)
    x = (ix + 0.5 + 0.8 * (uniform(keys, 1) - 0.5)) * pitch
    y = (iy + 0.5 + 0.8 * (uniform(keys, 2) - 0.5)) * pitch
    taken = uniform(keys, 3) < rate(x, y) * (pitch * 1e-3) ** 2
    labels = np.zeros(int(taken.sum()), np.int64)
    return Cells(x[taken], y[taken], labels, keys[taken]).within(box)


def place_lesions(
    rng: np.random.Generator, count: int, deposit: Deposit, worst: int | None
) -> tuple[Cells, Cells]:
    """Abnormal cells in groups, and patches of diathesis around half of the SCC groups.

    Args:
        rng: source of it all.
        count: how many cells; fewer come where they find no room.
        deposit: they lie on it.
        worst: label of the gravest class, which most of them have; None for an even mixture.
    """
    cells, groups = _grow_groups(rng, count, deposit.box(), _mixture(rng, worst))
    lies = deposit.at(cells.x, cells.y) > 0.5
    lies &= (cells.x >= 0) & (cells.x < deposit.extent[0])
    lies &= (cells.y >= 0) & (cells.y < deposit.extent[1])
    kept = np.flatnonzero(lies & ~_crowded(cells, NUCLEUS_GAP_UM))[:count]
    lesions = cells[kept]
    scc = np.flatnonzero(lesions.labels == CLASSES.index("SCC"))
    _, first = np.unique(groups[kept][scc], return_index=True)
    return lesions, lesions[scc[first[::2]]]


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
) -> tuple[Cells, NDArray[np.intp]]:
    """More than ``count`` cells in groups, and each cell's group."""
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
    return Cells(x, y, labels[of], keys), of


def _crowded(cells: Cells, gap: float) -> NDArray[np.bool_]:
    """Which cells lie within ``gap`` of one before them."""
    pairs = cKDTree(cells.centers()).query_pairs(gap, output_type="ndarray")
    crowded = np.zeros(len(cells), bool)
    crowded[pairs.max(1)] = True
    return crowded
