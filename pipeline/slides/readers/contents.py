"""Which pictures of a TIFF are specimen areas, focal planes of one, labels and overviews.

The largest image that is not called a label or an overview is an area. Of the others

* images that are called labels, macros, overviews and the like are left out, and so are those that
  are marked as reduced, are coarser by `OVERVIEW` times and more, far smaller than an area
  (`SMALL`), or show an area at a smaller size;
* images of equal size that show one place up to focus are its focal planes (`focus.same_place`),
  as are those of an axis Z;
* all others are specimen areas, if they are of one scale and one kind of pixels; else the file is
  refused, for nobody knows what they are.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tifffile import RESUNIT, TiffFile

from pipeline.errors import SlideError
from pipeline.geometry import Rect
from pipeline.slides.readers.base import Reader
from pipeline.slides.readers.focus import same_place, telling_places
from pipeline.slides.readers.pictures import (
    Pages,
    Picture,
    Scene,
    first_page,
    scenes_of,
    shows_smaller,
)

NOT_AREAS = frozenset(
    ("label", "labels", "macro", "overview", "thumbnail", "thumb", "map", "barcode", "preview")
)
"""Words in names of images that are no specimen areas."""

OVERVIEW = 4.0
"""How much coarser than an area an overview of it is at least."""

SMALL = 1 / 10
"""Share of the largest area's pixels below which an image whose scale is not its own is no area."""

LARGE = 1 / 4
"""Share of the largest area's pixels above which an image that is left out is told of."""

MARKED = "marked as reduced or as a mask"
SAME_SMALLER = "shows the same, smaller"
"""Reasons to leave an image out that leave no doubt."""

MOST = 64
"""Specimen areas in a file at most; more pages that differ are no glass slide's."""

ONE_SCALE = 0.05
"""Relative difference of two mpp up to which they are one scale."""


@dataclass(slots=True)
class Contents:
    """What a TIFF holds.

    Attributes:
        areas: in the order of the file.
        left_out: images that are no areas, each with the reason.
        told: those of them that are as large as an area.
    """

    areas: list[Scene]
    left_out: list[tuple[Picture, str]] = field(default_factory=list)
    told: list[tuple[Picture, str]] = field(default_factory=list)


def contents(file: TiffFile, open_picture: Callable[[Picture], Reader]) -> Contents:
    """Sorts the pictures of a TIFF.

    Args:
        file: with one series or more.
        open_picture: gives a picture's pixels; asked only where a file holds several images.

    Raises:
        SlideError: there are several areas which can't be joined.
    """
    scenes = scenes_of(file)
    candidates = [one for one in scenes if not _is_named_aside(one.planes[0])] or scenes
    largest = max(candidates, key=lambda one: one.planes[0].size.area)
    return _Sorting(largest, open_picture).sort(scenes)


class _Sorting:
    """The sorting of one file's images, by comparing them with its largest area."""

    def __init__(self, largest: Scene, open_picture: Callable[[Picture], Reader]) -> None:
        self._largest = largest
        self._main = largest.planes[0]
        self._open = open_picture
        self._opened: dict[Picture, Reader] = {}
        self._places: dict[Picture, list[Rect]] = {}
        self._result = Contents([])

    def sort(self, scenes: Sequence[Scene]) -> Contents:
        self._settle_levels([picture for one in scenes for picture in one.planes])
        if len(scenes) > 1:
            self._reader(self._main)  # what is wrong with it comes first
        for one in scenes:
            picture = one.planes[0]
            aside = None if one is self._largest else self._aside(picture)
            if aside:
                self._leave_out(picture, aside)
            elif one is self._largest or not self._belongs(one):
                self._result.areas.append(one)
                self._check_count(picture)
        for area in self._result.areas:
            if len(area.planes) > 1:  # levels of which plane, nobody knows
                area.planes = [picture.without_found() for picture in area.planes]
        return self._result

    def _settle_levels(self, pictures: Sequence[Picture]) -> None:
        """Gives each likely level to the picture that it shows, whose size alone says little."""
        for proposed in pictures:
            for level in proposed.likely:
                others = [one for one in pictures if one is not proposed]
                owner = next((o for o in (proposed, *others) if self._is_level_of(level, o)), None)
                if owner:
                    owner.levels.append(level)
                    owner.found.append(level)
                else:
                    self._leave_out(proposed.alone(level), MARKED)
        for picture in pictures:
            picture.levels[1:] = sorted(picture.levels[1:], key=lambda p: -p.size.width)

    def _is_level_of(self, level: Pages, picture: Picture) -> bool:
        finest = picture.levels[0]
        known = {pages.size for pages in picture.levels}
        if level.size in known or not shows_smaller(level, finest):
            return False
        alone, smaller = (picture.alone(pages) for pages in (finest, level))
        try:
            return self._show_one_place(alone, smaller)
        except SlideError:  # can't be read
            return False

    def _check_count(self, picture: Picture) -> None:
        if len(self._result.areas) > MOST:
            self._refuse(picture, f"they are more than {MOST}")

    def _aside(self, picture: Picture) -> str | None:
        """Why an image is no area, by what the file says of it; None where it may be one."""
        if _is_named_aside(picture):
            return "called so"
        keyframe = picture.levels[0].keyframe
        if keyframe.is_reduced or keyframe.is_mask:
            return MARKED
        ratio = self._coarser(picture)
        if ratio and ratio >= OVERVIEW:
            return "an overview by its scale"
        states_its_own = ratio and self._is_ome(picture) and abs(ratio - 1) <= ONE_SCALE
        if self._share(picture) < SMALL and not states_its_own:
            return "far smaller"
        return None

    def _belongs(self, one: Scene) -> bool:
        """Whether an image shows what an area shows, which then gains planes.

        Raises:
            SlideError: it shows something else, and can't be joined.
        """
        picture = one.planes[0]
        problem = self._kind_problem(picture)
        if problem:
            self._refuse(picture, problem)
        if self._is_copy(picture):
            self._leave_out(picture, SAME_SMALLER)
            return True
        problem = self._scale_problem(picture)
        if problem:
            self._refuse(picture, problem)
        for area in [self._largest, *self._result.areas]:
            of_one_size = area.planes[0].size == picture.size
            if of_one_size and self._show_one_place(area.planes[0], picture):
                area.planes.extend(one.planes)
                return True
        return False

    def _kind_problem(self, picture: Picture) -> str | None:
        """Why an image's pixels can't be joined to the largest area's, or None."""
        own, main = picture.levels[0], self._main.levels[0]
        if _kind(own) != _kind(main):
            return "their pixels are of different kinds"
        try:
            self._reader(picture)
        except SlideError as error:
            return error.text.partition(": ")[2] or error.text
        return None

    def _scale_problem(self, picture: Picture) -> str | None:
        ratio = self._coarser(picture)
        if ratio is None and (_sane(picture.mpp) or _sane(self._main.mpp)):
            return "only one of them states its scale"
        by_tags = None if self._is_ome(picture) else _by_tags(picture, self._main)
        if any(value and abs(value - 1) > ONE_SCALE for value in (ratio, by_tags)):
            return "they are of different scales"
        return None

    def _is_copy(self, picture: Picture) -> bool:
        """Whether it shows the largest area at a smaller size."""
        own, main = picture.levels[0], self._main.levels[0]
        return shows_smaller(own, main) and self._show_one_place(self._main, picture)

    def _show_one_place(self, one: Picture, other: Picture) -> bool:
        reader = self._reader(one)
        if one not in self._places:
            self._places[one] = telling_places(reader)
        return same_place(reader, self._reader(other), self._places[one])

    def _reader(self, picture: Picture) -> Reader:
        if picture not in self._opened:
            self._opened[picture] = self._open(picture)
        return self._opened[picture]

    def _coarser(self, picture: Picture) -> float | None:
        """By how much an image is coarser than the largest area, as far as that is stated."""
        own, main = (_sane(one.mpp) for one in (picture, self._main))
        return None if own is None or main is None else own / main

    def _share(self, picture: Picture) -> float:
        return picture.size.area / self._main.size.area

    def _is_ome(self, picture: Picture) -> bool:
        return bool(picture.levels[0].keyframe.parent.is_ome)

    def _leave_out(self, picture: Picture, why: str) -> None:
        self._result.left_out.append((picture, why))
        is_known = why in (MARKED, SAME_SMALLER)
        if self._share(picture) >= LARGE and not is_known:
            self._result.told.append((picture, why))

    def _refuse(self, picture: Picture, why: str) -> None:
        raise SlideError(
            f"holds several images that may each be a specimen area ({self._main}; {picture}), but "
            f"{why}; export each as a file of its own",
            "several-areas",
        )


def _is_named_aside(picture: Picture) -> bool:
    return not NOT_AREAS.isdisjoint(re.split(r"[\W_\d]+", picture.name.lower()))


def _sane(mpp: tuple[float, float] | None) -> float | None:
    """A scale as one number, the mean of both sides'; None where it is nonsense."""
    if mpp is None or not all(math.isfinite(side) and side > 0 for side in mpp):
        return None
    return math.sqrt(mpp[0] * mpp[1])


def _kind(pages: Pages) -> tuple[Any, ...]:
    page = pages.keyframe
    return pages.axes, page.dtype, page.samplesperpixel, page.photometric == 0


def _by_tags(picture: Picture, main: Picture) -> float | None:
    """By how much a page is coarser than another by its own tags; a series doesn't compare them."""
    finer, own = (
        first_page(one.levels[0]).get_resolution(RESUNIT.MICROMETER) for one in (main, picture)
    )
    return finer[0] / own[0] if finer[0] and own[0] else None
