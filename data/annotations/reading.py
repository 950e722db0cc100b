"""From what files draw to fields: one way for all formats."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from configs import ConfigError
from configs.doubts import with_code
from data.annotations.bethesda import propose
from data.annotations.classes import DROP, IGNORE, REGION, UNCLASSIFIED, ClassTable
from data.annotations.drawing import Drawing, clean_name
from data.annotations.formats import Source, read_sources
from data.annotations.groups import with_groups
from data.annotations.idle import idle_settings
from data.annotations.images import ImageFolder, ImageInfo, InfoOf, image_info
from data.annotations.locating import Located, locate, unlabelled
from data.annotations.log import Log
from data.annotations.placing import Placed, ignored_areas, place
from data.annotations.plausible import Plausibility, repeated
from data.annotations.public import names_of_public
from data.annotations.settings import AnnotationSettings
from data.annotations.suspicion import (
    Outside,
    check_nuclei,
    check_outside,
    find_outside,
    nuclei_outside,
)
from data.fields.fieldset import Field, FieldSet

_THIN = "boxes at most 1 px wide or high"
_BEYOND = "boxes outside of the image"
_MISSING = "images that are not there"
_UNWANTED = f"shapes whose class is mapped to {DROP}"
_TWICE = "cells have the box and the class of another one; each counts"
_SEVERAL = "boxes stand there in several classes; each counts"
_UNFINISHED = "images that are listed without any shape count as fields without cells"

_SHOWN = 5
"""Mappings that a message proposes."""

MAY_BE_UNFINISHED = frozenset({"cvat", "via"})
"""Formats that list all images of a task, whether someone got to them or not."""


def read_fields(
    annotations: Path | Sequence[Path],
    images: Sequence[Path],
    classes: Sequence[str] | None = None,
    settings: AnnotationSettings | None = None,
    info_of: InfoOf = image_info,
) -> FieldSet:
    """Reads annotated images, whatever tool they were annotated with.

    Polygons, ellipses and marks become boxes, clipped to the image. What is to be ignored, and
    what lies outside of exhaustively annotated regions where there are any, becomes crowds.

    Args:
        annotations: files, folders and globs.
        images: folders and files of the images; empty takes images as the files state them.
        classes: the names, in the order of the labels; by default those of the files.
        settings: how files are read.
        info_of: reads an image's size and scale; by default those of plain images.

    Raises:
        ConfigError: a file is missing, damaged or of no known format; names a class that is not
            known, or an image that isn't there or doesn't fit; an image is annotated twice; a
            mark has no size; most boxes lie outside of their image; or there are no annotations
            at all.
    """
    settings = settings or AnnotationSettings()
    arguments = [annotations] if isinstance(annotations, Path) else annotations
    sources, others = read_sources(arguments, settings.format, settings.yolo)
    renamed = {clean_name(name): target for name, target in settings.classes.items()}
    table = ClassTable(renamed, None if classes is None else tuple(classes))
    names = _known_names(sources, table, settings.crowds == "cells")
    declared = dict.fromkeys(n for _, drawing in _drawings(sources) for n in drawing.declared)
    all_classes = table.all_classes(names, list(declared))
    log = Log()
    found = ImageFolder(images)
    located = locate(sources, found, settings, log)
    missing = sum(len(source.drawings) for source in sources) - len(located)
    located += unlabelled(located, arguments, others, found, settings, log)
    settler = _Settler(table, all_classes, settings, info_of, log)
    fields = tuple(settler.settle(one) for one in located)
    settler.plausibility.check()
    check_outside(settler.outside, log)
    check_nuclei(settler.nuclei, log)
    if settings.groups:
        fields = with_groups(fields, settings.groups)
    settler.dropped[_MISSING] = missing
    log.classes_alike(all_classes)
    log.settings_idle(idle_settings(sources, settings))
    called = {*declared, *_names(sources), *names_of_public(renamed)}
    log.table_unused(table.unused(called))
    kept = table.kept([*declared, *names])
    notes = tuple(_notes(sources, settler.dropped, others, kept))
    return FieldSet(all_classes, fields, notes, tuple(log.doubts()))


def read_coco(path: Path, images: Path, classes: Sequence[str] | None = None) -> FieldSet:
    """Reads a COCO file of annotated fields.

    Args:
        path: the JSON file; an image may carry ``mpp``, an annotation ``nucleus``.
        images: the folder that ``file_name`` is relative to.
        classes: the names, in the order of the labels; by default the file's categories by id.

    Raises:
        ConfigError: as `read_fields`.
    """
    return read_fields(path, [images], classes, AnnotationSettings(format="coco"))


@dataclass(frozen=True)
class _Settler:
    """Turns drawings into fields; counts what it drops, and keeps what is odd about images."""

    table: ClassTable
    classes: tuple[str, ...]
    settings: AnnotationSettings
    info_of: InfoOf
    log: Log
    dropped: Counter[str] = field(default_factory=Counter)
    plausibility: Plausibility = field(default_factory=Plausibility)
    outside: list[Outside] = field(default_factory=list)
    nuclei: list[Outside] = field(default_factory=list)

    def settle(self, one: Located) -> Field:
        drawing = one.drawing
        try:
            info = self._info(drawing, one.image)
            placed = place(drawing, info, self.settings)
        except ConfigError as error:
            raise ConfigError(f"{one.path}: {drawing.image}: {error}") from error
        self.log.drawing(drawing, one.path)
        for remark in placed.remarks:
            self.log.add(*remark, one.path)
        self.plausibility.add(one, placed)
        targets = np.array([self.table.target(name) or "" for name in drawing.names], object)
        crowds_are_cells = self.settings.crowds == "cells"
        targets[drawing.is_ignored(crowds_are_cells)] = IGNORE
        if np.any(drawing.marks & (targets == REGION)):
            raise ConfigError(f"{one.path}: {drawing.image}: a region is only a point: no outline")
        self.log.ignored(drawing, placed, one.path, crowds_are_cells)
        if one.format in MAY_BE_UNFINISHED and not drawing.names and not drawing.left_out:
            self.log.add("images-without-cells", _UNFINISHED, one.path)
        drawn = ~np.isin(targets, [IGNORE, REGION, DROP])
        self.outside.append(find_outside(one.path, drawing, placed, drawn, info, self.settings))
        cells = self._kept(placed, targets)
        astray = nuclei_outside(placed) & cells
        self.nuclei.append(Outside(one.path, drawing.image, int(astray.sum()), int(cells.sum())))
        nuclei = np.where(astray[:, None], placed.middles, placed.nuclei)
        placed = replace(placed, nuclei=nuclei)
        twice, several = repeated(placed.boxes[cells], targets[cells])
        self.log.add("cells-twice", _TWICE, one.path, twice)
        self.log.add("cells-of-two-classes", _SEVERAL, one.path, several)
        field = self._field(one.image or Path(drawing.image), placed, targets, cells)
        return replace(field, slide=drawing.slide, patient=drawing.patient)

    def _info(self, drawing: Drawing, image: Path | None) -> ImageInfo:
        """What is known of the image: by itself, else by the file."""
        info = self.info_of(image) if image else None
        if image and info:
            for doubt in info.doubts:
                self.log.add(doubt.code, doubt.text, image)
        stated = drawing.size
        if info is None and stated is None:
            raise ConfigError("the size of the image isn't known; say where the images are")
        if info is None or stated is None:
            return info or ImageInfo(*stated)  # type: ignore[misc]
        if not drawing.place and stated != (info.width, info.height):
            if stated == info.stored:
                raise ConfigError(_tell_turned(info))
            raise ConfigError(
                f"is {info.width}x{info.height} px, but was annotated as {stated[0]}x{stated[1]}"
            )
        return info

    def _field(
        self,
        image: Path,
        placed: Placed,
        targets: NDArray[np.object_],
        cells: NDArray[np.bool_],
    ) -> Field:
        ignored = ignored_areas(placed, targets)
        middles = (ignored[:, :2] + ignored[:, 2:]) / 2
        boxes = np.concatenate([placed.clipped(placed.boxes[cells]), ignored])
        nuclei = np.concatenate([placed.nuclei[cells].clip(0, placed.size), middles])
        labels = [self.classes.index(name) for name in targets[cells]]
        width, height = placed.size.tolist()
        return Field(
            image=image,
            width=width,
            height=height,
            mpp=placed.mpp,
            boxes=boxes.astype(np.float32),
            nuclei=nuclei.astype(np.float32),
            labels=np.array(labels + [0] * len(ignored), np.int64),
            crowd=np.arange(len(boxes)) >= len(labels),
        )

    def _kept(self, placed: Placed, targets: NDArray[np.object_]) -> NDArray[np.bool_]:
        """Which shapes are cells; counts those that are no longer."""
        cells = ~np.isin(targets, [IGNORE, REGION, DROP])
        beyond, thin = placed.are_beyond(), placed.are_thin()
        self.dropped[_BEYOND] += int((cells & beyond).sum())
        self.dropped[_THIN] += int((cells & thin & ~beyond).sum())
        self.dropped[_UNWANTED] += int((targets == DROP).sum())
        return cells & ~beyond & ~thin


def _drawings(sources: Iterable[Source]) -> Iterator[tuple[Path, Drawing]]:
    return ((source.path, drawing) for source in sources for drawing in source.drawings)


def _names(sources: Sequence[Source]) -> Iterator[str]:
    return (name for _, drawing in _drawings(sources) for name in drawing.names)


def _known_names(sources: Sequence[Source], table: ClassTable, crowds_are_cells: bool) -> list[str]:
    """The names that were drawn, but for what files want ignored anyway.

    Raises:
        ConfigError: nothing was drawn; or the table doesn't know some names: lists them all.
    """
    counts: Counter[str] = Counter()
    for _, drawing in _drawings(sources):
        ignored = drawing.is_ignored(crowds_are_cells)
        counts.update(n for n, crowd in zip(drawing.names, ignored, strict=True) if not crowd)
    if not any(len(drawing.names) for _, drawing in _drawings(sources)):
        places = ", ".join(str(source.path) for source in sources[:3])
        left_out = sum((Counter(drawing.left_out) for _, drawing in _drawings(sources)), Counter())
        listed = ", ".join(f"{kind} ({count})" for kind, count in left_out.items())
        but = f" but for what is no cell: {listed}" if listed else ""
        raise ConfigError(f"{places}: there are no annotations{but}")
    unknown = sorted(name for name in counts if table.target(name) is None)
    if unknown:
        files = [path for path, one in _drawings(sources) if not set(unknown).isdisjoint(one.names)]
        raise ConfigError(f"{files[0]}: {_tell_unknown(unknown, counts, table)}")
    return list(counts)


def _tell_unknown(unknown: list[str], counts: Counter[str], table: ClassTable) -> str:
    listed = ", ".join(f"{name} ({counts[name]})" for name in unknown)
    classes = table.classes or ()
    among = f" are not among the classes {', '.join(classes)}" if classes else " have no class"
    # By meaning only: words that are alike may be another grade.
    proposed = [f'"{old}": {new}' for old, new in propose(unknown, classes).items()]
    example = f", such as {', '.join(proposed[:_SHOWN])}," if proposed else " (`NAME: CLASS`)"
    hint = f" ({UNCLASSIFIED}: shapes without a class)" if UNCLASSIFIED in unknown else ""
    return (
        f"{listed}{among}{hint}; map them in the table of classes{example} "
        f"or to {IGNORE}, {REGION} or {DROP}"
    )


def _tell_turned(info: ImageInfo) -> str:
    text = (
        f"was annotated as {_sides(info.stored)} px, as it is stored, but EXIF has it turned: it "
        f"is shown and read as {_sides((info.width, info.height))} px; turn the picture for good "
        "and annotate that"
    )
    return with_code(text, "exif-size")


def _sides(size: tuple[int, int] | None) -> str:
    return "x".join(map(str, size or ()))


def _notes(
    sources: Sequence[Source],
    dropped: Counter[str],
    others: Sequence[Path],
    kept: Sequence[str],
) -> Iterator[str]:
    formats = Counter(source.format for source in sources)
    yield "read " + ", ".join(f"{_files(count)} as {name}" for name, count in formats.items())
    yield from (f"left out {count} {reason}" for reason, count in dropped.items() if count)
    if kept:
        yield f"classes that the table doesn't name stay as they are: {', '.join(kept)}"
    if others:
        shown = ", ".join(str(path) for path in others[:3]) + (", …" if len(others) > 3 else "")
        yield f"passed over {_files(len(others))} without annotations: {shown}"


def _files(count: int) -> str:
    return f"{count} file" + "s" * (count != 1)
