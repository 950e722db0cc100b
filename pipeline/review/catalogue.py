"""A folder of reports as a reading room: slides in the work list's order, and what each has.

Everything is read when it is asked for, and kept in caches of bounded size.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from configs import ConfigError
from pipeline.errors import SlideError
from pipeline.geometry import Size
from pipeline.reports.worklist import Worklist, order_slides
from pipeline.review.bounded import BoundedCache
from pipeline.review.celltable import CellTable, load_cells
from pipeline.review.finding import FoundSlide, SlideFinder
from pipeline.review.gallery import Gallery
from pipeline.review.ground import Ground
from pipeline.review.page_pictures import PagePictures, close_up, read_pictures
from pipeline.review.results import ReportFolder, Results, id_of
from pipeline.review.shelf import Shelf
from pipeline.review.store import ReviewError, SlideKey
from pipeline.review.tiles import Pyramid, encode, read_marked

__all__ = ["Catalogue", "FoundSlide", "NotThereError", "ReportFolder", "SlideFinder", "id_of"]

REFRESH_S = 5.0
"""The folder is looked at again no sooner: a walk over thousands of results takes a moment."""

CHECK_S = 10.0
"""Whether a slide is still there and the same is looked at again no sooner."""

_CELL_BYTES = 512 << 20
_PAGE_BYTES = 64 << 20
_TILE_BYTES = 128 << 20


class NotThereError(ReviewError):
    """What was asked for is not in the folder of reports, or its slide can't be shown."""


class Catalogue:
    """The slides of a folder of reports; safe to use from several threads, a context manager.

    Args:
        folder: that screen wrote.
        slides: where slides are that have moved.

    Raises:
        ConfigError: there is no such folder, or nothing in it that can be read.
    """

    def __init__(self, folder: Path, slides: Path | None = None) -> None:
        self.folder = Path(folder)
        self._results = Results(self.folder)
        self._finder = SlideFinder(slides)
        self._shelf = Shelf()
        self._galleries: BoundedCache[object, Gallery] = BoundedCache(
            _CELL_BYTES, lambda one: one.nbytes
        )
        self._pages: BoundedCache[object, PagePictures] = BoundedCache(
            _PAGE_BYTES, lambda one: one.nbytes
        )
        self._jpegs: BoundedCache[object, bytes] = BoundedCache(_TILE_BYTES, len)
        self._lock = threading.Lock()
        self._found: dict[str, tuple[float, FoundSlide]] = {}
        self._looked = time.monotonic()
        self._list()

    def __enter__(self) -> Catalogue:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Gives back the slides that are open."""
        self._shelf.close()

    @property
    def version(self) -> int:
        """Changes with the work list."""
        return self._version

    @property
    def worklist(self) -> Worklist:
        """All slides in their order, those without a report too."""
        return self._worklist

    def refresh(self, at_least_s: float = REFRESH_S) -> None:
        """Looks whether results have come or changed, no more often than that."""
        with self._lock:
            if time.monotonic() - self._looked < at_least_s:
                return
            self._looked = time.monotonic()
        if self._results.refresh():
            self._list()

    def __len__(self) -> int:
        return len(self._by_id)

    def __iter__(self) -> Iterator[ReportFolder]:
        """Slides with a report that can be read, in the order of the work list."""
        return iter(self._by_id.values())

    def get(self, slide: str) -> ReportFolder:
        """The result of an id.

        Raises:
            NotThereError: there is none.
        """
        found = self._by_id.get(slide)
        if found is None:
            raise NotThereError("there is no such slide among the reports")
        return found

    def of_key(self, key: SlideKey) -> ReportFolder | None:
        """The result of a slide that something was decided about; of several copies the first."""
        return self._by_key.get(key)

    def find_slide(self, result: ReportFolder) -> FoundSlide:
        """Where the slide of a result is, or why it can't be shown."""
        known = self._found.get(result.name)
        if known and time.monotonic() - known[0] < CHECK_S:
            return known[1]
        found = self._finder.find(result)
        self._found[result.name] = (time.monotonic(), found)
        return found

    def gallery(self, result: ReportFolder) -> Gallery:
        """The cells of a result by groups.

        Raises:
            ConfigError: its cells.csv is not there or damaged.
        """
        build = lambda: Gallery(result.report, load_cells(self.folder, result))  # noqa: E731
        return self._galleries.make((result.name, result.stamp), build)

    def cells(self, result: ReportFolder) -> CellTable:
        """The cells of a result; see `gallery`."""
        return self.gallery(result).table

    def pictures(self, result: ReportFolder) -> PagePictures:
        """What its report.html shows."""
        return self._pages.make(
            (result.name, result.stamp), lambda: read_pictures(self.folder, result.folder)
        )

    def pyramid(self, result: ReportFolder) -> Pyramid:
        """The levels of its slide, as the report has its size."""
        return Pyramid(Size(result.report.slide.width, result.report.slide.height))

    def known_tile(self, result: ReportFolder, level: int, column: int, row: int) -> bytes | None:
        """A tile that was made before; None for one that has to be made."""
        return self._jpegs.get(self._tile_key(result, level, column, row))

    def tile(self, result: ReportFolder, level: int, column: int, row: int) -> bytes:
        """A tile as JPEG; see `tiles`.

        Raises:
            NotThereError: there is no such tile, or the slide can't be shown.
        """
        pyramid = self.pyramid(result)
        place = pyramid.tile(level, column, row)
        if place is None:
            raise NotThereError("there is no such tile")

        def build() -> bytes:
            step = pyramid.downsample(level)
            size = Size(place.width, place.height)
            with self._ground(result) as ground:
                pixels, _ = read_marked(ground, place.x * step, place.y * step, size, step)
            return encode(pixels)

        return self._jpegs.make(self._tile_key(result, level, column, row), build)

    def crop(self, result: ReportFolder, x: float, y: float, side: float, pixels: int) -> bytes:
        """A square of the slide as JPEG, its top left and side in level-0 px.

        Raises:
            NotThereError: the slide can't be shown.
        """

        def build() -> bytes:
            with self._ground(result) as ground:
                size = Size(pixels, pixels)
                return encode(read_marked(ground, x, y, size, side / pixels)[0])

        return self._jpegs.make(("crop", result.name, result.stamp, x, y, side, pixels), build)

    def close_up(self, result: ReportFolder, row: int, um: float, pixels: int) -> bytes:
        """A square picture of a cell: from the slide, else from the report's page.

        Raises:
            NotThereError: neither has one.
        """
        box = tuple(self.cells(result).cells.boxes[row].tolist())
        mpp = result.report.slide.mpp
        try:
            x, y, side = square(box, um / mpp)
            return self.crop(result, x, y, side, pixels)
        except NotThereError:
            jpeg = self.pictures(result).crops.get(row + 1)
            shown = close_up(jpeg, box, mpp, um, pixels) if jpeg else None
            if shown is None:
                raise
            return shown

    def _tile_key(self, result: ReportFolder, level: int, column: int, row: int) -> object:
        return ("tile", result.name, result.stamp, level, column, row)

    @contextmanager
    def _ground(self, result: ReportFolder) -> Iterator[Ground]:
        found = self.find_slide(result)
        if found.path is None:
            raise NotThereError(found.reason)
        try:
            with self._shelf.lend(
                found.path, result.report.slide.mpp, lambda: self.pictures(result).overview
            ) as held:
                facts, size = result.report.slide, held.slide.size
                if (size.width, size.height) != (facts.width, facts.height):
                    raise NotThereError(
                        f"{result.name}: the slide has {size.width} x {size.height} px, and was "
                        f"screened with {facts.width} x {facts.height}; screen it again"
                    )
                yield held.ground
        except (SlideError, ConfigError, OSError) as error:
            raise NotThereError(f"{result.name}: the slide can't be shown: {error}") from error

    def _list(self) -> None:
        """Orders the slides anew."""
        worklist = order_slides(self._results.rows())
        usable = {one.name: one for one in self._results.folders()}
        names = [place.row.slide for place in worklist.places if place.row.report]
        by_id = {usable[name].id: usable[name] for name in names if name in usable}
        by_key: dict[SlideKey, ReportFolder] = {}
        for one in by_id.values():
            by_key.setdefault(one.key, one)
        self._by_id: Mapping[str, ReportFolder] = by_id
        self._by_key: Mapping[SlideKey, ReportFolder] = by_key
        self._worklist = worklist
        self._version = getattr(self, "_version", 0) + 1


def square(box: tuple[float, float, float, float], side: float) -> tuple[float, float, float]:
    """Top left and side of a square around the middle of a box, all in one unit."""
    x_min, y_min, x_max, y_max = box
    return (x_min + x_max - side) / 2, (y_min + y_max - side) / 2, side
