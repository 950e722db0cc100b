"""The pictures of a TIFF: its images, each with its levels and focal planes, as the file has them.

What is marked as reduced belongs to an image: to the only one whose shape it has, else as a likely
level to the one before it, until somebody looks. Images along an axis Z are planes of one; pages
without a name are images of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from tifffile import TiffFile, TiffFrame, TiffPage, TiffPageSeries

from pipeline.geometry import Size
from pipeline.slides.readers import tiff_tags
from pipeline.slides.readers.segments import Page

STACKS = "ZI"
"""Axes along which a file may hold several pictures: focal planes, and pages without a name."""


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
        z_um: where its focal plane lies, in µm; None where not stated.
        likely: what by its size may be a level, of this picture or of another one.
        found: those levels that were given to it for what they show, up to focus.
    """

    index: int
    name: str
    levels: list[Pages]
    mpp: tuple[float, float] | None
    corner: tuple[float, float] | None
    z_um: float | None = None
    likely: list[Pages] = field(default_factory=list)
    found: list[Pages] = field(default_factory=list)

    @property
    def size(self) -> Size:
        """Of its finest level."""
        return self.levels[0].size

    def alone(self, pages: Pages) -> Picture:
        """The same picture with one level."""
        return replace(self, levels=[pages], likely=[], found=[])

    def without_found(self) -> Picture:
        """The same picture without the levels that were found for it."""
        if not self.found:
            return self
        levels = [level for level in self.levels if level not in self.found]
        return replace(self, levels=levels, likely=[], found=[])

    def __str__(self) -> str:
        called = f'"{self.name}", ' if self.name else ""
        return f"{called}{self.size.width} x {self.size.height} px"


@dataclass(slots=True, eq=False)
class Scene:
    """What may be a specimen area: its focal planes, which are one picture mostly."""

    planes: list[Picture]


def shows_smaller(level: Pages, finest: Pages) -> bool:
    """Whether the samples are of one kind, and the sides of one ratio but for rounding."""
    if level.axes != finest.axes or level.keyframe.dtype != finest.keyframe.dtype:
        return False
    size, full = level.size, finest.size
    height = full.height * size.width / full.width
    return size.width < full.width and abs(height - size.height) <= 1.5


def full_pictures(file: TiffFile) -> list[Picture]:
    """The images that are no smaller version of another, every focal plane for itself."""
    return [picture for one in scenes_of(file) for picture in one.planes]


def scenes_of(file: TiffFile) -> list[Scene]:
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
    tree = tuple(int(index) for index in first_page(picture.levels[0]).treeindex)
    return (picture.index, *tree) if is_ome else tree


def _attach(reduced: Picture, whole: Sequence[Scene]) -> bool:
    """Gives a reduced image to the one that it fits, of several to the last one before it.

    An image of several planes has no use for the reduced version of one.
    """
    fitting = [one for one in whole if shows_smaller(reduced.levels[0], one.planes[0].levels[0])]
    if not fitting:
        return False
    at = first_page(reduced.levels[0]).index
    before = [one for one in fitting if first_page(one.planes[0].levels[0]).index < at]
    owner = (before or fitting[:1])[-1]
    if len(owner.planes) == 1:
        picture = owner.planes[0]
        (picture.levels if len(fitting) == 1 else picture.likely).extend(reduced.levels)
    return True


def _split(file: TiffFile, index: int, series: TiffPageSeries) -> list[Scene]:
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
    found = _as_scenes(file, index, series, pyramids, mpp)
    for one, levels_of_it in zip(found, likely, strict=False):
        one.planes[0].likely.extend(levels_of_it)
    for level in unmarked:  # OME-XML says nothing of what is no Image
        own = None if file.is_ome else mpp
        found.extend(_as_scenes(file, index, series, [[pages] for pages in level], own))
    return found


def _as_scenes(
    file: TiffFile,
    index: int,
    series: TiffPageSeries,
    pyramids: Sequence[list[Pages]],
    mpp: tuple[float, float] | None,
) -> list[Scene]:
    is_stack = "Z" in series.axes
    depths = tiff_tags.depths(file, index, len(pyramids)) if is_stack else [None] * len(pyramids)
    pictures = [
        Picture(
            index,
            _name(series, levels[0]),
            levels,
            mpp,
            tiff_tags.stage_corner(file, index, first_page(levels[0])),
            depth,
        )
        for levels, depth in zip(pyramids, depths, strict=True)
    ]
    if is_stack:
        return [Scene(pictures)]
    return [Scene([picture]) for picture in pictures]


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


def first_page(pages: Pages) -> TiffPage:
    """The first page with all its tags."""
    first = next((page for page in pages.pages if page is not None), pages.keyframe)
    return first.aspage() if isinstance(first, TiffFrame) else first


def _name(series: TiffPageSeries, pages: Pages) -> str:
    named = series.name or first_page(pages).tags.valueof("PageName") or ""
    return " ".join(str(named).split())
