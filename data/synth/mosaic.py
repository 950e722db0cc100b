"""Real annotated fields, laid out on a slide: what measurements on real cells are made on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from configs import ConfigError
from data.annotations import read_coco
from data.fields.fieldset import Field, FieldSet
from data.pixels.plain import PictureError, read_picture
from data.resample import resample
from data.synth.noise import CAMERA, field_over, texture, window
from data.synth.region import Region

_DECODED = 24
"""Fields that are kept decoded: more than a block of the slide ever shows at once."""


@dataclass(frozen=True)
class AnnotatedField:
    """One field with its truth.

    Attributes:
        image: its file.
        size: (width, height) in its own pixels.
        mpp: µm per pixel.
        boxes: (N, 4) float64 xyxy in its pixels.
        nuclei: (N, 2) nucleus centres.
        labels: (N,) indices into the set's classes.
    """

    image: Path
    size: tuple[int, int]
    mpp: float
    boxes: NDArray[np.float64]
    nuclei: NDArray[np.float64]
    labels: NDArray[np.int64]


def read_fields(path: Path, images: Path) -> tuple[tuple[str, ...], list[AnnotatedField]]:
    """Reads annotated fields and the names of their classes from COCO.

    Where an annotation gives no ``nucleus``, the middle of its box is taken.

    Raises:
        ConfigError: as `data.annotations.read_coco`; or a field says no mpp.
    """
    fields = read_coco(path, images)
    return fields.classes, annotated_fields(fields)


def annotated_fields(fields: FieldSet) -> list[AnnotatedField]:
    """What a mosaic needs of fields that were read.

    Raises:
        ConfigError: a field says no mpp.
    """
    return [_annotated(field) for field in fields.fields]


def _annotated(field: Field) -> AnnotatedField:
    if not field.mpp:
        raise ConfigError(f"{field.image}: the annotations give no mpp for this image")
    counted = ~field.crowd
    return AnnotatedField(
        image=field.image,
        size=(field.width, field.height),
        mpp=float(field.mpp),
        boxes=field.boxes[counted].astype(np.float64),
        nuclei=field.nuclei[counted].astype(np.float64),
        labels=field.labels[counted],
    )


@dataclass(frozen=True)
class Layout:
    """How fields are laid out.

    Attributes:
        columns: fields side by side; by default about as many as make the slide square.
        size: (width, height) of the slide in pixels; by default what the fields need.
        fill: lay fields again and again until the slide is full; needs ``size``.
        gap_um: mean gap between fields; each lies somewhere in its share of it.
    """

    columns: int | None = None
    size: tuple[int, int] | None = None
    fill: bool = False
    gap_um: float = 60.0


@dataclass(frozen=True)
class Mosaic:
    """Fields on a slide, each resampled whole to the slide's mpp.

    Attributes:
        fields: those on the slide, in order; one may be there more than once.
        places: where the fields' pixels go.
        size: (width, height) of the slide in pixels.
        mpp: µm per pixel of the slide.
        seed: of the glass between the fields.
        background: RGB of the glass.
    """

    fields: Sequence[AnnotatedField]
    places: Sequence[Region]
    size: tuple[int, int]
    mpp: float
    seed: int
    background: NDArray[np.float64]

    def draw(self, region: Region) -> NDArray[np.uint8]:
        """The region's pixels, (height, width, 3) uint8."""
        canvas = self._glass(region)
        for one, place in zip(self.fields, self.places, strict=True):
            part = place.meet(region)
            if part.width and part.height:
                pixels = load_field(one.image, one.size, (place.width, place.height))
                y, x = part.y - place.y, part.x - place.x
                rows = slice(part.y - region.y, part.bottom - region.y)
                columns = slice(part.x - region.x, part.right - region.x)
                canvas[rows, columns] = pixels[y : y + part.height, x : x + part.width]
        return canvas

    def truth(
        self, region: Region
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
        """Boxes (N, 4) xyxy, nuclei (N, 2), labels (N,) of cells whose nucleus is in a region."""
        boxes, nuclei, labels = [np.zeros((0, 4))], [np.zeros((0, 2))], [np.zeros(0, np.int64)]
        for one, place in zip(self.fields, self.places, strict=True):
            scale = np.array([place.width, place.height]) / one.size
            centers = one.nuclei * scale + (place.x, place.y)
            inside = (centers >= region[:2]) & (centers < (region.right, region.bottom))
            shown = inside.all(1)
            boxes.append((one.boxes * np.tile(scale, 2) + (*place[:2], *place[:2]))[shown])
            nuclei.append(centers[shown])
            labels.append(one.labels[shown])
        return np.concatenate(boxes), np.concatenate(nuclei), np.concatenate(labels)

    def depths(self, region: Region) -> None:
        """None: fields were photographed in one focal plane."""

    @property
    def plane_places(self) -> tuple[float, ...]:
        """Of its only plane."""
        return (0.0,)

    def in_planes(self) -> tuple[Mosaic, ...]:
        """The slide itself, in its only plane."""
        return (self,)

    def _glass(self, region: Region) -> NDArray[np.uint8]:
        """Pale, a little uneven, with the camera's grain, as between the cells of the fields."""
        x = np.asarray(np.arange(region.x, region.right) * self.mpp, np.float64)
        y = np.asarray(np.arange(region.y, region.bottom) * self.mpp, np.float64)
        light = 6.0 * field_over(self.seed, 500.0, x, y) - 3.0
        light += 1.5 * window(texture(CAMERA, self.mpp), *region)
        canvas = self.background.astype(np.float32) + light[..., None]
        return np.clip(canvas, 0.0, 255.0).astype(np.uint8)


def lay_out(
    fields: Sequence[AnnotatedField], mpp: float | None, seed: int, layout: Layout
) -> Mosaic:
    """Lays fields on a grid with jitter, in random order.

    Args:
        fields: at least one.
        mpp: of the slide; by default the first field's.
        seed: of order and jitter.
        layout: the wishes.

    Raises:
        ConfigError: the fields do not fit the wanted size.
    """
    rng = np.random.default_rng([seed, 4])
    mpp = mpp or fields[0].mpp
    sizes = np.array([_resampled_size(one, mpp) for one in fields])
    pitch = sizes.max(0) + max(2, round(layout.gap_um / mpp))
    columns, rows, size = _grid(len(fields), pitch, layout)
    count = columns * rows if layout.fill else len(fields)
    order = np.concatenate([rng.permutation(len(fields)) for _ in range(-(-count // len(fields)))])
    order = order[:count]
    slack = rng.uniform(0.0, 1.0, (count, 2)) * (pitch - sizes[order])
    corner = np.stack([np.arange(count) % columns, np.arange(count) // columns], 1) * pitch
    places = [
        Region(int(x), int(y), int(width), int(height))
        for (x, y), (width, height) in zip(corner + slack, sizes[order], strict=True)
    ]
    glass = glass_of(fields)
    return Mosaic([fields[i] for i in order], places, size, mpp, seed, glass)


def _resampled_size(one: AnnotatedField, mpp: float) -> tuple[int, int]:
    scale = one.mpp / mpp
    return max(1, round(one.size[0] * scale)), max(1, round(one.size[1] * scale))


def _grid(count: int, pitch: NDArray[np.int64], layout: Layout) -> tuple[int, int, tuple[int, int]]:
    """Columns, rows and the slide's size in pixels."""
    if layout.size is None:
        near_square = round(np.sqrt(count * pitch[1] / pitch[0]))
        columns = layout.columns or min(max(1, near_square), count)
        rows = -(-count // columns)
        return columns, rows, (int(columns * pitch[0]), int(rows * pitch[1]))
    columns, rows = (int(n) for n in np.array(layout.size) // pitch)
    columns = min(columns, layout.columns or columns)
    if columns * rows < (1 if layout.fill else count):
        need = pitch if layout.fill else pitch * _near_square(count, pitch)
        raise ConfigError(
            f"--size {layout.size[0]}x{layout.size[1]}: {count} fields do not fit; "
            f"{need[0]}x{need[1]} would do"
        )
    return columns, rows, layout.size


def _near_square(count: int, pitch: NDArray[np.int64]) -> NDArray[np.int64]:
    columns = max(1, round(np.sqrt(count * pitch[1] / pitch[0])))
    return np.array([columns, -(-count // columns)])


def glass_of(fields: Sequence[AnnotatedField], sample: int = 9) -> NDArray[np.float64]:
    """RGB of the fields' clear background: the bright end of some of them, in the median."""
    step = max(1, len(fields) // sample)
    bright = [
        np.percentile(load_field(one.image, one.size, one.size).reshape(-1, 3)[::97], 90, axis=0)
        for one in fields[::step][:sample]
    ]
    return np.asarray(np.median(bright, axis=0))


@lru_cache(maxsize=_DECODED)
def load_field(path: Path, own: tuple[int, int], wanted: tuple[int, int]) -> NDArray[np.uint8]:
    """A field's pixels, resampled from its ``own`` size to the ``wanted`` one.

    Raises:
        ConfigError: the image can't be read, or has not the size that its annotations say.
    """
    try:
        pixels = read_picture(path).pixels
    except PictureError as error:
        raise ConfigError(f"{path}: {error}") from error
    height, width = pixels.shape[:2]
    if (width, height) != own:
        raise ConfigError(
            f"{path}: it has {width}x{height} pixels, the annotations say {own[0]}x{own[1]}"
        )
    return resample(pixels, wanted)
