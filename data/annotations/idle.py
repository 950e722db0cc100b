"""Settings of one kind of annotations that were given, and that nothing which was read is of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from data.annotations.drawing import CROWD
from data.annotations.formats import Source
from data.annotations.settings import AnnotationSettings


def idle_settings(sources: Sequence[Source], settings: AnnotationSettings) -> Iterator[str]:
    """A sentence for each setting that changed nothing, as there was nothing to change.

    What the images have a say in (`frame`, `mpp`) is told where they are settled.
    """
    drawings = [drawing for source in sources for drawing in source.drawings]
    has_yolo = any(source.format == "yolo" for source in sources)
    if settings.yolo != "auto" and not has_yolo:
        yield f"yolo: {settings.yolo}: nothing was read as YOLO"
    if settings.unlabelled != "auto" and not has_yolo:
        yield f"unlabelled: {settings.unlabelled}: nothing was read as YOLO"
    if settings.crowds == "cells" and not any(CROWD in drawing.whys for drawing in drawings):
        yield "crowds: cells: nothing is a crowd"
    if settings.point_size is not None and not any(drawing.marks.any() for drawing in drawings):
        yield f"point_size: {settings.point_size:g}: no cell is a point"
