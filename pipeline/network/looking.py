"""The second look at work: a slide's findings in, its cells out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from configs import Doubt
from models.card import ModelFileError, SecondLookFacts
from pipeline.cells.crops import read_crop, reading_order
from pipeline.cells.second_look import (
    LookThresholds,
    SecondLookSettings,
    choose,
    count_affordable,
    count_in_tiles,
    find_candidates,
    keep_of_tile,
    thin_out,
)
from pipeline.cells.stitcher import StitcherSettings
from pipeline.errors import SlideError
from pipeline.flow import in_batches, work_ahead
from pipeline.geometry import Detections
from pipeline.network.grading import Grader, check_probabilities
from pipeline.slides.readers.base import show
from pipeline.slides.slide import Slide
from pipeline.tiles.tiler import (
    COARSE_REFUSED,
    COARSE_TOLD,
    SCALE_TOLERANCE,
    settle_downsample,
)

Step = Callable[[int, int], None]
"""Told after each batch how many crops are done, of how many; may raise to end it."""


@dataclass(frozen=True)
class Looked:
    """What came of a second look.

    Attributes:
        places: that a look could have been at, in level-0 pixels, with the detector's scores of all
            classes, and grades where it was.
        unread: of those that were chosen, how many could not be read.
    """

    places: Detections
    unread: int


class LookPlan(NamedTuple):
    """How much of a slide is looked at again.

    Attributes:
        cells: candidates, at most.
        of_tile: findings of a tile below the detector's own thresholds that are kept for it.
        in_tiles: so many tiles cost as much.
    """

    cells: int
    of_tile: int
    in_tiles: int


class Crop(NamedTuple):
    """The pixels of a place; None where they can't be read."""

    row: int
    pixels: NDArray[np.uint8] | None


class Graded(NamedTuple):
    """Probabilities of those crops of a batch that could be read."""

    rows: list[int]
    probabilities: NDArray[np.float32]
    crops: int


class SecondLook:
    """A grader made ready for many slides.

    Args:
        facts: of the grader.
        grader: its network.
        thresholds: on either side of the look.
        settings: how many candidates it looks at.
    """

    def __init__(
        self,
        facts: SecondLookFacts,
        grader: Grader,
        thresholds: LookThresholds,
        settings: SecondLookSettings,
    ) -> None:
        self.facts = facts
        self.grader = grader
        self.thresholds = thresholds
        self.settings = settings

    def check_scale(self, mpp: float) -> tuple[bool, list[Doubt]]:
        """Whether a slide is looked at again, and what is to be told of its scale.

        Args:
            mpp: µm per level-0 pixel.
        """
        times = mpp / self.facts.mpp
        if times <= COARSE_TOLD * (1 + SCALE_TOLERANCE):
            return True, []
        looks = times <= COARSE_REFUSED * (1 + SCALE_TOLERANCE)
        outcome = (
            "its cells are enlarged for it, and details are missing"
            if looks
            else "the detector's scores and thresholds hold, and no slide rule is applied"
        )
        text = (
            f"at {mpp:g} µm per pixel it is {times:.1f} times coarser than the second look "
            f"({self.facts.mpp:g} µm): {outcome}"
        )
        return looks, [Doubt(code="second-look-coarse", text=text)]

    def plan(self, tiles: int, tile: int) -> LookPlan:
        """How much of a slide is looked at again; see `count_affordable`.

        Args:
            tiles: that are screened.
            tile: side of one in pixels.
        """
        count = count_affordable(self.settings, tiles, tile, self.facts.size)
        cost = count_in_tiles(count, tile, self.facts.size)
        return LookPlan(count, keep_of_tile(count, tiles), cost)

    def thin_out(self, cells: Detections, most: int) -> Detections:
        """A tile's findings without those that no look will come to; see `second_look`."""
        return thin_out(cells, self.thresholds.certain, self.thresholds.abnormal, most)

    def look(
        self,
        slide: Slide,
        found: Detections,
        count: int,
        stitcher: StitcherSettings,
        threads: tuple[int, int],
        step: Step,
    ) -> Looked:
        """Looks at the most suspicious candidates of a slide.

        Args:
            slide: the slide.
            found: by the detector from ``floors`` on, without doubles within a class, in level-0
                pixels.
            count: how many candidates are looked at, at most.
            stitcher: how doubles are told from neighbours.
            threads: that read, and that grade.
            step: told after each batch.

        Raises:
            SlideError: the device's memory does not hold a batch, or the grader gives no
                probabilities.
        """
        limits, abnormal = self.thresholds, self.thresholds.abnormal
        iou = stitcher.cross_class_iou
        candidates = find_candidates(found, limits.floor, abnormal, iou, limits.own)
        rows = choose(candidates, abnormal, count)
        probabilities = self._grade_all(slide, candidates[rows], threads, step)
        grades = np.full((len(candidates), len(abnormal) + 1), np.nan, np.float32)
        grades[rows] = probabilities
        unread = int(np.isnan(probabilities[:, 0]).sum())
        return Looked(replace(candidates, grades=grades), unread)

    def _grade_all(
        self,
        slide: Slide,
        cells: Detections,
        threads: tuple[int, int],
        step: Step,
    ) -> NDArray[np.float32]:
        """(N, C + 1) probabilities of the places of cells; NaN where none is read."""
        centers = cells.centers
        size, readers, lanes = self.facts.size, *threads
        downsample = settle_downsample(self.facts.mpp / slide.mpp)
        order = reading_order(centers, size * downsample, cells.planes)
        result = np.full((len(centers), len(self.thresholds.abnormal) + 1), np.nan, np.float32)

        def read(row: int) -> Crop:
            plane = cells.plane_of(row)
            return Crop(row, read_crop(slide, centers[row], size, downsample, plane))

        def grade(crops: list[Crop]) -> Graded:
            known = [(crop.row, crop.pixels) for crop in crops if crop.pixels is not None]
            batch = np.zeros((self.grader.batch_size, size, size, 3), np.uint8)
            for place, (_, pixels) in enumerate(known):
                batch[place] = pixels
            try:
                found = self.grader.grade(batch)[: len(known)]
                check_probabilities(found, "the grader")
            except MemoryError as error:
                raise SlideError(
                    f"{show(slide.path)}: out of memory at the second look; turn down "
                    f"second_look.batch_size ({self.grader.batch_size})"
                ) from error
            except ModelFileError as error:
                raise SlideError(f"{show(slide.path)}: {error}") from error
            return Graded([row for row, _ in known], found, len(crops))

        done = 0
        with (
            work_ahead(read, order.tolist(), readers, 4 * readers) as crops,
            work_ahead(grade, in_batches(crops, self.grader.batch_size), lanes, lanes) as batches,
        ):
            for batch in batches:
                result[batch.rows] = batch.probabilities
                done += batch.crops
                step(done, len(order))
        return result
