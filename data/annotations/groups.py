"""Whose slide an image is of, from a table beside the annotations."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from configs import ConfigError
from data.fields.fieldset import Field


def with_groups(fields: Sequence[Field], table: Path) -> tuple[Field, ...]:
    """Fields that know their slides and patients.

    Args:
        fields: as they were read.
        table: CSV with the column ``image``, a file's name, and ``slide`` or ``patient`` or both.

    Raises:
        ConfigError: the table can't be read, has other columns, or doesn't name a field's image.
    """
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"groups: {table}: can't be read: {error}") from error
    if not rows or "image" not in rows[0] or not {"slide", "patient"} & set(rows[0]):
        raise ConfigError(f"groups: {table}: needs the column image, and slide or patient or both")
    by_image = {row["image"]: row for row in rows}
    missing = [field.image.name for field in fields if field.image.name not in by_image]
    if missing:
        shown = ", ".join(missing[:5]) + (", …" if len(missing) > 5 else "")
        raise ConfigError(f"groups: {table}: does not name {shown}")
    return tuple(_grouped(field, by_image[field.image.name]) for field in fields)


def _grouped(field: Field, row: dict[str, str]) -> Field:
    return replace(
        field, slide=row.get("slide") or field.slide, patient=row.get("patient") or field.patient
    )
