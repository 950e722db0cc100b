"""What is settled of a slide before its tiles are read, and what is odd about it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from configs import Doubt
from pipeline.conclusion import Clock, check_strict, source_of
from pipeline.errors import SlideError
from pipeline.in_force import settle_tiler
from pipeline.network.detector import TileDetector
from pipeline.network.looking import SecondLook
from pipeline.network.scale import check_estimate, check_scale, settle_estimate
from pipeline.settings import ScreenSettings
from pipeline.slides.readers.base import show
from pipeline.slides.slide import Slide
from pipeline.tiles.deposit import Deposit, find_deposit, square_side
from pipeline.tiles.focal import PlanePlan, plan_planes
from pipeline.tiles.focus import SIDE, FocusSquares
from pipeline.tiles.foreground import Foreground, find_foreground
from pipeline.tiles.planetiles import Job, PlaneTiles
from pipeline.tiles.plausible import Focus, Sample, find_implausible, judge_focus, take_samples
from pipeline.tiles.tiler import TilePlan, check_coarseness, plan_tiles


@dataclass(frozen=True)
class Seen:
    """What the overview and a few places show, for adequacy."""

    deposit: Deposit
    focus: Focus


@dataclass(frozen=True)
class SlidePlan:
    """What is done with a slide, and what of it was seen before.

    Attributes:
        slide: in the focal plane by which it is looked at as a whole.
        planes: which are screened.
        tiles: that are screened.
        doubts: what is odd about the slide.
        foreground: what its overview shows.
        samples: a few places, read finely.
        squares: whose sharpness is measured; None where the slide is too coarse for it.
        look: who looks again; None where nobody does.
    """

    slide: Slide
    planes: PlanePlan
    tiles: TilePlan
    doubts: list[Doubt]
    foreground: Foreground
    samples: list[Sample]
    squares: FocusSquares | None
    look: SecondLook | None

    @property
    def reader(self) -> PlaneTiles:
        """Reads the tiles in their focal planes."""
        return PlaneTiles(self.slide, self.planes, self.tiles.grid, self.foreground, self.squares)

    @property
    def jobs(self) -> list[Job]:
        """All readings of tiles."""
        return self.reader.jobs(self.tiles.indices)

    def seen(self, mpp: float) -> Seen:
        """What says something of adequacy.

        Args:
            mpp: µm per level-0 pixel.
        """
        overview = self.foreground
        deposit = find_deposit(overview.mask, overview.thick, overview.downsample, mpp)
        return Seen(deposit, judge_focus(self.samples))


def plan_slide(
    slide: Slide, detector: TileDetector, settings: ScreenSettings, clock: Clock | None = None
) -> SlidePlan:
    """All that is settled before a slide's tiles are read, and what is odd about the slide.

    Args:
        slide: an open one; its scale is estimated where that is wanted.
        detector: that is to screen it.
        settings: of all stations.
        clock: times the stages.

    Raises:
        SlideError: its scale can't be estimated where it is to be, it is much coarser than the
            model, has warnings and ``settings.strict`` is set, lacks in its header what DICOM
            objects need that are wanted, or a focal plane that is asked for.
    """
    card, clock = detector.card, clock or Clock()
    slide, planes = plan_planes(slide, settings.planes)
    source_of(slide, None, settings)  # what its header lacks is told before the work
    with clock("scale"):
        settle_estimate(slide, detector.scale, settings.scale, settings.foreground)
    with clock("foreground"):
        doubts = [*slide.doubts, *planes.doubts, *_doubts_of_scale(slide, settings, card.mpp)]
        check_strict(slide.path, doubts, settings.strict)  # before the work of the rest
        foreground = find_foreground(slide, settings.foreground)
        samples = take_samples(slide, foreground)
        implausible = find_implausible(slide, foreground, samples)
        check_estimate(slide, implausible)
        doubts += implausible
        check_strict(slide.path, doubts, settings.strict)
        tiler = settle_tiler(settings, card)
        tiles = plan_tiles(slide.bounds, slide.mpp, card.mpp, tiler, foreground)
        look, of_look = find_look(slide, detector)
        doubts += of_look
        check_strict(slide.path, doubts, settings.strict)
    with clock("scale"):
        if not implausible:  # what is no smear has no cells to measure
            doubts += check_scale(slide, foreground, detector.scale, settings.scale)
        check_strict(slide.path, doubts, settings.strict)
    side = SIDE * square_side(foreground.downsample, slide.mpp)
    squares = FocusSquares(tiles.grid, foreground, side, slide.mpp)
    return SlidePlan(
        slide,
        planes,
        tiles,
        doubts,
        foreground,
        samples,
        squares if squares.tells else None,
        look,
    )


def find_look(slide: Slide, detector: TileDetector) -> tuple[SecondLook | None, list[Doubt]]:
    """Who looks again at a slide, and what of its scale is to be told for that."""
    look = detector.second_look
    if look is None:
        return None, []
    looks, doubts = look.check_scale(slide.mpp)
    return look if looks else None, doubts


def core_area(plan: TilePlan) -> float:
    """Area in level-0 pixels that the planned tiles own together."""
    cores = plan.grid.cores(plan.indices)
    return float(np.prod(cores[:, 2:] - cores[:, :2], axis=1).sum())


def _doubts_of_scale(slide: Slide, settings: ScreenSettings, model_mpp: float) -> list[Doubt]:
    try:
        doubt = check_coarseness(slide.mpp, model_mpp, settings.tiler.allow_coarse)
    except SlideError as error:
        raise SlideError(f"{show(slide.path)}: {error.text}", error.code) from None
    return [doubt] if doubt else []
