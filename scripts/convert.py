"""``cytolibra convert``: annotations of cells, from whatever tool, as COCO."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from configs import ConfigError
from scripts.annotation_options import Reading, reads_annotations

if TYPE_CHECKING:
    from data.fields.fieldset import FieldSet


class Target(StrEnum):
    """Formats that are written."""

    coco = "coco"


@reads_annotations()
def convert(
    inputs: Annotated[
        list[Path], typer.Argument(metavar="IN", help="Annotation files, folders and globs.")
    ],
    out: Annotated[Path, typer.Option(metavar="FILE", help="The file to write.")],
    to: Annotated[Target, typer.Option(help="The format to write.")] = Target.coco,
    images: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="DIR_OR_SLIDE",
            help="Where the annotated slides or images are; may be repeated. Without it, sizes "
            "are taken from the annotations, where they state them.",
        ),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Write nothing if there are warnings; exit code 2.")
    ] = False,
    *,
    reading: Reading,
) -> None:
    """Converts annotations of many formats to COCO."""
    from scripts.slides import read_annotated
    from scripts.telling import refuse_doubts, tell_doubts

    if any(path.exists() and out.exists() and path.samefile(out) for path in inputs):
        raise ConfigError(f"--out {out}: is what is to be converted; name another file")
    roots = _existing(images or [])
    fields = read_annotated(inputs, roots, None, reading.settings)
    if strict:
        refuse_doubts(fields)
    _write(fields, roots, out)
    _tell(fields, out)
    tell_doubts(fields)


def _existing(images: Sequence[Path]) -> list[Path]:
    for path in images:
        if not path.exists():
            raise ConfigError(f"--images {path}: no such file or folder")
    return list(images)


def _write(fields: FieldSet, roots: Sequence[Path], out: Path) -> None:
    from data.annotations.coco import to_coco
    from data.annotations.images import ImageFolder

    content = to_coco(fields, ImageFolder(roots).name_of)
    names = Counter(image["file_name"] for image in content["images"])
    name, count = names.most_common(1)[0]
    if count > 1:
        raise ConfigError(f"{name}: {count} images of this name; give --images the folder above")
    unfinished = out.with_name(out.name + ".part")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        try:
            unfinished.write_text(json.dumps(content, ensure_ascii=False) + "\n", encoding="utf-8")
            os.replace(unfinished, out)
        finally:
            unfinished.unlink(missing_ok=True)
    except OSError as error:
        raise ConfigError(f"--out {out}: can't be written: {error.strerror}") from error


def _tell(fields: FieldSet, out: Path) -> None:
    counts = fields.class_counts()
    ignored = sum(int(field.crowd.sum()) for field in fields.fields)
    width = max(map(len, fields.classes), default=0)
    for name, count in zip(fields.classes, counts, strict=True):
        typer.echo(f"{name:{width}}  {count}")
    for note in fields.notes:
        typer.echo(note)
    if any(field.mpp is None for field in fields.fields):
        typer.echo("some images have no µm per pixel, which training needs: give --mpp")
    areas = f", {ignored} ignored areas" if ignored else ""
    typer.echo(f"{out}: {sum(counts)} cells on {len(fields.fields)} images{areas}")
