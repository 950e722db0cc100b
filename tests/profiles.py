"""ICC profiles of matrix and gamma, written byte by byte, and what sRGB makes of them."""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import NDArray

WIDE = np.array(
    [[0.60974, 0.20528, 0.14919], [0.31111, 0.62567, 0.06322], [0.01947, 0.06087, 0.74457]]
)
"""XYZ of D50 by red, green and blue of Adobe RGB (1998), section 4.3.5.3."""

SRGB = np.array(
    [[0.43607, 0.38515, 0.14307], [0.22249, 0.71687, 0.06061], [0.01392, 0.09708, 0.71410]]
)
"""Likewise of sRGB, adapted to D50 by Bradford's matrix."""


def rgb_profile(
    matrix: NDArray[np.float64] = WIDE, gamma: float = 2.2, name: str = "wide"
) -> bytes:
    """An ICC profile of version 2 (ICC.1:2001-04), whose pixels become XYZ by gamma and matrix."""
    curve = b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256)) + bytes(2)
    tags = {b"desc": _text(name), b"cprt": b"text" + bytes(4) + b"none\0", b"wtpt": _xyz(D50)}
    for column, letter in enumerate((b"r", b"g", b"b")):
        tags[letter + b"XYZ"] = _xyz(matrix[:, column])
        tags[letter + b"TRC"] = curve
    return _profile(b"RGB ", tags)


def grey_profile() -> bytes:
    """An ICC profile of grey pixels."""
    curve = b"curv" + bytes(4) + struct.pack(">IH", 1, 563) + bytes(2)
    tags = {b"desc": _text("grey"), b"cprt": b"text" + bytes(4) + b"none\0"}
    return _profile(b"GRAY", {**tags, b"wtpt": _xyz(D50), b"kTRC": curve})


def in_srgb(
    pixels: NDArray[np.uint8], matrix: NDArray[np.float64] = WIDE, gamma: float = 2.2
) -> NDArray[np.float64]:
    """What pixels (..., 3) of such a profile are in sRGB, 0 to 255; IEC 61966-2-1."""
    linear = (pixels / 255) ** gamma @ matrix.T @ np.linalg.inv(SRGB).T
    linear = linear.clip(0, 1)
    curved = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return 255 * curved


D50 = np.array([0.9642, 1.0, 0.8249])


def _xyz(values: NDArray[np.float64]) -> bytes:
    return b"XYZ " + bytes(4) + struct.pack(">3i", *(round(value * 65536) for value in values))


def _text(name: str) -> bytes:
    ascii_name = name.encode() + b"\0"
    return b"desc" + bytes(4) + struct.pack(">I", len(ascii_name)) + ascii_name + bytes(78)


def _profile(space: bytes, tags: dict[bytes, bytes]) -> bytes:
    table, body = struct.pack(">I", len(tags)), b""
    start = 128 + 4 + 12 * len(tags)
    for name, data in tags.items():
        table += name + struct.pack(">II", start + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    size = start + len(body)
    head = struct.pack(">I4sI4s4s4s", size, bytes(4), 0x02400000, b"mntr", space, b"XYZ ")
    head += struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp" + bytes(28)
    head += _xyz(D50)[8:]
    return head.ljust(128, b"\0") + table + body
