"""``cytolibra data``: what annotated fields hold, and how they are split."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from configs import ConfigError
from scripts.annotation_options import Reading, reads_annotations
from scripts.given import refuse_given

if TYPE_CHECKING:
    from data.fields.fieldset import FieldSet
    from data.fields.statistics import ClassStatistics

data = typer.Typer(
    no_args_is_help=True,
    help="Looks at annotated fields before they are trained on, and splits them.",
)

Annotations = Annotated[
    Path, typer.Argument(metavar="ANNOTATIONS", help="A file, folder or glob, of any format.")
]
Images = Annotated[Path, typer.Option(metavar="DIR", help="Folder of the slides or images.")]


@data.command()
@reads_annotations(order=True)
def stats(
    annotations: Annotations,
    images: Images,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where pictures and page go.")],
    tile: Annotated[float, typer.Option(min=1, help="Side of a tile in µm.")] = 160.0,
    samples: Annotated[int, typer.Option(min=0, help="Random tiles on the sheet.")] = 24,
    seed: Annotated[int, typer.Option(min=0, help="Which tiles are drawn.")] = 0,
    *,
    reading: Reading,
) -> None:
    """Draws what annotated fields hold, with a sheet of random tiles: look before you train."""
    from data.fields.statistics import describe_classes
    from scripts.data_page import write_page
    from scripts.telling import tell_doubts

    fields = _read(annotations, images, reading)
    described = describe_classes(fields)
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_page(fields, described, out, tile, samples, seed)
        content = json.dumps(_facts(fields, described), indent=2, ensure_ascii=False)
        (out / "stats.json").write_text(content + "\n", encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"--out {out}: can't be written: {error.strerror}") from error
    Console().print(_table(fields, described))
    for note in fields.notes:
        Console().print(note, markup=False, soft_wrap=True)
    Console().print(f"Pictures: {out / 'stats.html'}", soft_wrap=True)
    tell_doubts(fields)


@data.command()
@reads_annotations(order=True)
def split(
    context: typer.Context,
    annotations: Annotations,
    images: Images,
    out: Annotated[Path, typer.Option(metavar="FILE.csv", help="The split that is written.")],
    parts: Annotated[
        str, typer.Option(metavar="NAME=SHARE,…", help="Parts and their shares.")
    ] = "train=0.8,val=0.2",
    by: Annotated[
        str, typer.Option(help="patient, slide or field: what stays together.")
    ] = "slide",
    folds: Annotated[
        int | None,
        typer.Option(min=2, help="Instead of parts: so many equal ones, fold1, fold2, …"),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Settles ties.")] = 0,
    overlaps: Annotated[
        bool,
        typer.Option(
            help="Compare all images, and keep those together that show the same place. Takes "
            "some 8 ms a pair: two minutes for 200 images, four times as long for 400."
        ),
    ] = True,
    *,
    reading: Reading,
) -> None:
    """Splits annotated fields, each class as evenly as what belongs together allows."""
    from data.fields.grouping import grouping_of, with_group_doubts
    from data.fields.splits import save_split, split_fields
    from scripts.telling import tell_doubts

    if folds:
        refuse_given(context, {"parts"}, "says which parts there are, and so does --folds")
    grouping = grouping_of(by)
    fields = with_group_doubts(_read(annotations, images, reading), grouping)
    shares = {f"fold{i}": 1 / folds for i in range(1, folds + 1)} if folds else _shares(parts)
    fields, together = _compare(fields) if overlaps else (fields, [])
    found = split_fields(fields, shares, grouping, seed, together)
    save_split(found, out)
    table = Table(title=f"by {by}")
    for heading in ("part", "images", *fields.classes):
        table.add_column(heading, justify="left" if heading == "part" else "right")
    for part, members in found.items():
        counts = type(fields)(fields.classes, tuple(members)).class_counts()
        table.add_row(part, str(len(members)), *map(str, counts))
    Console().print(table)
    Console().print(
        f"{out}; in a configuration: data.train.split={out}, data.train.part={next(iter(found))}",
        soft_wrap=True,
    )
    tell_doubts(fields)


def _read(annotations: Path, images: Path, reading: Reading) -> FieldSet:
    from scripts.slides import read_annotated

    if not images.exists():
        raise ConfigError(f"--images {images}: no such file or folder")
    return read_annotated(annotations, images, reading.names, reading.settings)


def _compare(fields: FieldSet) -> tuple[FieldSet, list[tuple[int, int]]]:
    """The fields, with doubts about those that show one place, and the pairs of these."""
    from rich.progress import track

    from data.fields.overlaps import find_overlaps, overlap_doubts
    from scripts.slides import open_field

    compared = find_overlaps(
        fields, open_field, lambda left: track(left, "Images compared", transient=True)
    )
    doubts = (*fields.doubts, *overlap_doubts(fields, compared))
    return replace(fields, doubts=doubts), [(pair.one, pair.other) for pair in compared.overlaps]


def _shares(text: str) -> dict[str, float]:
    try:
        pairs = [entry.split("=") for entry in text.split(",")]
        shares = [(name.strip(), float(share)) for name, share in pairs]
    except ValueError as error:
        raise ConfigError(f"--parts {text}: expected NAME=SHARE,…, as train=0.8,val=0.2") from error
    names = [name for name, _ in shares]
    if not all(names):
        raise ConfigError(f"--parts {text}: a part without a name; expected NAME=SHARE,…")
    twice = [name for name, times in Counter(names).items() if times > 1]
    if twice:
        raise ConfigError(f"--parts {text}: {', '.join(twice)} stands twice; each part once")
    return dict(shares)


def _facts(fields: FieldSet, described: list[ClassStatistics]) -> dict[str, object]:
    return {
        "images": len(fields.fields),
        "slides": len({field.slide for field in fields.fields if field.slide}),
        "patients": len({field.patient for field in fields.fields if field.patient}),
        "ignored_areas": sum(int(field.crowd.sum()) for field in fields.fields),
        "warnings": [doubt.model_dump() for doubt in fields.doubts],
        "classes": {
            one.name: {
                "cells": one.cells,
                "images": one.fields,
                "slides": one.slides,
                "patients": one.patients,
                "side_um_5_50_95": one.side_percentiles(),
                "clipped": one.clipped,
            }
            for one in described
        },
    }


def _table(fields: FieldSet, described: list[ClassStatistics]) -> Table:
    total = sum(one.cells for one in described)
    table = Table(title=f"{total} cells on {len(fields.fields)} images")
    table.add_column("class")
    for heading in ("cells", "share", "images", "side in µm (5%, median, 95%)", "clipped"):
        table.add_column(heading, justify="right")
    for one in described:
        sides = " ".join(f"{side:g}" for side in one.side_percentiles())
        share = f"{one.cells / max(1, total):.1%}"
        row = (str(one.cells), share, str(one.fields), sides or "–", str(one.clipped))
        table.add_row(one.name, *row)
    return table
