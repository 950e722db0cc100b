"""Whose slide an image is of, from a table beside the annotations."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

from configs import ConfigError
from data.annotations.names import plain_path
from data.fields.fieldset import Field
from data.paths import Parts, longest_end, path_parts
from data.tables import read_records

Row: TypeAlias = Mapping[str, str]
Rows: TypeAlias = Mapping[Parts, Sequence[Row]]


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
        rows = [row for _, row in read_records(table)[1]]
    except ConfigError as error:
        raise ConfigError(f"groups: {error}") from error
    if not rows or "image" not in rows[0] or not {"slide", "patient"} & set(rows[0]):
        raise ConfigError(f"groups: {table}: needs the column image, and slide or patient or both")
    by_path: dict[Parts, list[Row]] = defaultdict(list)
    for row in rows:
        if parts := path_parts(plain_path(row["image"] or "")):
            by_path[parts].append(row)
    found = [_row_of(field, by_path, table) for field in fields]
    missing = [field.image.name for field, row in zip(fields, found, strict=True) if row is None]
    if missing:
        shown = ", ".join(missing[:5]) + (", …" if len(missing) > 5 else "")
        raise ConfigError(f"groups: {table}: does not name {shown}")
    _check_shared(fields, found, table)
    return tuple(_grouped(field, row or {}) for field, row in zip(fields, found, strict=True))


def _row_of(field: Field, by_path: Rows, table: Path) -> Row | None:
    """The row whose path is the longest end of the field's image.

    Raises:
        ConfigError: several are, and say different things.
    """
    end = longest_end(path_parts(field.image), by_path)
    if end is None:
        return None
    best = by_path[end]
    if any(_said(row) != _said(best[0]) for row in best[1:]):
        raise ConfigError(f"groups: {table}: says several things of {best[0]['image']}")
    return best[0]


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


def _said(row: Row) -> tuple[str | None, str | None]:
    return row.get("slide"), row.get("patient")


def _grouped(field: Field, row: Row) -> Field:
    return replace(
        field, slide=row.get("slide") or field.slide, patient=row.get("patient") or field.patient
    )
