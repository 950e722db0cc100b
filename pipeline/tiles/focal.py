"""Which of a slide's focal planes are read: one, the sharpest of each tile, or all.

A slide is thicker than what is in focus at once. *one* reads the plane that is best focused as a
whole; a cell that lies deeper is blurred there. *best* looks at every plane of each tile coarsely
and reads the sharpest: that follows a slide which lies askew, for little work. *all* screens every
plane; of a cell that is found on several the best score counts.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Literal

from pydantic import BeforeValidator

from configs import Doubt
from configs.doubts import listed
from pipeline.errors import SlideError
from pipeline.slides.readers.base import NO_PLANE, Fact, FocalPlane, show
from pipeline.slides.readers.planes import DOUBT, FACT
from pipeline.slides.slide import Slide

How = Literal["one", "best", "all"]

_DEPTH = re.compile(r"z\s*=\s*([-+]?\d+(?:\.\d+)?)")


def _check_choice(choice: object) -> str | int:
    text = "" if isinstance(choice, bool) else str(choice).strip()
    if text.isdecimal() and int(text) >= 1:
        return int(text)
    if text in ("one", "best", "all"):
        return text
    if match := _DEPTH.fullmatch(text):
        return f"z={float(match[1]):g}"
    raise ValueError("must be one, best, all, the number of a plane from 1, or z=… in µm")


PlaneChoice = Annotated[int | str, BeforeValidator(_check_choice)]
"""Which focal planes are read: "one", "best", "all", a plane's number from 1, or "z=" and µm."""


@dataclass(frozen=True)
class PlanePlan:
    """Which focal planes of a slide are read.

    Attributes:
        how: "one" for all tiles, the "best" of each tile, or "all" of each.
        planes: indices into the slide's planes, in its order; (None,) for one that has one plane,
            or whose areas are read in a plane of their own each.
        first: the one that is taken where none is sharper.
        doubts: what is to be told of them besides the slide's own doubts.
    """

    how: How
    planes: tuple[int | None, ...]
    first: int | None
    doubts: tuple[Doubt, ...] = ()


def plan_planes(slide: Slide, choice: PlaneChoice) -> tuple[Slide, PlanePlan]:
    """The slide in the plane by which it is looked at as a whole, and which planes are screened.

    The slide tells what was chosen by its facts, and by its doubts what is not looked at.

    Args:
        slide: an open one.
        choice: what is asked for.

    Raises:
        SlideError: a plane is asked for by its number or place that isn't there, or a plane
            can't be read.
    """
    if isinstance(choice, int) or choice.startswith("z="):
        index = _wanted(slide, choice)
        if slide.planes:
            slide = slide.on_plane(index)
            _tell_one(slide, index)
        return slide, PlanePlan("one", (slide.plane,), slide.plane)
    readable = tuple(n for n, plane in enumerate(slide.planes) if plane.readable)
    if choice == "one" or not slide.planes:
        return slide, PlanePlan("one", (slide.plane,), slide.plane)
    if len(readable) < 2:
        _tell_only(slide, choice)
        return slide, PlanePlan("one", (slide.plane,), slide.plane)
    how: How = "best" if choice == "best" else "all"
    first = readable[0] if slide.plane is None else slide.plane
    _tell_several(slide, how, readable)
    doubts = (_searched(len(readable)),) if how == "all" else ()
    return slide, PlanePlan(how, readable, first, doubts)


def _wanted(slide: Slide, choice: int | str) -> int:
    """Index of the plane that is asked for; 0 for the only one."""
    planes = slide.planes
    if isinstance(choice, str):
        return _nearest(slide, float(choice.removeprefix("z=")))
    if choice > max(1, len(planes)):
        named = f": {_told(planes)}" if planes else ""
        raise SlideError(
            f"{show(slide.path)}: has {_count(len(planes))}{named}; planes = {choice} asks for "
            "another one",
            NO_PLANE,
        )
    if planes and not planes[choice - 1].readable:
        raise SlideError(
            f"{show(slide.path)}: its focal plane {choice}, {planes[choice - 1].name}, can't be "
            f"read by {slide.reader}; it reads {_told([p for p in planes if p.readable])}",
            NO_PLANE,
        )
    return choice - 1


def _nearest(slide: Slide, depth: float) -> int:
    """Index of the readable plane nearest to a depth in µm, if it is as near as planes lie."""
    known = {n: p.z_um for n, p in enumerate(slide.planes) if p.readable and p.z_um is not None}
    asked = f"planes = z={depth:g}"
    if len(known) < 2:
        raise SlideError(
            f"{show(slide.path)}: doesn't say where several focal planes lie, so {asked} can't be "
            f"told; it has {_count(len(slide.planes))}: give a number",
            NO_PLANE,
        )
    found = min(known, key=lambda n: (abs(known[n] - depth), n))
    places = sorted(known.values())
    apart = min(b - a for a, b in pairwise(places))
    if abs(known[found] - depth) > apart / 2 + 1e-6:
        raise SlideError(
            f"{show(slide.path)}: no focal plane lies near {asked}; it has {_told(slide.planes)}",
            NO_PLANE,
        )
    return found


def _tell_one(slide: Slide, index: int) -> None:
    planes = slide.planes
    fact = Fact(name=FACT, value=f"{planes[index].name}, one of {len(planes)}", source="argument")
    text = (
        f"the file holds {len(planes)} focal planes; {planes[index].name} is read, as asked for; "
        f"not looked at: {_others(planes, [index])}"
    )
    slide.tell_planes(fact, Doubt(code=DOUBT, text=text))


def _tell_only(slide: Slide, choice: str) -> None:
    planes = slide.planes
    read = [n for n, plane in enumerate(planes) if n == slide.plane or plane.readable]
    name = planes[read[0]].name if read else "of each area the best-focused one"
    fact = Fact(name=FACT, value=f"{name}, one of {len(planes)}", source="file")
    text = (
        f"the file holds {len(planes)} focal planes; planes = {choice} is asked for, but "
        f"{slide.reader} gives one of them, {name}; not looked at: {_others(planes, read)}"
    )
    slide.tell_planes(fact, Doubt(code=DOUBT, text=text))


def _tell_several(slide: Slide, how: How, readable: Sequence[int]) -> None:
    planes = slide.planes
    told = {"best": "the sharpest of {} at each tile", "all": "all {}, each cell by its best score"}
    count = f"{len(readable)} of {len(planes)}" if len(readable) < len(planes) else len(planes)
    fact = Fact(name=FACT, value=told[how].format(count), source="data")
    doubt = None
    if len(readable) < len(planes):
        text = (
            f"the file holds {len(planes)} focal planes; {len(readable)} of them can be read; not "
            f"looked at: {_others(planes, readable)}"
        )
        doubt = Doubt(code=DOUBT, text=text)
    slide.tell_planes(fact, doubt, readable)


def _searched(count: int) -> Doubt:
    text = (
        f"each place was looked at in {count} focal planes, and the best score counts: more false "
        "alarms are to be expected than the model's figures say, which hold for one"
    )
    return Doubt(code="planes-searched", text=text)


def _others(planes: Sequence[FocalPlane], read: Sequence[int]) -> str:
    return listed([plane.name for n, plane in enumerate(planes) if n not in read]) or "none"


def _told(planes: Sequence[FocalPlane]) -> str:
    return listed([plane.name for plane in planes])


def _count(planes: int) -> str:
    return f"{planes} focal planes" if planes > 1 else "one focal plane"
