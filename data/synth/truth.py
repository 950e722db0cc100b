"""The truth about slides, as COCO: what any other set of annotated fields looks like."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from data.synth.region import Region

STRIP = 8192
"""Height in pixels of the strips in which cells are listed, so that memory stays flat."""


class Source(Protocol):
    """A slide before it is a file: what its pixels are, and its cells."""

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in level-0 pixels."""

    @property
    def mpp(self) -> float:
        """µm per level-0 pixel."""

    def draw(self, region: Region) -> NDArray[np.uint8]:
        """The region's pixels, (height, width, 3)."""

    def truth(
        self, region: Region
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
        """Boxes (N, 4) xyxy, nucleus centres (N, 2), labels (N,) of cells centred in a region."""

    def depths(self, region: Region) -> NDArray[np.float64] | None:
        """Depth (N,) of these cells in µm; None where there is one focal plane."""

    @property
    def plane_places(self) -> Sequence[float]:
        """Where the focal planes lie, in µm, from the lowest on; (0,) for one."""

    def in_planes(self) -> Sequence[Source]:
        """The slide in each of its focal planes, of which one shows all there is to see."""


@dataclass(frozen=True)
class NamedSource:
    """A slide to be, and the name of its file."""

    name: str
    source: Source


def write_truth(path: Path, slides: Iterable[NamedSource], classes: tuple[str, ...]) -> int:
    """Writes the cells of all slides as one COCO file; returns how many there are.

    Category ids are 1-based, in the order of ``classes``; boxes and nuclei are level-0 pixels.

    Raises:
        OSError: the file can't be written; nothing is left of it.
    """
    slides = list(slides)
    head = {
        "info": {"description": "CytoLibra synth: slides with known cells"},
        "categories": [{"id": i + 1, "name": name} for i, name in enumerate(classes)],
        "images": [_image(i + 1, slide) for i, slide in enumerate(slides)],
    }
    unfinished = path.with_name(path.name + ".part")
    count = 0
    try:
        with unfinished.open("w", encoding="utf-8") as file:
            file.write(json.dumps(head, ensure_ascii=False)[:-1] + ', "annotations": [')
            for annotation in _annotations(slides):
                file.write((",\n" if count else "\n") + json.dumps(annotation))
                count += 1
            file.write("\n]}\n")
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
    return count


def _image(key: int, slide: NamedSource) -> dict[str, Any]:
    width, height = slide.source.size
    return {
        "id": key, "file_name": slide.name, "width": width, "height": height,
        "mpp": slide.source.mpp,
    }  # fmt: skip


def _annotations(slides: list[NamedSource]) -> Iterator[dict[str, Any]]:
    key = 0
    for image, slide in enumerate(slides, 1):
        width, height = slide.source.size
        for y in range(0, height, STRIP):
            strip = Region(0, y, width, min(STRIP, height - y))
            boxes, nuclei, labels = slide.source.truth(strip)
            depths = slide.source.depths(strip)
            for row, (box, nucleus, label) in enumerate(zip(boxes, nuclei, labels, strict=True)):
                key += 1
                annotation = _annotation(key, image, box, nucleus, int(label))
                if depths is not None:
                    annotation["z_um"] = round(float(depths[row]), 2)
                yield annotation


def _annotation(
    key: int, image: int, box: NDArray[np.float64], nucleus: NDArray[np.float64], label: int
) -> dict[str, Any]:
    x, y, right, bottom = np.round(box, 1).tolist()
    width, height = round(right - x, 1), round(bottom - y, 1)
    return {
        "id": key, "image_id": image, "category_id": label + 1,
        "bbox": [x, y, width, height], "area": round(width * height, 1), "iscrowd": 0,
        "nucleus": np.round(nucleus, 1).tolist(),
    }  # fmt: skip
