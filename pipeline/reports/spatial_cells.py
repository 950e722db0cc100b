"""The cells of many slides as one SpatialData store, for scverse's tools.

A folder in Zarr 3. ``shapes/NAME`` has a slide's boxes as polygons (GeoParquet) in level-0 pixels,
with transformations to two coordinate systems: NAME in µm, NAME_px in level-0 pixels.
``tables/cells`` is an AnnData of all cells, linked to the boxes by the columns region and id, with
the scores by class as X. ``tables/slides`` has a row a slide, also for those without cells, of
which SpatialData holds no shapes.

It is written by pyarrow and zarr alone, as the formats say (SpatialData 0.2, shapes 0.3, tables
0.2, AnnData 0.1.0): spatialdata itself holds all cells in memory, and weighs a gigabyte. Here cells
pass through slide by slide.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from configs import ConfigError
from pipeline.cells.classes import CellClass
from pipeline.reports.arrow_cells import unit_of
from pipeline.reports.cells_table import score_columns

if TYPE_CHECKING:
    import pyarrow as pa
    import zarr

CHUNK = 1 << 16
"""Rows of a chunk, which are in memory at once."""

_LONGEST_NAME = 120
"""Bytes of a name, so that it is that of a file everywhere, with a number behind it, too."""

_BOX = np.dtype(
    [("order", "u1"), ("kind", "<u4"), ("rings", "<u4"), ("points", "<u4"), ("at", "<f8", (5, 2))]
)
"""A polygon of five points in well-known binary."""

_EDGES = ("x_min", "y_min", "x_max", "y_max")


@dataclass(frozen=True)
class SpatialSlide:
    """One slide of a store.

    Attributes:
        name: of its results.
        region: what its shapes and coordinate system are called; see `region_names`.
        mpp: µm per level-0 pixel.
        cells: how many it has.
        row: what is told of it, by column.
    """

    name: str
    region: str
    mpp: float
    cells: int
    row: Mapping[str, Any]


def region_names(names: Sequence[str]) -> list[str]:
    """What slides are called in a store: of letters, digits and ``_-.``, no two but for case."""
    taken: set[str] = set()
    found = []
    for name in names:
        cut = re.sub(r"[^\w.-]", "_", name).encode()[:_LONGEST_NAME].decode(errors="ignore")
        start = cut.lstrip("_.") or "slide"
        region, number = start, 1
        while {region.lower(), f"{region}_px".lower()} & taken:
            number += 1
            region = f"{start}-{number}"
        taken |= {region.lower(), f"{region}_px".lower()}
        found.append(region)
    return found


def write_store(
    folder: Path,
    slides: Sequence[SpatialSlide],
    batches: Iterator[tuple[SpatialSlide, pa.RecordBatch]],
    schema: pa.Schema,
    classes: Sequence[CellClass],
    facts: Mapping[str, Any],
) -> None:
    """Writes a store.

    Args:
        folder: to be made.
        slides: all of them.
        batches: their cells, those of a slide one after the other.
        schema: of the batches.
        classes: of the model.
        facts: of all slides; they become the store's attributes.

    Raises:
        ConfigError: the names of two columns become one.
        OSError: it can't be written.
    """
    import zarr

    units = {one.name: unit for one in schema if (unit := unit_of(one.name))}
    root = zarr.create_group(
        folder,
        zarr_format=3,
        attributes={
            "spatialdata_attrs": {"version": "0.2"},
            "cytolibra": {**facts, "units": units},
        },
    )
    shapes, tables = root.create_group("shapes"), root.create_group("tables")
    _write_slides(tables, slides)
    total = sum(slide.cells for slide in slides)
    if not total:
        return
    regions = [slide.region for slide in slides if slide.cells]
    cells = _Cells(tables, total, schema, classes, regions)
    boxes: _Boxes | None = None
    try:
        for slide, batch in batches:
            if boxes is None or boxes.slide is not slide:
                if boxes:
                    boxes.close()
                boxes = _Boxes(shapes, slide, folder)
            boxes.add(batch)
            cells.add(batch, slide.region)
    finally:
        if boxes:
            boxes.close()
    cells.finish(regions, units)


class _Boxes:
    """The shapes of one slide."""

    def __init__(self, shapes: zarr.Group, slide: SpatialSlide, folder: Path) -> None:
        import pyarrow as pa
        from pyarrow import parquet

        attributes = {
            "encoding-type": "ngff:shapes",
            "axes": ["x", "y"],
            "coordinateTransformations": [
                _transformation(slide.region, "micrometer", [slide.mpp, slide.mpp]),
                _transformation(f"{slide.region}_px", "pixel", None),
            ],
            "spatialdata_attrs": {"version": "0.3"},
        }
        shapes.create_group(slide.region, attributes=attributes)
        geo = {
            "version": "1.1.0",
            "primary_column": "geometry",
            "columns": {
                "geometry": {"encoding": "WKB", "crs": None, "geometry_types": ["Polygon"]}
            },
        }
        index = {"name": "id", "field_name": "id", "pandas_type": "int64", "numpy_type": "int64",
                 "metadata": None}  # fmt: skip
        geometry = {**index, "name": "geometry", "field_name": "geometry", "pandas_type": "bytes",
                    "numpy_type": "object"}  # fmt: skip
        pandas = {"index_columns": ["id"], "column_indexes": [], "columns": [geometry, index]}
        self.slide = slide
        self._schema = pa.schema(
            [pa.field("geometry", pa.binary(), False), pa.field("id", pa.int64(), False)],
            metadata={"geo": json.dumps(geo), "pandas": json.dumps(pandas)},
        )
        path = folder / "shapes" / slide.region / "shapes.parquet"
        self._stream = path.open("wb")
        self._writer = parquet.ParquetWriter(self._stream, self._schema, compression="zstd")

    def add(self, batch: pa.RecordBatch) -> None:
        import pyarrow as pa

        left, top, right, bottom = (batch.column(name).to_numpy() for name in _EDGES)
        boxes = np.zeros(len(batch), _BOX)
        boxes["order"], boxes["kind"], boxes["rings"], boxes["points"] = 1, 3, 1, 5
        corners = ((right, top), (right, bottom), (left, bottom), (left, top), (right, top))
        for number, (x, y) in enumerate(corners):
            boxes["at"][:, number, 0], boxes["at"][:, number, 1] = x, y
        ends = np.arange(len(batch) + 1, dtype=np.int32) * _BOX.itemsize
        buffers = [None, pa.py_buffer(ends), pa.py_buffer(boxes.tobytes())]
        geometry = pa.Array.from_buffers(pa.binary(), len(batch), buffers)
        self._writer.write_batch(
            pa.record_batch([geometry, batch.column("id")], schema=self._schema)
        )

    def close(self) -> None:
        self._writer.close()
        self._stream.close()


@dataclass
class _Column:
    """One array of a table that grows.

    Attributes:
        array: of all rows.
        waiting: rows that do not fill a chunk yet.
    """

    array: zarr.Array[Any]
    waiting: list[NDArray[Any]] = field(default_factory=list)
    rows: int = 0
    written: int = 0

    def add(self, values: NDArray[Any]) -> None:
        self.waiting.append(values)
        self.rows += len(values)
        if self.rows - self.written >= CHUNK or self.rows == self.array.shape[0]:
            self._write()

    def _write(self) -> None:
        values = np.concatenate(self.waiting)
        whole = len(values)
        if self.rows < self.array.shape[0]:
            whole -= whole % CHUNK  # chunks are never written twice
        self.array[self.written : self.written + whole] = values[:whole]
        self.waiting = [values[whole:]]
        self.written += whole


class _Words:
    """A column of words: codes, and the words that they stand for, in the order that they come."""

    def __init__(self, frame: zarr.Group, name: str, total: int, words: Sequence[str] = ()) -> None:
        self._group = _group(frame, name, "categorical", "0.2.0", ordered=False)
        self._codes = _column(self._group, "codes", total, np.dtype("int32"))
        self._known = {word: number for number, word in enumerate(words)}

    def add(self, values: pa.Array) -> None:
        packed = values.dictionary_encode()
        words = packed.dictionary.to_pylist()
        numbers = [self._known.setdefault(word, len(self._known)) for word in words]
        lookup = np.array([*numbers, -1], np.int32)
        self._codes.add(lookup[packed.indices.fill_null(len(numbers)).to_numpy()])

    def finish(self) -> None:
        _write_words(self._group, "categories", list(self._known))


class _Flags:
    """A column of true, false and nothing, or of whole numbers and nothing."""

    def __init__(self, frame: zarr.Group, name: str, total: int, kind: np.dtype[Any]) -> None:
        encoding = "nullable-boolean" if kind.kind == "b" else "nullable-integer"
        group = _group(frame, name, encoding, "0.1.0")
        self._kind = kind
        self._values = _column(group, "values", total, kind)
        self._mask = _column(group, "mask", total, np.dtype(bool))

    def add(self, values: pa.Array) -> None:
        self._mask.add(values.is_null().to_numpy(zero_copy_only=False))
        filled = values.fill_null(self._kind.type(0).item())
        self._values.add(filled.to_numpy(zero_copy_only=False).astype(self._kind))

    def finish(self) -> None:
        """Has nothing to add."""


class _Numbers:
    """A column of numbers; what is empty is NaN."""

    def __init__(self, frame: zarr.Group, name: str, total: int, kind: np.dtype[Any]) -> None:
        self._column = _column(frame, name, total, kind)

    def add(self, values: pa.Array) -> None:
        self._column.add(values.to_numpy(zero_copy_only=False))

    def finish(self) -> None:
        """Has nothing to add."""


class _Cells:
    """The table of all cells, as an AnnData."""

    def __init__(
        self,
        tables: zarr.Group,
        total: int,
        schema: pa.Schema,
        classes: Sequence[CellClass],
        regions: Sequence[str],
    ) -> None:
        self._scores = score_columns(classes)
        names = {
            one.name: one.name.replace("/", "_") for one in schema if one.name not in self._scores
        }
        if len({*names.values(), "region", "_index"}) < len(names) + 2:
            raise ConfigError("two columns would be called alike in a SpatialData store")
        self._table = _table(tables, "cells", list(regions), "region", "id")
        obs = _frame(self._table, "obs", [*names.values(), "region"])
        self._columns = {
            name: _made(obs, total, schema.field(name), called, classes)
            for name, called in names.items()
        }
        self._regions = _Words(obs, "region", total)
        self._index = _Column(_words_array(obs, "_index", total))
        self._x = _Column(_array(self._table, "X", (total, len(classes)), "float64"))
        _write_frame(self._table, "var", [one.name for one in classes], {})

    def add(self, batch: pa.RecordBatch, region: str) -> None:
        import pyarrow as pa

        for name, column in self._columns.items():
            column.add(batch.column(name))
        self._regions.add(pa.repeat(region, len(batch)))
        ids = batch.column("id").to_pylist()
        self._index.add(np.array([f"{region}_{one}" for one in ids], object))
        scores = [batch.column(name).to_numpy(zero_copy_only=False) for name in self._scores]
        self._x.add(np.stack(scores, axis=1))

    def finish(self, regions: Sequence[str], units: Mapping[str, str]) -> None:
        for column in (*self._columns.values(), self._regions):
            column.finish()
        uns = _group(self._table, "uns", "dict", "0.1.0")
        attrs = _group(uns, "spatialdata_attrs", "dict", "0.1.0")
        _write_words(attrs, "region", regions)
        _write_word(attrs, "region_key", "region")
        _write_word(attrs, "instance_key", "id")
        told = _group(uns, "units", "dict", "0.1.0")
        for name, unit in units.items():
            _write_word(told, name.replace("/", "_"), unit)


def _made(
    obs: zarr.Group, total: int, column: pa.Field, called: str, classes: Sequence[CellClass]
) -> _Words | _Flags | _Numbers:
    """What writes a column of the table."""
    import pyarrow as pa

    if pa.types.is_string(column.type):
        words = [one.name for one in classes] if column.name == "class" else []
        return _Words(obs, called, total, words)
    kind = np.dtype(column.type.to_pandas_dtype())
    if column.nullable and kind.kind in "bi":
        return _Flags(obs, called, total, kind)
    return _Numbers(obs, called, total, kind)


def _write_slides(tables: zarr.Group, slides: Sequence[SpatialSlide]) -> None:
    """A table of the slides, which annotates no shapes."""
    table = _table(tables, "slides", None, None, None)
    columns: dict[str, list[Any]] = {
        name: [slide.row[name] for slide in slides] for name in slides[0].row
    }
    columns["region"] = [slide.region if slide.cells else "" for slide in slides]
    _write_frame(table, "obs", [slide.region for slide in slides], columns)
    _write_frame(table, "var", [], {})
    _array(table, "X", (len(slides), 0), "float64")
    _group(table, "uns", "dict", "0.1.0")


def _table(
    tables: zarr.Group,
    name: str,
    regions: list[str] | None,
    region_key: str | None,
    instance_key: str | None,
) -> zarr.Group:
    """An AnnData whose parts are empty but for obs, var, X and uns, which are for the caller."""
    attributes = {
        "spatialdata-encoding-type": "ngff:regions_table",
        "region": regions,
        "region_key": region_key,
        "instance_key": instance_key,
        "version": "0.2",
    }
    table = tables.create_group(name, attributes={**_encoding("anndata", "0.1.0"), **attributes})
    for part in ("layers", "obsm", "obsp", "varm", "varp"):
        _group(table, part, "dict", "0.1.0")
    return table


def _write_frame(
    table: zarr.Group, name: str, index: Sequence[str], columns: Mapping[str, Sequence[Any]]
) -> None:
    frame = _frame(table, name, list(columns))
    _write_words(frame, "_index", index)
    for key, values in columns.items():
        if isinstance(values[0], str):
            _write_words(frame, key, values)
        else:
            array = np.asarray(values)
            _array(frame, key, array.shape, array.dtype)[:] = array


def _frame(table: zarr.Group, name: str, columns: list[str]) -> zarr.Group:
    return _group(
        table, name, "dataframe", "0.2.0", **{"column-order": columns, "_index": "_index"}
    )


def _write_word(group: zarr.Group, name: str, word: str) -> None:
    attributes = _encoding("string", "0.2.0")
    group.create_array(name, shape=(), dtype=str, attributes=attributes)[...] = word


def _write_words(group: zarr.Group, name: str, words: Sequence[str]) -> None:
    array = _words_array(group, name, len(words))
    if words:
        array[...] = np.array(words, object)


def _words_array(group: zarr.Group, name: str, count: int) -> zarr.Array[Any]:
    return _array(group, name, (count,), str, "string-array")


def _column(group: zarr.Group, name: str, total: int, kind: np.dtype[Any]) -> _Column:
    return _Column(_array(group, name, (total,), kind))


def _array(
    group: zarr.Group, name: str, shape: tuple[int, ...], kind: Any, encoding: str = "array"
) -> zarr.Array[Any]:
    chunks = tuple(max(1, min(side, CHUNK)) for side in shape)
    attributes = _encoding(encoding, "0.2.0")
    return group.create_array(name, shape=shape, chunks=chunks, dtype=kind, attributes=attributes)


def _group(parent: zarr.Group, name: str, encoding: str, version: str, **more: Any) -> zarr.Group:
    return parent.create_group(name, attributes={**_encoding(encoding, version), **more})


def _encoding(kind: str, version: str) -> dict[str, Any]:
    """What AnnData knows a group or an array by."""
    return {"encoding-type": kind, "encoding-version": version}


def _transformation(name: str, unit: str, scale: list[float] | None) -> dict[str, Any]:
    """From level-0 pixels to a coordinate system; by nothing where no scale is given."""
    how = {"type": "scale", "scale": scale} if scale else {"type": "identity"}
    return {
        **how,
        "input": {"name": "xy", "axes": _axes("pixel")},
        "output": {"name": name, "axes": _axes(unit)},
    }


def _axes(unit: str) -> list[dict[str, str]]:
    return [{"name": name, "type": "space", "unit": unit} for name in "xy"]
