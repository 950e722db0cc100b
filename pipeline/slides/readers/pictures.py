"""Which pictures a TIFF holds: specimen areas, focal planes of one, levels, labels and overviews.

The largest image that is not called a label or an overview is an area. What is marked as reduced
belongs to the image before it. Of the others

* images that are called labels, macros, overviews and the like are left out, and so are those that
  are coarser by `OVERVIEW` times and more, far smaller than an area (`SMALL`), or show an area at a
  smaller size;
* images of equal size that show one place up to focus are its focal planes (`focus.same_place`),
  as are those of an axis Z;
* all others are specimen areas, if they are of one scale and one kind of pixels; else the file is
  refused, for nobody knows what they are.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from tifffile import RESUNIT, TiffFile, TiffFrame, TiffPage, TiffPageSeries

from pipeline.errors import SlideError
from pipeline.geometry import Rect, Size
from pipeline.slides.readers import tiff_tags
from pipeline.slides.readers.base import Reader
from pipeline.slides.readers.focus import same_place, telling_places
from pipeline.slides.readers.segments import Page

STACKS = "ZI"
"""Axes along which a file may hold several pictures: focal planes, and pages without a name."""

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


@dataclass(frozen=True, slots=True)
class Pages:
    """One level of a picture: the pages that hold it, one, or one a channel.

    Attributes:
        axes: of ``shape``, as tifffile names them.
        shape: of the whole level.
        keyframe: the page whose tags say how the pixels are stored.
        pages: None for one that is missing.
    """

    axes: str
    shape: tuple[int, ...]
    keyframe: TiffPage
    pages: tuple[Page | None, ...]

    @property
    def size(self) -> Size:
        """In pixels."""
        sizes = dict(zip(self.axes, self.shape, strict=True))
        return Size(int(sizes.get("X", 0)), int(sizes.get("Y", 0)))

    @property
    def is_picture(self) -> bool:
        """Whether it is one picture in grey or in colours."""
        sizes = dict(zip(self.axes, self.shape, strict=True))
        three_channels = set(sizes) == {"C", "Y", "X"} and sizes["C"] == 3
        return three_channels or set(sizes) in ({"Y", "X"}, {"Y", "X", "S"})


@dataclass(slots=True, eq=False)
class Picture:
    """One image of a TIFF, in one focal plane, at all its sizes.

    Attributes:
        index: of its series, which OME-XML calls an Image.
        name: as the file calls it; may be empty.
        levels: finest first.
        mpp: as stated for it, in x and y; None where nothing is.
        corner: of the stage, in µm; None where not stated.
        likely: what by its size may be a level, of this picture or of another one.
        found: those levels that were given to it for what they show, up to focus.
    """

    index: int
    name: str
    levels: list[Pages]
    mpp: tuple[float, float] | None
    corner: tuple[float, float] | None
    likely: list[Pages] = field(default_factory=list)
    found: list[Pages] = field(default_factory=list)

    @property
    def size(self) -> Size:
        """Of its finest level."""
        return self.levels[0].size

    def __str__(self) -> str:
        called = f'"{self.name}", ' if self.name else ""
        return f"{called}{self.size.width} x {self.size.height} px"


@dataclass(slots=True, eq=False)
class Found:
    """One specimen area: its focal planes, which are one picture mostly."""

    planes: list[Picture]


@dataclass(slots=True)
class Contents:
    """What a TIFF holds.

    Attributes:
        areas: in the order of the file.
        left_out: images that are no areas, each with the reason.
        told: those of them that are as large as an area.
    """

    areas: list[Found]
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
    found = _found(file)
    candidates = [one for one in found if not _is_named_aside(one.planes[0])] or found
    largest = max(candidates, key=lambda one: one.planes[0].size.area)
    return _Sorting(largest, open_picture).sort(found)


class _Sorting:
    """The sorting of one file's images, by comparing them with its largest area."""

    def __init__(self, largest: Found, open_picture: Callable[[Picture], Reader]) -> None:
        self._largest = largest
        self._main = largest.planes[0]
        self._open = open_picture
        self._opened: dict[Picture, Reader] = {}
        self._places: dict[Picture, list[Rect]] = {}
        self._result = Contents([])

    def sort(self, found: Sequence[Found]) -> Contents:
        self._settle_levels([picture for one in found for picture in one.planes])
        if len(found) > 1:
            self._reader(self._main)  # what is wrong with it comes first
        for one in found:
            picture = one.planes[0]
            aside = None if one is self._largest else self._aside(picture)
            if aside:
                self._leave_out(picture, aside)
            elif one is self._largest or not self._belongs(one):
                self._result.areas.append(one)
                self._check_count(picture)
        for area in self._result.areas:
            if len(area.planes) > 1:  # levels of which plane, nobody knows
                area.planes = [_without_found(picture) for picture in area.planes]
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
                    self._leave_out(_alone(proposed, level), MARKED)
        for picture in pictures:
            picture.levels[1:] = sorted(picture.levels[1:], key=lambda p: -p.size.width)

    def _is_level_of(self, level: Pages, picture: Picture) -> bool:
        finest = picture.levels[0]
        known = {pages.size for pages in picture.levels}
        if level.size in known or not shows_smaller(level, finest):
            return False
        alone, smaller = (_alone(picture, pages) for pages in (finest, level))
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

    def _belongs(self, one: Found) -> bool:
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


def shows_smaller(level: Pages, finest: Pages) -> bool:
    """Whether the samples are of one kind, and the sides of one ratio but for rounding."""
    if level.axes != finest.axes or level.keyframe.dtype != finest.keyframe.dtype:
        return False
    size, full = level.size, finest.size
    height = full.height * size.width / full.width
    return size.width < full.width and abs(height - size.height) <= 1.5


def full_pictures(file: TiffFile) -> list[Picture]:
    """The images that are no smaller version of another, every focal plane for itself."""
    return [picture for one in _found(file) for picture in one.planes]


def _found(file: TiffFile) -> list[Found]:
    """The images that are no smaller version of another, with their pyramids."""
    every = [one for index, series in enumerate(file.series) for one in _split(file, index, series)]
    largest = max(every, key=lambda one: one.planes[0].size.area)
    whole = [
        one for one in every if one is largest or not one.planes[0].levels[0].keyframe.is_reduced
    ]
    reduced = [one for one in every if one not in whole]
    whole.extend([one for one in reduced if not _attach(one.planes[0], whole)])
    return sorted(whole, key=lambda one: _order(one.planes[0], is_ome=bool(file.is_ome)))


def _order(picture: Picture, *, is_ome: bool) -> tuple[int, ...]:
    """Where an image comes in its file: OME-XML's order of Images, else that of pages."""
    tree = tuple(int(index) for index in _page(picture.levels[0]).treeindex)
    return (picture.index, *tree) if is_ome else tree


def _attach(reduced: Picture, whole: Sequence[Found]) -> bool:
    """Gives a reduced image to the one that it fits, of several to the last one before it.

    An image of several planes has no use for the reduced version of one.
    """
    fitting = [one for one in whole if shows_smaller(reduced.levels[0], one.planes[0].levels[0])]
    if not fitting:
        return False
    at = _page(reduced.levels[0]).index
    before = [one for one in fitting if _page(one.planes[0].levels[0]).index < at]
    owner = (before or fitting[:1])[-1]
    if len(owner.planes) == 1:
        picture = owner.planes[0]
        (picture.levels if len(fitting) == 1 else picture.likely).extend(reduced.levels)
    return True


def _split(file: TiffFile, index: int, series: TiffPageSeries) -> list[Found]:
    """The images of a series: one, or as many as it has pages without a name.

    tifffile counts among the levels of a series what has a fitting size, whether it is marked as
    reduced or not: what is not is looked at by itself.
    """
    finest, *coarser = (_pictures(level) for level in series.levels)
    levels = [
        [parts[0]] + [level[n] for level in coarser if len(level) == len(finest)]
        for n, parts in enumerate(zip(finest, strict=True))
    ]
    pyramids = [
        [part, *(p for p in rest if p.keyframe.is_reduced and shows_smaller(p, part))]
        for part, *rest in levels
    ]
    if len(pyramids) > 1 and "Z" not in series.axes:  # pages of one size, in whatever order
        likely, pyramids = [parts[1:] for parts in pyramids], [parts[:1] for parts in pyramids]
    else:
        likely = [[] for _ in pyramids]
    unmarked = [level for level in coarser if not level[0].keyframe.is_reduced]
    mpp = tiff_tags.mpp(file, index)
    found = _as_found(file, index, series, pyramids, mpp)
    for one, levels_of_it in zip(found, likely, strict=False):
        one.planes[0].likely.extend(levels_of_it)
    for level in unmarked:  # OME-XML says nothing of what is no Image
        own = None if file.is_ome else mpp
        found.extend(_as_found(file, index, series, [[pages] for pages in level], own))
    return found


def _as_found(
    file: TiffFile,
    index: int,
    series: TiffPageSeries,
    pyramids: Sequence[list[Pages]],
    mpp: tuple[float, float] | None,
) -> list[Found]:
    pictures = [
        Picture(
            index,
            _name(series, levels[0]),
            levels,
            mpp,
            tiff_tags.stage_corner(file, index, _page(levels[0])),
        )
        for levels in pyramids
    ]
    if "Z" in series.axes:
        return [Found(pictures)]
    return [Found([picture]) for picture in pictures]


def _pictures(series: TiffPageSeries) -> list[Pages]:
    """A level's pictures along an axis of `STACKS`; all of it as one where there is none."""
    axes, shape = str(series.axes), tuple(int(side) for side in series.shape)
    pages = tuple(series.pages)
    whole = Pages(axes, shape, series.keyframe, pages)
    paged = next((n for n in range(len(shape)) if np.prod(shape[:n]) == len(pages)), None)
    stack = next((axis for axis in STACKS if paged and axis in axes[:paged]), None)
    if whole.is_picture or stack is None:
        return [whole]
    along = axes.index(stack)
    places = np.moveaxis(np.arange(len(pages)).reshape(shape[:paged]), along, 0)
    rest = axes[:along] + axes[along + 1 :], shape[:along] + shape[along + 1 :]
    parts = [Pages(*rest, series.keyframe, tuple(pages[i] for i in p.ravel())) for p in places]
    return parts if parts[0].is_picture else [whole]


def _page(pages: Pages) -> TiffPage:
    """The first page with all its tags."""
    first = next((page for page in pages.pages if page is not None), pages.keyframe)
    return first.aspage() if isinstance(first, TiffFrame) else first


def _name(series: TiffPageSeries, pages: Pages) -> str:
    named = series.name or _page(pages).tags.valueof("PageName") or ""
    return " ".join(str(named).split())


def _is_named_aside(picture: Picture) -> bool:
    return not NOT_AREAS.isdisjoint(re.split(r"[\W_\d]+", picture.name.lower()))


def _alone(picture: Picture, pages: Pages) -> Picture:
    """A picture of one level."""
    return replace(picture, levels=[pages], likely=[], found=[])


def _without_found(picture: Picture) -> Picture:
    """The picture without the levels that were found for it."""
    if not picture.found:
        return picture
    levels = [level for level in picture.levels if level not in picture.found]
    return replace(picture, levels=levels, likely=[], found=[])


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
        _page(one.levels[0]).get_resolution(RESUNIT.MICROMETER) for one in (main, picture)
    )
    return finer[0] / own[0] if finer[0] and own[0] else None
