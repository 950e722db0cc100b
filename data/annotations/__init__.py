"""Annotations of cells in the formats that people draw them in, read into one strict model.

Each format is one module with ``SUFFIXES``, ``matches`` and ``read``, which gives `Drawing`s: what
the file draws, as it is. `reading.read_fields` turns them, all by the same rules, into a
`FieldSet`: class names mapped, marks grown to boxes, boxes clipped, ignored areas as crowds.
"""

from data.annotations.classes import DROP, IGNORE, REGION, UNCLASSIFIED
from data.annotations.formats import FORMATS
from data.annotations.images import ImageInfo, image_info
from data.annotations.reading import read_coco, read_fields
from data.annotations.settings import AnnotationSettings

__all__ = [
    "DROP",
    "FORMATS",
    "IGNORE",
    "REGION",
    "UNCLASSIFIED",
    "AnnotationSettings",
    "ImageInfo",
    "image_info",
    "read_coco",
    "read_fields",
]
