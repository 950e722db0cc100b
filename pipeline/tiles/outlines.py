"""Air bubbles under the coverslip, and its edges, by the dark outlines that they have.

Light is bent away at the rim of a bubble and at the edge of glass, whatever its colour: the outline
is dark in the clearest channel, where stain lets light pass. It encloses something round and much
larger than a cell, or it is straight and long.

Laid side by side without gaps, the outlines of 155 CRIC training fields enclose nothing larger than
0.011 mm², those of 30 for validation nothing beyond 0.015. There is no bubble in them: that bubbles
are found is known of drawn ones alone, on glass and across these fields.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Mask = NDArray[np.bool_]

OUTLINE = 0.2
"""Optical density in the clearest colour by which an outline stands out."""

WIDTH = 160.0
"""µm that an outline is wide at most."""

GAP = 24.0
"""µm of an outline that may be missing."""

LEAST_BUBBLE_MM2 = 0.05
"""Area that an outline encloses at least: that of a disc of 0.25 mm."""

LEAST_SOLID, LEAST_ROUND = 0.85, 0.8
"""Of what is enclosed, its share of its convex hull; of the hull, 4 pi area / perimeter²."""

LEAST_EDGE, EDGE_WIDTH = 2000.0, 200.0
"""µm that a straight outline is long at least, and wide at most."""


def find_bubbles(image: Image, mpp: float) -> Mask:
    """What lies in bubbles, their rims and straight edges too.

    Args:
        image: (H, W, 3) RGB of low resolution.
        mpp: µm per pixel; the limits were settled at 8.

    Returns:
        (H, W).
    """
    outlines = _outlines(image.max(axis=2), mpp)
    found = np.zeros(image.shape[:2], np.uint8)
    _draw_bubbles(found, outlines, mpp)
    _draw_edges(found, outlines, mpp)
    return found.view(bool)


def _outlines(brightest: Image, mpp: float) -> Image:
    """(H, W) 1 where the clearest colour is denser than what is around it."""
    closed = _close(brightest, WIDTH, mpp)
    levels = np.floor((np.arange(256) + 1) * 10**-OUTLINE - 1).astype(np.int16)
    return _close((brightest <= levels[closed]).view(np.uint8), GAP, mpp)


def _draw_bubbles(found: Image, outlines: Image, mpp: float) -> None:
    contours, tree = cv2.findContours(outlines, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    least = LEAST_BUBBLE_MM2 * (1000 / mpp) ** 2
    rim = 2 * math.ceil(GAP / mpp)
    for contour, (*_, parent) in zip(contours, [] if tree is None else tree[0], strict=True):
        if parent < 0:
            continue  # an outline's outer border; those of holes have a parent
        area, hull = cv2.contourArea(contour), cv2.convexHull(contour)
        if area < least or area < LEAST_SOLID * cv2.contourArea(hull):
            continue
        if 4 * math.pi * cv2.contourArea(hull) >= LEAST_ROUND * cv2.arcLength(hull, True) ** 2:
            cv2.drawContours(found, [hull], -1, 1, cv2.FILLED)
            cv2.drawContours(found, [hull], -1, 1, rim)


def _draw_edges(found: Image, outlines: Image, mpp: float) -> None:
    contours, _ = cv2.findContours(outlines, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    for contour in contours:
        short, long = sorted(cv2.minAreaRect(contour)[1])
        if long * mpp >= LEAST_EDGE and short * mpp <= EDGE_WIDTH:
            cv2.drawContours(found, [contour], -1, 1, cv2.FILLED)


def _close(image: Image, width: float, mpp: float) -> Image:
    side = 2 * round((width / mpp - 1) / 2) + 1
    window = np.ones((max(1, side), max(1, side)), np.uint8)
    return np.asarray(cv2.morphologyEx(image, cv2.MORPH_CLOSE, window))
