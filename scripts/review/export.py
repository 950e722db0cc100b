"""``cytolibra reviews export``: decisions for training, QuPath and calibration."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from configs import ConfigError, CytoLibraError

if TYPE_CHECKING:
    from pipeline.review.exchange.collect import Left, Reviews
    from pipeline.review.exchange.truth import SlideTruth

Target = Literal["coco", "qupath", "labels.csv"]

_DEFAULTS: dict[Target, str] = {
    "coco": "reviewed.json",
    "qupath": "reviewed",
    "labels.csv": "labels.csv",
}


def export(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of reports and reviews.")],
    to: Annotated[
        Target,
        typer.Option(
            help="coco: one file for training; qupath: a GeoJSON a slide; labels.csv: the slides' "
            "categories, for calibrate."
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            help="File, or folder for qupath. Without it reviewed.json, reviewed or labels.csv.",
            show_default=False,
        ),
    ] = None,
    reader: Annotated[
        str, typer.Option(metavar="NAME", help="Whose decisions; consensus: what all agree on.")
    ] = "consensus",
    unsigned: Annotated[
        bool, typer.Option("--unsigned", help="Take readings that are not signed off, too.")
    ] = False,
    slides: Annotated[
        Path | None,
        typer.Option(help="Where slides are that have moved.", show_default=False),
    ] = None,
) -> None:
    """Writes what readers decided as annotations, or the slides' categories as labels.

    Regions that were read in full are written as regions: outside of them nothing is taken as
    background but what was rejected. What a reader was unsure of is ignored, and so are findings
    that nobody decided beside others. Prints what was written, and what was left out and why.
    """
    from pipeline.review.catalogue import Catalogue
    from pipeline.review.exchange.collect import Reviews, find_reader
    from scripts.review.opening import open_reviews

    place = out or Path(_DEFAULTS[to])
    with open_reviews(folder) as store, Catalogue(folder, slides) as catalogue:
        reviews = Reviews(store, catalogue, find_reader(store, reader), unsigned)
        try:
            if to == "labels.csv":
                lines = [_export_labels(reviews, place)]
            else:
                lines = list(_export_cells(to, reviews, place))
        except OSError as error:
            raise CytoLibraError(f"{place}: can't be written: {error.strerror}") from error
    for line in (*lines, *reviews.left.lines()):
        typer.echo(line)


def _export_cells(to: Target, reviews: Reviews, place: Path) -> Iterator[str]:
    from pipeline.review.exchange.collect import sum_told
    from pipeline.review.exchange.writing import common_folder, write_coco, write_qupath

    found = list(reviews.truths())
    if not found:
        raise _nothing(reviews.left)
    if to == "coco":
        images = write_coco(found, place)
    else:
        write_qupath(found, place)
        images = common_folder(found)
    yield f"{place}: {_counted(found)}"
    yield f"{images}: the folder of its images"
    yield from (f"{count} {what}" for what, count in sum_told(found).items())
    gone = [truth.frame.path for truth in found if not truth.frame.path.exists()]
    if len(gone) == 1:
        yield f"{gone[0]}: is not there; say by --slides where it is, or training can't read it"
    elif gone:
        yield (
            f"{gone[0]}: is not there, nor are {len(gone) - 1} others; say by --slides where they "
            "are, else training can't read them"
        )


def _counted(found: list[SlideTruth]) -> str:
    cells = sum(len(truth.labels) for truth in found)
    full = sum(truth.read_in_full for truth in found)
    rejected = sum(truth.rejected for truth in found)
    return (
        f"{cells} cells, {rejected} rejected findings as background and {full} regions read in "
        f"full, of {len(found)} slides"
    )


def _export_labels(reviews: Reviews, place: Path) -> str:
    from pipeline.review.exchange.writing import write_labels

    decided = []
    for result, reading in reviews.readings():
        if reading.decision.category:
            decided.append((result.name, reading.decision))
        else:
            reviews.left.out("has no category", result.name)
    if not decided:
        raise _nothing(reviews.left)
    return f"{place}: {write_labels(decided, place)} slides with their categories"


def _nothing(left: Left) -> ConfigError:
    told = "; ".join(left.lines()) or "nobody has decided anything"
    return ConfigError(f"there is nothing to export; {told}")
