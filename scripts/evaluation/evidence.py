"""All that the figures of an evaluation are made of: truth, detections, and what was drawn anew."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from configs import ConfigError, Doubt
from data.evaluation import (
    FieldCells,
    Matches,
    match_classes,
    match_fields,
    pool,
    pooled_classes,
)
from data.evaluation.bootstrap import draw_groups, interval
from data.fields.fieldset import Field, FieldSet, Grouping
from data.fields.grouping import group_doubts, grouping_of
from models import ModelCard
from pipeline.cells.classes import ABNORMAL, by_level, name_classes
from pipeline.cells.naming import name_cells
from pipeline.geometry import Detections
from pipeline.reports.report import union_area

Pooled = Mapping[str, Sequence[Matches]]


LEAST_ROUNDS = 0.1
"""Share of the rounds in which a figure has to be defined, to have an interval."""


@dataclass(frozen=True)
class Evidence:
    """What a model found on annotated fields, beside the truth.

    Attributes:
        fields: the fields, with the model's classes.
        card: of the model.
        truth, found: their cells, an entry a field, in its pixels.
        thresholds: (C,) score from which on a class is reported.
    """

    fields: FieldSet
    card: ModelCard
    truth: Sequence[FieldCells]
    found: Sequence[FieldCells]
    thresholds: NDArray[np.float64]

    @property
    def classes(self) -> Sequence[str]:
        """Names of the labels."""
        return self.card.detector.classes

    @property
    def abnormal(self) -> Sequence[bool]:
        """For each class whether it is abnormal."""
        return self.card.detector.is_abnormal

    @cached_property
    def by_class(self) -> list[list[Matches]]:
        """Matches of each class, an entry a field."""
        return match_classes(self.truth, self.found, len(self.classes))

    @cached_property
    def pooled(self) -> Pooled:
        """Matches on each level: abnormal, low and high grade, and any cell; classes merged."""
        return match_pooled(self.truth, self.found, self.merged)

    @cached_property
    def reported(self) -> list[FieldCells]:
        """What a screening would report."""
        return [reported(cells, self.thresholds, self.abnormal) for cells in self.found]

    @cached_property
    def reported_by_class(self) -> list[list[Matches]]:
        """`by_class` of what is reported."""
        return match_classes(self.truth, self.reported, len(self.classes))

    @cached_property
    def reported_pooled(self) -> Pooled:
        """`pooled` of what is reported."""
        return match_pooled(self.truth, self.reported, self.merged)

    @property
    def merged(self) -> dict[str, Sequence[int]]:
        """Labels of each level that is judged as one class; see `merge_levels`."""
        return merge_levels(self.classes, self.abnormal)

    @cached_property
    def mm2(self) -> NDArray[np.float64] | None:
        """(fields,) judged area of each; None where the scale of one is unknown."""
        return areas_of(self.fields.fields)


def reported(
    cells: FieldCells, thresholds: NDArray[np.floating], abnormal: Sequence[bool], iou: float = 0.5
) -> FieldCells:
    """What a screening reports of a detector's cells: from the thresholds on, one name a cell."""
    above = cells[cells.scores >= thresholds[cells.labels]]
    known = Detections(above.boxes.astype(np.float64), above.scores, above.labels.astype(np.int64))
    named = name_cells(known, thresholds, np.array(abnormal), iou)
    return FieldCells(named.boxes, named.labels, named.scores, np.zeros(len(named), bool))


def judged_mm2(field: Field) -> float | None:
    """A field's area in mm² without what is ignored in it; None where its scale is unknown."""
    if field.mpp is None:
        return None
    ignored = union_area(field.boxes[field.crowd].astype(np.float64))
    return (field.width * field.height - ignored) * (field.mpp / 1000) ** 2


def areas_of(fields: Sequence[Field]) -> NDArray[np.float64] | None:
    """(N,) the fields' `judged_mm2`; None where the scale of one is unknown."""
    areas = [judged_mm2(field) for field in fields]
    return None if None in areas else np.array(areas, np.float64)


@dataclass(frozen=True)
class Draws:
    """The fields drawn anew, many times; one for all figures, so that models compare pairwise.

    Attributes:
        times: (rounds, fields) how often each field came.
        by: what was drawn as a whole.
        groups: how many of these there are.
        level: of the intervals.
        doubts: that of some fields nobody says what they were to be drawn with.
    """

    times: NDArray[np.int64]
    by: Grouping
    groups: int
    level: float
    doubts: tuple[Doubt, ...] = ()

    def interval(self, values: NDArray[np.float64]) -> list[float | None]:
        """Low and high of a figure's (rounds,) values; None where nothing can be said."""
        told = np.count_nonzero(~np.isnan(values)) >= LEAST_ROUNDS * len(values)
        if self.groups < 2 or not told:  # one thing drawn anew is always itself
            return [None, None]
        return [finite(bound) for bound in interval(values, self.level)]


def draw(fields: FieldSet, by: str, level: float, rounds: int = 1000) -> Draws:
    """Draws fields, slides or patients anew.

    Raises:
        ConfigError: ``by`` or ``level`` is none, or nobody says the patient of any field.
    """
    grouping = grouping_of(by)
    if not 0 < level < 1:
        raise ConfigError(f"--level {level:g}: expected a share between 0 and 1, such as 0.95")
    doubts = group_doubts(fields, grouping)
    names = [field.group(grouping) for field in fields.fields]
    return Draws(draw_groups(names, rounds), grouping, len(set(names)), level, doubts)


def finite(value: float) -> float | None:
    """A figure as it is written: four digits; None where it is not defined."""
    return round(float(value), 4) + 0.0 if math.isfinite(value) else None


def merge_levels(names: Sequence[str], abnormal: Sequence[bool]) -> dict[str, Sequence[int]]:
    """Labels of each level that is judged as one class; see `pipeline.cells.classes`."""
    levels = by_level(name_classes(names, abnormal))
    every = {name: members.tolist() for name, members in pooled_classes(abnormal).items()}
    return {ABNORMAL: every.pop(ABNORMAL), **levels, **every}


def match_pooled(
    truth: Sequence[FieldCells],
    found: Sequence[FieldCells],
    merged: Mapping[str, Sequence[int] | NDArray[np.intp]],
) -> Pooled:
    """Matches of classes that are merged, by the name of what they come to, an entry a field."""
    return {
        name: match_fields(*pool(truth, found, np.array(members, np.intp)), 1, 0)
        for name, members in merged.items()
    }
