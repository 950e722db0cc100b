"""QuPath's GeoJSON: features in level-0 pixels, classified by name or by names.

QuPath before 0.5 writes ``"classification": {"name": "HSIL"}``, later versions write
``{"names": ["HSIL", "Positive"]}`` for derived classes, which QuPath shows as ``HSIL: Positive``
(qupath-core, ``QuPathTypeAdapters``, ``PathClassTypeAdapter``). The image's name stands nowhere in
the file: it is the file's own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from data.annotations.classes import UNCLASSIFIED
from data.annotations.drawing import Drawing, Shape, draw, mark, nothing, outline
from data.annotations.files import Content, own_name

SUFFIXES = (".geojson", ".json", ".geojson.gz", ".json.gz")


def matches(path: Path, content: Content) -> bool:
    """Whether a file is a collection, a list of features, or one feature."""
    if isinstance(content, list) and content:
        content = content[0]
    return isinstance(content, dict) and content.get("type") in ("FeatureCollection", "Feature")


def read(path: Path, content: Content) -> Iterator[Drawing]:
    """What the file draws on the image of its name."""
    shapes = (shape for feature in _features(content) for shape in _shapes(feature))
    yield draw(own_name(path, SUFFIXES), shapes)


def _features(content: Content) -> list[Mapping[str, Any]]:
    if isinstance(content, list):
        return content
    return content["features"] if content["type"] == "FeatureCollection" else [content]


def _shapes(feature: Mapping[str, Any]) -> Iterator[Shape]:
    name = _class_of(feature.get("properties") or {})
    geometry = feature["geometry"] or {"type": "nothing", "coordinates": []}
    kind, coordinates = geometry["type"], geometry.get("coordinates", [])
    if kind == "Polygon":
        yield outline(name, *coordinates)
    elif kind == "MultiPolygon":
        yield _several(name, coordinates)
    elif kind == "Point":
        yield mark(name, *coordinates[:2])
    elif kind == "MultiPoint":
        yield from (mark(name, *point[:2]) for point in coordinates)
    else:
        yield nothing(name)


def _several(name: str, polygons: list[list[Any]]) -> Shape:
    """Polygons that are one object: of which the box holds all, so their rings come together."""
    return outline(name, *(ring for polygon in polygons for ring in polygon))


def _class_of(properties: Mapping[str, Any]) -> str:
    given = properties.get("classification") or {}
    if isinstance(given, str):
        return given
    names = given.get("names") or [given.get("name") or UNCLASSIFIED]
    return ": ".join(names)
