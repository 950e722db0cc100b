"""How the bytes of a Zarr's chunks are packed: read of its metadata, and undone within bounds.

The codecs that Zarr's formats 2 and 3 define are known, but for none that loses anything and is not
of the standard: what a chunk decodes to has one size, which is known before, so that no chunk takes
more memory than it says.
"""

from __future__ import annotations

import bz2
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from pipeline.errors import SlideError

SLACK = 1 << 16
"""Bytes that an inner step may give more than the chunk has, as of what could not be packed."""

_BLOSC_HEAD = 16

Step = Callable[[bytes, int], bytes]
"""Undoes one codec: packed bytes, and the most bytes that they may come to."""


class ChunkError(Exception):
    """The bytes of a chunk are not what its metadata says."""


@dataclass(frozen=True)
class Packing:
    """How a chunk's samples become bytes.

    Attributes:
        order: axes of the array in the order in which they are stored.
        steps: what undoes the codecs, in the order in which they are undone.
    """

    order: tuple[int, ...]
    steps: tuple[Step, ...]

    def unpack(self, data: bytes, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        """The samples of a chunk.

        Args:
            data: as stored.
            shape: of the chunk.

        Raises:
            ChunkError: they are damaged.
        """
        count = int(np.prod(shape, dtype=np.int64))
        try:
            for step in self.steps:
                data = step(data, count + count // 8 + SLACK)
        except ChunkError:
            raise
        except Exception as error:  # each codec has errors of its own
            raise ChunkError(str(error) or type(error).__name__) from error
        if len(data) != count:
            raise ChunkError(f"has {len(data)} bytes, where {count} belong")
        stored = np.frombuffer(data, np.uint8).reshape([shape[axis] for axis in self.order])
        return stored.transpose(np.argsort(self.order))


def packing_2(compressor: Any, filters: Any, order: Any, dimensions: int) -> Packing:
    """What ``.zarray`` says (Zarr 2).

    Raises:
        SlideError: a codec is not known.
    """
    if filters:
        raise SlideError(f"its chunks pass filters ({filters}), which are not known here")
    if order not in ("C", "F"):
        raise SlideError(f"the order of its samples is {order!r}, not C or F")
    axes = tuple(range(dimensions))
    steps = () if compressor is None else (_step(_name(compressor, "id"), compressor),)
    return Packing(axes if order == "C" else axes[::-1], steps)


def packing_3(codecs: Sequence[Any], dimensions: int) -> Packing:
    """What ``zarr.json`` says of the codecs of a chunk (Zarr 3), but for sharding.

    Raises:
        SlideError: a codec is not known.
    """
    order = tuple(range(dimensions))
    steps: list[Step] = []
    has_bytes = False
    for codec in codecs:
        name = _name(codec, "name")
        settings = settings_of(codec)
        if name == "transpose" and not has_bytes:
            order = tuple(order[axis] for axis in _order(settings.get("order"), dimensions))
        elif name == "bytes" and not has_bytes:
            has_bytes = True  # one byte a sample has no order of bytes
        elif has_bytes:
            steps.append(_step(name.removeprefix("numcodecs."), settings))
        else:
            raise SlideError(f"its codec {name!r} is not known here{_KNOWN}")
    if not has_bytes:
        raise SlideError("its codecs have none of bytes; it is damaged: copy it again")
    return Packing(order, tuple(reversed(steps)))


def settings_of(part: Any) -> dict[str, Any]:
    """The configuration of a part of Zarr 3's metadata; empty where it has none."""
    settings = part.get("configuration") if isinstance(part, dict) else None
    return settings if isinstance(settings, dict) else {}


def crc32c(data: bytes) -> int:
    """CRC-32C (Castagnoli) of some bytes: of equal blocks side by side, then put together."""
    side = max(1, int(len(data) ** 0.5))
    blocks = len(data) // side
    head = np.frombuffer(data, np.uint8, blocks * side).reshape(blocks, side)
    state = np.zeros(blocks, np.uint32)
    for column in head.T:
        state = _TABLE[(state ^ column) & 0xFF] ^ (state >> 8)
    shift = _zeros_behind(side)
    value = 0xFFFFFFFF
    for one in state.tolist():
        value = _times(shift, value) ^ one
    for byte in data[blocks * side :]:
        value = int(_TABLE[(value ^ byte) & 0xFF]) ^ (value >> 8)
    return value ^ 0xFFFFFFFF


def _table() -> NDArray[np.uint32]:
    values = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        values = np.where(values & 1, (values >> 1) ^ np.uint32(0x82F63B78), values >> 1)
    return values


_TABLE = _table()


def _zeros_behind(count: int) -> list[int]:
    """What each bit of a CRC comes to behind so many zero bytes."""
    bits = np.uint32(1) << np.arange(32, dtype=np.uint32)
    for _ in range(count):
        bits = _TABLE[bits & 0xFF] ^ (bits >> 8)
    return [int(one) for one in bits]


def _times(columns: Sequence[int], value: int) -> int:
    """A vector of 32 bits through a matrix of them."""
    result = 0
    for column in columns:
        if value & 1:
            result ^= column
        value >>= 1
    return result


def _name(codec: Any, key: str) -> str:
    name = codec.get(key) if isinstance(codec, dict) else None
    if not isinstance(name, str):
        raise SlideError(f"names a codec as {codec!r}; it is damaged: copy it again")
    return name


def _order(stated: Any, dimensions: int) -> tuple[int, ...]:
    """The axes that a transposition puts first to last."""
    axes = tuple(range(dimensions))
    if stated == "C":
        return axes
    if stated == "F":
        return axes[::-1]
    if not isinstance(stated, list) or sorted(map(repr, stated)) != sorted(map(repr, axes)):
        raise SlideError(f"its transposition {stated!r} is none of {dimensions} axes")
    return tuple(stated)


def _step(name: str, settings: Any) -> Step:
    """What undoes a codec.

    Raises:
        SlideError: it is not known.
    """
    if name not in _STEPS:
        raise SlideError(f"its codec {name!r} is not known here{_KNOWN}")
    return _STEPS[name]


def _blosc(data: bytes, most: int) -> bytes:
    if len(data) < _BLOSC_HEAD:
        raise ChunkError(f"is cut off, at byte {len(data)}")
    size, packed = (int.from_bytes(data[at : at + 4], "little") for at in (4, 12))
    if packed != len(data):
        raise ChunkError(f"is cut off: it has {len(data)} bytes, and says {packed}")
    if size > most:
        raise ChunkError(f"would come to {size} bytes")
    return bytes(imagecodecs.blosc_decode(data))


def _zstd(data: bytes, most: int) -> bytes:
    return bytes(imagecodecs.zstd_decode(data, out=most))


def _lz4(data: bytes, most: int) -> bytes:
    size = int.from_bytes(data[:4], "little")
    if len(data) < 4 or size > most:
        raise ChunkError(f"would come to {size} bytes")
    return bytes(imagecodecs.lz4_decode(data, header=True, out=size))


def _inflated(data: bytes, most: int) -> bytes:
    """Of gzip and zlib; both carry a checksum, which is held against the bytes at their end."""
    packer = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)
    return _whole(packer.decompress(data, most), packer.eof)


def _bz2(data: bytes, most: int) -> bytes:
    packer = bz2.BZ2Decompressor()
    return _whole(packer.decompress(data, most), packer.eof)


def _whole(data: bytes, is_at_end: bool) -> bytes:
    if not is_at_end:
        raise ChunkError("is cut off, or longer than it should be")
    return data


def check_crc32c(data: bytes, most: int = 0) -> bytes:
    """Bytes without the checksum behind them.

    Raises:
        ChunkError: it is another one's.
    """
    if len(data) < 4 or crc32c(data[:-4]) != int.from_bytes(data[-4:], "little"):
        raise ChunkError("its checksum is another one's")
    return data[:-4]


_STEPS: dict[str, Step] = {
    "blosc": _blosc,
    "zstd": _zstd,
    "gzip": _inflated,
    "zlib": _inflated,
    "lz4": _lz4,
    "bz2": _bz2,
    "crc32c": check_crc32c,
}

_KNOWN = f"; known are {', '.join(sorted(_STEPS))}: write it anew with one of them"
