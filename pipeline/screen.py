"""One slide from file to report: the stations, one after the other."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Protocol

import numpy as np
from pydantic import JsonValue

from configs import ConfigError, Doubt
from models.card import FalseAlarms, ModelCard
from pipeline.cells.classes import name_classes
from pipeline.cells.domain import check_domain, doubts_of_domain, version_of_domain
from pipeline.cells.stitcher import Stitcher
from pipeline.errors import SlideError
from pipeline.flow import in_batches, work_ahead
from pipeline.geometry import Boxes, Detections
from pipeline.network.detector import TileDetector, own_thresholds
from pipeline.reports.expectation import load_negatives, version_of, why_not
from pipeline.reports.pictures import take_pictures
from pipeline.reports.report import (
    ModelFacts,
    SlideReport,
    build_report,
    describe_slide,
    measure_area,
    most_suspicious_first,
    union_area,
)
from pipeline.reports.slide_rule import load_rule
from pipeline.settings import ScreenSettings
from pipeline.slides.readers.base import show
from pipeline.slides.slide import Slide, open_slide
from pipeline.tiles.foreground import find_foreground
from pipeline.tiles.plausible import find_implausible
from pipeline.tiles.tiler import TilePlan, TilerSettings, check_coarseness, plan_tiles
from pipeline.tiles.tilereader import ReadTile, read_tile

if TYPE_CHECKING:
    from models import DenseDetector, ModelSource

Progress = Callable[[int, int], None]
"""Told after each batch how many tiles are done, of how many."""


class Stop(Protocol):
    """An event, of threads or of processes, that ends what is in work."""

    def is_set(self) -> bool:
        """Whether to end."""


class StoppedError(SlideError):
    """Somebody wanted no more of it."""


def screen_slide(
    path: Path,
    detector: DenseDetector | ModelSource | TileDetector,
    settings: ScreenSettings | None = None,
    *,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> SlideReport:
    """Screens one slide.

    Several threads may screen a slide each with one detector: it takes the tiles of one slide
    after the other's, while the other threads open slides and take pictures.

    Args:
        path: the slide's main file.
        detector: from `models.load_detector`; where it lies, as a `ModelSource`; or made ready for
            many slides, as a `TileDetector`.
        settings: of all stations; None for the defaults.
        progress: told how far it is.
        stop: looked at before each batch of tiles.

    Returns:
        The report, with the cells and the pictures for the page riding along.

    Raises:
        SlideError: the slide can't be opened, is much coarser than the model, too much of it can't
            be read, or it has warnings and ``settings.strict`` is set.
        StoppedError: ``stop`` was set.
        ConfigError: a setting does not fit this machine.
    """
    settings = settings or ScreenSettings()
    if not isinstance(detector, TileDetector):
        detector = TileDetector(detector, settings.runtime, settings.threshold)
    clock = Clock()
    with clock("open"):
        slide = open_slide(path, settings.mpp_of(path))
    with slide:
        with clock("foreground"):
            doubts = [*slide.doubts, *_doubts_of_scale(slide, settings, detector.card.mpp)]
            check_strict(path, doubts, settings.strict)  # before the work of the rest
            foreground = find_foreground(slide, settings.foreground)
            doubts += find_implausible(slide, foreground)
            check_strict(path, doubts, settings.strict)
            tiler = settle_tiler(settings, detector.card)
            plan = plan_tiles(slide.bounds, slide.mpp, detector.card.mpp, tiler, foreground)
        with clock.turn(detector.turn):
            found = _screen_tiles(slide, plan, detector, settings, clock, progress, stop)
        doubts += _doubts_of_reading(plan, found)
        return _report(slide, plan, found, doubts, detector, settings, clock)


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
    """What came of a slide's tiles: cells and unread areas, in level-0 pixels."""

    cells: Detections
    unread: Boxes


def _screen_tiles(
    slide: Slide,
    plan: TilePlan,
    detector: TileDetector,
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
            if stop and stop.is_set():
                raise StoppedError(f"{show(slide.path)}: stopped")
            clock.add("detect", batch.seconds)
            for tile, cells in zip(batch.tiles, batch.cells, strict=True):
                stitcher.add(tile.index, cells)
                unread.append(tile.unread)
                clock.add("read", tile.seconds)
            done += len(batch.tiles)
            if progress:
                progress(done, len(plan))
    with clock("stitch"):
        found = Found(stitcher.finish(), np.concatenate(unread))
    _check_readable(slide, plan, found.unread, settings.max_unread)
    return found


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
    return doubts


def _report(
    slide: Slide,
    plan: TilePlan,
    found: Found,
    doubts: Sequence[Doubt],
    detector: TileDetector,
    settings: ScreenSettings,
    clock: Clock,
) -> SlideReport:
    model = describe_model(detector)
    cells = most_suspicious_first(found.cells, model.classes)
    with clock("domain"):
        domain = check_domain(slide, cells, detector.card.domain, settings.domain)
    doubts = [*doubts_of_domain(domain), *doubts]  # first: it takes the weight from all else
    check_strict(slide.path, doubts, settings.strict)
    with clock("pictures"):
        pictures = take_pictures(slide, cells, model.classes)
    screened = core_area(plan) - union_area(found.unread)
    return build_report(
        slide=describe_slide(slide),
        model=model,
        settings=settings_in_force(settings, detector),
        cells=cells,
        area=measure_area(slide.bounds, slide.mpp, screened, found.unread),
        warnings=doubts,
        timing=clock.total(),
        pictures=pictures,
        triage=settings.triage,
        alarms=alarms_in_force(settings, detector.card),
        domain=domain,
    )


def describe_model(detector: TileDetector) -> ModelFacts:
    """What a report says of the detector."""
    config = detector.card.detector
    thresholds = [round(float(score), 4) for score in detector.thresholds]
    return ModelFacts(
        name=detector.card.name,
        sha256=detector.runtime.sha256 or None,
        classes=name_classes(config.classes, config.is_abnormal),
        mpp=detector.card.mpp,
        threshold=dict(zip(config.classes, thresholds, strict=True)),
    )


@dataclass(frozen=True)
class InForce:
    """What screens, and how: what records and reports of a batch tell.

    Attributes:
        model: what finds the cells.
        settings: all that shapes a result besides slide and model, as JSON.
        fallback: why the runtime is not the one that would be taken first; None where it is.
    """

    model: ModelFacts
    settings: dict[str, JsonValue]
    fallback: str | None


def in_force(settings: ScreenSettings, detector: TileDetector) -> InForce:
    """What is in force where this detector screens with these settings.

    Raises:
        ConfigError: slide rule or negatives are for another model or other thresholds, or the tiles
            are too small for its cells.
    """
    facts = describe_model(detector)
    if settings.triage.rule:
        load_rule(settings.triage.rule).check(facts.sha256, facts.threshold, facts.classes)
    if settings.triage.negatives:
        alarms = load_negatives(settings.triage.negatives)
        if problem := why_not(alarms, facts.threshold, facts.sha256):
            raise ConfigError(f"--negatives {settings.triage.negatives}: {problem}")
    return InForce(facts, settings_in_force(settings, detector), detector.runtime.fallback)


def settings_in_force(settings: ScreenSettings, detector: TileDetector) -> dict[str, JsonValue]:
    """The settings as JSON, with what "auto" came to on this machine.

    Neither what a table says, which is each slide's own, nor ``strict``, which changes no result.
    """
    values = settings.model_dump(mode="json", exclude={"mpp_table", "strict"})
    runtime = detector.runtime
    in_force = {"device": detector.device, "name": runtime.name}
    values["runtime"] |= in_force | {"precision": runtime.precision}
    if settings.triage.rule:  # what it says counts, not where it lies
        values["triage"]["rule"] = load_rule(settings.triage.rule).version
    values["triage"]["negatives"] = version_of(alarms_in_force(settings, detector.card))
    if settings.domain.check:
        values["domain"]["facts"] = version_of_domain(detector.card.domain)
    values["reports"] = settings.reports.settled().model_dump(mode="json")
    values["tiler"]["overlap"] = settle_tiler(settings, detector.card).overlap
    return values


def alarms_in_force(settings: ScreenSettings, card: ModelCard) -> FalseAlarms | None:
    """How many false alarms to expect: by the lab's own normal slides, else by the model's card."""
    negatives = settings.triage.negatives
    return load_negatives(negatives) if negatives else card.false_alarms


def settle_tiler(settings: ScreenSettings, card: ModelCard) -> TilerSettings:
    """The tiler's settings for a model's cells.

    Raises:
        ConfigError: the tiles are too small for them.
    """
    return settings.tiler.for_cells(card.widest_cell / card.mpp, settings.stitcher.slack)


def core_area(plan: TilePlan) -> float:
    """Area in level-0 pixels that the planned tiles own together."""
    cores = plan.grid.cores(plan.indices)
    return float(np.prod(cores[:, 2:] - cores[:, :2], axis=1).sum())
