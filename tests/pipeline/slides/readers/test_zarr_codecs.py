"""Codecs of Zarr: undone to the byte, and never to more than a chunk has."""

import gzip
import zlib

import imagecodecs
import numpy as np
import pytest

from pipeline.errors import SlideError
from pipeline.slides.readers.zarr_codecs import (
    SLACK,
    ChunkError,
    crc32c,
    packing_2,
    packing_3,
)

SHAPE = (3, 20, 30)
DATA = np.random.default_rng(0).integers(0, 4, SHAPE, np.uint8)
BOMB = bytes(SLACK + 5 * DATA.size)


def lz4(data):
    return len(data).to_bytes(4, "little") + imagecodecs.lz4_encode(data, header=False)


PACKERS = {
    "blosc": imagecodecs.blosc_encode,
    "zstd": imagecodecs.zstd_encode,
    "gzip": gzip.compress,
    "zlib": zlib.compress,
    "lz4": lz4,
    "bz2": imagecodecs.bz2_encode,
    "crc32c": lambda data: data + crc32c(data).to_bytes(4, "little"),
}


def of_three(name):
    return packing_3([{"name": "bytes"}, {"name": name}], 3)


@pytest.mark.parametrize("name", PACKERS)
def test_what_was_packed_comes_back(name):
    packed = PACKERS[name](DATA.tobytes())
    np.testing.assert_array_equal(of_three(name).unpack(packed, SHAPE), DATA)


@pytest.mark.parametrize("name", sorted(set(PACKERS) - {"crc32c"}))
def test_a_bomb_is_refused(name):
    with pytest.raises(ChunkError):
        of_three(name).unpack(PACKERS[name](BOMB), SHAPE)


@pytest.mark.parametrize("name", PACKERS)
@pytest.mark.parametrize("how", ["empty", "short", "half", "zeros"])
def test_damage_is_refused(name, how):
    packed = PACKERS[name](DATA.tobytes())
    damaged = {"empty": b"", "short": packed[:3], "half": packed[: len(packed) // 2],
               "zeros": bytes(len(packed))}[how]  # fmt: skip
    with pytest.raises(ChunkError):
        of_three(name).unpack(damaged, SHAPE)


def test_a_blosc_head_that_lies_takes_no_memory():
    head = bytearray(imagecodecs.blosc_encode(DATA.tobytes()))
    head[4:8] = (2**31 - 1).to_bytes(4, "little")
    with pytest.raises(ChunkError, match="would come to 2147483647 bytes"):
        of_three("blosc").unpack(bytes(head), SHAPE)


@pytest.mark.parametrize("count", [0, 1, 9, 10, 4095, 4096, 9_973])
def test_the_checksum_is_that_of_the_definition(count):
    data = np.random.default_rng(count).integers(0, 256, count, np.uint8).tobytes()
    value = 0xFFFFFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
    assert crc32c(data) == value ^ 0xFFFFFFFF


def test_the_checksum_of_the_standard():
    assert crc32c(b"123456789") == 0xE3069283  # RFC 3720 and others


def test_several_codecs_are_undone_from_the_last():
    packed = PACKERS["crc32c"](gzip.compress(DATA.transpose(2, 0, 1).tobytes()))
    packing = packing_3(
        [
            {"name": "transpose", "configuration": {"order": [2, 0, 1]}},
            {"name": "bytes", "configuration": {"endian": "little"}},
            {"name": "gzip", "configuration": {"level": 5}},
            {"name": "crc32c"},
        ],
        3,
    )
    np.testing.assert_array_equal(packing.unpack(packed, SHAPE), DATA)


def test_the_order_of_fortran_is_undone():
    packing = packing_2(None, None, "F", 3)
    np.testing.assert_array_equal(packing.unpack(DATA.tobytes(order="F"), SHAPE), DATA)


@pytest.mark.parametrize(
    "codecs",
    [
        [],
        [{"name": "zstd"}],
        [{"name": "bytes"}, {"name": "transpose", "configuration": {"order": [0, 1, 2]}}],
        [{"name": "transpose", "configuration": {"order": [0, 0, 1]}}, {"name": "bytes"}],
        [{"name": "bytes"}, {"name": ["zstd"]}],
        ["bytes"],
        [{"name": "vlen-utf8"}],
    ],
)
def test_codecs_that_make_no_sense_are_refused(codecs):
    with pytest.raises(SlideError):
        packing_3(codecs, 3)
