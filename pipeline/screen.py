"""One slide from file to report: the stations, one after the other."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from configs import Doubt, validate
from models import ModelSource
from models.card import ModelCard
from pipeline.cells.domain import check_domain, doubts_of_domain
from pipeline.cells.stitcher import Stitcher
from pipeline.errors import SlideError
from pipeline.flow import in_batches, work_ahead
from pipeline.geometry import Boxes, Detections
from pipeline.in_force import (
    accuracy_of,
    alarms_of,
    describe_model,
    settings_in_force,
    settle_tiler,
)
from pipeline.network.detector import TileDetector, own_thresholds
from pipeline.network.looking import Looked, LookPlan, SecondLook
from pipeline.network.scale import check_scale, settle_estimate
from pipeline.reports.adequacy import Specimen, warn_of
from pipeline.reports.pictures import take_pictures
from pipeline.reports.report import (
    LookFacts,
    SlideReport,
    build_report,
    describe_slide,
    judge_cells,
    measure_area,
    most_suspicious_first,
    union_area,
)
from pipeline.reports.triage import carriers
from pipeline.settings import ScreenSettings
from pipeline.slides.readers.base import show
from pipeline.slides.slide import Slide, open_slide
from pipeline.tiles.deposit import Deposit, find_deposit
from pipeline.tiles.foreground import Foreground, find_foreground
from pipeline.tiles.plausible import Focus, Sample, find_implausible, judge_focus, take_samples
from pipeline.tiles.tiler import TilePlan, check_coarseness, plan_tiles
from pipeline.tiles.tilereader import ReadTile, read_tile

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
            detector, settings.runtime, settings.threshold, settings.second_look
        )
    clock = Clock()
    with clock("open"):
        slide = open_slide(path, settings.mpp_of(path))
    with slide:
        with clock("scale"):
            settle_estimate(slide, detector.scale, settings.scale, settings.foreground)
        with clock("foreground"):
            ahead = plan_slide(slide, detector.card, settings)
            plan, doubts = ahead.tiles, [*ahead.doubts]
            look, of_look = find_look(slide, detector)
            doubts += of_look
            check_strict(path, doubts, settings.strict)
        with clock("scale"):
            if not ahead.implausible:  # what is no smear has no cells to measure
                doubts += check_scale(slide, ahead.foreground, detector.scale, settings.scale)
            check_strict(path, doubts, settings.strict)
        with clock.turn(detector.turn):
            found = _screen_tiles(slide, plan, detector, look, settings, clock, progress, stop)
        doubts += _doubts_of_reading(plan, found)
        check_strict(path, doubts, settings.strict)
        seen = ahead.seen(slide.mpp)
        return _report(slide, plan, found, seen, doubts, detector, settings, clock)


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
        tiles: that are screened.
        doubts: what is odd about the slide.
        foreground: what its overview shows.
        samples: a few places, read finely.
        implausible: whether it looks like no smear.
    """

    tiles: TilePlan
    doubts: list[Doubt]
    foreground: Foreground
    samples: list[Sample]
    implausible: bool

    def seen(self, mpp: float) -> Seen:
        """What says something of adequacy.

        Args:
            mpp: µm per level-0 pixel.
        """
        overview = self.foreground
        deposit = find_deposit(overview.mask, overview.thick, overview.downsample, mpp)
        return Seen(deposit, judge_focus(self.samples))


def plan_slide(slide: Slide, card: ModelCard, settings: ScreenSettings) -> SlidePlan:
    """The tiles of a slide that a model is to look at, and what is odd about the slide.

    Raises:
        SlideError: it is much coarser than the model, or has warnings and ``settings.strict`` is
            set.
    """
    doubts = [*slide.doubts, *_doubts_of_scale(slide, settings, card.mpp)]
    check_strict(slide.path, doubts, settings.strict)  # before the work of the rest
    foreground = find_foreground(slide, settings.foreground)
    samples = take_samples(slide, foreground)
    implausible = find_implausible(slide, foreground, samples)
    doubts += implausible
    check_strict(slide.path, doubts, settings.strict)
    tiler = settle_tiler(settings, card)
    tiles = plan_tiles(slide.bounds, slide.mpp, card.mpp, tiler, foreground)
    return SlidePlan(tiles, doubts, foreground, samples, bool(implausible))


def _settings_of(given: ScreenSettings | Mapping[str, Any] | None) -> ScreenSettings:
    if isinstance(given, ScreenSettings):
        return given
    return validate(given or {}, ScreenSettings, "settings")


def check_strict(path: Path, doubts: Sequence[Doubt], strict: bool) -> None:
    """Turns the warnings of a slide into its failure.

    Raises:
        SlideError: there are some, and ``strict`` is set.
    """
    if strict and doubts:
        told = "; ".join(map(str, doubts))
        raise SlideError(f"{show(path)}: not screened with --strict: {told}", "strict")


@dataclass
class Clock:
    """Seconds by stage; stages that run side by side add up to more than the whole."""

    seconds: dict[str, float] = field(default_factory=dict)
    started: float = field(default_factory=time.perf_counter)

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Times a stage."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.add(stage, time.perf_counter() - start)

    @contextmanager
    def turn(self, lock: Lock) -> Iterator[None]:
        """Holds a lock; the time of waiting for it is another slide's, and not counted."""
        start = time.perf_counter()
        with lock:
            self.started += time.perf_counter() - start
            yield

    def add(self, stage: str, seconds: float) -> None:
        """Adds to a stage."""
        self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds

    def total(self) -> dict[str, float]:
        """All stages, and the time since the clock was made as ``total``."""
        return {**self.seconds, "total": time.perf_counter() - self.started}


@dataclass(frozen=True)
class Detected:
    """A batch of tiles with their cells, in tile pixels, and how long the detector took."""

    tiles: list[ReadTile]
    cells: list[Detections]
    seconds: float


@dataclass(frozen=True)
class Found:
    """What came of a slide's tiles, in level-0 pixels.

    Attributes:
        cells: that are reported.
        unread: areas that could not be read.
        look: what came of the second look; None where there was none.
    """

    cells: Detections
    unread: Boxes
    look: Looked | None = None


@dataclass(frozen=True)
class Seen:
    """What the overview and a few places show, for adequacy."""

    deposit: Deposit
    focus: Focus


def _screen_tiles(
    slide: Slide,
    plan: TilePlan,
    detector: TileDetector,
    look: SecondLook | None,
    settings: ScreenSettings,
    clock: Clock,
    progress: Progress | None,
    stop: Stop | None,
) -> Found:
    abnormal = np.array(detector.card.detector.is_abnormal)
    balance = own_thresholds(detector.card)
    stitcher = Stitcher(plan.grid, settings.stitcher, detector.thresholds, abnormal, balance)
    unread: list[Boxes] = [np.zeros((0, 4))]
    tiler = plan.grid.settings
    ahead = look.plan(len(plan), tiler.size) if look else LookPlan(0, 0, 0)
    total = len(plan) + ahead.in_tiles
    done = 0

    def read(index: int) -> ReadTile:
        return read_tile(slide, plan.grid, index)

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
        work_ahead(read, plan.indices.tolist(), detector.readers, 4 * detector.readers) as tiles,
        work_ahead(
            detect, in_batches(tiles, detector.batch_size), detector.lanes, detector.lanes
        ) as batches,
    ):
        for batch in batches:
            _check_stop(slide, stop)
            clock.add("detect", batch.seconds)
            for tile, cells in zip(batch.tiles, batch.cells, strict=True):
                stitcher.add(tile.index, look.thin_out(cells, ahead.of_tile) if look else cells)
                unread.append(tile.unread)
                clock.add("read", tile.seconds)
            done += len(batch.tiles)
            if progress:
                progress(done, total)
    with clock("stitch"):
        cells = stitcher.merge() if look else stitcher.finish()
    _check_readable(slide, plan, np.concatenate(unread), settings.max_unread)
    looked = None
    if look:

        def step(crops: int, of: int) -> None:
            _check_stop(slide, stop)
            if progress:
                progress(done + ahead.in_tiles * crops // of, total)

        with clock("second look"):
            threads = (detector.readers, detector.lanes)
            looked = look.look(slide, cells, ahead.cells, settings.stitcher, threads, step)
        cells = looked.cells
    return Found(cells, np.concatenate(unread), looked)


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


def _doubts_of_reading(plan: TilePlan, found: Found) -> list[Doubt]:
    doubts = []
    if len(found.unread):
        text = "part of the slide could not be read and was not screened; see area.unread"
        doubts.append(Doubt(code="unread-area", text=text))
    if not len(plan):
        text = "no cells were seen on the overview; nothing was screened"
        doubts.append(Doubt(code="nothing-screened", text=text))
    if found.look and found.look.unread:
        text = (
            f"{found.look.unread} of the cells that were to be looked at again can't be read at "
            "that scale; they keep the detector's scores"
        )
        doubts.append(Doubt(code="second-look-unread", text=text))
    return doubts


def _report(
    slide: Slide,
    plan: TilePlan,
    found: Found,
    seen: Seen,
    doubts: Sequence[Doubt],
    detector: TileDetector,
    settings: ScreenSettings,
    clock: Clock,
) -> SlideReport:
    looks = found.look is not None
    model = describe_model(detector, looks)
    cells = most_suspicious_first(found.cells, model.classes)
    with clock("domain"):
        domain = check_domain(slide, cells, detector.card.domain, settings.domain)
    doubts = [*doubts_of_domain(domain), *doubts]  # first: it takes the weight from all else
    check_strict(Path(slide.path), doubts, settings.strict)
    screened = core_area(plan) - union_area(found.unread)
    area = measure_area(slide.bounds, slide.mpp, screened, found.unread)
    triage = settings.triage
    if detector.second_look and not looks:  # a rule of scores after a look says nothing of others
        triage = triage.model_copy(update={"rule": None})
    judgement = judge_cells(
        cells,
        model,
        Specimen(
            area.slide_mm2, area.screened_mm2, area.unread_mm2, slide.mpp, seen.deposit, seen.focus
        ),
        warnings=doubts,
        triage=triage,
        adequacy=settings.adequacy,
        alarms=alarms_of(settings, detector, found.look),
        accuracy=accuracy_of(model, detector, found.look),
        domain=domain,
    )
    doubts = [*doubts, *warn_of(judgement.adequacy)]
    check_strict(Path(slide.path), doubts, settings.strict)
    with clock("pictures"):
        first = carriers(judgement.suggestion, cells, model.classes)
        pictures = take_pictures(slide, cells, model.classes, first=first)
    return build_report(
        slide=describe_slide(slide),
        model=model,
        settings=settings_in_force(settings, detector),
        cells=cells,
        area=area,
        judgement=judgement,
        warnings=doubts,
        timing=clock.total(),
        pictures=pictures,
        second_look=_describe_look(found.look) if found.look else None,
        domain=domain,
    )


def _describe_look(look: Looked) -> LookFacts:
    return LookFacts(
        candidates=look.candidates,
        looked_at=look.looked_at,
        unread=look.unread,
        abnormal_by_detector=look.abnormal_left,
    )


def core_area(plan: TilePlan) -> float:
    """Area in level-0 pixels that the planned tiles own together."""
    cores = plan.grid.cores(plan.indices)
    return float(np.prod(cores[:, 2:] - cores[:, :2], axis=1).sum())
