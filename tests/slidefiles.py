"""Writes slide files of many kinds for tests, and breaks them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

from pipeline.geometry import Rect, Size
from pipeline.mpp import Scale
from pipeline.readers.base import WHITE, Color, Header, Reader, levels_of
from pipeline.slide import Slide

MPP = 0.25


def picture(width: int, height: int, seed: int = 0) -> NDArray[np.uint8]:
    """A smooth random picture (H, W, 3): no two places look alike, JPEG changes it little."""
    coarse = np.random.default_rng(seed).integers(30, 226, (height // 12 + 2, width // 12 + 2, 3))
    image = Image.fromarray(coarse.astype(np.uint8))
    return np.asarray(image.resize((width, height), Image.Resampling.BICUBIC))


def halved(image: NDArray[np.uint8], times: int = 1) -> NDArray[np.uint8]:
    """The image at half its size, rounded down, so many times over."""
    for _ in range(times):
        size = max(1, image.shape[1] // 2), max(1, image.shape[0] // 2)
        image = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BOX))
    return image


def resolution_tags(mpp: float | tuple[float, float] | None) -> dict[str, object]:
    """What to give to tifffile so that the file states an mpp, in pixels per centimetre."""
    if mpp is None:
        return {}
    x, y = mpp if isinstance(mpp, tuple) else (mpp, mpp)
    return {"resolution": (1e4 / x, 1e4 / y), "resolutionunit": "CENTIMETER"}


def write_pyramid(
    path: Path,
    image: NDArray[np.uint8],
    *,
    levels: int = 3,
    mpp: float | tuple[float, float] | None = MPP,
    compression: str = "jpeg",
    tile: int = 64,
) -> Path:
    """Writes a tiled pyramid, each level half of the last, as OpenSlide reads it."""
    with tifffile.TiffWriter(path) as writer:
        for level in range(levels):
            writer.write(
                halved(image, level),
                tile=(tile, tile),
                photometric="rgb",
                compression=compression,
                subfiletype=1 if level else 0,
                **_quality(compression),
                **resolution_tags(mpp),
            )
    return path


def write_flat(
    path: Path,
    image: NDArray[np.generic],
    *,
    mpp: float | tuple[float, float] | None = MPP,
    compression: str | None = None,
    rows: int | None = None,
    **options: object,
) -> Path:
    """Writes one image in strips (or tiles, if ``tile`` is among the options)."""
    photometric = "rgb" if image.ndim == 3 else "minisblack"
    keys = {"photometric": photometric, "compression": compression, "rowsperstrip": rows}
    tifffile.imwrite(path, image, **{**keys, **resolution_tags(mpp), **options})
    return path


def write_sub_ifds(
    path: Path,
    image: NDArray[np.uint8],
    *,
    levels: int = 3,
    mpp: float | None = MPP,
    ome: bool = False,
    compression: str = "deflate",
) -> Path:
    """Writes a tiled pyramid whose coarser levels are SubIFDs, as OME-TIFF has it."""
    options = {"photometric": "rgb", "tile": (64, 64), "compression": compression}
    stated = resolution_tags(mpp)
    if ome:
        sizes = {} if mpp is None else {"PhysicalSizeX": mpp, "PhysicalSizeY": mpp}
        stated = {"metadata": {"axes": "YXS", **sizes}}
    with tifffile.TiffWriter(path, ome=ome) as writer:
        writer.write(image, subifds=levels - 1, **options, **stated)
        for level in range(1, levels):
            writer.write(halved(image, level), subfiletype=1, **options)
    return path


def write_image(path: Path, image: NDArray[np.generic]) -> Path:
    """Writes a plain image in the format of the suffix."""
    Image.fromarray(image).save(path)
    return path


def truncate(path: Path, share: float = 0.6) -> Path:
    """Cuts a file off after a share of its bytes."""
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path


def break_tiles(path: Path, indices: Sequence[int], level: int = 0) -> Path:
    """Overwrites tiles of one level of a TIFF so that no decoder can read them."""
    with tifffile.TiffFile(path) as file:
        page = file.series[0].levels[level].pages[0]
        places = [(page.dataoffsets[index], page.databytecounts[index]) for index in indices]
    with path.open("r+b") as stream:
        for offset, count in places:
            stream.seek(offset)
            stream.write(b"\0" * count)
    return path


class ArrayReader(Reader):
    """A slide held in memory: each level is the last one halved."""

    def __init__(
        self, image: NDArray[np.uint8], levels: int = 1, background: Color = WHITE
    ) -> None:
        self.images = [halved(image, level) for level in range(levels)]
        sizes = tuple(Size(level.shape[1], level.shape[0]) for level in self.images)
        self.header = Header("array", levels_of(sizes), background=background)

    def read(self, level: int, region: Rect) -> NDArray[np.uint8]:
        return self.images[level][region.y : region.bottom, region.x : region.right]

    def close(self) -> None:
        self.images = []


def array_slide(image: NDArray[np.uint8], levels: int = 1, mpp: float = MPP) -> Slide:
    """A slide that shows an array, without a file."""
    return Slide(Path("array"), ArrayReader(image, levels), Scale(mpp, "argument"))


def _quality(compression: str) -> dict[str, object]:
    if compression != "jpeg":
        return {}
    return {"compressionargs": {"level": 95, "outcolorspace": "RGB"}}
