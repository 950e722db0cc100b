"""The page of a data set: its classes, the sizes of its cells, and random tiles of it."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from data.fields.fieldset import FieldSet
from data.fields.images import FieldImages
from data.fields.regions import downsample_of, touching
from data.fields.statistics import ClassStatistics, cells_a_tile
from models.config import NORMAL_NAMES
from pipeline.cells.classes import CellClass, class_colors
from pipeline.reports.pages import render_page
from scripts.evaluation.svg import MUTED, STYLE, alone, to_svg
from scripts.slides import images_of

TILE_PIXELS = 320
"""Side of a tile on the sheet."""

MOST_NAMED = 12
"""Cells on a tile up to which each is named; more names would cover the cells."""

MOST_SHOWN = 20
"""Cells a tile beyond which the histogram ends in a bar of its own."""


@dataclass(frozen=True)
class BoxView:
    """A cell on a tile: left, top, width, height in percent, its class; "" for an ignored area."""

    frame: tuple[float, float, float, float]
    name: str


def write_page(
    fields: FieldSet,
    described: Sequence[ClassStatistics],
    out: Path,
    tile: float,
    samples: int,
    seed: int,
) -> None:
    """Writes ``stats.html`` and its pictures as SVG.

    Args:
        fields: the set.
        described: its classes.
        out: an existing folder.
        tile: side of a tile in µm.
        samples: tiles on the sheet.
        seed: which tiles are drawn.

    Raises:
        ConfigError: an image can't be read, or nobody knows its mpp.
        OSError: a file can't be written.
    """
    colors = colors_of(fields.classes)
    pictures = {
        "classes": draw_classes(described, colors),
        "sizes": draw_sizes(described, colors),
        "density": draw_density(fields, tile),
    }
    for name, picture in pictures.items():
        (out / f"{name}.svg").write_text(alone(picture), encoding="utf-8")
    page = render_page(
        "dataset.html",
        title=f"{sum(one.cells for one in described):,} cells on {len(fields.fields):,} images",
        classes=described,
        notes=(*fields.notes, *map(str, fields.doubts)),
        colors=colors,
        pictures=pictures,
        tiles=draw_tiles(fields, tile, samples, np.random.default_rng(seed)),
        tile=tile,
        seed=seed,
    )
    (out / "stats.html").write_text(page, encoding="utf-8")


def colors_of(classes: Sequence[str]) -> dict[str, str]:
    """Each class's colour as everywhere else."""
    known = [CellClass(name=n, abnormal=n.lower() not in NORMAL_NAMES) for n in classes]
    return {
        cell_class.name: "#{:02x}{:02x}{:02x}".format(*color)
        for cell_class, color in zip(known, class_colors(known), strict=True)
    }


def draw_classes(described: Sequence[ClassStatistics], colors: dict[str, str]) -> str:
    """Cells and images of each class, on a logarithmic scale."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(5.2, 0.5 + 0.42 * len(described)), layout="constrained")
        axes = figure.subplots()
        for row, one in enumerate(described):
            axes.barh(row, max(one.cells, 0.5), color=colors[one.name], height=0.62)
            axes.text(max(one.cells, 0.5) * 1.12, row, _count(one), va="center", color=MUTED)
        axes.set(xscale="log", xlim=(0.5, 12 * max([1, *(one.cells for one in described)])))
        _name_rows(axes, described)
        axes.set_xlabel("cells")
        return to_svg(figure, "Cells of each class")


def draw_sizes(described: Sequence[ClassStatistics], colors: dict[str, str]) -> str:
    """Longest sides in µm: quartiles as a box, 5% and 95% as whiskers."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(5.2, 0.5 + 0.42 * len(described)), layout="constrained")
        axes = figure.subplots()
        for row, one in enumerate(described):
            if not len(one.sides):
                continue
            low, left, middle, right, high = np.percentile(one.sides, [5, 25, 50, 75, 95])
            axes.plot([low, high], [row, row], color=colors[one.name], linewidth=1.2)
            axes.barh(row, right - left, left=left, color=colors[one.name], height=0.5, alpha=0.5)
            axes.plot([middle], [row], "o", color=colors[one.name], markersize=5)
        axes.set_xlim(0, 1.08 * max([1.0, *(float(one.sides.max(initial=0)) for one in described)]))
        _name_rows(axes, described)
        axes.set_xlabel("longest side of a cell's box, µm")
        return to_svg(figure, "Sizes of the cells of each class")


def draw_density(fields: FieldSet, tile: float) -> str:
    """How many tiles hold how many cells."""
    counts = np.concatenate(
        [np.zeros(0, np.int64)]
        + [cells_a_tile(f, tile * downsample_of(f, 1.0)) for f in fields.fields]
    )
    shown = np.bincount(counts.clip(max=MOST_SHOWN), minlength=MOST_SHOWN + 1)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(5.2, 2.6), layout="constrained")
        axes = figure.subplots()
        axes.bar(np.arange(len(shown)), shown, color="#0b6b72", width=0.8)
        axes.set_xlabel(f"cells in a tile of {tile:g} µm ({MOST_SHOWN}: or more)")
        axes.set_ylabel("tiles")
        axes.grid(axis="y")
        return to_svg(figure, "Cells in a tile")


def draw_tiles(
    fields: FieldSet, tile: float, samples: int, rng: np.random.Generator
) -> list[dict[str, Any]]:
    """Random tiles with what is marked on them; two of three show a cell.

    Classes take turns, so that the rare ones are seen too.
    """
    images = images_of(fields)
    centers = _centers(fields)
    turns = [name for name in centers if len(centers[name])]
    drawn = []
    for number in range(samples):
        if turns and number % 3 < 2:
            places = centers[turns[number % len(turns)]]
            index, x, y = places[rng.integers(len(places))]
        else:
            index = int(rng.integers(len(fields.fields)))
            field = fields.fields[index]
            x, y = rng.uniform(0, [field.width, field.height])
        drawn.append(_draw_tile(fields, images, index, (float(x), float(y)), tile))
    return drawn


def _draw_tile(
    fields: FieldSet, images: FieldImages, index: int, center: tuple[float, float], tile: float
) -> dict[str, Any]:
    field = fields.fields[index]
    side = min(tile * downsample_of(field, 1.0), field.width, field.height)
    left = float(np.clip(center[0] - side / 2, 0, field.width - side))
    top = float(np.clip(center[1] - side / 2, 0, field.height - side))
    window = (left, top, left + side, top + side)
    stream = io.BytesIO()
    Image.fromarray(images.crop(index, (TILE_PIXELS, TILE_PIXELS), window)).save(
        stream, "JPEG", quality=88
    )
    near = touching(field.boxes, window)
    boxes = (field.boxes[near].clip(window[:2] * 2, window[2:] * 2) - (left, top) * 2) / side * 100
    names = [
        "" if c else fields.classes[k]
        for c, k in zip(field.crowd[near], field.labels[near], strict=True)
    ]
    return {
        "picture": "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode(),
        "image": field.image.name,
        "x": field.origin[0] + left,
        "y": field.origin[1] + top,
        "boxes": [
            BoxView((x0, y0, x1 - x0, y1 - y0), name)
            for (x0, y0, x1, y1), name in zip(boxes.tolist(), names, strict=True)
        ],
        "named": len(names) <= MOST_NAMED,
        "bar": 100 * 20 / (side * (field.mpp or 1.0)),
    }


def _centers(fields: FieldSet) -> dict[str, list[tuple[int, float, float]]]:
    """Field's index, x and y of every cell, by class."""
    centers: dict[str, list[tuple[int, float, float]]] = {name: [] for name in fields.classes}
    for index, field in enumerate(fields.fields):
        middles = (field.boxes[:, :2] + field.boxes[:, 2:]) / 2
        for row in np.flatnonzero(~field.crowd):
            centers[fields.classes[field.labels[row]]].append((index, *middles[row].tolist()))
    return centers


def _name_rows(axes: Axes, described: Sequence[ClassStatistics]) -> None:
    axes.set_yticks(range(len(described)), [one.name for one in described])
    axes.set_ylim(len(described) - 0.4, -0.6)
    axes.grid(axis="x")


def _count(one: ClassStatistics) -> str:
    return f"{one.cells:,} on {one.fields:,} images"
