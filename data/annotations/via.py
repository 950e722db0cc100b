"""VGG Image Annotator, versions 1 and 2: its CSV, its JSON and its projects, in pixels.

Which attribute of a region is its class the file doesn't say: it is the only one that regions have,
else the one with a name such as ``class`` or ``label``. Where an attribute is a list to tick, what
is ticked is the class. Images without regions are fields without cells.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from data.annotations.classes import UNCLASSIFIED
from data.annotations.drawing import (
    NEGATIVE,
    Drawing,
    Remark,
    Shape,
    box,
    draw,
    ellipse,
    mark,
    nothing,
    outline,
)
from data.annotations.files import Content
from data.annotations.values import (
    as_list,
    as_number,
    as_numbers,
    as_record,
    as_text,
    shown,
)

SUFFIXES = (".csv", ".json")

_HEADER = {"region_shape_attributes", "region_attributes"}

CLASS_ATTRIBUTES = (
    "class",
    "label",
    "classification",
    "category",
    "diagnosis",
    "bethesda",
    "name",
    "type",
)
"""Names of attributes that mean the class where regions have several."""

Record: TypeAlias = Mapping[str, Any]
Regions: TypeAlias = list[tuple[Record, Record]]
"""Of each region its shape and its attributes."""


def matches(path: Path, content: Content) -> bool:
    """Whether a file is VIA's."""
    if isinstance(content, str):
        return path.suffix.lower() == ".csv" and set(_header(content)) >= _HEADER
    if not isinstance(content, dict):
        return False
    if "_via_img_metadata" in content or {"project", "metadata", "view"} <= set(content):
        return True
    first = next(iter(content.values()), None)
    return isinstance(first, dict) and {"filename", "regions"} <= set(first)


def read(path: Path, content: Content) -> Iterator[Drawing]:
    """What the file draws, image by image."""
    images = _rows(content) if isinstance(content, str) else _records(content)
    attribute, remarks = _class_attribute([one for regions in images.values() for one in regions])
    for name, regions in images.items():
        yield draw(
            name,
            [
                _shape(shape, _class_of(attributes, attribute, what), what)
                for n, (shape, attributes) in enumerate(regions, 1)
                for what in [f"region {n} of {name}"]
            ],
            remarks=remarks,
        )
        remarks = []  # of the file as a whole, so told with its first image


def _header(content: str) -> list[str]:
    try:
        first = next(csv.reader([content.partition("\n")[0]]), [])
    except csv.Error:
        return []
    return [name.strip().lstrip("#").strip() for name in first]


def _rows(content: str) -> dict[str, Regions]:
    """Regions by image, from CSV."""
    header = _header(content)
    images: dict[str, Regions] = {}
    for number, row in enumerate(csv.reader(io.StringIO(content, newline="")), 1):
        if number == 1 or not any(row):
            continue
        if len(row) != len(header):
            raise ValueError(f"row {number} has {len(row)} columns, the header {len(header)}")
        values = dict(zip(header, row, strict=True))
        name = as_text(values.get("filename"), f"the filename in row {number}")
        regions = images.setdefault(name, [])
        shape = _parsed(values["region_shape_attributes"], f"region_shape_attributes, row {number}")
        if shape:
            what = f"region_attributes, row {number}"
            regions.append((shape, _parsed(values["region_attributes"], what)))
    return images


def _parsed(text: str, what: str) -> Record:
    try:
        return as_record(json.loads(text or "{}"), what)
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{what}: not valid JSON: {shown(text)}") from error


def _records(content: Record) -> dict[str, Regions]:
    """Regions by image, from JSON or a project."""
    if "_via_img_metadata" not in content and {"project", "metadata"} <= set(content):
        raise ValueError("this is a project of VIA 3, which isn't read; export it as COCO")
    found = as_record(content.get("_via_img_metadata", content), "_via_img_metadata")
    images: dict[str, Regions] = {}
    for key, value in found.items():
        record = as_record(value, f"the image {shown(key)}")
        name = as_text(record.get("filename"), f"the filename of {shown(key)}")
        if name in images:
            raise ValueError(f"two images are called {name}")
        images[name] = [
            (
                as_record(one.get("shape_attributes"), f"shape_attributes of {name}"),
                as_record(one.get("region_attributes") or {}, f"region_attributes of {name}"),
            )
            for one in _regions(record.get("regions"), name)
        ]
    return images


def _regions(value: object, name: str) -> list[Record]:
    """Version 1 numbers regions by keys, version 2 lists them."""
    listed = list(value.values()) if isinstance(value, Mapping) else value
    return [
        as_record(one, f"a region of {name}")
        for one in as_list(listed or [], f"the regions of {name}")
    ]


def _class_attribute(regions: Regions) -> tuple[str, list[Remark]]:
    """The attribute that is the class; empty where regions have none.

    Raises:
        ValueError: it can't be told which one.
    """
    counts = Counter(key for _, attributes in regions for key in attributes)
    if len(counts) < 2:
        return next(iter(counts), ""), []
    known = [name for name in counts if name.strip().casefold() in CLASS_ATTRIBUTES]
    if len(known) != 1:
        raise ValueError(
            f"regions have the attributes {', '.join(counts)}: which one is the class can't be "
            f"told; call it class, and no other one {', '.join(CLASS_ATTRIBUTES[1:])}"
        )
    others = ", ".join(name for name in counts if name != known[0])
    text = f"the attribute {known[0]} is taken as the class, {others} left aside"
    return known[0], [Remark("class-attribute", text)]


def _class_of(attributes: Record, key: str, what: str) -> str:
    value = attributes.get(key)
    if isinstance(value, Mapping):  # a list to tick
        ticked = [str(name) for name, on in value.items() if on]
        if len(ticked) > 1:
            raise ValueError(f"{what} has several classes: {', '.join(ticked)}")
        value = ticked[0] if ticked else None
    return UNCLASSIFIED if value in (None, "") else as_text(value, f"{key} of {what}")


def _shape(shape: Record, name: str, what: str) -> Shape:
    kind = shape.get("name")
    if kind == "rect":
        x, y, width, height = _numbers(shape, what, "x", "y", "width", "height")
        drawn = box(name, [x, y, x + width, y + height])
        return drawn.remarked("corners-swapped", NEGATIVE) if min(width, height) < 0 else drawn
    if kind == "circle":
        x, y, radius = _numbers(shape, what, "cx", "cy", "r")
        return ellipse(name, (x, y), (radius, radius))
    if kind == "ellipse":
        x, y, rx, ry = _numbers(shape, what, "cx", "cy", "rx", "ry")
        turned = math.degrees(as_number(shape.get("theta", 0), f"theta of {what}"))
        return ellipse(name, (x, y), (rx, ry), turned)
    if kind == "polygon":
        return _polygon(shape, name, what)
    if kind == "point":
        return mark(name, *_numbers(shape, what, "cx", "cy"))
    if kind in ("polyline", "line"):
        return nothing(name, f"{kind}s")
    raise ValueError(f"{what} is of the kind {shown(kind)}, which isn't one of VIA's")


def _polygon(shape: Record, name: str, what: str) -> Shape:
    xs, ys = (as_numbers(shape.get(f"all_points_{axis}"), f"all_points_{axis} of {what}")
              for axis in "xy")  # fmt: skip
    if len(xs) != len(ys) or len(xs) < 3:
        raise ValueError(f"the polygon of {what} has {len(xs)} x and {len(ys)} y")
    return outline(name, np.column_stack([xs, ys]))


def _numbers(shape: Record, what: str, *keys: str) -> Sequence[float]:
    return [as_number(shape.get(key), f"{key} of {what}") for key in keys]
