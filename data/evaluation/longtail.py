"""Frequent, common and rare classes: where the long tail is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

FREQUENT, COMMON = 0.3, 0.03
"""Least share of the most frequent class's cells. LVIS, too, sets its groups a factor of ten apart,
but by absolute numbers, which would call every class of a small set rare."""

LONG_TAIL_RULE = (
    "by cells against the most frequent class: frequent from 3 in 10, common from 3 in 100, "
    "rare below"
)


def long_tail(counts: Sequence[int]) -> dict[str, NDArray[np.intp]]:
    """Classes by how frequent they are; groups without a class are left out.

    Args:
        counts: cells of each class, in training where that is known.
    """
    share = np.array(counts, np.float64) / max(*counts, 1)
    groups = {
        "frequent": share >= FREQUENT,
        "common": (share >= COMMON) & (share < FREQUENT),
        "rare": share < COMMON,
    }
    return {name: np.flatnonzero(members) for name, members in groups.items() if members.any()}
