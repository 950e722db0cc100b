"""Writes slide files of many kinds for tests, and breaks them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import imagecodecs
import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

from pipeline.geometry import Rect, Size
from pipeline.slides.mpp import Scale
from pipeline.slides.readers.base import WHITE, Color, Header, Reader, levels_of
from pipeline.slides.slide import Slide

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


def write_aperio(
    path: Path,
    image: NDArray[np.uint8],
    *,
    levels: int = 3,
    tile: int = 64,
    compression: str = "jpeg",
    missing: Mapping[int, Sequence[int]] | None = None,
    photometric: str = "rgb",
    tables: bool = False,
    profile: bytes | None = None,
    **options: object,
) -> Path:
    """Writes an Aperio slide; tiles may be missing, by level, and JPEG tables be shared.

    Args:
        path: of the file.
        image: level 0; each further level is half of the last.
        levels: how many.
        tile: side of the tiles.
        compression: as tifffile names it.
        missing: indices of tiles to leave out, by level.
        photometric: of the TIFF; JPEG is stored as RGB or YCbCr accordingly.
        tables: whether the tiles of a level share their JPEG tables.
        profile: of its colours, as ICC lays one out.
        options: for the encoder of the tiles, see `encode_tile`.
    """
    with tifffile.TiffWriter(path) as writer:
        for level in range(levels):
            shown = halved(image, level)
            left_out = (missing or {}).get(level, ())
            tiles = [
                b"" if index in left_out else encode_tile(part, compression, photometric, options)
                for index, part in enumerate(cut(shown, tile))
            ]
            extra = []
            if tables:
                shared, tiles = _share_tables(tiles)
                extra = [(347, 7, len(shared), shared, True)]
            writer.write(
                iter(tiles),
                shape=shown.shape,
                dtype=np.uint8,
                tile=(tile, tile),
                photometric=photometric,
                compression=compression,
                description=f"Aperio Image Library v12.0\n{shown.shape}|AppMag = 40|MPP = {MPP}",
                metadata=None,
                extratags=extra,
                iccprofile=None if level else profile,
                subsampling=options.get("subsampling"),
                compressionargs={"outcolorspace": photometric} if compression == "jpeg" else None,
            )
    return path


def encode_tile(
    pixels: NDArray[np.uint8], compression: str, photometric: str, options: Mapping[str, object]
) -> bytes:
    """One tile's bytes, as a slide with these tags holds them."""
    if compression == "jpeg":
        options = {"level": 85, "outcolorspace": photometric, **options}
        return imagecodecs.jpeg8_encode(pixels, **options)
    if compression.startswith("aperio_jp2000"):
        return imagecodecs.jpeg2k_encode(pixels, codecformat="j2k", **options)
    encode = {"adobe_deflate": imagecodecs.zlib_encode}.get(compression)
    encode = encode or getattr(imagecodecs, f"{compression}_encode")
    return encode(pixels, **options)


def write_image(path: Path, image: NDArray[np.generic]) -> Path:
    """Writes a plain image in the format of the suffix."""
    Image.fromarray(image).save(path)
    return path


def truncate(path: Path, share: float = 0.6) -> Path:
    """Cuts a file off after a share of its bytes."""
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path


def break_tiles(path: Path, indices: Sequence[int] | None, level: int = 0, plane: int = 0) -> Path:
    """Overwrites tiles of one level of a TIFF, None for all, so that no decoder can read them."""
    with tifffile.TiffFile(path) as file:
        page = file.series[0].levels[level].pages[plane].aspage()
        if indices is None:
            indices = range(len(page.dataoffsets))
        places = [(page.dataoffsets[index], page.databytecounts[index]) for index in indices]
    with path.open("r+b") as stream:
        for offset, count in places:
            stream.seek(offset)
            stream.write(b"\0" * count)
    return path


def spoil_tile(path: Path, page: tifffile.TiffPage, index: int) -> Path:
    """Overwrites half of a JPEG tile with zeros: it is decoded to something without an error."""
    half = page.databytecounts[index] // 2
    with path.open("r+b") as stream:
        stream.seek(page.dataoffsets[index] + half)
        stream.write(bytes(half))
    return path


class ArrayReader(Reader):
    """A slide held in memory: each level is the last one halved."""

    library = "numpy"

    def __init__(
        self, image: NDArray[np.uint8], levels: int = 1, background: Color = WHITE
    ) -> None:
        self.images = [halved(image, level) for level in range(levels)]
        sizes = tuple(Size(level.shape[1], level.shape[0]) for level in self.images)
        self.header = Header("array", levels_of(sizes), background=background)

    def read(self, level: int, region: Rect, shrink: int = 1) -> NDArray[np.uint8]:
        return self.images[level][region.y : region.bottom, region.x : region.right]

    def close(self) -> None:
        self.images = []


def array_slide(image: NDArray[np.uint8], levels: int = 1, mpp: float = MPP) -> Slide:
    """A slide that shows an array, without a file."""
    return Slide(Path("array"), ArrayReader(image, levels), Scale(mpp, "argument"))


def cut(image: NDArray[np.uint8], tile: int) -> Iterator[NDArray[np.uint8]]:
    """Whole tiles of an image, row by row; beyond its border they repeat the border."""
    height, width = image.shape[:2]
    padded = np.pad(image, ((0, -height % tile), (0, -width % tile), (0, 0)), "edge")
    for y in range(0, height, tile):
        for x in range(0, width, tile):
            yield np.ascontiguousarray(padded[y : y + tile, x : x + tile])


def _share_tables(tiles: Sequence[bytes]) -> tuple[bytes, list[bytes]]:
    """JPEGs' common tables as a stream of their own, and the JPEGs without them."""
    parts = [_split(tile) for tile in tiles]
    (shared,) = {tables for tables, _ in parts}
    return b"\xff\xd8" + shared + b"\xff\xd9", [b"\xff\xd8" + rest for _, rest in parts]


def _split(jpeg: bytes) -> tuple[bytes, bytes]:
    """The segments of a JPEG that hold tables, and all others with the scan."""
    tables, others, at = b"", b"", 2
    while jpeg[at + 1] != 0xDA:
        end = at + 2 + int.from_bytes(jpeg[at + 2 : at + 4], "big")
        if jpeg[at + 1] in (0xDB, 0xC4):
            tables += jpeg[at:end]
        else:
            others += jpeg[at:end]
        at = end
    return tables, others + jpeg[at:]


def _quality(compression: str) -> dict[str, object]:
    if compression != "jpeg":
        return {}
    return {"compressionargs": {"level": 95, "outcolorspace": "RGB"}}


SCN = """<?xml version="1.0"?>
<scn xmlns="http://www.leica-microsystems.com/scn/2010/10/01" uuid="urn:uuid:0">
<collection name="c" uuid="urn:uuid:1" sizeX="{width}" sizeY="{height}">
{images}</collection></scn>"""

SCN_IMAGE = """<image name="{name}" uuid="urn:uuid:{name}"><creationDate>2020-01-01</creationDate>
<device model="m" version="1"/>
<pixels sizeX="{across}" sizeY="{down}"><dimension sizeX="{across}" sizeY="{down}" r="0"
ifd="{ifd}"/></pixels>
<view sizeX="{width}" sizeY="{height}" offsetX="{x}" offsetY="{y}" spacingZ="0"/>
<scanSettings><objectiveSettings><objective>{power}</objective></objectiveSettings>
<illuminationSettings><illuminationSource>brightfield</illuminationSource></illuminationSettings>
</scanSettings></image>
"""


def write_scn(
    path: Path,
    image: NDArray[np.uint8],
    origin: tuple[int, int],
    size: tuple[int, int],
    mpp: float = MPP,
) -> Path:
    """A Leica slide of ``size`` of which ``image`` was scanned, its corner at ``origin`` (px)."""
    nm = round(mpp * 1000)
    down, across = image.shape[:2]
    shape = {"width": size[0] * nm, "height": size[1] * nm}
    macro = SCN_IMAGE.format(name="macro", across=128, down=96, ifd=0, x=0, y=0, power=0.6, **shape)
    scan = {"x": origin[0] * nm, "y": origin[1] * nm, "width": across * nm, "height": down * nm}
    main = SCN_IMAGE.format(name="main", across=across, down=down, ifd=1, power=40, **scan)
    kind = {"photometric": "rgb", "compression": "jpeg", "tile": (256, 256), "metadata": None}
    kind["compressionargs"] = {"level": 98}
    with tifffile.TiffWriter(path, bigtiff=True) as out:
        xml = SCN.format(images=macro + main, **shape)
        out.write(np.full((96, 128, 3), 230, np.uint8), description=xml, **kind)
        out.write(image, resolution=(1e7 / nm,) * 2, resolutionunit="CENTIMETER", **kind)
    return path
