"""``cytolibra synth``: slides with known cells, for trying out, tests and measurements."""

from __future__ import annotations

import json
import math
import re
import tempfile
from collections.abc import Callable, Collection
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from configs import ConfigError, CytoLibraError
from configs.doubts import listed
from data.annotations import read_coco
from data.synth import (
    CLASSES,
    MAX_CELLS_PER_MM2,
    Layout,
    NamedSource,
    Scene,
    annotated_fields,
    lay_out,
    write_broken,
    write_slide,
    write_truth,
)
from scripts.given import refuse_given
from scripts.telling import tell_doubts

DEFAULT_MPP = 0.25
_MAX_SIDE = 500_000
_MAX_SLIDES = 1000
_MAX_PLANES, _PLANE_STEP = 99, 2.0

_WORST = (4, 2, 5, 1, 3)
"""Gravest class of the first slide, the second, ...: HSIL, LSIL, SCC, ASC-US, ASC-H."""


_OF_DRAWN = frozenset({"cells", "cells_per_mm2", "abnormal", "kind"})
"""Options that --fields has no use for."""


class SpecimenKind(StrEnum):
    """How the cells came onto the glass."""

    liquid = "liquid"
    conventional = "conventional"


def synth(
    context: typer.Context,
    out: Annotated[Path, typer.Option("--out", help="Folder for the slides; made if missing.")],
    slides: Annotated[int, typer.Option(help="Number of slides.")] = 1,
    size: Annotated[
        str | None,
        typer.Option(
            metavar="WxH",
            help="Size of a slide in pixels. Default: 4096x4096; with --fields, what they need.",
        ),
    ] = None,
    mpp: Annotated[
        float | None,
        typer.Option(help="µm per pixel. Default: 0.25; with --fields, theirs."),
    ] = None,
    seed: Annotated[int, typer.Option(help="The same seed gives the same slides.")] = 0,
    cells_per_mm2: Annotated[
        float,
        typer.Option("--cells-per-mm2", help="Drawn squamous cells per mm² of the deposit."),
    ] = 150.0,
    cells: Annotated[
        int | None,
        typer.Option(
            help="Drawn squamous cells on a slide, about so many, instead of --cells-per-mm2; "
            "truth.json tells how many there are."
        ),
    ] = None,
    abnormal: Annotated[
        str,
        typer.Option(
            metavar="SHARE|COUNT",
            help="Abnormal cells among the drawn: a share such as 0.05, or a count such as 12.",
        ),
    ] = "0.05",
    kind: Annotated[
        SpecimenKind, typer.Option(help="Smear, or round deposit of a liquid-based slide.")
    ] = SpecimenKind.conventional,
    planes: Annotated[
        int,
        typer.Option(
            help="Focal planes of drawn slides: each cell lies at a depth of its own, which the "
            "truth tells, and is blurred by its distance to the plane. Several are written as a "
            "stack, NAME.ome.tif."
        ),
    ] = 1,
    plane_step: Annotated[
        float | None,
        typer.Option("--plane-step", help="µm between two focal planes. Default: 2."),
    ] = None,
    broken: Annotated[
        bool, typer.Option("--broken", help="Add a truncated slide, broken.tif, on purpose.")
    ] = False,
    fields: Annotated[
        Path | None,
        typer.Option(
            metavar="COCO", help="Lay out these annotated fields instead of drawing cells."
        ),
    ] = None,
    images: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of the fields' images.")
    ] = None,
    columns: Annotated[int | None, typer.Option(help="With --fields: fields side by side.")] = None,
    fill: Annotated[
        bool, typer.Option("--fill", help="With --fields and --size: repeat until it is full.")
    ] = False,
) -> None:
    """Makes pyramidal slides whose cells are known, each with its truth as COCO.

    Draws cells by their Bethesda criteria, or, with --fields and --images, lays real annotated
    fields onto slides. Writes NAME.tif and NAME.truth.json for each slide, and truth.json for all.
    """
    _check_range("--slides", slides, 1, _MAX_SLIDES)
    _check_range("--seed", seed, 0, 2**40)
    wanted = _parse_size(size) if size else None
    _check_range("--planes", planes, 1, _MAX_PLANES)
    if plane_step is not None and planes < 2:
        raise ConfigError("--plane-step is of several focal planes; give --planes, too")
    step = _PLANE_STEP if plane_step is None else plane_step
    _check_range("--plane-step", step, 0.1, 20.0)
    if fields is not None:
        if planes > 1:
            raise ConfigError("--planes is of drawn cells; --fields were photographed in one plane")
        refuse_given(context, _OF_DRAWN, "of drawn cells, not of --fields, which have their own")
        layout = _check_layout(columns, wanted, fill)
        classes, sources = _mosaics(fields, images, slides, mpp, seed, layout)
    else:
        refuse_given(context, {"images", "columns", "fill"}, "of --fields, not of drawn cells")
        if cells is not None:
            refuse_given(context, {"cells_per_mm2"}, "says how many cells, and so does --cells")
            _check_range("--cells", cells, 0, 10_000_000)
        _check_range("--cells-per-mm2", cells_per_mm2, 0.0, MAX_CELLS_PER_MM2)
        share = _parse_abnormal(abnormal)
        classes = CLASSES
        size_px = wanted or (4096, 4096)
        density = cells_per_mm2 if cells is None else partial(_density, cells)
        sources = _scenes(slides, size_px, mpp, seed, density, share, kind, (planes, step))
    _make_folder(out)
    _refuse_others(out, {source.name for source in sources})
    _write(out, sources, classes, broken)


def _scenes(
    slides: int,
    size: tuple[int, int],
    mpp: float | None,
    seed: int,
    density: float | Callable[[Scene], float],
    abnormal: int | float,
    kind: SpecimenKind,
    planes: tuple[int, float],
) -> list[NamedSource]:
    """Drawn slides; the density is the same for all, or follows from each one's deposit."""
    mpp = DEFAULT_MPP if mpp is None else mpp
    _check_range("--mpp", mpp, 0.1, 2.0)
    if isinstance(abnormal, int):
        room = math.floor(size[0] * size[1] * mpp * mpp * 1e-6 * MAX_CELLS_PER_MM2)
        _check_range("--abnormal", abnormal, 0, room)
    sources = []
    for index in range(slides):
        worst = _WORST[index % len(_WORST)]
        number = seed * _MAX_SLIDES + index
        per_mm2 = (
            density(Scene(number, size, mpp, kind.value, 0.0, 0)) if callable(density) else density
        )
        scene = Scene(number, size, mpp, kind.value, per_mm2, abnormal, worst, planes)
        if isinstance(abnormal, int) and len(scene.lesions) < abnormal:
            raise ConfigError(
                f"--abnormal {abnormal}: only {len(scene.lesions)} find room on a slide of "
                f"{size[0]}x{size[1]} px; ask for fewer or a larger --size"
            )
        ending = ".tif" if scene.stack is None else ".ome.tif"
        sources.append(NamedSource(f"slide-{index + 1:03}{ending}", scene))
    return sources


def _density(cells: int, scene: Scene) -> float:
    """Cells per mm² with which so many lie on a slide's deposit.

    Raises:
        ConfigError: they find no room.
    """
    density = cells / scene.deposit_mm2
    if density > MAX_CELLS_PER_MM2:
        room = math.floor(MAX_CELLS_PER_MM2 * scene.deposit_mm2)
        raise ConfigError(
            f"--cells {cells}: a slide of {scene.size[0]}x{scene.size[1]} px has room for {room}; "
            "ask for fewer or a larger --size"
        )
    return density


def _mosaics(
    path: Path, images: Path | None, slides: int, mpp: float | None, seed: int, layout: Layout
) -> tuple[tuple[str, ...], list[NamedSource]]:
    """Deals the fields out to the slides; where they fill the slides, each gets all of them."""
    if images is None:
        raise ConfigError("--fields needs --images DIR, the folder of the fields' images")
    if mpp is not None:
        _check_range("--mpp", mpp, 0.05, 5.0)
    found = read_coco(path, images)
    tell_doubts(found)
    classes, fields = found.classes, annotated_fields(found)
    if not layout.fill and slides > len(fields):
        raise ConfigError(f"--slides {slides}: {path} has only {len(fields)} fields")
    sources = []
    for index in range(slides):
        dealt = fields if layout.fill else fields[index::slides]
        mosaic = lay_out(dealt, mpp, seed * _MAX_SLIDES + index, layout)
        sources.append(NamedSource(f"mosaic-{index + 1:03}.tif", mosaic))
    return classes, sources


def _write(out: Path, sources: list[NamedSource], classes: tuple[str, ...], broken: bool) -> None:
    console = Console()
    try:
        with _progress(console) as progress:
            for source in sources:
                size = source.source.size
                drawn = math.prod(size) * len(source.source.plane_places)
                task = progress.add_task(source.name, total=drawn)
                path = write_slide(out, source, classes, partial(progress.advance, task))
                _tell(console, f"{path}: {size[0]} x {size[1]} px")
        if broken:
            _tell(console, f"{write_broken(out / sources[0].name)}: broken on purpose")
        count = write_truth(out / "truth.json", sources, classes)
    except OSError as error:
        raise CytoLibraError(f"{out}: the slides could not be written: {error}") from error
    _tell(console, f"{out / 'truth.json'}: {count} cells on {len(sources)} slides")


def _progress(console: Console) -> Progress:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


def _tell(console: Console, line: str) -> None:
    console.print(line, markup=False, highlight=False, soft_wrap=True)


def _make_folder(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise ConfigError(f"--out {out}: cannot be written to: {error}") from error


def _refuse_others(out: Path, names: Collection[str]) -> None:
    """Refuses slides of an earlier call that would stay beside those of this one.

    Raises:
        ConfigError: there are some; truth.json would not know them, but who screens the folder
            would have them among the others.
    """
    stay = []
    for truth in sorted(out.glob("*.truth.json")):
        try:
            images = json.loads(truth.read_bytes())["images"]
            earlier = [str(image["file_name"]) for image in images]
        except (OSError, ValueError, LookupError, TypeError):
            continue  # none of ours, or cut off in the middle
        stay += [name for name in earlier if name not in names and (out / name).exists()]
    if stay:
        raise ConfigError(
            f"--out {out}: has {listed(stay, 3)} of an earlier call, which would stay beside the "
            "slides of this one, unknown to truth.json; remove them, or name another folder"
        )


def _parse_size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d{1,7})\s*[x×X]\s*(\d{1,7})", text.strip())
    if match is None:
        raise ConfigError(f"--size {text}: expected WxH in pixels, such as 8192x6144")
    width, height = int(match[1]), int(match[2])
    _check_range("--size: the width", width, 64, _MAX_SIDE)
    _check_range("--size: the height", height, 64, _MAX_SIDE)
    return width, height


def _parse_abnormal(text: str) -> int | float:
    """An integer is a count; a number with a point a share of the cells."""
    try:
        value = int(text) if re.fullmatch(r"\d+", text.strip()) else float(text)
    except ValueError:
        value = math.nan
    if isinstance(value, float) and not 0.0 <= value <= 1.0:
        raise ConfigError(
            f"--abnormal {text}: expected a share of the cells in 0.0 to 1.0, or a whole number"
        )
    return value


def _check_layout(columns: int | None, size: tuple[int, int] | None, fill: bool) -> Layout:
    if columns is not None:
        _check_range("--columns", columns, 1, 10_000)
    if fill and size is None:
        raise ConfigError("--fill needs --size WxH, the size to be filled")
    return Layout(columns, size, fill)


def _check_range(option: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:  # false for nan too
        raise ConfigError(f"{option} {value} is out of range: {low} to {high} is allowed")
