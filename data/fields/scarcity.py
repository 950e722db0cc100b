"""Classes of which there are too few cells to learn them, or to judge by."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Literal

from configs import Doubt
from data.evaluation.operating import FEW_CELLS
from data.fields.fieldset import FieldSet

Use = Literal["learn from", "judge by"]
"""What fields are for."""


def class_doubts(fields: FieldSet, use: Use) -> Iterator[Doubt]:
    """What should be known of the classes of annotated fields.

    Args:
        fields: as they were read, slides as a whole.
        use: what they are for.
    """
    counts = dict(zip(fields.classes, fields.class_counts(), strict=True))
    if use == "learn from":
        missing = [name for name, count in counts.items() if not count]
        if missing:
            text = f"there is no cell of {', '.join(missing)} to learn from: never to be found"
            yield Doubt(code="class-untrained", text=text)
        return
    few = [f"{name} ({count})" for name, count in counts.items() if count < FEW_CELLS]
    if few:
        text = f"fewer than {FEW_CELLS} cells to judge {', '.join(few)} by: their intervals, and "
        yield Doubt(code="class-unjudged", text=f"{text}figures, say little")


def with_class_doubts(fields: FieldSet, use: Use) -> FieldSet:
    """The fields, with `class_doubts` among their doubts."""
    return replace(fields, doubts=(*fields.doubts, *class_doubts(fields, use)))
