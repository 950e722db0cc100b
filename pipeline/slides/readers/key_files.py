"""Numbers in key files of MIRAX and Hamamatsu slides, looked at before OpenSlide believes them.

OpenSlide takes memory for as many images as such a file names, whether they are there or not: a
few bytes of text may end the process, or keep it busy for minutes. What is refused here is beyond
any slide that a scanner makes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path

from pipeline.errors import SlideError
from pipeline.slides.readers.base import show

_MOST_BYTES = 1 << 20
"""Of such a file; OpenSlide reads no longer ones."""

_MIRAX: Mapping[str, tuple[int, int]] = {
    "IMAGENUMBER_X": (1, 100_000),
    "IMAGENUMBER_Y": (1, 100_000),
    "CameraImageDivisionsPerSide": (1, 1000),
    "HIER_COUNT": (1, 1000),
    "NONHIER_COUNT": (0, 1000),
    r"(?:NON)?HIER_\d+_COUNT": (0, 100_000),
    "FILE_COUNT": (1, 100_000),
    "DIGITIZER_WIDTH": (1, 65_500),
    "DIGITIZER_HEIGHT": (1, 65_500),
    "IMAGE_CONCAT_FACTOR": (0, 16),
}
"""Least and most of each number, by a pattern of its key; no JPEG has tiles of longer sides."""

_HAMAMATSU: Mapping[str, tuple[int, int]] = {
    "NoJpegColumns": (1, 10_000),
    "NoJpegRows": (1, 10_000),
    "NoLayers": (1, 1000),
}

_TOGETHER = (
    ("IMAGENUMBER_X", "IMAGENUMBER_Y", 20_000_000),
    ("NoJpegColumns", "NoJpegRows", 10_000),
)
"""Pairs that are multiplied, and the most that they may come to: for each image, or its place, some
bytes are taken. The largest slides that scanners make have some 2 million images."""


def check_keys(path: Path, vendor: str) -> None:
    """Holds the numbers of a slide's key file against what can be.

    Args:
        path: of the slide.
        vendor: as OpenSlide names it; other than mirax and hamamatsu have no such file.

    Raises:
        SlideError: one of them is absurd.
    """
    known = {"mirax": _MIRAX, "hamamatsu": _HAMAMATSU}.get(vendor)
    if known is None:
        return
    file = path.with_suffix("") / "Slidedat.ini" if vendor == "mirax" else path
    try:
        with file.open("rb") as stream:
            text = stream.read(_MOST_BYTES).decode("utf-8", "replace")
    except OSError:  # whoever opens it says so
        return
    numbers = {name: _values(text, name) for name in known}
    for name, (least, most) in known.items():
        for value in numbers[name]:
            if not least <= value <= most:
                raise _absurd(path, f"{_plain(name)} = {value}")
    for one, other, most in _TOGETHER:
        pair = [max(numbers.get(name) or [0]) for name in (one, other)]
        if math.prod(pair) > most:
            raise _absurd(path, f"{one} x {other} = {pair[0]} x {pair[1]}")


def _values(text: str, key: str) -> list[int]:
    """Every number that a key is given; of several, OpenSlide takes the last."""
    found = re.finditer(rf"^[ \t]*{key}[ \t]*=[ \t]*([+-]?\d{{1,30}})", text, re.MULTILINE)
    return [int(one[1]) for one in found]


def _plain(key: str) -> str:
    """A key's pattern for people."""
    return key.replace("(?:NON)?", "").replace(r"\d+", "n")


def _absurd(path: Path, what: str) -> SlideError:
    return SlideError(
        f"{show(path)}: can't be opened: its key file says {what}, which no scanner writes; copy "
        "it again, with all its files, or export it as a pyramidal TIFF",
        "vendor-refused",
    )
