"""One slide from file to report: the stations, one after the other."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from configs import Doubt, validate
from models import ModelSource
from pipeline.cells.found import Found
from pipeline.cells.naming import detection_floors
from pipeline.cells.stitcher import Stitcher
from pipeline.conclusion import Clock, check_strict, conclude, source_of
from pipeline.errors import SlideError
from pipeline.flow import in_batches, work_ahead
from pipeline.geometry import Boxes, Detections
from pipeline.in_force import describe_model, settle_tiler, what_finds
from pipeline.network.detector import TileDetector, own_thresholds
from pipeline.network.looking import LookPlan, SecondLook
from pipeline.network.scale import check_scale, settle_estimate
from pipeline.reports.detections import Finder, Kept
from pipeline.reports.planes import describe_planes
from pipeline.reports.report import SlideReport, describe_slide, measure_area, union_area
from pipeline.settings import ScreenSettings
from pipeline.slides.readers.base import show
from pipeline.slides.slide import Slide, open_slide
from pipeline.tiles.deposit import Deposit, find_deposit, square_side
from pipeline.tiles.faults import Faults
from pipeline.tiles.focal import PlanePlan, plan_planes
from pipeline.tiles.focus import SIDE, FocusSquares
from pipeline.tiles.foreground import Foreground, find_foreground
from pipeline.tiles.planetiles import Job, PlaneTiles, UnreadAreas
from pipeline.tiles.plausible import Focus, Sample, find_implausible, judge_focus, take_samples
from pipeline.tiles.tiler import TilePlan, check_coarseness, plan_tiles
from pipeline.tiles.tilereader import ReadTile

if TYPE_CHECKING:
    from models import DenseDetector

Progress = Callable[[int, int], None]
"""Told after each batch how many tiles are done, of how many."""


class Stop(Protocol):
    """An event, of threads or of processes, that ends what is in work."""

    def is_set(self) -> bool:
        """Whether to end."""


class StoppedError(SlideError):
    """Somebody wanted no more of it."""


def screen_slide(
    path: str | Path,
    detector: str | DenseDetector | ModelSource | TileDetector,
    settings: ScreenSettings | Mapping[str, Any] | None = None,
    *,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> SlideReport:
    """Screens one slide.

    Several threads may screen a slide each with one detector: it takes the tiles of one slide
    after the other's, while the other threads open slides and take pictures.

    Args:
        path: the slide's main file.
        detector: from `models.load_detector`; a model's name or folder, or a `ModelSource`; or
            made ready for many slides, as a `TileDetector`.
        settings: of all stations, or a mapping of them as in YAML; None for the defaults.
        progress: told how far it is.
        stop: looked at before each batch of tiles.

    Returns:
        The report, with the cells and the pictures for the page riding along.

    Raises:
        SlideError: the slide can't be opened, its scale can't be estimated where it is to be, it is
            much coarser than the model, too much of it can't be read, or it has warnings and
            ``settings.strict`` is set.
        StoppedError: ``stop`` was set.
        ConfigError: a setting is not allowed, or does not fit this machine.
        ModelFileError: there is no such model.
    """
    path, settings = Path(path), _settings_of(settings)
    if isinstance(detector, str):
        detector = ModelSource.find(detector)
    if not isinstance(detector, TileDetector):
        detector = TileDetector(
            detector, settings.runtime, settings.threshold, settings.second_look, settings.kept
        )
    clock = Clock()
    with clock("open"):
        opened = open_slide(path, settings.mpp_of(path), icc=settings.color.icc)
    with opened:
        ahead = plan_slide(opened, detector, settings, clock)
        slide, plan, doubts = ahead.slide, ahead.tiles, [*ahead.doubts]
        with clock.turn(detector.turn):
            screened = _screen_tiles(ahead, detector, settings, clock, progress, stop)
        doubts += _doubts_of_reading(plan, screened)
        doubts += _doubts_of_planes(slide, screened)
        check_strict(path, doubts, settings.strict)
        kept = _keep(slide, ahead, screened, doubts, detector, settings)
        return conclude(kept, slide, detector, settings, clock)


def find_look(slide: Slide, detector: TileDetector) -> tuple[SecondLook | None, list[Doubt]]:
    """Who looks again at a slide, and what of its scale is to be told for that."""
    look = detector.second_look
    if look is None:
        return None, []
    looks, doubts = look.check_scale(slide.mpp)
    return look if looks else None, doubts


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


def _settings_of(given: ScreenSettings | Mapping[str, Any] | None) -> ScreenSettings:
    if isinstance(given, ScreenSettings):
        return given
    return validate(given or {}, ScreenSettings, "settings")


@dataclass(frozen=True)
class Detected:
    """A batch of tiles with their cells, in tile pixels, and how long the detector took."""

    tiles: list[ReadTile]
    cells: list[Detections]
    seconds: float


@dataclass(frozen=True)
class Screened:
    """What came of a slide's tiles, in level-0 pixels.

    Attributes:
        found: before any threshold.
        unread: areas that could not be read, in any focal plane.
        missed: of each focal plane what could not be read of it.
        tiles: of each focal plane how many tiles were read in it; empty for one that has one.
        sharpness: of the slide's squares, in the plane where each is sharpest; None where the
            slide is too coarse.
    """

    found: Found
    unread: Boxes
    missed: dict[int, Boxes]
    tiles: dict[int, int]
    sharpness: NDArray[np.float16] | None


@dataclass(frozen=True)
class Seen:
    """What the overview and a few places show, for adequacy."""

    deposit: Deposit
    focus: Focus


def _screen_tiles(
    planned: SlidePlan,
    detector: TileDetector,
    settings: ScreenSettings,
    clock: Clock,
    progress: Progress | None,
    stop: Stop | None,
) -> Screened:
    slide, plan, look = planned.slide, planned.tiles, planned.look
    reader, jobs, squares = planned.reader, planned.jobs, planned.squares
    stitcher = Stitcher(plan.grid, settings.stitcher)
    sharpness = np.full(squares.shape, np.nan, np.float16) if squares else None
    abnormal = np.array(detector.card.detector.is_abnormal)
    unread, by_plane = UnreadAreas(planned.planes), Counter[int]()
    tiler = plan.grid.settings
    ahead = look.plan(len(jobs), tiler.size) if look else LookPlan(0, 0, 0)
    total = len(jobs) + ahead.in_tiles
    done = 0

    def detect(tiles: list[ReadTile]) -> Detected:
        start = time.perf_counter()
        try:
            cells = detector.detect([tile.pixels for tile in tiles])
        except MemoryError as error:
            raise SlideError(
                f"{show(slide.path)}: out of memory on {detector.device}; turn down "
                f"runtime.batch_size ({detector.batch_size}) or tiler.size ({tiler.size})"
            ) from error
        return Detected(tiles, cells, time.perf_counter() - start)

    with (
        work_ahead(reader.read, jobs, detector.readers, 4 * detector.readers) as tiles,
        work_ahead(
            detect, in_batches(tiles, detector.batch_size), detector.lanes, detector.lanes
        ) as batches,
    ):
        for batch in batches:
            _check_stop(slide, stop)
            clock.add("detect", batch.seconds)
            for tile, cells in zip(batch.tiles, batch.cells, strict=True):
                owned = look.thin_out(cells, ahead.of_tile) if look else cells
                stitcher.add(tile.index, owned, tile.plane)
                unread.add(tile)
                clock.add("read", tile.seconds)
                if sharpness is not None:
                    tile.sharpness.put_into(sharpness)
                    clock.add("sharpness", tile.sharpness.seconds)
                if tile.focusing:
                    clock.add("focus", tile.focusing)
                if tile.plane is not None:
                    by_plane[tile.plane] += 1
            done += len(batch.tiles)
            if progress:
                progress(done, total)
    with clock("stitch"):
        cells = stitcher.merge()
    nowhere = unread.nowhere()
    _check_readable(slide, plan, nowhere, settings.max_unread)
    if look is None:
        complete = detection_floors(_kept_from(detector), own_thresholds(detector.card), abnormal)
        # A slide too coarse for a second look was searched further down than is of use.
        found = Found(cells[cells.scores >= complete[cells.labels]], complete)
        return Screened(found, nowhere, unread.by_plane(), by_plane, sharpness)

    def step(crops: int, of: int) -> None:
        _check_stop(slide, stop)
        if progress:
            progress(done + ahead.in_tiles * crops // of, total)

    with clock("second look"):
        threads = (detector.readers, detector.lanes)
        looked = look.look(slide, cells, ahead.cells, settings.stitcher, threads, step)
    places = looked.places
    found = Found(places, _kept_from(detector), True, len(places), looked.unread)
    return Screened(found, nowhere, unread.by_plane(), by_plane, sharpness)


def _kept_from(detector: TileDetector) -> NDArray[np.float32]:
    """(C,) scores from which on everything is kept."""
    alone = detector.thresholds
    return alone if detector.kept is None else np.full_like(alone, detector.kept)


def _check_stop(slide: Slide, stop: Stop | None) -> None:
    if stop and stop.is_set():
        raise StoppedError(f"{show(slide.path)}: stopped")


def _check_readable(slide: Slide, plan: TilePlan, unread: Boxes, limit: float) -> None:
    wanted = core_area(plan)
    share = union_area(unread) / wanted if wanted else 0.0
    if share > limit:
        raise SlideError(
            f"{show(slide.path)}: {share:.0%} of what had to be screened can't be read, more than "
            f"max_unread = {limit:.0%}; the file is damaged: copy it again"
        )


def _doubts_of_scale(slide: Slide, settings: ScreenSettings, model_mpp: float) -> list[Doubt]:
    try:
        doubt = check_coarseness(slide.mpp, model_mpp, settings.tiler.allow_coarse)
    except SlideError as error:
        raise SlideError(f"{show(slide.path)}: {error.text}", error.code) from None
    return [doubt] if doubt else []


def _doubts_of_reading(plan: TilePlan, screened: Screened) -> list[Doubt]:
    doubts = []
    if len(screened.unread):
        text = "part of the slide could not be read and was not screened; see area.unread"
        doubts.append(Doubt(code="unread-area", text=text))
    if not len(plan):
        text = "no cells were seen on the overview; nothing was screened"
        doubts.append(Doubt(code="nothing-screened", text=text))
    if screened.found.unread:
        text = (
            f"{screened.found.unread} of the cells that were to be looked at again can't be read "
            "at that scale; they keep the detector's scores"
        )
        doubts.append(Doubt(code="second-look-unread", text=text))
    return doubts


def _doubts_of_planes(slide: Slide, screened: Screened) -> list[Doubt]:
    """What could not be read of single focal planes, where others were looked at."""
    missed = {
        plane: union_area(boxes) * (slide.mpp / 1000) ** 2
        for plane, boxes in screened.missed.items()
    }
    if not missed:
        return []
    each = "; ".join(f"{slide.planes[n].name}: {mm2:.3g} mm²" for n, mm2 in missed.items())
    text = f"parts of focal planes could not be read, and the others were taken there: {each}"
    return [Doubt(code="plane-unread", text=text)]


def _keep(
    slide: Slide,
    planned: SlidePlan,
    screened: Screened,
    doubts: Sequence[Doubt],
    detector: TileDetector,
    settings: ScreenSettings,
) -> Kept:
    """All of a slide that its report is made of, but for pictures."""
    seen, foreground = planned.seen(slide.mpp), planned.foreground
    area = core_area(planned.tiles) - union_area(screened.unread)
    return Kept(
        screened.found,
        describe_slide(slide),
        measure_area(slide.bounds, slide.mpp, area, screened.unread),
        tuple(doubts),
        Finder.of(describe_model(detector)),
        what_finds(settings, detector),
        seen.deposit,
        seen.focus,
        Faults(foreground.ink, foreground.bubbles, screened.sharpness),
        describe_planes(slide, screened.tiles),
    )


def core_area(plan: TilePlan) -> float:
    """Area in level-0 pixels that the planned tiles own together."""
    cores = plan.grid.cores(plan.indices)
    return float(np.prod(cores[:, 2:] - cores[:, :2], axis=1).sum())
