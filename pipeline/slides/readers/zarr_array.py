"""One array of a Zarr, of format 2 or 3: which of its chunks are there, and what they hold.

A chunk that is not stored stands for the array's fill value; whether that is meant or a chunk was
lost is for whoever reads to judge. Which are there is looked up once, at opening: one that is gone
later can't be read.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ReadError, SlideError
from pipeline.slides.readers.base import reason, show
from pipeline.slides.readers.zarr_codecs import (
    ChunkError,
    Packing,
    check_crc32c,
    packing_2,
    packing_3,
    settings_of,
)
from pipeline.slides.readers.zarr_files import MOST_METADATA, ZarrFiles

LONGEST = 2**31
"""Pixels of an axis above which metadata is damaged."""

MOST_CHUNKS, MOST_IN_SHARDS = 2**26, 2**22
"""Chunks of an array; of those that lie in shards, where each lies is held in memory."""

LARGEST_CHUNK = 2**28
"""Bytes of a chunk, which is decoded as a whole."""

_COPY = "; it is damaged: copy it again"
_NOT_STORED = np.uint64(2**64 - 1)
"""What the index of a shard says of a chunk that it hasn't."""


@dataclass(frozen=True)
class _Shards:
    """How chunks lie together in files.

    Attributes:
        counts: chunks of a shard, by axis.
        has_sum: whether a checksum follows the index.
        at_end: whether the index is at the end of the file.
    """

    counts: tuple[int, ...]
    has_sum: bool
    at_end: bool

    @property
    def bytes(self) -> int:
        """Of the index."""
        return 16 * math.prod(self.counts) + 4 * self.has_sum


@dataclass(frozen=True)
class _Form:
    """What an array's metadata says.

    Attributes:
        shape: of the array.
        chunk: shape of a chunk; those at the ends are whole, too.
        packing: of a chunk.
        fill: value of what isn't stored.
        separator: between the numbers of a chunk, in its key.
        start: of each key.
        shards: None where each chunk is a file.
        names: of the axes, as far as they are stated.
    """

    shape: tuple[int, ...]
    chunk: tuple[int, ...]
    packing: Packing
    fill: int
    separator: str
    start: str
    shards: _Shards | None = None
    names: tuple[Any, ...] = ()


class ZarrArray:
    """An array of 8-bit samples.

    Args:
        files: of the Zarr.
        key: of the array.

    Attributes:
        key: of the array.
        shape: of it.
        chunk: shape of its chunks.
        fill: value of what isn't stored.
        names: of its axes, as far as it states them.
        present: bool, by chunk: whether it is there.

    Raises:
        SlideError: it is not there, damaged, or of a kind that isn't read.
    """

    def __init__(self, files: ZarrFiles, key: str) -> None:
        self._files = files
        self.key = key
        try:
            self._form = _form(files, key)
        except SlideError as error:
            raise SlideError(f"its array {show(key)}: {error.text}", error.code) from error
        self.shape, self.chunk, self.fill = self._form.shape, self._form.chunk, self._form.fill
        self.names = self._form.names
        grid = tuple(map(_ceil_div, self.shape, self.chunk))
        most = MOST_IN_SHARDS if self._form.shards else MOST_CHUNKS
        if math.prod(grid) > most:
            told = " x ".join(map(str, grid))
            raise SlideError(
                f"its array {show(key)} claims {told} chunks{_COPY}, or write it in larger ones"
            )
        self._indices: dict[tuple[int, ...], NDArray[np.uint64]] = {}
        self.present = np.zeros(grid, bool)
        try:
            self._look()
        except OSError as error:
            raise SlideError(f"its array {show(key)} can't be listed: {_told(error)}") from error

    def read(self, at: tuple[int, ...]) -> NDArray[np.uint8] | None:
        """A chunk, whole also where it reaches beyond the array; None where it isn't stored.

        Args:
            at: its numbers, by axis.

        Raises:
            ReadError: it is damaged, or can't be read.
        """
        if not self.present[at]:
            return None
        try:
            data = self._in_shard(at) if self._form.shards else self._file(at)
            return self._form.packing.unpack(data, self.chunk)
        except (OSError, ChunkError) as error:
            where = show(f"{self.key}/{self._key_of(self._outer(at))}")
            raise ReadError(f"the chunk {at} in {where} {_told(error)}") from error

    def _look(self) -> None:
        """Finds out which chunks are there."""
        shards = self._form.shards
        if shards is None:
            for at in self._stored(self.present.shape):
                self.present[at] = True
            return
        outer = tuple(map(_ceil_div, self.present.shape, shards.counts))
        for at in self._stored(outer):
            first = [a * count for a, count in zip(at, shards.counts, strict=True)]
            place = tuple(slice(a, a + n) for a, n in zip(first, shards.counts, strict=True))
            part = self.present[place]
            try:
                index = self._index(at)
            except (OSError, ChunkError):
                part[:] = True  # reading says what is wrong
                continue
            there = (index != _NOT_STORED).any(axis=-1).reshape(shards.counts)
            part[:] = there[tuple(slice(0, n) for n in part.shape)]

    def _stored(self, grid: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
        """The numbers of files of chunks, or of shards, that lie in the array's folder."""
        start, separator = self._form.start, self._form.separator
        for name in self._files.below(self.key, len(grid)):
            if not name.startswith(start):
                continue
            numbers = name[len(start) :].split(separator)
            if len(numbers) != len(grid) or not all(map(_is_number, numbers)):
                continue
            at = tuple(map(int, numbers))
            if all(a < most for a, most in zip(at, grid, strict=True)):
                yield at

    def _key_of(self, at: tuple[int, ...]) -> str:
        return self._form.start + self._form.separator.join(map(str, at))

    def _outer(self, at: tuple[int, ...]) -> tuple[int, ...]:
        """The file that a chunk lies in."""
        shards = self._form.shards
        return tuple(a // n for a, n in zip(at, shards.counts, strict=True)) if shards else at

    def _file(self, at: tuple[int, ...]) -> bytes:
        data = self._files.read(f"{self.key}/{self._key_of(at)}", LARGEST_CHUNK + (1 << 20))
        if data is None:
            raise ChunkError("is gone")
        return data

    def _in_shard(self, at: tuple[int, ...]) -> bytes:
        shards = self._form.shards
        assert shards is not None
        outer = self._outer(at)
        inner = tuple(a % n for a, n in zip(at, shards.counts, strict=True))
        offset, count = map(int, self._index(outer)[np.ravel_multi_index(inner, shards.counts)])
        key = f"{self.key}/{self._key_of(outer)}"
        size = self._files.size(key)
        if size is None or offset + count > size or count > LARGEST_CHUNK + (1 << 20):
            raise ChunkError(f"is cut off: it has bytes {offset} to {offset + count}, of {size}")
        return self._files.part(key, offset, count)

    def _index(self, outer: tuple[int, ...]) -> NDArray[np.uint64]:
        """(N, 2) where each chunk of a shard lies, and its bytes."""
        known = self._indices.get(outer)
        if known is not None:
            return known
        shards = self._form.shards
        assert shards is not None
        key = f"{self.key}/{self._key_of(outer)}"
        size = self._files.size(key)
        if size is None or size < shards.bytes:
            raise ChunkError("is cut off: it has no index")
        data = self._files.part(key, size - shards.bytes if shards.at_end else 0, shards.bytes)
        data = check_crc32c(data) if shards.has_sum else data
        index = np.frombuffer(data, "<u8").reshape(-1, 2).astype(np.uint64)
        self._indices[outer] = index
        return index


def read_json(files: ZarrFiles, key: str) -> dict[str, Any] | None:
    """An object of metadata; None where there is no such file.

    Raises:
        SlideError: it can't be read, or is none.
    """
    try:
        data = files.read(key, MOST_METADATA)
        value = None if data is None else json.loads(data)
    except OSError as error:
        raise SlideError(f"its {show(key)} can't be read: {_told(error)}") from error
    except (ValueError, RecursionError) as error:
        raise SlideError(f"its {show(key)} is no JSON ({reason(error)}){_COPY}") from error
    if data is not None and not isinstance(value, dict):
        raise SlideError(f"its {show(key)} is no object{_COPY}")
    return value


def _form(files: ZarrFiles, key: str) -> _Form:
    if (stated := read_json(files, f"{key}/zarr.json")) is not None:
        return _form_3(stated)
    if (stated := read_json(files, f"{key}/.zarray")) is not None:
        return _form_2(stated)
    raise SlideError("is not there: neither zarr.json nor .zarray", "data-missing")


def _form_2(stated: dict[str, Any]) -> _Form:
    shape, chunk = _shape(stated, "shape"), _shape(stated, "chunks")
    _check(shape, chunk)
    if stated.get("zarr_format") != 2:
        raise SlideError(f"its .zarray is of format {stated.get('zarr_format')!r}, not 2")
    _check_type(stated.get("dtype"), ("|u1", "<u1", ">u1", "u1"))
    separator = stated.get("dimension_separator", ".")
    order = stated.get("order", "C")
    packing = packing_2(stated.get("compressor"), stated.get("filters"), order, len(shape))
    fill = stated.get("fill_value")
    return _Form(shape, chunk, packing, _fill(0 if fill is None else fill), _sep(separator), "")


def _form_3(stated: dict[str, Any]) -> _Form:
    if stated.get("zarr_format") != 3 or stated.get("node_type") != "array":
        what = f"{stated.get('node_type')!r} of format {stated.get('zarr_format')!r}"
        raise SlideError(f"its zarr.json is of {what}, not of an array of format 3")
    _check_extensions(stated)
    _check_type(stated.get("data_type"), ("uint8",))
    shape = _shape(stated, "shape")
    grid = _part(stated, "chunk_grid", ("regular",))
    outer = _shape(grid, "chunk_shape")
    _check(shape, outer, shards=True)
    keys = _part(stated, "chunk_key_encoding", ("default", "v2"))
    is_default = stated["chunk_key_encoding"]["name"] == "default"
    separator = _sep(keys.get("separator", "/" if is_default else "."))
    codecs = stated.get("codecs")
    if not isinstance(codecs, list) or not codecs:
        raise SlideError(f"has no codecs{_COPY}")
    chunk, shards, codecs = _sharded(codecs, outer)
    _check(shape, chunk)
    return _Form(
        shape,
        chunk,
        packing_3(codecs, len(shape)),
        _fill(stated.get("fill_value")),
        separator,
        f"c{separator}" if is_default else "",
        shards,
        tuple(names) if isinstance(names := stated.get("dimension_names"), list) else (),
    )


def _sharded(
    codecs: list[Any], outer: tuple[int, ...]
) -> tuple[tuple[int, ...], _Shards | None, list[Any]]:
    """Shape of chunks, how they lie in shards, and the codecs of one."""
    names = [_named(one) for one in codecs]
    if "sharding_indexed" not in names:
        return outer, None, codecs
    if names != ["sharding_indexed"]:
        raise SlideError("its shards are packed once more, which is not read; write it anew")
    settings = settings_of(codecs[0])
    inner = _shape(settings, "chunk_shape")
    if len(inner) != len(outer) or any(a % b for a, b in zip(outer, inner, strict=True)):
        raise SlideError(f"its shards of {outer} are no whole chunks of {inner}{_COPY}")
    own, stated = settings.get("codecs"), settings.get("index_codecs")
    if not isinstance(own, list) or not isinstance(stated, list):
        raise SlideError(f"has no codecs in its shards{_COPY}")
    index = [_named(one) for one in stated]
    if index not in (["bytes"], ["bytes", "crc32c"]):
        raise SlideError(f"the index of its shards is packed by {index}, which is not read")
    endian = settings_of(stated[0]).get("endian", "little")
    place = settings.get("index_location", "end")
    if endian != "little" or place not in ("start", "end"):
        raise SlideError(f"the index of its shards is {endian!r} at {place!r}, which is not read")
    counts = tuple(a // b for a, b in zip(outer, inner, strict=True))
    if math.prod(counts) > MOST_IN_SHARDS:
        raise SlideError(f"claims shards of {math.prod(counts)} chunks{_COPY}")
    return inner, _Shards(counts, index[-1] == "crc32c", place == "end"), own


def _named(part: Any) -> Any:
    return part.get("name") if isinstance(part, dict) else None


def _part(stated: dict[str, Any], key: str, names: tuple[str, ...]) -> dict[str, Any]:
    """The settings of a part that has a name and settings."""
    part = stated.get(key)
    if (name := _named(part)) not in names:
        raise SlideError(f"its {key} is {name!r}; known are {', '.join(names)}")
    return settings_of(part)


def _check_extensions(stated: dict[str, Any]) -> None:
    if stated.get("storage_transformers"):
        raise SlideError("has storage transformers, which are not read")
    known = {
        "zarr_format", "node_type", "shape", "data_type", "chunk_grid", "chunk_key_encoding",
        "codecs", "fill_value", "attributes", "dimension_names", "storage_transformers",
        "consolidated_metadata",
    }  # fmt: skip
    for key, value in stated.items():
        if key not in known and not (
            isinstance(value, dict) and value.get("must_understand") is False
        ):
            raise SlideError(f"has {show(key)}, which is not known here and has to be")


def _check_type(stated: Any, known: tuple[str, ...]) -> None:
    if stated not in known:
        raise SlideError(
            f"its samples are {stated!r}, not of 8 bits; export it as RGB of 8 bits a sample",
            "channels",
        )


def _shape(stated: Any, key: str) -> tuple[int, ...]:
    value = stated.get(key) if isinstance(stated, dict) else None
    is_shape = isinstance(value, list) and 0 < len(value) <= 8
    if not is_shape or not all(type(one) is int and 0 < one < LONGEST for one in value or ()):
        raise SlideError(f"its {key} is {show(repr(value)[:80])}, which can't be{_COPY}")
    assert isinstance(value, list)
    return tuple(value)


def _check(shape: tuple[int, ...], chunk: tuple[int, ...], shards: bool = False) -> None:
    if len(chunk) != len(shape):
        raise SlideError(f"has {len(shape)} axes, and chunks of {len(chunk)}{_COPY}")
    if not shards and math.prod(chunk) > LARGEST_CHUNK:
        raise SlideError(
            f"its chunks of {' x '.join(map(str, chunk))} samples are too large to hold in memory; "
            "write it anew in chunks of 512 or 1024 px a side"
        )


def _fill(value: Any) -> int:
    if type(value) is float and value.is_integer():
        value = int(value)
    if type(value) is not int or not 0 <= value <= 255:
        raise SlideError(f"its fill value is {value!r}, which no sample of 8 bits has{_COPY}")
    return value


def _sep(value: Any) -> str:
    if value not in (".", "/"):
        raise SlideError(f"its chunks' numbers are parted by {value!r}, not by . or /{_COPY}")
    return str(value)


def _is_number(text: str) -> bool:
    """Whether a part of a key is a number as Zarr writes it."""
    return (
        text.isascii() and text.isdecimal() and (text == "0" or text[0] != "0") and len(text) < 11
    )


def _ceil_div(a: int, b: int) -> int:
    return -(-a // b)


def _told(error: BaseException) -> str:
    """What is wrong with a chunk, behind its name."""
    if isinstance(error, OSError):
        return f"can't be read: {error.strerror or reason(error)}"
    return str(error)
