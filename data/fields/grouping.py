"""What is kept together, or drawn anew together: fields of a slide, slides of a patient."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

from configs import ConfigError, Doubt
from data.fields.fieldset import FieldSet, Grouping


def grouping_of(by: str) -> Grouping:
    """What ``--by`` asks for.

    Raises:
        ConfigError: there is no such grouping.
    """
    if by not in get_args(Grouping):
        raise ConfigError(f"--by {by}: expected {', '.join(get_args(Grouping))}")
    grouping: Grouping = by  # type: ignore[assignment]
    return grouping


def group_doubts(fields: FieldSet, by: Grouping) -> tuple[Doubt, ...]:
    """A doubt where of some fields nobody says the slide or patient that is asked for.

    An image that names no slide may well be one: only where others name theirs it is odd.

    Raises:
        ConfigError: nobody says the patient of any.
    """
    if by == "field":
        return ()
    known = sum(bool(getattr(field, by)) for field in fields.fields)
    if by == "patient" and fields.fields and not known:
        raise ConfigError("--by patient: nobody says whose the images are; give --groups")
    count = len(fields.fields)
    if known in (0, count):
        return ()
    lesser = "slide, or image," if by == "patient" else "image"
    text = (
        f"of {count - known} of {count} fields nobody says the {by}: the {lesser} of each counts "
        f"as a {by} of its own; --groups can tell"
    )
    return (Doubt(code="group-unknown", text=text),)


def with_group_doubts(fields: FieldSet, by: Grouping) -> FieldSet:
    """The fields, with their `group_doubts`.

    Raises:
        ConfigError: nobody says the patient of any.
    """
    return replace(fields, doubts=(*fields.doubts, *group_doubts(fields, by)))
