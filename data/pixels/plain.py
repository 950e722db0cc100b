"""Plain images: PNG, JPEG, WebP and BMP, as whole pictures."""

from __future__ import annotations

import struct
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import imagecodecs
import numpy as np
from PIL import Image, UnidentifiedImageError

from configs import Doubt
from data.pixels.depth import Depth, settle_depth
from data.pixels.jpeg import jpeg_head
from data.pixels.orientation import TURNS, UPRIGHT, orientation_of, turned, turned_size
from data.pixels.samples import Pixels, Samples, as_rgb, lay_on_white, to_8_bit

FORMATS = ("PNG", "JPEG", "WEBP", "BMP")
"""What is read, by Pillow's names."""

PRINTING_INKS = Doubt(
    code="printing-inks",
    text="is stored in printing inks (CMYK): its colours are near to what was seen, no more",
)
"""Of plain images and TIFF alike."""

_PNG, _JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"
_BMP_HEADERS = frozenset({12, 16, 40, 52, 56, 64, 108, 124})
_HEAD = 2**16
"""Bytes in which a JPEG's frame is looked for where Pillow doesn't know it."""

_SAMPLE = 2**20
"""About as many pixels show how deep a picture is."""


class PictureError(Exception):
    """A plain image can't be read; the text says why, without the file's name.

    Attributes:
        too_large: it has more pixels than are held in memory; slides have.
    """

    def __init__(self, problem: str, too_large: bool = False) -> None:
        super().__init__(problem)
        self.too_large = too_large


@dataclass(frozen=True)
class PictureHead:
    """What a plain image says of itself; no pixel is decoded.

    Attributes:
        format: such as "png".
        size: width and height as it is shown.
        stored: width and height as it is stored.
        orientation: EXIF's; what is stored is turned by it.
        bits: stored a sample; more than 8 need a look at the pixels to be sure of their depth.
        doubts: what is odd about it.
        profile: of its colours, as ICC lays one out; None where it has none.
    """

    format: str
    size: tuple[int, int]
    stored: tuple[int, int]
    orientation: int
    bits: int
    doubts: tuple[Doubt, ...]
    profile: bytes | None = None


@dataclass(frozen=True)
class Picture:
    """A plain image, decoded.

    Attributes:
        head: what the file says of it.
        pixels: (H, W, 3) RGB as it is shown, transparent parts on white.
        depth: of its samples.
        doubts: what is odd about it; those of the head, and what the pixels add.
    """

    head: PictureHead
    pixels: Pixels
    depth: Depth
    doubts: tuple[Doubt, ...]


def is_picture(path: Path) -> bool:
    """Whether a file begins as one of `FORMATS` does, whatever it is called.

    Raises:
        OSError: it can't be read.
    """
    with path.open("rb") as file:
        first = file.read(18)
    if first.startswith(b"BM"):
        return int.from_bytes(first[14:18], "little") in _BMP_HEADERS
    return first.startswith((_PNG, _JPEG)) or (first[:4], first[8:12]) == (b"RIFF", b"WEBP")


def picture_head(path: Path) -> PictureHead:
    """Reads what a plain image says of itself.

    Raises:
        PictureError: it is none, or damaged, or too large.
    """
    with _opened(path) as image:
        return _head(image, _PngChunks(path) if image.format == "PNG" else None)


def read_picture(path: Path) -> Picture:
    """Reads a plain image: the one way for slides to screen, fields to train on, and figures.

    Raises:
        PictureError: it is none, or damaged, or too large.
    """
    with _opened(path) as image:
        png = _PngChunks(path) if image.format == "PNG" else None
        head = _head(image, png)
        if png and png.bits == 16:
            pixels, depth, clear = _deep(path, png)
        else:
            pixels, clear = _shallow(image, png)
            depth = Depth(8, 8)
    doubts = (*head.doubts, *depth.doubts)
    if clear:
        text = "all of it is transparent: read as white, whatever colours lie beneath"
        doubts += (Doubt(code="all-transparent", text=text),)
    return Picture(head, turned(pixels, head.orientation), depth, doubts)


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """An open image; whatever is wrong with it comes as a `PictureError`."""
    try:
        if not is_picture(path):
            raise PictureError(f"cannot be read as an image: it is no {_list(FORMATS)}")
        with (
            warnings.catch_warnings(action="ignore", category=Image.DecompressionBombWarning),
            Image.open(path, formats=FORMATS) as image,
        ):
            yield image
    except Image.DecompressionBombError as error:
        raise PictureError(
            "too large for a plain image, which must be held in memory whole; "
            "convert it to a pyramidal tiled TIFF",
            too_large=True,
        ) from error
    except (OSError, ValueError, SyntaxError, struct.error, imagecodecs.PngError) as error:
        raise PictureError(_problem(path, error)) from error


def _problem(path: Path, error: Exception) -> str:
    """What an error of a decoder, or of the file system, means."""
    if isinstance(error, OSError) and error.strerror:
        return f"can't be read: {error.strerror}"
    if isinstance(error, UnidentifiedImageError):  # Pillow knows no JPEG of more than 8 bits
        with path.open("rb") as file:
            head = jpeg_head(file.read(_HEAD))
        if head and head.precision != 8:
            return f"a JPEG of {head.precision} bits a sample; save it as PNG or TIFF"
        return "damaged or truncated image: its first bytes alone are those of one"
    lines = str(error).strip().splitlines()
    return f"damaged or truncated image: {lines[0] if lines else type(error).__name__}"


def _list(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}"


def _head(image: Image.Image, png: _PngChunks | None) -> PictureHead:
    exif = png.exif if png else image.info.get("exif")
    orientation = orientation_of(exif)
    return PictureHead(
        format="jpeg" if image.format == "MPO" else str(image.format).lower(),
        size=turned_size(*image.size, orientation),
        stored=image.size,
        orientation=orientation,
        bits=png.bits if png else 8,
        doubts=tuple(_head_doubts(image, orientation, png)),
        profile=image.info.get("icc_profile") or None,
    )


def _head_doubts(image: Image.Image, orientation: int, png: _PngChunks | None) -> Iterator[Doubt]:
    if orientation != UPRIGHT:
        text = f"EXIF says how it is held: {TURNS[orientation]}, as viewers show it"
        yield Doubt(code="exif-turned", text=text)
    if getattr(image, "n_frames", 1) > 1:
        text = f"holds {image.n_frames} pictures; the first one is read"  # type: ignore[attr-defined]
        yield Doubt(code="first-picture", text=text)
    if image.mode == "CMYK":
        yield PRINTING_INKS
    if png.grey if png else image.mode in ("1", "L"):
        yield Doubt(code="grey", text="is grey; the model was trained on colours")


def _shallow(image: Image.Image, png: _PngChunks | None) -> tuple[Pixels, bool]:
    """RGB of at most 8 bits a sample, and whether all of it is transparent."""
    if not image.has_transparency_data:
        return np.asarray(image.convert("RGB")), False
    if png and png.grey and png.bits in (2, 4):  # Pillow scales the values, but not this one
        image.load()
        image.info["transparency"] *= 255 // ((1 << png.bits) - 1)
    samples = np.asarray(image.convert("RGBA"))
    alpha = samples[..., 3:]
    return lay_on_white(samples[..., :3], alpha), not alpha.any()


def _deep(path: Path, png: _PngChunks) -> tuple[Pixels, Depth, bool]:
    """RGB of a PNG of 16 bits a sample, of which Pillow would drop the lower half."""
    samples: Samples = imagecodecs.png_decode(path.read_bytes())
    samples = samples.reshape(*samples.shape[:2], -1)
    colors, alpha = samples, None
    if samples.shape[2] in (2, 4):
        colors, alpha = samples[..., :-1], to_8_bit(samples[..., -1:], 65535)
    seen = colors if alpha is None else colors[alpha[..., 0] > 0]
    seen = seen.reshape(-1, colors.shape[2])
    depth = settle_depth(
        seen[:: max(1, len(seen) // _SAMPLE)], 16, png.significant, may_be_scaled=True
    )
    pixels = to_8_bit(colors, depth.white)
    if alpha is not None:
        pixels = lay_on_white(pixels, alpha)
    return as_rgb(pixels), depth, alpha is not None and not alpha.any()


class _PngChunks:
    """What a PNG's chunks say: its depth, and EXIF, which may lie behind the pixels.

    Attributes:
        bits: stored a sample.
        grey: whether it has no colours.
        significant: bits that the camera had, where the file says.
        exif: None without.
    """

    def __init__(self, path: Path) -> None:
        self.bits, self.grey = 8, False
        self.significant: int | None = None
        self.exif: bytes | None = None
        with path.open("rb") as file:
            file.seek(len(_PNG))
            for kind, content in _chunks(file):
                if kind == b"IHDR" and len(content) > 9:
                    self.bits, self.grey = content[8], content[9] in (0, 4)
                elif kind == b"sBIT" and content:
                    self.significant = max(content)
                elif kind == b"eXIf":
                    self.exif = content


def _chunks(file: BinaryIO) -> Iterator[tuple[bytes, bytes]]:
    """Kinds and contents of a PNG's chunks; of pixels, which are passed over, without content."""
    while len(start := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", start)
        if kind in (b"IHDR", b"sBIT", b"eXIf"):
            yield kind, file.read(length)
            file.seek(4, 1)
        else:
            file.seek(length + 4, 1)
