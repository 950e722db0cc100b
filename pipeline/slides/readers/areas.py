"""Several specimen areas in one file, read as one slide.

Level 0 of the joined slide has its origin at the top left of all areas. They lie as the stage had
them where the file says so for each: the position that it states is taken as an area's top left
corner, x to the right and y down. Else they lie in a row, in the order of the file, `GAP` pixels of
background apart. Each area keeps its own pixels: it is moved by whole pixels of every level.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from configs import Doubt
from pipeline.errors import ReadError, SlideError
from pipeline.geometry import Rect, Size
from pipeline.slides.readers.base import Fact, FocalPlane, Header, Level, Reader, plain
from pipeline.slides.readers.planes import of_other_plane, of_several
from pipeline.slides.readers.segments import SHRINKS

GAP = 512
"""Level-0 pixels between areas in a row at least: wider than any cell."""

FARTHEST = 2**20
"""Level-0 pixels between areas at most, a few glass slides long. Areas that are said to lie farther
apart lie in a row: such positions are no stage's, or the scale is none."""

COARSEST_STEP = 256
"""Level-0 pixels to whose multiples areas are moved at most; coarser levels are left out."""


@dataclass(frozen=True, slots=True)
class Area:
    """One specimen area.

    Attributes:
        reader: its pixels, finest level first.
        name: as the file calls it; may be empty.
        corner: where the stage had its top left corner, in µm in x and y; None where not stated.
    """

    reader: Reader
    name: str
    corner: tuple[float, float] | None = None

    @property
    def size(self) -> Size:
        """In level-0 pixels."""
        return self.reader.header.levels[0].size


class AreasReader(Reader):
    """Areas on a common background, as one slide.

    Args:
        areas: two or more of one scale.
        settled: where these areas lie in another plane, and to whose multiples they are moved;
            None to settle it.

    Attributes:
        places: level-0 rectangles of the areas in the joined slide.

    Raises:
        SlideError: their positions overlap.
    """

    library = "tifffile"

    def __init__(
        self, areas: Sequence[Area], settled: tuple[list[Rect], int] | None = None
    ) -> None:
        self._areas = areas
        self._readers = [area.reader for area in areas]
        self.files = tuple(dict.fromkeys(file for one in self._readers for file in one.files))
        downsamples = _common_downsamples(self._readers)
        mpp = self._readers[0].header.mpp
        by_stage = _by_stage(areas, mpp) if mpp else None
        self._settled = settled or _settle(by_stage or _in_a_row(areas), downsamples)
        self.places, step = self._settled
        downsamples = [downsample for downsample in downsamples if step % downsample == 0]
        self._levels = [_numbers(self._readers, downsample) for downsample in downsamples]
        self._shrinks = [
            _common_shrinks(self._readers, numbers, step // downsample)
            for numbers, downsample in zip(self._levels, downsamples, strict=True)
        ]
        self._built = self._header(areas, downsamples, step, stated=by_stage is not None)
        self.header = self._built

    def shrinks(self, level: int) -> tuple[int, ...]:
        """See `Reader.shrinks`; what all areas have."""
        return self._shrinks[level]

    def profile(self) -> bytes | None:
        """See `Reader.profile`; that of all areas."""
        first, *others = [reader.profile() for reader in self._readers]
        if any(other != first for other in others):
            raise ReadError("its areas have several")
        return first

    def of_plane(self, index: int) -> Reader:
        """See `Reader.of_plane`; that plane of each area."""
        if index == self.header.plane or not all(p.readable for p in self.header.planes):
            return super().of_plane(index)
        readers = [reader.of_plane(index) for reader in self._readers]
        other = AreasReader(
            [replace(a, reader=r) for a, r in zip(self._areas, readers, strict=True)],
            self._settled,
        )
        # What else was told of the file, such as which of its images are left out, holds there too.
        other.header = of_other_plane(other.header, index, self.header, self._built)
        return other

    def read(self, level: int, region: Rect, shrink: int = 1) -> NDArray[np.uint8]:
        """See `Reader.read`."""
        canvas = plain(Size(region.width, region.height), self.header.background)
        downsample = round(self.header.levels[level].downsample) * shrink
        parts = zip(self._readers, self._levels[level], self.places, strict=True)
        for reader, number, place in parts:
            size = reader.header.levels[number].size
            x, y = place.x // downsample, place.y // downsample
            here = Rect(x, y, size.width // shrink, size.height // shrink)
            common = here.intersection(region)
            if common:
                wanted = Rect(common.x - x, common.y - y, common.width, common.height)
                left, top = common.x - region.x, common.y - region.y
                pixels = reader.read(number, wanted, shrink)
                canvas[top : top + common.height, left : left + common.width] = pixels
        return canvas

    def close(self) -> None:
        """See `Reader.close`."""
        for reader in self._readers:
            reader.close()

    def _header(
        self, areas: Sequence[Area], downsamples: Sequence[int], step: int, *, stated: bool
    ) -> Header:
        """What the slide says of itself: of the first area, whose scale all share."""
        first = self._readers[0].header
        whole = Size(
            max(place.right for place in self.places), max(place.bottom for place in self.places)
        )
        bounds = Rect(0, 0, whole.width, whole.height)
        whole = Size(-(-whole.width // step) * step, -(-whole.height // step) * step)
        levels = tuple(
            Level(Size(whole.width // downsample, whole.height // downsample), downsample)
            for downsample in downsamples
        )
        headers = [reader.header for reader in self._readers]
        numbers = [f"area {number}" for number in range(1, len(areas) + 1)]
        facts = of_several(numbers, [header.facts for header in headers], "name")
        doubts = of_several(numbers, [header.doubts for header in headers], "text")
        names = [area.name for area in areas]
        planes, plane = _common_planes(headers)
        return replace(
            first,
            planes=planes,
            plane=plane,
            levels=levels,
            bounds=bounds,
            facts=(*area_facts(names, self.places), *facts),
            doubts=(joined(names, self.places, stated=stated), *doubts),
        )


def _common_planes(headers: Sequence[Header]) -> tuple[tuple[FocalPlane, ...], int | None]:
    """The planes of all areas, and the one that is read of each, where these are the same.

    Where areas have others than each other, those of the one with most are told, and none can be
    read but what each area shows.
    """
    planes = max((header.planes for header in headers), key=len)
    chosen = {header.plane for header in headers}
    plane = chosen.pop() if len(chosen) == 1 else None
    if all(header.planes == planes for header in headers):
        return planes, plane
    return tuple(replace(one, readable=False) for one in planes), None


def area_facts(names: Sequence[str], places: Sequence[Rect]) -> tuple[Fact, ...]:
    """Where each area lies, so that what is found can be traced to the file's image."""
    return tuple(
        Fact(name=f"area {number}", value=_describe(name, place), source="file")
        for number, (name, place) in enumerate(zip(names, places, strict=True), 1)
    )


def joined(names: Sequence[str], places: Sequence[Rect], *, stated: bool) -> Doubt:
    """That a slide is made of several areas, and where they lie."""
    how = (
        "at the places that the file states"
        if stated
        else "in a row, as it states no places that can be used"
    )
    each = "; ".join(
        f"area {number}: {_describe(name, place)}"
        for number, (name, place) in enumerate(zip(names, places, strict=True), 1)
    )
    return Doubt(
        code="areas-joined",
        text=f"{len(places)} specimen areas of the file are screened as one slide, {how}: {each}",
    )


def _describe(name: str, place: Rect) -> str:
    called = f'"{name}", ' if name else ""
    return f"{called}{place.width} x {place.height} px at ({place.x}, {place.y})"


def _by_stage(areas: Sequence[Area], mpp: tuple[float, float]) -> list[Rect] | None:
    """Places by the positions of the stage; None where these say nothing.

    Raises:
        SlideError: areas overlap.
    """
    corners = [area.corner for area in areas if area.corner]
    stated = np.array(corners, float).reshape(-1, 2)
    # Writers who know no positions state the same one for all.
    if (
        len(stated) < len(areas)
        or not np.isfinite(stated).all()
        or not np.ptp(stated, axis=0).any()
    ):
        return None
    with np.errstate(divide="ignore", over="ignore"):
        offsets = (stated - stated.min(axis=0)) / np.abs(mpp)
    if not offsets.max() < FARTHEST:
        return None
    places = [
        Rect(round(x), round(y), area.size.width, area.size.height)
        for (x, y), area in zip(offsets.tolist(), areas, strict=True)
    ]
    if _overlap(places):
        raise SlideError(
            "holds several specimen areas whose stated positions overlap; export them as one "
            "stitched image, or each as a file of its own",
            "several-areas",
        )
    return places


def _in_a_row(areas: Sequence[Area]) -> list[Rect]:
    places, x = [], 0
    for area in areas:
        places.append(Rect(x, 0, area.size.width, area.size.height))
        x += -(-(area.size.width + GAP) // COARSEST_STEP) * COARSEST_STEP
    return places


def _settle(places: Sequence[Rect], downsamples: Sequence[int]) -> tuple[list[Rect], int]:
    """Places at multiples of whole pixels of as many levels as can be, and that step.

    Areas that nearly touch would overlap at coarse steps: there finer ones are taken, and the
    levels that don't divide them are left out.
    """
    steps = {times * downsample for downsample in downsamples for times in (1, *SHRINKS)}
    for step in sorted((step for step in steps if step <= COARSEST_STEP), reverse=True):
        moved = [
            replace(place, x=place.x // step * step, y=place.y // step * step) for place in places
        ]
        if not _overlap(moved):
            return moved, step
    return list(places), 1


def _overlap(places: Sequence[Rect]) -> bool:
    return any(one.intersection(other) for one, other in combinations(places, 2))


def _common_downsamples(readers: Sequence[Reader]) -> list[int]:
    """Whole downsamples that all areas have a level of, finest first; 1 is always among them."""
    each = [
        {
            int(level.downsample)
            for level in reader.header.levels
            if float(level.downsample).is_integer()
        }
        for reader in readers
    ]
    return sorted(set.intersection(*each))


def _numbers(readers: Sequence[Reader], downsample: int) -> list[int]:
    """For each area the index of its level of a downsample."""
    return [
        next(n for n, level in enumerate(r.header.levels) if level.downsample == downsample)
        for r in readers
    ]


def _common_shrinks(
    readers: Sequence[Reader], numbers: Sequence[int], steps: int
) -> tuple[int, ...]:
    """Shrinks of a level that all areas have, whose pixels divide the places of the areas."""
    each = [set(reader.shrinks(number)) for reader, number in zip(readers, numbers, strict=True)]
    return tuple(sorted(shrink for shrink in set.intersection(*each) if steps % shrink == 0))
