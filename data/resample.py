"""The one way in which pixels change their scale, for training fields and slides alike.

A detector sees what it was trained on only if both go through the same filter.
"""

from __future__ import annotations

import math
import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SUPPORT = 1.0
"""Reach of the filter, in output pixels, to either side of an output pixel's centre."""

ROOM = 4
"""Output pixels before a box of which torch may need some; see `resample`."""

LARGE = 1024 * 1024
"""Output pixels from which on torch's way is taken: those of tiles, not of fields."""

HANDY = 64
"""Tiles lie multiples of so many output pixels apart, mostly."""

_EXACT = 1e-6
"""Pixels by which torch's grid may lie beside the box's. With 1/32 it would fit at nearly any
scale, and values would differ by a level or two; but overlapping tiles would then show slightly
different pixels, and 1.4% of the cells near the threshold depend on where the tiles lie."""

Box = tuple[float, float, float, float]
Pixels = NDArray[np.uint8]


def resample(image: Pixels, size: tuple[int, int], box: Box | None = None) -> Pixels:
    """Resamples a box of an image with an anti-aliasing triangle filter.

    Pixels outside the box, but inside the image, take part in the filter: two neighbouring boxes
    cut from images with a margin of `SUPPORT` output pixels meet without a seam.

    Pillow does it for any box. torch has the same filter, vectorised, three to five times as fast,
    but only for grids that start on a whole pixel, as at 2, 1.5 or 1.25. Large boxes with `ROOM`
    before them are extended to the left and up by as many output pixels as lead to one, and cut.

    Args:
        image: (H, W, 3) or (H, W) uint8.
        size: (width, height) of the result in pixels.
        box: (left, top, right, bottom) in pixels of ``image``, may be fractional;
            the whole image by default.

    Returns:
        uint8 array of the wanted size, with as many channels as ``image``.
    """
    if (box is None or box == (0, 0, *size)) and image.shape[1::-1] == tuple(size):
        return image
    box = box or (0.0, 0.0, float(image.shape[1]), float(image.shape[0]))
    fast = _by_torch(image, size, box) if image.ndim == 3 else None
    if fast is not None:
        return fast
    resized = Image.fromarray(image).resize(size, Image.Resampling.BILINEAR, box=box)
    return np.asarray(resized)


def _by_torch(image: Pixels, size: tuple[int, int], box: Box) -> Pixels | None:
    """The same by torch; None where its grid would not fit, or where it is not worth it."""
    left, top, right, bottom = box
    scale_x, scale_y = (right - left) / size[0], (bottom - top) / size[1]
    if min(scale_x, scale_y) < 1 or size[0] * size[1] < LARGE:
        return None
    if not (_is_handy(scale_x) and _is_handy(scale_y)):
        return None
    across, down = _whole_start(left, scale_x), _whole_start(top, scale_y)
    if across is None or down is None:
        return None
    (x, skip_x), (y, skip_y) = across, down
    part = image[
        y : math.ceil(y + (size[1] + skip_y + SUPPORT) * scale_y) + 1,
        x : math.ceil(x + (size[0] + skip_x + SUPPORT) * scale_x) + 1,
    ]
    if not part.flags.writeable:  # torch would warn
        part = part.copy()
    torch = _load_torch()
    shrunk = torch.nn.functional.interpolate(
        torch.from_numpy(part).permute(2, 0, 1)[None],
        scale_factor=(1 / scale_y, 1 / scale_x),
        mode="bilinear",
        antialias=True,
    )[0].permute(1, 2, 0)
    rows, columns = slice(skip_y, skip_y + size[1]), slice(skip_x, skip_x + size[0])
    result: Pixels = np.ascontiguousarray(shrunk[rows, columns].numpy())
    return result if result.shape[1::-1] == tuple(size) else None


def _is_handy(scale: float) -> bool:
    """Whether a scale is one at which all tiles of a slide start on whole pixels.

    At others few of them do, by chance: not worth loading torch for.
    """
    return abs(HANDY * scale - round(HANDY * scale)) < _EXACT


def _whole_start(start: float, scale: float) -> tuple[int, int] | None:
    """A whole pixel so many output pixels before a start; None where none is near enough.

    At least one output pixel lies between, which the cut leaves without its neighbours, unless
    the start is the image's own edge.
    """
    if start == 0:
        return 0, 0
    steps = np.arange(1, min(ROOM, math.floor(start / scale)) + 1)
    if not len(steps):
        return None
    places = start - steps * scale
    beside = np.abs(places - np.round(places))
    best = int(np.argmin(beside > beside.min() + 1e-6))  # the first of the best
    if beside[best] > _EXACT:
        return None
    return round(float(places[best])), int(steps[best])


def _load_torch() -> Any:
    """torch, which a screen may have done without until the first tile that is to be resampled.

    Then threads that read do the work, each for itself: it gets no threads of its own.
    """
    is_first = "torch" not in sys.modules
    import torch

    if is_first:
        torch.set_num_threads(1)
    return torch
