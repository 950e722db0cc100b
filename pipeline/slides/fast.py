"""Slides that fastslide reads, a native library that nobody vouches for: in a process of its own.

What it does in silence is looked for here and told, or refused: scans of a VSI slide that it leaves
out, or can't parse so that a preview takes their place; focal planes that it skips; pages that are
no RGB; the end of a file that is missing.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from configs import Doubt
from configs.doubts import listed
from pipeline.errors import ReadError, SlideError
from pipeline.geometry import Rect, Size
from pipeline.slides.plugins import ReaderPlugin
from pipeline.slides.readers.base import WHITE, Header, Reader, levels_of, reason, show
from pipeline.slides.readers.focus import sharpest
from pipeline.slides.readers.planes import numbered, with_plane
from pipeline.slides.readers.tiff_file import MAGIC, find_disorder, find_truncation
from pipeline.slides.readers.tile_bytes import TileBytes, read_ets, read_tiff

CACHE_BYTES = 2**26
"""Decoded tiles that fastslide keeps; each process has as many."""

MOST_PLANES = 100

_LARGE = 0.25
"""Part of the pixels of the image that is read, above which another one is large."""


class Fast(ReaderPlugin):
    """iSyntax, VSI and QPTIFF."""

    name = "fastslide"

    def open(self, path: Path) -> Reader:
        """See `ReaderPlugin.open`."""
        try:
            _check_files(path)
            return FastReader(path)
        except SlideError as error:
            raise SlideError(f"{show(path)}: {error.text}", error.code) from error


class FastReader(Reader):
    """A slide that fastslide opens.

    Raises:
        SlideError: it doesn't, or gives no RGB; names no file.
    """

    library = "fastslide"

    def __init__(self, path: Path) -> None:
        import fastslide

        try:
            slide = fastslide.FastSlide.from_file_path(str(path), cache=CACHE_BYTES)
        except Exception as error:  # each format has kinds of its own
            text = reason(error).removeprefix(f"Failed to open slide '{path}': ")
            raise SlideError(f"fastslide can't open it: {text}", "vendor-refused") from error
        self._slide = slide
        self._bytes: TileBytes | None = None
        try:
            _check_colors(slide)
            self._planes = [_Plane(slide, z) for z in range(_plane_count(slide))]
            self._bytes = _bytes_of(path, slide, self._planes[0].header)
            self._plane = self._planes[0]
            self.header = _told(self._plane.header, slide)
            if len(self._planes) > 1:
                found = sharpest(self._planes)
                self._plane = self._planes[found.index]
                planes = numbered(len(self._planes), found.index)
                self.header = with_plane(self.header, planes, found.index, measured=found.measured)
        except BaseException:
            self.close()
            raise

    def profile(self) -> bytes | None:
        """See `Reader.profile`."""
        return self._slide.icc_profile or None

    def read(self, level: int, region: Rect, shrink: int = 1) -> NDArray[np.uint8]:
        """See `Reader.read`."""
        if self._bytes:
            self._bytes.check(level, region)
        return self._plane.read(level, region, shrink)

    def close(self) -> None:
        """See `Reader.close`."""
        if self._bytes:
            self._bytes.close()
        self._slide.close()


class _Plane(Reader):
    """One focal plane of an open slide."""

    library = "fastslide"

    def __init__(self, slide: Any, z: int) -> None:
        self._slide = slide
        self._z = z
        self._lock = threading.Lock()
        sizes = tuple(Size(*map(int, size)) for size in slide.level_dimensions)
        if not sizes or not all(size.width and size.height for size in sizes):
            raise SlideError("has a level without pixels; it is damaged: copy it again")
        self.header = Header(
            format=str(slide.format).strip().lower().replace(" ", "-") or "fastslide",
            levels=levels_of(sizes),
            mpp=_mpp(slide.mpp),
            objective=_objective(slide.properties),
        )

    def read(self, level: int, region: Rect, shrink: int = 1) -> NDArray[np.uint8]:
        """See `Reader.read`."""
        size = (region.width, region.height)
        try:
            with self._lock:
                image = self._slide.read_region((region.x, region.y), level, size, z=self._z)
                pixels = np.array(image.to_interleaved().numpy())
        except Exception as error:  # each format has kinds of its own
            raise ReadError(reason(error)) from error
        _check_rgb(image)
        if pixels.shape[-1] == 4:
            alpha = pixels[..., 3:].astype(np.uint16)
            laid = pixels[..., :3] * alpha + np.array(WHITE, np.uint16) * (255 - alpha)
            pixels = ((laid + 127) // 255).astype(np.uint8)
        return pixels

    def close(self) -> None:
        """See `Reader.close`; the slide is its owner's."""


def _check_files(path: Path) -> None:
    """Refuses files whose end, or whose other files, are missing.

    Raises:
        SlideError: they are; names no file.
    """
    try:
        with path.open("rb") as file:
            start = file.read(4)
    except OSError as error:
        raise SlideError(f"can't be read: {error.strerror}") from error
    if start in MAGIC and (truncation := find_truncation(path)):
        raise SlideError(f"truncated: {truncation}; copy it again")
    if start in MAGIC and path.suffix.lower() != ".vsi" and (disorder := find_disorder(path)):
        raise SlideError(f"truncated or damaged TIFF: {disorder}; copy it again")
    if path.suffix.lower() == ".vsi":
        _check_stacks(path)


def _check_stacks(path: Path) -> None:
    """Looks at the files that hold a VSI slide's pixels, which fastslide leaves out in silence.

    Raises:
        SlideError: there are none, one is damaged, or holds planes that would be left out.
    """
    folder = path.with_name(f"_{path.stem}_")
    stacks = _stacks(path)
    if not stacks:
        raise SlideError(
            f"the slide's data is missing: there is no .ets file in '{show(folder.name)}'; copy "
            "that folder beside this file",
            "data-missing",
        )
    for stack in stacks:
        name = show(stack.relative_to(path.parent))
        found = read_ets(stack)
        if found is None:
            raise SlideError(f"{name} is cut off or damaged; copy the slide again, with all files")
        planes, _ = found
        if planes > 1:
            raise SlideError(
                f"{name} holds {planes} focal planes or channels, of which one would be read; "
                "export the slide as a TIFF of the plane in focus",
                "planes-unreadable",
            )


def _stacks(path: Path) -> list[Path]:
    """The files with a VSI slide's scans; others beside them hold marks and the like."""
    return sorted(path.with_name(f"_{path.stem}_").glob("stack*/frame_t*.ets"))


def _bytes_of(path: Path, slide: Any, header: Header) -> TileBytes | None:
    """Where its tiles can be looked at, of which fastslide tells no damage; None for iSyntax.

    Raises:
        SlideError: a VSI slide's preview stands for its scan.
    """
    if path.suffix.lower() != ".vsi":
        with path.open("rb") as file:
            is_tiff = file.read(4) in MAGIC
        sizes = tuple(level.size for level in header.levels)
        return TileBytes(path, read_tiff(path, sizes)) if is_tiff else None
    properties = slide.properties
    chosen = str(properties.get("olympus_vsi.stack", ""))
    stacks = _stacks(path)
    largest = max(stacks, key=lambda stack: stack.stat().st_size)
    if largest.parent.name != chosen:
        raise SlideError(
            f"fastslide reads {show(chosen) or 'none'} of its scans, not the largest, "
            f"{show(largest.parent.name)}; export the slide as a TIFF"
        )
    found = read_ets(largest)
    return TileBytes(largest, found[1]) if found else None


def _check_colors(slide: Any) -> None:
    """Refuses what is no RGB of 8 bits.

    Raises:
        SlideError: it isn't.
    """
    if int(slide.t_count) > 1:
        raise SlideError(f"holds {slide.t_count} points in time; export one", "planes-unreadable")
    try:
        image = slide.read_region((0, 0), slide.level_count - 1, (1, 1))
    except Exception:  # a damaged corner is told where it is read
        image = None
    # It calls three grey channels RGB, but has a name for each of them.
    grey = str(slide.format).upper() == "QPTIFF" and len(slide.channel_metadata) > 1
    if grey or slide.dtype != "uint8" or int(slide.num_channels) not in (3, 4):
        raise SlideError(_no_rgb(f"{slide.num_channels} channel(s) of {slide.dtype}"))
    if image is not None:
        _check_rgb(image)


def _check_rgb(image: Any) -> None:
    """Refuses pixels of channels that are no colours.

    Raises:
        SlideError: they are.
    """
    if image.format.name not in ("RGB", "RGBA"):
        raise SlideError(_no_rgb(f"{image.channels} channel(s), {image.format.name.lower()},"))


def _no_rgb(what: str) -> str:
    return (
        f"fastslide reads {what} of it, not RGB of 8 bits; this is for stained slides under "
        "transmitted light; if it is one, export it as SVS, DICOM or pyramidal TIFF"
    )


def _plane_count(slide: Any) -> int:
    """How many focal planes fastslide knows.

    Raises:
        SlideError: more than can be true.
    """
    count = int(slide.z_count)
    if count > MOST_PLANES:
        raise SlideError(f"claims {count} focal planes; it is damaged: copy it again")
    return max(count, 1)


def _told(header: Header, slide: Any) -> Header:
    """A header that says which other images of the file are not read."""
    others = list(_large_others(slide))
    if skipped := int(slide.properties.get("olympus_vsi.skipped_stacks") or 0):
        others.append(f"{skipped} that fastslide can't read")
    if not others:
        return header
    text = (
        f"the file holds other images ({listed(others)}), which were left out: fastslide names "
        "another one as the slide's; export them one by one"
    )
    return replace(header, doubts=(*header.doubts, Doubt(code="picture-left-out", text=text)))


def _large_others(slide: Any) -> Iterator[str]:
    width, height = slide.dimensions
    for number, image in enumerate(slide.images):
        sides = image.dimensions
        large = sides[0] * sides[1] >= _LARGE * width * height
        if number != slide.images.primary_index and large:
            yield f"{show(str(image.name))}, {sides[0]} x {sides[1]} px"


def _mpp(stated: Any) -> tuple[float, float] | None:
    """What it states; fastslide gives 0 where the file states nothing."""
    if stated is None or not any(stated):
        return None
    return float(stated[0]), float(stated[1])


def _objective(properties: Any) -> float | None:
    value = properties.get("objective_magnification") or 0
    return float(value) if value > 0 else None
