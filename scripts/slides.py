"""Slides for training and evaluation: `data` takes pixels from whoever opens them."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from configs import ConfigError, CytoLibraError
from data.annotations import AnnotationSettings, ImageInfo, image_info, read_fields
from data.fields.fieldset import Field, FieldSet
from data.fields.images import FieldImages, ImageError
from data.fields.suspicion import glass_doubts
from data.pixels.plain import is_picture
from pipeline.geometry import Size
from pipeline.slides.slide import SLIDE_SUFFIXES, Slide, open_slide
from pipeline.tiles.foreground import foreground_mask


def read_annotated(
    annotations: Path | Sequence[Path],
    images: Path | Sequence[Path],
    classes: tuple[str, ...] | None,
    settings: AnnotationSettings | None = None,
) -> FieldSet:
    """Annotated slides and images, and whether their boxes hold anything.

    See `data.annotations.read_fields` and `data.fields.suspicion.glass_doubts`; without images
    there is nothing to look at.
    """
    roots = [images] if isinstance(images, Path) else images
    fields = read_fields(annotations, roots, classes, settings, slide_info)
    told = glass_doubts(fields, open_field) if roots else ()
    return replace(fields, doubts=(*fields.doubts, *told))


def images_of(fields: FieldSet, cache: Path | None = None) -> FieldImages:
    """The pixels of annotated slides and images.

    Args:
        fields: that are annotated.
        cache: a folder for decoded blocks of slides.

    Raises:
        ConfigError: the folder can't be written to.
    """
    if cache is not None:
        _check_folder(cache)
    return FieldImages(fields.fields, partial(open_field, cache=cache))


def slide_info(path: Path) -> ImageInfo | None:
    """What must be known of a slide or a plain image, to place annotations on it.

    Raises:
        SlideError: it can't be opened.
        ConfigError: it is no image.
    """
    if _is_picture(path):
        return image_info(path)
    with open_slide(path, mpp=1.0) as slide:  # 1.0 is for files that carry none
        mpp = slide.mpp if slide.mpp_source == "file" else None
        scanned = slide.bounds.x, slide.bounds.y, slide.bounds.right, slide.bounds.bottom
        size = slide.size
        return ImageInfo(
            size.width,
            size.height,
            mpp,
            _properties(path),
            bounds=None if scanned == (0, 0, size.width, size.height) else scanned,
            doubts=tuple(one for one in slide.doubts if not one.code.startswith("mpp-")),
        )


def open_field(field: Field, cache: Path | None = None) -> FieldSlide | None:
    """The slide on which a field lies; None for a plain image.

    Args:
        field: the field.
        cache: a folder for decoded blocks.

    Raises:
        ImageError: it can't be opened.
    """
    if _is_picture(field.image):
        return None
    try:
        return FieldSlide(open_slide(field.image, field.mpp, cache))
    except CytoLibraError as error:
        raise _image_error(field.image, error) from error


class FieldSlide:
    """A slide as `data.fields.images.OpenSlide` wants it."""

    def __init__(self, slide: Slide) -> None:
        self._slide = slide

    def read(
        self, x: float, y: float, size: tuple[int, int], downsample: float, away: int = 0
    ) -> NDArray[np.uint8]:
        """See `data.fields.images.OpenSlide`."""
        try:
            seen = self._slide.on_plane(self._beside(away)) if away else self._slide
            return seen.read_region(x, y, Size(*size), downsample)
        except CytoLibraError as error:
            raise _image_error(self._slide.path, error) from error

    def _beside(self, away: int) -> int | None:
        """The readable focal plane so many steps from the slide's own; None where it has one."""
        slide = self._slide
        readable = [n for n, plane in enumerate(slide.planes) if plane.readable]
        if slide.plane is None or slide.plane not in readable:
            return None
        wanted = readable.index(slide.plane) + away
        return readable[min(max(wanted, 0), len(readable) - 1)]

    def overview(self, mpp: float) -> tuple[NDArray[np.uint8], NDArray[np.bool_], float]:
        """See `data.fields.images.OpenSlide`; cells may be where screening would look for them."""
        step = mpp / self._slide.mpp
        with open_slide(self._slide.path, self._slide.mpp) as slide:  # past any cache: read once
            image, readable = slide.overview(step)
        return image, foreground_mask(image, mpp) & readable, step

    def close(self) -> None:
        """Gives back the file."""
        self._slide.close()


def _is_picture(path: Path) -> bool:
    """Whether a file is a plain image, by its content as for screening.

    One that is called like a slide is left to whoever opens slides, to read or to refuse.
    """
    try:
        return path.suffix.lower() not in SLIDE_SUFFIXES and is_picture(path)
    except OSError:  # opening it as a slide says what is wrong
        return False


def _check_folder(cache: Path) -> None:
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=cache):
            pass
    except OSError as error:
        raise ConfigError(f"data.cache {cache}: can't be written to: {error.strerror}") from error


def _properties(path: Path) -> dict[str, str]:
    """What OpenSlide tells of a slide; nothing for files that it doesn't know."""
    import openslide

    try:
        with openslide.OpenSlide(path) as slide:
            return dict(slide.properties)
    except openslide.OpenSlideError:
        return {}


def _image_error(path: Path, error: CytoLibraError) -> ImageError:
    return ImageError(path, str(error).removeprefix(f"{path}: "))
