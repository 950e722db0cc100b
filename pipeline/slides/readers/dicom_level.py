"""One level of a DICOM slide: its frames, where they lie, and how they are decoded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ReadError, SlideError
from pipeline.geometry import Rect
from pipeline.slides.readers.base import WHITE, reason, show
from pipeline.slides.readers.dicom_codecs import (
    JPEG,
    decode_frame,
    decode_shrunk,
    stored_space,
)
from pipeline.slides.readers.dicom_colors import settle_colors
from pipeline.slides.readers.dicom_header import Instance
from pipeline.slides.readers.dicom_places import Places, find_frames, find_places, fragments
from pipeline.slides.readers.dicom_series import Picture, brightfield
from pipeline.slides.readers.placed import JpegFiles, PlacedLevel, Tiles
from pipeline.slides.readers.segments import Samples
from pipeline.slides.readers.tile_jpegs import ends_in_grey

_DEPTH_DIGITS = 3
"""Of a focal plane's place in µm: what differs less is one plane."""


@dataclass(frozen=True)
class Frames:
    """All frames of a level, of every focal plane, lit so that cells are seen.

    Attributes:
        head: what holds for all of them.
        pictures: whose frames they are.
        offset: (N,) in its file.
        count: (N,) bytes.
        file: (N,) index into the files of the pictures, one after the other.
        places: where they lie.
        plane: (N,) index of the focal plane.
        depths: of the planes, in µm; None where nothing is said, or not one thing.
    """

    head: Instance
    pictures: tuple[Picture, ...]
    offset: NDArray[np.int64]
    count: NDArray[np.int64]
    file: NDArray[np.int64]
    places: Places
    plane: NDArray[np.int64]
    depths: tuple[float | None, ...]


@dataclass(frozen=True)
class OnePlane:
    """The frames of one focal plane.

    Attributes:
        tiles: of the level.
        absent: how many places of the level's grid have no frame in any plane.
        borrowed: how many have none in this one, and show that of the nearest.
    """

    tiles: Tiles
    absent: int
    borrowed: int


def find_level(pictures: Sequence[Picture]) -> Frames:
    """The frames of a level.

    Raises:
        SlideError: the file doesn't say where they are, or it can't be told which are of one plane.
    """
    head = pictures[0].head
    parts = [part for picture in pictures for part in picture.parts]
    found = [(*find_frames(part), find_places(part)) for part in parts]
    number = [np.full(len(offset), index) for index, (offset, _, _) in enumerate(found)]
    lights = [brightfield(part.light) for part in parts]
    seen = np.concatenate([one[2].light == lit for one, lit in zip(found, lights, strict=True)])
    places = _places([one[2] for one in found], seen)
    _check_grid(head, places)
    plane, depths = _planes(head, places, _tile(head, places))
    return Frames(
        head,
        tuple(pictures),
        np.concatenate([one[0] for one in found])[seen],
        np.concatenate([one[1] for one in found])[seen],
        np.concatenate(number)[seen],
        places,
        plane,
        depths,
    )


def frames_of(frames: Frames, plane: int, first_file: int) -> OnePlane:
    """The tiles of one focal plane; where it has none, those of the nearest one.

    Args:
        frames: of the level.
        plane: its index.
        first_file: index of the level's first file among those of the reader.
    """
    head, tile = frames.head, _tile(frames.head, frames.places)
    distance = np.abs(frames.plane - plane)
    order = np.lexsort((distance, tile))
    chosen = order[np.unique(tile[order], return_index=True)[1]]
    columns, rows = head.grid
    count = len(chosen)
    tiles = Tiles(
        frames.places.x[chosen],
        frames.places.y[chosen],
        np.full(count, head.tile.width, np.int64),
        np.full(count, head.tile.height, np.int64),
        frames.offset[chosen],
        frames.count[chosen],
        frames.file[chosen] + first_file,
    )
    return OnePlane(tiles, columns * rows - count, int((distance[chosen] > 0).sum()))


class FrameLevel(PlacedLevel):
    """A level whose tiles are DICOM's frames.

    Args:
        files: of the reader.
        head: what holds for all frames.
        tiles: of the level.

    Attributes:
        doubt: what a person should know of its colours; None for nothing.

    Raises:
        SlideError: it can't be told how its colours are stored.
    """

    def __init__(self, files: JpegFiles, head: Instance, tiles: Tiles) -> None:
        self._head = head
        self._files, self.tiles = files, tiles  # both are read before the rest is known
        space, self.doubt = settle_colors(head, tiles.count, self._content)
        self._space = space or stored_space(head)
        super().__init__(files, head.size, tiles, WHITE)

    def check_end(self) -> None:
        """Looks whether the table means frames, at the last one.

        Raises:
            SlideError: it doesn't.
        """
        _, last = self.tiles.telling()
        try:
            self._content(last)
        except ValueError as error:
            raise SlideError(
                f"{self._where(last)} is no frame: {error}; copy it again", "vendor-refused"
            ) from error

    def _content(self, index: int) -> bytes:
        """A frame's bytes, without the items around them.

        Raises:
            ValueError: there are none.
        """
        data = self._stored(index)
        if len(data) < self.tiles.count[index]:
            raise ValueError("the file ends within it")
        return data if self._head.pixels.length is not None else fragments(data)

    def _decode(self, index: int, shrink: int) -> Samples:
        """See `PlacedLevel`."""
        try:
            data = self._content(index)
            if shrink > 1:
                return decode_shrunk(data, self._head, self._space, shrink)
            pixels = decode_frame(data, self._head, self._space)
        except Exception as error:  # each codec has errors of its own
            if isinstance(error, ValueError) and self._files.closed:
                raise
            raise ReadError(f"the frame at {self._where(index)}: {reason(error)}") from error
        if self._head.syntax in JPEG and self._ends_in_grey(index, pixels):
            raise ReadError(f"the frame at {self._where(index)} is damaged: it ends in grey")
        return pixels

    def _shrinks(self, shrink: int) -> bool:
        """See `PlacedLevel`; JPEG alone is decoded smaller for less work."""
        return self._head.syntax in JPEG and super()._shrinks(shrink)

    def _ends_in_grey(self, index: int, pixels: Samples) -> bool:
        """Whether the last of what it shows is the grey that stands for data that ended early."""
        place = self.tiles.place(index)
        shown = place.intersection(Rect(0, 0, self.size.width, self.size.height)) or place
        return ends_in_grey(pixels, shown)


def _places(found: Sequence[Places], seen: NDArray[np.bool_]) -> Places:
    """Those of several files, of the frames that are wanted."""
    spacing = [one.spacing for one in found if one.spacing is not None]
    return Places(
        np.concatenate([one.x for one in found])[seen],
        np.concatenate([one.y for one in found])[seen],
        np.concatenate([one.z for one in found])[seen],
        np.concatenate([one.plane for one in found])[seen],
        np.concatenate([one.light for one in found])[seen],
        np.concatenate(spacing)[seen] if len(spacing) == len(found) else None,
    )


def _tile(head: Instance, places: Places) -> NDArray[np.int64]:
    """(N,) number of the place of each frame in the level's grid."""
    return places.y // head.tile.height * head.grid[0] + places.x // head.tile.width


def _check_grid(head: Instance, places: Places) -> None:
    """Refuses frames that lie beside the grid of tiles, or outside of the level.

    Raises:
        SlideError: they do.
    """
    if not len(places.x):
        raise SlideError(f"{show(head.path.name)} has no frame that is lit so that cells are seen")
    outside = (places.x >= head.size.width) | (places.y >= head.size.height)
    beside = (places.x % head.tile.width != 0) | (places.y % head.tile.height != 0)
    for bad, what in ((outside, "outside of its level"), (beside, "beside the grid of tiles")):
        if bad.any():
            raise SlideError(
                f"{show(head.path.name)} says that {int(bad.sum())} of its frames lie {what}; "
                "export it anew",
                "vendor-refused",
            )


def _planes(
    head: Instance, places: Places, tile: NDArray[np.int64]
) -> tuple[NDArray[np.int64], tuple[float | None, ...]]:
    """Each frame's focal plane, and where planes lie in µm.

    Where a place has one frame at most, all are one plane, however their depths differ: scanners
    follow the glass. Else depths tell planes apart where there are as many as frames at a place;
    failing that their order, where each place has the same number.

    Raises:
        SlideError: neither does.
    """
    stack = np.bincount(np.unique(tile, return_inverse=True)[1])
    most = int(stack.max())
    depth = np.round(places.z, _DEPTH_DIGITS)
    if most == 1:
        return np.zeros(len(tile), np.int64), (_one(depth),)
    if (places.plane >= 0).all() and int(places.plane.max()) + 1 == most:
        plane = places.plane
    elif not np.isnan(depth).any() and len(values := np.unique(depth)) == most:
        plane = np.searchsorted(values, depth)
    elif not np.isnan(depth).any() and (stack == most).all():
        plane = np.empty(len(tile), np.int64)
        plane[np.lexsort((depth, tile))] = np.arange(len(tile)) % most
    else:
        raise SlideError(
            f"{show(head.path.name)} has up to {most} frames at one place, and it can't be told "
            "which are of one focal plane; export the plane that is in focus",
            "planes-unreadable",
        )
    at_one_depth = len(tile) - len(np.unique(np.stack([tile, depth]), axis=1).T)
    if len(np.unique(tile * most + plane)) < len(tile) or (
        at_one_depth and not np.isnan(depth).any()
    ):
        raise SlideError(
            f"{show(head.path.name)} has two frames at one place and depth; export it anew",
            "planes-unreadable",
        )
    return plane, tuple(_one(depth[plane == index]) for index in range(most))


def _one(depths: NDArray[np.float64]) -> float | None:
    """The depth of all of them; None where they differ, or say nothing."""
    first = float(depths[0]) if len(depths) else np.nan
    return first if (depths == first).all() else None
