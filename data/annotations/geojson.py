"""QuPath's GeoJSON: features in level-0 pixels, classified by name or by names.

QuPath before 0.5 writes ``"classification": {"name": "HSIL"}``, later versions write
``{"names": ["HSIL", "Positive"]}`` for derived classes, which QuPath shows as ``HSIL: Positive``
(qupath-core, ``QuPathTypeAdapters``, ``PathClassTypeAdapter``). The image's name stands nowhere in
the file: it is the file's own. QuPath opens a slide that has bounds cropped to them, so its (0, 0)
is their corner.

A position is x, y and maybe an altitude, which is left out (RFC 7946, 3.1.1). Of a collection of
geometries the polygons are one object; one cell on several focal planes is one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from configs import ConfigError
from configs.doubts import with_code
from data.annotations.classes import UNCLASSIFIED
from data.annotations.doubles import overlapping, repeated
from data.annotations.drawing import Drawing, Remark, Shape, draw, mark, nothing, outline
from data.annotations.files import Content, own_name
from data.annotations.own import screened_slide
from data.annotations.values import as_list, as_number, as_record, shown

SUFFIXES = (".geojson", ".json", ".geojson.gz", ".json.gz")

SAME_CELL = 0.5
"""Intersection over union above which boxes on different focal planes are one cell."""

_COLLECTION = ("FeatureCollection", "Feature")
_NO_CELLS = {"tile", "tma_core", "tmacore", "root"}
_DEEPEST = 20  # collections within collections

Position = NDArray[np.float64]


def matches(path: Path, content: Content) -> bool:
    """Whether a file is a collection, a list of features, or one feature."""
    if isinstance(content, list) and content:
        content = content[0]
    return isinstance(content, dict) and content.get("type") in _COLLECTION


def read(path: Path, content: Content) -> Iterator[Drawing]:
    """What the file draws on the image of its name.

    Raises:
        ConfigError: its coordinates are of places on the Earth.
    """
    _check_crs(path, content)
    found = _Found()
    for number, feature in enumerate(_features(content), 1):
        try:
            found.add(feature)
        except (
            KeyError,
            TypeError,
            ValueError,
            AttributeError,
            IndexError,
            OverflowError,
        ) as error:
            missing = f"{error} is missing" if isinstance(error, KeyError) else str(error)
            raise ValueError(f"feature {number}: {missing}") from error
    own = screened_slide(path)
    told = [Remark("detections-read", "these cells were found by a model")] if own else []
    name = own or own_name(path, SUFFIXES)
    remarks = Counter(told) + found.remarks()
    # What `screen` wrote before it knew of QuPath's frame names none: it lies in the slide's.
    older = own is not None and isinstance(content, dict) and "frame" not in content
    yield draw(name, found.cells(), frame="slide" if older else "bounds", remarks=remarks)


@dataclass
class _Found:
    """Shapes of a file, and what was odd about them.

    Attributes:
        shapes: in the order of the file.
        planes: of each shape, z, c and t of its focal plane.
        left_out: kinds of objects that are no cells.
        deep: corners that have a third number, which isn't that of others.
    """

    shapes: list[Shape] = field(default_factory=list)
    planes: list[tuple[int, int, int]] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    heights: set[float] = field(default_factory=set)
    deep: int = 0

    def add(self, feature: Mapping[str, Any]) -> None:
        """Takes up one feature.

        Raises:
            ValueError, TypeError, KeyError: it isn't as GeoJSON has it.
        """
        properties = as_record(feature.get("properties") or {}, "properties")
        kind = _kind_of(feature, properties)
        if kind in _NO_CELLS:
            self.left_out[kind] += 1
            return
        name = _class_of(properties)
        geometry = as_record(feature.get("geometry") or {}, "geometry")
        nucleus = self._middle(feature.get("nucleusGeometry"))
        shapes = list(self._shapes(name, geometry, nucleus))
        self.shapes += shapes
        self.planes += [_plane(geometry)] * len(shapes)

    def cells(self) -> list[Shape]:
        """The shapes, one cell on several focal planes once."""
        return [s for s, again in zip(self.shapes, self._repeats(), strict=True) if not again]

    def remarks(self) -> Counter[Remark]:
        """What was odd, and how often."""
        found: Counter[Remark] = Counter()
        for kind, count in self.left_out.items():
            text = f"objects of type {kind} are no cells, and are left out"
            found[Remark("tiles-left-out", text)] = count
        if len(self.heights) > 1:
            text = "corners have a third number, which is left out"
            found[Remark("z-left-out", text)] = self.deep
        text = "boxes on another focal plane, over one of their class, are the same cell"
        found[Remark("planes-merged", text)] = int(self._repeats().sum())
        return found

    def _repeats(self) -> NDArray[np.bool_]:
        """Which shapes (N,) are a cell that was drawn before, on another focal plane."""
        again = np.zeros(len(self.shapes), bool)
        if len(set(self.planes)) < 2:
            return again
        drawn = [i for i, shape in enumerate(self.shapes) if shape.rings]
        corners = [np.concatenate(self.shapes[i].rings) for i in drawn]
        boxes = np.array([[*c.min(0), *c.max(0)] for c in corners], np.float64).reshape(-1, 4)
        names = np.array([self.shapes[i].name for i in drawn])
        planes = np.array([self.planes[i] for i in drawn]).reshape(-1, 3)
        one, other = overlapping(boxes, SAME_CELL).T
        same = (names[one] == names[other]) & (planes[one] != planes[other]).any(1)
        again[drawn] = repeated(len(drawn), np.column_stack([one, other])[same])
        return again

    def _shapes(
        self, name: str, geometry: Mapping[str, Any], nucleus: Position | None
    ) -> Iterator[Shape]:
        rings, points, lines = self._parts(geometry)
        if rings:
            yield outline(name, *rings)._replace(nucleus=nucleus)
        elif points:
            yield from (mark(name, *point) for point in points)
        elif not lines:
            lines = ["features without a geometry"]
        yield from (nothing(name, kind) for kind in lines)

    def _middle(self, geometry: Any) -> Position | None:
        """The middle of a nucleus, where there is one."""
        if not geometry:
            return None
        rings, points, _ = self._parts(as_record(geometry, "nucleusGeometry"))
        if not rings and not points:
            return None
        corners = np.concatenate([*rings, *(np.reshape(point, (1, 2)) for point in points)])
        return (corners.min(0) + corners.max(0)) / 2

    def _parts(
        self, geometry: Mapping[str, Any], depth: int = 0
    ) -> tuple[list[Position], list[Position], list[str]]:
        """Rings, points, and the kinds of what encloses nothing.

        Polygons of one object come together, since its box holds all of them.
        """
        kind = geometry.get("type")
        if kind is None and not geometry:
            return [], [], []
        if kind == "GeometryCollection":
            if depth > _DEEPEST:
                raise ValueError("collections lie too deep in each other")
            rings: list[Position] = []
            points: list[Position] = []
            lines: list[str] = []
            for part in as_list(geometry["geometries"], "geometries"):
                found = self._parts(as_record(part, "geometry"), depth + 1)
                rings, points, lines = rings + found[0], points + found[1], lines + found[2]
            return rings, points, lines
        coordinates = as_list(geometry["coordinates"], "coordinates")
        if kind == "Polygon":
            return self._rings(coordinates), [], []
        if kind == "MultiPolygon":
            polygons = [self._rings(as_list(polygon, "a polygon")) for polygon in coordinates]
            return [ring for polygon in polygons for ring in polygon], [], []
        if kind == "Point":
            return [], list(self._positions([coordinates])) if coordinates else [], []
        if kind == "MultiPoint":
            return [], list(self._positions(coordinates)), []
        if kind in ("LineString", "MultiLineString"):
            return [], [], ["lines"]
        raise ValueError(f"a geometry of type {shown(kind)}")

    def _rings(self, coordinates: Sequence[Any]) -> list[Position]:
        rings = [self._positions(as_list(ring, "a ring")) for ring in coordinates]
        return [ring for ring in rings if len(ring)]

    def _positions(self, positions: Sequence[Any]) -> Position:
        """Positions (K, 2); what is behind x and y is counted."""
        try:
            found = np.array(positions)
        except ValueError:  # of different lengths
            found = np.array(None)
        if not len(positions):
            return np.zeros((0, 2))
        if found.ndim == 2 and found.shape[1] == 2 and found.dtype.kind in "iuf":
            return found.astype(np.float64)
        return self._mixed(positions)

    def _mixed(self, positions: Sequence[Any]) -> Position:
        for position in positions:
            numbers = isinstance(position, list) and all(
                isinstance(value, int | float) and not isinstance(value, bool) for value in position
            )
            if not numbers or len(position) < 2:
                raise ValueError(f"{shown(position)} is no position: x, y")
            if len(position) > 2:
                self.deep += 1
            self.heights.add(float(position[2]) if len(position) > 2 else 0.0)
        return np.array([position[:2] for position in positions], np.float64)


def _features(content: Content, depth: int = 0) -> Iterator[Mapping[str, Any]]:
    """Features, those of collections within collections too."""
    if depth > _DEEPEST:
        raise ValueError("collections lie too deep in each other")
    if isinstance(content, list):
        for one in content:
            yield from _features(one, depth + 1)
        return
    kind = as_record(content, "a feature").get("type")
    if kind == "FeatureCollection":
        yield from _features(as_list(content["features"], "features"), depth + 1)
    elif kind == "Feature":
        yield content
    else:
        raise ValueError(f"type is {shown(kind)}, not Feature")


def _check_crs(path: Path, content: Content) -> None:
    """Refuses a file whose coordinates are of places on the Earth, as old GeoJSON says them."""
    stated = content.get("crs") if isinstance(content, dict) else None
    if stated:
        properties = stated.get("properties") if isinstance(stated, dict) else None
        name = properties.get("name") if isinstance(properties, dict) else None
        text = f"{path}: states a coordinate reference system ({name or stated}), no pixels"
        raise ConfigError(with_code(text[:300], "geographic-crs"))


def _kind_of(feature: Mapping[str, Any], properties: Mapping[str, Any]) -> str:
    """QuPath's type of an object in lower case, as its versions call it; empty for others."""
    stated = properties.get("objectType") or properties.get("object_type")
    if stated is None and str(feature.get("id", "")).startswith("Path"):  # before 0.4
        stated = str(feature["id"]).removeprefix("Path").removesuffix("Object")
    return str(stated or "").strip().lower()


def _class_of(properties: Mapping[str, Any]) -> str:
    given = properties.get("classification") or _plain_class(properties)
    if isinstance(given, str):
        return given
    names = as_record(given, "classification").get("names") or [given.get("name") or UNCLASSIFIED]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"classification is {shown(given)}, which has no name")
    return ": ".join(names)


def _plain_class(properties: Mapping[str, Any]) -> str:
    """The class where it stands as other tools write it; QuPath's objects say what they are."""
    if "classification" in properties or "objectType" in properties:
        return UNCLASSIFIED
    found = [properties.get(key) for key in ("class", "label", "category")]
    return next((name for name in found if isinstance(name, str) and name), UNCLASSIFIED)


def _plane(geometry: Mapping[str, Any]) -> tuple[int, int, int]:
    """z, channel and time of a geometry; 0 and -1 (all channels) where nothing is stated."""
    plane = as_record(geometry.get("plane") or {}, "plane")
    stated = [plane.get(key, default) for key, default in (("z", 0), ("c", -1), ("t", 0))]
    z, channel, time = (int(as_number(value, "plane")) for value in stated)
    return z, channel, time
