"""Annotated fields from a COCO file, the format that this project writes itself."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from data.annotations import AnnotationSettings, read_fields
from data.fieldset import Field, FieldSet

__all__ = ["Field", "FieldSet", "read_coco"]


def read_coco(path: Path, images: Path, classes: Sequence[str] | None = None) -> FieldSet:
    """Reads a COCO file of annotated fields.

    Args:
        path: the JSON file; an image may carry ``mpp``, an annotation ``nucleus``.
        images: the folder that ``file_name`` is relative to.
        classes: the names, in the order of the labels; by default the file's categories by id.

    Raises:
        ConfigError: as `data.annotations.read_fields`.
    """
    return read_fields(path, [images], classes, AnnotationSettings(format="coco"))
