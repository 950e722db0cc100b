"""The images that annotations mean, and those of which nothing was annotated."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from configs import ConfigError
from configs.doubts import with_code
from data.annotations.drawing import Drawing, draw
from data.annotations.files import own_name
from data.annotations.formats import FORMATS, ONE_IMAGE, Source
from data.annotations.images import ImageFolder
from data.annotations.log import Log
from data.annotations.names import Match, plain_path
from data.annotations.settings import AnnotationSettings

_OVERLOOKED = {
    "image-capitals": "images whose names differ in capitals from the annotations' are taken",
    "image-other-ending": "images with another ending than the annotations say are taken",
    "image-other-folder": "images in a folder of another name than the annotations say are taken",
    "image-by-own-name": "images called like their file, which names another one, are taken",
}


_NOT_READ = "files called like an image are of no format that is known; their images are left out"

_LONGEST = 200
"""Letters of a name that are shown."""


@dataclass(frozen=True)
class Located:
    """What a file draws, and the image's file, None where images are taken as stated."""

    path: Path
    format: str
    drawing: Drawing
    image: Path | None


def locate(
    sources: Sequence[Source], images: ImageFolder, settings: AnnotationSettings, log: Log
) -> list[Located]:
    """Drawings with their images.

    Args:
        sources: what was read.
        images: where images are.
        settings: whether images that aren't there are passed over.
        log: is told what had to be overlooked.

    Raises:
        ConfigError: an image isn't there, or is annotated twice; or none is there.
    """
    located = list(_found(sources, images, settings.skip_missing, log))
    _check_images(located)
    return located


def unlabelled(
    located: Sequence[Located],
    arguments: Iterable[Path],
    others: Iterable[Path],
    images: ImageFolder,
    settings: AnnotationSettings,
    log: Log,
) -> list[Located]:
    """Images beside annotated ones that have no annotation file, where these are fields.

    By YOLO's own rule an image without a label file has no cells; of other formats nobody says so,
    and such images are only told.

    Args:
        located: what was annotated.
        arguments: where annotations are; of single files nothing follows for other images.
        others: files that are no annotations: what they are named for is not taken.
        images: where images are.
        settings: what becomes of them.
        log: is told how many there are.
    """
    if all(path.is_file() or not _is_many(path) for path in arguments):
        return []
    known = {one.image for one in located if one.image}
    unread = {own_name(path, (path.suffix.lower(),)).casefold(): path for path in others}
    rest: dict[bool, list[Path]] = {}
    for is_yolo in (True, False):
        own = [
            one.image
            for one in located
            if one.image and one.format in ONE_IMAGE and (one.format == "yolo") is is_yolo
        ]
        found = [image for image in images.unnamed(own) if image not in known]
        known.update(found)
        rest[is_yolo] = [image for image in found if image.stem.casefold() not in unread]
        for image in set(found) - set(rest[is_yolo]):
            log.add("annotations-not-read", _NOT_READ, unread[image.stem.casefold()])
    for image in rest[False]:
        log.add(
            "images-without-annotations",
            "images beside annotated ones have no annotation file, and are left aside",
            image,
        )
    labelled = sum(one.format == "yolo" for one in located)
    return list(_negatives(rest[True], labelled, settings.unlabelled, images, log))


def _is_many(argument: Path) -> bool:
    return argument.is_dir() or glob.has_magic(str(argument))


def _negatives(
    rest: Sequence[Path], labelled: int, wish: str, images: ImageFolder, log: Log
) -> Iterator[Located]:
    taken = wish == "negative" or (wish == "auto" and len(rest) <= labelled)
    text = "images without a label file are taken as fields without cells (unlabelled: left-out)"
    if not taken:
        text = "images without a label file are left out"
        text += " as they are more than those with one" if wish == "auto" else ""
        text += " (unlabelled: negative takes them as fields without cells)"
    for image in rest:
        log.add("images-without-labels", text, image)
        if taken:
            yield Located(image.parent, "yolo", draw(images.name_of(image), []), image)


def _found(
    sources: Sequence[Source], images: ImageFolder, skip_missing: bool, log: Log
) -> Iterator[Located]:
    base = _common(sources)
    for source in sources:
        folder = PurePosixPath(source.path.parent.absolute().relative_to(base).as_posix())
        for drawing in source.drawings:
            match = _match(source, drawing, folder, images) if images.is_given else None
            if match is None and images.is_given:
                if skip_missing:
                    continue
                raise ConfigError(_tell_missing(source, drawing, images))
            if match and match.code:
                log.add(match.code, _OVERLOOKED[match.code], source.path)
            image = match.image if match else None
            yield Located(source.path, source.format, drawing, image)


def _match(
    source: Source, drawing: Drawing, folder: PurePosixPath, images: ImageFolder
) -> Match | None:
    """The image of a drawing; by the file's own name where nothing is called as it says."""
    name = drawing.image
    bare = source.format in ONE_IMAGE and "/" not in plain_path(name)
    found = images.match(name, folder) if bare else images.match(name)
    if found or not drawing.own_name or images.near(name):
        return found
    found = images.match(drawing.own_name, folder)
    return Match(found.image, "image-by-own-name") if found else None


def _tell_missing(source: Source, drawing: Drawing, images: ImageFolder) -> str:
    name = drawing.image if len(drawing.image) < _LONGEST else drawing.image[:_LONGEST] + "…"
    text = f"{name}: no such file, though {source.path} names it"
    if near := images.near(drawing.image):
        shown = ", ".join(map(str, near[:3])) + (", …" if len(near) > 3 else "")
        text += (
            f"; there is {shown}, which is another name or in another folder: if it is meant, "
            "rename it, or give --images the folder that it lies in"
        )
    elif drawing.image == own_name(source.path, FORMATS[source.format].SUFFIXES):
        text += " (by its own name)"
    return with_code(text, "image-not-there")


def _common(sources: Sequence[Source]) -> Path:
    """The folder that holds all files that were read."""
    return Path(os.path.commonpath([source.path.parent.absolute() for source in sources]))


def _check_images(located: Sequence[Located]) -> None:
    """Refuses a set without images, and one that has an image twice."""
    if not located:
        raise ConfigError("none of the images that the annotations name is there")
    seen: dict[Path, Located] = {}
    for one in located:
        image = one.image or Path(one.drawing.image)
        if image in seen:
            earlier = seen[image]
            names = dict.fromkeys((earlier.drawing.image, one.drawing.image))
            raise ConfigError(
                f"{image}: is annotated in {earlier.path} and again in {one.path} "
                f"({', '.join(names)}); cells would count twice: read one of them"
            )
        seen[image] = one
