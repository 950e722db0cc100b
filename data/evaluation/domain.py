"""How far a group of cells lies from those of other groups: a distance, and where it is too far.

A slide's cells share its stain, scanner and preparation; so do the cells of a field. A group's mean
therefore varies in two ways: from group to group, and, the less the more cells it has, by which
cells they are. Its distance is Mahalanobis's with both (a model of random effects):

    d² = (m - µ)ᵀ (B + W / n)⁻¹ (m - µ)

Where too far begins is an order statistic of the distances of groups that the figures have not
seen, so that it needs no distribution (Laxhammar & Falkman, ICCSW 2010: a conformal detector).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]

FOLDS = 10
"""Into which groups are dealt, to be judged by figures of the others."""

FEWEST_GROUPS = 20
"""Groups below which nothing is said about how they vary."""


@dataclass(frozen=True)
class Spread:
    """How groups of cells vary, in F figures.

    Attributes:
        mean: (F,) of the groups.
        between: (F, F) covariance from group to group.
        within: (F, F) covariance of a group's cells.
    """

    mean: Values
    between: Values
    within: Values

    def distance(self, cells: Values) -> float:
        """How far a group lies, given its (n, F) cells, n at least 1: the square root of d²."""
        off = cells.mean(axis=0) - self.mean
        spread = self.between + self.within / len(cells)
        return math.sqrt(max(0.0, float(off @ np.linalg.solve(spread, off))))

    def deviations(self, cells: Values) -> Values:
        """(F,) by how many standard deviations each figure of a group is off."""
        spread = np.diag(self.between) + np.diag(self.within) / len(cells)
        return np.asarray((cells.mean(axis=0) - self.mean) / np.sqrt(spread))


def fit_spread(groups: Sequence[Values], fewest: int = FEWEST_GROUPS) -> Spread:
    """Estimates it by moments; the covariance between groups is drawn towards its diagonal.

    The more so the fewer groups there are for its F figures: by F / (F + groups), after the idea of
    Ledoit and Wolf (J. Multivariate Anal. 88, 2004).

    Args:
        groups: of each its (n, F) cells; those without any count nothing.
        fewest: groups below which that says nothing.

    Raises:
        ValueError: there are fewer than ``fewest`` with cells.
    """
    groups = [cells for cells in groups if len(cells)]
    if len(groups) < fewest:
        raise ValueError(f"{len(groups)} groups with cells say nothing about how they vary")
    means = np.array([cells.mean(axis=0) for cells in groups])
    counts = np.array([len(cells) for cells in groups])
    scatter = [(cells - mean).T @ (cells - mean) for cells, mean in zip(groups, means, strict=True)]
    within = np.sum(scatter, axis=0) / max(1, int((counts - 1).sum()))
    seen = np.cov(means.T).reshape(within.shape)
    weight = len(within) / (len(within) + len(groups))
    # Never without what the diagonal adds: a figure that does not vary must not divide by zero.
    least = np.diag(np.diag(seen)) + 1e-9 * np.eye(len(seen))
    between = (1 - weight) * _positive(seen - within * (1 / counts).mean()) + weight * least
    return Spread(means.mean(axis=0), between, within)


def left_out_distances(groups: Sequence[Values], wholes: Sequence[str]) -> Values:
    """The distance of each group by figures of the others.

    Args:
        groups: of each its (n, F) cells, n at least 1.
        wholes: what each is part of, such as its slide: these are never torn apart.

    Raises:
        ValueError: there are too few; see `fit_spread`.
    """
    names = list(dict.fromkeys(wholes))
    fold = {name: index % FOLDS for index, name in enumerate(names)}
    folds = np.array([fold[name] for name in wholes])
    distances = np.zeros(len(groups))
    for one in np.unique(folds):
        others = [cells for cells, own in zip(groups, folds, strict=True) if own != one]
        spread = fit_spread(others, FEWEST_GROUPS // 2)
        for index in np.flatnonzero(folds == one).tolist():
            distances[index] = spread.distance(groups[index])
    return distances


def limit_for(distances: Values, share: float) -> tuple[float, float]:
    """The least distance that a new group like these exceeds with at most a chance of ``share``.

    Args:
        distances: (n,) of groups that the figures had not seen.
        share: wanted.

    Returns:
        The distance, and the chance: that is above ``share`` where there are too few groups for it,
        and the farthest of them is taken.
    """
    count = len(distances)
    allowed = min(count, math.ceil((1 - share) * (count + 1) - 1e-9))
    return float(np.sort(distances)[allowed - 1]), 1 - allowed / (count + 1)


def _positive(matrix: Values) -> Values:
    """The nearest matrix that is a covariance: without negative eigenvalues."""
    values, vectors = np.linalg.eigh(matrix)
    return np.asarray((vectors * values.clip(0)) @ vectors.T)
