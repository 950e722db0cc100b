"""The one way in which pixels change their scale, for training fields and slides alike.

A detector sees what it was trained on only if both go through the same filter.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SUPPORT = 1.0
"""Reach of the filter, in output pixels, to either side of an output pixel's centre."""


def resample(
    image: NDArray[np.uint8],
    size: tuple[int, int],
    box: tuple[float, float, float, float] | None = None,
) -> NDArray[np.uint8]:
    """Resamples a box of an image with an anti-aliasing triangle filter.

    Pixels outside the box, but inside the image, take part in the filter: two neighbouring boxes
    cut from images with a margin of `SUPPORT` output pixels meet without a seam.

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
    resized = Image.fromarray(image).resize(size, Image.Resampling.BILINEAR, box=box)
    return np.asarray(resized)
