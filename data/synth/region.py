"""Rectangles of level-0 pixels."""

from __future__ import annotations

from typing import NamedTuple


class Region(NamedTuple):
    """The pixels [x, x + width) by [y, y + height)."""

    x: int
    y: int
    width: int
    height: int

    @property
    def right(self) -> int:
        """First column to the right."""
        return self.x + self.width

    @property
    def bottom(self) -> int:
        """First row below."""
        return self.y + self.height

    def meet(self, other: Region) -> Region:
        """The common part; its width or height is 0 where there is none."""
        x, y = max(self.x, other.x), max(self.y, other.y)
        right, bottom = min(self.right, other.right), min(self.bottom, other.bottom)
        return Region(x, y, max(right - x, 0), max(bottom - y, 0))

    def holds(self, x: float, y: float, margin: float) -> bool:
        """Whether a point lies in the region grown by ``margin`` pixels."""
        return (
            self.x - margin <= x < self.right + margin
            and self.y - margin <= y < self.bottom + margin
        )
