"""SIPaKMeD as it is published: beside each image, outlines of its cells, a file each.

``im_CLASS/im_CLASS/001.bmp`` has ``001_cyt01.dat`` and ``001_nuc01.dat``, the outlines of the first
cell's cytoplasm and nucleus, a corner ``x,y`` a line. The folder is the class. ``CROPPED`` beside
them holds the same cells once more, cut out: its files are passed over. Plissiti et al., "SIPAKMED:
a new dataset for feature and image based classification of normal and pathological cervical cells
in Pap smear images", ICIP 2018.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data.annotations.drawing import Drawing, Shape, draw, outline
from data.annotations.files import Content, load

SUFFIXES = (".dat",)

PREFIX = "im_"
"""Of the classes' folders."""

CROPPED = "cropped"

_NAME = re.compile(r"(?P<image>.+)_(?P<kind>cyt|nuc)(?P<cell>\d+)\.dat", re.IGNORECASE)


def matches(path: Path, content: Content) -> bool:
    """Whether a file is an outline of a whole image's cell."""
    named = _NAME.fullmatch(path.name) and path.parent.name.lower() != CROPPED
    return bool(named) and isinstance(content, str)


def read(path: Path, content: Content) -> Iterator[Drawing]:
    """All cells of an image, with the first of its files; the others have been read with it.

    Raises:
        ValueError: an outline is none, or a nucleus has no cytoplasm; names the file.
    """
    own = _NAME.fullmatch(path.name)
    if own is None:
        raise ValueError("a file is called as 001_cyt01.dat")
    beside = _files_of(path.parent, own["image"])
    if path != min(beside["cyt"].values(), default=min(beside["nuc"].values(), default=path)):
        return
    alone = sorted(set(beside["nuc"]) - set(beside["cyt"]))
    if alone:
        raise ValueError(f"{beside['nuc'][alone[0]].name} is a nucleus without a cytoplasm")
    name = path.parent.name.removeprefix(PREFIX)
    cells = [
        _cell(name, cytoplasm, beside["nuc"].get(cell))
        for cell, cytoplasm in sorted(beside["cyt"].items())
    ]
    yield draw(f"{own['image']}.bmp", cells)


def _files_of(folder: Path, image: str) -> dict[str, dict[int, Path]]:
    """The outlines of an image by kind and number."""
    found: dict[str, dict[int, Path]] = {"cyt": {}, "nuc": {}}
    for path in sorted(folder.iterdir()):
        named = _NAME.fullmatch(path.name)
        if named and named["image"] == image:
            other = found[named["kind"].lower()].setdefault(int(named["cell"]), path)
            if other != path:
                raise ValueError(f"{other.name} and {path.name} are of one cell")
    return found


def _cell(name: str, cytoplasm: Path, nucleus: Path | None) -> Shape:
    shape = outline(name, _corners(cytoplasm))
    if nucleus is None:
        return shape
    corners = _corners(nucleus)
    return shape._replace(nucleus=(corners.min(0) + corners.max(0)) / 2)


def _corners(path: Path) -> NDArray[np.float64]:
    """(K, 2) corners of an outline."""
    content = load(path)
    lines = content.splitlines() if isinstance(content, str) else []
    corners = []
    for line, text in enumerate(lines, 1):
        if not text.strip():
            continue
        parts = text.replace(",", " ").split()
        try:
            x, y = map(float, parts)
        except ValueError:
            raise ValueError(f"{path.name}: line {line}: {text[:60]!r} is no corner x,y") from None
        corners.append((x, y))
    if len(corners) < 3:
        raise ValueError(f"{path.name}: an outline of {len(corners)} corners")
    return np.array(corners, np.float64)
