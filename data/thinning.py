"""Some of many, evenly spread: where a sample has to be the same each time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def evenly(count: int, most: int) -> NDArray[np.int64]:
    """Indices below ``count``, rising; of two and more the first and the last are among them.

    Args:
        count: how many there are.
        most: how many are taken at most; all where there are no more.
    """
    return np.linspace(0, count - 1, min(count, most)).round().astype(np.int64)
