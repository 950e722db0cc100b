"""Finding the image that an annotation file means, and what must be known of it."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath

from PIL import Image

from configs import ConfigError, Doubt
from data.pixels.orientation import UPRIGHT
from data.pixels.plain import PictureError, is_picture, picture_head, read_picture

_NO_IMAGES = frozenset(
    {".json", ".geojson", ".xml", ".ndpa", ".txt", ".csv", ".tsv", ".gz", ".yaml", ".yml", ".names"}
)


@dataclass(frozen=True)
class ImageInfo:
    """What must be known of an image to place annotations on it.

    Attributes:
        width, height: in pixels, of level 0 for slides.
        mpp: µm per pixel, None where the file carries none.
        properties: the scanner's own, by OpenSlide's names.
        stored: width and height before EXIF's turn; None where there is none.
        doubts: what is odd about the pixels, and how it was settled.
    """

    width: int
    height: int
    mpp: float | None = None
    properties: Mapping[str, str] = field(default_factory=dict)
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
        roots: folders, searched recursively, and image files.
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
        wanted = PurePosixPath(name.replace("\\", "/"))
        for root in self._roots:
            if wanted.name and os.path.isfile(root / wanted):
                return root / wanted
        for known, key in ((self._by_name, wanted.name), (self._by_stem, wanted.name)):
            found = known.get(key, [])
            if len(found) > 1:
                places = ", ".join(map(str, sorted(found)))
                raise ConfigError(f"{name}: several images could be meant: {places}")
            if found:
                return found[0]
        return None

    def name_of(self, image: Path) -> str:
        """The image's path relative to its root, with forward slashes, as COCO wants it."""
        for root in self._roots:
            if image.is_relative_to(root) and image != root:
                return image.relative_to(root).as_posix()
        return image.name if self._roots else image.as_posix()

    @cached_property
    def _by_name(self) -> dict[str, list[Path]]:
        return _grouped(self._files, lambda path: path.name)

    @cached_property
    def _by_stem(self) -> dict[str, list[Path]]:
        return _grouped(self._files, lambda path: path.stem)

    @cached_property
    def _files(self) -> list[Path]:
        files = {path for root in self._roots for path in _walk(root)}
        return sorted(path for path in files if path.suffix.lower() not in _NO_IMAGES)


def _walk(root: Path) -> list[Path]:
    if not root.is_dir():
        return [root]
    return [Path(folder, name) for folder, _, names in os.walk(root) for name in names]


def _grouped(paths: Sequence[Path], key: Callable[[Path], str]) -> dict[str, list[Path]]:
    groups: dict[str, list[Path]] = defaultdict(list)
    for path in paths:
        groups[key(path)].append(path)
    return dict(groups)
