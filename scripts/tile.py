"""``cytolibra tile``: the tiles of slides as images, for annotation elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import track

from configs import ConfigError, CytoLibraError, validate
from scripts.screening.options import check_scales

if TYPE_CHECKING:
    from pipeline.batch.discovery import SlideJob
    from pipeline.slides.mpp import GivenMpp
    from pipeline.tiles.foreground import ForegroundSettings
    from pipeline.tiles.tiler import TilerSettings

MANIFEST = ("image", "slide", "size", "mpp", "x", "y", "downsample")
"""Columns of manifest.csv; x, y is a tile's corner in level-0 pixels, ``downsample`` its scale."""


Row = tuple[str | float, ...]


def tile(
    slides: Annotated[
        list[Path],
        typer.Argument(metavar="SLIDE_OR_FOLDER", help="Slides, and folders of slides."),
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for the tiles.")],
    size: Annotated[int, typer.Option(help="Side of a tile in pixels.")] = 1024,
    overlap: Annotated[int, typer.Option(help="What neighbouring tiles share, in pixels.")] = 0,
    tile_mpp: Annotated[float, typer.Option(help="µm per pixel of the tiles.")] = 0.25,
    mpp: Annotated[
        float | None, typer.Option(help="µm per pixel of slides that carry none.")
    ] = None,
    mpp_override: Annotated[
        float | None, typer.Option(help="µm per pixel of all slides, whatever they say.")
    ] = None,
    foreground: Annotated[
        bool, typer.Option("--foreground/--all", help="Tiles with cells only, or all.")
    ] = True,
) -> None:
    """Writes the tiles of slides and their manifest."""
    from pipeline.batch.discovery import discover
    from pipeline.slides.mpp import GivenMpp, check_mpp_argument
    from pipeline.tiles.foreground import ForegroundSettings
    from pipeline.tiles.tiler import TilerSettings

    check_scales(mpp, mpp_override)
    check_mpp_argument(mpp)
    check_mpp_argument(mpp_override, "--mpp-override")
    check_mpp_argument(tile_mpp, "--tile-mpp")
    given = GivenMpp(mpp, mpp_override)
    tiler = validate({"size": size, "overlap": overlap}, TilerSettings, "options")
    mask = ForegroundSettings(enabled=foreground)
    found = discover(slides, out, with_images=given != GivenMpp())
    for doubt in found.doubts:
        typer.echo(f"warning: {doubt}", err=True)
    jobs = found.jobs
    rows: list[Row] = []
    failed = 0
    for job in jobs:
        try:
            for row in _write_tiles(job, out, tiler, tile_mpp, given, mask):
                rows.append(row)  # what came before a failure stays
        except CytoLibraError as error:
            failed += 1
            typer.echo(f"error: {error}", err=True)
    _write_manifest(rows, out)
    typer.echo(f"{len(rows)} tiles of {len(jobs)} slides; see {out / 'manifest.csv'}")
    raise typer.Exit(1 if failed else 0)


def _write_tiles(
    job: SlideJob,
    out: Path,
    tiler: TilerSettings,
    tile_mpp: float,
    mpp: GivenMpp,
    mask: ForegroundSettings,
) -> Iterator[Row]:
    from PIL import Image

    from pipeline.slides.slide import open_slide
    from pipeline.tiles.foreground import find_foreground
    from pipeline.tiles.plausible import find_implausible
    from pipeline.tiles.tiler import plan_tiles
    from pipeline.tiles.tilereader import read_tile

    if job.problem:
        raise CytoLibraError(f"{job.name}: {job.problem}")
    with open_slide(job.path, mpp) as slide:
        foreground = find_foreground(slide, mask)
        for doubt in (*slide.doubts, *find_implausible(slide, foreground)):
            typer.echo(f"warning: {job.name}: {doubt}", err=True)
        plan = plan_tiles(slide.bounds, slide.mpp, tile_mpp, tiler, foreground)
        folder = _make_folder(out / job.name)
        unread = 0
        for index in track(plan.indices.tolist(), job.name):
            tile = read_tile(slide, plan.grid, index)
            if len(tile.unread):
                unread += 1
                continue
            x, y = plan.grid.origin(index)
            image = folder / f"{round(x)}_{round(y)}.png"
            Image.fromarray(tile.pixels).save(image)
            name = image.relative_to(out).as_posix()
            scale = round(plan.grid.downsample, 6)
            yield name, str(job.path), tiler.size, tile_mpp, round(x, 3), round(y, 3), scale
    if unread:
        raise CytoLibraError(f"{job.name}: {unread} tiles can't be read in full and are left out")


def _make_folder(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--out {folder}: can't be made: {error.strerror}") from error
    return folder


def _write_manifest(rows: list[Row], out: Path) -> None:
    from pipeline.reports.tables import write_csv

    with (_make_folder(out) / "manifest.csv").open("w", newline="", encoding="utf-8") as file:
        write_csv(file, [MANIFEST, *rows])
