"""Finding the image that an annotation file means, and what must be known of it."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath

from PIL import Image

from configs import ConfigError, Doubt
from data.annotations.names import HERE, PLAIN_SUFFIXES, Match, NameIndex, is_below, plain_path
from data.folders import files_below
from data.pixels.orientation import UPRIGHT
from data.pixels.plain import PictureError, is_picture, picture_head, read_picture

_NO_IMAGES = frozenset(
    {".json", ".geojson", ".xml", ".ndpa", ".txt", ".csv", ".tsv", ".gz", ".yaml", ".yml", ".names"}
    | {".annotations"}
)


@dataclass(frozen=True)
class ImageInfo:
    """What must be known of an image to place annotations on it.

    Attributes:
        width, height: in pixels, of level 0 for slides.
        mpp: µm per pixel, None where the file carries none.
        properties: the scanner's own, by OpenSlide's names.
        bounds: left, top, right and bottom of what was scanned, where the file states it.
        stored: width and height before EXIF's turn; None where there is none.
        doubts: what is odd about the pixels, and how it was settled.
    """

    width: int
    height: int
    mpp: float | None = None
    properties: Mapping[str, str] = field(default_factory=dict)
    bounds: tuple[int, int, int, int] | None = None
    stored: tuple[int, int] | None = None
    doubts: tuple[Doubt, ...] = ()


InfoOf = Callable[[Path], ImageInfo | None]
"""Reads what must be known of an image; None where it can't be told."""


def image_info(path: Path) -> ImageInfo | None:
    """The size of a plain image as it is shown; None where it is too large, as slides are.

    Nothing is decoded, but for more than 8 bits a sample: their depth shows in the pixels alone.

    Raises:
        ConfigError: the file is no image.
    """
    try:
        if not is_picture(path):
            return _other_info(path)
        head = picture_head(path)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read as an image: {error}") from error
    except PictureError as error:
        if error.too_large:
            return None
        raise ConfigError(f"{path}: {error}") from error
    doubts = head.doubts
    if head.bits > 8:
        with contextlib.suppress(PictureError):  # whoever trains on it passes it over, and tells
            doubts = read_picture(path).doubts
    turned = head.stored if head.orientation != UPRIGHT else None
    return ImageInfo(*head.size, stored=turned, doubts=doubts)


def _other_info(path: Path) -> ImageInfo | None:
    """The size of a picture that is none of the plain ones, such as a small TIFF, as stored."""
    try:
        with (
            warnings.catch_warnings(action="ignore", category=Image.DecompressionBombWarning),
            Image.open(path) as image,
        ):
            tags = getattr(image, "tag_v2", {})  # Pillow alone turns TIFF
            return ImageInfo(tags.get(256, image.width), tags.get(257, image.height))
    except Image.DecompressionBombError:
        return None


class ImageFolder:
    """Images in folders, found by the names that annotation files have for them.

    Args:
        roots: folders, of which all files below are meant (see `files_below`), and image files.
    """

    def __init__(self, roots: Sequence[Path]) -> None:
        self._roots = roots

    @property
    def is_given(self) -> bool:
        """Whether there is any place where images could be."""
        return bool(self._roots)

    def find(self, name: str) -> Path | None:
        """The image of a name, a path or a stem; None where there is none.

        Raises:
            ConfigError: several images could be meant.
        """
        match = self.match(name)
        return match.image if match else None

    def match(self, name: str, folder: PurePosixPath = HERE) -> Match | None:
        """The image of a name, and what had to be overlooked to find it; see `names.NameIndex`.

        Args:
            name: a path, a URL, a file's name or its stem, as the annotations have it.
            folder: where the file that has this name for itself lies within the annotations.

        Raises:
            ConfigError: several images could be meant.
        """
        if as_it_is := self._at((folder / name).as_posix() if folder.parts else name):
            return Match(as_it_is)
        return self._index.match(name, folder)

    def near(self, name: str) -> list[Path]:
        """Images that are called alike but lie in another folder, or have another ending."""
        return self._index.near(name)

    def unnamed(self, found: Sequence[Path]) -> list[Path]:
        """Plain images in the folders where some were found that are not among these."""
        named = set(found)
        folders = {image.parent for image in named}
        return [
            image
            for image in self._files
            if image.parent in folders
            and image.suffix.lower() in PLAIN_SUFFIXES
            and image not in named
        ]

    def name_of(self, image: Path) -> str:
        """The image's path relative to its root, with forward slashes, as COCO wants it."""
        for root in self._roots:
            if image.is_relative_to(root) and image != root:
                return image.relative_to(root).as_posix()
        return image.name if self._roots else image.as_posix()

    def _at(self, name: str) -> Path | None:
        """The image at just this path below one of the roots.

        Raises:
            ConfigError: several roots have one.
        """
        ways = dict.fromkeys((plain_path(name), name) if is_below(name) else (plain_path(name),))
        places = [root / way for root in self._roots for way in ways if way]
        found = [place for place in places if os.path.isfile(place)]
        one = {os.path.realpath(place): place for place in reversed(found)}
        if len(one) > 1:
            raise ConfigError(f"{name}: several images could be meant: {_listed(one.values())}")
        return found[0] if found else None

    @cached_property
    def _index(self) -> NameIndex:
        return NameIndex([(path, self._roots_of[path]) for path in self._files])

    @cached_property
    def _roots_of(self) -> dict[Path, Path]:
        """The root that each image lies below, by the image."""
        pairs = [(path, root) for root in self._roots for path in _below(root)]
        if len(self._roots) == 1:
            return dict(pairs)
        found: dict[str, tuple[Path, Path]] = {}  # roots may overlap, each written in its own way
        for path, root in pairs:
            found.setdefault(os.path.realpath(path), (path, root))
        return dict(found.values())

    @cached_property
    def _files(self) -> list[Path]:
        return sorted(path for path in self._roots_of if path.suffix.lower() not in _NO_IMAGES)


def _below(root: Path) -> Iterable[Path]:
    return files_below(root) if root.is_dir() else [root]


def _listed(paths: Iterable[Path]) -> str:
    return ", ".join(map(str, sorted(paths)))
