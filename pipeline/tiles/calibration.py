"""Real tiles from which a quantised network learns what to expect."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from configs import ConfigError, Doubt
from pipeline.errors import SlideError
from pipeline.slides.readers.base import show
from pipeline.slides.slide import Slide, open_slide
from pipeline.tiles.foreground import ForegroundSettings, find_foreground
from pipeline.tiles.tiler import TilePlan, TilerSettings, check_coarseness, plan_tiles
from pipeline.tiles.tilereader import read_tile

SIDE = 512
"""Model pixels: what a calibration tile's side is at most."""

Visit = Callable[[Slide, NDArray[np.uint8], tuple[float, float]], None]
"""Gets a slide, the pixels of one of its tiles, and where that begins in level-0 pixels."""


@dataclass(frozen=True)
class SampledTiles:
    """What a network is calibrated on.

    Attributes:
        tiles: (H, W, 3) RGB each, of at most `SIDE` px a side.
        slides: how many slides they are of.
        doubts: what was odd about slides that were looked at; each names its own.
    """

    tiles: list[NDArray[np.uint8]]
    slides: int
    doubts: tuple[Doubt, ...]


def sample_tiles(
    slides: Sequence[Path],
    model_mpp: float,
    count: int,
    slide_mpp: float | None = None,
    seed: int = 0,
    visit: Visit | None = None,
) -> SampledTiles:
    """Tiles with cells, drawn evenly over slides.

    Args:
        slides: their main files.
        model_mpp: µm per pixel of the tiles.
        count: how many tiles; fewer where the slides don't have as many.
        slide_mpp: of slides that carry none.
        seed: of the draw.
        visit: is shown each tile while its slide is open.

    Raises:
        SlideError: a slide can't be opened, or is so coarse that no screen would take it.
        ConfigError: none of the slides has a tile with cells that can be read.
    """
    rng = np.random.default_rng(seed)
    tiles: list[NDArray[np.uint8]] = []
    doubts: list[Doubt] = []
    giving = 0
    order = rng.permutation(len(slides))
    for done, index in enumerate(order):
        share = -(-(count - len(tiles)) // (len(order) - done))
        if not share:
            break
        with open_slide(slides[index], slide_mpp) as slide:
            odd = _doubts_of_scale(slide, model_mpp)
            found = _sample(slide, model_mpp, share, rng, visit)
            if not found:
                text = "no tile with cells that can be read was found, and none is taken of it"
                odd.append(Doubt(code="nothing-screened", text=text))
            told = show(slide.path)
            doubts += [Doubt(code=one.code, text=f"{told}: {one.text}") for one in odd]
        tiles += found
        giving += bool(found)
    if not tiles:
        raise ConfigError("--calibration: no tile with cells was found; name slides with cells")
    return SampledTiles(tiles, giving, tuple(doubts))


def _doubts_of_scale(slide: Slide, model_mpp: float) -> list[Doubt]:
    """What is to be told where a slide has to be enlarged: int8 would learn the ranges of blur.

    Raises:
        SlideError: it would be enlarged so much that nobody could judge its cells.
    """
    remedy = "leave it out of --calibration, or take a model for this scale"
    try:
        doubt = check_coarseness(slide.mpp, model_mpp, False, remedy=remedy)
    except SlideError as error:
        raise SlideError(f"{show(slide.path)}: {error.text}", error.code) from None
    return [doubt] if doubt else []


def _sample(
    slide: Slide,
    model_mpp: float,
    count: int,
    rng: np.random.Generator,
    visit: Visit | None,
) -> list[NDArray[np.uint8]]:
    plan = _plan(slide, model_mpp)
    found: list[NDArray[np.uint8]] = []
    for index in rng.permutation(plan.indices).tolist():
        if len(found) == count:
            break
        tile = read_tile(slide, plan.grid, index)
        if not len(tile.unread):
            found.append(tile.pixels)
            if visit is not None:
                left, top = plan.grid.regions(np.array([index]))[0, :2].tolist()
                visit(slide, tile.pixels, (left, top))
    return found


def _plan(slide: Slide, model_mpp: float) -> TilePlan:
    """Tiles with cells that lie inside the slide, as far as there are any."""
    downsample = model_mpp / slide.mpp
    shortest = int(min(slide.bounds.width, slide.bounds.height) / downsample)
    tiler = TilerSettings(size=max(1, min(SIDE, shortest)), overlap=0)
    mask = find_foreground(slide, ForegroundSettings())
    plan = plan_tiles(slide.bounds, slide.mpp, model_mpp, tiler, mask)
    inside = (
        plan.grid.regions(plan.indices)[:, 2:] <= (slide.bounds.right, slide.bounds.bottom)
    ).all(axis=1)
    return TilePlan(plan.grid, plan.indices[inside] if inside.any() else plan.indices)
