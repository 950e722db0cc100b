"""How many micrometres a pixel is wide: from the file or from the user, never guessed.

Where the user asks for it, it is estimated from the pixels of a slide that carries none
(`pipeline.network.scale`), and everywhere named as that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final, Literal

from pydantic import AllowInfNan

from configs import ConfigError, Doubt
from pipeline.errors import SlideError
from pipeline.slides.readers.base import Fact

SANE_MPP = (0.05, 5.0)
"""Finest and coarsest µm per pixel that a slide scanner or a camera on a microscope gives."""

Source = Literal["file", "argument", "override", "table", "estimate"]
"""Who says what the scale is: the file, ``--mpp``, ``--mpp-override`` or ``--mpp-table``; or
nobody, and it was estimated."""

ESTIMATE: Final = "estimate"
"""What ``--mpp`` takes in the place of a number."""

Mpp = Annotated[float, AllowInfNan(True)]
"""µm per pixel as somebody gives it; what is absurd, nan too, is told by `check_mpp_argument`."""

Gap = Mpp | Literal["estimate"]
"""The scale of slides that carry none: µm per pixel, or to be estimated."""

PROVISIONAL = 0.25
"""µm per pixel that a slide has until its scale is estimated: about that of a 40x objective."""

TOLERANCE = 0.05
"""Relative difference of two mpp above which they are not the same."""

_GIVE_IT = "give it with --mpp (or --mpp estimate), or one a slide with --mpp-table"


@dataclass(frozen=True, slots=True)
class GivenMpp:
    """What the user says of a slide's scale, checked.

    Attributes:
        gap: for slides that carry none (``--mpp``): a number, or "estimate".
        override: what holds whatever the slide says (``--mpp-override``).
        table: the same, for this slide alone (``--mpp-table``); it beats ``override``.
    """

    gap: Gap | None = None
    override: float | None = None
    table: float | None = None


@dataclass(frozen=True, slots=True)
class Scale:
    """The mpp that a slide is read at, and where it comes from.

    Attributes:
        mpp: µm per level-0 pixel.
        source: "file", "argument", "override", "table", or "estimate": then ``mpp`` is
            `PROVISIONAL`, until somebody has looked at the pixels.
        facts: every statement about it.
        doubts: what a person should know about the choice.
    """

    mpp: float
    source: Source
    facts: tuple[Fact, ...] = ()
    doubts: tuple[Doubt, ...] = ()


def is_sane(mpp: float) -> bool:
    """Whether a microscope could have made pixels of this size; False for nan."""
    return SANE_MPP[0] <= mpp <= SANE_MPP[1]


def check_mpp_argument(mpp: Gap | None, option: str = "--mpp") -> None:
    """Refuses an mpp from the user that no microscope gives; "estimate" is none.

    Raises:
        ConfigError: it is not within `SANE_MPP`.
    """
    if isinstance(mpp, int | float) and not is_sane(mpp):
        raise ConfigError(
            f"{option} {mpp:g}: must be {SANE_MPP[0]:g} to {SANE_MPP[1]:g} µm per pixel"
        )


def settle_mpp(stated: tuple[float, float] | None, given: GivenMpp, denied: str = "") -> Scale:
    """Decides on the mpp of a slide.

    What the user says of this very slide holds, then what they say of all slides, then a sane value
    in the file; ``--mpp`` is for files that carry none or an absurd one. The magnification is never
    used: 20x is 0.23 µm per pixel on one scanner, 0.5 on another.

    Args:
        stated: mpp in x and y as the file states them, None where it states nothing.
        given: what the user says.
        denied: why it isn't believed although it is sane; empty where it is believed.

    Raises:
        SlideError: nobody knows the mpp, or the pixels are not square; names no file.
    """
    ruling, source = _ruling(given)
    if ruling is not None:
        return _overrule(stated, ruling, source)
    if stated is None:
        if given.gap is None:
            raise SlideError(f"carries no µm per pixel; {_GIVE_IT}", "mpp-missing")
        if isinstance(given.gap, str):
            return Scale(PROVISIONAL, ESTIMATE)
        return Scale(given.gap, "argument", (_fact(given.gap, "argument"),))
    if denied or not all(is_sane(value) for value in stated):
        return _replace_absurd(stated, given.gap, denied)
    x, y = stated
    if _differ(x, y):
        raise SlideError(
            f"its pixels are not square ({x:g} by {y:g} µm); it can't be measured; if the file is "
            "wrong, give the true one with --mpp-override",
            "mpp-oblong",
        )
    mpp = (x + y) / 2
    facts = (_fact(mpp, "file"),)
    if given.gap is None or isinstance(given.gap, str) or not _differ(mpp, given.gap):
        return Scale(mpp, "file", facts)
    text = (
        f"the slide's own {mpp:g} µm per pixel is used, not --mpp {given.gap:g}, which is for "
        "slides that carry none; --mpp-override would overrule it"
    )
    doubt = Doubt(code="mpp-argument-unused", text=text)
    return Scale(mpp, "file", (*facts, _fact(given.gap, "argument")), (doubt,))


def _ruling(given: GivenMpp) -> tuple[float | None, Literal["override", "table"]]:
    """What holds whatever the slide says, and where that comes from."""
    if given.table is not None:
        return given.table, "table"
    return given.override, "override"


def _overrule(
    stated: tuple[float, float] | None, mpp: float, source: Literal["override", "table"]
) -> Scale:
    facts: tuple[Fact, ...] = (_fact(mpp, source),)
    if stated is None:
        return Scale(mpp, source, facts)
    facts = (*facts, Fact(name="mpp", value=_shown(stated), source="file"))
    if not any(_differ(value, mpp) or not is_sane(value) for value in stated):
        return Scale(mpp, source, facts)
    option = {"table": "--mpp-table", "override": "--mpp-override"}[source]
    text = f"the slide states {_shown(stated)}; {option} says {mpp:g}, which is used"
    return Scale(mpp, source, facts, (Doubt(code="mpp-overruled", text=text),))


def _replace_absurd(stated: tuple[float, float], gap: Gap | None, denied: str) -> Scale:
    absurd = [value for value in stated if not is_sane(value)]
    low, high = SANE_MPP
    problem, why = f"states {_shown(stated)}, which {denied}", ""
    if absurd:
        problem = f"states an absurd {absurd[0]:.4g} µm per pixel"
        why = f" (sane: {low:g} to {high:g})"
    if gap is None:
        raise SlideError(f"{problem}{why}; {_GIVE_IT}", "mpp-missing")
    stated_fact = Fact(name="mpp", value=_shown(stated), source="file")
    if isinstance(gap, str):
        text = f"the file {problem}; it is estimated instead"
        return Scale(PROVISIONAL, ESTIMATE, (stated_fact,), (Doubt(code="mpp-absurd", text=text),))
    facts = (_fact(gap, "argument"), stated_fact)
    doubt = Doubt(code="mpp-absurd", text=f"the file {problem}; --mpp {gap:g} is used")
    return Scale(gap, "argument", facts, (doubt,))


def _fact(mpp: float, source: Literal["file", "argument", "override", "table"]) -> Fact:
    return Fact(name="mpp", value=f"{mpp:g} µm per pixel", source=source)


def _shown(stated: tuple[float, float]) -> str:
    x, y = stated
    values = f"{x:.4g}" if x == y else f"{x:.4g} x {y:.4g}"
    return f"{values} µm per pixel"


def _differ(first: float, second: float) -> bool:
    return not abs(first - second) <= TOLERANCE * max(first, second)
