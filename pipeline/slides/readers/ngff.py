"""OME-Zarr: a slide whose levels are arrays of chunks, in a folder or in one ZIP (.ozx).

RGB of 8 bits is read. A coarser level that lacks a chunk where the finest one has some is left out,
as is one whose scale or place is another than its size says. What a missing chunk means is
`ngff_levels`' to tell; docs/how-to/scanners.md has the rules.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from configs import Doubt
from pipeline.errors import SlideError
from pipeline.geometry import Rect, Size
from pipeline.slides.readers.base import (
    WHITE,
    Color,
    Fact,
    Header,
    Reader,
    levels_of,
    show,
)
from pipeline.slides.readers.contents import LARGE, NOT_AREAS, SMALL
from pipeline.slides.readers.grids import Grid, shows_all
from pipeline.slides.readers.ngff_levels import LIGHT, NgffLevel
from pipeline.slides.readers.ngff_metadata import Dataset, Picture, is_rgb, pictures_of
from pipeline.slides.readers.planes import Plane, best_plane
from pipeline.slides.readers.zarr_array import ZarrArray
from pipeline.slides.readers.zarr_files import FolderFiles, ZarrFiles, ZipFiles

MOST_PLANES = 256


class NgffReader(Reader):
    """A slide in OME-Zarr, of one focal plane.

    Args:
        files: of the Zarr; given back with this.
        levels: finest first.
        header: of the slide.
    """

    library = "imagecodecs"

    def __init__(self, files: ZarrFiles, levels: Sequence[NgffLevel], header: Header) -> None:
        self.header = header
        self._files = files
        self._levels = tuple(levels)

    def read(self, level: int, region: Rect, shrink: int = 1) -> NDArray[np.uint8]:
        """See `Reader.read`."""
        return self._levels[level].read(region)

    def close(self) -> None:
        """See `Reader.close`."""
        self._files.close()


@dataclass
class _Level:
    """An array that is a level, and what it says of itself.

    Attributes:
        array: of it.
        size: width and height.
        dataset: what the metadata says of it.
        pixel: width and height of a pixel in the axes' units; None where nothing is stated.
        corner: likewise, where it begins.
        depth: planes.
    """

    array: ZarrArray
    size: Size
    dataset: Dataset
    pixel: tuple[float, float] | None
    corner: tuple[float, float]
    depth: int


def open_ngff(path: Path) -> Reader:
    """Opens an OME-Zarr: a folder, or a ZIP.

    Raises:
        SlideError: it is damaged, or of a kind that isn't read; one line that begins with it.
    """
    files: ZarrFiles | None = None
    try:
        files = FolderFiles(path) if path.is_dir() else ZipFiles(path)
        return _open(files)
    except SlideError as error:
        if files is not None:
            files.close()
        raise SlideError(f"{show(path)}: {error.text}", error.code) from error
    except BaseException:
        if files is not None:
            files.close()
        raise


def _open(files: ZarrFiles) -> Reader:
    picture, facts, doubts = _chosen(files)
    found, left_out = _levels(files, picture)
    facts += [_left_out(text) for text in left_out]
    planes = []
    for z in range(found[0].depth):
        levels, lacking = _whole([NgffLevel(one.array, picture.axes, z, one.size) for one in found])
        reader = None
        if levels[0].stored.any():
            told = (*facts, *map(_left_out, lacking))
            header = _header(picture, found[0], levels, told, doubts)
            reader = NgffReader(files, levels, header)
        planes.append(_plane(picture, found[0], z, reader))
    if not any(plane.reader for plane in planes):
        text = f"no chunk of its array {show(found[0].array.key)} is there; copy it again"
        raise SlideError(text, "data-missing")
    return best_plane(planes)


def _chosen(files: ZarrFiles) -> tuple[Picture, list[Fact], list[Doubt]]:
    """The picture that is the slide, and what is told of others.

    Raises:
        SlideError: several may be, or it is none that is read.
    """
    pictures = pictures_of(files)
    if len(pictures) == 1:
        return pictures[0], [], []
    sizes = [_size_of(files, picture) for picture in pictures]
    named = [not NOT_AREAS.isdisjoint(re.split(r"[\W_\d]+", one.name.lower())) for one in pictures]
    places = [place for place, aside in enumerate(named) if not aside] or range(len(pictures))
    largest = max(places, key=lambda place: sizes[place].area)
    facts, doubts = [], []
    for place, picture in enumerate(pictures):
        if place == largest:
            continue
        if not named[place] and sizes[place].area >= SMALL * sizes[largest].area:
            raise SlideError(
                f"holds several pictures that may each be a specimen area ({pictures[largest].key} "
                f"of {_told(sizes[largest])}, {picture.key} of {_told(sizes[place])}); name the "
                f"one that is meant, {pictures[largest].key} say, as a folder of its own",
                "several-areas",
            )
        why = "called so" if named[place] else "far smaller"
        called = f"{show(picture.key)} {show(picture.name)}".strip()
        size = _told(sizes[place])
        facts.append(Fact(name="picture left out", value=f"{called}: {size}, {why}", source="file"))
        if sizes[place].area >= LARGE * sizes[largest].area:
            text = f"the file holds another large picture ({called}, {size}), which was left out: "
            doubts.append(Doubt(code="picture-left-out", text=text + why))
    return pictures[largest], facts, doubts


def _size_of(files: ZarrFiles, picture: Picture) -> Size:
    sides = dict(zip(picture.axes, ZarrArray(files, picture.levels[0].key).shape, strict=False))
    return Size(sides.get("x", 1), sides.get("y", 1))


def _levels(files: ZarrFiles, picture: Picture) -> tuple[list[_Level], list[str]]:
    """The levels of a picture, finest first, and why others are left out.

    Raises:
        SlideError: the finest can't be read.
    """
    if is_rgb(picture.colors) is False:
        colors = ", ".join(show(one) or "none" for one in picture.colors[:8])
        raise SlideError(
            f"its channels are of the colours {colors}, not red, green and blue; export it as RGB "
            "of 8 bits",
            "channels",
        )
    found, left_out = [_level(files, picture, 0)], []
    for number, dataset in enumerate(picture.levels[1:], start=1):
        try:
            found.append(_level(files, picture, number))
        except SlideError as error:
            left_out.append(f"{show(dataset.key)}: {error.text}")
    finest, *others = sorted(found, key=lambda one: -one.size.area)
    levels = [finest]
    for level in others:
        if problem := _misfit(finest, levels[-1], level):
            left_out.append(f"{show(level.array.key)}: {problem}")
        else:
            levels.append(level)
    return levels, left_out


def _level(files: ZarrFiles, picture: Picture, number: int) -> _Level:
    """One level.

    Raises:
        SlideError: it is of a kind that isn't read, or damaged.
    """
    dataset = picture.levels[number]
    array = ZarrArray(files, dataset.key)
    if len(array.shape) != len(picture.axes):
        raise SlideError(
            f"its array {show(dataset.key)} has {len(array.shape)} axes, and its metadata names "
            f"{', '.join(picture.axes)}; it is damaged: copy it again"
        )
    if any(name not in (None, axis) for name, axis in zip(array.names, picture.axes, strict=False)):
        raise SlideError(
            f"its array {show(dataset.key)} calls its axes {show(str(array.names))}, and the "
            f"picture's metadata {', '.join(picture.axes)}; write it anew"
        )
    sides = dict(zip(picture.axes, array.shape, strict=True))
    if sides.get("c") != 3:
        raise SlideError(
            f"has {sides.get('c', 'no')} channels, not red, green and blue; export it as RGB of 8 "
            "bits",
            "channels",
        )
    if sides.get("t", 1) > 1:
        raise SlideError(f"holds {sides['t']} points in time; export one of them")
    depth = sides.get("z", 1)
    if depth > MOST_PLANES:
        raise SlideError(f"claims {depth} focal planes; it is damaged: copy it again")
    pixel, corner = None, (0.0, 0.0)
    if dataset.scale:
        where = [picture.axes.index(axis) for axis in "xy"]
        pixel = dataset.scale[where[0]], dataset.scale[where[1]]
        corner = dataset.shift[where[0]], dataset.shift[where[1]]
    return _Level(array, Size(sides["x"], sides["y"]), dataset, pixel, corner, depth)


def _misfit(finest: _Level, finer: _Level, level: _Level) -> str | None:
    """Why a level is none of a picture; None where it is one."""
    size = level.size
    if level.depth != finest.depth:
        return f"has {level.depth} focal planes, not {finest.depth}"
    if size.width >= finer.size.width or size.height >= finer.size.height:
        return f"of {_told(size)}, is not smaller than the one before"
    downsample = levels_of((finest.size, size))[1].downsample
    ends = (
        (finest.size.width / downsample, size.width),
        (finest.size.height / downsample, size.height),
    )
    if any(abs(whole - own) >= 1 for whole, own in ends):
        return f"of {_told(size)}, is of another shape than the finest"
    if finest.pixel is None or level.pixel is None or min(*finest.pixel, *level.pixel) <= 0:
        return None
    for own, fine, first, moved, whole in zip(
        level.pixel, finest.pixel, finest.corner, level.corner,
        (finest.size.width, finest.size.height), strict=True,
    ):  # fmt: skip
        if abs(whole * fine / own - whole / downsample) >= 1.5:
            return f"states {own:g} a pixel, which its size of {_told(size)} denies"
        if abs(moved - first) > own:
            return f"lies {moved - first:g} beside the finest"
    return None


def _whole(levels: list[NgffLevel]) -> tuple[list[NgffLevel], list[str]]:
    """Levels without those that lack what the finest has; each is judged by the next coarser."""
    kept, lacking = [levels[0]], []
    for level in levels[1:]:
        if shows_all(_grid(level), _grid(levels[0])):
            kept[-1].coarser = level
            kept.append(level)
        else:
            lacking.append(f"{show(level.key)}: lacks chunks that the finest level has")
    if kept[0].fill < LIGHT and kept[0].blank.any():
        for level in kept:
            level.as_glass(kept[0])
    return kept, lacking


def _grid(level: NgffLevel) -> Grid:
    """Where some of a level's chunks are."""
    return Grid(np.asarray(level.stored.any(axis=2)), level.side, level.size)


def _header(
    picture: Picture,
    finest: _Level,
    levels: Sequence[NgffLevel],
    facts: Sequence[Fact],
    known: Sequence[Doubt],
) -> Header:
    fill = levels[0].fill
    units = dict(zip(picture.axes, picture.units, strict=True))
    mpp, more, doubts = None, [], list(known)
    if finest.pixel and units["x"] and units["y"]:
        mpp = finest.pixel[0] * units["x"], finest.pixel[1] * units["y"]
    elif finest.pixel:
        told = f"{finest.pixel[0]:g} by {finest.pixel[1]:g} of no unit of length that is known"
        more.append(Fact(name="pixel size", value=told, source="file"))
    blank = levels[0].blank
    as_what = f"{fill}" if fill >= LIGHT else "glass"
    if blank.any():
        told = f"{np.count_nonzero(blank)} of {blank.size} of the finest level"
        more.append(
            Fact(name="chunks not stored", value=f"{told}; shown as {as_what}", source="file")
        )
        if len(levels) == 1:
            doubts.append(Doubt(code="chunks-missing", text=_unjudged(told, as_what)))
    if not is_rgb(picture.colors):
        text = "nothing says what its three channels are: read as red, green and blue"
        doubts.append(Doubt(code="channels-as-rgb", text=text))
    if picture.more:
        told = f"the first of {picture.more + 1} that are called so"
        more.append(Fact(name="multiscale", value=told, source="file"))
    background: Color = (fill, fill, fill) if fill >= LIGHT else WHITE
    return Header(
        format=f"ome-zarr {picture.version}",
        levels=levels_of(tuple(level.size for level in levels)),
        mpp=mpp,
        background=background,
        facts=(*facts, *more),
        doubts=tuple(doubts),
    )


def _unjudged(told: str, as_what: str) -> str:
    return (
        f"{told} are not stored, which says that nothing is there, and no coarser level tells "
        f"whether they were lost; shown as {as_what}"
    )


def _plane(picture: Picture, finest: _Level, z: int, reader: Reader | None) -> Plane:
    """A focal plane, by its depth where that is stated."""
    scale, unit = finest.dataset.scale, None
    if "z" in picture.axes:
        at = picture.axes.index("z")
        unit = picture.units[at]
    if scale is None or unit is None or finest.depth == 1:
        return Plane(reader, f"plane {z + 1}")
    z_um = (z * scale[at] + finest.dataset.shift[at]) * unit
    return Plane(reader, f"z = {z_um:g} µm", z_um)


def _left_out(text: str) -> Fact:
    return Fact(name="level left out", value=text, source="file")


def _told(size: Size) -> str:
    return f"{size.width} x {size.height} px"
