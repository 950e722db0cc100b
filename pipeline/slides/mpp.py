"""How many micrometres a pixel is wide: from the file or from the user, never guessed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from configs import ConfigError
from pipeline.errors import SlideError

SANE_MPP = (0.05, 5.0)
"""Finest and coarsest µm per pixel that a slide scanner or a camera on a microscope gives."""

TOLERANCE = 0.05
"""Relative difference of two mpp above which they are not the same."""


@dataclass(frozen=True, slots=True)
class Scale:
    """The mpp that a slide is read at, and where it comes from.

    Attributes:
        mpp: µm per level-0 pixel.
        source: "file" or "argument".
        warnings: what a person should know about the choice.
    """

    mpp: float
    source: Literal["file", "argument"]
    warnings: tuple[str, ...] = ()


def is_sane(mpp: float) -> bool:
    """Whether a microscope could have made pixels of this size; False for nan."""
    return SANE_MPP[0] <= mpp <= SANE_MPP[1]


def check_mpp_argument(mpp: float | None) -> None:
    """Refuses an mpp from the user that no microscope gives.

    Raises:
        ConfigError: it is not within `SANE_MPP`.
    """
    if mpp is not None and not is_sane(mpp):
        raise ConfigError(f"--mpp {mpp:g}: must be {SANE_MPP[0]:g} to {SANE_MPP[1]:g} µm per pixel")


def settle_mpp(stated: tuple[float, float] | None, given: float | None) -> Scale:
    """Decides on the mpp of a slide.

    A sane value in the file wins; the user's is for files that carry none or an absurd one.
    The magnification is never used: 20x is 0.23 µm per pixel on one scanner, 0.5 on another.

    Args:
        stated: mpp in x and y as the file states them, None where it states nothing.
        given: what the user gives by ``--mpp``, already checked.

    Raises:
        SlideError: nobody knows the mpp, or the pixels are not square; names no file.
    """
    if stated is None:
        if given is None:
            raise SlideError("carries no µm per pixel; give it with --mpp")
        return Scale(given, "argument")
    if not all(is_sane(value) for value in stated):
        return _replace_absurd(stated, given)
    x, y = stated
    if _differ(x, y):
        raise SlideError(f"its pixels are not square ({x:g} by {y:g} µm); it can't be measured")
    mpp = (x + y) / 2
    if given is None or not _differ(mpp, given):
        return Scale(mpp, "file")
    return Scale(mpp, "file", (f"the file's {mpp:g} µm per pixel is used, not --mpp {given:g}",))


def _replace_absurd(stated: tuple[float, float], given: float | None) -> Scale:
    value = next(value for value in stated if not is_sane(value))
    problem = f"states an absurd {value:.4g} µm per pixel"
    if given is None:
        low, high = SANE_MPP
        raise SlideError(f"{problem} (sane: {low:g} to {high:g}); give the true one with --mpp")
    return Scale(given, "argument", (f"the file {problem}; --mpp {given:g} is used",))


def _differ(first: float, second: float) -> bool:
    return abs(first - second) > TOLERANCE * max(first, second)
