"""What the metadata of an OME-Zarr says of its picture (NGFF 0.4 and 0.5).

https://ngff.openmicroscopy.org: a group with ``multiscales`` is a picture whose levels are arrays;
a group of several, as bioformats2raw writes it, holds pictures called 0, 1 and so on.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import SlideError
from pipeline.slides.readers.base import show
from pipeline.slides.readers.zarr_array import read_json
from pipeline.slides.readers.zarr_files import (
    FOLDER_ENDING,
    METADATA,
    FolderFiles,
    ZarrFiles,
    is_safe,
)

MOST_LEVELS, MOST_PICTURES = 64, 64

_UNITS = {
    "angstrom": 1e-4, "nanometer": 1e-3, "micrometer": 1.0, "millimeter": 1e3, "centimeter": 1e4,
    "meter": 1e6, "inch": 25_400.0, "picometer": 1e-6,
}  # fmt: skip
"""µm of the units of length that NGFF names; others, and none, are no scale."""

_KINDS = {"t": "time", "c": "channel", "z": "space", "y": "space", "x": "space"}
"""Axes that are read, and their types."""

_RGB = ["FF0000", "00FF00", "0000FF"]
_COPY = "; it is damaged: copy it again"


@dataclass(frozen=True)
class Dataset:
    """One level of a picture.

    Attributes:
        key: of its array.
        scale: length of a pixel by axis, in the axis' unit; None where nothing is stated.
        shift: likewise, where the middle of its first pixel lies.
    """

    key: str
    scale: tuple[float, ...] | None
    shift: tuple[float, ...]


@dataclass(frozen=True)
class Picture:
    """One picture.

    Attributes:
        key: of its group; empty for that of the Zarr.
        name: that it is given; empty for none.
        version: of NGFF.
        axes: their names, such as t, c, z, y, x.
        units: µm in the unit of each axis; None for an axis of no length, or no known unit.
        levels: in the order of the file, which is finest first.
        colors: of its channels, as stated; empty for one of which nothing is.
        more: how many more are called the same picture, of which NGFF says to take the first.
    """

    key: str
    name: str
    version: str
    axes: tuple[str, ...]
    units: tuple[float | None, ...]
    levels: tuple[Dataset, ...]
    colors: tuple[str, ...]
    more: int


def is_picture_folder(folder: Path) -> bool:
    """Whether a folder is a Zarr that says it has a picture, or several; looks at its root alone.

    Raises:
        OSError: it may not be looked at.
    """
    if not any((folder / name).exists() for name in METADATA):
        return False
    try:
        stated = _ome(attributes_of(FolderFiles(folder), ""))[0]
    except SlideError:  # it says what is wrong when it is opened
        return folder.suffix.lower() == FOLDER_ENDING
    return any(key in stated for key in ("multiscales", "bioformats2raw.layout", "plate"))


def attributes_of(files: ZarrFiles, key: str) -> dict[str, Any]:
    """The attributes of a group; empty where there is none.

    Raises:
        SlideError: they can't be read.
    """
    start = f"{key}/" if key else ""
    group = read_json(files, f"{start}zarr.json")
    if group is not None:
        found = group.get("attributes")
        return found if isinstance(found, dict) else {}
    return read_json(files, f"{start}.zattrs") or {}


def pictures_of(files: ZarrFiles) -> list[Picture]:
    """All pictures of a Zarr, in its order.

    Raises:
        SlideError: it has none, or none that can be read.
    """
    stated, version = _ome(attributes_of(files, ""))
    if "multiscales" in stated:
        return [_picture("", stated, version)]
    if "plate" in stated or "well" in stated:
        raise SlideError("is a plate of wells, not a slide; name one of its pictures, a/1/0 say")
    if "bioformats2raw.layout" not in stated:
        raise SlideError(
            "is a Zarr without a picture: its metadata names no multiscales; convert it by "
            "bioformats2raw, or to OME-TIFF",
            "kind-not-read",
        )
    pictures = list(_several(files))
    if not pictures:
        raise SlideError("holds no picture 0, which its layout says; copy it again", "data-missing")
    return pictures


def _several(files: ZarrFiles) -> Iterator[Picture]:
    series = _ome(attributes_of(files, "OME"))[0].get("series")
    keys = series if isinstance(series, list) else map(str, range(MOST_PICTURES + 1))
    for number, key in enumerate(keys):
        if not isinstance(key, str) or not is_safe(key):
            raise SlideError(
                f"names {show(repr(key)[:80])} as a picture, which is no place below its folder; a "
                "picture that lies elsewhere is not read"
            )
        stated, version = _ome(attributes_of(files, key))
        if "multiscales" not in stated:
            if isinstance(series, list):
                raise SlideError(f"lacks its picture {show(key)}; copy it again", "data-missing")
            return
        if number == MOST_PICTURES:
            raise SlideError(
                f"holds more than {MOST_PICTURES} pictures; name the one that is meant, as a "
                "folder of its own",
                "several-areas",
            )
        yield _picture(key, stated, version)


def _ome(attributes: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """What is NGFF's of a group's attributes, and the version where it is stated for all."""
    ome = attributes.get("ome")
    if isinstance(ome, dict):
        return ome, str(ome.get("version", ""))
    return attributes, ""


def _picture(key: str, stated: dict[str, Any], version: str) -> Picture:
    several = stated["multiscales"]
    if not isinstance(several, list) or not several or not isinstance(several[0], dict):
        raise SlideError(f"its multiscales are none{_COPY}")
    first = several[0]
    version = version or str(first.get("version", "0.4"))
    if version not in ("0.4", "0.5"):
        raise SlideError(
            f"is of NGFF {show(version[:20])}; 0.4 and 0.5 are read: convert it, by bioformats2raw "
            "say, or to OME-TIFF",
            "kind-not-read",
        )
    axes, units = _axes(first.get("axes"))
    datasets = first.get("datasets")
    if not isinstance(datasets, list) or not 0 < len(datasets) <= MOST_LEVELS:
        raise SlideError(f"its multiscales name no datasets, or more than {MOST_LEVELS}{_COPY}")
    shared = _transform(first.get("coordinateTransformations"), len(axes))
    name = first.get("name")
    return Picture(
        key,
        name if isinstance(name, str) else "",
        version,
        axes,
        units,
        tuple(_dataset(one, key, shared, len(axes)) for one in datasets),
        _colors(stated.get("omero")),
        len(several) - 1,
    )


def _axes(stated: Any) -> tuple[tuple[str, ...], tuple[float | None, ...]]:
    if not isinstance(stated, list) or not all(isinstance(one, dict) for one in stated):
        raise SlideError("states no axes by name and type, as NGFF 0.4 and 0.5 do; convert it")
    names = [one.get("name") for one in stated]
    unknown = [one for one in names if not isinstance(one, str) or one not in _KINDS]
    if unknown or len(set(names)) < len(names) or not {"y", "x"} <= set(names):
        told = show(repr(names)[:80])
        raise SlideError(f"its axes are {told}; a picture has x and y, and may have t, c and z")
    for one in stated:
        if one.get("type") not in (None, _KINDS[one["name"]]):
            told = show(repr(one["type"])[:40])
            raise SlideError(f"its axis {one['name']} is of type {told}, not {_KINDS[one['name']]}")
    units = (one.get("unit") if _KINDS[one["name"]] == "space" else None for one in stated)
    known = tuple(_UNITS.get(unit) if isinstance(unit, str) else None for unit in units)
    return tuple(names), known


def _dataset(
    stated: Any, group: str, shared: tuple[tuple[float, ...] | None, tuple[float, ...]], axes: int
) -> Dataset:
    path = stated.get("path") if isinstance(stated, dict) else None
    if not isinstance(path, str) or not is_safe(path):
        raise SlideError(
            f"names {show(repr(path)[:80])} as a level, which is no place below its folder; a "
            "level that lies elsewhere is not read"
        )
    scale, shift = _transform(stated.get("coordinateTransformations"), axes)
    factor = shared[0] or (1.0,) * axes
    moved = tuple(a * f + b for a, f, b in zip(shift, factor, shared[1], strict=True))
    if scale is not None:
        scale = tuple(a * f for a, f in zip(scale, factor, strict=True))
    return Dataset(f"{group}/{path}" if group else path, scale, moved)


def _transform(stated: Any, axes: int) -> tuple[tuple[float, ...] | None, tuple[float, ...]]:
    """Scale and shift of a list of transformations: none or one of each, the scale first.

    Raises:
        SlideError: they are anything else.
    """
    shift = (0.0,) * axes
    if stated is None:
        return None, shift
    kinds = [one.get("type") if isinstance(one, dict) else None for one in stated or ()] if (
        isinstance(stated, list)) else None  # fmt: skip
    if kinds not in ([], ["scale"], ["scale", "translation"], ["identity"]):
        told = show(repr(kinds)[:80])
        raise SlideError(f"its coordinate transformations are {told}; a scale and a translation "
                         "behind it are read")  # fmt: skip
    scale = None
    for kind, one in zip(kinds, stated, strict=True):
        values = one.get(kind)
        if kind == "identity":
            continue
        sound = isinstance(values, list) and len(values) == axes
        if not sound or not all(_is_number(value) for value in values):
            raise SlideError(
                f"its {kind} {show(repr(values)[:80])} is none of {axes} numbers in the metadata; "
                "write it anew"
            )
        if kind == "scale":
            scale = tuple(map(float, values))
        else:
            shift = tuple(map(float, values))
    return scale, shift


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < 1e15  # which no NaN is


def _colors(omero: Any) -> tuple[str, ...]:
    channels = omero.get("channels") if isinstance(omero, dict) else None
    if not isinstance(channels, list):
        return ()
    found = [one.get("color") if isinstance(one, dict) else None for one in channels]
    return tuple(one.upper() if isinstance(one, str) else "" for one in found)


def is_rgb(colors: tuple[str, ...]) -> bool | None:
    """Whether channels of these colours are red, green and blue; None where that isn't said.

    Equal ones say nothing.
    """
    if len(set(colors)) <= 1:
        return None
    stated = [(color, wanted) for color, wanted in zip(colors, _RGB, strict=False) if color]
    if len(colors) > len(_RGB) or any(color != wanted for color, wanted in stated):
        return False
    return True if len(stated) == len(_RGB) else None
