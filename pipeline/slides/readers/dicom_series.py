"""Which files of a folder are the levels of one DICOM slide, and what of them doesn't fit.

A slide is a series. Its levels are images of kind VOLUME, each a file or cut into several
(concatenations); labels, overviews and thumbnails are left aside. What makes it unclear which
pixels are the slide's finest is refused; a coarser level that is damaged, lacks a part or doesn't
fit is left out and told, as it would only have spared work.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from configs import Doubt
from pipeline.errors import SlideError
from pipeline.geometry import Size
from pipeline.slides.readers.base import show
from pipeline.slides.readers.dicom_codecs import refuse_unread
from pipeline.slides.readers.dicom_header import (
    FULL,
    VOLUME,
    Head,
    Instance,
    LightPath,
    names_series,
    read_head,
    read_instance,
)

_NOT_BRIGHTFIELD = {
    "111742": "reflection",
    "111743": "epifluorescence",
    "111745": "darkfield",
    "111746": "oblique",
    "111747": "phase contrast",
    "111748": "differential interference contrast",
}
"""Codes of illumination (PS3.16, CID 8123) in which stained cells don't look as they do to us."""

_SIZE_PX = 1.5
"""How far a coarser level's sides may be off a whole part of the finest one's, in its pixels."""

_ORIGIN_PX = 2.0
"""How far a coarser level may lie off the finest one, in its pixels."""

_SCALE = 0.05
"""Relative difference of two scales above which they contradict each other."""

_COPY = "copy all files of the series again"


@dataclass(frozen=True)
class Picture:
    """One image of the pyramid, whole or in parts.

    Attributes:
        parts: its files, in the order of their frames.
    """

    parts: tuple[Instance, ...]

    @property
    def head(self) -> Instance:
        """What holds for all parts."""
        return self.parts[0]

    @property
    def may_lack_parts(self) -> bool:
        """Whether it is in parts of which none says how many there are."""
        return not any(one.part is None or one.part.total for one in self.parts)

    @property
    def names(self) -> str:
        """Its files, for people."""
        first = show(self.head.path.name)
        more = len(self.parts) - 1
        return f"{first} and {more} more" if more else first


@dataclass(frozen=True)
class Pyramid:
    """The levels of a slide.

    Attributes:
        levels: finest first; several pictures of one size are focal planes.
        doubts: what was left out, and what contradicts itself.
    """

    levels: tuple[tuple[Picture, ...], ...]
    doubts: tuple[Doubt, ...]


def find_pyramid(path: Path) -> Pyramid:
    """The levels of the slide that a file is of, from all files of its series in its folder.

    Raises:
        SlideError: it is no slide, or can't be told which pixels are its finest.
    """
    instances = _instances(path)
    try:
        return _pyramid(instances)
    except SlideError as error:
        if error.text.startswith(show(path)):
            raise
        raise SlideError(f"{show(path)}: {error.text}", error.code) from error


def brightfield(light: Sequence[LightPath]) -> int:
    """Index of the path of light in which stained cells are seen.

    Raises:
        SlideError: there is none, or several.
    """
    fit = [index for index, one in enumerate(light) if one.illumination not in _NOT_BRIGHTFIELD]
    if len(fit) == 1:
        return fit[0]
    if not fit:
        lit = ", ".join(dict.fromkeys(_NOT_BRIGHTFIELD[one.illumination] for one in light))
        raise SlideError(
            f"is lit by {lit}; only brightfield is screened, so export that if it has any",
            "channels",
        )
    names = ", ".join(show(light[index].identifier) for index in fit)
    raise SlideError(
        f"has {len(fit)} optical paths of which each may be brightfield ({names}); export the one "
        "that is to be screened",
        "channels",
    )


def left_out(size: Size, why: str) -> Doubt:
    """What is told of a coarser level that isn't read."""
    text = f"its image of {size.width} x {size.height} px is left out: {why}"
    return Doubt(code="level-left-out", text=text)


def _instances(path: Path) -> list[Instance]:
    """Levels of the series, from the file and those beside it.

    Raises:
        SlideError: one of them can't be read: it might be the finest.
    """
    first = read_head(path)
    if not first.is_slide:
        read_instance(first)  # says what it is
    heads = [first]
    if first.series:
        beside = (other for other in sorted(path.parent.iterdir()) if other != path)
        heads += [_beside(other, path) for other in beside if _may_belong(other, first.series)]
    heads = [head for head in heads if head.is_slide and head.series == first.series]
    found = [_level(head, path) for head in heads if head.kind == VOLUME]
    if not found:
        kinds = ", ".join(sorted({show(head.kind) for head in heads}))
        raise SlideError(
            f"{show(path)}: its series holds no level of a slide (VOLUME), but {kinds} only; "
            f"{_COPY}",
            "data-missing",
        )
    once: dict[str, Instance] = {}
    for instance in found:
        before = once.setdefault(instance.uid or str(instance.path), instance)
        if before is not instance and not _is_copy(instance, before):
            names = f"{show(before.path.name)} and {show(instance.path.name)}"
            raise SlideError(
                f"{show(path)}: two different files of its series, {names}, are one instance "
                f"(SOPInstanceUID {show(instance.uid)}), so one may be lost; remove the one that "
                "doesn't belong there, or copy or export the series again",
                "series-mixed",
            )
    return list(once.values())


def _is_copy(one: Instance, other: Instance) -> bool:
    """Whether two files are the same, by what their headers say and how long they are."""
    first, second = (
        (file.size, file.tile, file.frames, file.part, str(file.depth), file.path.stat().st_size)
        for file in (one, other)
    )
    return first == second


def _beside(other: Path, path: Path) -> Head:
    try:
        return read_head(other)
    except SlideError as error:
        raise _of(other, path, error) from error


def _level(head: Head, path: Path) -> Instance:
    try:
        return read_instance(head)
    except SlideError as error:
        raise _of(head.path, path, error) from error


def _of(other: Path, path: Path, error: SlideError) -> SlideError:
    """What is wrong with a file of the series, told of the one that is opened."""
    why = error.text.removeprefix(f"{show(other)}: ")
    who = show(path) if other == path else f"{show(path)}: {show(other.name)} of its series"
    return SlideError(f"{who}: {why}", error.code)


def _may_belong(path: Path, series: str) -> bool:
    try:
        return names_series(path, series)
    except OSError:
        return False


def _pyramid(instances: Sequence[Instance]) -> Pyramid:
    _check_one_slide(instances)
    lit, doubts = _lit(instances)
    by_size: dict[Size, list[Picture]] = {}
    lacking: dict[Size, SlideError] = {}
    for parts in _by_whole(lit):
        size = parts[0].size
        try:
            by_size.setdefault(size, []).append(_joined(parts))
        except SlideError as error:
            lacking[size] = error
    finest = max({*by_size, *lacking}, key=lambda size: size.area)
    levels: list[tuple[Picture, ...]] = []
    for size in sorted({*by_size, *lacking}, key=lambda size: -size.area):
        pictures = by_size.get(size, [])
        try:
            if size in lacking:
                raise lacking[size]
            _check_level(pictures)
            if size != finest:
                _check_fits(pictures[0].head, levels[0][0].head)
        except SlideError as error:
            if size == finest:
                raise
            doubts.append(left_out(size, error.text))
        else:
            levels.append(tuple(pictures))
    doubts += _contradictions(levels[0][0].head)
    return Pyramid(tuple(levels), tuple(doubts))


def _check_one_slide(instances: Sequence[Instance]) -> None:
    """Refuses a series whose files are of several slides, whoever put them into one.

    Raises:
        SlideError: they are.
    """
    for what, values in (
        ("frames of reference", {one.frame_of_reference for one in instances}),
        ("specimens", {one.specimens for one in instances}),
        ("pyramids", {one.pyramid for one in instances}),
    ):
        count = len({value for value in values if value})  # what is silent contradicts nothing
        if count > 1:
            raise SlideError(
                f"the files of its series are of {count} {what}, so of several slides; put "
                "each into a series of its own",
                "series-mixed",
            )


def _lit(instances: Sequence[Instance]) -> tuple[list[Instance], list[Doubt]]:
    """The images in which stained cells are seen, where there are any."""
    lit, problems = [], []
    for instance in instances:
        try:
            brightfield(instance.light)
            lit.append(instance)
        except SlideError as error:
            problems.append((instance, error))
    if not lit:
        raise problems[0][1]
    return lit, [left_out(instance.size, error.text) for instance, error in problems]


def _by_whole(instances: Iterable[Instance]) -> list[list[Instance]]:
    """Files by the image that they are, or are parts of."""
    wholes: dict[str, list[Instance]] = {}
    for instance in instances:
        key = instance.part.uid if instance.part else f"{instance.uid} {instance.path}"
        wholes.setdefault(key, []).append(instance)
    return list(wholes.values())


def _joined(parts: Sequence[Instance]) -> Picture:
    """The picture that parts make.

    Raises:
        SlideError: one is missing, or they don't belong together.
    """
    if parts[0].part is None:
        return Picture((parts[0],))
    ordered = sorted(parts, key=lambda one: (one.part.offset, one.part.number) if one.part else ())
    head, total = ordered[0], max(one.part.total for one in ordered if one.part)
    alike = {(one.size, one.tile, one.syntax, one.photometric, one.layout) for one in ordered}
    if len(alike) > 1:
        raise SlideError(f"the parts of its image {show(head.path.name)} differ; {_COPY}")
    numbers = [one.part.number for one in ordered if one.part]
    missing = sorted(set(range(1, total + 1)) - set(numbers))
    if missing:
        some = ", ".join(map(str, missing[:5])) + (", …" if len(missing) > 5 else "")
        what = f"part {some}" if len(missing) == 1 else f"parts {some}"
        raise _missing(head, f"{what} of {total}")
    at = 0
    for one in ordered:
        assert one.part
        if one.part.offset != at:
            raise _missing(head, f"frames {at + 1} to {one.part.offset}")
        at += one.frames
    columns, rows = head.grid
    whole = columns * rows * head.planes * len(head.light)
    if head.layout == FULL and at < whole:
        raise _missing(head, f"frames {at + 1} to {whole}")
    return Picture(tuple(ordered))


def _missing(head: Instance, what: str) -> SlideError:
    size = f"{head.size.width} x {head.size.height} px"
    return SlideError(
        f"lacks {what} of its image of {size}, which is cut into files like "
        f"{show(head.path.name)}; {_COPY}",
        "data-missing",
    )


def _check_level(pictures: Sequence[Picture]) -> None:
    """Refuses what can't be read, and pictures of one size that are no focal planes.

    Raises:
        SlideError: they are.
    """
    for picture in pictures:
        try:
            refuse_unread(picture.head)
        except SlideError as error:
            name = show(picture.head.path.name)
            raise SlideError(f"{name}: {error.text}", error.code) from error
    if len(pictures) == 1:
        return
    depths = {picture.head.depth for picture in pictures}
    if len(depths) < len(pictures) or None in depths or any(p.head.planes > 1 for p in pictures):
        size = pictures[0].head.size
        names = ", ".join(picture.names for picture in pictures[:3])
        raise SlideError(
            f"its series holds {len(pictures)} images of {size.width} x {size.height} px "
            f"({names}), and nothing says which is the slide; put each into a series of its own",
            "series-mixed",
        )


def _check_fits(level: Instance, finest: Instance) -> None:
    """Refuses a level that isn't the finest one, smaller.

    Raises:
        SlideError: it isn't.
    """
    factor = finest.size.width / level.size.width
    high = finest.size.height / factor
    slack = _SIZE_PX * (1 + high / level.size.width)
    if abs(high - level.size.height) > slack:
        raise SlideError("it has another shape than the finest level")
    if level.spacing and finest.spacing:
        stated = level.spacing[0] / finest.spacing[0] if finest.spacing[0] else 0.0
        if abs(stated - factor) > _SCALE * factor:
            raise SlideError(f"it is {factor:.4g} times smaller, but says {stated:.4g} times")
    if level.origin and finest.origin and level.spacing:
        off = max(abs(a - b) for a, b in zip(level.origin, finest.origin, strict=True))
        if off * 1000 > _ORIGIN_PX * max(level.spacing):
            raise SlideError(f"it says that it lies {off * 1000:.4g} µm beside the finest level")


def _contradictions(finest: Instance) -> Iterator[Doubt]:
    """What the finest level says against itself, or against being the finest."""
    if finest.resampled:
        text = (
            f"its finest level here, {finest.size.width} x {finest.size.height} px, says that it "
            "was made of a finer one, which is not there"
        )
        yield Doubt(code="level-missing", text=text)
    if finest.extent and finest.spacing:
        sides = (finest.size.width, finest.size.height)
        by_extent = [mm * 1000 / px for mm, px in zip(finest.extent, sides, strict=True)]
        pairs = list(zip(by_extent, finest.spacing, strict=True))
        if any(not abs(a - b) <= _SCALE * max(a, b) for a, b in pairs):
            x, y = finest.extent
            text = (
                f"it says that it is {x:.4g} x {y:.4g} mm, which would be {by_extent[0]:.4g} µm "
                f"per pixel, and {finest.spacing[0]:.4g} µm per pixel; the latter is used"
            )
            yield Doubt(code="extent-contradicted", text=text)
