"""From a slide's plan to what is found on it: tiles are read, searched, stitched; a second look."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from models.card import NoNumbersError
from pipeline.cells.found import Found
from pipeline.cells.naming import detection_floors
from pipeline.cells.stitcher import Stitcher
from pipeline.conclusion import Clock
from pipeline.errors import SlideError
from pipeline.flow import in_batches, work_ahead
from pipeline.geometry import Boxes, Detections
from pipeline.network.detector import TileDetector, own_thresholds
from pipeline.network.looking import LookPlan, SecondLook
from pipeline.planning import SlidePlan, core_area
from pipeline.reports.report import union_area
from pipeline.settings import ScreenSettings
from pipeline.slides.readers.base import show
from pipeline.slides.slide import Slide
from pipeline.tiles.planetiles import UnreadAreas
from pipeline.tiles.tiler import TilePlan
from pipeline.tiles.tilereader import ReadTile

Progress = Callable[[int, int], None]
"""Told after each batch how many tiles are done, of how many."""


class Stop(Protocol):
    """An event, of threads or of processes, that ends what is in work."""

    def is_set(self) -> bool:
        """Whether to end."""


class StoppedError(SlideError):
    """Somebody wanted no more of it."""


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


def search_tiles(
    planned: SlidePlan,
    detector: TileDetector,
    settings: ScreenSettings,
    clock: Clock,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> Screened:
    """Searches the tiles of a slide, and looks again at what is suspicious where that is planned.

    Args:
        planned: what is done with the slide.
        detector: that searches its tiles.
        settings: of all stations.
        clock: times the stages.
        progress: told how far it is.
        stop: looked at before each batch.

    Raises:
        SlideError: too much can't be read, or the device's memory does not hold a batch.
        StoppedError: ``stop`` was set.
    """
    return _Search(planned, detector, settings, clock, progress, stop).run()


class _Search:
    """One slide's tiles on their way; see `search_tiles`."""

    def __init__(
        self,
        planned: SlidePlan,
        detector: TileDetector,
        settings: ScreenSettings,
        clock: Clock,
        progress: Progress | None,
        stop: Stop | None,
    ) -> None:
        self._planned, self._detector, self._settings = planned, detector, settings
        self._clock, self._progress, self._stop = clock, progress, stop
        self._slide, self._tiler = planned.slide, planned.tiles.grid.settings
        self._jobs = planned.jobs
        look = planned.look
        self._ahead = look.plan(len(self._jobs), self._tiler.size) if look else LookPlan(0, 0, 0)
        self._stitcher = Stitcher(planned.tiles.grid, settings.stitcher)
        self._unread = UnreadAreas(planned.planes)
        self._by_plane = Counter[int]()
        squares = planned.squares
        self._sharpness = np.full(squares.shape, np.nan, np.float16) if squares else None

    def run(self) -> Screened:
        done = 0
        with self._detected() as batches:
            for batch in batches:
                self._check_stop()
                self._clock.add("detect", batch.seconds)
                for tile, cells in zip(batch.tiles, batch.cells, strict=True):
                    self._take(tile, cells)
                done += len(batch.tiles)
                self._tell(done)
        with self._clock("stitch"):
            cells = self._stitcher.merge()
        nowhere = self._unread.nowhere()
        _check_readable(self._slide, self._planned.tiles, nowhere, self._settings.max_unread)
        look = self._planned.look
        found = self._look_again(look, cells) if look else self._found_alone(cells)
        missed = self._unread.by_plane()
        return Screened(found, nowhere, missed, self._by_plane, self._sharpness)

    @contextmanager
    def _detected(self) -> Iterator[Iterator[Detected]]:
        """Batches of tiles with their cells; reading goes on while the network works."""
        read, detector = self._planned.reader.read, self._detector
        with (
            work_ahead(read, self._jobs, detector.readers, 4 * detector.readers) as tiles,
            work_ahead(
                self._detect,
                in_batches(tiles, detector.batch_size),
                detector.lanes,
                detector.lanes,
            ) as batches,
        ):
            yield batches

    def _detect(self, tiles: list[ReadTile]) -> Detected:
        start = time.perf_counter()
        detector = self._detector
        try:
            cells = detector.detect([tile.pixels for tile in tiles])
        except MemoryError as error:
            raise SlideError(
                f"{show(self._slide.path)}: out of memory on {detector.device}; turn down "
                f"runtime.batch_size ({detector.batch_size}) or tiler.size ({self._tiler.size})"
            ) from error
        except NoNumbersError as error:
            raise SlideError(f"{show(self._slide.path)}: {error}") from error
        return Detected(tiles, cells, time.perf_counter() - start)

    def _take(self, tile: ReadTile, cells: Detections) -> None:
        """Takes up what there is of a tile."""
        look = self._planned.look
        owned = look.thin_out(cells, self._ahead.of_tile) if look else cells
        self._stitcher.add(tile.index, owned, tile.plane, tile.patches)
        self._unread.add(tile)
        self._clock.add("read", tile.seconds)
        if self._sharpness is not None:
            tile.sharpness.put_into(self._sharpness)
            self._clock.add("sharpness", tile.sharpness.seconds)
        if tile.focusing:
            self._clock.add("focus", tile.focusing)
        if tile.plane is not None:
            self._by_plane[tile.plane] += 1

    def _found_alone(self, cells: Detections) -> Found:
        """What the detector found, down to where that is complete."""
        card = self._detector.card
        abnormal = np.array(card.detector.is_abnormal)
        complete = detection_floors(_kept_from(self._detector), own_thresholds(card), abnormal)
        # A slide too coarse for a second look was searched further down than is of use.
        return Found(cells[cells.scores >= complete[cells.labels]], complete)

    def _look_again(self, look: SecondLook, cells: Detections) -> Found:
        def step(crops: int, of: int) -> None:
            self._check_stop()
            self._tell(len(self._jobs) + self._ahead.in_tiles * crops // of)

        detector, stitcher = self._detector, self._settings.stitcher
        with self._clock("second look"):
            threads = (detector.readers, detector.lanes)
            looked = look.look(self._slide, cells, self._ahead.cells, stitcher, threads, step)
        return Found(looked.places, _kept_from(detector), True, len(looked.places), looked.unread)

    def _tell(self, done: int) -> None:
        if self._progress:
            self._progress(done, len(self._jobs) + self._ahead.in_tiles)

    def _check_stop(self) -> None:
        if self._stop and self._stop.is_set():
            raise StoppedError(f"{show(self._slide.path)}: stopped")


def _kept_from(detector: TileDetector) -> NDArray[np.float32]:
    """(C,) scores from which on everything is kept."""
    alone = detector.thresholds
    return alone if detector.kept is None else np.full_like(alone, detector.kept)


def _check_readable(slide: Slide, plan: TilePlan, unread: Boxes, limit: float) -> None:
    wanted = core_area(plan)
    share = union_area(unread) / wanted if wanted else 0.0
    if share > limit:
        raise SlideError(
            f"{show(slide.path)}: {share:.0%} of what had to be screened can't be read, more than "
            f"max_unread = {limit:.0%}; the file is damaged: copy it again"
        )
