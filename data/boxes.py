"""Boxes against boxes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def box_iou(ones: NDArray[np.floating], others: NDArray[np.floating]) -> NDArray[np.float64]:
    """(N, M) intersection over union of (N, 4) and (M, 4) boxes, xyxy."""
    low = np.maximum(ones[:, None, :2], others[None, :, :2])
    high = np.minimum(ones[:, None, 2:], others[None, :, 2:])
    common = (high - low).clip(0).prod(axis=2)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(axis=1) for boxes in (ones, others)]
    union = areas[0][:, None] + areas[1][None] - common
    return np.divide(common, union, out=np.zeros(common.shape), where=union > 0)
