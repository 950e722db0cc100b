"""Whose slide an image is of, from a table beside the annotations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from unicodedata import normalize

from configs import ConfigError
from data.fields.fieldset import Field
from data.tables import read_sheet


def with_groups(fields: Sequence[Field], table: Path) -> tuple[Field, ...]:
    """Fields that know their slides and patients.

    Args:
        fields: as they were read.
        table: CSV with the column ``image``, a file's name, and ``slide`` or ``patient`` or both.

    Raises:
        ConfigError: the table can't be read, has other columns, or doesn't name a field's image.
    """
    try:
        rows = read_sheet(table).records()
    except ConfigError as error:
        raise ConfigError(f"groups: {error}") from error
    if not rows or "image" not in rows[0][1] or not {"slide", "patient"} & set(rows[0][1]):
        raise ConfigError(f"groups: {table}: needs the column image, and slide or patient or both")
    by_image: dict[str, Mapping[str, str]] = {}
    for line, row in rows:
        name = normalize("NFC", row["image"])
        if by_image.setdefault(name, row) != row:
            raise ConfigError(f"groups: {table}: line {line}: {name} belongs elsewhere above")
    missing = [field.image.name for field in fields if _name(field) not in by_image]
    if missing:
        shown = ", ".join(missing[:5]) + (", …" if len(missing) > 5 else "")
        raise ConfigError(f"groups: {table}: does not name {shown}")
    return tuple(_grouped(field, by_image[_name(field)]) for field in fields)


def _name(field: Field) -> str:
    """An image's name with letters composed, as two systems may write the same one."""
    return normalize("NFC", field.image.name)


def _grouped(field: Field, row: Mapping[str, str]) -> Field:
    return replace(
        field, slide=row.get("slide") or field.slide, patient=row.get("patient") or field.patient
    )
