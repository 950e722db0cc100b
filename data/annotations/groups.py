"""Whose slide an image is of, from a table beside the annotations."""

from __future__ import annotations

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePath, PurePosixPath
from typing import TypeAlias

from configs import ConfigError
from data.annotations.names import plain_path
from data.fields.fieldset import Field
from data.tables import read_sheet

Row: TypeAlias = Mapping[str, str]
Rows: TypeAlias = Mapping[str, Sequence[tuple[tuple[str, ...], Row]]]


def with_groups(fields: Sequence[Field], table: Path) -> tuple[Field, ...]:
    """Fields that know their slides and patients.

    A row is of the image whose path ends as its own, as images of different slides often have the
    same name; of several rows that do, the longest is meant.

    Args:
        fields: as they were read.
        table: CSV with the column ``image``, a file's name or path, and ``slide`` or ``patient`` or
            both.

    Raises:
        ConfigError: the table can't be read, has other columns, doesn't name a field's image, says
            several things of it, or names by one row several images.
    """
    try:
        rows = [row for _, row in read_sheet(table).records()]
    except ConfigError as error:
        raise ConfigError(f"groups: {error}") from error
    if not rows or "image" not in rows[0] or not {"slide", "patient"} & set(rows[0]):
        raise ConfigError(f"groups: {table}: needs the column image, and slide or patient or both")
    by_name: dict[str, list[tuple[tuple[str, ...], Row]]] = defaultdict(list)
    for row in rows:
        if parts := _parts(PurePosixPath(plain_path(row["image"] or ""))):
            by_name[parts[-1]].append((parts, row))
    found = [_row_of(field, by_name, table) for field in fields]
    missing = [field.image.name for field, row in zip(fields, found, strict=True) if row is None]
    if missing:
        shown = ", ".join(missing[:5]) + (", …" if len(missing) > 5 else "")
        raise ConfigError(f"groups: {table}: does not name {shown}")
    _check_shared(fields, found, table)
    return tuple(_grouped(field, row or {}) for field, row in zip(fields, found, strict=True))


def _row_of(field: Field, by_name: Rows, table: Path) -> Row | None:
    """The row whose path is the longest end of the field's image.

    Raises:
        ConfigError: several are, and say different things.
    """
    own = _parts(field.image)
    ends = [one for one in by_name.get(own[-1], []) if own[-len(one[0]) :] == one[0]]
    longest = max((len(parts) for parts, _ in ends), default=0)
    best = [row for parts, row in ends if len(parts) == longest]
    if any(_said(row) != _said(best[0]) for row in best[1:]):
        raise ConfigError(f"groups: {table}: says several things of {best[0]['image']}")
    return best[0] if best else None


def _check_shared(fields: Sequence[Field], rows: Sequence[Row | None], table: Path) -> None:
    """Refuses a row that several images were found by: one name in several folders."""
    images = {(id(row), field.image) for field, row in zip(fields, rows, strict=True)}
    counts = Counter(key for key, _ in images)
    for row in rows:
        if row is not None and counts[id(row)] > 1:
            raise ConfigError(
                f"groups: {table}: {row['image']} is the name of {counts[id(row)]} images; write "
                "their folders too, such as slide-1/001.png"
            )


def _parts(path: PurePath) -> tuple[str, ...]:
    return tuple(unicodedata.normalize("NFC", part) for part in path.parts)


def _said(row: Row) -> tuple[str | None, str | None]:
    return row.get("slide"), row.get("patient")


def _grouped(field: Field, row: Row) -> Field:
    return replace(
        field, slide=row.get("slide") or field.slide, patient=row.get("patient") or field.patient
    )
