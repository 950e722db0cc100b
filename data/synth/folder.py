"""Files of a slide: its pyramid, its truth, and a broken copy."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from data.synth.region import Region
from data.synth.truth import NamedSource, Source, write_truth
from data.synth.writer import Pixels, Render, write_pyramid, write_stack

Progress = Callable[[int], None]
"""Told how many pixels more of the slide are drawn."""

BROKEN_NAME = "broken.tif"

_CHUNK = 1 << 20


def write_slide(
    out: Path, slide: NamedSource, classes: tuple[str, ...], progress: Progress
) -> Path:
    """Writes a slide and its truth beside it; returns the slide's path.

    Args:
        out: an existing folder.
        slide: its name ends in ``.tif``, of one with several focal planes in ``.ome.tif``; files
            of these names are replaced.
        classes: names of the labels.
        progress: called after each block that is drawn.

    Raises:
        OSError: a file can't be written.
    """
    path = out / slide.name
    source = slide.source
    planes = source.in_planes()

    def renders(plane: Source) -> Render:
        def render(regions: Iterable[Region]) -> Iterator[Pixels]:
            for region in regions:
                pixels = plane.draw(region)
                progress(region.width * region.height)
                yield pixels

        return render

    if len(planes) > 1:
        write_stack(path, source.size, source.mpp, list(map(renders, planes)), source.plane_places)
    else:
        write_pyramid(path, source.size, source.mpp, renders(source))
    name = path.name.removesuffix(".tif").removesuffix(".ome")
    write_truth(path.with_name(f"{name}.truth.json"), [slide], classes)
    return path


def write_broken(whole: Path) -> Path:
    """Writes a copy of a slide that ends too early, as after an interrupted transfer."""
    path = whole.with_name(BROKEN_NAME)
    left = whole.stat().st_size * 3 // 5
    with whole.open("rb") as source, path.open("wb") as target:
        while left > 0:
            chunk = source.read(min(_CHUNK, left))
            target.write(chunk)
            left -= len(chunk)
    return path
