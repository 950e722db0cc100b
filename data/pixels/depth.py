"""How many of the stored bits a picture uses: what value is white.

Cameras of 10, 12 or 14 bits fill the lower part of 16. Few files say so; read as 16 bits, glass
comes out nearly black.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np

from configs import Doubt
from data.pixels.samples import Samples

CAMERAS = (8, 10, 12, 14)
"""Bits that pictures stored in 16 may really have."""

GLASS = 0.6
"""Share of a depth's white which glass reaches where that depth is believed from the data alone:
exposures put it at 0.7 to 0.95, and the next smaller depth ends at 0.25 of this one."""

FAINT = 0.3
"""Likewise of what cells reach where 0 is white."""

DARK = 0.5
"""Share of white which glass doesn't reach where the depth is in doubt."""

_TOP = 0.999
"""Share of the samples that a depth must hold: stitching overshoots by a few."""

_BRIGHT = 0.95
"""Quantile at which glass lies, on any picture of which it fills a twentieth."""


@dataclass(frozen=True)
class Depth:
    """The depth of a picture.

    Attributes:
        bits: that are used.
        stored: bits a sample in the file.
        source: "file", or "data" where its values show it.
        doubts: how it was settled, where the file does not say it or says otherwise.
    """

    bits: int
    stored: int
    source: Literal["file", "data"] = "file"
    doubts: tuple[Doubt, ...] = ()

    @property
    def white(self) -> int:
        """The value of white."""
        return (1 << self.bits) - 1

    def __str__(self) -> str:
        return f"{self.bits} of {self.stored}" if self.bits != self.stored else str(self.bits)


class _Seen(NamedTuple):
    """What tells a depth: how far something reaches, and what share of white it should at least."""

    value: float
    least: float
    what: str


def settle_depth(
    sample: Samples,
    stored: int,
    stated: int | None = None,
    *,
    may_be_scaled: bool = False,
    inverted: bool = False,
) -> Depth:
    """Settles a picture's depth by what the file says, else by what its pixels show.

    What the file says holds unless values lie above it. A statement of all the stored bits says
    nothing: writers put it there without a thought. Then, of the depths of cameras, the smallest
    that holds the values is taken where glass comes near to its white. Else it stays at what is
    stored, and a picture that is dark then is told to be in doubt.

    Args:
        sample: (N, C) colours from all over the picture, without alpha.
        stored: bits a sample in the file.
        stated: bits that the file says are used.
        may_be_scaled: whether the file's format wants them scaled up to what is stored, so that
            values above what is stated contradict nothing.
        inverted: whether 0 is white. Glass is of no help then; cells must be dark enough instead.
    """
    if stored <= 8 or not sample.size:
        return Depth(min(stated or stored, stored), stored)
    top = float(np.quantile(sample, _TOP))
    seen = _Seen(top, FAINT, "cells") if inverted else _Seen(_glass(sample), GLASS, "glass")
    says_something = stated is not None and stated < stored
    if stated is not None and says_something and top < 1 << stated:
        return _told(Depth(stated, stored), seen)
    wrong = says_something and not may_be_scaled
    said = f"the file says {stated} bits, but " if wrong else ""
    for bits in CAMERAS:
        white = (1 << bits) - 1
        if top <= white and bits < stored:
            if seen.value < seen.least * white:
                break
            told = (
                f"{stored} bits a sample are stored; {said}values reach {top:,.0f}, {seen.what} "
                f"{seen.value:,.0f}: read as {bits} bits, {white:,} is white"
            )
            return Depth(bits, stored, "data", (Doubt(code="bit-depth", text=told),))
    depth = _told(Depth(stored, stored, "data" if wrong else "file"), seen)
    if wrong and not depth.doubts:
        told = f"{said}values reach {top:,.0f}: read as {stored} bits"
        return Depth(stored, stored, "data", (Doubt(code="bit-depth", text=told),))
    return depth


def _glass(sample: Samples) -> float:
    return float(np.quantile(sample.max(axis=1), _BRIGHT))


def _told(depth: Depth, seen: _Seen) -> Depth:
    """The same, with a doubt where the values leave most of it unused."""
    if seen.value >= min(DARK, seen.least) * depth.white:
        return depth
    told = (
        f"{seen.what} reaches {seen.value:,.0f} of {depth.white:,} ({depth} bits): "
        "the slide is dark, or its bit depth is not what it seems"
    )
    return replace(depth, doubts=(*depth.doubts, Doubt(code="depth-unclear", text=told)))
