"""Outlines of cells and nuclei, and the small raster on which one thing is drawn.

Outlines are (N, 2) polygons of x, y in µm around the nucleus centre.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from data.synth.noise import Band, FloatImage, texture, window

Outline = NDArray[np.float64]

_ANGLES = np.linspace(0.0, 2.0 * np.pi, 64, endpoint=False)
_CIRCLE = np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], 1)
_WAVES = np.arange(2, 9)
_WAVE_BASIS = np.concatenate(
    [np.cos(_ANGLES[:, None] * _WAVES), np.sin(_ANGLES[:, None] * _WAVES)], 1
)
_SUBPIXEL_BITS = 6

_FILL_EXCESS = 0.64
"""How far, in pixels, OpenCV's anti-aliased fill reaches beyond the outline; measured."""


def area_of(outline: Outline) -> float:
    """Area inside a polygon in µm² (shoelace formula)."""
    x, y = outline.T
    cross = x[:-1] @ y[1:] - y[:-1] @ x[1:] + x[-1] * y[0] - y[-1] * x[0]
    return float(abs(cross) / 2.0)


def blob(
    rng: np.random.Generator, area: float, elongation: float = 1.0, irregularity: float = 0.02
) -> Outline:
    """A closed contour of exactly ``area`` µm²: an ellipse whose radius wobbles.

    Args:
        rng: where the wobble and the direction come from.
        area: in µm².
        elongation: long axis over short axis, 1 for a circle.
        irregularity: relative amplitude of the wobble; 0.02 is smooth, 0.12 is jagged.
    """
    amplitude = rng.normal(size=(2, len(_WAVES))) * irregularity * 1.4 / _WAVES
    radius = np.maximum(1.0 + _WAVE_BASIS @ amplitude.ravel(), 0.4)
    outline = radius[:, None] * _CIRCLE
    outline[:, 0] *= elongation
    return turn(outline * np.sqrt(area / area_of(outline)), rng.uniform(0.0, np.pi))


def polygon(rng: np.random.Generator, radius: float, elongation: float = 1.0) -> Outline:
    """The angular outline of a flat squamous cell, its corners a little rounded."""
    corners = int(rng.integers(4, 9))
    angles = (np.arange(corners) + rng.uniform(-0.3, 0.3, corners)) * (2.0 * np.pi / corners)
    reach = radius * rng.uniform(0.72, 1.25, corners)
    outline = np.stack([reach * np.cos(angles), reach * np.sin(angles)], 1)
    outline *= (elongation**0.5, elongation**-0.5)
    outline = _cut_corners(_bow_sides(outline, rng))
    outline += rng.normal(0.0, rng.uniform(0.003, 0.014) * radius, outline.shape)
    return turn(_cut_corners(outline), rng.uniform(0.0, 2.0 * np.pi))


def _bow_sides(outline: Outline, rng: np.random.Generator) -> Outline:
    """Puts three points on each side, pushed in or out: sides are never straight."""
    after = np.roll(outline, -1, axis=0)
    bow = rng.normal(0.03, 0.09, (len(outline), 1))
    ragged = rng.normal(0.0, 0.02, (3, len(outline), 1))
    points = [outline]
    for ragged_part, t in zip(ragged, (0.25, 0.5, 0.75), strict=True):
        on_side = outline + (after - outline) * t
        points.append(on_side * (1.0 + bow * (1.0 - (2.0 * t - 1.0) ** 2) + ragged_part))
    return np.stack(points, 1).reshape(-1, 2)


def _cut_corners(outline: Outline) -> Outline:
    """One round of Chaikin's corner cutting."""
    after = np.roll(outline, -1, axis=0)
    return np.stack([0.75 * outline + 0.25 * after, 0.25 * outline + 0.75 * after], 1).reshape(
        -1, 2
    )


def spindle(
    rng: np.random.Generator, length: float, width: float, head: float = 0.5, bend: float = 0.15
) -> Outline:
    """A spindle along x (``head`` 0.5), or a tadpole (``head`` towards 0: where it is widest)."""
    t = np.linspace(0.0, 1.0, 40)
    power = np.log(0.5) / np.log(head)
    half = 0.5 * width * np.sin(np.pi * t**power) ** 1.3
    half *= 1.0 + rng.normal(0.0, 0.05, t.shape)
    along = (t - head) * length
    axis = bend * length * (rng.uniform(0.3, 1.0) * ((t - head) ** 2) * 2.0)
    return np.concatenate(
        [np.stack([along, axis + half], 1), np.stack([along, axis - half], 1)[::-1]]
    )


def turn(outline: Outline, angle: float) -> Outline:
    """Rotates an outline around the origin."""
    cosine, sine = np.cos(angle), np.sin(angle)
    return np.asarray(outline @ np.array([[cosine, sine], [-sine, cosine]]))


def _inset(outline: Outline, distance: float) -> Outline:
    """Moves each point inwards by ``distance``."""
    x, y = (np.roll(outline, -1, axis=0) - np.roll(outline, 1, axis=0)).T
    winding = np.sign(np.sum(outline[:, 0] * y - outline[:, 1] * x))
    inwards = np.stack([-y, x], 1) * (winding / np.maximum(np.hypot(x, y), 1e-9))[:, None]
    return np.asarray(outline + distance * inwards)


@dataclass(frozen=True)
class Sketch:
    """A small raster around a point of the slide, on which one thing is drawn.

    Attributes:
        x: slide pixel of the left column.
        y: slide pixel of the top row.
        width: in pixels.
        height: in pixels.
        center: (x, y) of the thing in slide pixels, with its fraction.
        mpp: µm per pixel.
    """

    x: int
    y: int
    width: int
    height: int
    center: tuple[float, float]
    mpp: float

    @staticmethod
    def around(center: tuple[float, float], mpp: float, reach: float) -> Sketch:
        """A raster that reaches ``reach`` µm to every side of ``center`` (slide pixels)."""
        half = int(np.ceil(reach / mpp)) + 2
        x, y = int(np.floor(center[0])) - half, int(np.floor(center[1])) - half
        return Sketch(x, y, 2 * half + 1, 2 * half + 1, center, mpp)

    def to_pixels(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Points in µm around the centre, as pixels of this raster (0, 0: first centre)."""
        origin = np.array([self.center[0] - self.x - 0.5, self.center[1] - self.y - 0.5])
        return np.asarray(points / self.mpp + origin)

    def mask(self, *outlines: Outline, soft: float) -> FloatImage:
        """Coverage 0..1 of the union of outlines, its edge softened by ``soft`` µm."""
        image = np.zeros((self.height, self.width), np.uint8)
        for outline in outlines:
            inner = _inset(outline, _FILL_EXCESS * self.mpp)
            cv2.fillPoly(image, [self._fixed(inner)], 255, cv2.LINE_AA, _SUBPIXEL_BITS)
        return self.blur(image.astype(np.float32) * np.float32(1.0 / 255.0), soft)

    def lines(self, paths: list[NDArray[np.float64]], width: float, soft: float) -> FloatImage:
        """Open polylines of ``width`` µm, softened by ``soft`` µm."""
        image = np.zeros((self.height, self.width), np.uint8)
        fixed = [self._fixed(path) for path in paths]
        thickness = max(1, round(width / self.mpp))
        cv2.polylines(image, fixed, False, 255, thickness, cv2.LINE_AA, _SUBPIXEL_BITS)
        return self.blur(image.astype(np.float32) * np.float32(1.0 / 255.0), soft)

    def dots(
        self, points: NDArray[np.float64], radii: NDArray[np.float64], soft: float
    ) -> FloatImage:
        """Round dots at (N, 2) points, radii in µm."""
        image = np.zeros((self.height, self.width), np.uint8)
        scale = 1 << _SUBPIXEL_BITS
        for point, radius in zip(self._fixed(points), radii, strict=True):
            size = max(1, round(radius / self.mpp * scale))
            cv2.circle(image, point.tolist(), size, 255, -1, cv2.LINE_AA, _SUBPIXEL_BITS)
        return self.blur(image.astype(np.float32) * np.float32(1.0 / 255.0), soft)

    def glow(self, sigma: float, at: tuple[float, float] = (0.0, 0.0)) -> FloatImage:
        """A Gaussian hill of height 1 at a point in µm."""
        columns = (np.arange(self.width) + self.x + 0.5 - self.center[0]) * self.mpp - at[0]
        rows = (np.arange(self.height) + self.y + 0.5 - self.center[1]) * self.mpp - at[1]
        along = np.exp(-0.5 * (columns / sigma) ** 2).astype(np.float32)
        down = np.exp(-0.5 * (rows / sigma) ** 2).astype(np.float32)
        return np.asarray(down[:, None] * along)

    def noise(self, rng: np.random.Generator, band: Band) -> FloatImage:
        """A random cut from a texture."""
        tile = texture(band, self.mpp)
        x, y = rng.integers(0, tile.shape[0], 2)
        return window(tile, int(x), int(y), self.width, self.height)

    def blur(self, image: FloatImage, sigma: float) -> FloatImage:
        """Gaussian blur, ``sigma`` in µm."""
        pixels = sigma / self.mpp
        if pixels < 0.2:
            return image
        return np.asarray(cv2.GaussianBlur(image, (0, 0), pixels, borderType=cv2.BORDER_REPLICATE))

    def _fixed(self, points: NDArray[np.float64]) -> NDArray[np.int32]:
        return np.rint(self.to_pixels(points) * (1 << _SUBPIXEL_BITS)).astype(np.int32)
