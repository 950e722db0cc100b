"""A folder of slides with their truth."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from data.synth.region import Region
from data.synth.truth import NamedSource, Source, write_truth
from data.synth.writer import Pixels, write_pyramid

Progress = Callable[[str, int], None]
"""Told the slide's name and how many pixels more of it are drawn."""

BROKEN_NAME = "broken.tif"

_CHUNK = 1 << 20


def write_slides(
    out: Path, slides: Sequence[NamedSource], classes: tuple[str, ...], progress: Progress
) -> int:
    """Writes slides, a truth file beside each, and ``truth.json`` for all; returns the cells.

    Args:
        out: an existing folder.
        slides: their names end in ``.tif``.
        classes: names of the labels.
        progress: called after each block that is drawn.

    Raises:
        OSError: a file can't be written; finished slides stay.
    """
    for slide in slides:
        path = out / slide.name
        render = _Render(slide, progress)
        write_pyramid(path, slide.source.size, slide.source.mpp, render)
        write_truth(path.with_suffix(".truth.json"), [slide], classes)
    return write_truth(out / "truth.json", slides, classes)


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


class _Render:
    """Draws the blocks of one slide and tells how far it has come."""

    def __init__(self, slide: NamedSource, progress: Progress) -> None:
        self._name = slide.name
        self._source: Source = slide.source
        self._progress = progress

    def __call__(self, regions: Iterable[Region]) -> Iterator[Pixels]:
        for region in regions:
            yield self._source.draw(region)
            self._progress(self._name, region.width * region.height)
