"""One slide from file to report: the stations, one after the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from configs import ConfigError, Doubt, validate
from models import ModelSource
from pipeline.conclusion import Clock, check_strict, conclude
from pipeline.in_force import describe_model, what_finds
from pipeline.network.detector import TileDetector
from pipeline.planning import SlidePlan, core_area, plan_slide
from pipeline.reports.detections import Finder, Kept
from pipeline.reports.planes import describe_planes
from pipeline.reports.report import SlideReport, describe_slide, measure_area, union_area
from pipeline.search import Progress, Screened, Stop, search_tiles
from pipeline.settings import ScreenSettings
from pipeline.slides.slide import Slide, open_slide
from pipeline.tiles.faults import Faults
from pipeline.tiles.tiler import TilePlan

if TYPE_CHECKING:
    from models import DenseDetector


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
        ConfigError: a setting is not allowed, or does not fit this machine; or limits are set, or
            isolation of all slides, which batches alone have.
        ModelFileError: there is no such model.
    """
    path, settings = Path(path), _settings_of(settings)
    if settings.isolates_all:
        raise ConfigError(
            "limits, and isolate = always: for batches, which give each slide a process; this call "
            "screens the slide in its caller's: leave them out, or use cytolibra screen"
        )
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
            screened = search_tiles(ahead, detector, settings, clock, progress, stop)
        doubts += _doubts_of_reading(plan, screened)
        doubts += _doubts_of_planes(slide, screened)
        check_strict(path, doubts, settings.strict)
        kept = _keep(slide, ahead, screened, doubts, detector, settings)
        return conclude(kept, slide, detector, settings, clock)


def _settings_of(given: ScreenSettings | Mapping[str, Any] | None) -> ScreenSettings:
    if isinstance(given, ScreenSettings):
        return given
    return validate(given or {}, ScreenSettings, "settings")


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
    text = (
        "parts of focal planes could not be read, and others were taken there as far as they can "
        f"be: {each}"
    )
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
