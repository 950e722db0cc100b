"""Whether a slide's cells look like those that the model was trained on.

A detector names what it finds in any picture, of tissue or of another stain too. What its cells
look like is measured (`looks.py`) and set against the fields that the model learned from: stain and
structure apart, since each may be strange by itself. What lies farther off than fields that the
figures had not seen is told, before all else, and no category is suggested.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from configs import Doubt, StrictModel
from data.evaluation.domain import Spread
from data.thinning import evenly
from models.card import DomainFacts, LooksFacts
from pipeline.cells.crops import read_crop
from pipeline.cells.looks import LOOKS, MPP, SIDE, measure_looks
from pipeline.geometry import Detections

if TYPE_CHECKING:
    from pipeline.slides.slide import Slide

Values = NDArray[np.float64]

MOST_CELLS = 100
"""Cells of a slide that are looked at: more hardly change their mean."""

FEWEST_CELLS = 5
"""Cells below which nothing is said: one odd cell is no odd slide."""

_NAMED = 3
"""Looks that a warning names, the farthest off first."""

_THREADS = 2


class DomainSettings(StrictModel):
    """Whether a slide's cells are compared with those that the model was trained on."""

    check: bool = Field(default=True, description="false: whatever they look like is taken")


class AspectFinding(StrictModel):
    """How far the cells lie in one aspect."""

    distance: float = Field(ge=0, description="in standard deviations of the model's own fields")
    limit: float = Field(ge=0, description="beyond which they are none of the model's domain")
    looks: dict[str, float] = Field(
        description="each look's deviation, in standard deviations of the model's own fields"
    )


class DomainFinding(StrictModel):
    """Whether the cells are of the model's domain."""

    within: bool | None = Field(description="null where there are too few cells to tell")
    reason: str = Field(description="what differs, or why nothing can be told")
    cells: int = Field(ge=0, description="number that was looked at")
    aspects: dict[str, AspectFinding] = Field(default_factory=dict)


def check_domain(
    slide: Slide, cells: Detections, facts: DomainFacts | None, settings: DomainSettings
) -> DomainFinding | None:
    """Looks at a slide's cells; None where that is not wanted, or the model's card has no facts.

    Args:
        slide: an open slide.
        cells: level-0 boxes.
        facts: of the model's card.
        settings: whether it is wanted.
    """
    if facts is None or not settings.check:
        return None
    return judge_looks(look_at_slide(slide, cells), facts)


def judge_looks(looks: Values, facts: DomainFacts) -> DomainFinding:
    """Sets (N, len(LOOKS)) looks of a slide's cells against a model's domain."""
    count = len(looks)
    if count < FEWEST_CELLS:
        reason = f"{count} cells are too few to tell whether they look like the model's own"
        return DomainFinding(within=None, reason=reason, cells=count)
    aspects = {name: _judge(looks, aspect) for name, aspect in facts.aspects.items()}
    far = {name: one for name, one in aspects.items() if one.distance > one.limit}
    reason = "; ".join(_explain(name, one) for name, one in far.items())
    return DomainFinding(
        within=not far,
        reason=reason or f"no farther than fields of {facts.data}",
        cells=count,
        aspects=aspects,
    )


def doubts_of_domain(finding: DomainFinding | None) -> list[Doubt]:
    """What is to be told of a finding: nothing where the cells are of the domain."""
    if finding is None or finding.within is not False:
        return []
    text = f"its cells do not look like those that the model was trained on: {finding.reason}"
    return [Doubt(code="out-of-domain", text=text)]


def look_at_slide(slide: Slide, cells: Detections) -> Values:
    """Looks of at most `MOST_CELLS` of a slide's cells, spread evenly over their order.

    Args:
        slide: an open slide.
        cells: level-0 boxes, in the order of the report.

    Returns:
        (N, len(LOOKS)); without those that can't be read.
    """
    cells = cells[evenly(len(cells), MOST_CELLS)]
    centers = cells.centers
    step = MPP / slide.mpp

    def look(row: int) -> Values | None:
        picture = read_crop(slide, centers[row], SIDE, step, cells.plane_of(row))
        return None if picture is None else np.asarray(measure_looks(picture[None])[0])

    with ThreadPoolExecutor(_THREADS) as pool:
        looks = [one for one in pool.map(look, range(len(cells))) if one is not None]
    return np.array(looks).reshape(-1, len(LOOKS))


def _judge(looks: Values, facts: LooksFacts) -> AspectFinding:
    columns = [list(LOOKS).index(name) for name in facts.looks]
    spread = Spread(np.array(facts.mean), np.array(facts.between), np.array(facts.within))
    cells = looks[:, columns]
    deviations = spread.deviations(cells).round(2).tolist()
    return AspectFinding(
        distance=round(spread.distance(cells), 3),
        limit=facts.limit,
        looks=dict(zip(facts.looks, deviations, strict=True)),
    )


def _explain(aspect: str, finding: AspectFinding) -> str:
    by_size = sorted(finding.looks.items(), key=lambda item: -abs(item[1]))[:_NAMED]
    named = ", ".join(f"{LOOKS[name]} {value:+.1f}" for name, value in by_size)
    return (
        f"their {aspect} lies {finding.distance:.1f} standard deviations off (expected: at most "
        f"{finding.limit:.1f}), most of all in {named}"
    )
