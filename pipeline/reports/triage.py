"""From a slide's cells to a suggested category of the Bethesda System: a rule, not a diagnosis.

A class is suggested where more of it was found than the model reports by chance in so much area;
where no single class stands out, its grade is, or that there are abnormal cells at all. Without
figures of the model's false alarms nothing is suggested. With a rule of `cytolibra calibrate` it is
also said whether the slide is suspicious and, where the rule has a bound for that, whether it may
be set aside. It never calls a slide negative.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from configs import StrictModel
from pipeline.cells.classes import (
    ABNORMAL,
    CellClass,
    by_level,
    find_category,
    group_by_grade,
    order_by_severity,
)
from pipeline.geometry import Detections
from pipeline.reports.expectation import Expectation, Finding
from pipeline.reports.rule_out import decide
from pipeline.reports.slide_rule import SlideRule, load_rule

RULE_VERSION = "2"
NO_CELLS = "no cells above threshold"
NO_ABNORMAL_CELLS = "no abnormal cells above threshold"
BY_CHANCE = "no more than the false alarms expected"
UNGRADED = "abnormal cells, of no certain grade"
NO_CATEGORY = "abnormal cells above threshold, no category"
BELOW_RULE = "below the slide rule's threshold"


NAMED_CARRIERS = 100
"""Cells that a suggestion names at most; cells.csv marks all of them."""

Level = Literal["class", "grade", "abnormal"]
"""How much of a finding is certain: its class, low or high grade, or that it is abnormal."""


class TriageSettings(StrictModel):
    """How a category is suggested."""

    min_cells: int = Field(
        default=1,
        ge=1,
        description="cells at or above threshold that a class needs to be suggested",
    )
    rule: Path | None = Field(default=None, description="a file of `cytolibra calibrate`")
    negatives: Path | None = Field(
        default=None, description="a file of `cytolibra calibrate --negatives`"
    )


class Suggestion(StrictModel):
    """A suggested category, with the rule that led to it."""

    category: str = Field(description="a class or a grade, or why none is suggested")
    rule: str = Field(description="the rule in words")
    version: str = Field(description="version of the rule")
    level: Level | None = Field(
        default=None, description="how fine the category is; null where none is suggested"
    )
    score: float | None = Field(
        default=None, description="how suspicious the slide is, by a calibrated rule; else null"
    )
    suspicious: bool | None = Field(
        default=None,
        description="whether the score reaches that rule's threshold; null without a rule, of a "
        "picture that the model does not know, and where nothing was screened",
    )
    set_aside: bool | None = Field(
        default=None,
        description="whether the score lies so low that few slides do of what that rule counts as "
        "positive, by its bound; null where that is undecided, or the rule has none",
    )
    set_aside_reason: str | None = Field(
        default=None, description="why, or why that is undecided; null where the rule has no bound"
    )
    cells: tuple[int, ...] = Field(
        default=(),
        description="ids of the cells that carry it, best first: those of the suggested class or "
        f"grade; {NAMED_CARRIERS} at most, cells.csv marks all",
    )
    why: str = Field(default="", description="why these cells carry it, in words")


class Suggested(Protocol):
    """Something that says which category is suggested, and how fine it is."""

    @property
    def category(self) -> str:
        """See `Suggestion`."""

    @property
    def level(self) -> Level | None:
        """Likewise."""


def carriers(
    suggestion: Suggested, cells: Detections, classes: Sequence[CellClass]
) -> NDArray[np.intp]:
    """Rows of the cells that carry a suggestion, in their order: of its class, grade or level.

    None where nothing is suggested.
    """
    return np.flatnonzero(np.isin(cells.labels, _members(suggestion, classes)))


def _members(suggestion: Suggested, classes: Sequence[CellClass]) -> list[int]:
    """Indices of the classes that a suggestion is of; none where nothing is suggested."""
    if suggestion.level is None:
        return []
    if suggestion.level == "class":
        return [i for i, c in enumerate(classes) if c.name == suggestion.category]
    name = ABNORMAL if suggestion.level == "abnormal" else suggestion.category
    return list(by_level(classes).get(name, ()))


def why_beside(plain: Suggested, classes: Sequence[CellClass], rule: SlideRule) -> str | None:
    """Why a rule can't speak for a slide: what is suggested may be less than what it learned from.

    None where it can: it is for any abnormal category, nothing is suggested, or all that the
    suggestion may be counts as positive.

    Args:
        plain: suggested without the rule.
        classes: the model's.
        rule: the calibrated one.
    """
    if rule.least <= 1:
        return None
    found = [find_category(classes[index].name) for index in _members(plain, classes)]
    if all(category and category.severity >= rule.least for category in found):
        return None
    return f"“{plain.category}” is suggested, and the rule is for {rule.positive} alone"


def suggest_by_cells(
    cells: Detections,
    classes: Sequence[CellClass],
    expectation: Expectation | str,
    settings: TriageSettings | None = None,
    *,
    unsure: str | None = None,
    unknown: bool = False,
) -> Suggestion:
    """What `suggest` says and, where there is a calibrated rule, whether that is suspicious.

    Args:
        cells: at or above threshold, in the report's order; labels index the classes.
        classes: the model's.
        expectation: found against expected, or why that says nothing here.
        settings: None for the defaults.
        unsure: why the slide must not be set aside; see `pipeline.reports.rule_out.why_unsure`.
        unknown: whether nothing was screened, or the model does not know such pictures: then a
            score says nothing.

    Raises:
        ConfigError: the rule's file can't be read, or does not fit the cells.
    """
    settings = settings or TriageSettings()
    suggestion = _by_rule(cells, classes, expectation, settings, unsure, unknown)
    ids = carriers(suggestion, cells, classes)[:NAMED_CARRIERS] + 1
    return suggestion.model_copy(update={"cells": tuple(ids.tolist())})


def _by_rule(
    cells: Detections,
    classes: Sequence[CellClass],
    expectation: Expectation | str,
    settings: TriageSettings,
    unsure: str | None,
    unknown: bool,
) -> Suggestion:
    """`suggest`, and the calibrated rule's word where there is one."""
    numbers = np.bincount(cells.labels, minlength=len(classes)).tolist()
    counts = {c.name: count for c, count in zip(classes, numbers, strict=True)}
    plain = suggest(counts, classes, expectation, settings)
    if settings.rule is None:
        return plain
    rule = load_rule(settings.rule)
    score = rule.score(cells, classes)
    suspicious = None if unknown else score >= rule.threshold
    beside = why_beside(plain, classes, rule)
    hidden = suspicious is False and beside is None
    told = suspicious is not None and not hidden
    aside = None
    if rule.rule_out:
        aside = decide(rule.rule_out, score, rule.threshold, unsure or beside, rule.positive)
    shown = f"slide score {score:.3f}, suspicious from {rule.threshold:.3f} on"
    return Suggestion(
        category=BELOW_RULE if hidden else plain.category,
        rule=f"{shown}; calibrated on {rule.slides} slides for a sensitivity of {rule.wanted:.0%} "
        f"for {rule.positive}; category: {plain.rule}",
        version=rule.version,
        level=plain.level if told else None,
        score=round(score, 4),
        suspicious=suspicious,
        set_aside=aside.set_aside if aside else None,
        set_aside_reason=aside.reason if aside else None,
        why=plain.why if told else "",
    )


def suggest(
    counts: Mapping[str, int],
    classes: Sequence[CellClass],
    expectation: Expectation | str,
    settings: TriageSettings | None = None,
) -> Suggestion:
    """Suggests the most severe class, else grade, of which there is more than chance would have.

    Args:
        counts: cells at or above threshold by class name; absent names count as 0.
        classes: the model's classes; `pipeline.cells.classes.order_by_severity` ranks them.
        expectation: found against expected, or why that says nothing here.
        settings: None for the defaults.
    """
    settings = settings or TriageSettings()
    if not any(counts.get(c.name, 0) for c in classes if c.abnormal):
        category = NO_ABNORMAL_CELLS if any(counts.values()) else NO_CELLS
        return _suggestion(category, "no cell of an abnormal class reaches its threshold")
    if isinstance(expectation, str):
        return _suggestion(NO_CATEGORY, expectation)
    groups = expectation.groups
    for name in _names(classes):
        finding = groups.get(name)
        if finding and finding.is_more and finding.found >= settings.min_cells:
            category = UNGRADED if name == ABNORMAL else name
            return Suggestion(
                category=category,
                rule=_explain(name, finding, counts, classes),
                version=RULE_VERSION,
                level=_level(name, classes),
                why=_why(name, category, finding, counts, classes),
            )
    whole = groups.get(ABNORMAL)
    return _suggestion(BY_CHANCE, _numbers("abnormal cells", whole) if whole else "")


def _suggestion(category: str, rule: str) -> Suggestion:
    """That none is suggested, and why."""
    return Suggestion(category=category, rule=rule, version=RULE_VERSION)


def _level(name: str, classes: Sequence[CellClass]) -> Level:
    if name in (c.name for c in classes):
        return "class"
    return "abnormal" if name == ABNORMAL else "grade"


def _names(classes: Sequence[CellClass]) -> list[str]:
    """What may be suggested, the most severe first and the finest of it."""
    grades = group_by_grade(classes)
    order = [classes[i].name for i in order_by_severity(classes) if classes[i].abnormal]
    last = {
        max((order.index(classes[i].name) for i in members), default=0): grade
        for grade, members in grades.items()
        if grade != ABNORMAL
    }
    names = []
    for rank, name in enumerate(order):
        names.append(name)
        if rank in last:  # a grade comes behind the last of its classes
            names.append(last[rank])
    return [*names, ABNORMAL]


def _explain(
    name: str, finding: Finding, counts: Mapping[str, int], classes: Sequence[CellClass]
) -> str:
    what = f"{name} cells" if name in (c.name for c in classes) else f"cells of {name}"
    text = _numbers(f"{name} cells" if name == ABNORMAL else what, finding)
    members = [classes[i].name for i in group_by_grade(classes).get(name, ())]
    if members:
        most = max(members, key=lambda member: counts.get(member, 0))
        text += f"; of its classes {most} most often, none of them beyond doubt"
    return text


def _why(
    name: str,
    category: str,
    finding: Finding,
    counts: Mapping[str, int],
    classes: Sequence[CellClass],
) -> str:
    """Which cells carry a suggestion, and how many of them chance may have put there."""
    members = by_level(classes).get(name, ())
    named = [classes[i].name for i in order_by_severity(classes) if i in members]
    if name in (c.name for c in classes):
        what = f"{name} cells"
    elif name == ABNORMAL:
        what = "abnormal cells"
    else:
        what = f"cells of {name}"
    if finding.found == 1:
        what = what.replace("cells", "cell", 1)
    of = ", ".join(f"{counts[one]} {one}" for one in named if counts.get(one))
    those = "this" if finding.found == 1 else "these"
    text = f"{those} {finding.found} {what}" + (f" ({of})" if of else "")
    text += f" {'carries' if finding.found == 1 else 'carry'} “{category}”"
    text += f": expected by chance {finding.low} to {finding.high}"
    if finding.high:
        text += f", so up to {finding.high} of them may be false alarms or of another grade"
    return text


def _numbers(what: str, finding: Finding) -> str:
    return f"{what}: found {finding.found}, expected by chance {finding.low} to {finding.high}"
