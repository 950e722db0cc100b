"""Where on a field crops are worth while, by a map of low resolution.

The share of a slide in which crops have something to teach may be tiny: one region of interest that
was annotated, a few clumps of cells. Places are therefore drawn from a map of them; drawing
anywhere until a crop happens to show something would seldom end.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from data.fields.fieldset import Field

FAINTEST = 0.05
"""Optical density above the glass's own from which on there may be a cell."""

DARKEST = 2.55
"""Optical density beyond which nothing counts as darker: folds and heaps are no better places."""

STEPS = 100
"""Grey levels of a survey per unit of optical density."""

MOST_PIXELS = 2_000_000
"""Pixels of a survey; those of larger slides are coarser: at 25 x 50 mm 32 µm wide."""


@dataclass(frozen=True)
class Survey:
    """How dark a field is, and where.

    Attributes:
        darkness: (H, W) uint8, `STEPS` a unit of optical density above glass; 0 where there can be
            no cell.
        step: (2,) pixels of the field per pixel in x and y.
    """

    darkness: NDArray[np.uint8]
    step: NDArray[np.float64]


def survey_of(
    image: NDArray[np.uint8],
    step: NDArray[np.float64],
    cellular: NDArray[np.bool_] | None = None,
) -> Survey:
    """Surveys a field.

    Args:
        image: (H, W, 3) RGB, all of it at a low resolution.
        step: (2,) pixels of the field per pixel of it, in x and y.
        cellular: (H, W) where cells may be, where that is known: neither glass, nor ink, nor what
            was never scanned. Then what lies there is worth a place however faint it is.
    """
    density = -np.log((image.astype(np.float32).mean(axis=2) + 1) / 256)
    seen = density if cellular is None else density[cellular]  # with a margin of glass
    density -= np.percentile(seen, 10) if seen.size else 0
    if cellular is None:
        darkness = np.maximum(density - FAINTEST, 0)
    else:
        darkness = np.where(cellular, np.maximum(density, 1 / STEPS), 0)
    levels = np.ceil(np.minimum(darkness, DARKEST) * STEPS).astype(np.uint8)
    factor = math.ceil(math.sqrt(levels.size / MOST_PIXELS))
    return Survey(_coarser(levels, factor), step * factor)


class Places:
    """The middles that windows may have on a field.

    Args:
        field: the field.
        survey: of it.
        shortest: side of the smallest window in pixels of the field.
        longest: of the largest.
    """

    def __init__(self, field: Field, survey: Survey, shortest: float, longest: float) -> None:
        self._crowd = field.crowd
        self._darkness, self._step = survey.darkness, survey.step
        self._boxes = field.boxes / np.tile(self._step, 2)
        # (2,) width and height: what the smallest window shows for sure, and the largest may show.
        self._least = np.maximum(1, np.floor(shortest / self._step)).astype(int)
        self._most = np.ceil(longest / self._step).astype(int)

    def draw(self, rng: np.random.Generator) -> tuple[float, float] | None:
        """Middle of a window that shows something that was annotated, all of them evenly.

        Returns:
            x and y in pixels of the field; None where there is none.
        """
        return self._pick(self._anywhere, rng)

    def draw_background(self, rng: np.random.Generator) -> tuple[float, float] | None:
        """Middle of a window that shows no annotated cell, the likelier the darker it is."""
        return self._pick(self._background, rng)

    def _pick(
        self, sums: NDArray[np.float64], rng: np.random.Generator
    ) -> tuple[float, float] | None:
        if not sums[-1]:
            return None
        pixel = np.searchsorted(sums, rng.random() * sums[-1], side="right")
        row, column = np.divmod(pixel, self._darkness.shape[1])
        x, y = (np.array([column, row]) + rng.random(2)) * self._step
        return float(x), float(y)

    @cached_property
    def _anywhere(self) -> NDArray[np.float64]:
        """Running sum over pixels: 1 where the window around holds what counts."""
        shown = (self._darkness > 0).astype(np.uint8)
        for area in _inwards(self._boxes[self._crowd]):
            shown[area] = 0
        kernel = np.ones(self._least[::-1], np.uint8)
        return _sums(_inner(cv2.dilate(shown, kernel, borderValue=0), self._least))

    @cached_property
    def _background(self) -> NDArray[np.float64]:
        """Running sum over pixels of how dark the window around is; 0 where it shows a cell."""
        window = self._most.tolist()
        weight = cv2.blur(
            self._darkness.astype(np.float32), window, borderType=cv2.BORDER_REPLICATE
        )
        # Windows' middles within reach of a cell, or in a crowd; a pixel more, as drawing jitters.
        reach = (self._most / 2 + 1)[[0, 1, 0, 1]] * [-1, -1, 1, 1]
        cells, ignored = self._boxes[~self._crowd], self._boxes[self._crowd]
        for area in _outwards(np.concatenate([cells + reach, ignored])):
            weight[area] = 0
        return _sums(_inner(weight, self._most))


def _inner(weight: Any, window: NDArray[np.int64]) -> Any:
    """Without the middles of windows that the border of the field would move."""
    inner = np.zeros_like(weight)
    halves = np.minimum(window[::-1], weight.shape) // 2
    rows, columns = (
        slice(half, max(half + 1, length - half))
        for half, length in zip(halves, weight.shape, strict=True)
    )
    inner[rows, columns] = weight[rows, columns]
    return inner


def _coarser(levels: NDArray[np.uint8], factor: int) -> NDArray[np.uint8]:
    """The darkest of each square of ``factor`` pixels: a lone cell stays."""
    height, width = (math.ceil(length / factor) * factor for length in levels.shape)
    padded = np.zeros((height, width), np.uint8)
    padded[: levels.shape[0], : levels.shape[1]] = levels
    return padded.reshape(height // factor, factor, width // factor, factor).max(axis=(1, 3))


def _sums(weight: NDArray[np.generic]) -> NDArray[np.float64]:
    return np.cumsum(weight.ravel(), dtype=np.float64)


def _inwards(boxes: NDArray[np.floating]) -> list[tuple[slice, slice]]:
    """Rows and columns of the pixels that lie in each of (N, 4) boxes as a whole."""
    return _areas(np.ceil(boxes[:, :2]), np.floor(boxes[:, 2:]))


def _outwards(boxes: NDArray[np.floating]) -> list[tuple[slice, slice]]:
    """Rows and columns of the pixels that each of (N, 4) boxes touches."""
    return _areas(np.floor(boxes[:, :2]), np.ceil(boxes[:, 2:]))


def _areas(low: NDArray[np.floating], high: NDArray[np.floating]) -> list[tuple[slice, slice]]:
    corners = np.concatenate([low, high], axis=1).clip(0).astype(int).tolist()
    return [(slice(top, bottom), slice(left, right)) for left, top, right, bottom in corners]
