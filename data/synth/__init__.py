"""Slides made by hand: drawn cells, or real annotated fields laid out as a mosaic, with truth."""

from data.synth.scene import draw_field

__all__ = ["draw_field"]
