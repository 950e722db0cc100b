"""Small files of many kinds, and the ways in which a case of ``tests/cases`` changes them."""

from __future__ import annotations

import shutil
import struct
from collections.abc import Callable, Mapping, Sequence
from json import dumps, loads
from pathlib import Path
from typing import Any

import numpy as np
from annotationfiles import WRITERS
from dicomfiles import jpegs, write_dicom
from numpy.typing import NDArray
from scannerfiles import write_kfb, write_tmap06, write_tmap07
from slidefiles import (
    picture,
    write_aperio,
    write_flat,
    write_image,
    write_pyramid,
    write_scn,
    write_sub_ifds,
)
from vendorfiles import write_mirax, write_ndpi, write_philips, write_trestle, write_vms

from data.synth import writer
from data.synth.region import Region

WIDTH, HEIGHT = 333, 217
IMAGE = picture(WIDTH, HEIGHT)
NAME = "a.png"
"""Of the image that annotation files are about."""


def _synth(path: Path) -> Path:
    """Four blocks of our own writer, whose file has the levels of a scanner."""
    size = (2100, 2060)
    image = picture(*size)

    def render(regions):
        for region in regions:
            yield _of(image, region)

    writer.write_pyramid(path, size, 0.25, render)
    return path


def _of(image: NDArray[np.uint8], region: Region) -> NDArray[np.uint8]:
    return image[region.y : region.bottom, region.x : region.right]


def _dicom(path: Path) -> Path:
    return write_dicom(path, IMAGE, photometric="YBR_FULL_422", frames=jpegs(IMAGE, "ycbcr"))


SLIDES: dict[str, tuple[str, Callable[[Path], Path]]] = {
    "flat": ("a.tif", lambda path: write_flat(path, IMAGE, rows=16)),
    "deflate": ("a.tif", lambda path: write_flat(path, IMAGE, rows=16, compression="deflate")),
    "pyramid": ("a.tif", lambda path: write_pyramid(path, IMAGE)),
    "bigtiff": ("a.tif", lambda path: write_flat(path, IMAGE, tile=(64, 64), bigtiff=True)),
    "lzw": ("a.tif", lambda path: write_pyramid(path, IMAGE, compression="lzw")),
    "synth": ("a.tif", _synth),
    "svs": ("a.svs", lambda path: write_aperio(path, IMAGE)),
    "svs-2000": ("a.svs", lambda path: write_aperio(path, IMAGE, compression="aperio_jp2000_rgb")),
    "ome": ("a.ome.tif", lambda path: write_sub_ifds(path, IMAGE, ome=True)),
    "dicom": ("a.dcm", _dicom),
    "philips": ("a.tif", lambda path: write_philips(path, IMAGE)),
    "ndpi": ("a.ndpi", lambda path: write_ndpi(path, {0: picture(512, 384)}, levels=1)),
    "leica": ("a.scn", lambda path: write_scn(path, IMAGE, (100, 50), (600, 400))),
    "trestle": ("a.tif", lambda path: write_trestle(path, IMAGE)),
    "vms": ("a.vms", lambda path: write_vms(path, picture(320, 192))),
    "mirax": ("a.mrxs", lambda path: write_mirax(path, picture(256, 128))),
    "kfb": ("a.kfb", lambda path: write_kfb(path, IMAGE)),
    "tmap-06": ("a.tmap", lambda path: write_tmap06(path, IMAGE, beside=True)),
    "tmap-07": ("a.tmap", lambda path: write_tmap07(path, IMAGE)),
    "png": ("a.png", lambda path: write_image(path, IMAGE)),
    "jpeg": ("a.jpg", lambda path: write_image(path, IMAGE)),
    "bmp": ("a.bmp", lambda path: write_image(path, IMAGE)),
}
"""By name: the file's name, and what writes it."""


def make(base: str, folder: Path) -> Path:
    """Writes the base of a case into a folder, and returns the file that is changed."""
    if base in SLIDES:
        name, write = SLIDES[base]
        return write(folder / name)
    return WRITERS[base](folder, NAME)


def change(path: Path, changes: Sequence[Mapping[str, Any]]) -> Path:
    """Applies changes to a file, one after the other.

    Each is one of ``{keep: share}``, ``{at: offset, hex: bytes}``, ``{at: offset, zeros: count}``,
    ``{tag: number, page: 0, value: .., count: .., type: .., to: tag}``,
    ``{find: text, put: text}`` (all places, latin-1, any length),
    ``{append: text}``, ``{write: text}`` (instead of all),
    ``{json: dotted path, line: 0, put: value}`` or ``drop: true``,
    ``{fill: size}`` (zeros to that size, of which a sparse file stores none), ``{rename: name}``
    and ``{remove: pattern}``. With ``in: pattern`` it is the file below the folder that this names,
    of a slide of several.

    Returns:
        The file, under its last name.
    """
    for one in changes:
        if "rename" in one:
            path = path.rename(path.with_name(one["rename"]))
        elif "remove" in one:
            (gone,) = path.parent.glob(one["remove"])
            gone.unlink() if gone.is_file() else shutil.rmtree(gone)
        elif "in" in one:
            (part,) = path.parent.glob(one["in"])
            _change_one(part, {key: value for key, value in one.items() if key != "in"})
        else:
            _change_one(path, one)
    return path


def _change_one(path: Path, one: Mapping[str, Any]) -> None:
    if "tag" in one:
        path.write_bytes(with_tag(path.read_bytes(), **one))
    elif "json" in one:
        path.write_bytes(_with_value(path.read_bytes(), **one))
    elif "fill" in one:
        with path.open("r+b") as stream:
            stream.truncate(one["fill"])
    else:
        path.write_bytes(_with_bytes(path.read_bytes(), one))


def _with_bytes(data: bytes, one: Mapping[str, Any]) -> bytes:
    if "keep" in one:
        return data[: int(len(data) * one["keep"])]
    if "at" in one:
        new, at = bytes(one["zeros"]) if "zeros" in one else bytes.fromhex(one["hex"]), one["at"]
        return data[:at] + new + data[at + len(new) :]
    if "find" in one:
        old = one["find"].encode("latin-1")
        assert old in data, one
        return data.replace(old, one["put"].encode("latin-1"))
    if "append" in one:
        return data + one["append"].encode("latin-1")
    return one["write"].encode("latin-1")


def _with_value(
    data: bytes, json: str, put: Any = None, line: int | None = None, drop: bool = False
) -> bytes:
    """JSON, or one line of it, with another value at a place, or without it."""
    lines = [data] if line is None else data.split(b"\n")
    content = loads(lines[line or 0])
    *parents, last = (int(part) if part.isdecimal() else part for part in json.split("."))
    node = content
    for part in parents:
        node = node[part]
    if drop:
        del node[last]
    else:
        node[last] = put
    lines[line or 0] = dumps(content).encode()
    return b"\n".join(lines)


def directories(data: bytes) -> list[tuple[int, int]]:
    """(offset, entries) of a little-endian TIFF's directories along the main chain."""
    big = data[2] == 43
    word, head = ("<Q", "<Q") if big else ("<I", "<H")
    (at,) = struct.unpack_from(word, data, 8 if big else 4)
    found = []
    while at and at not in [place for place, _ in found]:
        (count,) = struct.unpack_from(head, data, at)
        found.append((at, count))
        first = at + struct.calcsize(head)
        (at,) = struct.unpack_from(word, data, first + count * (20 if big else 12))
    return found


def with_tag(
    data: bytes,
    tag: int,
    page: int = 0,
    value: int | None = None,
    count: int | None = None,
    type: int | None = None,
    to: int | None = None,
) -> bytes:
    """A TIFF one of whose entries is changed where it stands; tag 0 is the link to the next page.

    Raises:
        AssertionError: the page has no such tag.
    """
    big, changed = data[2] == 43, bytearray(data)
    size, word = (20, "<Q") if big else (12, "<I")
    place, entries = directories(data)[page]
    first = place + (8 if big else 2)
    if tag == 0:
        struct.pack_into(word, changed, first + entries * size, place if value is None else value)
        return bytes(changed)
    for at in range(first, first + entries * size, size):
        if struct.unpack_from("<H", data, at) != (tag,):
            continue
        if to is not None:
            struct.pack_into("<H", changed, at, to)
        if type is not None:
            struct.pack_into("<H", changed, at + 2, type)
        if count is not None:
            struct.pack_into(word, changed, at + 4, count)
        if value is not None:
            struct.pack_into(word, changed, at + (12 if big else 8), value)
        return bytes(changed)
    raise AssertionError(f"page {page} has no tag {tag}")
