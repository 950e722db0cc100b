"""Slides made by hand: drawn cells, or real annotated fields laid out as a mosaic, with truth."""

from data.synth.criteria import CLASSES
from data.synth.folder import write_broken, write_slide
from data.synth.mosaic import Layout, Mosaic, annotated_fields, lay_out, read_fields
from data.synth.scene import MAX_CELLS_PER_MM2, Scene, draw_field
from data.synth.truth import NamedSource, write_truth

__all__ = [
    "CLASSES",
    "MAX_CELLS_PER_MM2",
    "Layout",
    "Mosaic",
    "NamedSource",
    "Scene",
    "annotated_fields",
    "draw_field",
    "lay_out",
    "read_fields",
    "write_broken",
    "write_slide",
    "write_truth",
]
