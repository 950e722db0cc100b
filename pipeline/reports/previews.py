"""What a list of slides shows of each: a thumbnail and its best cells, as files beside the report.

Files, not data in the list's page: of thousands of slides a browser then loads those that are in
sight. They are made of the pictures of the report's own page: nothing of the slide is read again.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence

from PIL import Image
from pydantic import ConfigDict, Field

from configs import StrictModel
from pipeline.cells.classes import CellClass
from pipeline.geometry import Detections
from pipeline.reports.pictures import Pictures

BEST_CELLS = 3
"""Cells shown of a slide."""

THUMBNAIL = "thumbnail.jpg"

THUMBNAIL_PIXELS = 320
"""Longest side of a thumbnail: twice what a list shows, for fine screens."""

_QUALITY = 80


class PreviewCell(StrictModel):
    """A cell of the list."""

    model_config = ConfigDict(allow_inf_nan=False)

    id: int = Field(ge=1, description="as in cells.csv")
    name: str = Field(description="its class")
    score: float = Field(description="as in cells.csv")


class Preview(StrictModel):
    """Which pictures of the slide lie beside the report."""

    thumbnail: bool = Field(description=f"whether there is a {THUMBNAIL}, of the whole slide")
    cells: tuple[PreviewCell, ...] = Field(
        description=f"the first {BEST_CELLS} of the gallery: best-1.jpg and so on, in this order"
    )


def best_name(place: int) -> str:
    """File of the close-up of a cell by its place among the best, from 0."""
    return f"best-{place + 1}.jpg"


def describe_preview(
    pictures: Pictures, cells: Detections, classes: Sequence[CellClass]
) -> Preview | None:
    """What there will be of a slide; None without pictures.

    Args:
        pictures: of the report; its crops in the order of the gallery, best first.
        cells: of the report.
        classes: what their labels mean.
    """
    if pictures.overview is None and not pictures.crops:
        return None
    best = tuple(
        PreviewCell(
            id=crop.cell + 1,
            name=classes[int(cells.labels[crop.cell])].name,
            score=round(float(cells.scores[crop.cell]), 4),
        )
        for crop in pictures.crops[:BEST_CELLS]
    )
    return Preview(thumbnail=pictures.overview is not None, cells=best)


def preview_files(pictures: Pictures) -> Iterator[tuple[str, bytes]]:
    """Names and JPEG bytes of what `describe_preview` tells of."""
    if pictures.overview is not None:
        yield THUMBNAIL, _shrink(pictures.overview.jpeg)
    for place, crop in enumerate(pictures.crops[:BEST_CELLS]):
        yield best_name(place), crop.jpeg


def _shrink(jpeg: bytes) -> bytes:
    with Image.open(io.BytesIO(jpeg)) as image:
        image.thumbnail((THUMBNAIL_PIXELS, THUMBNAIL_PIXELS))
        stream = io.BytesIO()
        image.save(stream, "JPEG", quality=_QUALITY, optimize=True)
    return stream.getvalue()
