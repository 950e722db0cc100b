"""Whether a picture looks like what this is for: a stained smear under transmitted light, in focus.

A detector answers whatever it is shown: of a black, inverted or blurred slide it says "no cells",
and that would pass for a result. Here the overview and a few places are looked at, before anything
is screened, and what lies outside of what cytology looks like is told.

The limits were settled on all 188 CRIC fields at hand (conventional smears, 40x) as they are and
with the fault, each field alone:

- brightness of the clear parts 228 to 255, of half of the picture 125 to 253; at half of the light
  116 to 127, inverted 62 to 233 and 5 to 95;
- tint of the clear parts 0 to 34; of colour one pixel in a hundred at least 31;
- sharpness 0.39 to 0.85; blurred by 1 µm (sigma) 0.20 to 0.31, below the limit in 97% of them, by
  0.5 µm, which the eye hardly sees, 0.33 to 0.60;
- colour of nuclei -0.18 to 0.29, the middle of nine fields -0.04 to 0.16; with red and blue swapped
  the same with the other sign. Of nine fields each, 78% are told then, and none as they are; of
  single ones 55% and 3%.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from configs import Doubt
from pipeline.errors import ReadError
from pipeline.flow import work_ahead
from pipeline.geometry import Size
from pipeline.slides.slide import Slide
from pipeline.tiles.foreground import Foreground
from pipeline.tiles.light import Light
from pipeline.tiles.places import fullest
from pipeline.tiles.sharpness import LEAST_SHARP, SAMPLE_MPP, sharpness

Image = NDArray[np.uint8]

LEAST_BRIGHT, LEAST_MIDDLE = 170, 90
"""Brightness, 0..255, that clear parts and half of the overview have at least."""

MOST_TINT = 60
"""Greatest difference of red, green and blue in the clear parts."""

LEAST_COLOUR = 6
"""Difference of red, green and blue, 0..255, that one pixel in ten thousand has at least."""

LEAST_NUCLEAR, LEAST_NUCLEAR_OF_FEW = -0.06, -0.075
"""By how much more red than blue the densest parts absorb at least, see `nuclear_colour`: in the
middle of `ENOUGH_SAMPLES` places or more, and of fewer, among which one odd field weighs more."""

ENOUGH_SAMPLES = 5

THREADS = 2
"""That read and measure places."""

SAMPLE_SIDE, SAMPLES = 512, 9
"""Side in pixels at `SAMPLE_MPP`, and number of the places that are looked at."""

LARGE_MM2 = 10.0
"""Area from which on a slide, unlike a single field, has both empty glass and cells."""

LEAST_FOREGROUND = 0.001
"""Share of a large slide's area that has cells at least."""

_LEAST_STAIN = 0.005
"""Share of a place that must be stained before it says anything about colour and focus."""

_STAINED = 0.15
"""Optical density, summed over the channels, from which on a pixel is stained."""


@dataclass(frozen=True)
class Sample:
    """What one place of a slide says."""

    sharpness: float
    nuclear: float


@dataclass(frozen=True)
class Focus:
    """How many of the places that were looked at are out of focus."""

    blurred: int
    places: int


def take_samples(slide: Slide, foreground: Foreground) -> list[Sample]:
    """A few places of a slide with much on them, spread over these; see `measure`."""
    side = _side(slide)
    if side is None:
        return []
    downsample = SAMPLE_MPP / slide.mpp

    def sample(corner: tuple[float, float]) -> Sample | None:
        try:
            return measure(slide.read_region(*corner, Size(side, side), downsample))
        except ReadError:
            return None  # what can't be read is told elsewhere

    corners = _corners(slide, foreground, side * downsample)
    with work_ahead(sample, corners, THREADS, THREADS) as samples:
        return [one for one in samples if one is not None]


def judge_focus(samples: list[Sample]) -> Focus:
    """Which of these places are too blurred for their cells to be judged."""
    return Focus(sum(sample.sharpness < LEAST_SHARP for sample in samples), len(samples))


def find_implausible(
    slide: Slide, foreground: Foreground, samples: list[Sample] | None = None
) -> list[Doubt]:
    """What of a slide doesn't look like a smear; nothing where it does.

    Args:
        slide: an open slide.
        foreground: where its cells are, with the light of its overview.
        samples: see `take_samples`; None to take them.
    """
    doubts = [*_of_light(foreground.light), *_of_area(slide, foreground)]
    doubts += _of_colour(slide, foreground)
    if any(doubt.code == "too-dark" for doubt in doubts):
        return doubts  # focus and colour of what is dark say nothing
    return [*doubts, *_of_samples(take_samples(slide, foreground) if samples is None else samples)]


def measure(pixels: Image) -> Sample | None:
    """Measures one place, (H, W, 3) RGB at `SAMPLE_MPP`; None where it has too little stain."""
    clear = np.percentile(pixels.reshape(-1, 3), 95, axis=0)
    density = -np.log10((pixels + 1.0) / (clear + 1)).clip(max=0)
    total = density.sum(axis=2)
    stained = total > _STAINED
    if stained.mean() < _LEAST_STAIN:
        return None
    sharp = sharpness(pixels)
    return None if sharp is None else Sample(sharp, nuclear_colour(density, total, stained))


def nuclear_colour(
    density: NDArray[np.float64], total: NDArray[np.float64], stained: NDArray[np.bool_]
) -> float:
    """How much more red than blue the densest tenth of what is stained absorbs, against the rest.

    Haematoxylin makes nuclei, the densest, blue: they absorb red. With red and blue swapped the
    sign turns.

    Args:
        density: (H, W, 3) optical density of red, green and blue.
        total: (H, W) its sum.
        stained: (H, W) what is stained.
    """
    dense = stained & (total >= np.percentile(total[stained], 90))
    rest = stained & ~dense
    if not rest.any():
        return 0.0
    (dense_red, _, dense_blue), (red, _, blue) = (
        density[mask].mean(axis=0) / density[mask].mean(axis=0).sum() for mask in (dense, rest)
    )
    return float((dense_red - red) - (dense_blue - blue))


def _of_light(light: Light | None) -> Iterator[Doubt]:
    if light is None:
        return
    if light.bright < LEAST_BRIGHT or light.middle < LEAST_MIDDLE:
        yield _doubt(
            "too-dark",
            f"its clear parts have a brightness of {light.bright:.0f} of 255 and half of it is "
            f"below {light.middle:.0f} (expected: at least {LEAST_BRIGHT} and {LEAST_MIDDLE}): "
            "black, inverted, or scanned with too little light",
        )
    elif light.tint > MOST_TINT:
        yield _doubt(
            "tinted-glass",
            f"its clear parts are tinted: red, green and blue differ by {light.tint:.0f} of 255 "
            f"(expected: at most {MOST_TINT})",
        )


def _of_colour(slide: Slide, foreground: Foreground) -> Iterator[Doubt]:
    """Tells of a grey slide that is stored in colours; one stored in grey is told by its reader."""
    light = foreground.light
    known = any(doubt.code == "grey" for doubt in slide.doubts)
    if light and light.colour < LEAST_COLOUR and foreground.mask.any() and not known:
        yield Doubt(code="grey", text="its red, green and blue are alike: it is grey")


def _of_area(slide: Slide, foreground: Foreground) -> Iterator[Doubt]:
    area = slide.bounds.area * (slide.mpp / 1000) ** 2
    share = foreground.area_px0() / slide.bounds.area
    if foreground.light is None or area < LARGE_MM2:
        return
    if share > 0.999:
        yield _doubt("no-glass", "no empty glass is to be seen on it")
    elif 0 < share < LEAST_FOREGROUND:
        yield Doubt(
            code="hardly-any-cells",
            text=f"only {share:.2%} of the scanned area has anything on it; little was screened",
        )


def _of_samples(samples: list[Sample]) -> Iterator[Doubt]:
    if not samples:
        return
    sharp = float(np.median([sample.sharpness for sample in samples]))
    nuclear = float(np.median([sample.nuclear for sample in samples]))
    if sharp < LEAST_SHARP:
        yield Doubt(
            code="out-of-focus",
            text=f"it is out of focus at most of the {len(samples)} places looked at: a sharpness "
            f"of {sharp:.2f} (expected: at least {LEAST_SHARP}); cells are missed and misjudged",
        )
    elif nuclear < (LEAST_NUCLEAR if len(samples) >= ENOUGH_SAMPLES else LEAST_NUCLEAR_OF_FEW):
        yield _doubt(
            "colours-swapped", "its densest parts are red where nuclei are blue: red and blue may "
            "be swapped"
        )  # fmt: skip


def _doubt(code: str, why: str) -> Doubt:
    return Doubt(
        code=code, text=f"does not look like a stained smear under transmitted light: {why}"
    )


def _side(slide: Slide) -> int | None:
    """Pixels at `SAMPLE_MPP` of a place's side; None of a slide that says nothing there.

    That is one which is tiny, or coarser: its details are not what the limits were settled on.
    """
    downsample = SAMPLE_MPP / slide.mpp
    if downsample < 0.8:
        return None
    size = min(SAMPLE_SIDE, int(min(slide.bounds.width, slide.bounds.height) / downsample))
    return None if size < 64 else size


def _corners(slide: Slide, foreground: Foreground, side: float) -> list[tuple[float, float]]:
    """Level-0 corners of squares that are fuller than most, spread evenly over the slide."""
    bounds = slide.bounds
    xs = bounds.x + np.arange(max(1, int(bounds.width / side))) * side
    ys = bounds.y + np.arange(max(1, int(bounds.height / side))) * side
    corners = np.stack(np.meshgrid(xs, ys), axis=-1).reshape(-1, 2)
    chosen = fullest(corners, side, foreground, SAMPLES)
    return [(float(x), float(y)) for x, y in chosen]
