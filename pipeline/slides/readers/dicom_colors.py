"""DICOM whose header misstates its colours: what its frames say, or show, is believed.

JPEGs say by their markers how they are stored. Frames of JPEG 2000 that the header calls YCbCr may
lack the transform of a codestream that is; whether they are YCbCr nevertheless their pixels show.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from configs import Doubt
from data.pixels.jpeg import Space, jpeg_head
from pipeline.errors import SlideError
from pipeline.slides.readers.colors import NAMES, told
from pipeline.slides.readers.dicom_codecs import (
    CODESTREAMS,
    JPEG,
    decode_frame,
    stated_space,
    transforms,
)
from pipeline.slides.readers.dicom_header import Instance

SAMPLED = 9
"""Frames of a level that show how it stores its colours, where nothing says so."""

_LUMINOUS, _NEUTRAL, _BRIGHT = 180, 32, 160
"""Of glass: in YCbCr luma is above the first, and chroma within the second of 128; in RGB all three
are above the third."""

Stored = Callable[[int], bytes]
"""Gives a frame's bytes by its index; raises ValueError where there are none."""


def settle_colors(
    head: Instance, counts: NDArray[np.int64], stored: Stored
) -> tuple[Space | None, Doubt | None]:
    """How colours are stored where the header misstates it, and what to tell; both None else.

    Args:
        head: what holds for all frames.
        counts: (N,) bytes of each.
        stored: gives them.

    Raises:
        SlideError: it can't be told.
    """
    try:
        data = stored(int(counts.argmax()))
    except (ValueError, SlideError):  # reading will tell
        return None, None
    stated = stated_space(head)
    if head.syntax in JPEG:
        jpeg = jpeg_head(data)
        space = jpeg.space if jpeg else None
        if space in (None, stated):
            return stated, None
        return space, told(stated, "the DICOM header")
    if head.syntax not in CODESTREAMS or stated == "rgb" or transforms(data) is not False:
        return None, None
    return _by_pixels(head, len(counts), stored)


def _by_pixels(head: Instance, count: int, stored: Stored) -> tuple[Space, Doubt]:
    """By frames of JPEG 2000 that the header calls YCbCr, but that have no transform to undo.

    Their brightest places, glass, are white: in YCbCr of chroma near 128, in RGB of three high
    values.

    Raises:
        SlideError: they are neither.
    """
    text = (
        f"the DICOM header says {head.photometric}, but its frames of JPEG 2000 have no such "
        "transform"
    )
    samples = _samples_of(head, count, stored)
    if samples is None:
        raise _refusal(text, "its frames are damaged")
    luminous = _brightest(samples, samples[:, 0])
    chroma = np.quantile(luminous[:, 1:], (0.1, 0.9), axis=0)
    space: Space
    if np.median(luminous[:, 0]) >= _LUMINOUS and np.abs(chroma - 128).max() <= _NEUTRAL:
        space = "ycbcr"
    elif np.quantile(_brightest(samples, samples.min(axis=1)), 0.1) >= _BRIGHT:
        space = "rgb"
    else:
        raise _refusal(text, "its pixels show neither RGB nor YCbCr clearly")
    text = f"{text}: read as {NAMES[space]}, which its brightest places show"
    return space, Doubt(code="colour-misstated", text=text)


def _samples_of(head: Instance, count: int, stored: Stored) -> NDArray[np.uint8] | None:
    """Pixels (N, 3), as they are stored, of some frames; None where none of them can be read."""
    parts = []
    for index in sorted(set(np.linspace(0, count - 1, SAMPLED).astype(int).tolist())):
        with contextlib.suppress(Exception):  # each codec has errors of its own
            parts.append(decode_frame(stored(index), head, "rgb").reshape(-1, 3))
    return np.concatenate(parts) if parts else None


def _brightest(samples: NDArray[np.uint8], by: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The brightest twentieth of samples (N, 3)."""
    return samples[by >= np.quantile(by, 0.95)]


def _refusal(text: str, why: str) -> SlideError:
    todo = "export the slide anew, or as TIFF"
    return SlideError(f"{text}; it can't be read so: {why}; {todo}", "colour-contradiction")
