"""What a model's figures come to on a slide of which a part was looked at again.

A second look goes to the most suspicious places first; what is left over is reported by the
detector alone, by thresholds of its own. Figures are measured where all is looked at again, and
where nothing is: such a slide lies between the two.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from models.card import Accuracy, CountFacts, FalseAlarms, Figure, LevelFigures
from pipeline.cells.classes import CellClass, by_level


def widest_alarms(after: FalseAlarms | None, alone: FalseAlarms | None) -> FalseAlarms | None:
    """What a slide that was looked at again in part has by chance, at most.

    Its most suspicious cells are reported by the second look, the others by the detector alone.
    Each look is at cells that the detector would have called abnormal sooner than those that are
    left: so what chance has of abnormal cells is no more than either would have of the whole slide.
    Of single classes that is a rule, no law. None where one of them is not known.

    Args:
        after: where all is looked at again.
        alone: of the detector alone.
    """
    if after is None or alone is None:
        return None
    groups = {
        name: max(facts, alone.groups[name], key=lambda one: one.per_mm2).model_copy(
            update={
                "confused": max(facts.confused, alone.groups[name].confused),
                "confused_spread": max(facts.confused_spread, alone.groups[name].confused_spread),
            }
        )
        for name, facts in after.groups.items()
        if name in alone.groups
    }
    data = after.data if after.data == alone.data else f"{after.data}; {alone.data}"
    told = f"{data}; with and without a second look, whichever has more"
    return after.model_copy(update={"groups": groups, "data": told})


def least_accuracy(
    after: Accuracy | None,
    alone: Accuracy | None,
    classes: Sequence[CellClass],
    abnormal_left: int,
) -> Accuracy | None:
    """How well the cells of a slide are found that was looked at again in part.

    Where all that is reported as abnormal was looked at, abnormal classes and levels have the
    figures after the look. All others have the lower of both, with an interval that holds both; how
    many cells there are for each reported is taken from both, too. What one of them lacks is left
    out.

    Args:
        after: where all is looked at again.
        alone: of the detector alone; None where it is not known.
        classes: the model's.
        abnormal_left: cells that are reported as abnormal by the detector alone.

    Returns:
        None where nothing is known.
    """
    if after is None:
        return None
    looked_at = set() if abnormal_left else _abnormal_names(classes)
    before = alone.groups if alone else {}
    groups = {
        name: facts if name in looked_at else _lower(facts, before[name])
        for name, facts in after.groups.items()
        if name in looked_at or name in before
    }
    if alone is None:
        return after.model_copy(update={"groups": groups, "counting": None}) if groups else None
    counting = _between(after.counting, alone.counting)
    data = after.data if after.data == alone.data else f"{after.data}; {alone.data}"
    told = f"{data}; of what was not looked at again, with and without a look, whichever is less"
    return after.model_copy(
        update={
            "groups": groups,
            "counting": counting,
            "level": min(after.level, alone.level),
            "data": told,
        }
    )


def _abnormal_names(classes: Sequence[CellClass]) -> set[str]:
    """Of abnormal classes and of the levels that merge them."""
    return {*by_level(classes), *(c.name for c in classes if c.abnormal)}


def _lower(one: LevelFigures, other: LevelFigures) -> LevelFigures:
    figures = {
        name: _lower_figure(getattr(one, name), getattr(other, name))
        for name in ("ap50", "recall", "precision")
    }
    return LevelFigures(cells=min(one.cells, other.cells), **figures)


def _lower_figure(one: Figure, other: Figure) -> Figure:
    if one.value is None or other.value is None:
        return Figure()
    value = min(one.value, other.value)
    bounds = (one.low, other.low, one.high, other.high)
    known = [bound for bound in bounds if bound is not None]
    if len(known) < len(bounds):
        return Figure(value=value)
    return Figure(value=value, low=min(known), high=max(known))


def _between(one: CountFacts | None, other: CountFacts | None) -> CountFacts | None:
    """The ratio in the middle on a logarithmic scale; half of the distance adds to its spread."""
    if one is None or other is None:
        return None
    apart = math.log(one.ratio / other.ratio) / 2
    return CountFacts(
        ratio=round(math.sqrt(one.ratio * other.ratio), 5),
        spread=round(max(one.spread, other.spread) + apart**2, 5),
        error=max(one.error, other.error),
        noise=max(one.noise, other.noise),
        units=min(one.units, other.units),
        cells=min(one.cells, other.cells),
        reported=min(one.reported, other.reported),
    )
