"""A DICOM frame's bytes as RGB, by whichever codec its transfer syntax names.

What a header says of colours is believed as far as the frames don't deny it. A JPEG says by its
markers how its colours are stored, and libjpeg would take RGB for YCbCr where it doesn't. JPEG
2000 that is called YCbCr may have no transform to undo; then its pixels show what it is
(`dicom_colors`).
"""

from __future__ import annotations

import struct
from collections.abc import Callable

import cv2
import imagecodecs
import numpy as np
from numpy.typing import NDArray

from data.pixels.jpeg import Space, jpeg_head
from pipeline.errors import SlideError
from pipeline.slides.readers.colors import decode_jpeg
from pipeline.slides.readers.dicom_header import Instance
from pipeline.slides.readers.segments import SHRINK_FLAGS
from pipeline.slides.readers.tile_jpegs import is_broken

NATIVE = frozenset({"1.2.840.10008.1.2", "1.2.840.10008.1.2.1"})
JPEG = frozenset({"1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51"})
JPEG_2000 = frozenset({"1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91"})
HTJ2K = frozenset({"1.2.840.10008.1.2.4.201", "1.2.840.10008.1.2.4.202", "1.2.840.10008.1.2.4.203"})
JPEG_LS = frozenset({"1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81"})
RLE = frozenset({"1.2.840.10008.1.2.5"})

CODESTREAMS = JPEG_2000 | HTJ2K
"""Codecs of the family of JPEG 2000, which have a transform of colours of their own."""

SUBSAMPLED = "YBR_FULL_422"
_RGB = frozenset({"RGB"})
_YCBCR = frozenset({"YBR_FULL", SUBSAMPLED})
_TRANSFORMED = frozenset({"YBR_ICT", "YBR_RCT"})

_READ = {
    **dict.fromkeys(NATIVE, _RGB | _YCBCR),
    **dict.fromkeys(RLE | JPEG_LS, _RGB | {"YBR_FULL"}),
    **dict.fromkeys(JPEG, _RGB | _YCBCR),
    **dict.fromkeys(CODESTREAMS, _RGB | _YCBCR | _TRANSFORMED),
}
"""What colours are read of each transfer syntax."""

_EOC = b"\xff\xd9"
_JPEG_LS_FRAME = b"\xff\xf7"


def refuse_unread(instance: Instance) -> None:
    """Refuses pixels that are not RGB of 8 bits, or stored in a way that isn't read.

    Raises:
        SlideError: they are; begins with what is wrong, and names no file.
    """
    from pydicom.uid import UID

    stored = instance.photometric or "nothing"
    if instance.samples == 1 or stored.startswith(("MONOCHROME", "PALETTE")):
        what = "colours of a palette" if stored.startswith("PALETTE") else "one channel"
        raise SlideError(
            f"its pixels are of {what} ({stored}), not RGB: fluorescence, say; export it as RGB "
            "of 8 bits",
            "channels",
        )
    if instance.samples != 3:
        raise SlideError(
            f"its pixels have {instance.samples} samples; export it as RGB", "channels"
        )
    if instance.bits != (8, 8) or instance.signed:
        sign = "signed " if instance.signed else ""
        raise SlideError(
            f"its pixels have {instance.bits[1]} {sign}bits in {instance.bits[0]} a sample; export "
            "it with 8",
            "channels",
        )
    name = UID(instance.syntax).name
    if instance.syntax not in _READ:
        raise SlideError(
            f"is stored as {name} (transfer syntax {instance.syntax}), which is not read; export "
            "it as JPEG, JPEG 2000, JPEG-LS, RLE or uncompressed",
            "vendor-refused",
        )
    if stored not in _READ[instance.syntax]:
        raise SlideError(
            f"stores its colours as {stored} in {name}, which is not read; export it as RGB",
            "channels",
        )


def stated_space(instance: Instance) -> Space:
    """How the header says that colours are stored."""
    return "ycbcr" if instance.photometric.startswith("YBR") else "rgb"


def stored_space(instance: Instance) -> Space:
    """How a frame's samples are, once its codec has undone what transforms it has."""
    own = instance.syntax in CODESTREAMS
    return "rgb" if own else stated_space(instance)


def decode_frame(data: bytes, instance: Instance, space: Space) -> NDArray[np.uint8]:
    """A frame's pixels (H, W, 3), RGB.

    Args:
        data: as it is stored, without the items around it.
        instance: its file.
        space: how its samples are, by `stored_space` or as its frames show.

    Raises:
        ValueError: it is damaged, or has not the size that it should, of which no room is made.
        Exception: of any type; each codec has errors of its own.
    """
    if instance.syntax in JPEG:
        return _jpeg(data, instance, space)
    pixels = _decoder(instance.syntax)(data, instance)
    if pixels.shape != (instance.tile.height, instance.tile.width, 3) or pixels.dtype != np.uint8:
        raise ValueError(f"decoded as {pixels.dtype} of {pixels.shape}")
    return _from_ycbcr(pixels) if space == "ycbcr" else pixels


def decode_shrunk(data: bytes, instance: Instance, space: Space, shrink: int) -> NDArray[np.uint8]:
    """A JPEG frame's pixels at a fraction of its size: (H, W, 3), RGB.

    Raises:
        ValueError: it is damaged, or has not the size that it should.
    """
    _check_jpeg(data, instance)
    shrunk = cv2.imdecode(np.frombuffer(_marked(data, space), np.uint8), SHRINK_FLAGS[shrink])
    if shrunk is None:
        raise ValueError("can't be decoded")
    return np.asarray(shrunk)


def codestream_size(data: bytes) -> tuple[int, int] | None:
    """Width and height of a codestream of JPEG 2000; None where it does not say."""
    at = data.find(b"\xff\x4f\xff\x51") + 8  # past both markers, length and capabilities
    if at < 8 or at + 16 > len(data):
        return None
    right, bottom, left, top = struct.unpack(">4I", data[at : at + 16])
    return right - left, bottom - top


def transforms(data: bytes) -> bool | None:
    """Whether a codestream of JPEG 2000 transforms its colours; None where it does not say."""
    at = data.find(b"\xff\x4f\xff\x51") + 2
    while at >= 2 and at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != 0x90:
        if data[at + 1] == 0x52 and at + 9 <= len(data):  # COD: length, style, progression, layers
            return data[at + 8] != 0
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return None


def _jpeg(data: bytes, instance: Instance, space: Space) -> NDArray[np.uint8]:
    _check_jpeg(data, instance)
    pixels = decode_jpeg(data, space)
    if pixels.shape != (instance.tile.height, instance.tile.width, 3):
        raise ValueError(f"decoded as {pixels.shape}")
    return pixels


def _check_jpeg(data: bytes, instance: Instance) -> None:
    head = jpeg_head(data)
    _check_size(head.size if head else None, instance)
    assert head is not None
    if head.precision != 8 or len(head.components) != 3:
        raise ValueError(f"is a JPEG of {len(head.components)} x {head.precision} bits, not RGB")
    if is_broken(data):
        raise ValueError("is damaged")


def _check_size(size: tuple[int, int] | None, instance: Instance) -> None:
    if size != (instance.tile.width, instance.tile.height):
        raise ValueError(f"it is of {size} px, not {instance.tile}")


def _marked(data: bytes, space: Space) -> bytes:
    """A JPEG with Adobe's marker in front of all others: libjpeg believes it."""
    head = jpeg_head(data)
    if head is not None and head.space == space and (head.jfif or head.transform is not None):
        return data
    adobe = b"\xff\xee\x00\x0eAdobe\x00\x64" + bytes([0, 0, 0, 0, 0 if space == "rgb" else 1])
    return data[:2] + adobe + data[2:]


def _decoder(syntax: str) -> Callable[[bytes, Instance], NDArray[np.uint8]]:
    if syntax in NATIVE:
        return _native
    if syntax in RLE:
        return _rle
    return _jpeg_ls if syntax in JPEG_LS else _codestream


def _native(data: bytes, instance: Instance) -> NDArray[np.uint8]:
    height, width = instance.tile.height, instance.tile.width
    samples = np.frombuffer(data, np.uint8)
    if instance.photometric == SUBSAMPLED:  # two of luma, then one of each colour for both
        pairs = samples.reshape(height, width // 2, 4)
        luma = pairs[..., :2].reshape(height, width, 1)
        return np.concatenate([luma, pairs[..., 2:].repeat(2, axis=1)], axis=2)
    if instance.planar:
        return np.ascontiguousarray(np.moveaxis(samples.reshape(3, height, width), 0, 2))
    return samples.reshape(height, width, 3)


def _rle(data: bytes, instance: Instance) -> NDArray[np.uint8]:
    """Each colour is a segment, whatever the header says of planes."""
    height, width = instance.tile.height, instance.tile.width
    if len(data) < 64 or struct.unpack_from("<I", data)[0] != 3:
        raise ValueError("has not three segments of RLE")
    samples = np.frombuffer(imagecodecs.dicomrle_decode(data, np.uint8), np.uint8)
    if samples.size != 3 * height * width:
        raise ValueError(f"has {samples.size} samples, not {3 * height * width}")
    return np.ascontiguousarray(np.moveaxis(samples.reshape(3, height, width), 0, 2))


def _jpeg_ls(data: bytes, instance: Instance) -> NDArray[np.uint8]:
    _check_size(_jpeg_ls_size(data), instance)
    return np.asarray(imagecodecs.jpegls_decode(data))


def _jpeg_ls_size(data: bytes) -> tuple[int, int] | None:
    at = data.find(_JPEG_LS_FRAME) + 5  # past marker, length and precision
    if at < 5 or at + 4 > len(data):
        return None
    height, width = struct.unpack_from(">HH", data, at)
    return width, height


def _codestream(data: bytes, instance: Instance) -> NDArray[np.uint8]:
    _check_size(codestream_size(data), instance)
    if not data.rstrip(b"\0").endswith(_EOC):  # OpenJPEG shows what there is, and says nothing
        raise ValueError("is cut off")
    # HTJ2K, too: OpenJPH is twice as fast, but imagecodecs drops what it says of damage.
    return np.asarray(imagecodecs.jpeg2k_decode(data))


def _from_ycbcr(samples: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """RGB of YCbCr of the full range, by JFIF's equations."""
    matrix = np.array([[1, 1, 1], [0, -0.344136, 1.772], [1.402, -0.714136, 0]], np.float32)
    rgb = (samples - np.array([0, 128, 128], np.float32)) @ matrix
    return np.asarray(np.rint(rgb).clip(0, 255), np.uint8)
