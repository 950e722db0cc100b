"""``cytolibra tile``: the tiles of slides as images, for annotation elsewhere."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.progress import track

from configs import ConfigError, CytoLibraError, Doubt, validate
from scripts.screening.options import check_scales
from scripts.telling import warn

if TYPE_CHECKING:
    from pipeline.batch.discovery import SlideJob
    from pipeline.batch.tilesets import TileImage, TileSet
    from pipeline.slides.mpp import GivenMpp
    from pipeline.slides.slide import Slide
    from pipeline.tiles.foreground import ForegroundSettings
    from pipeline.tiles.tiler import TilePlan, TilerSettings


@dataclass(frozen=True)
class Cut:
    """How slides are cut into tiles.

    Attributes:
        tiler: size and overlap of the tiles.
        mpp: µm per pixel of the tiles.
        given: what the user says of the slides' own.
        mask: where tiles are worth it.
    """

    tiler: TilerSettings
    mpp: float
    given: GivenMpp
    mask: ForegroundSettings


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
    """Writes the tiles of slides and their manifest.

    A slide's tiles lie in a folder of its name, which appears when all of them are written and
    takes the place of the slide's earlier tiles. Where anything else lies there, such as
    annotations, the call is refused before it begins. Tiles of other slides stay.

    manifest.csv lists all tiles below the folder, also those of earlier calls, each with its own
    scale. When the call is interrupted it lists what was finished.

    A slide that is coarser than its tiles are to be is told from 1.3 times on, and refused above 2
    times, as by cytolibra screen.

    Exit codes: 0 all are written, 1 some could not be, 2 the call is wrong or the folder can't be
    written, 130 interrupted.
    """
    from pipeline.batch.discovery import discover
    from pipeline.batch.tilesets import MANIFEST, find_sets, prepare_tiles, write_manifest
    from pipeline.slides.mpp import GivenMpp, check_mpp_argument
    from pipeline.slides.readers.base import show
    from pipeline.tiles.foreground import ForegroundSettings
    from pipeline.tiles.tiler import TilerSettings

    check_scales(mpp, mpp_override)
    check_mpp_argument(mpp)
    check_mpp_argument(mpp_override, "--mpp-override")
    check_mpp_argument(tile_mpp, "--tile-mpp")
    given = GivenMpp(mpp, mpp_override)
    tiler = validate({"size": size, "overlap": overlap}, TilerSettings, "options")
    cut = Cut(tiler, tile_mpp, given, ForegroundSettings(enabled=foreground))
    found = discover(slides, out, with_images=given != GivenMpp())
    jobs = _named_by_text(found.jobs)
    earlier = prepare_tiles(out, [job.name for job in jobs])
    others = {name: earlier[name] for name in earlier.keys() - {job.name for job in jobs}}
    warn([*found.doubts, *_doubts_of_others(others, cut, out)])
    write_manifest(out, others)
    try:
        done, failed = _tile_all(jobs, out, cut, earlier)
    finally:  # whatever ends it, the manifest has all that is there
        there = find_sets(out)
        write_manifest(out, there)
    rest = [tiles for name, tiles in there.items() if name not in done]
    typer.echo(f"{_count(done.values())}; see {show(out / MANIFEST)}")
    if rest:
        typer.echo(f"{_count(rest)} of earlier calls stay, and are in it, too")
    raise typer.Exit(1 if failed else 0)


def _named_by_text(jobs: Iterable[SlideJob]) -> list[SlideJob]:
    """The jobs with names that a manifest can hold, so that its paths lead to the tiles.

    Raises:
        ConfigError: two are called alike then.
    """
    from pipeline.reports.report import encodable
    from pipeline.slides.readers.base import show

    named = [replace(job, name=encodable(job.name)) for job in jobs]
    alike = [name for name, times in Counter(job.name for job in named).items() if times > 1]
    if alike:
        raise ConfigError(f"{show(alike[0])}: two slides would be called so; rename one of them")
    return named


def _doubts_of_others(others: Mapping[str, TileSet], cut: Cut, out: Path) -> Iterator[Doubt]:
    """Tiles that stay beside those of this call, and are of another scale or size."""
    from pipeline.slides.readers.base import show

    odd = [n for n, tiles in others.items() if (tiles.mpp, tiles.size) != (cut.mpp, cut.tiler.size)]
    if odd:
        text = (
            f"--out {show(out)}: has tiles of {len(odd)} other slides at another scale or of "
            f"another size, of {show(min(odd))} first; they stay"
        )
        yield Doubt(code="tiles-mixed", text=text)


def _count(sets: Iterable[TileSet]) -> str:
    counts = [len(tiles.tiles) for tiles in sets]
    return f"{sum(counts)} tiles of {len(counts)} slides"


def _tile_all(
    jobs: Iterable[SlideJob], out: Path, cut: Cut, earlier: Mapping[str, TileSet]
) -> tuple[dict[str, TileSet], bool]:
    """Writes the tiles of all slides, one after the other.

    Args:
        jobs: the slides.
        out: the output folder.
        cut: how they are cut.
        earlier: what lay there before.

    Returns:
        The sets that were written, by name, and whether a slide failed, if only in part.
    """
    from pipeline.batch.attempts import explain
    from pipeline.batch.tilesets import add_to_manifest
    from pipeline.errors import is_disk_full

    done: dict[str, TileSet] = {}
    failed = False
    for job in jobs:
        try:
            tiles, unread = _write_tiles(job, out, cut)
            done[job.name] = tiles
            add_to_manifest(out, job.name, tiles)
            if unread:
                raise _left_out(job, unread)
        except Exception as problem:
            failed = True
            stays = job.name in earlier and job.name not in done
            told = "; its tiles of an earlier call stay" if stays else ""
            typer.echo(f"error: {explain(job, problem, {})}{told}", err=True)
            if is_disk_full(problem):  # no later slide would fare better
                break
    return done, failed


def _write_tiles(job: SlideJob, out: Path, cut: Cut) -> tuple[TileSet, int]:
    """Writes the tiles of a slide, and counts those that can't be read in full.

    Raises:
        SlideError: it can't be opened, is much coarser than its tiles, or nothing of it is read.
        CytoLibraError: something that is no tile was put into its folder meanwhile.
        OSError: they can't be written. In each case its earlier tiles stay as they were.
    """
    from pipeline.batch.tilesets import TileSet, write_set
    from pipeline.reports.report import encodable
    from pipeline.slides.readers.base import show
    from pipeline.slides.slide import open_slide
    from pipeline.tiles.foreground import find_foreground
    from pipeline.tiles.plausible import find_implausible
    from pipeline.tiles.tiler import plan_tiles

    if job.problem:
        raise CytoLibraError(f"{job.name}: {job.problem}")
    with open_slide(job.path, cut.given) as slide:
        doubts = [*slide.doubts, *_check_scale(job, slide, cut.mpp)]
        foreground = find_foreground(slide, cut.mask)
        doubts += find_implausible(slide, foreground)
        plan = plan_tiles(slide.bounds, slide.mpp, cut.mpp, cut.tiler, foreground)
        if not len(plan):
            text = "no cells were seen on the overview, and no tile is written; --all writes all"
            doubts.append(Doubt(code="nothing-screened", text=text))
        for doubt in doubts:
            typer.echo(f"warning: {show(job.name)}: {doubt}", err=True)

        def write(folder: Path) -> TileSet:
            tiles = tuple(_save_tiles(job, slide, plan, folder))
            if len(plan) and not tiles:
                raise _left_out(job, len(plan))
            return TileSet(
                slide=encodable(job.path),
                size=cut.tiler.size,
                mpp=cut.mpp,
                downsample=round(plan.grid.downsample, 6),
                tiles=tiles,
            )

        tiles = write_set(out, job.name, write)
    return tiles, len(plan) - len(tiles.tiles)


def _check_scale(job: SlideJob, slide: Slide, tile_mpp: float) -> list[Doubt]:
    """What is to be told of a slide that is enlarged.

    Raises:
        SlideError: it would be enlarged so much that nobody could judge its cells.
    """
    from pipeline.errors import SlideError
    from pipeline.tiles.tiler import check_coarseness

    remedy = f"--tile-mpp {slide.mpp:g} writes it as it is"
    try:
        doubt = check_coarseness(
            slide.mpp, tile_mpp, False, wanted="its tiles are to be", remedy=remedy
        )
    except SlideError as error:
        raise SlideError(f"{job.name}: {error.text}", error.code) from None
    return [doubt] if doubt else []


def _save_tiles(job: SlideJob, slide: Slide, plan: TilePlan, folder: Path) -> Iterator[TileImage]:
    """Saves those tiles of a plan that can be read in full."""
    from PIL import Image

    from pipeline.batch.tilesets import TileImage
    from pipeline.slides.readers.base import show
    from pipeline.tiles.tilereader import read_tile

    stride = plan.grid.settings.stride * plan.grid.downsample
    places = 0 if stride >= 1 else 3  # else two tiles would have one name
    for index in track(plan.indices.tolist(), escape(show(job.name))):
        tile = read_tile(slide, plan.grid, index)
        if len(tile.unread):
            continue
        x, y = plan.grid.origin(index)
        left, top = (f"{round(value, places) + 0.0:.{places}f}" for value in (x, y))  # no -0
        name = f"{left}_{top}.png"
        Image.fromarray(tile.pixels).save(folder / name)
        yield TileImage(name=name, x=round(x, 3), y=round(y, 3))


def _left_out(job: SlideJob, unread: int) -> CytoLibraError:
    return CytoLibraError(f"{job.name}: {unread} tiles can't be read in full and are left out")
