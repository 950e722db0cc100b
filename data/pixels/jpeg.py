"""What a JPEG says of itself before its scan: depth, components, and how its colours are stored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Space = Literal["rgb", "ycbcr"]

_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_BARE = frozenset({0x01, *range(0xD0, 0xD9)})
_APP0, _APP14, _SCAN = 0xE0, 0xEE, 0xDA


@dataclass(frozen=True)
class JpegHead:
    """The head of a JPEG.

    Attributes:
        precision: bits a sample.
        size: width and height.
        components: what each is called, in order.
        sampling: of each, four bits for across and four for down.
        jfif: whether it has the marker of JFIF, whose colours are YCbCr.
        transform: of Adobe's marker: 0 for none, 1 for YCbCr, 2 for YCCK; None without the marker.
    """

    precision: int
    size: tuple[int, int]
    components: tuple[int, ...]
    sampling: tuple[int, ...]
    jfif: bool
    transform: int | None

    @property
    def space(self) -> Space | None:
        """How three components are stored; None where the JPEG leaves it to who holds it.

        As libjpeg has it, and what it leaves to a guess: only YCbCr has coarser second and third
        components. libjpeg would guess YCbCr for all others that are silent; TIFF of Aperio with
        RGB are.
        """
        if len(self.components) != 3:
            return None
        if self.jfif:
            return "ycbcr"
        if self.transform is not None:
            return "rgb" if self.transform == 0 else "ycbcr"
        if bytes(self.components) == b"RGB":
            return "rgb"
        return "ycbcr" if self.sampling[0] > max(self.sampling[1:]) else None


def jpeg_head(data: bytes) -> JpegHead | None:
    """Reads the head of a JPEG, or of its beginning; None where it has none that can be read.

    Markers may stand before the frame or behind it, up to the scan.
    """
    frame, jfif, transform, at = b"", False, None, 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF or marker in _BARE:  # fill bytes, and markers without content
            at += 1 if marker == 0xFF else 2
            continue
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        content = data[at + 4 : end]
        if marker == _SCAN:
            break
        if marker == _APP0 and content.startswith(b"JFIF\0"):
            jfif = True
        if marker == _APP14 and content.startswith(b"Adobe") and len(content) >= 12:
            transform = content[11]
        if marker in _FRAMES:
            frame = content
        at = end
    return _head(frame, jfif, transform)


def _head(frame: bytes, jfif: bool, transform: int | None) -> JpegHead | None:
    """The head by the content of a frame's segment: a precision, two sides, the components."""
    if len(frame) < 6 or len(frame) < 6 + 3 * frame[5]:
        return None
    components = frame[6 : 6 + 3 * frame[5]]
    size = int.from_bytes(frame[3:5], "big"), int.from_bytes(frame[1:3], "big")
    names, sampling = tuple(components[::3]), tuple(components[1::3])
    return JpegHead(frame[0], size, names, sampling, jfif, transform)
