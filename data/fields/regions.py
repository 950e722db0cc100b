"""Slides cut into fields that a detector takes whole, so that each cell counts exactly once.

Parts overlap. Half-way through each overlap runs a seam; between its seams lies a part's core,
and cores divide the slide. A part has the cells whose centres lie in its core; what lies around the
core, and the cells of others that reach into it, count neither as cell nor as background.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from configs import ConfigError
from data.fields.fieldset import Field, FieldSet

Window = tuple[float, float, float, float]
"""xyxy in pixels of its field."""

LARGEST = 768
"""Longest side, in pixels of the model's mpp, of a field that is taken as a whole: some 0.15 mm² at
0.5 µm/px. COCO's cap on detections an image never binds then, and NMS, quadratic at the low scores
that evaluation looks at, stays quick."""

SURROUNDINGS = 64
"""What a part shows around its core at least, in pixels of the model's mpp."""


def cut_fields(fields: FieldSet, mpp: float, largest: int = LARGEST) -> FieldSet:
    """Cuts what is larger than a detector takes at once; smaller fields stay as they are.

    Parts of which nothing was annotated are left out. Around its core each shows half of the widest
    cell, so that its own cells, whose middles lie in the core, are whole.

    Args:
        fields: annotated fields; a slide is one.
        mpp: of the detector.
        largest: longest side of a part, in pixels of ``mpp``.
    """
    widest = max((_widest(field) for field in fields.fields), default=0.0)
    around = min(max(SURROUNDINGS, math.ceil(widest / mpp / 2)), largest // 4)
    parts = [part for field in fields.fields for part in _parts(field, mpp, largest, around)]
    return replace(fields, fields=tuple(parts))


def downsample_of(field: Field, mpp: float) -> float:
    """Pixels of a field per pixel at ``mpp``.

    Raises:
        ConfigError: neither the image nor the annotations say the field's mpp.
    """
    if field.mpp is None:
        raise ConfigError(
            f"{field.image}: nobody gives the mpp of this image; set mpp beside its annotations, "
            'or add "mpp" to its entry in a COCO file'
        )
    return mpp / field.mpp


def _widest(field: Field) -> float:
    """Longest side of a cell in µm."""
    sides = (field.boxes[:, 2:] - field.boxes[:, :2])[~field.crowd]
    return float(sides.max(initial=0.0)) * (field.mpp or 0.0)


def _parts(field: Field, mpp: float, largest: int, around: int) -> Iterator[Field]:
    downsample = downsample_of(field, mpp)
    if max(field.width, field.height) <= largest * downsample:
        yield field
        return
    columns = _spans(field.width, downsample, largest, around)
    for top, upper, lower, bottom in _spans(field.height, downsample, largest, around):
        for left, start, end, right in columns:
            core = (float(start), float(upper), float(end), float(lower))
            if not is_covered(core, field.boxes[field.crowd]):
                yield _part(field, (left, top, right, bottom), core)


def _spans(
    length: int, downsample: float, largest: int, around: int
) -> list[tuple[int, int, int, int]]:
    """Along an axis: start of each part, its core's start and end, and its end."""
    around = round(around * downsample)
    count = int(np.ceil(length / (largest * downsample - 2 * around)))
    seams = np.linspace(0, length, count + 1).round().astype(int).tolist()
    return [(max(0, a - around), a, b, min(length, b + around)) for a, b in pairwise(seams)]


def _part(
    field: Field, view: tuple[int, int, int, int], core: tuple[float, float, float, float]
) -> Field:
    left, top, right, bottom = view
    near = touching(field.boxes, view)
    centers = (field.boxes[near, :2] + field.boxes[near, 2:]) / 2
    own = ((centers >= core[:2]) & (centers < core[2:])).all(axis=1)
    crowd = field.crowd[near] | ~own
    ring = _ring(view, core)
    boxes = np.concatenate([field.boxes[near], ring]) - np.tile([left, top], 2)
    size = np.tile([right - left, bottom - top], 2)
    return replace(
        field,
        width=right - left,
        height=bottom - top,
        boxes=boxes.clip(0, size).astype(np.float32),
        nuclei=np.concatenate([field.nuclei[near] - (left, top), _middles(ring) - (left, top)])
        .clip(0, size[:2])
        .astype(np.float32),
        labels=np.concatenate([field.labels[near], np.zeros(len(ring), np.int64)]),
        crowd=np.concatenate([crowd, np.ones(len(ring), bool)]),
        origin=(field.origin[0] + left, field.origin[1] + top),
        slide=field.slide or str(field.image),
    )


def _ring(
    view: tuple[int, int, int, int], core: tuple[float, float, float, float]
) -> NDArray[np.float64]:
    """What a part shows beyond its core, as (K, 4) rectangles of its full length or height."""
    (left, top, right, bottom), (start, upper, end, lower) = view, core
    sides = np.array(
        [
            [left, top, start, bottom],
            [end, top, right, bottom],
            [left, top, right, upper],
            [left, lower, right, bottom],
        ],
        np.float64,
    )
    return sides[(sides[:, 2:] > sides[:, :2]).all(axis=1)]


def _middles(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    return (boxes[:, :2] + boxes[:, 2:]) / 2


def touching(boxes: NDArray[np.floating], window: Window) -> NDArray[np.bool_]:
    """Which of (N, 4) boxes have area in common with a window."""
    before = (boxes[:, :2] < window[2:]).all(axis=1)
    behind = (boxes[:, 2:] > window[:2]).all(axis=1)
    return np.logical_and(before, behind)


def is_covered(window: Window, areas: NDArray[np.floating]) -> bool:
    """Whether one of (N, 4) areas holds a window as a whole."""
    low = (areas[:, :2] <= window[:2]).all(axis=1)
    high = (areas[:, 2:] >= window[2:]).all(axis=1)
    return bool((low & high).any())
