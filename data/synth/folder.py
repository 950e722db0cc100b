"""Files of a slide: its pyramid, its truth, and a broken copy."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from data.synth.region import Region
from data.synth.truth import NamedSource, write_truth
from data.synth.writer import Pixels, write_pyramid

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
        slide: its name ends in ``.tif``; files of these names are replaced.
        classes: names of the labels.
        progress: called after each block that is drawn.

    Raises:
        OSError: a file can't be written.
    """
    path = out / slide.name
    source = slide.source

    def render(regions: Iterable[Region]) -> Iterator[Pixels]:
        for region in regions:
            pixels = source.draw(region)
            progress(region.width * region.height)
            yield pixels

    write_pyramid(path, source.size, source.mpp, render)
    write_truth(path.with_suffix(".truth.json"), [slide], classes)
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
