"""DICOM slides: any layout of frames and any codec that slides are stored with, read here.

pydicom reads the headers, imagecodecs decodes the frames, each once for all regions that share it.
OpenSlide, which reads some of it (TILED_FULL or frames that say their places, JPEG and JPEG 2000 in
one plane), is not asked: pixels are the same to the bit where both read, and some damaged tables of
frames crash it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from configs import Doubt
from pipeline.errors import SlideError
from pipeline.slides.readers.base import Fact, Header, Reader, levels_of, show
from pipeline.slides.readers.dicom_header import Instance
from pipeline.slides.readers.dicom_level import FrameLevel, Frames, OnePlane, find_level, frames_of
from pipeline.slides.readers.dicom_series import Pyramid, brightfield, find_pyramid, left_out
from pipeline.slides.readers.placed import JpegFiles, PlacedReader, is_whole
from pipeline.slides.readers.planes import Plane, best_plane

FORMAT = "dicom"


class DicomReader(PlacedReader):
    """One focal plane of a DICOM slide.

    Args:
        files: open; closed with this, whichever plane it is of.
        levels: finest first.
        header: of the slide.
        profile: of its colours; None for none.
    """

    def __init__(
        self,
        files: JpegFiles,
        levels: Sequence[FrameLevel],
        header: Header,
        profile: bytes | None,
    ) -> None:
        super().__init__(files, levels, header)
        self._profile = profile

    def profile(self) -> bytes | None:
        """See `Reader.profile`."""
        return self._profile


def open_dicom(path: Path) -> Reader:
    """Opens the slide that a DICOM file is of, with all files of its series in its folder.

    Raises:
        SlideError: it is no slide, is stored in a way that isn't read, lacks a part of its finest
            level, or contradicts itself; begins with the file.
    """
    pyramid = find_pyramid(path)
    doubts = list(pyramid.doubts)
    try:
        levels = _levels(pyramid, doubts)
    except SlideError as error:
        raise SlideError(f"{show(path)}: {error.text}", error.code) from error
    try:
        files = JpegFiles([part.path for one in levels for part in _parts(one)])
    except OSError as error:
        raise SlideError(f"{show(path)}: can't be read: {error.strerror or error}") from error
    planes: list[Plane] = []
    try:
        for index, depth in enumerate(levels[0].depths):
            name = f"plane {index + 1}" if depth is None else f"z = {depth:g} µm"
            planes.append(Plane(_open_plane(files, levels, index, doubts), name, depth))
        return best_plane(planes)
    except BaseException as error:
        files.close()
        if isinstance(error, SlideError) and not error.text.startswith(show(path)):
            raise SlideError(f"{show(path)}: {error.text}", error.code) from error
        raise


def _levels(pyramid: Pyramid, doubts: list[Doubt]) -> list[Frames]:
    """The frames of the levels that can be found; adds to what is to be told of the others."""
    levels: list[Frames] = []
    for pictures in pyramid.levels:
        try:
            frames = find_level(pictures)
            if levels and frames.depths != levels[0].depths:
                raise SlideError("its focal planes are not those of the finest level")
        except SlideError as error:
            if not levels:
                raise
            doubts.append(left_out(pictures[0].head.size, error.text))
        else:
            levels.append(frames)
    return levels


def _parts(frames: Frames) -> list[Instance]:
    """The files of a level."""
    return [part for picture in frames.pictures for part in picture.parts]


def _open_plane(
    files: JpegFiles, found: Sequence[Frames], plane: int, told: Sequence[Doubt]
) -> DicomReader:
    """A reader of one focal plane.

    Args:
        files: of all levels, one after the other; all planes share them.
        found: the levels.
        plane: index of the plane.
        told: what is to be told of all planes.

    Raises:
        SlideError: its finest level can't be read.
    """
    levels: list[FrameLevel] = []
    tiles: list[OnePlane] = []
    doubts = list(told)
    first = 0
    for frames in found:
        one = frames_of(frames, plane, first)
        first += len(_parts(frames))
        try:
            level = FrameLevel(files, frames.head, one.tiles)
            level.check_end()
            if levels and not is_whole(level, levels[0]):
                raise SlideError("it lacks tiles that the finest level has")
        except SlideError as error:
            if not levels:
                raise
            doubts.append(left_out(frames.head.size, error.text))
            continue
        if level.doubt:
            doubts.append(level.doubt)
        levels.append(level)
        tiles.append(one)
    doubts += _of_gaps(found[0], tiles[0], judged=len(levels) > 1)
    light = found[0].head.light[brightfield(found[0].head.light)]
    header = _header(found[0], levels, light.objective, doubts)
    return DicomReader(files, levels, header, light.profile)


def _header(
    finest: Frames, levels: Sequence[FrameLevel], objective: float | None, doubts: Sequence[Doubt]
) -> Header:
    head = finest.head
    mpp, denied = _scale(finest)
    facts = []
    if len(head.light) > 1:
        lit = head.light[brightfield(head.light)].identifier
        value = f"{show(lit)}, one of {len(head.light)}: the brightfield one"
        facts.append(Fact(name="optical path", value=value, source="file"))
    return Header(
        format=FORMAT,
        levels=levels_of(tuple(level.size for level in levels)),
        mpp=mpp,
        objective=objective,
        facts=tuple(facts),
        doubts=tuple(dict.fromkeys(doubts)),
        mpp_denied=denied,
    )


def _scale(finest: Frames) -> tuple[tuple[float, float] | None, str]:
    """µm per pixel in x and y as stated, and why they aren't believed; empty where they are."""
    if finest.head.spacing is not None:
        return finest.head.spacing, ""
    own = finest.places.spacing
    if own is None:
        return None, ""
    down, across = (float(side) * 1000 for side in np.median(own, axis=0))
    return (across, down), "" if (own == own[0]).all() else "differs from frame to frame"


def _of_gaps(frames: Frames, one: OnePlane, *, judged: bool) -> Iterator[Doubt]:
    """What is told of places without a frame.

    Args:
        frames: of the finest level.
        one: likewise, of the plane.
        judged: whether a coarser level tells which of them were lost.
    """
    columns, rows = frames.head.grid
    if one.absent:
        whether = "which says that they were not scanned"
        if any(picture.may_lack_parts for picture in frames.pictures):
            whether = (
                "and none of its files says how many the level is cut into: they were not scanned, "
                "or a file is missing"
            )
        shown = "shown as glass where no coarser level shows something"
        text = (
            f"{one.absent} of the {columns * rows} tiles of its finest level have no frame "
            f"({show(frames.head.layout)}), {whether}; {shown if judged else 'shown as glass'}"
        )
        yield Doubt(code="frames-absent", text=text)
    if one.borrowed:
        text = (
            f"{one.borrowed} of the {columns * rows} tiles of its finest level have no frame in "
            "this focal plane: that of the nearest plane is shown"
        )
        yield Doubt(code="frames-absent", text=text)
